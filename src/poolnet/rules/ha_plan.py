"""Where would protected VMs go if hosts failed, and how many hosts may? See spec §22.2.

What is decided is a function of values: VMs with what they need, hosts with what they have left. Those are read from the
database beside it. A plan is found by placing the VMs one after the other, the ones with the least choice first; where that
finds none there might be one all the same, so what it says of failures is on the safe side.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest
from itertools import chain, combinations
from math import gcd
from typing import Final

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import NULL, Ref
from poolnet.rules.attach import LIVE
from poolnet.rules.context import CallContext
from poolnet.rules.features import the_pool
from poolnet.rules.kinds import is_sriov_network
from poolnet.rules.placement import Reaches, possible_hosts, require_shared

RESTART: Final = "restart"
BEST_EFFORT: Final = "best-effort"
UNKNOWN_MEMORY: Final = 1 << 62  # of a host that has reported none


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A VM that has to run: where it runs now (null: nowhere yet), and the hosts that can give it all its networks."""

    vm: Ref[VM]
    at: Ref[Host]
    memory_bytes: int
    hosts: frozenset[Ref[Host]]
    order: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A host on which VMs may start, and the memory that it has left for them."""

    host: Ref[Host]
    memory_bytes: int


_Left = tuple[int, Ref[Host]]
"""A host and the memory that it has left."""


def place(needs: Iterable[Need], rooms: Iterable[Room]) -> dict[Ref[VM], Ref[Host] | None]:
    """A host for each VM, as far as there is room; None for those that find none.

    Lower orders choose first; within one, VMs with fewer hosts to choose from, then larger ones. Each takes the host that
    has the most memory left.
    """
    left = _fullest_first(rooms)
    return {need.vm: _take(left, need) for need in sorted(needs, key=_turn)}


def _turn(need: Need) -> tuple[int, int, int, Ref[VM]]:
    return need.order, len(need.hosts), -need.memory_bytes, need.vm


def _fullest_first(rooms: Iterable[Room]) -> list[_Left]:
    return sorted((room.memory_bytes, room.host) for room in rooms)


def _take(left: list[_Left], need: Need) -> Ref[Host] | None:
    """The host with the most memory left of those that can have a VM, which has it from then on; None if none can."""
    for index in range(len(left) - 1, -1, -1):
        memory, host = left[index]
        if memory < need.memory_bytes:
            return None
        if host in need.hosts:
            del left[index]
            insort(left, (memory - need.memory_bytes, host))
            return host
    return None


def minority(servers: int, hosts: int) -> int:
    """How many hosts may fail at most, whatever runs on them: the majority of the database's servers has to be left.

    Without a cluster (`servers` 0), as many as the largest one that this pool could have.
    """
    if not servers:
        servers = 5 if hosts >= 5 else 3 if hosts >= 3 else 0
    return max(0, (servers - 1) // 2)


def bears(needs: Sequence[Need], rooms: Sequence[Room], failures: int) -> bool:
    """Whether all protected VMs find a place whichever of the hosts fail, so many of them."""
    hosts = sorted({room.host for room in rooms} | {need.at for need in needs if need.at != NULL})
    if failures > len(hosts):
        return False
    if _has_plenty(needs, rooms, failures):
        return True
    there: dict[Ref[Host], list[tuple[int, Need]]] = {host: [] for host in (*hosts, NULL)}
    for turn, need in enumerate(sorted(needs, key=_turn)):
        there[need.at].append((turn, need))
    everybody = _fullest_first(rooms)
    for failed in combinations(hosts, failures):
        homeless = sorted(chain(there[NULL], *(there[host] for host in failed)))
        left = [each for each in everybody if each[1] not in failed]
        if any(_take(left, need) is None for _, need in homeless):
            return False
    return True


def _has_plenty(needs: Sequence[Need], rooms: Sequence[Room], failures: int) -> bool:
    """Whether it is certain that all VMs find a place when so many hosts fail, without trying which: False is no answer.

    A VM finds none only if each host that could have it has too little left: if other homeless VMs have taken more of each than
    what that had beyond the VM's size, in whole units if all sizes are so many of one. It is certain to find one if the
    homeless VMs are not as large together. Each host that fails takes what it had left away and makes its own VMs homeless,
    so the hosts that do most of that are the worst to fail.
    """
    unit = gcd(*(need.memory_bytes for need in needs)) or 1
    sizes: dict[Ref[Host], int] = {}
    for need in needs:
        sizes[need.at] = sizes.get(need.at, 0) + need.memory_bytes
    hosts = {*sizes, *(room.host for room in rooms)} - {NULL}
    for able, size in {(need.hosts, need.memory_bytes) for need in needs}:
        full = {
            room.host: ((room.memory_bytes - size) // unit + 1) * unit
            for room in rooms
            if room.host in able and room.memory_bytes >= size
        }
        harm = nlargest(failures, (sizes.get(host, 0) + full.get(host, 0) for host in hosts))
        if len(full) <= failures or sum(full.values()) - sum(harm) <= sizes.get(NULL, 0) - size:
            return False
    return True


def failures_max(needs: Sequence[Need], rooms: Sequence[Room], most: int) -> int:
    """How many hosts may fail, at most `most`: any so many, and any fewer."""
    count = 0
    while count < most and bears(needs, rooms, count + 1):
        count += 1
    return count


# --- from the database -----------------------------------------------------------------------------------------


def is_protected(vm: VM) -> bool:
    """Whether the pool keeps this VM running."""
    return vm.ha_always_run and vm.ha_restart_priority == RESTART and is_guest(vm)


def is_guest(vm: VM) -> bool:
    """Whether it is a VM that can run at all, and no host's own."""
    return not (vm.is_a_template or vm.is_control_domain)


def protected(view: View) -> tuple[VM, ...]:
    """The VMs that the pool keeps running."""
    return tuple(vm for vm in view.all(VM) if is_protected(vm))


def needs_of(ctx: CallContext, vms: Iterable[VM], without: Collection[Ref[Host]] = ()) -> tuple[Need, ...]:
    """What VMs need. Hosts in `without` cannot give it, whatever the database says."""
    reaches = Reaches(ctx)
    return tuple(
        Need(
            vm=vm.ref,
            at=vm.resident_on if vm.power_state in LIVE else NULL,
            memory_bytes=vm.memory_static_max,
            hosts=frozenset(possible_hosts(ctx, vm.ref, reaches)) - frozenset(without),
            order=vm.order,
        )
        for vm in vms
    )


def rooms_of(ctx: CallContext, without: Collection[Ref[Host]] = ()) -> tuple[Room, ...]:
    """What the hosts have left that are enabled and live. Memory that is not known is taken to be enough."""
    rooms = []
    for host in ctx.txn.all(Host):
        if not host.enabled or not ctx.is_live(host.ref, host) or host.ref in without:
            continue
        metrics = ctx.txn.find(HostMetrics, host.metrics)
        total = metrics.memory_total if metrics is not None else 0
        used = sum(
            vm.memory_static_max
            for vm in ctx.txn.where(VM, resident_on=host.ref)
            if vm.power_state in LIVE and not vm.is_control_domain
        )
        rooms.append(Room(host=host.ref, memory_bytes=total - used if total > 0 else UNKNOWN_MEMORY))
    return tuple(rooms)


def most(ctx: CallContext) -> int:
    """How many hosts of this pool may fail, whatever runs on them."""
    return minority(len(ctx.servers), ctx.txn.count(Host))


def planned_for(ctx: CallContext, vms: Iterable[VM] | None = None) -> int:
    """How many hosts may fail with these VMs protected, those that are when none are given."""
    needs = needs_of(ctx, protected(ctx.txn) if vms is None else vms)
    return failures_max(needs, rooms_of(ctx), most(ctx))


def require_plan(ctx: CallContext) -> None:
    """Lets a change stand that leaves the pool with a plan for as many failures as there was one for.

    Raises:
        HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: It does not, and the pool may not be overcommitted.
    """
    pool = the_pool(ctx.txn)
    if not pool.ha_enabled or pool.ha_allow_overcommit or pool.ha_plan_exists_for <= 0:
        return
    needs = needs_of(ctx, protected(ctx.txn))
    if not bears(needs, rooms_of(ctx), pool.ha_plan_exists_for):
        raise errors.ha_operation_would_break_failover_plan()


def require_agile(view: View, vm: Ref[VM]) -> None:
    """Lets a VM pass that could run on every enabled host (spec §22.2).

    Raises:
        VM_HAS_SRIOV_VIF: A VIF is a virtual function.
        HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED: An enabled host lacks a network of the VM.
    """
    for vif in view.where(VIF, VM=vm):
        if is_sriov_network(view, vif.network):
            raise errors.vm_has_sriov_vif(vm)
        require_shared(view, vif.network)


def require_protectable(ctx: CallContext, vm: VM) -> None:
    """Lets a VM be protected.

    Raises:
        VM_HAS_SRIOV_VIF, HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED: It cannot run everywhere, and the pool has high
            availability and may not be overcommitted.
    """
    pool = the_pool(ctx.txn)
    if pool.ha_enabled and not pool.ha_allow_overcommit and vm.ha_restart_priority == RESTART:
        require_agile(ctx.txn, vm.ref)


def to_restart(view: View) -> tuple[VM, ...]:
    """The VMs that do not run and should: protected ones in their order, then the others that lost their host."""
    halted = [
        vm
        for vm in view.all(VM)
        if vm.ha_always_run
        and vm.ha_restart_priority in (RESTART, BEST_EFFORT)
        and vm.power_state is VmPowerState.HALTED
        and is_guest(vm)
    ]
    return tuple(sorted(halted, key=lambda vm: (vm.ha_restart_priority != RESTART, vm.order, vm.ref)))


def failover(
    ctx: CallContext, failed_hosts: Collection[Ref[Host]], failed_vms: Collection[Ref[VM]]
) -> Mapping[Ref[VM], Ref[Host] | errors.Failure]:
    """Where the protected VMs of these hosts, and these VMs, would go; or what keeps each from going anywhere."""
    vms = [vm for vm in protected(ctx.txn) if vm.resident_on in failed_hosts or vm.ref in failed_vms]
    placed = place(needs_of(ctx, vms, failed_hosts), rooms_of(ctx, failed_hosts))
    return {vm.ref: placed[vm.ref] or _why_not(ctx.txn, vm.ref) for vm in vms}


def _why_not(view: View, vm: Ref[VM]) -> errors.Failure:
    try:
        require_agile(view, vm)
    except errors.Failure as failure:
        return failure
    return errors.ha_no_plan()
