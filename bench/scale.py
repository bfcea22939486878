"""How does a pool of up to 64 hosts do, with 800 VLANs and 512 VIFs on each? On simulated hosts, whose switch is kept in memory.

Rules, rollouts and the coordinator are the real ones; a switch would take its own time besides, on all hosts at once. The
floor is what cannot be left out: working out the desired state of every host, and the difference, once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import structlog

from bench.figure import Figure, percentile
from bench.simulated import (
    ask,
    call,
    converge_all,
    network_named,
    pool_of,
    running_vm,
    settled,
    uplink,
    vlans,
)
from poolnet.api.as_coordinator import Started
from poolnet.db.txn import Txn
from poolnet.hostnet.derive import derive
from poolnet.hostnet.diff import diff
from poolnet.model.classes.host import Host
from poolnet.model.classes.vm import VM
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session

CURVE = (8, 16, 32, 64)
VLANS, VIFS, VIFS_PER_VM = 800, 512, 4
ROUNDS = 20
MATRIX_VMS = 1000
WANTED_S = {"vlan": 2.0, "plan": 3.0, "matrix": 1.0}
WANTED_BYTES = 1.5e9


@dataclass(slots=True)
class _Point:
    """What was measured with so many hosts."""

    hosts: int
    vlan_s: list[float] = field(default_factory=list)
    plan_s: float = 0.0
    matrix_s: float = 0.0
    each_s: float = 0.0
    floor_s: float = 0.0
    bytes: float = 0.0


def figures() -> list[Figure]:
    """The curve, a point for each number of hosts; and what the largest pool takes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    points = [asyncio.run(_measure(hosts)) for hosts in CURVE]
    found = [figure for point in points for figure in _shown(point)]
    small, large = points[0], points[-1]
    growth = statistics.median(large.vlan_s) / statistics.median(small.vlan_s)
    found.append(
        Figure(
            name=f"one more VLAN: {large.hosts} hosts instead of {small.hosts}",
            value=growth,
            unit="times",
            floor=large.hosts / small.hosts,
            floor_name="as many times more hosts",
            ratio=growth / (large.hosts / small.hosts),
            wanted=1.0,
        )
    )
    return found


def _shown(point: _Point) -> list[Figure]:
    def one(name: str, value: float, wanted: float | None, **more: Any) -> Figure:
        floor = point.floor_s
        return Figure(
            name=f"{point.hosts} simulated hosts: {name}",
            value=value,
            unit="s",
            floor=floor,
            floor_name="every host's state and difference, once",
            ratio=more.get("p99", value) / floor,
            wanted=wanted / floor if wanted is not None else None,
            **more,
        )

    largest = point.hosts == CURVE[-1]
    return [
        one(
            "one more VLAN on all",
            statistics.median(point.vlan_s),
            WANTED_S["vlan"] if largest else None,
            samples=len(point.vlan_s),
            p99=percentile(point.vlan_s, 99),
        ),
        one("a full plan", point.plan_s, WANTED_S["plan"] if largest else None),
        one(f"{MATRIX_VMS} VMs × hosts explained", point.matrix_s, WANTED_S["matrix"] if largest else None),
        one(f"{MATRIX_VMS} VM.get_possible_hosts", point.each_s, WANTED_S["matrix"] if largest else None),
        Figure(
            name=f"{point.hosts} simulated hosts: memory of the process, hosts included",
            value=point.bytes / 1e6,
            unit="MB",
            floor=WANTED_BYTES / 1e6,
            floor_name="what is promised for 64 hosts",
            ratio=point.bytes / WANTED_BYTES,
            wanted=1.0 if largest else None,
        ),
    ]


async def _measure(hosts: int) -> _Point:
    point = _Point(hosts)
    async with pool_of(hosts) as started:
        await _populate(started)
        with settled():
            await _time(started, point)
    point.bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return point


async def _network(started: Started, number: int) -> Any:
    return await call(started, "network.create", record=network_named(f"vlan{number}"))


async def _populate(started: Started) -> None:
    """VLANs on all hosts, and running VMs whose VIFs are spread over them, in one transaction; then the hosts are made so."""

    def change(txn: Txn) -> None:
        context = started.coordinator.context(txn, Session())
        networks = vlans(context, uplink(started), VLANS)
        for host in txn.refs(Host):
            for number in range(0, VIFS, VIFS_PER_VM):
                running_vm(context, host, [networks[(number + d) % VLANS] for d in range(VIFS_PER_VM)])

    await started.coordinator.write(change)
    await converge_all(started)


async def _time(started: Started, point: _Point) -> None:
    coordinator, pif = started.coordinator, uplink(started)
    for number in range(ROUNDS):
        network = await _network(started, VLANS + number)
        began = time.perf_counter()
        await call(started, "pool.create_VLAN_from_PIF", pif=pif, network=network, VLAN=2000 + number)
        point.vlan_s.append(time.perf_counter() - began)
    point.floor_s = _floor(started)
    point.plan_s = await _plan(started, await _network(started, 4000))
    vms = tuple(vm.ref for vm in coordinator.view.all(VM) if not vm.is_control_domain)[:MATRIX_VMS]
    began = time.perf_counter()
    json.loads(ask(started, "VM.explain_placement", vms=vms))
    point.matrix_s = time.perf_counter() - began
    began = time.perf_counter()
    for vm in vms:
        ask(started, "VM.get_possible_hosts", vm=vm)
    point.each_s = time.perf_counter() - began


def _floor(started: Started) -> float:
    view = started.coordinator.view
    began = time.perf_counter()
    for host in view.refs(Host):
        state = derive(view, host)
        diff(state, state)
    return time.perf_counter() - began


async def _plan(started: Started, network: Any) -> float:
    """What a dry run of a VLAN on all hosts takes: rule and plan; nothing is changed."""
    began = time.perf_counter()
    txn = started.database.begin()
    context = started.coordinator.context(txn, Session())
    RULES["pool.create_VLAN_from_PIF"](context, pif=uplink(started), network=network, VLAN=4000)
    plans = await started.coordinator.plan(txn, [context])
    taken = time.perf_counter() - began
    if not all(staged.plan.steps for _, staged in plans.values()):
        raise RuntimeError("a plan without steps was measured")
    return taken
