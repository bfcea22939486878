"""What a coordinator does with the VMs of a host that has lost its lease: simulated hosts, and leases that are said, not kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from poolnet.api.as_coordinator import Started
from poolnet.db import leases
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.leases import State
from poolnet.db.seat import Seat
from poolnet.db.txn import Txn
from poolnet.hostnet.facts import SriovFacts
from poolnet.lab.simulated.host import SimulatedHost, nic_of
from poolnet.lab.simulated.pool import simulated_pool
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.message import Message
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType
from poolnet.model.types import NULL, Ref
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.values import Json
from poolnet.pool.coordinator import RuleCall
from poolnet.pool.failover import Failover
from poolnet.pool.members import Members
from poolnet.rules import ha
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session
from tests.unit.rules.sriov_nics import functions
from tests.unit.rules.world import NETWORK_RECORD, VIF_RECORD, VM_RECORD


@dataclass
class SaidLeases:
    """In the place of the cluster: hosts have the leases that the test says."""

    host: str
    states: dict[str, State]
    loop: asyncio.AbstractEventLoop

    async def transact(self, work: Sequence[Operation]) -> list[Json]:
        """Whatever is asked for is done by the cluster, and known there already."""
        if work != leases.READ:
            return []
        rows: list[Json] = [
            {"host": host, "generation": "g", "seconds": 30, "state": state.value, "beat": "1"}
            for host, state in self.states.items()
        ]
        return [{"rows": rows}]


@dataclass
class HeardMembers:
    """In the place of the connections to the other hosts: all are what the database says, unless they are kept out."""

    settled: frozenset[Ref[Host]]
    out: set[Ref[Host]] = field(default_factory=set)

    def keep_out(self, host: Ref[Host]) -> None:
        self.out.add(host)

    def let_in(self, host: Ref[Host]) -> None:
        self.out.discard(host)


class Pool:
    """Hosts in this process whose NICs `eth1` have so many virtual functions each, one SR-IOV network on all of them."""

    def __init__(self, started: Started) -> None:
        self.started = started
        self.view = started.coordinator.view
        self.hosts = {row.name_label: row for row in self.view.all(Host)}
        self.network: Ref[Network] = NULL

    async def call(self, method: str, /, **arguments: Any) -> Any:
        return await self.started.coordinator.run(
            RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())
        )

    async def make_network(self) -> None:
        self.network = await self.call("network.create", record=dict(NETWORK_RECORD))
        for host in self.hosts.values():
            pif = next(row for row in self.view.where(PIF, host=host.ref) if row.device == "eth1")
            await self.call("network_sriov.create", pif=pif.ref, network=self.network)

    async def vm(self, name: str, host: str) -> Ref[VM]:
        """A VM that runs there, with a virtual function."""
        record = {**VM_RECORD, "domain_type": DomainType.HVM, "name_label": name}
        vm: Ref[VM] = await self.call("VM.create", record=record)
        await self.call("VIF.create", record={**VIF_RECORD, "VM": vm, "network": self.network})
        await self.call("VM.set_ha_restart_priority", self=vm, value="best-effort")
        await self.call("VM.start_on", vm=vm, host=self.hosts[host].ref, start_paused=False, force=False)
        return vm

    def where(self, vm: Ref[VM]) -> str:
        host = self.view.find(Host, self.view.get(VM, vm).resident_on)
        return host.name_label if host is not None else ""

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while True:
                number = self.started.database.feed.number
                if holds():
                    return
                await self.started.database.feed.wait(number)


def with_pool(tmp_path: Path, free: Sequence[int], body: Callable[[Pool], Awaitable[None]]) -> None:
    """A pool of hosts with so many virtual functions each."""

    async def run() -> None:
        machines = []
        for number, count in enumerate(free, 1):
            sriov = SriovFacts(functions_max=count, functions_now=count, functions=functions("eth1", count))
            plain, capable = nic_of(number, 0), replace(nic_of(number, 1), sriov=sriov)
            address = f"198.18.0.{number}"
            machines.append(SimulatedHost(number=number, address=address, nics=(plain, capable)))
        database = Database.open(MemoryEngine())
        started = await simulated_pool(machines, database, tmp_path)
        try:
            pool = Pool(started)
            await pool.make_network()
            await body(pool)
        finally:
            await started.coordinator.stop()
            database.close()

    asyncio.run(run())


async def lose(pool: Pool, lost: str, holds: Callable[[], bool]) -> HeardMembers:
    """Has a coordinator find that a host has stopped its VMs, and go on until something holds."""
    started = pool.started
    states = {row.uuid: State.STOPPED if name == lost else State.HELD for name, row in pool.hosts.items()}
    seat = SaidLeases(pool.hosts["host1"].uuid, states, asyncio.get_running_loop())
    members = HeardMembers(frozenset(row.ref for row in pool.hosts.values()))
    settled = asyncio.Event()
    settled.set()
    failover = Failover(
        database=started.database,
        coordinator=started.coordinator,
        members=cast(Members, members),
        hosts=started.hosts,
        host=started.host,
        seat=cast(Seat, seat),
        servers=tuple(states),
        term=1,
        settled=settled,
    )
    running = asyncio.create_task(failover.run())
    try:
        await pool.until(holds)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return members


def test_vms_with_virtual_functions_are_restarted_where_functions_are_free_and_only_there(
    tmp_path: Path,
) -> None:
    """Three at once, and hosts with one, none, one: no two are sent to the same function, and the third is told of."""

    async def body(pool: Pool) -> None:
        lost = [await pool.vm(f"lost{number}", "host2") for number in range(3)]
        macs = {vm: pool.view.where(VIF, VM=vm)[0].MAC for vm in lost}
        there = await pool.vm("there", "host3")
        await pool.started.coordinator.write(lambda txn: ha.forming(txn, {}))
        enabled = RuleCall(method="pool.enable_ha", rule=ha.enabled, arguments={}, session=Session())
        await pool.started.coordinator.run(enabled)

        def running() -> dict[Ref[VM], str]:
            return {vm: where for vm in lost if (where := pool.where(vm)) not in ("", "host2")}

        def told() -> list[str]:
            return [each.obj_uuid for each in pool.view.all(Message) if each.name.endswith("RESTART_FAILED")]

        def more_memory(txn: Txn) -> None:
            txn.update(HostMetrics, pool.hosts["host4"].metrics, memory_total=1 << 50)

        await pool.started.coordinator.write(more_memory)  # plans like it best
        members = await lose(pool, "host2", lambda: len(told()) > 0 and len(running()) == 2)
        assert members.out == {pool.hosts["host2"].ref}
        assert sorted(running().values()) == ["host1", "host4"]
        assert pool.where(there) == "host3"
        assert told() == [pool.view.get(VM, vm).uuid for vm in lost if vm not in running()]
        assert {vm: pool.view.where(VIF, VM=vm)[0].MAC for vm in lost} == macs
        held = [vif.reserved_pci for vif in pool.view.all(VIF) if vif.reserved_pci != NULL]
        assert len(held) == len(set(held)) == 3

    with_pool(tmp_path, (1, 3, 1, 1), body)
