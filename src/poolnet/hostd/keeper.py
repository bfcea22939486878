"""Who puts the host back when something else than a rollout changed it?

A switch that restarts makes its interfaces anew, down and without addresses; a host that boots has its bridges in the
switch's database and no link up; somebody may take an address or a port away by hand. The keeper is told of every
change of the kernel and the switch, compares, and restores the confirmed state.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from poolnet.hostd.backend import ApplyFailed, BackendGone
from poolnet.hostd.rollout import Rollouts

LOG = structlog.stdlib.get_logger("poolnet.hostd.keeper")
TOGETHER_S = 0.3  # a switch that comes back reports its interfaces one after the other
RETRY_FIRST_S = 2.0  # what could not be restored is tried again, ever more seldom, or when something changes
RETRY_MAX_S = 60.0


class Keeper:
    """Keeps a host as it was confirmed."""

    def __init__(self, rollouts: Rollouts) -> None:
        self._rollouts = rollouts
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to keep."""
        self._task = asyncio.create_task(self._keep(), name="keeper")

    async def close(self) -> None:
        """Keeps no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note_change(self) -> None:
        """Something changed: compare soon."""
        self._changed.set()

    async def _keep(self) -> None:
        retry_s = RETRY_FIRST_S
        while True:
            await self._changed.wait()
            await asyncio.sleep(TOGETHER_S)
            self._changed.clear()
            try:
                kept = await self._rollouts.keep()
            except (ApplyFailed, BackendGone) as error:
                LOG.warning("the host cannot be put back yet", error=str(error))
                if isinstance(error, BackendGone):
                    self._rollouts.note_lost()
                kept = False
            except Exception as error:  # the outermost loop: nobody else would put the host back
                LOG.exception("the host cannot be put back yet", error=str(error))
                kept = False
            if kept:
                retry_s = RETRY_FIRST_S
                continue
            await asyncio.sleep(RETRY_FIRST_S)  # at least: what failed may have changed something itself
            with suppress(TimeoutError):
                async with asyncio.timeout(retry_s - RETRY_FIRST_S):
                    await self._changed.wait()
            retry_s = min(2 * retry_s, RETRY_MAX_S)
            self._changed.set()
