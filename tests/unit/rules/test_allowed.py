"""Which operations are allowed, and what refuses the others: the scenarios of the semantics page §28.3."""

from __future__ import annotations

import pytest

from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.enums import DomainType, TristateType, VifOperations, VmOperations, VmPowerState
from poolnet.model.types import NULL, Ref
from poolnet.rules.allowed import OFFERED, refresh_vm
from tests.unit.rules.world import World, refused

PV = (DomainType.PV, DomainType.PV_IN_PVH, DomainType.PVH, DomainType.UNSPECIFIED)


def prepared(
    w: World, kind: DomainType = DomainType.PV, *, attached: bool = True
) -> tuple[Ref[VM], Ref[VIF]]:
    vm = w.vm(domain_type=kind)
    vif = w.vif(vm, w.network())
    w.start(vm)
    if not attached:
        w.txn.update(VIF, vif, currently_attached=False)
        refresh_vm(w.txn, vm)
    return vm, vif


def allowed(w: World, vif: Ref[VIF]) -> set[str]:
    return {op.value for op in w.txn.get(VIF, vif).allowed_operations}


def test_the_vif_of_a_halted_vm() -> None:
    w = World.new()
    vm = w.vm()
    vif = w.vif(vm, w.network())
    assert allowed(w, vif) == {"attach"}
    for method in ("VIF.plug", "VIF.unplug", "VIF.unplug_force"):
        with refused("VM_BAD_POWER_STATE", vm, "running", "halted"):
            w.call(method, self=vif)


@pytest.mark.parametrize("kind", PV)
def test_the_vif_of_a_running_paravirtual_vm(kind: DomainType) -> None:
    w = World.new()
    _, vif = prepared(w, kind)
    assert allowed(w, vif) == {"attach", "unplug"}
    with refused("DEVICE_ALREADY_ATTACHED", vif):
        w.call("VIF.plug", self=vif)
    w.call("VIF.unplug", self=vif)
    assert allowed(w, vif) == {"attach", "plug"}
    with refused("DEVICE_ALREADY_DETACHED", vif):
        w.call("VIF.unplug_force", self=vif)
    w.call("VIF.plug", self=vif)


def without_guest_metrics(w: World, vm: Ref[VM]) -> None:
    w.txn.update(VM, vm, guest_metrics=NULL)
    refresh_vm(w.txn, vm)


def test_a_fully_virtualized_vm_that_says_nothing() -> None:
    w = World.new()
    vm, vif = prepared(w, DomainType.HVM)
    without_guest_metrics(w, vm)
    assert allowed(w, vif) == {"attach"}
    with refused("DEVICE_ALREADY_ATTACHED", vif):
        w.call("VIF.plug", self=vif)
    with refused("VM_MISSING_PV_DRIVERS", vm):
        w.call("VIF.unplug", self=vif)


def test_a_boot_policy_makes_a_vm_fully_virtualized() -> None:
    w = World.new()
    vm, vif = prepared(w, DomainType.UNSPECIFIED)
    w.txn.update(VM, vm, HVM_boot_policy="BIOS order")
    without_guest_metrics(w, vm)
    with refused("VM_MISSING_PV_DRIVERS", vm):
        w.call("VIF.unplug", self=vif)


def test_a_fully_virtualized_vm_with_drivers() -> None:
    w = World.new()
    _, vif = prepared(w, DomainType.HVM, attached=False)
    assert allowed(w, vif) == {"attach", "plug"}
    with refused("DEVICE_ALREADY_DETACHED", vif):
        w.call("VIF.unplug", self=vif)
    w.call("VIF.plug", self=vif)


@pytest.mark.parametrize(
    ("says", "detected", "allows"),
    [
        (TristateType.YES, False, True),
        (TristateType.UNSPECIFIED, True, True),
        (TristateType.UNSPECIFIED, False, False),
    ],
)
def test_a_fully_virtualized_vm_can_take_devices_if_it_or_its_drivers_say_so(
    says: TristateType, detected: bool, allows: bool
) -> None:
    w = World.new()
    vm, vif = prepared(w, DomainType.HVM)
    metrics = w.txn.get(VM, vm).guest_metrics
    w.txn.update(VMGuestMetrics, metrics, can_use_hotplug_vif=says, PV_drivers_detected=detected)
    refresh_vm(w.txn, vm)
    assert ("unplug" in allowed(w, vif)) is allows


def test_a_fully_virtualized_vm_that_refuses_devices() -> None:
    w = World.new()
    vm, vif = prepared(w, DomainType.HVM, attached=False)
    metrics = w.txn.get(VM, vm).guest_metrics
    w.txn.update(VMGuestMetrics, metrics, can_use_hotplug_vif=TristateType.NO, PV_drivers_detected=True)
    refresh_vm(w.txn, vm)
    assert allowed(w, vif) == {"attach"}
    with refused("OPERATION_NOT_ALLOWED", "VM states it does not support VIF hotplug."):
        w.call("VIF.plug", self=vif)
    with refused("DEVICE_ALREADY_DETACHED", vif):
        w.call("VIF.unplug", self=vif)


@pytest.mark.parametrize(("method", "state"), [("VM.suspend", "suspended"), ("VM.pause", "paused")])
def test_the_vif_of_a_sleeping_vm(method: str, state: str) -> None:
    w = World.new()
    vm, vif = prepared(w)
    w.call(method, vm=vm)
    assert w.txn.get(VIF, vif).currently_attached
    assert allowed(w, vif) == {"attach"}
    for plug in ("VIF.plug", "VIF.unplug"):
        with refused("VM_BAD_POWER_STATE", vm, "running", state):
            w.call(plug, self=vif)


def test_another_operation_forbids_all() -> None:
    w = World.new()
    vm, vif = prepared(w)
    w.txn.update(VIF, vif, current_operations={"OpaqueRef:t1": VifOperations.PLUG})
    refresh_vm(w.txn, vm)
    assert allowed(w, vif) == set()
    with refused("OTHER_OPERATION_IN_PROGRESS", "VIF", vif, "{plug}", "{OpaqueRef:t1}"):
        w.call("VIF.unplug", self=vif)


def test_a_vm_that_is_being_stopped_keeps_its_devices() -> None:
    w = World.new()
    vm, vif = prepared(w)
    w.txn.update(VM, vm, current_operations={"OpaqueRef:t1": VmOperations.CLEAN_SHUTDOWN})
    with refused("OPERATION_NOT_ALLOWED", f"Current operation on VM:{vm} is clean_shutdown"):
        w.call("VIF.unplug", self=vif)


def test_the_control_domain_takes_no_devices() -> None:
    w = World.new()
    domain = next(vm.ref for vm in w.txn.all(VM) if vm.is_control_domain)
    vif = w.vif(domain, w.network(), MAC="00:16:3e:00:00:01")
    with refused("OPERATION_NOT_ALLOWED", "Control domain does not support hotplug"):
        w.call("VIF.plug", self=vif)


OFFERS = {
    VmPowerState.HALTED: {
        "changing_NVRAM",
        "changing_dynamic_range",
        "changing_static_range",
        "clone",
        "destroy",
        "make_into_template",
        "provision",
        "start",
        "start_on",
    },
    VmPowerState.RUNNING: {
        "changing_dynamic_range",
        "clean_reboot",
        "clean_shutdown",
        "hard_reboot",
        "hard_shutdown",
        "pause",
        "suspend",
        "pool_migrate",
    },
    VmPowerState.PAUSED: {"changing_dynamic_range", "hard_reboot", "hard_shutdown", "unpause"},
    VmPowerState.SUSPENDED: {"changing_dynamic_range", "destroy", "hard_shutdown", "resume", "resume_on"},
}


@pytest.mark.parametrize(
    ("methods", "state"),
    [
        ((), VmPowerState.HALTED),
        (("VM.start",), VmPowerState.RUNNING),
        (("VM.start", "VM.pause"), VmPowerState.PAUSED),
        (("VM.start", "VM.suspend"), VmPowerState.SUSPENDED),
    ],
)
def test_a_vm_offers_what_its_power_state_allows(methods: tuple[str, ...], state: VmPowerState) -> None:
    w = World.new()
    vm = w.vm()
    for method in methods:
        extra = {"start_paused": False, "force": False} if method == "VM.start" else {}
        w.call(method, vm=vm, **extra)
    row = w.txn.get(VM, vm)
    assert row.power_state is state
    assert {op.value for op in row.allowed_operations} == OFFERS[state]


def test_everything_offered_passes_and_everything_else_is_refused() -> None:
    w = World.new()
    vm = w.vm()
    w.start(vm)
    offered = w.txn.get(VM, vm).allowed_operations
    for operation in OFFERED:
        if operation in offered:
            w.call("VM.assert_operation_valid", self=vm, op=operation)
        else:
            with pytest.raises(Exception, match="VM_BAD_POWER_STATE"):
                w.call("VM.assert_operation_valid", self=vm, op=operation)


def test_a_template_can_be_copied_but_not_started() -> None:
    w = World.new()
    vm = w.vm()
    w.call("VM.set_is_a_template", self=vm, value=True)
    assert {op.value for op in w.txn.get(VM, vm).allowed_operations} == {
        "changing_NVRAM",
        "changing_dynamic_range",
        "changing_static_range",
        "clone",
        "destroy",
        "provision",
    }
    with refused("VM_IS_TEMPLATE", vm):
        w.start(vm)


def test_the_control_domain_is_left_alone() -> None:
    w = World.new()
    domain = next(vm for vm in w.txn.all(VM) if vm.is_control_domain)
    assert {op.value for op in domain.allowed_operations} == {"changing_dynamic_range"}
    with refused("OPERATION_NOT_ALLOWED", "Operations on domain 0 are not allowed"):
        w.call("VM.hard_shutdown", vm=domain.ref)


def test_an_operation_blocked_by_its_owner_is_refused_with_the_owners_code() -> None:
    w = World.new()
    vm = w.vm()
    w.call("VM.add_to_blocked_operations", self=vm, key=VmOperations.START, value="KEEP_OFF")
    with refused("OPERATION_BLOCKED", vm, "KEEP_OFF"):
        w.start(vm)
    with refused("MAP_DUPLICATE_KEY", "VM", "blocked_operations", vm, "start"):
        w.call("VM.add_to_blocked_operations", self=vm, key=VmOperations.START, value="KEEP_OFF")
    w.call("VM.remove_from_blocked_operations", self=vm, key=VmOperations.START)
    w.start(vm)
