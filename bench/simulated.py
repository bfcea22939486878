"""How do benchmarks get a pool of simulated hosts, whose switch is kept in memory, with networks and running VMs?"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from tests.unit.rules.world import NETWORK_RECORD, VIF_RECORD, VM_RECORD

from poolnet.api.as_coordinator import Started
from poolnet.api.collector import settle
from poolnet.db.database import Database
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.lab.simulated.host import SimulatedHost, nic_of
from poolnet.lab.simulated.pool import simulated_pool
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType
from poolnet.model.types import Ref
from poolnet.pool.coordinator import RuleCall
from poolnet.rules.catalog import RULES
from poolnet.rules.context import CallContext, Session


@contextmanager
def settled() -> Iterator[None]:
    """Has the garbage collector do as in a server that has started."""
    before = gc.get_threshold()
    settle()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@asynccontextmanager
async def pool_of(hosts: int) -> AsyncIterator[Started]:
    """A pool of so many hosts with four NICs each."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(SqliteEngine(Path(directory) / "db"))
        machines = [
            SimulatedHost(
                number=number,
                address=f"198.18.0.{number}",
                nics=tuple(nic_of(number, slot) for slot in range(4)),
            )
            for number in range(1, hosts + 1)
        ]
        started = await simulated_pool(machines, database, Path(directory))
        try:
            yield started
        finally:
            await started.coordinator.stop()
            database.close()


async def call(started: Started, method: str, **arguments: Any) -> Any:
    """Carries a call out, on the hosts and in the database."""
    return await started.coordinator.run(_rule_call(method, arguments))


def ask(started: Started, method: str, **arguments: Any) -> Any:
    """Answers a call that only reads."""
    return started.coordinator.ask(_rule_call(method, arguments))


def _rule_call(method: str, arguments: dict[str, Any]) -> RuleCall:
    return RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())


def uplink(started: Started) -> Ref[PIF]:
    """The PIF of the coordinator's second NIC."""
    view = started.coordinator.view
    return next(
        pif.ref for pif in view.where(PIF, host=started.host) if pif.device == "eth1" and pif.physical
    )


def network_named(name: str) -> dict[str, Any]:
    """What `network.create` is given."""
    return {**NETWORK_RECORD, "name_label": name}


def vlans(context: CallContext, pif: Ref[PIF], count: int) -> list[Ref[Network]]:
    """So many networks with VLANs from 1 on, on the NICs of all hosts in the place of that PIF's."""
    networks = [RULES["network.create"](context, record=network_named(f"vlan{n}")) for n in range(count)]
    for tag, network in enumerate(networks, 1):
        RULES["pool.create_VLAN_from_PIF"](context, pif=pif, network=network, VLAN=tag)
    return networks


def running_vm(context: CallContext, host: Ref[Host], networks: Sequence[Ref[Network]]) -> Ref[VM]:
    """A VM that runs there, with a VIF on each of these networks."""
    vm: Ref[VM] = RULES["VM.create"](context, record={**VM_RECORD, "domain_type": DomainType.HVM})
    for device, network in enumerate(networks):
        RULES["VIF.create"](
            context, record={**VIF_RECORD, "VM": vm, "network": network, "device": str(device)}
        )
    RULES["VM.start_on"](context, vm=vm, host=host, start_paused=False, force=False)
    return vm


async def converge_all(started: Started) -> None:
    """Makes all hosts what the database says."""
    for host in started.coordinator.view.refs(Host):
        await started.coordinator.converge(host)
