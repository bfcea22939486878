"""Whatever goes wrong when a host is put back, it is tried again: soon after a change, and else ever more seldom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

import poolnet.hostd
from poolnet.hostd import keeper
from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.keeper import Keeper
from poolnet.hostd.rollout import Rollouts
from poolnet.hostnet.protocol import Fault


class Tried:
    """Stands for the rollouts; each attempt ends as it is told."""

    def __init__(self, *ends: Exception | bool) -> None:
        self.ends = list(ends)
        self.at_s: list[float] = []
        self.done = asyncio.Event()

    async def keep(self) -> bool:
        """One more attempt."""
        self.at_s.append(asyncio.get_running_loop().time())
        end = self.ends.pop(0)
        if not self.ends:
            self.done.set()
        if isinstance(end, Exception):
            raise end
        return end


async def carried_out(tried: Tried) -> None:
    kept = Keeper(cast(Rollouts, tried))
    kept.start()
    kept.note_change()
    try:
        async with asyncio.timeout(20.0):
            await tried.done.wait()
            await asyncio.sleep(0)
    finally:
        await kept.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of a test."""
    monkeypatch.setattr(keeper, "TOGETHER_S", 0.01)
    monkeypatch.setattr(keeper, "RETRY_FIRST_S", 0.05)


def test_no_failure_ends_the_keeper() -> None:
    failures = (
        ApplyFailed(Fault.SWITCH_FAILED, "no switch"),
        OSError(28, "no space"),
        KeyError("a bug"),
        False,
    )
    tried = Tried(*failures, True)
    asyncio.run(carried_out(tried))
    assert tried.ends == []
    assert len(tried.at_s) == 5


def test_a_change_ends_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "RETRY_MAX_S", 60.0)
    tried = Tried(*([False] * 9), True)  # the ninth wait is 12.8 s
    began = []

    async def body() -> None:
        began.append(asyncio.get_running_loop().time())
        kept = Keeper(cast(Rollouts, tried))
        kept.start()
        kept.note_change()
        try:
            async with asyncio.timeout(20.0):
                while not tried.done.is_set():
                    await asyncio.sleep(0.02)
                    kept.note_change()
        finally:
            await kept.close()

    asyncio.run(body())
    assert tried.at_s[-1] - began[0] < 6.4  # by its own times it would be 25.6 s


def test_the_daemon_reads_no_clock_that_somebody_may_set() -> None:
    for path in Path(poolnet.hostd.__path__[0]).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for clock in ("time.time(", "datetime", "CLOCK_REALTIME", "gmtime", "localtime"):
            assert clock not in text, f"{path}: {clock}"
