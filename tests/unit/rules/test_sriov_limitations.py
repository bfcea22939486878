"""The manual's list of limitations of SR-IOV, sentence by sentence, in its order.

Two of its sentences are about hardware and another program and leave nothing to a test here: what NICs carry between a
virtual function and a VIF of the same NIC, and how soon a function is reset (100 ms) when a hypervisor asks.
"""

from __future__ import annotations

import pytest

from poolnet.hostnet.state import VirtualFunction
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType, VmOperations
from poolnet.model.types import Ref
from poolnet.rules import startup
from tests.unit.rules.sriov_nics import boot, capable, create, follow, hvm, network_of, report
from tests.unit.rules.world import LOCAL, World, refused


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
    with refused("VM_HAS_SRIOV_VIF", vm):
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
