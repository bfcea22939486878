"""How may the settings of a VM be changed? The messages that are more than a plain setter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.model import errors
from poolnet.model.classes.vm import VM
from poolnet.model.elsewhere import VDI, VMSS, VMAppliance
from poolnet.model.enums import DomainType, OnCrashBehaviour, VmOperations, VmPowerState
from poolnet.model.types import Ref
from poolnet.rules.allowed import refresh_vm, require_vm
from poolnet.rules.context import CallContext
from poolnet.rules.ha_plan import BEST_EFFORT, RESTART, require_plan, require_protectable

HA_PRIORITIES: Final = (RESTART, BEST_EFFORT, "")
MEMORY_ORDER: Final = "Memory limits must satisfy: static_min <= dynamic_min <= dynamic_max <= static_max"


def require_bootable(vm: VM) -> None:
    """Lets a VM start whose numbers make sense; until then any are accepted.

    Raises:
        INVALID_VALUE: It has no virtual CPU, or more at start than at most.
        MEMORY_CONSTRAINT_VIOLATION: Its memory limits are out of order.
    """
    _require_vcpus(vm.VCPUs_max, vm.VCPUs_at_startup)
    _require_memory(vm.memory_static_min, vm.memory_dynamic_min, vm.memory_dynamic_max, vm.memory_static_max)


def _require_vcpus(maximum: int, at_startup: int) -> None:
    if maximum < 1:
        raise errors.invalid_value("VCPUs_max", str(maximum))
    if not 1 <= at_startup <= maximum:
        raise errors.invalid_value("VCPUs_at_startup", str(at_startup))


def _require_memory(static_min: int, dynamic_min: int, dynamic_max: int, static_max: int) -> None:
    if not 0 <= static_min <= dynamic_min <= dynamic_max <= static_max:
        raise errors.Failure("MEMORY_CONSTRAINT_VIOLATION", MEMORY_ORDER)


def _require(ctx: CallContext, ref: Ref[VM], operation: VmOperations) -> VM:
    vm = ctx.txn.get(VM, ref)
    require_vm(vm, operation)
    return vm


# --- templates and protection ----------------------------------------------------------------------------------


def set_is_a_template(ctx: CallContext, *, self: Ref[VM], value: bool) -> None:
    """Makes a halted VM a template, or a template a VM.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED: Only to make one.
    """
    vm = ctx.txn.get(VM, self)
    if value and not vm.is_a_template:
        require_vm(vm, VmOperations.MAKE_INTO_TEMPLATE)
    ctx.txn.update(VM, self, is_a_template=value)
    refresh_vm(ctx.txn, self)


def set_is_default_template(ctx: CallContext, *, vm: Ref[VM], value: bool) -> None:
    """Marks a template as one that came with the system."""
    ctx.txn.update(VM, vm, is_default_template=value)


def set_ha_always_run(ctx: CallContext, *, self: Ref[VM], value: bool) -> None:
    """Says whether the pool is to keep the VM running; clients that know better set its priority.

    Raises:
        VM_HAS_SRIOV_VIF, HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED, HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: With high
            availability, and the priority `restart`.
    """
    vm = ctx.txn.get(VM, self)
    if value:
        require_protectable(ctx, vm)
    ctx.txn.update(VM, self, ha_always_run=value)
    if value:
        require_plan(ctx)


def set_ha_restart_priority(ctx: CallContext, *, self: Ref[VM], value: str) -> None:
    """Says how hard the pool is to try to keep the VM running.

    With `restart` a VM that runs is protected from now on.

    Raises:
        INVALID_VALUE: It is none of restart, best-effort and "".
        VM_HAS_SRIOV_VIF, HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED: With high availability, a VM with `restart` has to be
            able to run on every enabled host.
        HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: With high availability, there is no plan with this VM.
    """
    vm = ctx.txn.get(VM, self)
    if value not in HA_PRIORITIES:
        raise errors.invalid_value("ha_restart_priority", value)
    if value == vm.ha_restart_priority:
        return
    runs = value == RESTART and vm.power_state in (VmPowerState.RUNNING, VmPowerState.PAUSED)
    ctx.txn.update(VM, self, ha_restart_priority=value, ha_always_run=runs)
    require_protectable(ctx, ctx.txn.get(VM, self))
    if runs:
        require_plan(ctx)


# --- memory ----------------------------------------------------------------------------------------------------


def _set_memory(
    ctx: CallContext,
    ref: Ref[VM],
    operation: VmOperations,
    *,
    static_min: int | None = None,
    static_max: int | None = None,
    dynamic_min: int | None = None,
    dynamic_max: int | None = None,
) -> None:
    vm = _require(ctx, ref, operation)
    s_min = vm.memory_static_min if static_min is None else static_min
    s_max = vm.memory_static_max if static_max is None else static_max
    d_min = vm.memory_dynamic_min if dynamic_min is None else dynamic_min
    d_max = vm.memory_dynamic_max if dynamic_max is None else dynamic_max
    _require_memory(s_min, d_min, d_max, s_max)
    ctx.txn.update(
        VM,
        ref,
        memory_static_min=s_min,
        memory_static_max=s_max,
        memory_dynamic_min=d_min,
        memory_dynamic_max=d_max,
    )


def set_memory_dynamic_max(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the most memory a running VM is given, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(ctx, self, VmOperations.CHANGING_DYNAMIC_RANGE, dynamic_max=value)


def set_memory_dynamic_min(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the least memory a running VM is given, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(ctx, self, VmOperations.CHANGING_DYNAMIC_RANGE, dynamic_min=value)


def set_memory_dynamic_range(ctx: CallContext, *, self: Ref[VM], min: int, max: int) -> None:
    """Sets least and most memory of a running VM, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(ctx, self, VmOperations.CHANGING_DYNAMIC_RANGE, dynamic_min=min, dynamic_max=max)


def set_memory_static_max(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the most memory a VM is started with, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(ctx, self, VmOperations.CHANGING_STATIC_RANGE, static_max=value)


def set_memory_static_min(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the least memory a VM can be started with, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(ctx, self, VmOperations.CHANGING_STATIC_RANGE, static_min=value)


def set_memory_static_range(ctx: CallContext, *, self: Ref[VM], min: int, max: int) -> None:
    """Sets both static limits, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(ctx, self, VmOperations.CHANGING_STATIC_RANGE, static_min=min, static_max=max)


def set_memory_limits(
    ctx: CallContext, *, self: Ref[VM], static_min: int, static_max: int, dynamic_min: int, dynamic_max: int
) -> None:
    """Sets all four limits, in bytes; MEMORY_CONSTRAINT_VIOLATION if out of order."""
    _set_memory(
        ctx,
        self,
        VmOperations.CHANGING_MEMORY_LIMITS,
        static_min=static_min,
        static_max=static_max,
        dynamic_min=dynamic_min,
        dynamic_max=dynamic_max,
    )


def set_memory(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets all limits but the static minimum to one value, in bytes; MEMORY_CONSTRAINT_VIOLATION if below that."""
    _set_memory(
        ctx,
        self,
        VmOperations.CHANGING_MEMORY_LIMITS,
        static_max=value,
        dynamic_min=value,
        dynamic_max=value,
    )


# --- virtual CPUs and hardware ---------------------------------------------------------------------------------


def set_VCPUs_max(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets how many virtual CPUs a halted VM has at most; INVALID_VALUE below one or below those at start."""
    vm = _require(ctx, self, VmOperations.CHANGING_VCPUS)
    if value < max(1, vm.VCPUs_at_startup):
        raise errors.invalid_value("VCPUs_max", str(value))
    ctx.txn.update(VM, self, VCPUs_max=value)


def set_VCPUs_at_startup(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets how many virtual CPUs a halted VM starts with; INVALID_VALUE below one or above the most."""
    vm = _require(ctx, self, VmOperations.CHANGING_VCPUS)
    if not 1 <= value <= vm.VCPUs_max:
        raise errors.invalid_value("VCPUs_at_startup", str(value))
    ctx.txn.update(VM, self, VCPUs_at_startup=value)


def set_HVM_shadow_multiplier(ctx: CallContext, *, self: Ref[VM], value: float) -> None:
    """Sets the factor of a halted VM's shadow memory; INVALID_VALUE below one."""
    _require(ctx, self, VmOperations.CHANGING_SHADOW_MEMORY)
    if value < 1.0:
        raise errors.invalid_value("HVM_shadow_multiplier", f"{value:.16g}")
    ctx.txn.update(VM, self, HVM_shadow_multiplier=value)


def set_HVM_boot_policy(ctx: CallContext, *, self: Ref[VM], value: str) -> None:
    """Sets how a fully virtualized VM boots; the VM's kind follows, as old clients expect."""
    ctx.txn.update(VM, self, HVM_boot_policy=value, domain_type=DomainType.HVM if value else DomainType.PV)


def set_domain_type(ctx: CallContext, *, self: Ref[VM], value: DomainType) -> None:
    """Sets how a halted VM is virtualized; VM_BAD_POWER_STATE if it is not halted."""
    vm = ctx.txn.get(VM, self)
    if vm.power_state is not VmPowerState.HALTED:
        raise errors.vm_bad_power_state(self, "halted", vm.power_state.value.lower())
    ctx.txn.update(VM, self, domain_type=value)


def set_NVRAM(ctx: CallContext, *, self: Ref[VM], value: Mapping[str, str]) -> None:
    """Sets what a halted VM's firmware remembers."""
    _require(ctx, self, VmOperations.CHANGING_NVRAM)
    ctx.txn.update(VM, self, NVRAM=dict(value))


def add_to_NVRAM(ctx: CallContext, *, self: Ref[VM], key: str, value: str) -> None:
    """Adds to what a halted VM's firmware remembers; MAP_DUPLICATE_KEY if the key is there."""
    vm = _require(ctx, self, VmOperations.CHANGING_NVRAM)
    ctx.txn.update(VM, self, NVRAM=_added(vm.NVRAM, "NVRAM", self, key, value))


def remove_from_NVRAM(ctx: CallContext, *, self: Ref[VM], key: str) -> None:
    """Removes something that a halted VM's firmware remembers; an absent key is no error."""
    vm = _require(ctx, self, VmOperations.CHANGING_NVRAM)
    ctx.txn.update(VM, self, NVRAM=_without(vm.NVRAM, key))


def set_bios_strings(ctx: CallContext, *, self: Ref[VM], value: Mapping[str, str]) -> None:
    """Sets the texts that the VM's firmware shows."""
    ctx.txn.update(VM, self, bios_strings=dict(value))


def set_has_vendor_device(ctx: CallContext, *, self: Ref[VM], value: bool) -> None:
    """Says whether the VM has the device by which Windows finds its drivers."""
    ctx.txn.update(VM, self, has_vendor_device=value)


# --- maps and plain fields -------------------------------------------------------------------------------------


def _added(values: Mapping[str, str], field: str, ref: Ref[VM], key: str, value: str) -> dict[str, str]:
    if key in values:
        raise errors.map_duplicate_key("VM", field, ref, key)
    return {**values, key: value}


def _without(values: Mapping[str, str], key: str) -> dict[str, str]:
    return {k: v for k, v in values.items() if k != key}


def set_other_config(ctx: CallContext, *, self: Ref[VM], value: Mapping[str, str]) -> None:
    """Sets the VM's further settings."""
    ctx.txn.update(VM, self, other_config=dict(value))


def add_to_other_config(ctx: CallContext, *, self: Ref[VM], key: str, value: str) -> None:
    """Adds one of the VM's further settings; MAP_DUPLICATE_KEY if the key is there."""
    vm = ctx.txn.get(VM, self)
    ctx.txn.update(VM, self, other_config=_added(vm.other_config, "other_config", self, key, value))


def remove_from_other_config(ctx: CallContext, *, self: Ref[VM], key: str) -> None:
    """Removes one of the VM's further settings; an absent key is no error."""
    ctx.txn.update(VM, self, other_config=_without(ctx.txn.get(VM, self).other_config, key))


def set_platform(ctx: CallContext, *, self: Ref[VM], value: Mapping[str, str]) -> None:
    """Sets the VM's platform flags."""
    ctx.txn.update(VM, self, platform=dict(value))


def add_to_platform(ctx: CallContext, *, self: Ref[VM], key: str, value: str) -> None:
    """Adds a platform flag; MAP_DUPLICATE_KEY if the key is there."""
    vm = ctx.txn.get(VM, self)
    ctx.txn.update(VM, self, platform=_added(vm.platform, "platform", self, key, value))


def remove_from_platform(ctx: CallContext, *, self: Ref[VM], key: str) -> None:
    """Removes a platform flag; an absent key is no error."""
    ctx.txn.update(VM, self, platform=_without(ctx.txn.get(VM, self).platform, key))


def set_blocked_operations(ctx: CallContext, *, self: Ref[VM], value: Mapping[VmOperations, str]) -> None:
    """Says which operations the VM's owner forbids, and with which code each is refused."""
    ctx.txn.update(VM, self, blocked_operations=dict(value))
    refresh_vm(ctx.txn, self)


def add_to_blocked_operations(ctx: CallContext, *, self: Ref[VM], key: VmOperations, value: str) -> None:
    """Forbids an operation; MAP_DUPLICATE_KEY if it is forbidden."""
    blocked = ctx.txn.get(VM, self).blocked_operations
    if key in blocked:
        raise errors.map_duplicate_key("VM", "blocked_operations", self, key.value)
    set_blocked_operations(ctx, self=self, value={**blocked, key: value})


def remove_from_blocked_operations(ctx: CallContext, *, self: Ref[VM], key: VmOperations) -> None:
    """Forbids an operation no longer; one that is not forbidden is no error."""
    blocked = ctx.txn.get(VM, self).blocked_operations
    set_blocked_operations(ctx, self=self, value={k: v for k, v in blocked.items() if k is not key})


def set_actions_after_crash(ctx: CallContext, *, self: Ref[VM], value: OnCrashBehaviour) -> None:
    """Says what is done when the guest crashes."""
    ctx.txn.update(VM, self, actions_after_crash=value)


def _require_not_negative(field: str, value: int) -> None:
    if value < 0:
        raise errors.invalid_value(field, str(value))


def set_start_delay(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the seconds to wait before the next VM is started; INVALID_VALUE below zero."""
    _require_not_negative("start_delay", value)
    ctx.txn.update(VM, self, start_delay=value)


def set_shutdown_delay(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the seconds to wait before the next VM is shut down; INVALID_VALUE below zero."""
    _require_not_negative("shutdown_delay", value)
    ctx.txn.update(VM, self, shutdown_delay=value)


def set_order(ctx: CallContext, *, self: Ref[VM], value: int) -> None:
    """Sets the VM's place in the order of starting; INVALID_VALUE below zero."""
    _require_not_negative("order", value)
    ctx.txn.update(VM, self, order=value)


def set_suspend_VDI(ctx: CallContext, *, self: Ref[VM], value: Ref[VDI]) -> None:
    """Notes where a suspended VM is kept; only the record changes."""
    ctx.txn.update(VM, self, suspend_VDI=value)


def set_snapshot_schedule(ctx: CallContext, *, self: Ref[VM], value: Ref[VMSS]) -> None:
    """Notes the VM's snapshot schedule; only the record changes."""
    ctx.txn.update(VM, self, snapshot_schedule=value)


def set_appliance(ctx: CallContext, *, self: Ref[VM], value: Ref[VMAppliance]) -> None:
    """Notes the appliance that the VM belongs to; only the record changes."""
    ctx.txn.update(VM, self, appliance=value)
