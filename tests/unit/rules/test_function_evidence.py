"""What a NIC cannot do for a virtual function is written to the VIF that has it, and told of once."""

from __future__ import annotations

from dataclasses import replace

from poolnet.model.classes.message import Message
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules.function_evidence import NOT_HELD
from tests.unit.rules.sriov_nics import capable, create, hvm, network_of, report
from tests.unit.rules.world import LOCAL, World


def refuse(w: World, address: str, *refused: str) -> None:
    """Lets the host report that its NIC cannot do this for a function."""
    nic = next(nic for nic in w.ctx.facts_of(LOCAL).nics if nic.name == "eth1")
    assert nic.sriov is not None
    functions = tuple(
        replace(one, refused=refused if one.pci_bus_path == address else ()) for one in nic.sriov.functions
    )
    report(w, "eth1", replace(nic.sriov, functions=functions))


def started(w: World) -> tuple[Ref[VM], Ref[VIF], str]:
    """A VM, its VIF, and the address of its function."""
    capable(w, "eth1")
    vm = hvm(w, network_of(w, create(w, "eth1")), name_label="fast")
    w.start(vm)
    vif = w.txn.where(VIF, VM=vm)[0]
    return vm, vif.ref, w.txn.get(PCI, vif.reserved_pci).pci_id


def alerts(w: World) -> list[tuple[str, str]]:
    return [(alert.name, alert.body) for alert in w.txn.all(Message)]


def test_a_rate_that_the_nic_refuses_is_an_alert_and_a_property_until_it_is_taken() -> None:
    w = World.new()
    vm, vif, address = started(w)
    uuid = w.txn.get(VIF, vif).uuid
    refuse(w, address, "rate")
    assert w.txn.get(VIF, vif).runtime_properties == {NOT_HELD: "rate"}
    body = f"its NIC eth1 cannot limit virtual function {address} so (VIF uuid: {uuid})"
    assert alerts(w) == [("VIF_QOS_FAILED", f"VIF 0 of fast is not limited: {body}")]
    (alert,) = w.txn.all(Message)
    assert (alert.cls, alert.obj_uuid) == (Cls.VM, w.txn.get(VM, vm).uuid)
    refuse(w, address, "rate")
    assert len(alerts(w)) == 1
    refuse(w, address)
    assert w.txn.get(VIF, vif).runtime_properties == {}
    refuse(w, address, "rate")
    assert len(alerts(w)) == 2


def test_a_mac_that_the_nic_cannot_check_is_another_alert() -> None:
    w = World.new()
    _, vif, address = started(w)
    refuse(w, address, "rate")
    refuse(w, address, "spoof-check", "rate")
    assert w.txn.get(VIF, vif).runtime_properties == {NOT_HELD: "spoof-check rate"}
    assert [name for name, _ in alerts(w)] == ["VIF_QOS_FAILED", "VIF_SPOOF_CHECK_FAILED"]


def test_what_a_nic_refuses_ends_with_the_vm_and_leaves_other_properties() -> None:
    w = World.new()
    vm, vif, address = started(w)
    w.txn.update(VIF, vif, runtime_properties={"lock-dropped": "3"})
    refuse(w, address, "rate")
    assert w.txn.get(VIF, vif).runtime_properties == {"lock-dropped": "3", NOT_HELD: "rate"}
    w.call("VM.hard_shutdown", vm=vm)
    assert w.txn.get(VIF, vif).runtime_properties == {"lock-dropped": "3"}


def test_a_function_that_no_vm_has_refuses_nothing() -> None:
    w = World.new()
    _, _, address = started(w)
    refuse(w, address[:-1] + "3", "rate")
    assert alerts(w) == []
