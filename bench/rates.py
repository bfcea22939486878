"""What arrives of a limited VM's stream, at each limit and on each backend, counted by the receiver over ten seconds.

UDP is offered at one and a half times the limit. Frames are Ethernet's, without preamble and checksum, as the limit counts
them; the floor is the limit itself. TCP's own payload is 95.6 % of that, UDP's 97.2 %.

First comes what the datapath carries without any limit, beside the largest one: where that is less, no limit is reached. A
limited VM's frames pass Open vSwitch in user space twice, so about half of it remains there.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

from bench.figure import Figure, Skipped
from bench.streams import measure
from poolnet.lab import console, life, machine
from poolnet.lab.state import Lab

LAB = "bench"
BACKENDS = ("openvswitch", "linuxbridge")
KBYTES_PER_S = (100, 1000, 10_000, 50_000)
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
        lab = await life.up(LAB, hosts=1, nics=1, backend=backend, pool=False)
        try:
            found += [figure async for figure in _measured(lab, backend)]
        finally:
            await life.down(LAB)
    return found


async def _measured(lab: Lab, backend: str) -> AsyncIterator[Figure]:
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
    largest = max(KBYTES_PER_S) * _KILOBYTE
    for protocol in ("udp", "tcp"):
        carried = await asyncio.to_thread(
            measure, protocol, sender, receiver, _ADDRESSES["receiver"], int(_OFFERED * largest), FREE_SECONDS
        )
        yield Figure(
            name=f"{protocol.upper()} without a limit, {backend}",
            value=carried.frames_per_s / _KILOBYTE,
            unit="kB/s",
            floor=largest / _KILOBYTE,
            floor_name="the largest limit"
            if protocol == "tcp"
            else "the largest limit; 1.5 times that is sent",
            ratio=largest / carried.frames_per_s,
        )
    for kbytes in KBYTES_PER_S:
        await _xe(lab, "vif-param-set", f"uuid={vif}", f"qos_algorithm_params:kbps={kbytes}")
        limit = kbytes * _KILOBYTE
        for protocol in ("udp", "tcp"):
            arrived = await asyncio.to_thread(
                measure, protocol, sender, receiver, _ADDRESSES["receiver"], int(_OFFERED * limit), SECONDS
            )
            yield Figure(
                name=f"{protocol.upper()} at {kbytes} kB/s, {backend}",
                value=arrived.frames_per_s / _KILOBYTE,
                unit="kB/s",
                floor=kbytes,
                floor_name="the limit",
                ratio=limit / arrived.frames_per_s,
            )


async def _xe(lab: Lab, *words: str) -> str:
    return (await machine.run_in(lab.hosts[0].pid, "xe", *words)).strip()
