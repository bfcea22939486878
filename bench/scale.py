"""How does a pool of up to 64 hosts do, with 800 VLANs and 512 VIFs on each? On simulated hosts, whose switch is kept in memory.

Rules, rollouts and the coordinator are the real ones; a switch would take its own time besides, on all hosts at once. The
floor is what cannot be left out: working out the desired state of every host, and the difference, once.

Each pool has a process of its own, and they are measured in turn, a few VLANs each: how the time grows with the number of
hosts is read off turns that follow each other within a second or two. A machine whose processors are faster at one time than at
another (others use their caches and memory) would otherwise be measured, and not the pool: pools one after the other gave 0.76 and
1.02 of linear growth for the same code within minutes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
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
FIRST_TAG, PLANNED_TAG = 2000, 4000
TURNS, VLANS_PER_TURN = 10, 5
MATRIX_VMS = 1000
WANTED_S = {"vlan": 2.0, "plan": 3.0, "matrix": 1.0}
WANTED_BYTES = 1.5e9


@dataclass(slots=True)
class _Turn:
    """What one turn took."""

    vlan_s: list[float]
    floor_s: float


@dataclass(slots=True)
class _Rest:
    """What is measured once, when all turns are over."""

    plan_s: float
    matrix_s: float
    each_s: float
    bytes: float


@dataclass(slots=True)
class _Point:
    """What was measured with so many hosts."""

    hosts: int
    rest: _Rest
    turns: list[_Turn] = field(default_factory=list)

    @property
    def vlan_s(self) -> list[float]:
        """What each VLAN took."""
        return [taken for turn in self.turns for taken in turn.vlan_s]

    @property
    def floor_s(self) -> float:
        """The median of the turns."""
        return statistics.median(turn.floor_s for turn in self.turns)


def figures() -> list[Figure]:
    """The curve, a point for each number of hosts; what the largest pool takes; and how that grows with the hosts."""
    points = _measured(CURVE)
    found = [figure for point in points for figure in _shown(point)]
    small, large = points[0], points[-1]
    more = large.hosts / small.hosts
    in_turn = list(zip(small.turns, large.turns, strict=True))
    grown = {
        "one more VLAN": [statistics.median(b.vlan_s) / statistics.median(a.vlan_s) for a, b in in_turn],
        "every host's state and difference": [b.floor_s / a.floor_s for a, b in in_turn],
    }
    for name, ratios in grown.items():
        growth = statistics.median(ratios)
        found.append(
            Figure(
                name=f"{name}: {large.hosts} hosts instead of {small.hosts}",
                value=growth,
                unit="times",
                floor=more,
                floor_name="as many times more hosts",
                ratio=growth / more,
                samples=len(ratios),
                p99=percentile(ratios, 99),
                wanted=1.0 if name == "one more VLAN" else None,
            )
        )
    return found


def _measured(sizes: Sequence[int]) -> list[_Point]:
    """Pools of these sizes, measured in turn."""
    with ExitStack() as stack:
        pools = [stack.enter_context(_pool_beside(size)) for size in sizes]
        turns: list[list[_Turn]] = [[_next(pool, "turn") for pool in pools] for _ in range(TURNS)]
        return [
            _Point(size, _next(pool, "rest"), [turn[place] for turn in turns])
            for place, (size, pool) in enumerate(zip(sizes, pools, strict=True))
        ]


def _next(pool: Connection, what: str) -> Any:
    pool.send(what)
    return pool.recv()


@contextmanager
def _pool_beside(hosts: int) -> Iterator[Connection]:
    """A pool in a process of its own, once it is ready. Raises EOFError if it dies."""
    context = multiprocessing.get_context("spawn")  # a fork would have the memory of this process besides
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(hosts, theirs), daemon=True)
    process.start()
    theirs.close()  # so that a process which dies is noticed
    try:
        ours.recv()
        yield ours
    finally:
        ours.close()
        process.join()


def _serve(hosts: int, asked: Connection) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    asyncio.run(_answer(hosts, asked))


async def _answer(hosts: int, asked: Connection) -> None:
    """Measures what is asked for, until nobody asks any more."""
    async with pool_of(hosts) as started:
        await _populate(started)
        with settled():
            asked.send("ready")
            tag = FIRST_TAG
            while True:
                try:
                    what = await asyncio.to_thread(asked.recv)
                except EOFError:
                    return
                if what == "turn":
                    taken = [await _vlan_s(started, tag + more) for more in range(VLANS_PER_TURN)]
                    tag += VLANS_PER_TURN
                    asked.send(_Turn(taken, _floor_s(started)))
                else:
                    asked.send(await _rest(started))


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
        one("a full plan", point.rest.plan_s, WANTED_S["plan"] if largest else None),
        one(
            f"{MATRIX_VMS} VMs × hosts explained",
            point.rest.matrix_s,
            WANTED_S["matrix"] if largest else None,
        ),
        one(
            f"{MATRIX_VMS} VM.get_possible_hosts", point.rest.each_s, WANTED_S["matrix"] if largest else None
        ),
        Figure(
            name=f"{point.hosts} simulated hosts: memory of the process, hosts included",
            value=point.rest.bytes / 1e6,
            unit="MB",
            floor=WANTED_BYTES / 1e6,
            floor_name="what is promised for 64 hosts",
            ratio=point.rest.bytes / WANTED_BYTES,
            wanted=1.0 if largest else None,
        ),
    ]


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


async def _vlan_s(started: Started, tag: int) -> float:
    """What one more VLAN on all hosts takes."""
    network = await _network(started, tag)
    began = time.perf_counter()
    await call(started, "pool.create_VLAN_from_PIF", pif=uplink(started), network=network, VLAN=tag)
    return time.perf_counter() - began


def _floor_s(started: Started) -> float:
    view = started.coordinator.view
    began = time.perf_counter()
    for host in view.refs(Host):
        state = derive(view, host)
        diff(state, state)
    return time.perf_counter() - began


async def _rest(started: Started) -> _Rest:
    plan_s = await _plan(started, await _network(started, PLANNED_TAG))
    vms = tuple(vm.ref for vm in started.coordinator.view.all(VM) if not vm.is_control_domain)[:MATRIX_VMS]
    began = time.perf_counter()
    explained = ask(started, "VM.explain_placement", vms=vms)
    matrix_s = time.perf_counter() - began
    if len(json.loads(explained)["vms"]) != len(vms):
        raise RuntimeError("not every VM was explained")
    began = time.perf_counter()
    for vm in vms:
        ask(started, "VM.get_possible_hosts", vm=vm)
    each_s = time.perf_counter() - began
    return _Rest(plan_s, matrix_s, each_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0)


async def _plan(started: Started, network: Any) -> float:
    """What a dry run of a VLAN on all hosts takes: rule and plan; nothing is changed."""
    began = time.perf_counter()
    txn = started.database.begin()
    context = started.coordinator.context(txn, Session())
    RULES["pool.create_VLAN_from_PIF"](context, pif=uplink(started), network=network, VLAN=PLANNED_TAG)
    plans = await started.coordinator.plan(txn, [context])
    taken = time.perf_counter() - began
    if not all(staged.plan.steps for _, staged in plans.values()):
        raise RuntimeError("a plan without steps was measured")
    return taken
