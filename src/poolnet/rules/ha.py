"""What does high availability need, and what is written when it is turned on, loses a host, or restarts a VM? See spec §22.

What it refuses while it is on is with each rule; which plans there are is in `ha_plan`. That a host which is lost runs nothing
any more is for its lease to prove (docs/decisions/0025), not for a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from poolnet.db.txn import Txn, View
from poolnet.model import errors
from poolnet.model.alerts import (
    HA_ALERT_PRIORITY,
    HA_HOST_FAILED,
    HA_HOST_WAS_FENCED,
    HA_POOL_DROP_IN_PLAN_EXISTS_FOR,
    HA_POOL_OVERCOMMITTED,
    HA_PROTECTED_VM_RESTART_FAILED,
    IP_CONFIGURED_PIF_CAN_UNPLUG,
    NETWORK_ALERT_PRIORITY,
)
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.sr import SR
from poolnet.model.classes.vm import VM
from poolnet.model.enums import Cls, IpConfigurationMode, VmPowerState
from poolnet.model.types import Ref
from poolnet.rules import ha_plan
from poolnet.rules.attach import LIVE
from poolnet.rules.context import CallContext
from poolnet.rules.features import require_no_ha, the_pool
from poolnet.rules.kinds import is_bond_slave
from poolnet.rules.message import raise_alert
from poolnet.rules.vm_power import halt, start_protected

STACK: Final = "raft"
TIMEOUT: Final = "timeout"
TIMEOUT_S: Final = 30
TIMEOUT_S_MIN: Final = 5
TIMEOUT_S_MAX: Final = 600
LICENCE_KEY: Final = "enable_xha"


def timeout_s(configuration: Mapping[str, str]) -> int:
    """For how many seconds a host may go on without a proof that it sees the majority.

    Raises:
        INVALID_VALUE: It is no number, too few or too many.
    """
    text = configuration.get(TIMEOUT, str(TIMEOUT_S))
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise errors.invalid_value(f"configuration:{TIMEOUT}", text)
    if not TIMEOUT_S_MIN <= int(text) <= TIMEOUT_S_MAX:
        raise errors.invalid_value(f"configuration:{TIMEOUT}", text)
    return int(text)


def require_ready(
    ctx: CallContext, heartbeat_srs: tuple[Ref[SR], ...], configuration: Mapping[str, str]
) -> int:
    """Lets high availability be turned on; gives the timeout in seconds. SRs have no part in it, but must exist.

    Raises:
        HA_IS_ENABLED: It is on already.
        LICENCE_RESTRICTION: The pool's restrictions leave it off.
        HANDLE_INVALID: There is no such SR.
        INVALID_VALUE: The timeout.
        NO_COMPATIBLE_CLUSTER_HOST: The database is on no cluster; with the coordinator.
        HOST_OFFLINE: A host is down: whether it runs VMs nobody knows.
        REQUIRED_PIF_IS_UNPLUGGED: PIFs that must not be unplugged are; with all of them.
        HA_NO_PLAN: The pool cannot bear as many failures as it shall, and may not be overcommitted.
    """
    require_no_ha(ctx.txn)
    pool = the_pool(ctx.txn)
    if pool.restrictions.get(LICENCE_KEY, "true") != "true":
        raise errors.licence_restriction(("HA",))
    for sr in heartbeat_srs:
        ctx.txn.get(SR, sr)
    lease_s = timeout_s(configuration)
    if not ctx.servers:
        raise errors.no_compatible_cluster_host(pool.master)
    for host in ctx.txn.refs(Host):
        ctx.require_live(host)
    down = tuple(pif.ref for pif in ctx.txn.all(PIF) if pif.disallow_unplug and not pif.currently_attached)
    if down:
        raise errors.required_pif_is_unplugged(down)
    wanted = pool.ha_host_failures_to_tolerate
    if wanted and not pool.ha_allow_overcommit:
        vms = [vm for vm in ctx.txn.all(VM) if _will_be_protected(vm)]
        if ha_plan.planned_for(ctx, vms) < wanted:
            raise errors.ha_no_plan()
    return lease_s


def _will_be_protected(vm: VM) -> bool:
    return vm.ha_restart_priority == ha_plan.RESTART and vm.power_state in LIVE and ha_plan.is_guest(vm)


def forming(txn: Txn, configuration: Mapping[str, str]) -> None:
    """Writes that hosts are to take leases; high availability is not on yet."""
    pool = the_pool(txn)
    txn.update(Pool, pool.ref, ha_cluster_stack=STACK, ha_configuration=dict(configuration))


def enabled(ctx: CallContext) -> None:
    """Writes that high availability is on: all hosts have leases. VMs with the priority are kept running if they run."""
    pool = the_pool(ctx.txn)
    for vm in ctx.txn.all(VM):
        runs = _will_be_protected(vm)
        if vm.ha_always_run != runs:
            ctx.txn.update(VM, vm.ref, ha_always_run=runs)
    ctx.txn.update(Pool, pool.ref, ha_enabled=True, ha_statefiles=())
    write_peers(ctx.txn, ctx.txn.refs(Host))
    refresh_plan(ctx)
    _warn_of_interfaces(ctx)


def disabled(txn: Txn) -> None:
    """Writes that high availability is off."""
    pool = the_pool(txn)
    txn.update(
        Pool,
        pool.ref,
        ha_enabled=False,
        ha_cluster_stack="",
        ha_configuration={},
        ha_statefiles=(),
        ha_plan_exists_for=0,
        ha_overcommitted=False,
    )
    write_peers(txn, ())


def write_peers(txn: Txn, holders: Iterable[Ref[Host]]) -> None:
    """Writes which hosts have leases, to each of them: it sees the others."""
    uuids = {ref: txn.get(Host, ref).uuid for ref in holders if txn.exists(Host, ref)}
    for host in txn.all(Host):
        peers = tuple(sorted(uuid for ref, uuid in uuids.items() if ref != host.ref))
        seen = peers if host.ref in uuids else ()
        if tuple(host.ha_network_peers) != seen:
            txn.update(Host, host.ref, ha_network_peers=seen)


def _warn_of_interfaces(ctx: CallContext) -> None:
    """Raises an alert about interfaces that somebody may unplug, although they have addresses (spec §25)."""
    lines = []
    for pif in ctx.txn.all(PIF):
        has_address = pif.ip_configuration_mode is not IpConfigurationMode.NONE
        if has_address and not (pif.management or pif.disallow_unplug or is_bond_slave(ctx.txn, pif)):
            host = ctx.txn.find(Host, pif.host)
            lines.append(f"{host.name_label if host else ''}: {pif.device} (uuid: {pif.uuid})")
    if lines:
        first = (
            "A possible network anomaly was found. The following hosts possibly have storage PIFs that are not "
            "dedicated:"
        )
        _alert(
            ctx,
            IP_CONFIGURED_PIF_CAN_UNPLUG,
            Cls.POOL,
            the_pool(ctx.txn).uuid,
            "\n".join((first, *lines)),
            NETWORK_ALERT_PRIORITY,
        )


def _alert(
    ctx: CallContext, name: str, cls: Cls, uuid: str, body: str, priority: int = HA_ALERT_PRIORITY
) -> None:
    raise_alert(
        ctx.txn, ctx.new_uuid, ctx.now, name=name, priority=priority, cls=cls, obj_uuid=uuid, body=body
    )


# --- plans -----------------------------------------------------------------------------------------------------


def ha_failover_plan_exists(ctx: CallContext, *, n: int) -> bool:
    """Whether the pool can bear so many failures."""
    return n <= ha_plan.planned_for(ctx)


def ha_compute_max_host_failures_to_tolerate(ctx: CallContext) -> int:
    """How many failures the pool can bear: its protected VMs find a place, and its database a majority."""
    return ha_plan.planned_for(ctx)


def ha_compute_hypothetical_max_host_failures_to_tolerate(
    ctx: CallContext, *, configuration: Mapping[Ref[VM], str]
) -> int:
    """How many failures the pool could bear if these VMs, and no others, were protected.

    Raises:
        HANDLE_INVALID: There is no such VM.
        INVALID_VALUE: A priority is none of restart, best-effort and "".
    """
    vms = []
    for ref, priority in configuration.items():
        vm = ctx.txn.get(VM, ref)
        if priority not in (ha_plan.RESTART, ha_plan.BEST_EFFORT, ""):
            raise errors.invalid_value("ha_restart_priority", priority)
        if priority == ha_plan.RESTART:
            vms.append(vm)
    return ha_plan.planned_for(ctx, vms)


def ha_compute_vm_failover_plan(
    ctx: CallContext, *, failed_hosts: tuple[Ref[Host], ...], failed_vms: tuple[Ref[VM], ...]
) -> dict[Ref[VM], dict[str, str]]:
    """Where protected VMs would go if these hosts failed, and these VMs: `host`, or the `error_code` that keeps one.

    Raises:
        HANDLE_INVALID: There is no such host or VM.
    """
    for host in failed_hosts:
        ctx.txn.get(Host, host)
    for vm in failed_vms:
        ctx.txn.get(VM, vm)
    return {
        vm: {"error_code": where.code} if isinstance(where, errors.Failure) else {"host": where}
        for vm, where in ha_plan.failover(ctx, failed_hosts, failed_vms).items()
    }


def set_ha_host_failures_to_tolerate(ctx: CallContext, *, self: Ref[Pool], value: int) -> None:
    """Sets how many failures the pool shall bear.

    Raises:
        INVALID_VALUE: It is below zero.
        HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: High availability is on, and there is no plan for so many; unless the pool
            may be overcommitted.
    """
    pool = ctx.txn.get(Pool, self)
    if value < 0:
        raise errors.invalid_value("ha_host_failures_to_tolerate", str(value))
    asks = pool.ha_enabled and not pool.ha_allow_overcommit and value > pool.ha_host_failures_to_tolerate
    if asks and ha_plan.planned_for(ctx) < value:
        raise errors.ha_operation_would_break_failover_plan()
    ctx.txn.update(Pool, self, ha_host_failures_to_tolerate=value)
    refresh_plan(ctx)


def refresh_plan(ctx: CallContext) -> None:
    """Writes for how many failures there is a plan now, and raises an alert when that has become too few."""
    pool = the_pool(ctx.txn)
    if not pool.ha_enabled:
        return
    wanted = pool.ha_host_failures_to_tolerate
    exists = min(wanted, ha_plan.planned_for(ctx)) if wanted else 0
    short = exists < wanted
    if (exists, short) == (pool.ha_plan_exists_for, pool.ha_overcommitted):
        return
    ctx.txn.update(Pool, pool.ref, ha_plan_exists_for=exists, ha_overcommitted=short)
    told = f"The pool shall bear {wanted} failures of hosts, and there is a plan for {exists}"
    if short and not pool.ha_overcommitted:
        _alert(ctx, HA_POOL_OVERCOMMITTED, Cls.POOL, pool.uuid, told)
    elif exists < pool.ha_plan_exists_for:
        _alert(ctx, HA_POOL_DROP_IN_PLAN_EXISTS_FOR, Cls.POOL, pool.uuid, told)


# --- a host is lost --------------------------------------------------------------------------------------------


def silent(txn: Txn, host: Ref[Host]) -> None:
    """Writes that a host is down: nothing starts there, and changes leave it out."""
    row = txn.find(Host, host)
    if row is not None and txn.exists(HostMetrics, row.metrics):
        txn.update(HostMetrics, row.metrics, live=False)


def resident(view: View, host: Ref[Host]) -> tuple[tuple[Ref[VM], int], ...]:
    """The VMs that a host runs as far as the database knows, each with its domain id."""
    return tuple(
        (vm.ref, vm.domid)
        for vm in view.where(VM, resident_on=host)
        if vm.power_state in LIVE and ha_plan.is_guest(vm)
    )


def lost(ctx: CallContext, *, host: Ref[Host], vms: Iterable[tuple[Ref[VM], int]]) -> int:
    """Halts these VMs of a host that runs nothing any more, and gives how many; those with a priority are to be restarted.

    One that runs elsewhere by now, or under another domain id, is left alone.
    """
    count = 0
    for ref, domid in vms:
        vm = ctx.txn.find(VM, ref)
        if vm is None or (vm.resident_on, vm.domid) != (host, domid) or vm.power_state not in LIVE:
            continue
        halt(ctx, vm)
        note_loss(ctx.txn, vm)
        count += 1
    row = ctx.txn.find(Host, host)
    if row is not None:
        silent(ctx.txn, host)
        body = f"{row.name_label} has failed, or is cut off, and has stopped its VMs: {count} ran there"
        _alert(ctx, HA_HOST_FAILED, Cls.HOST, row.uuid, body)
    return count


def note_loss(txn: Txn, vm: VM) -> None:
    """Writes that a VM which has lost its host is to be started again, if its priority says so."""
    if the_pool(txn).ha_enabled and vm.ha_restart_priority == ha_plan.BEST_EFFORT:
        txn.update(VM, vm.ref, ha_always_run=True)


def was_fenced(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Raises the alert that a host is back which had stopped its VMs."""
    row = ctx.txn.find(Host, host)
    if row is not None:
        body = f"{row.name_label} could not prove that it saw the majority, had stopped its VMs, and is back"
        _alert(ctx, HA_HOST_WAS_FENCED, Cls.HOST, row.uuid, body)


def restart(ctx: CallContext, *, vm: Ref[VM], host: Ref[Host]) -> None:
    """Starts a VM again that has lost its host, if it still waits for that.

    Raises:
        (as VM.start_on)
    """
    row = ctx.txn.find(VM, vm)
    if row is None or not row.ha_always_run or row.power_state is not VmPowerState.HALTED:
        return
    start_protected(ctx, vm=vm, host=host)
    if row.ha_restart_priority == ha_plan.BEST_EFFORT:
        ctx.txn.update(VM, vm, ha_always_run=False)


def not_restarted(ctx: CallContext, *, vm: Ref[VM], reason: str) -> None:
    """Raises the alert that a VM could not be started again."""
    row = ctx.txn.find(VM, vm)
    if row is not None:
        _alert(
            ctx,
            HA_PROTECTED_VM_RESTART_FAILED,
            Cls.VM,
            row.uuid,
            f"{row.name_label} cannot be restarted: {reason}",
        )


def given_up(txn: Txn, vm: Ref[VM]) -> None:
    """Writes that a VM is not to be started again: it was tried often enough."""
    if txn.exists(VM, vm):
        txn.update(VM, vm, ha_always_run=False)
