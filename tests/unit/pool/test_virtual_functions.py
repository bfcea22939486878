"""A hundred VMs that start at once never share a virtual function, and a start that fails gives its own back."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import SriovFacts
from poolnet.hostnet.state import HostNetwork
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType, VmPowerState
from poolnet.model.errors import Failure
from poolnet.model.types import Ref, Value
from poolnet.pool.coordinator import RuleCall, as_failure
from poolnet.pool.hostlink import HostRefused
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session
from tests.in_process import FACTS, InProcess, with_server
from tests.unit.rules.sriov_nics import functions
from tests.unit.rules.world import NETWORK_RECORD, VIF_RECORD, VM_RECORD

FUNCTIONS, VMS = 63, 100
FULL = SriovFacts(functions_max=FUNCTIONS, functions_now=FUNCTIONS, functions=functions("eth1", FUNCTIONS))


async def call(server: InProcess, method: str, **arguments: Value) -> Value:
    return await server.coordinator.run(
        RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())
    )


async def vms_on_a_network(server: InProcess) -> list[Ref[VM]]:
    """The NIC eth1 with all its functions on a network, and the VMs with a VIF on that."""
    nics = tuple(
        replace(nic, pci_bus_path="0000:01:00.0", sriov=FULL) if nic.name == "eth1" else nic
        for nic in FACTS.nics
    )
    server.host.reported = replace(FACTS, nics=nics)
    view, local = server.coordinator.view, server.host.host
    await call(server, "PIF.scan", host=local)
    network = await call(server, "network.create", record=dict(NETWORK_RECORD))
    pif = next(p.ref for p in view.all(PIF) if p.device == "eth1")
    sriov = await call(server, "network_sriov.create", pif=pif, network=network)
    assert await call(server, "network_sriov.get_remaining_capacity", self=sriov) == FUNCTIONS
    made: list[Ref[VM]] = []
    for number in range(VMS):
        record = {**VM_RECORD, "domain_type": DomainType.HVM, "name_label": f"vm{number}"}
        vm = await call(server, "VM.create", record=record)
        vif = {**VIF_RECORD, "VM": vm, "network": network, "MAC": f"02:00:00:00:01:{number:02x}"}
        await call(server, "VIF.create", record=vif)
        made.append(vm)  # type: ignore[arg-type]
    return made


async def start_all(server: InProcess, vms: list[Ref[VM]]) -> Counter[str]:
    """Starts all at once; how it went, by code."""
    calls = (call(server, "VM.start", vm=vm, start_paused=False, force=False) for vm in vms)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    codes = [answer.code if isinstance(answer, Failure) else str(answer) for answer in answers]
    return Counter(codes)


def holders(server: InProcess) -> list[str]:
    """The functions that VIFs have; each VM has its own."""
    view = server.coordinator.view
    held: list[str] = [vif.reserved_pci for vif in view.all(VIF) if view.exists(PCI, vif.reserved_pci)]
    for vm in view.all(VM):
        if not vm.is_control_domain:
            assert len(vm.attached_PCIs) == (vm.power_state is VmPowerState.RUNNING)
    return held


def test_a_hundred_starts_at_once_give_each_function_to_one(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vms = await vms_on_a_network(server)
        went = await start_all(server, vms)
        assert went == {"None": FUNCTIONS, "NETWORK_SRIOV_INSUFFICIENT_CAPACITY": VMS - FUNCTIONS}
        held = holders(server)
        assert len(held) == len(set(held)) == FUNCTIONS
        told = [function.address for nic in server.host.network.sriov for function in nic.functions]
        assert len(told) == len(set(told)) == FUNCTIONS
        running = [
            vm for vm in vms if server.coordinator.view.get(VM, vm).power_state is VmPowerState.RUNNING
        ]
        await asyncio.gather(*(call(server, "VM.hard_shutdown", vm=vm) for vm in running))
        assert holders(server) == []
        assert server.host.network.sriov[0].functions == ()

    with_server(tmp_path, body)


def test_the_host_reports_what_its_drivers_files_say_when_functions_are_switched_on(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        await vms_on_a_network(server)
        view = server.coordinator.view
        sriov = next(iter(view.all(NetworkSriov)))
        looks = [server.host.looks]
        for pif in (sriov.physical_PIF, sriov.logical_PIF):
            await call(server, "PIF.plug", self=pif)
            looks.append(server.host.looks)
        await call(server, "network_sriov.destroy", self=sriov.ref)
        network = await call(server, "network.create", record=dict(NETWORK_RECORD))
        await call(server, "network_sriov.create", pif=sriov.physical_PIF, network=network)
        looks.append(server.host.looks)
        first = looks[0]
        assert looks == [first, first, first + 1, first + 2]

    with_server(tmp_path, body)


def test_starts_that_the_host_refuses_give_their_functions_back(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vms = await vms_on_a_network(server)

        def refuse(network: HostNetwork) -> bool:
            return any(one.mac.endswith(":07") for nic in network.sriov for one in nic.functions)

        server.host.refuse = refuse
        went = await start_all(server, vms[:20])
        assert went == {"None": 19, "INTERNAL_ERROR": 1}
        held = holders(server)
        assert len(held) == len(set(held)) == 19
        server.host.refuse = lambda _: False
        assert await start_all(server, vms[20:]) == {
            "None": FUNCTIONS - 19,
            "NETWORK_SRIOV_INSUFFICIENT_CAPACITY": VMS - 20 - FUNCTIONS + 19,
        }

    with_server(tmp_path, body)


def test_what_a_host_cannot_switch_on_or_off_is_said_by_the_codes_of_the_reference(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        await vms_on_a_network(server)
        view = server.coordinator.view
        sriov = next(iter(view.all(NetworkSriov)))
        refused = protocol.Refused(
            fault=protocol.Fault.FUNCTIONS_FAILED, message="3 of 7 came", subject="eth1"
        )

        def said(method: str, **arguments: Value) -> str:
            asked = RuleCall(method=method, rule=RULES[method], arguments=arguments, session=Session())
            return str(as_failure(HostRefused(refused), view, asked))

        text = f"{sriov.logical_PIF}; eth1 3 of 7 came"
        assert said("network_sriov.destroy", self=sriov.ref) == f"NETWORK_SRIOV_DISABLE_FAILED[{text}]"
        assert said("PIF.plug", self=sriov.logical_PIF) == f"NETWORK_SRIOV_ENABLE_FAILED[{text}]"
        text = f"{sriov.physical_PIF}; eth1 3 of 7 came"
        assert said("network_sriov.create", pif=sriov.physical_PIF) == f"NETWORK_SRIOV_ENABLE_FAILED[{text}]"

    with_server(tmp_path, body)


def test_a_guest_that_keeps_its_nic_rejects_the_unplugging(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        await vms_on_a_network(server)
        view = server.coordinator.view
        vif = next(iter(view.all(VIF)))
        refused = protocol.Refused(fault=protocol.Fault.GUEST_FAILED, message="has not let NIC 0 go")
        for method, said in (
            ("VIF.unplug", f"DEVICE_DETACH_REJECTED[VIF; {vif.ref}; has not let NIC 0 go]"),
            ("VIF.plug", "INTERNAL_ERROR[guest-failed: has not let NIC 0 go]"),
        ):
            asked = RuleCall(
                method=method, rule=RULES[method], arguments={"self": vif.ref}, session=Session()
            )
            assert str(as_failure(HostRefused(refused), view, asked)) == said

    with_server(tmp_path, body)
