"""How long does a whole `xe` command take, server included? Beside `python3 -c pass` with the same Python."""

from __future__ import annotations

import os
import sys
import time
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL
from collections.abc import Sequence
from pathlib import Path

from bench.figure import Figure, duration
from bench.server import serving

RUNS = 40


async def figures() -> list[Figure]:
    """`xe network-list` over the local socket, in turns with the floor."""
    xe = str(Path(sys.executable).with_name("xe"))
    floor: list[float] = []
    command: list[float] = []
    async with serving() as served:
        environment = {**os.environ, "POOLNET_ROOT": str(served.root)}
        for _ in range(RUNS):
            floor.append(await _seconds((sys.executable, "-c", "pass"), environment))
            command.append(await _seconds((xe, "network-list"), environment))
    return [duration("xe network-list, server included", command, floor, floor_name="python3 -c pass")]


async def _seconds(words: Sequence[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    process = await create_subprocess_exec(*words, env=environment, stdin=DEVNULL, stdout=DEVNULL)
    if await process.wait() != 0:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return time.perf_counter() - began
