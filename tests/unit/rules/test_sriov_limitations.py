"""The manual's list of limitations of SR-IOV, sentence by sentence, in its order: `SENTENCES` names a test for each.

Seventeen sentences in twelve points. Those about what hardware does with frames have their test in `tests/kernel`, on a NIC.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from poolnet.hostnet.state import VirtualFunction
from poolnet.model.classes.message import Message
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType, VmOperations
from poolnet.model.types import Ref
from poolnet.rules import startup
from tests.unit.rules.sriov_nics import boot, capable, create, follow, hvm, network_of, report
from tests.unit.rules.world import LOCAL, World, refused

HERE, IGB = "tests/unit/rules/test_sriov_limitations.py", "tests/kernel/igb_functions.py"
HOSTD = "tests/unit/hostd/test_sriov.py"
SENTENCES: Final = (
    ("1: legacy drivers need a reboot", HERE, "legacy_drivers_switch_sriov_on_and_off_only_with_a_reboot"),
    ("2: only HVM guests", HERE, "only_hvm_guests_are_supported"),
    (
        "3: one kind of NIC per pool network",
        HERE,
        "pool_wide_networks_with_nics_of_different_kinds_are_not_supported",
    ),
    (
        "4a: function and VIF of a NIC may not speak",
        HERE,
        "functions_and_vifs_of_one_nic_are_on_networks_of_their_own",
    ),
    ("4b: functions speak with functions", IGB, "guests_speak_through_functions_and_give_them_back"),
    ("5: some NICs limit no rate", HERE, "a_rate_that_a_nic_cannot_limit_has_no_effect_and_is_told_of"),
    ("6: no migration, suspend, checkpoint", HERE, "live_migration_suspend_and_checkpoint_are_not_supported"),
    ("7: no hot plug", HERE, "virtual_functions_cannot_be_hot_plugged"),
    ("8: another reboot", HERE, "legacy_nics_that_did_not_get_their_functions_at_the_reboot_need_another"),
    ("9: VMs of earlier releases", HERE, "a_vm_of_an_earlier_release_can_use_it_once_it_is_hvm"),
    ("10a: nothing that needs migration", HERE, "features_that_need_live_migration_are_refused_to_its_vms"),
    ("10b: the VM has the function itself", IGB, "guests_speak_through_functions_and_give_them_back"),
    (
        "11: a function is reset",
        HOSTD,
        "a_function_is_told_all_before_its_guest_has_it_and_forgets_all_afterwards",
    ),
    ("12a: with high availability", HERE, "its_vms_may_be_in_a_pool_with_high_availability"),
    ("12b: capacity is not planned", HERE, "high_availability_plans_no_capacity_for_its_vms"),
    ("12c: best-effort restart", HERE, "high_availability_restarts_its_vms_where_functions_are_free"),
    ("12d: network and free function", HERE, "high_availability_restarts_its_vms_where_functions_are_free"),
)


@pytest.mark.parametrize(("sentence", "file", "name"), SENTENCES, ids=[one[0] for one in SENTENCES])
def test_every_sentence_has_a_test(sentence: str, file: str, name: str) -> None:
    text = (Path(__file__).parents[3] / file).read_text(encoding="utf-8")
    assert f"\ndef test_{name}(" in text, sentence


def running(w: World) -> Ref[VM]:
    """A VM that has a virtual function."""
    capable(w, "eth1")
    vm = hvm(w, network_of(w, create(w, "eth1")))
    w.start(vm)
    return vm


def test_legacy_drivers_switch_sriov_on_and_off_only_with_a_reboot() -> None:
    w = World.new()
    capable(w, "eth1", most=7, by_module=True)
    sriov = create(w, "eth1")
    assert sriov.requires_reboot
    boot(w)
    w.call("PIF.plug", self=sriov.logical_PIF)
    w.call("network_sriov.destroy", self=sriov.ref)
    assert w.ctx.facts_of(LOCAL).nics[1].sriov.functions_now == 7  # type: ignore[union-attr]
    boot(w)
    assert w.ctx.facts_of(LOCAL).nics[1].sriov.functions_now == 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", [DomainType.PV, DomainType.PV_IN_PVH, DomainType.PVH, DomainType.UNSPECIFIED]
)
def test_only_hvm_guests_are_supported(kind: DomainType) -> None:
    w = World.new()
    capable(w, "eth1")
    network = network_of(w, create(w, "eth1"))
    vm = w.vm(domain_type=kind)
    w.vif(vm, network, MAC="02:00:00:00:00:05")
    with refused("VM_HVM_REQUIRED", vm):
        w.start(vm)
    with refused("VM_HVM_REQUIRED", vm):
        w.call("VM.start_on", vm=vm, host=LOCAL, start_paused=False, force=False)
    other = hvm(w, network)
    w.start(other)


def test_pool_wide_networks_with_nics_of_different_kinds_are_not_supported() -> None:
    w = World.new()
    capable(w, "eth1")
    capable(w, "eth2", device_id="10fb")
    there = w.host()
    capable(w, "eth1", host=there, device_id="10fb")
    network = network_of(w, create(w, "eth1"))
    pif = next(p for p in w.ctx.txn.all(type(w.nic_pif("eth1"))) if p.host == there and p.device == "eth1")
    with refused("NETWORK_HAS_INCOMPATIBLE_SRIOV_PIFS", pif.ref, network):
        w.call("network_sriov.create", pif=pif.ref, network=network)


def test_a_rate_below_what_nics_can_limit_is_their_smallest() -> None:
    w = World.new()
    vm = running(w)
    vif = w.txn.where(VIF, VM=vm)[0].ref
    rates = []
    for kbps in ("1", "122", "123", "0", "junk"):
        w.call("VIF.set_qos_algorithm_type", self=vif, value="ratelimit")
        w.call("VIF.set_qos_algorithm_params", self=vif, value={"kbps": kbps})
        rates.append(_function(w).rate_mbits_per_s)
    assert rates == [1, 1, 2, 0, 0]


def test_a_rate_that_a_nic_cannot_limit_has_no_effect_and_is_told_of() -> None:
    w = World.new()
    vm = running(w)
    vif = w.txn.where(VIF, VM=vm)[0].ref
    w.call("VIF.set_qos_algorithm_type", self=vif, value="ratelimit")
    w.call("VIF.set_qos_algorithm_params", self=vif, value={"kbps": "1000"})
    seen = next(nic.sriov for nic in w.ctx.facts_of(LOCAL).nics if nic.name == "eth1")
    assert seen is not None
    first = replace(seen.functions[0], refused=("rate",))
    report(w, "eth1", replace(seen, functions=(first, *seen.functions[1:])))
    assert w.txn.get(VIF, vif).runtime_properties == {"sriov-not-held": "rate"}
    assert [alert.name for alert in w.txn.all(Message)] == ["VIF_QOS_FAILED"]


def test_functions_and_vifs_of_one_nic_are_on_networks_of_their_own() -> None:
    """So nobody takes them for neighbours: what a NIC carries between the two is up to it."""
    w = World.new()
    capable(w, "eth1")
    plain = w.nic_network("eth1")
    sriov = create(w, "eth1")
    vm = hvm(w, network_of(w, sriov), plain)
    w.start(vm)
    one, other = w.txn.where(VIF, VM=vm)
    assert w.txn.exists(PCI, one.reserved_pci)
    assert not w.txn.exists(PCI, other.reserved_pci)
    with refused("NETWORK_ALREADY_CONNECTED", LOCAL, w.nic_pif("eth1").ref):
        capable(w, "eth2")
        w.call("network_sriov.create", pif=w.nic_pif("eth2").ref, network=plain)


@pytest.mark.parametrize(
    "operation",
    [
        VmOperations.POOL_MIGRATE,
        VmOperations.MIGRATE_SEND,
        VmOperations.SUSPEND,
        VmOperations.CHECKPOINT,
    ],
)
def test_live_migration_suspend_and_checkpoint_are_not_supported(operation: VmOperations) -> None:
    w = World.new()
    vm = running(w)
    with refused("VM_HAS_PCI_ATTACHED", vm):
        w.call("VM.assert_operation_valid", self=vm, op=operation)
    assert operation not in w.txn.get(VM, vm).allowed_operations
    if operation is VmOperations.SUSPEND:
        with refused("VM_HAS_PCI_ATTACHED", vm):
            w.call("VM.suspend", vm=vm)
    plain = w.vm()
    w.start(plain)
    w.call("VM.assert_operation_valid", self=plain, op=operation)


def test_virtual_functions_cannot_be_hot_plugged() -> None:
    w = World.new()
    vm = running(w)
    vif = w.txn.where(VIF, VM=vm)[0]
    late = w.vif(vm, vif.network, device="3", MAC="02:00:00:00:00:05")
    text = "Network SR-IOV VIF plug/unplug not allowed"
    with refused("OPERATION_NOT_ALLOWED", text):
        w.call("VIF.plug", self=late)
    for method in ("VIF.unplug", "VIF.unplug_force"):
        with refused("OPERATION_NOT_ALLOWED", text):
            w.call(method, self=vif.ref)
    assert [op.value for op in w.txn.get(VIF, vif.ref).allowed_operations] == ["attach"]


def test_legacy_nics_that_did_not_get_their_functions_at_the_reboot_need_another() -> None:
    w = World.new()
    capable(w, "eth1", most=7, by_module=True)
    sriov = create(w, "eth1")
    startup.resync(w.ctx, w.ctx.facts_of(LOCAL))  # after a boot at which the driver gave none
    assert w.txn.get(NetworkSriov, sriov.ref).requires_reboot
    boot(w)
    startup.resync(w.ctx, w.ctx.facts_of(LOCAL))
    assert not w.txn.get(NetworkSriov, sriov.ref).requires_reboot


def test_a_vm_of_an_earlier_release_can_use_it_once_it_is_hvm() -> None:
    w = World.new()
    capable(w, "eth1")
    vm = w.vm(HVM_boot_policy="BIOS order")  # records of earlier releases say it so
    w.vif(vm, network_of(w, create(w, "eth1")), MAC="02:00:00:00:00:05")
    w.start(vm)


def test_features_that_need_live_migration_are_refused_to_its_vms() -> None:
    w = World.new()
    vm = running(w)
    with refused("CANNOT_EVACUATE_HOST", f"VM_HAS_PCI_ATTACHED,{vm}"):
        w.call("host.assert_can_evacuate", host=LOCAL)
    kept = w.call("host.get_vms_which_prevent_evacuation", self=LOCAL)
    assert kept == {vm: ("VM_HAS_PCI_ATTACHED", vm)}


def test_its_vms_may_be_in_a_pool_with_high_availability() -> None:
    w = World.new()
    capable(w, "eth1")
    network = network_of(w, create(w, "eth1"))
    w.pool(ha_enabled=True, ha_allow_overcommit=False)
    vm = hvm(w, network)
    w.start(vm)
    assert _function(w).mac == w.txn.where(VIF, VM=vm)[0].MAC


def test_high_availability_plans_no_capacity_for_its_vms() -> None:
    w = World.new()
    with refused("VM_HAS_SRIOV_VIF", vm := running(w)):
        w.call("VM.assert_agile", self=vm)


def test_high_availability_restarts_its_vms_where_functions_are_free() -> None:
    w = World.new()
    vm = running(w)
    there = w.host()
    capable(w, "eth1", most=1, host=there)
    network = w.txn.where(VIF, VM=vm)[0].network
    pif = next(p for p in w.ctx.txn.all(type(w.nic_pif("eth1"))) if p.host == there and p.device == "eth1")
    with refused("VM_REQUIRES_NETWORK", vm, network):
        w.call("VM.assert_can_boot_here", self=vm, host=there)
    w.call("network_sriov.create", pif=pif.ref, network=network)
    follow(w, there)
    w.call("VM.power_state_reset", vm=vm)
    w.call("VM.assert_can_boot_here", self=vm, host=there)
    other = hvm(w, network)
    w.call("VM.start_on", vm=other, host=there, start_paused=False, force=False)
    with refused("NETWORK_SRIOV_INSUFFICIENT_CAPACITY", network):
        w.call("VM.assert_can_boot_here", self=vm, host=there)
    report(w, "eth1", None, host=there)  # capacity is not planned for: what is there counts


def _function(w: World) -> VirtualFunction:
    return w.derive().sriov[0].functions[0]
