"""How does a coordinator find out that a host is lost, and who restarts its VMs? It runs beside the calls, with high availability.

A host that has not renewed its lease loses it, by a transaction that fails if it has. Then the coordinator waits until the host
must have stopped its VMs, finds by another transaction that it has not come back, halts them in the database, and starts them
elsewhere. What is still to be done is written in the database: another coordinator goes on with it (docs/decisions/0025).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import groupby
from time import CLOCK_BOOTTIME, clock_gettime
from typing import Any, Final
from uuid import uuid4

import structlog

from poolnet.db import leases
from poolnet.db.database import Database
from poolnet.db.leases import Lease, State
from poolnet.db.seat import BROKEN, NoMajority, Seat
from poolnet.hostnet import protocol
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vm import VM
from poolnet.model.failure import Failure
from poolnet.model.types import Ref, Value
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.values import Json
from poolnet.pool import migration
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.pool.hosts import PoolHosts
from poolnet.pool.lease_watch import GONE, LeaseWatch
from poolnet.pool.members import Members
from poolnet.rules import functions, ha, ha_plan
from poolnet.rules.context import Session

log = structlog.get_logger("poolnet.pool.failover")

LOOK_S: Final = 0.5
PLAN_S: Final = 10.0  # between two looks at how many failures can be borne
RETRY_S: Final = 10.0
TRIES_MAX: Final = 6  # of a VM with the priority best-effort
ANSWER_S: Final = 6.0


class Failover:
    """High availability, as the coordinator sees to it.

    Args:
        database: The pool database.
        coordinator: Who carries out what is decided.
        members: The other hosts.
        hosts: How hosts are reached.
        host: This host.
        seat: This host's place at the cluster.
        servers: The uuids of the hosts that can coordinate.
        term: The term in which this host coordinates.
        settled: Done when this host itself is what the database says.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        members: Members,
        hosts: PoolHosts,
        host: Ref[Host],
        seat: Seat,
        servers: Sequence[str],
        term: int,
        settled: asyncio.Event,
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._members = members
        self._hosts_reached = hosts
        self._host = host
        self._seat = seat
        self._servers = servers
        self._term = term
        self._settled = settled
        self._watch = LeaseWatch()
        self._over: frozenset[Ref[Host]] = frozenset()
        self._lost: set[Ref[Host]] = set()
        self._observed = False
        self._prevented_until = 0.0
        self._planned_at = 0.0
        self._retry_at: dict[Ref[VM], float] = {}
        self._tries: dict[Ref[VM], int] = {}
        self.changing = asyncio.Lock()
        """Held while high availability is turned on or off."""

    async def ask(self, work: Sequence[Operation]) -> list[Json]:
        """Carries out a transaction at the cluster. Raises NoMajority, BROKEN."""
        asked = asyncio.run_coroutine_threadsafe(self._seat.transact(work), self._seat.loop)
        async with asyncio.timeout(ANSWER_S):
            return await asyncio.wrap_future(asked)

    @property
    def term(self) -> int:
        """The term in which this host coordinates."""
        return self._term

    def prevent(self, seconds: float) -> None:
        """Restarts no VM for so long; 0 or less: restarts are not held back any more."""
        self._prevented_until = _now() + seconds

    async def run(self) -> None:
        """Watches the hosts' leases, forever, while the pool has high availability."""
        await self._finish_changes()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._while_enabled(self._judge), name="failover-leases")
            group.create_task(self._while_enabled(self._restart), name="failover-restarts")

    async def _while_enabled(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            number = self._database.feed.number
            if not self._pool().ha_enabled:
                await self._database.feed.wait(number)
                continue
            try:
                await work()
            except (NoMajority, *BROKEN) as error:
                log.info("leases-not-read", reason=f"{type(error).__name__} {error}".strip())
            except Failure as failure:
                log.warning("failover-not-carried-out", reason=str(failure))
            except Exception:  # the outermost loop: nobody else would restart anything
                log.exception("failover-failed")
            await asyncio.sleep(LOOK_S)

    def _pool(self) -> Pool:
        return next(iter(self._database.view.all(Pool)))

    async def _finish_changes(self) -> None:
        """Ends what a coordinator that died has begun: high availability is on with all leases, or off with none."""
        while (pool := self._pool()).ha_cluster_stack and not pool.ha_enabled and not self.changing.locked():
            log.warning("high-availability-half-on")
            with suppress(NoMajority, Failure, *BROKEN):
                await self.end()
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """Ends all leases; high availability is off before. Raises NoMajority, BROKEN, Failure."""
        await self.ask(leases.end(self._term, str(uuid4())))
        await self._coordinator.write(ha.disabled)
        for host in tuple(self._lost):
            self._members.let_in(host)
        self._lost.clear()
        self._watch, self._over, self._observed = LeaseWatch(), frozenset(), False

    # --- hosts -------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Looks at the leases once, and does what follows. Raises NoMajority, BROKEN, Failure."""
        found = leases.leases_in(await self.ask(leases.READ))
        now = _now()
        before = self._watch.in_state(State.HELD)
        self._watch.observe(now, found)
        self._observed = True
        silent = self._watch.silent(now)
        if self._seat.host in {lease.host for lease in silent} | self._watch.in_state(*GONE):
            await self._resign([lease.host for lease in silent])
            return
        for lease in silent:
            await self._take_away(lease)
        for lease in found:
            await self._keep_out(lease)
        over = self._watch.over(_now())
        for lease in over:
            await self._halt_vms(lease)
        self._over = frozenset(self._hosts(lease.host for lease in over))
        held = self._watch.in_state(State.HELD)
        if held != before:
            await self._coordinator.write(partial(ha.write_peers, holders=tuple(self._hosts(held))))

    async def _take_away(self, lease: Lease) -> None:
        host = next(iter(self._hosts((lease.host,))), None)
        if host is None:
            return
        try:
            await self.ask(leases.take_away(self._term, lease, str(uuid4())))
        except BROKEN as error:
            log.info("lease-not-taken-away", host=lease.host, reason=str(error))
            return
        log.warning("lease-taken-away", host=lease.host)
        self._watch.taken_away(lease)

    async def _resign(self, silent: Sequence[str]) -> None:
        """Leaves the role to a host that has its lease: this one's daemon is dead or hangs, and nothing can be changed here.

        Raises NoMajority, BROKEN.
        """
        able = [
            host for host in self._servers if host in self._watch.in_state(State.HELD) and host not in silent
        ]
        if not able:
            log.warning("no-lease-and-nobody-to-leave-the-role-to")
            return
        log.warning("role-left", reason="this host has lost its lease", successor=able[0])
        resigning = asyncio.run_coroutine_threadsafe(self._seat.resign(able[0]), self._seat.loop)
        async with asyncio.timeout(ANSWER_S):
            await asyncio.wrap_future(resigning)
        await asyncio.sleep(ANSWER_S)

    async def _keep_out(self, lease: Lease) -> None:
        """Lets a host take part only as long as it has its lease."""
        for host in self._hosts((lease.host,)):
            if lease.state in GONE and host not in self._lost and host != self._host:
                self._lost.add(host)
                self._members.keep_out(host)
                await self._coordinator.write(partial(ha.silent, host=host))
            elif lease.state not in GONE and host in self._lost:
                self._lost.discard(host)
                self._members.let_in(host)
                await self._run("host.was_fenced", ha.was_fenced, host=host)

    async def _halt_vms(self, lease: Lease) -> None:
        """Writes that nothing runs any more on a host that is lost, once that is certain. Raises BROKEN, Failure."""
        for host in self._hosts((lease.host,)):
            vms = ha.resident(self._database.view, host)
            if host in self._over and not vms:
                continue
            await self.ask(leases.note_stopped(self._term, lease, str(uuid4())))
            count = await self._run("host.lost", ha.lost, host=host, vms=vms)
            log.warning("host-lost", host=lease.host, vms=count)

    def _hosts(self, uuids: Iterable[str]) -> list[Ref[Host]]:
        wanted = set(uuids)
        return [row.ref for row in self._database.view.all(Host) if row.uuid in wanted]

    async def _run(self, method: str, rule: Any, **arguments: Any) -> Value:
        call = RuleCall(method=method, rule=rule, arguments=arguments, session=Session())
        return await self._coordinator.run(call)

    # --- VMs ---------------------------------------------------------------------------------------------------

    def _may_restart(self) -> bool:
        """Whether it is known of each host what it runs: it is what the database says, or it runs nothing for certain.

        A coordinator that died while it started a VM may have left one running that the database does not know.
        """
        if not self._observed or not self._settled.is_set() or _now() < self._prevented_until:
            return False
        known = self._members.settled | self._over | {self._host}
        return all(ref in known for ref in self._database.view.refs(Host))

    async def _restart(self) -> None:
        """Starts the VMs that should run and do not, in their order. Raises Failure."""
        if not self._may_restart():
            return
        now = _now()
        waiting = ha_plan.to_restart(self._database.view)
        self._retry_at = {vm.ref: self._retry_at[vm.ref] for vm in waiting if vm.ref in self._retry_at}
        vms = [vm for vm in waiting if self._retry_at.get(vm.ref, 0.0) <= now]
        for _, group in groupby(vms, lambda vm: (vm.ha_restart_priority != ha_plan.RESTART, vm.order)):
            if not self._may_restart():
                return
            together = tuple(group)
            alone = [vm for vm in together if functions.wants_functions(self._database.view, vm.ref)]
            others = [vm for vm in together if vm not in alone]
            await asyncio.gather(*(self._start(vm, host) for vm, host in self._places(others)))
            for vm in alone:  # which functions are free shows when those before have theirs
                await asyncio.gather(*(self._start(vm, host) for vm, host in self._places([vm])))
            delay_s = max(vm.start_delay for vm in together)
            if delay_s and together[-1] is not vms[-1]:
                await asyncio.sleep(delay_s)
        if now - self._planned_at >= PLAN_S:
            self._planned_at = now
            await self._run("pool.ha_schedule_plan_recomputation", ha.refresh_plan)

    def _places(self, vms: Sequence[VM]) -> Iterable[tuple[VM, Ref[Host] | None]]:
        """A host for each VM, of those that have a lease."""
        view = self._database.view
        held = self._watch.in_state(State.HELD)
        without = [row.ref for row in view.all(Host) if row.uuid not in held]
        context = self._coordinator.context(self._database.begin(), Session())
        placed = ha_plan.place(ha_plan.needs_of(context, vms, without), ha_plan.rooms_of(context, without))
        return [(vm, placed[vm.ref]) for vm in vms]

    async def _start(self, vm: VM, host: Ref[Host] | None) -> None:
        reason = "no host has its networks and enough room"
        if host is not None:
            try:
                await self._run("VM.start_on", ha.restart, vm=vm.ref, host=host)
            except Failure as failure:
                reason = str(failure)
            else:
                log.warning("vm-restarted", vm=vm.uuid, host=host)
                self._tries.pop(vm.ref, None)
                await self._announce(vm, host)
                return
        tries = self._tries[vm.ref] = self._tries.get(vm.ref, 0) + 1
        self._retry_at[vm.ref] = _now() + RETRY_S
        log.warning("vm-not-restarted", vm=vm.uuid, reason=reason, tries=tries)
        if tries == 1:
            await self._run("VM.not_restarted", ha.not_restarted, vm=vm.ref, reason=reason)
        if tries >= TRIES_MAX and vm.ha_restart_priority == ha_plan.BEST_EFFORT:
            del self._tries[vm.ref]
            await self._coordinator.write(partial(ha.given_up, vm=vm.ref))

    async def _announce(self, vm: VM, host: Ref[Host]) -> None:
        """Has the physical network told where the VM is now: its guest may say nothing by itself for long."""
        with suppress(HostGone, HostRefused):
            await migration.settle(self._hosts_reached, host, protocol.RunGuest(vm_uuid=vm.uuid))


def _now() -> float:
    """The time since the machine booted, asleep or awake, in seconds."""
    return clock_gettime(CLOCK_BOOTTIME)
