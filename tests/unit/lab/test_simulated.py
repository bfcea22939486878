"""Simulated hosts are part of a pool like others: changed as one, or not at all; and they keep the daemon's promises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.as_coordinator import Started
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import derive
from poolnet.hostnet.state import Bridge, HostNetwork
from poolnet.lab.simulated.host import SimulatedHost, nic_of
from poolnet.lab.simulated.pool import simulated_pool
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.errors import Failure
from poolnet.pool.coordinator import RuleCall
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session
from tests.unit.rules.world import NETWORK_RECORD, VIF_RECORD, VM_RECORD

HOSTS = 5


def machine(number: int) -> SimulatedHost:
    return SimulatedHost(
        number=number, address=f"198.18.0.{number}", nics=tuple(nic_of(number, slot) for slot in range(3))
    )


def with_pool(tmp_path: Path, body: Callable[[Started, list[SimulatedHost]], Awaitable[None]]) -> None:
    async def run() -> None:
        machines = [machine(number) for number in range(1, HOSTS + 1)]
        database = Database.open(MemoryEngine())
        started = await simulated_pool(machines, database, tmp_path)
        try:
            await body(started, machines)
        finally:
            await started.coordinator.stop()
            database.close()

    asyncio.run(run())


async def call(started: Started, method: str, **arguments: Any) -> Any:
    return await started.coordinator.run(
        RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())
    )


def uplink(started: Started) -> PIF:
    pifs = started.coordinator.view.where(PIF, host=started.host)
    return next(pif for pif in pifs if pif.device == "eth1")


async def vlan_everywhere(started: Started, tag: int) -> Any:
    network = await call(started, "network.create", record=NETWORK_RECORD)
    await call(started, "pool.create_VLAN_from_PIF", pif=uplink(started).ref, network=network, VLAN=tag)
    return network


def test_a_vlan_is_on_all_hosts_and_each_is_what_the_database_says(tmp_path: Path) -> None:
    async def body(started: Started, machines: list[SimulatedHost]) -> None:
        await vlan_everywhere(started, 7)
        view = started.coordinator.view
        assert view.count(VLAN) == HOSTS
        by_name = {host.name_label: host.ref for host in view.all(Host)}
        for one in machines:
            assert one.confirmed == one.network == derive(view, by_name[one.name])
            assert any(bridge.vlan_tag == 7 for bridge in one.network.bridges)

    with_pool(tmp_path, body)


def test_a_host_that_refuses_keeps_all_others_from_changing(tmp_path: Path) -> None:
    async def body(started: Started, machines: list[SimulatedHost]) -> None:
        before = [one.network for one in machines]
        stuck = machines[3]
        network = HostNetwork(bridges=(Bridge(name="by-somebody"),))
        rollout = protocol.Stage(rollout="another", desired=network)
        await stuck.answer(rollout)
        await stuck.answer(protocol.Switch(rollout="another", confirm_within_s=60.0))
        with pytest.raises(Failure):
            await vlan_everywhere(started, 7)
        assert started.coordinator.view.count(VLAN) == 0
        await stuck.answer(protocol.Revert(rollout="another"))
        assert [one.network for one in machines] == before

    with_pool(tmp_path, body)


def test_a_vm_starts_migrates_and_ends(tmp_path: Path) -> None:
    async def body(started: Started, machines: list[SimulatedHost]) -> None:
        network = await vlan_everywhere(started, 7)
        vm = await call(started, "VM.create", record=VM_RECORD)
        await call(started, "VIF.create", record={**VIF_RECORD, "VM": vm, "network": network})
        hosts = list(started.coordinator.view.refs(Host))
        await call(started, "VM.start_on", vm=vm, host=hosts[2], start_paused=False, force=False)
        for to in (4, 0, 3):
            await call(started, "VM.pool_migrate", vm=vm, host=hosts[to], options={})
            uuid = started.coordinator.view.get(VM, vm).uuid
            states = {n: one.guests[uuid].state for n, one in enumerate(machines) if uuid in one.guests}
            assert states == {to: "running"}
            assert [len(one.network.ports) for one in machines].index(1) == to
        await call(started, "VM.hard_shutdown", vm=vm)
        assert all(not one.guests and not one.network.ports for one in machines)

    with_pool(tmp_path, body)


def test_what_nobody_confirms_goes_back_by_itself() -> None:
    async def body() -> None:
        one = machine(1)
        await one.answer(protocol.Stage(rollout="r", desired=HostNetwork(bridges=(Bridge(name="b"),))))
        await one.answer(protocol.Switch(rollout="r", confirm_within_s=0.05))
        assert one.network.bridge("b") is not None
        async for _ in one.changes():
            if one.network.bridge("b") is None:
                break
        answer = await one.answer(protocol.Confirm(rollout="r"))
        assert isinstance(answer, protocol.Refused)
        assert answer.fault is protocol.Fault.UNKNOWN_ROLLOUT

    asyncio.run(asyncio.wait_for(body(), 10))
