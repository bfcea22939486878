"""What arrives of a limited VM's stream, at each limit and on each backend, counted by the receiver over ten seconds.

UDP is offered at one and a half times the limit. Frames are Ethernet's, without preamble and checksum, as the limit counts
them; the floor is the limit itself. TCP's own payload is 95.6 % of that, UDP's 97.2 %.

First comes what the datapath carries without any limit, beside the largest one: where that is less, no limit is reached. A
limited VM's frames pass Open vSwitch in user space twice, so about half of it remains there.

Open vSwitch's datapath in the kernel is measured on the kernel of the tests (`tests/kernel`), a machine about ten times
slower than this one: with two of the limits, and without one as a measure of what it can carry.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.kernel import machine as kernel

from bench.figure import Figure, Skipped
from bench.streams import measure
from poolnet.lab import console, life, machine
from poolnet.lab.state import Lab

LAB = "bench"
BACKENDS = ("openvswitch", "linuxbridge")
KBYTES_PER_S = (100, 1000, 10_000, 50_000)
KBYTES_PER_S_IN_THE_KERNEL = (100, 1000)
IN_THE_KERNEL = "openvswitch in the kernel (User Mode Linux)"
_KERNEL_LIMIT_S = 300.0
_MARK = "FIGURE "
SECONDS = 10.0
FREE_SECONDS = 3.0
_KILOBYTE = 1024
_OFFERED = 1.5
_ADDRESSES = {"sender": "10.99.0.1", "receiver": "10.99.0.2"}


async def figures() -> list[Figure | Skipped]:
    """The figures, or why there are none."""
    if os.geteuid() != 0:
        return [Skipped(name="rate limits", reason="needs root, for labs with real switches")]
    found: list[Figure | Skipped] = []
    for backend in BACKENDS:
        found += await _on(backend, backend, KBYTES_PER_S)
    return [*found, *await asyncio.to_thread(_in_the_kernel)]


async def _on(backend: str, name: str, limits: Sequence[int]) -> list[Figure]:
    lab = await life.up(LAB, hosts=1, nics=1, backend=backend, pool=False)
    try:
        return [figure async for figure in _measured(lab, name, limits)]
    finally:
        await life.down(LAB)


def _in_the_kernel() -> list[Figure | Skipped]:
    """What this module prints when it is run as a program on the other kernel."""
    if not Path(kernel.KERNEL).exists():
        return [Skipped(name=f"rate limits, {IN_THE_KERNEL}", reason=f"there is no {kernel.KERNEL}")]
    words = (sys.executable, "-m", "bench.rates")
    with TemporaryDirectory(prefix="bench-rates") as directory:
        done = kernel.run(words, {}, Path(directory), limit_s=_KERNEL_LIMIT_S)
    lines = (line.partition(_MARK)[2] for line in done.console.splitlines() if _MARK in line)
    return [Figure(**json.loads(line)) for line in lines]


def _main() -> None:
    for figure in asyncio.run(_on("openvswitch", IN_THE_KERNEL, KBYTES_PER_S_IN_THE_KERNEL)):
        sys.stdout.write(f"{_MARK}{json.dumps(asdict(figure))}\n")


async def _measured(lab: Lab, backend: str, limits: Sequence[int]) -> AsyncIterator[Figure]:
    network = await _xe(lab, "network-create", "name-label=bench")
    for name, address in _ADDRESSES.items():
        vm = await _xe(lab, "vm-create", f"name-label={name}")
        await _xe(lab, "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        await _xe(lab, "vm-start", f"uuid={vm}")
        inside = console.entering_guest(lab, name)
        await machine.run(*inside, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    vif = await _xe(lab, "vif-list", "vm-name-label=sender", "params=uuid", "--minimal")
    await _xe(lab, "vif-param-set", f"uuid={vif}", "qos_algorithm_type=ratelimit")
    sender, receiver = (console.entering_guest(lab, name) for name in _ADDRESSES)

    async def figure(protocol: str, name: str, limit: int, seconds: float, floor_name: str) -> Figure:
        offered = int(_OFFERED * limit)
        arrived = await asyncio.to_thread(
            measure, protocol, sender, receiver, _ADDRESSES["receiver"], offered, seconds
        )
        return Figure(
            name=f"{protocol.upper()} {name}, {backend}",
            value=arrived.frames_per_s / _KILOBYTE,
            unit="kB/s",
            floor=limit / _KILOBYTE,
            floor_name=floor_name,
            ratio=limit / arrived.frames_per_s,
        )

    largest = max(limits) * _KILOBYTE
    for protocol, words in (("udp", "; 1.5 times that is sent"), ("tcp", "")):
        yield await figure(protocol, "without a limit", largest, FREE_SECONDS, f"the largest limit{words}")
    for kbytes in limits:
        await _xe(lab, "vif-param-set", f"uuid={vif}", f"qos_algorithm_params:kbps={kbytes}")
        for protocol in ("udp", "tcp"):
            yield await figure(protocol, f"at {kbytes} kB/s", kbytes * _KILOBYTE, SECONDS, "the limit")


async def _xe(lab: Lab, *words: str) -> str:
    return (await machine.run_in(lab.hosts[0].pid, "xe", *words)).strip()


if __name__ == "__main__":
    _main()
