"""How long does it take to prove 512 locks on a live switch, beside the same traces by the switch's own tool?

A private Open vSwitch and a host daemon in a network of their own, as root. The daemon is asked as the API server asks it,
in portions. The floor is `ovs-appctl ofproto/trace` for a part of the frames, one process each, as a script would do it,
times as many as there are; for the Linux bridge, which has no such tool, it is `nft` listing the table once for each port.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import XENBR0, locked, network, port

from bench.figure import Figure, Skipped, duration
from poolnet.hostnet.protocol import VERIFY_PORTS_MAX, LocksVerified, VerifyLocks
from poolnet.hostnet.state import GuestPort
from poolnet.lock.prove import probes

PORTS = 512
ROUNDS = 3
FLOOR_FRAMES = 100
FLOOR_LISTINGS = 20
WANTED = 0.06  # of the floor: 10 s where one ovs-appctl takes 3.5 ms


def figures() -> list[Figure | Skipped]:
    """One figure for each backend, or why there is none."""
    return [_figure("openvswitch"), _figure("linuxbridge")]


def _figure(backend: str) -> Figure | Skipped:
    name = f"{PORTS} locked VIFs proved ({backend})"
    if os.geteuid() != 0:
        return Skipped(name=name, reason="needs root, for a real switch")
    taken: list[float] = []
    floor: list[float] = []

    async def body(rig: Rig) -> None:
        guests = _guests(rig)
        await rig.roll_out(network(XENBR0, *guests))
        taken.extend([await _prove(rig, guests) for _ in range(ROUNDS)])
        floor.append(_traces(rig, guests) if backend == "openvswitch" else _listings(rig))

    with TemporaryDirectory(prefix="bench-locks") as directory:
        with_rig(Path(directory), body, backend=backend)
    floor_name = "one ovs-appctl per frame" if backend == "openvswitch" else "nft -j list, once a port"
    wanted = WANTED if backend == "openvswitch" else None
    return duration(name, taken, floor, floor_name=floor_name, wanted=wanted)


def _guests(rig: Rig) -> list[GuestPort]:
    commands = rig.directory / "links"
    numbers = range(1, PORTS + 1)
    commands.write_text(
        "".join(f"link add vif{n}.0 type veth peer name g{n}\nlink set vif{n}.0 up\n" for n in numbers)
    )
    rig.sh("ip", "-batch", str(commands))
    return [port(n, "xenbr0", replace(locked(n), ipv6_allowed=(f"fd00::{n:x}",))) for n in numbers]


async def _prove(rig: Rig, guests: Sequence[GuestPort]) -> float:
    began = time.perf_counter()
    for start in range(0, len(guests), VERIFY_PORTS_MAX):
        some = tuple(guests[start : start + VERIFY_PORTS_MAX])
        answer = await rig.link.request(VerifyLocks(ports=some, rules=start == 0), LocksVerified)
        wrong = [proof for proof in answer.proofs if proof.wrong or proof.faults or not proof.frames]
        if wrong or answer.rules:
            raise AssertionError(f"a false alarm: {wrong[:1]} {answer.rules[:1]}")
    return time.perf_counter() - began


def _traces(rig: Rig, guests: Sequence[GuestPort]) -> float:
    frames = [probe.frame.hex() for probe in probes(guests[0].lock)]
    ofport = rig.sh("ovs-vsctl", "get", "Interface", guests[0].device, "ofport").strip()
    began = time.perf_counter()
    for frame in frames[:FLOOR_FRAMES]:
        rig.sh("ovs-appctl", "ofproto/trace", "xenbr0v", f"in_port={ofport}", frame)
    each = (time.perf_counter() - began) / min(FLOOR_FRAMES, len(frames))
    return each * len(frames) * len(guests)


def _listings(rig: Rig) -> float:
    began = time.perf_counter()
    for _ in range(FLOOR_LISTINGS):
        rig.sh("nft", "-j", "list", "table", "bridge", "poolnet")
    return (time.perf_counter() - began) / FLOOR_LISTINGS * PORTS
