"""What do the locks of this host stop, who is it, did somebody change them, and who takes addresses of the host's own?

The switch's counters are looked at every other second as long as somebody watches, added up (a lock that is replaced
begins to count at zero), and told when they have moved. What a guest does is told once for each reason, then not again for
some minutes: an attack must not become a flood of alerts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog

from poolnet.hostd.backend import Backend, BackendGone
from poolnet.hostd.taps import Taps
from poolnet.hostnet.facts import PortFacts
from poolnet.hostnet.protocol import DriftFound, LocksSeen, Offence
from poolnet.hostnet.state import HostNetwork, PortLock
from poolnet.lock.reasons import DropReason
from poolnet.lock.words import is_ordinary, offence

LOG = structlog.stdlib.get_logger("poolnet.hostd.evidence")
LOOK_S: Final = 2.0
COUNTS_S: Final = 5.0  # between two reports that say nothing but other numbers
WAIT_FOR_FRAME_S: Final = 4.0
AGAIN_S: Final = 600.0  # until the same guest is told of again for the same reason
OFFENCES_MAX: Final = 20  # of one report
REPAIRS_MAX: Final = 20  # that nobody has heard of yet; and so many conflicts

T = TypeVar("T")
_Key = tuple[str, str]  # device, reason


@dataclass(slots=True)
class _Pending:
    """Frames that were stopped and not told of yet, by which lock; `since` when they may be told of."""

    lock: PortLock
    count: int = 0
    since: float | None = None


class Evidence:
    """Counts, and tells."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._taps = Taps()
        self._raw: dict[_Key, int] = {}
        self._totals: dict[tuple[str, bool], dict[str, int]] = {}  # by device, and whether in shadow mode
        self._pending: dict[_Key, _Pending] = {}
        self._told: dict[_Key, float] = {}
        self._repaired: deque[str] = deque(maxlen=REPAIRS_MAX)
        self._conflicts: deque[str] = deque(maxlen=REPAIRS_MAX)
        self._drifts: deque[DriftFound] = deque(maxlen=REPAIRS_MAX)
        self._news = asyncio.Event()
        self._has_looked = False  # what was counted before is no news
        self._looking = asyncio.Lock()

    def note_repair(self, text: str) -> None:
        """Somebody else changed the locks, and they were put back."""
        if text not in self._repaired:
            self._repaired.append(text)
        self._news.set()

    def note_conflict(self, text: str) -> None:
        """Another machine has an address of this host."""
        if text not in self._conflicts:
            self._conflicts.append(text)
        self._news.set()

    def note_drift(self, found: DriftFound) -> None:
        """Somebody else changed the network."""
        self._drifts.append(found)
        self._news.set()

    def close(self) -> None:
        """Listens to no port any more."""
        self._taps.close_all()

    async def counters(self, devices: Collection[str]) -> tuple[PortFacts, ...]:
        """What was stopped at these ports since they were plugged, or at all of them. Raises BackendGone."""
        await self._look()
        return tuple(facts for facts in self._facts() if not devices or facts.device in devices)

    async def reports(self) -> AsyncIterator[LocksSeen]:
        """What is seen, now and whenever there is news; forever."""
        loop = asyncio.get_running_loop()
        said: tuple[PortFacts, ...] | None = None
        said_at = 0.0
        try:
            while True:
                with suppress(BackendGone):  # the switch restarts: later
                    await self._look()
                now = loop.time()
                offences = tuple(self._due(now))
                ports = self._facts()
                if (
                    offences
                    or self._repaired
                    or self._conflicts
                    or self._drifts
                    or (ports != said and (said is None or now - said_at >= COUNTS_S))
                ):
                    said, said_at = ports, now
                    yield LocksSeen(
                        ports=ports,
                        offences=offences,
                        repaired=_taken(self._repaired),
                        conflicts=_taken(self._conflicts),
                        drifts=_taken(self._drifts),
                    )
                self._news.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()
        finally:
            self._taps.close_all()

    async def _look(self) -> None:
        async with self._looking:
            found = await self._backend.counters(())
            moved = dict(self._moved(found))
            network = await self._backend.observe() if moved else None
            self._raw |= {(facts.device, reason): count for facts in found for reason, count in facts.dropped}
            self._forget({device for device, _ in self._raw} - {facts.device for facts in found})
            if network is not None:
                self._count(moved, network)
            self._has_looked = True

    def _forget(self, devices: Collection[str]) -> None:
        """These ports are gone; another guest's may get their name."""
        for known in (self._raw, self._pending, self._told):
            for key in [key for key in known if key[0] in devices]:
                del known[key]
        for device in devices:
            self._taps.close(device)
            self._totals.pop((device, False), None)
            self._totals.pop((device, True), None)

    def _moved(self, found: Iterable[PortFacts]) -> Iterator[tuple[_Key, int]]:
        """By how much each counter has grown; one that is smaller than before has begun anew."""
        for facts in found:
            for reason, count in facts.dropped:
                key = (facts.device, reason)
                known = self._raw.get(key, 0)
                more = count - known if count >= known else count
                if more:
                    yield key, more

    def _count(self, moved: Mapping[_Key, int], network: HostNetwork) -> None:
        now = asyncio.get_running_loop().time()
        # A port that somebody has changed has no lock that means anything, until it is put back.
        locks = {port.device: port.lock for port in network.ports if port.lock.mac}
        for (device, reason), more in moved.items():
            lock = locks.get(device)
            shadow = lock is not None and lock.shadow
            totals = self._totals.setdefault((device, shadow), {})
            totals[reason] = totals.get(reason, 0) + more
            if not self._has_looked or lock is None:
                continue
            pending = self._pending.setdefault((device, reason), _Pending(lock))
            pending.lock = lock
            pending.count += more
            if self._may_tell((device, reason), now):
                pending.since = now if pending.since is None else pending.since
                self._taps.listen(device, lock, (DropReason(reason),))

    def _may_tell(self, key: _Key, now: float) -> bool:
        return now - self._told.get(key, -AGAIN_S) >= AGAIN_S

    def _due(self, now: float) -> Iterator[Offence]:
        """What has to be told: with a frame as soon as there is one, without after a while."""
        told = 0
        for key in list(self._pending):
            pending = self._pending[key]
            device, reason = key
            if pending.since is None or told == OFFENCES_MAX:
                continue
            frame = self._taps.seen(device).get(DropReason(reason))
            if frame is None and now - pending.since < WAIT_FOR_FRAME_S:
                continue
            del self._pending[key]
            if is_ordinary(pending.lock, frame, DropReason(reason)):
                continue
            self._told[key] = now
            told += 1
            yield Offence(
                device=device,
                reason=reason,
                did=offence(DropReason(reason), frame),
                count=pending.count,
                shadow=pending.lock.shadow,
            )

    def _facts(self) -> tuple[PortFacts, ...]:
        reasons: dict[str, list[str]] = {}
        for device, reason in self._raw:
            reasons.setdefault(device, []).append(reason)
        return tuple(
            PortFacts(
                device=device,
                dropped=tuple((reason, dropped.get(reason, 0)) for reason in sorted(reasons[device])),
                shadowed=tuple(sorted(self._totals.get((device, True), {}).items())),
            )
            for device in sorted(reasons)
            for dropped in (self._totals.get((device, False), {}),)
        )


def _taken(queue: deque[T]) -> tuple[T, ...]:
    """What is in it, which is emptied."""
    taken = tuple(queue)
    queue.clear()
    return taken
