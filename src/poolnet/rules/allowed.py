"""Which operations may be done to a VM or a VIF now, and what refuses the others? See spec §15.4.

The tables give the field allowed_operations, which clients build their menus from, and the error of a refused call;
both come from the same rules, in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.db.txn import Txn, View
from poolnet.model import errors
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import DomainType, TristateType, VifOperations, VmOperations, VmPowerState
from poolnet.model.types import Ref
from poolnet.rules.kinds import is_sriov_network

_HALTED: Final = (VmPowerState.HALTED,)
_RUNNING: Final = (VmPowerState.RUNNING,)
_PAUSED: Final = (VmPowerState.PAUSED,)
_SUSPENDED: Final = (VmPowerState.SUSPENDED,)
_LIVE_OR_SUSPENDED: Final = (VmPowerState.PAUSED, VmPowerState.RUNNING, VmPowerState.SUSPENDED)

VM_STATES: Final[Mapping[VmOperations, tuple[VmPowerState, ...]]] = {
    VmOperations.START: _HALTED,
    VmOperations.START_ON: _HALTED,
    VmOperations.PROVISION: _HALTED,
    VmOperations.MAKE_INTO_TEMPLATE: _HALTED,
    VmOperations.CLONE: _HALTED,  # a suspended guest's memory cannot be copied
    VmOperations.COPY: (VmPowerState.HALTED, VmPowerState.SUSPENDED),
    VmOperations.EXPORT: (VmPowerState.HALTED, VmPowerState.SUSPENDED),
    VmOperations.DESTROY: (VmPowerState.HALTED, VmPowerState.SUSPENDED),
    VmOperations.CHANGING_STATIC_RANGE: _HALTED,
    VmOperations.CHANGING_MEMORY_LIMITS: _HALTED,
    VmOperations.CHANGING_VCPUS: _HALTED,
    VmOperations.CHANGING_NVRAM: _HALTED,
    VmOperations.CHANGING_SHADOW_MEMORY: _HALTED,
    VmOperations.UNPAUSE: _PAUSED,
    VmOperations.PAUSE: _RUNNING,
    VmOperations.SUSPEND: _RUNNING,
    VmOperations.CLEAN_SHUTDOWN: _RUNNING,
    VmOperations.CLEAN_REBOOT: _RUNNING,
    VmOperations.POOL_MIGRATE: _RUNNING,
    VmOperations.SEND_SYSRQ: _RUNNING,
    VmOperations.SEND_TRIGGER: _RUNNING,
    VmOperations.CHANGING_VCPUS_LIVE: _RUNNING,
    VmOperations.CHANGING_MEMORY_LIVE: _RUNNING,
    VmOperations.CHANGING_SHADOW_MEMORY_LIVE: _RUNNING,
    VmOperations.HARD_REBOOT: (VmPowerState.PAUSED, VmPowerState.RUNNING),
    VmOperations.HARD_SHUTDOWN: _LIVE_OR_SUSPENDED,
    VmOperations.SHUTDOWN: _LIVE_OR_SUSPENDED,
    VmOperations.CHECKPOINT: (VmPowerState.RUNNING, VmPowerState.SUSPENDED),
    VmOperations.RESUME: _SUSPENDED,
    VmOperations.RESUME_ON: _SUSPENDED,
    VmOperations.CSVM: _SUSPENDED,
}
"""The power states in which a VM can be operated on; operations that are not listed can always be done."""

OFFERED: Final = (
    VmOperations.CLONE,
    VmOperations.START,
    VmOperations.START_ON,
    VmOperations.PAUSE,
    VmOperations.UNPAUSE,
    VmOperations.CLEAN_SHUTDOWN,
    VmOperations.CLEAN_REBOOT,
    VmOperations.HARD_SHUTDOWN,
    VmOperations.HARD_REBOOT,
    VmOperations.SUSPEND,
    VmOperations.POOL_MIGRATE,
    VmOperations.RESUME,
    VmOperations.RESUME_ON,
    VmOperations.CHANGING_DYNAMIC_RANGE,
    VmOperations.CHANGING_STATIC_RANGE,
    VmOperations.CHANGING_NVRAM,
    VmOperations.PROVISION,
    VmOperations.MAKE_INTO_TEMPLATE,
    VmOperations.DESTROY,
)
"""What allowed_operations may list: what poolnet can do."""

_OF_TEMPLATES: Final = frozenset(
    {
        VmOperations.CLONE,
        VmOperations.COPY,
        VmOperations.EXPORT,
        VmOperations.METADATA_EXPORT,
        VmOperations.PROVISION,
        VmOperations.DESTROY,
        VmOperations.CHANGING_STATIC_RANGE,
        VmOperations.CHANGING_DYNAMIC_RANGE,
        VmOperations.CHANGING_MEMORY_LIMITS,
        VmOperations.CHANGING_VCPUS,
        VmOperations.CHANGING_NVRAM,
        VmOperations.CHANGING_SHADOW_MEMORY,
    }
)
_OF_CONTROL_DOMAINS: Final = frozenset(
    {
        VmOperations.DATA_SOURCE_OP,
        VmOperations.METADATA_EXPORT,
        VmOperations.UPDATE_ALLOWED_OPERATIONS,
        VmOperations.ASSERT_OPERATION_VALID,
        VmOperations.CHANGING_DYNAMIC_RANGE,
        VmOperations.CHANGING_MEMORY_LIVE,
    }
)
_STOPPING: Final = (
    VmOperations.CLEAN_SHUTDOWN,
    VmOperations.HARD_SHUTDOWN,
    VmOperations.SUSPEND,
    VmOperations.PAUSE,
)


_STAYING: Final = (
    VmOperations.SUSPEND,
    VmOperations.CHECKPOINT,
    VmOperations.POOL_MIGRATE,
    VmOperations.MIGRATE_SEND,
)
"""What cannot be done to a VM that has a device of its host: its state, or the VM, would leave without it."""


def vm_refusal(vm: VM, operation: VmOperations) -> errors.Failure | None:
    """What forbids an operation on a VM, by the first rule that does; None if it may be done.

    Blocked by the user; the power state; another operation; templates; control domains; devices of the host.
    """
    if operation in vm.blocked_operations:
        return errors.operation_blocked(vm.ref, vm.blocked_operations[operation])
    states = VM_STATES.get(operation)
    if states is not None and vm.power_state not in states:
        expected = ", ".join(state.value.lower() for state in states)
        return errors.vm_bad_power_state(vm.ref, expected, vm.power_state.value.lower())
    if vm.current_operations:
        types = "; ".join(op.value for op in vm.current_operations.values())
        details = (f"{{{types}}}", f"{{{'; '.join(vm.current_operations)}}}")
        return errors.other_operation_in_progress("VM", vm.ref, details)
    if vm.is_a_template and VM_STATES.get(operation) and operation not in _OF_TEMPLATES:
        return errors.vm_is_template(vm.ref)
    if vm.is_control_domain and operation not in _OF_CONTROL_DOMAINS:
        return errors.operation_not_allowed("Operations on domain 0 are not allowed")
    if vm.attached_PCIs and operation in _STAYING:
        return errors.vm_has_pci_attached(vm.ref)
    return None


def require_vm(vm: VM, operation: VmOperations) -> None:
    """Lets an operation on a VM go on.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, VM_IS_TEMPLATE, OPERATION_NOT_ALLOWED,
        VM_HAS_PCI_ATTACHED: in this order.
    """
    refusal = vm_refusal(vm, operation)
    if refusal is not None:
        raise refusal


def vif_refusal(view: View, vif: VIF, operation: VifOperations) -> errors.Failure | None:
    """What forbids an operation on a VIF, by the first rule of spec §15.4 that does; None if it may be done."""
    if vif.current_operations:
        types = "; ".join(op.value for op in vif.current_operations.values())
        details = (f"{{{types}}}", f"{{{'; '.join(vif.current_operations)}}}")
        return errors.other_operation_in_progress("VIF", vif.ref, details)
    if operation is VifOperations.ATTACH:
        return None
    vm = view.get(VM, vif.VM)
    if vm.is_control_domain and operation is VifOperations.PLUG:
        return errors.operation_not_allowed("Control domain does not support hotplug")
    if is_sriov_network(view, vif.network):
        return errors.operation_not_allowed("Network SR-IOV VIF plug/unplug not allowed")
    if vm.power_state is not VmPowerState.RUNNING:
        return errors.vm_bad_power_state(vm.ref, "running", vm.power_state.value.lower())
    if operation is VifOperations.PLUG and (vif.currently_attached or vif.reserved):
        return errors.device_already_attached(vif.ref)
    if operation is VifOperations.UNPLUG and not vif.currently_attached:
        return errors.device_already_detached(vif.ref)
    stopping = next((op for op in vm.current_operations.values() if op in _STOPPING), None)
    if stopping is not None:
        return errors.operation_not_allowed(f"Current operation on VM:{vm.ref} is {stopping.value}")
    return _guest_refusal(view, vm)


def _guest_refusal(view: View, vm: VM) -> errors.Failure | None:
    """A guest with full virtualization must be able to take a device while it runs."""
    if domain_type(vm) is not DomainType.HVM:
        return None
    metrics = view.find(VMGuestMetrics, vm.guest_metrics)
    if metrics is not None and metrics.can_use_hotplug_vif is TristateType.NO:
        return errors.operation_not_allowed("VM states it does not support VIF hotplug.")
    knows = metrics is not None and (
        metrics.can_use_hotplug_vif is TristateType.YES or metrics.PV_drivers_detected
    )
    return None if knows else errors.vm_missing_pv_drivers(vm.ref)


def domain_type(vm: VM) -> DomainType:
    """How the VM is virtualized: as it says, or by whether it has a boot policy for full virtualization."""
    if vm.domain_type is not DomainType.UNSPECIFIED:
        return vm.domain_type
    return DomainType.HVM if vm.HVM_boot_policy else DomainType.PV


def require_vif(view: View, vif: VIF, operation: VifOperations) -> None:
    """Lets an operation on a VIF go on.

    Raises:
        OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, DEVICE_ALREADY_ATTACHED, DEVICE_ALREADY_DETACHED,
        VM_BAD_POWER_STATE, VM_MISSING_PV_DRIVERS: by the first rule of spec §15.4 that forbids it.
    """
    refusal = vif_refusal(view, vif, operation)
    if refusal is not None:
        raise refusal


def refresh_vif(txn: Txn, ref: Ref[VIF]) -> None:
    """Writes what may be done to a VIF now."""
    vif = txn.get(VIF, ref)
    allowed = tuple(op for op in VifOperations if vif_refusal(txn, vif, op) is None)
    txn.update(VIF, ref, allowed_operations=allowed)


def immobile(view: View, vm: VM) -> errors.Failure | None:
    """The refusal for a VM that cannot go to another host, as the one where it runs has said."""
    metrics = view.find(VMMetrics, vm.metrics)
    return errors.vm_is_immobile(vm.ref) if metrics is not None and metrics.nomigrate else None


def refresh_vm(txn: Txn, ref: Ref[VM]) -> None:
    """Writes what may be done to a VM and to all its VIFs now."""
    vm = txn.get(VM, ref)
    stays = immobile(txn, vm) is not None
    allowed = (op for op in OFFERED if vm_refusal(vm, op) is None)
    allowed_operations = tuple(op for op in allowed if not (stays and op is VmOperations.POOL_MIGRATE))
    txn.update(VM, ref, allowed_operations=allowed_operations)
    for vif in txn.where(VIF, VM=ref):
        refresh_vif(txn, vif.ref)
