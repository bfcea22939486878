"""A rollout that comes to nothing leaves nothing: not on the hosts, and not in the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from poolnet.api.answer import Origin
from poolnet.hostnet import protocol
from poolnet.hostnet.state import HostNetwork
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.pool.host_work import HostWork, undoing
from poolnet.pool.hostlink import HostGone
from tests.in_process import FACTS, BrokenDisk, InProcess, with_server
from tests.unit.api.test_events import minimal_vm
from tests.unit.pool.test_coordinator import bridges, network_call, networks, rule_call, vlan_call

SPEC = protocol.GuestSpec(vm_uuid="vm", name="vm", domid=1)


async def halted_vm(server: InProcess) -> Ref[VM]:
    session = await server.sessions.login_with_password("root", "", "", local_root=True)
    origin = Origin(local_root=True)
    vm = await server.dispatcher.perform(session, "VM.create", [{"name_label": "vm", **minimal_vm()}], origin)
    return Ref(str(vm))


def test_a_commit_that_fails_brings_the_switched_host_back(tmp_path: Path) -> None:
    disk = BrokenDisk()

    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        before = server.host.network
        disk.broken = True
        with pytest.raises(Failure) as refused:
            await server.coordinator.run(vlan_call(server, 5, network))
        assert refused.value.code == "INTERNAL_ERROR"
        assert server.host.network == before
        assert server.database.view.count(VLAN) == 0
        disk.broken = False
        await server.coordinator.run(vlan_call(server, 5, network))
        assert bridges(server.host.network) == {5}

    with_server(tmp_path, body, disk)


def test_a_commit_that_fails_ends_the_guest_that_was_started_for_it(tmp_path: Path) -> None:
    disk = BrokenDisk()

    async def body(server: InProcess) -> None:
        vm = await halted_vm(server)
        disk.broken = True
        with pytest.raises(Failure):
            await server.coordinator.run(rule_call("VM.start", vm=vm, start_paused=False, force=False))
        assert server.database.view.get(VM, vm).power_state is VmPowerState.HALTED
        uuid = server.database.view.get(VM, vm).uuid
        assert server.host.guest_actions[-1] == protocol.DestroyGuest(vm_uuid=uuid)

    with_server(tmp_path, body, disk)


def test_a_commit_that_fails_gives_the_host_its_name_back(tmp_path: Path) -> None:
    disk = BrokenDisk()

    async def body(server: InProcess) -> None:
        disk.broken = True
        host = next(iter(server.database.view.refs(Host)))
        with pytest.raises(Failure):
            await server.coordinator.run(rule_call("host.set_hostname_live", host=host, hostname="other"))
        assert server.host.hostname == FACTS.hostname

    with_server(tmp_path, body, disk)


def test_a_running_guest_that_refused_to_end_is_not_ended_by_the_way_back(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = await halted_vm(server)
        work = HostWork(HostNetwork(), before=[protocol.CreateGuest(guest=SPEC)])
        assert undoing(server.database.view, work) == (protocol.DestroyGuest(vm_uuid="vm"),)
        await server.coordinator.run(rule_call("VM.start", vm=vm, start_paused=False, force=False))
        spec = protocol.GuestSpec(vm_uuid=server.database.view.get(VM, vm).uuid, name="vm", domid=2)
        reboot = HostWork(
            HostNetwork(),
            before=[protocol.ShutDownGuest(vm_uuid=spec.vm_uuid), protocol.CreateGuest(guest=spec)],
        )
        assert undoing(server.database.view, reboot) == ()
        suspended = HostWork(HostNetwork(), before=[protocol.PauseGuest(vm_uuid=spec.vm_uuid)])
        assert undoing(server.database.view, suspended) == (protocol.RunGuest(vm_uuid=spec.vm_uuid),)

    with_server(tmp_path, body)


def test_a_host_that_went_away_fails_every_call_once(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await networks(server, 20)
        asked = 0

        async def stage(host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
            nonlocal asked
            asked += 1
            raise HostGone("no such file")

        server.host.stage = stage  # type: ignore[method-assign]
        calls = (server.coordinator.run(vlan_call(server, i + 1, n)) for i, n in enumerate(made))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {r.code for r in results if isinstance(r, Failure)} == {"CANNOT_CONTACT_HOST"}
        assert len(results) == 20
        assert asked <= 2, "nobody's call is at fault: there is no use in trying each alone"

    with_server(tmp_path, body)


def test_the_call_at_fault_is_found_by_halves(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await networks(server, 64)
        server.host.refuse = lambda desired: 40 in bridges(desired)
        before = server.host.switches
        calls = (server.coordinator.run(vlan_call(server, i + 1, n)) for i, n in enumerate(made))
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [i + 1 for i, result in enumerate(results) if isinstance(result, Failure)] == [40]
        assert server.host.switches - before < 30

    with_server(tmp_path, body)


def test_a_host_is_brought_in_step_only_between_rollouts(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        server.host.gate = asyncio.Event()
        calling = asyncio.create_task(server.coordinator.run(vlan_call(server, 5, network)))
        await server.host.at_gate.wait()
        converging = asyncio.create_task(server.coordinator.converge(server.host.host))
        await asyncio.sleep(0)
        server.host.gate.set()
        await asyncio.gather(calling, converging)
        assert bridges(server.host.network) == {5}, "it was not taken back to what the database said before"

    with_server(tmp_path, body)


def test_a_caller_that_goes_away_twice_stops_nothing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        server.host.gate = asyncio.Event()
        calling = asyncio.create_task(server.coordinator.run(vlan_call(server, 5, network)))
        await server.host.at_gate.wait()
        for _ in range(2):
            calling.cancel()
            await asyncio.sleep(0)
        server.host.gate.set()
        assert isinstance(await calling, str)
        assert server.database.view.count(VLAN) == 1

    with_server(tmp_path, body)


def test_stopping_answers_everybody_who_waits(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        server.host.gate = asyncio.Event()
        first = asyncio.create_task(server.coordinator.run(vlan_call(server, 5, network)))
        await server.host.at_gate.wait()
        second = asyncio.create_task(server.coordinator.run(network_call("late")))
        await asyncio.sleep(0)
        stopping = asyncio.create_task(server.coordinator.stop())
        server.host.gate.set()
        await stopping
        for calling in (first, second):
            with pytest.raises(Failure, match="TASK_CANCELLED"):
                await calling
        assert server.database.view.count(VLAN) == 0
        assert not server.database.view.where(Network, name_label="late")
        assert bridges(server.host.network) == set()

    with_server(tmp_path, body)
