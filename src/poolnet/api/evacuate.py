"""How is a host emptied of its VMs? By as many migrations, some at a time, each of them a call of its own.

A VM that cannot go keeps all of them from being tried; one that fails on its way ends the call after its batch, and those
that have moved stay where they are, as in the reference.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final, cast

from poolnet.api.dispatch import Call, Own, Result, session_of
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.task import Task
from poolnet.model.classes.vm import VM
from poolnet.model.types import Ref, is_null
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.rules.vm_migrate import NETWORK, evacuation, pool_migrate, require_address

BATCH: Final = 10  # VMs that move at the same time, unless the call says how many


def evacuate_message(database: Database, coordinator: Coordinator) -> Own:
    """The message `host.evacuate`."""

    async def evacuate(call: Call) -> Result:
        """Moves all VMs of a host elsewhere.

        Raises:
            HANDLE_INVALID, INVALID_VALUE (the batch size), (as VM.pool_migrate by the network): in this order.
            (as VM.pool_migrate, or NO_HOSTS_AVAILABLE): The first VM that cannot go; then none was moved.
        """
        host, network = call.arguments["host"], call.arguments["network"]
        size = call.arguments["evacuate_batch_size"]
        database.view.get(Host, host)
        if size < 0:
            raise errors.invalid_value("evacuate_batch_size", str(size))
        if not is_null(network):
            database.view.get(Network, network)
        answer = coordinator.ask(_rule(call, "host.evacuate", _plan, host=host, network=network))
        going = list(cast("dict[Ref[VM], Ref[Host]]", answer).items())
        for start in range(0, len(going), size or BATCH):
            batch = going[start : start + (size or BATCH)]
            moved = await asyncio.gather(
                *(coordinator.run(_move(call, vm, to, network)) for vm, to in batch), return_exceptions=True
            )
            for outcome in moved:
                if isinstance(outcome, BaseException):
                    raise outcome
            await coordinator.write(partial(_progress, call.task, (start + len(batch)) / len(going)))
        return None

    return evacuate


def _plan(ctx: Any, *, host: Ref[Host], network: Ref[Network]) -> dict[Ref[VM], Ref[Host]]:
    plan: dict[Ref[VM], Ref[Host]] = {}
    for vm, where in evacuation(ctx, host).items():
        if isinstance(where, errors.Failure):
            raise where
        if not is_null(network):
            require_address(ctx.txn, where, network)
        plan[vm] = where
    return plan


def _move(call: Call, vm: Ref[VM], host: Ref[Host], network: Ref[Network]) -> RuleCall:
    options = {} if is_null(network) else {NETWORK: network}
    return _rule(call, "VM.pool_migrate", pool_migrate, vm=vm, host=host, options=options)


def _rule(call: Call, method: str, rule: Any, **arguments: Any) -> RuleCall:
    return RuleCall(
        method=method, rule=rule, arguments=arguments, session=session_of(call.live), task=call.task
    )


def _progress(task: Ref[Task], value: float, txn: Txn) -> None:
    if txn.exists(Task, task):
        txn.update(Task, task, progress=value)
