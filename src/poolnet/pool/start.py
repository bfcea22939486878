"""How does a pool come up? First boot, resync with what the host runs, and the loop that records what it reports.

The API server's composition root calls it, in this order: `greet`, `open_pool`, then `follow_facts` for as long as it
runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog

from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import drift_policy
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.state import DriftPolicy
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.failure import Failure
from poolnet.model.types import Ref, Value
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.decided import late_confirmation
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.hosts import PoolHosts
from poolnet.pool.migration import waiting
from poolnet.rules.context import CallContext, Counters, Session
from poolnet.rules.drift import adopt
from poolnet.rules.facts import ended_guests, record_facts
from poolnet.rules.lock_evidence import record_locks
from poolnet.rules.startup import first_boot, resync, take_office
from poolnet.rules.vm_power import guest_ended

log = structlog.get_logger("poolnet.pool")

RETRY_S = 0.2
CONVERGE_RETRY_S = 1.0
CONVERGE_RETRY_MAX_S = 60.0
HOST_UUID_FILE = "host-uuid"


async def greet(link: HostLink) -> tuple[protocol.Greeting, protocol.Observation]:
    """Waits until the host daemon answers, and asks who it is and what it sees."""
    waited = False
    while True:
        try:
            greeting = await link.request(protocol.Hello(), protocol.Greeting)
            observation = await link.request(protocol.Observe(), protocol.Observation)
        except HostGone as error:
            if not waited:
                log.info("waiting-for-host-daemon", reason=str(error))
                waited = True
            await asyncio.sleep(RETRY_S)
        else:
            return greeting, observation


async def finish_decided(database: Database, state_dir: Path, link: HostLink) -> None:
    """Lets this host keep what was decided before the server died, if it still waits to hear so, or went back by itself.

    To be called before anybody looks at what the host runs; see `Rollouts.finish`.
    """
    row = database.view.first(Host, uuid=host_uuid(state_dir))
    confirm = late_confirmation(database.view, row.ref) if row is not None else None
    if confirm is not None:
        with suppress(HostGone, HostRefused):
            await link.request(confirm, protocol.Done)


async def open_pool(
    *,
    database: Database,
    greeting: protocol.Greeting,
    facts: HostFacts,
    state_dir: Path,
    clock: Callable[[], datetime],
    counters: Counters,
) -> CallContext:
    """Fills an empty database, or brings a known one in step with what the host runs.

    The context returned says which host this is, and what its guests need before the host can converge.

    Raises:
        StartRefused: The database knows no host of this machine's identity.
    """
    uuid = host_uuid(state_dir)
    txn = database.begin()
    known = next((row.ref for row in txn.all(Host) if row.uuid == uuid), None)
    if known is None and txn.count(Host):
        raise StartRefused(f"the database has no host with the uuid {uuid}")
    local: Ref[Host] = known or Ref(f"OpaqueRef:{uuid4()}")
    context = CallContext(
        txn=txn,
        now=clock(),
        new_uuid=_new_uuid,
        local_host=local,
        facts={local: facts},
        counters=counters,
    )
    if known is None:
        first_boot(context, uuid, greeting, facts)
    else:
        take_office(context)
        resync(context, facts)
    await database.commit(txn.changes())
    return context


class StartRefused(Exception):
    """The server cannot start on this database; the text says why."""


def host_uuid(state_dir: Path) -> str:
    """This machine's identity in the pool, made at the first start."""
    path = state_dir / HOST_UUID_FILE
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    uuid = str(uuid4())
    temporary = path.with_suffix(".new")
    with temporary.open("w") as file:
        file.write(uuid + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)  # a crash leaves a whole identity or none
    return uuid


def _new_uuid() -> str:
    return str(uuid4())


async def converge(
    coordinator: Coordinator,
    host: Ref[Host],
    guests_before: Sequence[protocol.GuestAction] = (),
    tried: asyncio.Event | None = None,
) -> None:
    """Makes the host what the database says, and tries again, less and less often, until it is.

    A guest to be removed that the database has come to know meanwhile is left alone. `tried` is set when the first
    attempt is over.
    """
    wait_s = CONVERGE_RETRY_S
    while True:
        alive = {row.uuid for row in coordinator.view.all(VM) if row.power_state is not VmPowerState.HALTED}
        guests = [
            g for g in guests_before if not isinstance(g, protocol.DestroyGuest) or g.vm_uuid not in alive
        ]
        try:
            await coordinator.converge(host, guests)
        except (HostGone, HostRefused) as error:
            log.warning("host-not-converged", reason=str(error), again_in_s=wait_s)
            if tried is not None:
                tried.set()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, CONVERGE_RETRY_MAX_S)
        else:
            if tried is not None:
                tried.set()
            return


async def follow_facts(
    *,
    link: HostLink,
    hosts: PoolHosts,
    host: Ref[Host],
    coordinator: Coordinator,
    clock: Callable[[], datetime],
) -> None:
    """Records what the host reports, as it reports it, forever; a host daemon that comes back is made converge."""
    lost = False
    async with asyncio.TaskGroup() as group:
        converging: asyncio.Task[None] | None = None

        def on_loss() -> None:
            nonlocal lost
            lost = True

        async for facts in link.watch(on_loss):
            if lost and (converging is None or converging.done()):
                lost = False
                converging = group.create_task(converge(coordinator, host))
            hosts.remember(host, facts)
            await _record(coordinator, host, facts, clock)


async def follow_locks(
    *, link: HostLink, host: Ref[Host], coordinator: Coordinator, clock: Callable[[], datetime]
) -> None:
    """Records what the host's locks have seen, as it reports it, forever."""
    async for seen in link.watch_locks():
        try:
            await coordinator.write(partial(_record_locks, host, seen, clock()))
            if any(not drift.repaired for drift in seen.drifts):
                await _adopt(link, host, coordinator)
        except (HostGone, HostRefused) as error:
            log.warning("drift-not-adopted", host=host, reason=str(error))
        except Failure as failure:
            log.warning("locks-not-recorded", reason=str(failure))


async def _adopt(link: HostLink, host: Ref[Host], coordinator: Coordinator) -> None:
    """Takes over what somebody changed on a host by hand, if the pool wants that; what cannot be is put back.

    Raises Failure, HostGone, HostRefused.
    """
    pool = next(iter(coordinator.view.all(Pool)), None)
    if drift_policy(pool) is not DriftPolicy.ADOPT:
        return
    seen = await link.request(protocol.ReadDrift(), protocol.Drift)
    rule = partial(adopt, actual=seen.actual)
    arguments: dict[str, Value] = {"host": host}
    await coordinator.run(
        RuleCall(method="host.adopt_network_drift", rule=rule, arguments=arguments, session=Session())
    )
    await coordinator.converge(host)


def _record_locks(host: Ref[Host], seen: protocol.LocksSeen, now: datetime, txn: Txn) -> None:
    record_locks(txn, host, seen, now, _new_uuid)


async def _record(
    coordinator: Coordinator, host: Ref[Host], facts: HostFacts, clock: Callable[[], datetime]
) -> None:
    """Writes facts to the database, halts the VMs whose guests ended by themselves, and settles guests that wait."""
    try:
        await coordinator.write(lambda txn: record_facts(txn, host, facts, clock(), _new_uuid))
        for vm, domid in ended_guests(coordinator.view, host, facts):
            arguments: dict[str, Value] = {"vm": vm, "domid": domid}
            await coordinator.run(
                RuleCall(method="VM.guest_ended", rule=guest_ended, arguments=arguments, session=Session())
            )
        if any(waiting(facts)):
            await coordinator.settle_guests(host)
    except (HostGone, HostRefused) as error:
        log.warning("guests-not-settled", reason=str(error))
    except Failure as failure:
        log.warning("facts-not-recorded", reason=str(failure))
