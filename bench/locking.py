"""What do locks cost? 512 VIFs locked by 512 calls at once, and a TCP stream between two guests, locked and unlocked.

It needs a lab with a real switch, so it needs root. The floor of the calls is one `ovs-ofctl --bundle replace-flows` of the
very flows that the switch has then, on the same switch without them; that of the stream is the same stream unlocked, in
turns with it. Of the streams the fastest count: whatever else runs on the machine only makes them slower.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.lab.running import RunningLab
from tests.lab.survival import Api

from bench.connections import CONNECTIONS_MAX, Connections
from bench.figure import Figure, Skipped, duration
from bench.streams import measure
from poolnet.lab import console, life, machine

LAB = "bench-locking"
VIFS, VIFS_PER_VM = 512, 7
ROUNDS = 5
STREAM_ROUNDS, STREAM_S = 15, 0.8
SETTLE_S = 1.0  # for what follows a change of a lock
RATIO_MAX = 2.0
SLOWER_MAX = 1 / 0.95
_HOST, _BY_HAND = "host1", "byhand"
_OFCTL = ("ovs-ofctl", "-O", "OpenFlow14", "--no-names")
_SET = "VIF.set_locking_mode"
_AT_ONCE = f"{VIFS} VIFs locked by {VIFS} concurrent calls"


async def figures() -> list[Figure | Skipped]:
    """What it takes to lock, or why that cannot be measured."""
    if os.geteuid() != 0:
        return [Skipped(name=_AT_ONCE, reason="needs root, for a lab with a real switch")]
    await life.up(LAB, hosts=1, nics=2, backend="openvswitch", pool=False)
    try:
        return [await _many(RunningLab(LAB))]
    finally:
        await life.down(LAB)


async def stream_figures() -> list[Figure | Skipped]:
    """What a lock costs those behind it, for each backend, or why that cannot be measured."""
    if os.geteuid() != 0:
        return [
            Skipped(name="TCP between two locked guests", reason="needs root, for a lab with a real switch")
        ]
    found: list[Figure | Skipped] = []
    for backend in ("openvswitch", "linuxbridge"):
        await life.up(LAB, hosts=1, nics=2, backend=backend, pool=False)
        try:
            found.append(await asyncio.to_thread(_stream, RunningLab(LAB), backend))
        finally:
            await life.down(LAB)
    return found


async def _many(lab: RunningLab) -> Figure:
    host = lab.lab.host(_HOST)
    vifs, bridge = await asyncio.to_thread(_populate, lab)
    api = Connections(Path(console.info(lab.lab)["hosts"][0]["xe_socket"]))
    await api.connect(min(VIFS, CONNECTIONS_MAX))
    api.session = await api.call("session.login_with_password", "root", "", "1.0", "bench")
    by_hand = (
        "add-br",
        _BY_HAND,
        "--",
        "set",
        "Bridge",
        _BY_HAND,
        "fail_mode=secure",
        "datapath_type=netdev",
    )
    await machine.run_in(host.pid, "ovs-vsctl", *by_hand)
    locked, floor = [], []
    for _ in range(ROUNDS):
        before = await machine.run_in(host.pid, *_OFCTL, "dump-flows", "--no-stats", bridge)
        began = time.perf_counter()
        await asyncio.gather(*(api.call(_SET, api.session, vif, "locked") for vif in vifs))
        locked.append(time.perf_counter() - began)
        after = await machine.run_in(host.pid, *_OFCTL, "dump-flows", "--no-stats", bridge)
        assert after.count("\n") > VIFS * 20, "the switch has the locks' flows"  # noqa: S101 - for the type checker; nothing from outside is asserted
        await asyncio.gather(*(api.call(_SET, api.session, vif, "unlocked") for vif in vifs))
        _replace_by_hand(host.pid, before)
        began = time.perf_counter()
        _replace_by_hand(host.pid, after)
        floor.append(time.perf_counter() - began)
    await api.close()
    return duration(_AT_ONCE, locked, floor, floor_name="one ovs-ofctl replace-flows", wanted=RATIO_MAX)


def _replace_by_hand(pid: int, flows: str) -> None:
    words = (*machine.entering(pid), *_OFCTL, "--bundle", "replace-flows", _BY_HAND, "-")
    subprocess.run(words, input=flows, check=True, text=True, stdout=subprocess.DEVNULL)  # noqa: S603 - no shell, and words of our own


def _populate(lab: RunningLab) -> tuple[list[str], str]:
    """Running VMs with as many VIFs as wanted, each with an address of each family; the bridge that they are on."""
    api = Api(lab, _HOST)
    network = api.network("many")
    vifs: list[str] = []
    while len(vifs) < VIFS:
        vm = api.vm(f"vm{len(vifs)}")
        for device in range(min(VIFS_PER_VM, VIFS - len(vifs))):
            number = len(vifs)
            allowed = {
                "ipv4_allowed": [f"10.{100 + number // 256}.{number % 256}.1"],
                "ipv6_allowed": [f"fd00::{number + 1:x}"],
                "locking_mode": "unlocked",
            }
            vifs.append(api.vif(vm, network, device, **allowed))
        api.call("VM.start", vm, False, False)
    bridge: str = api.call("network.get_bridge", network)
    return vifs, bridge


def _stream(lab: RunningLab, backend: str) -> Figure:
    """A stream from one guest to another, in turns without and with a lock on both."""
    api = Api(lab, _HOST)
    network = api.network("stream")
    vifs = []
    for number, name in enumerate(("sender", "receiver"), 1):
        vm = api.vm(name)
        address = f"10.99.0.{number}"
        allowed: dict[str, Any] = {"ipv4_allowed": [address], "ipv6_allowed": [f"fd99::{number}"]}
        vifs.append(api.vif(vm, network, locking_mode="unlocked", **allowed))
        api.call("VM.start", vm, False, False)
        lab.guest(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    sender, receiver = (console.entering_guest(lab.lab, name) for name in ("sender", "receiver"))
    speeds: dict[str, list[float]] = {"unlocked": [], "locked": []}
    for number in range(STREAM_ROUNDS):
        for mode in sorted(speeds, reverse=bool(number % 2)):
            for vif in vifs:
                api.call(_SET, vif, mode)
            time.sleep(SETTLE_S)
            speeds[mode].append(measure("tcp", sender, receiver, "10.99.0.2", 0, STREAM_S).payload_per_s)
    locked, unlocked = max(speeds["locked"]), max(speeds["unlocked"])
    return Figure(
        name=f"TCP between two locked guests, {backend}",
        value=locked * 8 / 1e6,
        unit="Mbit/s",
        floor=unlocked * 8 / 1e6,
        floor_name="the same two, unlocked",
        ratio=unlocked / locked,
        samples=STREAM_ROUNDS,
        wanted=SLOWER_MAX,
    )
