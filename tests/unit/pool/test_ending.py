"""A guest that takes its time to end is asked before its rollout: nobody waits for it, and what it refuses changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import GuestFacts
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from poolnet.pool.hostlink import HostRefused
from tests.in_process import FACTS, InProcess, with_server
from tests.unit.pool.test_coordinator import networks, rule_call, vlan_call
from tests.unit.pool.test_rollout import halted_vm


async def running_vm(server: InProcess, *, asked_first: bool = True) -> Ref[VM]:
    vm = await halted_vm(server)
    await server.coordinator.run(rule_call("VM.start", vm=vm, start_paused=False, force=False))
    row = server.database.view.get(VM, vm)
    guest = GuestFacts(vm_uuid=row.uuid, domid=row.domid, state="running", asked_first=asked_first)
    server.host.reported = replace(FACTS, guests=(guest,))
    server.host.guest_actions.clear()
    return vm


@pytest.mark.parametrize("method", ["VM.clean_shutdown", "VM.shutdown", "VM.clean_reboot"])
def test_others_change_the_host_while_a_guest_ends(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(server: InProcess) -> None:
        vm = await running_vm(server)
        (network,) = await networks(server, 1)
        asked: list[protocol.Command] = []
        begun, ended = asyncio.Event(), asyncio.Event()

        async def ask(_host: Any, command: protocol.Command, _expect: Any, timeout_s: float) -> protocol.Done:
            assert timeout_s > 60
            asked.append(command)
            begun.set()
            await ended.wait()
            return protocol.Done(facts=FACTS)

        monkeypatch.setattr(server.host, "ask", ask)
        ending = asyncio.create_task(server.coordinator.run(rule_call(method, vm=vm)))
        await begun.wait()
        await server.coordinator.run(vlan_call(server, 5, network))
        assert not ending.done()
        assert server.host.guest_actions == []
        ended.set()
        await ending
        uuid = server.database.view.get(VM, vm).uuid
        assert asked == [protocol.AskToEnd(vm_uuid=uuid, timeout_s=60.0)]
        assert server.host.guest_actions[0] == protocol.ShutDownGuest(vm_uuid=uuid)

    with_server(tmp_path, body)


def test_a_guest_that_goes_on_leaves_all_as_it_was(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = await running_vm(server)
        switches = server.host.switches

        def refuse(_: protocol.Command) -> protocol.Answer:
            message = "guest vm has not shut down within 60 s"
            raise HostRefused(protocol.Refused(fault=protocol.Fault.GUEST_FAILED, message=message))

        server.host.answer = refuse
        with pytest.raises(Failure) as refused:
            await server.coordinator.run(rule_call("VM.clean_shutdown", vm=vm))
        assert refused.value.code == "INTERNAL_ERROR"
        assert "has not shut down" in refused.value.params[0]
        assert server.host.switches == switches
        assert server.database.view.get(VM, vm).power_state is VmPowerState.RUNNING

    with_server(tmp_path, body)


def test_what_the_rule_refuses_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = await running_vm(server)
        await server.coordinator.run(rule_call("VM.pause", vm=vm))
        with pytest.raises(Failure) as refused:
            await server.coordinator.run(rule_call("VM.clean_shutdown", vm=vm))
        assert refused.value.code == "VM_BAD_POWER_STATE"
        assert server.host.asked == []

    with_server(tmp_path, body)


def test_a_guest_that_ends_at_once_is_not_asked_beforehand(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = await running_vm(server, asked_first=False)
        await server.coordinator.run(rule_call("VM.clean_shutdown", vm=vm))
        assert server.host.asked == []
        assert isinstance(server.host.guest_actions[0], protocol.ShutDownGuest)

    with_server(tmp_path, body)
