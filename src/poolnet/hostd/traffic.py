"""How many bytes a second go through an interface? The kernel counts; here they are read every five seconds.

The period is the reference's. One read has all interfaces, so hundreds of VIFs cost no more than the kernel's own work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from poolnet.hostnet.protocol import LinkRate

PERIOD_S: Final = 5.0
_COUNTERS: Final = Path("/proc/net/dev")
_RECEIVED, _SENT = 0, 8  # columns


class Traffic:
    """The counters of this host's interfaces, as they were at the last two looks."""

    def __init__(self) -> None:
        self._before: tuple[float, Mapping[str, tuple[int, int]]] = (0.0, {})
        self._now: tuple[float, Mapping[str, tuple[int, int]]] = (0.0, {})
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._look_again(), name="traffic")

    async def close(self) -> None:
        """Looks no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note(self, now_s: float, text: str) -> None:
        """Takes a look's text; those before the last one are forgotten."""
        self._before, self._now = self._now, (now_s, counters(text))

    def rates(self, devices: Collection[str]) -> tuple[LinkRate, ...]:
        """The rates of these interfaces, of those that were there at both looks."""
        (then, old), (now, new) = self._before, self._now
        return tuple(
            LinkRate(
                device=device,
                received_bytes_per_s=max(0, new[device][0] - old[device][0]) / (now - then),
                sent_bytes_per_s=max(0, new[device][1] - old[device][1]) / (now - then),
            )
            for device in sorted(set(devices) & old.keys() & new.keys())
        )

    async def _look_again(self) -> None:
        while True:
            self.note(time.monotonic(), _COUNTERS.read_text())
            await asyncio.sleep(PERIOD_S)


def counters(text: str) -> dict[str, tuple[int, int]]:
    """Bytes received and sent by interface, from the kernel's table."""
    lines = (line.rpartition(":") for line in text.splitlines()[2:])  # below its heading
    fields = ((name.strip(), values.split()) for name, _, values in lines)
    return {name: (int(values[_RECEIVED]), int(values[_SENT])) for name, values in fields if name}
