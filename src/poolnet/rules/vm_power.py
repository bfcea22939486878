"""What happens when a VM starts, stops, sleeps and wakes? See spec §17.1, §17.2.

The guest is made before the host's network changes, so that its ports can be connected, and runs after it; it is asked
to end before, and is removed after.
"""

from __future__ import annotations

from typing import Final

from poolnet.hostnet import protocol
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_guest_metrics import VMGuestMetrics
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import DomainType, OnNormalExit, VmOperations, VmPowerState
from poolnet.model.types import NULL, Ref
from poolnet.rules import functions, ha_plan
from poolnet.rules.allowed import domain_type, refresh_vm, require_vm
from poolnet.rules.attach import attach_network
from poolnet.rules.context import CallContext
from poolnet.rules.features import Feature, require_feature, the_pool
from poolnet.rules.kinds import is_sriov_network
from poolnet.rules.placement import choose_host, require_can_boot
from poolnet.rules.vif import NO_DOMAIN, guest_nic, mark_attached, require_lockable, require_trunkable
from poolnet.rules.vm import discard_image
from poolnet.rules.vm_settings import require_bootable

LIBVIRT_DOMAIN: Final = "libvirt-domain"
"""The key of a VM's other_config that names the libvirt domain that it is."""
_SLEEPING = (VmPowerState.HALTED, VmPowerState.SUSPENDED)


def start(ctx: CallContext, *, vm: Ref[VM], start_paused: bool, force: bool) -> None:
    """Starts a VM on a host of the pool's choice, with all its VIFs attached.

    `force` would skip checks of the guest's hardware, which poolnet does not make.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, VM_IS_TEMPLATE, OPERATION_NOT_ALLOWED,
        LICENCE_RESTRICTION, VM_HVM_REQUIRED (with VIFs on SR-IOV networks), INVALID_VALUE,
        MEMORY_CONSTRAINT_VIOLATION, VM_HAS_SRIOV_VIF, HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED (of a VM to be
        protected), NETWORK_SRIOV_INSUFFICIENT_CAPACITY, NO_HOSTS_AVAILABLE, BRIDGE_NOT_AVAILABLE,
        HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: in this order.
    """
    row = _startable(ctx, vm, VmOperations.START)
    ha_plan.require_protectable(ctx, row)
    _start_on(ctx, row, choose_host(ctx, row), start_paused=start_paused)
    ha_plan.require_plan(ctx)


def start_on(ctx: CallContext, *, vm: Ref[VM], host: Ref[Host], start_paused: bool, force: bool) -> None:
    """Starts a VM on this host, with all its VIFs attached.

    Raises:
        (as start, but instead of NO_HOSTS_AVAILABLE:) HOST_NOT_LIVE, HOST_DISABLED, VM_REQUIRES_NETWORK,
        HOST_CANNOT_ATTACH_NETWORK.
    """
    row = _startable(ctx, vm, VmOperations.START_ON)
    ha_plan.require_protectable(ctx, row)
    require_can_boot(ctx, vm, host)
    _start_on(ctx, row, host, start_paused=start_paused)
    ha_plan.require_plan(ctx)


def start_protected(ctx: CallContext, *, vm: Ref[VM], host: Ref[Host]) -> None:
    """Starts a VM that has lost its host, on this one. It is what plans are for, so none is asked for.

    Raises:
        (as start_on, but HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN)
    """
    row = _startable(ctx, vm, VmOperations.START_ON)
    require_can_boot(ctx, vm, host)
    _start_on(ctx, row, host, start_paused=False)


def _startable(ctx: CallContext, ref: Ref[VM], operation: VmOperations) -> VM:
    vm = ctx.txn.get(VM, ref)
    require_vm(vm, operation)
    require_feature(ctx.txn, Feature.VM_START)
    if functions.wants_functions(ctx.txn, ref):
        require_feature(ctx.txn, Feature.NETWORK_SRIOV)
        _require_functions_usable(ctx, vm)
    require_bootable(vm)
    return vm


def _require_functions_usable(ctx: CallContext, vm: VM) -> None:
    """Lets a VM with VIFs on SR-IOV networks start if its guest sees PCI devices, and nothing is promised of them.

    Raises:
        VM_HVM_REQUIRED: The guest is not fully virtualized.
        OPERATION_NOT_ALLOWED: Such a VIF is locked or a trunk: its network had no virtual functions when it was made so.
    """
    if domain_type(vm) is not DomainType.HVM:
        raise errors.vm_hvm_required(vm.ref)
    for vif in ctx.txn.where(VIF, VM=vm.ref):
        require_lockable(ctx.txn, vif.network, vif.locking_mode)
        if vif.trunks and is_sriov_network(ctx.txn, vif.network):
            require_trunkable(ctx, vif.network)


def _start_on(ctx: CallContext, vm: VM, host: Ref[Host], *, start_paused: bool) -> None:
    vifs = ctx.txn.where(VIF, VM=vm.ref)
    for vif in vifs:
        attach_network(ctx, vif.network, host, force=False)
        mark_attached(ctx, vif, host)
        functions.take(ctx.txn, vm.ref, vif, host)
    domid = ctx.counters.take_domid(host)
    _write_running(ctx, vm, host, domid, paused=start_paused)
    _write_metrics(ctx, vm)
    ctx.before(host, protocol.CreateGuest(guest=guest_spec(ctx, vm, domid, vifs)))
    if not start_paused:
        ctx.after(host, protocol.RunGuest(vm_uuid=vm.uuid))
    refresh_vm(ctx.txn, vm.ref)


def guest_spec(ctx: CallContext, vm: VM, domid: int, vifs: tuple[VIF, ...]) -> protocol.GuestSpec:
    """What the runtime must know of a guest whose VIFs have been marked as attached."""
    nics = tuple(sorted((guest_nic(ctx, vif) for vif in vifs), key=lambda nic: nic.device))
    return protocol.GuestSpec(
        vm_uuid=vm.uuid,
        name=vm.name_label,
        domid=domid,
        nics=nics,
        memory_bytes=vm.memory_static_max,
        vcpus=vm.VCPUs_at_startup,
        domain=vm.other_config.get(LIBVIRT_DOMAIN, ""),
    )


def _write_running(ctx: CallContext, vm: VM, host: Ref[Host], domid: int, *, paused: bool) -> None:
    ctx.txn.update(
        VM,
        vm.ref,
        power_state=VmPowerState.PAUSED if paused else VmPowerState.RUNNING,
        resident_on=host,
        scheduled_to_be_resident_on=NULL,
        domid=domid,
        requires_reboot=False,
        ha_always_run=vm.ha_always_run or vm.ha_restart_priority == ha_plan.RESTART,
    )


def _write_metrics(ctx: CallContext, vm: VM) -> None:
    """Notes when and how the VM was started, and gives it an empty record of what its guest says."""
    kind = domain_type(vm)
    if ctx.txn.exists(VMMetrics, vm.metrics):
        ctx.txn.update(
            VMMetrics,
            vm.metrics,
            start_time=ctx.now,
            last_updated=ctx.now,
            current_domain_type=kind,
            hvm=kind is DomainType.HVM,
            VCPUs_number=vm.VCPUs_at_startup,
            memory_actual=vm.memory_static_max,
            nomigrate=False,
        )
    _drop_guest_metrics(ctx, vm)
    metrics = ctx.txn.create(
        VMGuestMetrics(
            ref=ctx.new_ref(), uuid=ctx.new_uuid(), PV_drivers_detected=True, live=True, last_updated=ctx.now
        )
    )
    ctx.txn.update(VM, vm.ref, guest_metrics=metrics)


def _drop_guest_metrics(ctx: CallContext, vm: VM) -> None:
    if ctx.txn.exists(VMGuestMetrics, vm.guest_metrics):
        ctx.txn.destroy(VMGuestMetrics, vm.guest_metrics)


def clean_shutdown(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Asks a running VM's guest to end, and waits for it.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.CLEAN_SHUTDOWN)
    ctx.require_live(row.resident_on)
    ctx.txn.update(VM, vm, ha_always_run=False)
    _end(ctx, row, clean=True)


def hard_shutdown(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Ends a VM at once; of a suspended one, what it left is removed.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.HARD_SHUTDOWN)
    ctx.txn.update(VM, vm, ha_always_run=False)
    if row.power_state is VmPowerState.SUSPENDED:
        discard_image(ctx, row)
        halt(ctx, row)
        return
    ctx.require_live(row.resident_on)
    _end(ctx, row, clean=False)


def shutdown(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Ends a VM: by asking its guest if it runs, else at once.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.SHUTDOWN)
    if row.power_state is VmPowerState.RUNNING:
        clean_shutdown(ctx, vm=vm)
    else:
        hard_shutdown(ctx, vm=vm)


def _end(ctx: CallContext, vm: VM, *, clean: bool) -> None:
    """Ends a guest that runs or is paused."""
    host = vm.resident_on
    if clean:
        ctx.before(host, protocol.ShutDownGuest(vm_uuid=vm.uuid))
    elif vm.attached_PCIs:  # it must not speak any more when its virtual functions are reset
        ctx.before(host, protocol.DestroyGuest(vm_uuid=vm.uuid))
    ctx.after(host, protocol.DestroyGuest(vm_uuid=vm.uuid))
    halt(ctx, vm)


def halt(ctx: CallContext, vm: VM) -> None:
    """Writes that a VM is halted: no host, no domain, no guest's record, no VIF attached (spec §17.2)."""
    _drop_guest_metrics(ctx, vm)
    ctx.txn.update(
        VM,
        vm.ref,
        power_state=VmPowerState.HALTED,
        resident_on=NULL,
        scheduled_to_be_resident_on=NULL,
        domid=NO_DOMAIN,
        guest_metrics=NULL,
        current_operations={},
    )
    functions.give_back(ctx.txn, vm.ref)
    for vif in ctx.txn.where(VIF, VM=vm.ref):
        ctx.txn.update(VIF, vif.ref, currently_attached=False, reserved=False, current_operations={})
    refresh_vm(ctx.txn, vm.ref)


def guest_ended(ctx: CallContext, *, vm: Ref[VM], domid: int) -> None:
    """Halts a VM whose guest ended by itself, unless it has been started again since. Called by the pool, not a client.

    One that is protected is kept running, unless it was shut down from inside and the pool lets it be then
    (`ha_reboot_vm_on_internal_shutdown`). A host that was fenced has ended its guests: they did not.
    """
    row = ctx.txn.find(VM, vm)
    if row is None or row.domid != domid or row.power_state in _SLEEPING:
        return
    pool, fenced = the_pool(ctx.txn), ctx.facts_of(row.resident_on).fenced
    if fenced and pool.ha_enabled and row.ha_restart_priority == ha_plan.BEST_EFFORT:
        ctx.txn.update(VM, vm, ha_always_run=True)
    elif row.ha_always_run and not (pool.ha_enabled and (fenced or pool.ha_reboot_vm_on_internal_shutdown)):
        ctx.txn.update(VM, vm, ha_always_run=False)
    _end(ctx, row, clean=False)


def clean_reboot(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Asks a running VM's guest to end, and starts it again where it ran, under a new domain id.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE,
        INVALID_VALUE, MEMORY_CONSTRAINT_VIOLATION.
    """
    _reboot(ctx, vm, VmOperations.CLEAN_REBOOT, clean=True)


def hard_reboot(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Ends a VM at once, and starts it again where it ran, under a new domain id.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE,
        INVALID_VALUE, MEMORY_CONSTRAINT_VIOLATION.
    """
    _reboot(ctx, vm, VmOperations.HARD_REBOOT, clean=False)


def _reboot(ctx: CallContext, ref: Ref[VM], operation: VmOperations, *, clean: bool) -> None:
    vm = ctx.txn.get(VM, ref)
    require_vm(vm, operation)
    host = vm.resident_on
    ctx.require_live(host)
    if clean:
        ctx.before(host, protocol.ShutDownGuest(vm_uuid=vm.uuid))
    if vm.actions_after_reboot is OnNormalExit.DESTROY:
        ctx.txn.update(VM, vm.ref, ha_always_run=False)
        ctx.after(host, protocol.DestroyGuest(vm_uuid=vm.uuid))
        halt(ctx, vm)
        return
    require_bootable(vm)
    attached = tuple(vif for vif in ctx.txn.where(VIF, VM=ref) if vif.currently_attached)
    for vif in attached:
        attach_network(ctx, vif.network, host, force=False)
        mark_attached(ctx, vif, host)
    domid = ctx.counters.take_domid(host)
    ctx.before(host, protocol.DestroyGuest(vm_uuid=vm.uuid))
    ctx.before(host, protocol.CreateGuest(guest=guest_spec(ctx, vm, domid, attached)))
    _write_running(ctx, vm, host, domid, paused=False)
    _write_metrics(ctx, vm)
    ctx.after(host, protocol.RunGuest(vm_uuid=vm.uuid))
    refresh_vm(ctx.txn, ref)


def pause(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Freezes a running VM in memory; its VIFs stay attached.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.PAUSE)
    ctx.require_live(row.resident_on)
    ctx.before(row.resident_on, protocol.PauseGuest(vm_uuid=row.uuid))
    ctx.txn.update(VM, vm, power_state=VmPowerState.PAUSED)
    refresh_vm(ctx.txn, vm)


def unpause(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Lets a paused VM go on.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.UNPAUSE)
    ctx.require_live(row.resident_on)
    ctx.after(row.resident_on, protocol.RunGuest(vm_uuid=row.uuid))
    ctx.txn.update(VM, vm, power_state=VmPowerState.RUNNING)
    refresh_vm(ctx.txn, vm)


def suspend(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Writes a running VM away; its VIFs stay marked as attached (spec §17.2).

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED, HOST_OFFLINE.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.SUSPEND)
    ctx.require_live(row.resident_on)
    ctx.before(row.resident_on, protocol.PauseGuest(vm_uuid=row.uuid))  # so that it misses no frame unnoticed
    ctx.after(row.resident_on, protocol.SuspendGuest(vm_uuid=row.uuid))
    ctx.txn.update(
        VM, vm, power_state=VmPowerState.SUSPENDED, resident_on=NULL, domid=NO_DOMAIN, ha_always_run=False
    )
    refresh_vm(ctx.txn, vm)


def resume(ctx: CallContext, *, vm: Ref[VM], start_paused: bool, force: bool) -> None:
    """Brings a suspended VM back on a host of the pool's choice.

    Raises:
        OPERATION_BLOCKED, VM_BAD_POWER_STATE, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED,
        NO_HOSTS_AVAILABLE, BRIDGE_NOT_AVAILABLE, HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: in this order.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.RESUME)
    ha_plan.require_protectable(ctx, row)
    _resume_on(ctx, row, choose_host(ctx, row), start_paused=start_paused)
    ha_plan.require_plan(ctx)


def resume_on(ctx: CallContext, *, vm: Ref[VM], host: Ref[Host], start_paused: bool, force: bool) -> None:
    """Brings a suspended VM back on this host.

    Raises:
        (as resume, but instead of NO_HOSTS_AVAILABLE:) HOST_NOT_LIVE, HOST_DISABLED, VM_REQUIRES_NETWORK,
        HOST_CANNOT_ATTACH_NETWORK.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.RESUME_ON)
    ha_plan.require_protectable(ctx, row)
    require_can_boot(ctx, vm, host)
    _resume_on(ctx, row, host, start_paused=start_paused)
    ha_plan.require_plan(ctx)


def _resume_on(ctx: CallContext, vm: VM, host: Ref[Host], *, start_paused: bool) -> None:
    attached = tuple(vif for vif in ctx.txn.where(VIF, VM=vm.ref) if vif.currently_attached)
    for vif in attached:
        attach_network(ctx, vif.network, host, force=False)
        mark_attached(ctx, vif, host)
        functions.take(ctx.txn, vm.ref, vif, host)
    domid = ctx.counters.take_domid(host)
    _write_running(ctx, vm, host, domid, paused=start_paused)
    ctx.before(host, protocol.ResumeGuest(guest=guest_spec(ctx, vm, domid, attached)))
    if not start_paused:
        ctx.after(host, protocol.RunGuest(vm_uuid=vm.uuid))
    refresh_vm(ctx.txn, vm.ref)


def power_state_reset(ctx: CallContext, *, vm: Ref[VM]) -> None:
    """Writes that a VM is halted, whatever became of its guest; what a live host still has of it is removed.

    Raises:
        OPERATION_BLOCKED, OTHER_OPERATION_IN_PROGRESS, OPERATION_NOT_ALLOWED: in this order.
    """
    row = ctx.txn.get(VM, vm)
    require_vm(row, VmOperations.POWER_STATE_RESET)
    if row.power_state not in _SLEEPING and ctx.is_live(row.resident_on):
        ctx.after(row.resident_on, protocol.DestroyGuest(vm_uuid=row.uuid))
    elif row.power_state is VmPowerState.SUSPENDED:
        discard_image(ctx, row)
    ctx.txn.update(VM, vm, ha_always_run=False)
    halt(ctx, row)
