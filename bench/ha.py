"""How long do plans for failures of hosts take, in the coordinator's event loop? A pool of 64 simulated hosts, 1,000 protected VMs.

All that a plan needs is read from the database anew: nothing is remembered from one to the next. The floor is what cannot be left out
then: reading each protected VM, and its VIFs. A pool with little memory left is the harder case: each pair of hosts is tried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median

import structlog

from bench.figure import Figure, duration
from bench.simulated import converge_all, pool_of, running_vm, settled, uplink, vlans
from poolnet.api.as_coordinator import Started
from poolnet.db.txn import Txn, View
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.types import Ref
from poolnet.rules import ha, ha_plan
from poolnet.rules.context import CallContext, Session
from poolnet.rules.features import the_pool

HOSTS, VMS, VIFS_PER_VM, NETWORKS = 64, 1000, 4, 40
SERVERS, FAILURES = 5, 2
VM_BYTES = (4 << 30, 6 << 30, 9 << 30)
SPARE_BYTES = {"much": 128 << 30, "little": 10 << 30}
"""What each host has left."""

ROUNDS = 10
HELD_S = {"much": 0.1, "little": 0.2}
"""For how long the event loop may be held."""


def figures() -> list[Figure]:
    """What each question costs, with much memory left and with little."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with pool_of(HOSTS) as started:
        await _populate(started)
        with settled():
            floor_s = _times(lambda: _read(started.coordinator.view))
            found = []
            for room, spare in SPARE_BYTES.items():
                await started.coordinator.write(partial(_leave, spare))
                found += _figures(started, room, floor_s)
            return found


async def _populate(started: Started) -> None:
    def change(txn: Txn) -> None:
        context = started.coordinator.context(txn, Session())
        networks = vlans(context, uplink(started), NETWORKS)
        hosts = list(txn.refs(Host))
        for number in range(VMS):
            first = number * VIFS_PER_VM
            on = [networks[(first + device) % NETWORKS] for device in range(VIFS_PER_VM)]
            vm = running_vm(context, hosts[number % HOSTS], on)
            size = VM_BYTES[number % len(VM_BYTES)]
            txn.update(VM, vm, ha_restart_priority="restart", ha_always_run=True, memory_static_max=size)
        pool = the_pool(txn)
        txn.update(
            Pool,
            pool.ref,
            ha_enabled=True,
            ha_host_failures_to_tolerate=FAILURES,
            ha_plan_exists_for=FAILURES,
        )

    await started.coordinator.write(change)
    await converge_all(started)


def _leave(spare_bytes: int, txn: Txn) -> None:
    for host in txn.all(Host):
        used = sum(vm.memory_static_max for vm in txn.where(VM, resident_on=host.ref) if ha_plan.is_guest(vm))
        txn.update(HostMetrics, host.metrics, memory_total=used + spare_bytes)


def _read(view: View) -> None:
    for vm in view.all(VM):
        if ha_plan.is_protected(vm):
            view.where(VIF, VM=vm.ref)


def _figures(started: Started, room: str, floor_s: list[float]) -> list[Figure]:
    view = started.coordinator.view
    servers = frozenset(host.uuid for host in list(view.all(Host))[:SERVERS])
    vm = ha_plan.protected(view)[0]

    def one(name: str, work: Callable[[CallContext], object]) -> Figure:
        def once() -> None:
            context = started.coordinator.context(started.database.begin(), Session())
            work(replace(context, servers=servers))

        return duration(
            f"{HOSTS} hosts, {VMS} protected VMs, {room} memory: {name}",
            _times(once),
            floor_s,
            floor_name="each protected VM and its VIFs read once",
            wanted=HELD_S[room] / median(floor_s),
        )

    return [
        one("how many failures can be borne", _bears_what_it_shall),
        one("the plan that is made anew every 10 s", ha.refresh_plan),
        one("the check at a VM's start", lambda ctx: _check(ctx, vm)),
        one("places for the VMs of a lost host", lambda ctx: _lose(ctx, started.host)),
    ]


def _bears_what_it_shall(ctx: CallContext) -> None:
    if ha.ha_compute_max_host_failures_to_tolerate(ctx) != FAILURES:
        raise RuntimeError("a pool without a plan was measured")


def _check(ctx: CallContext, vm: VM) -> None:
    ha_plan.require_protectable(ctx, vm)
    ha_plan.require_plan(ctx)


def _lose(ctx: CallContext, host: Ref[Host]) -> None:
    if not ha.ha_compute_vm_failover_plan(ctx, failed_hosts=(host,), failed_vms=()):
        raise RuntimeError("a host without VMs was lost")


def _times(work: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return found
