"""Who waits for a change, and when does each of them hear of it? The events ask.

A change wakes everybody who waits. A hundred calls that go on in the same round of the event loop would keep it from
everybody else for milliseconds, so each is woken when it is its client's turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

Place: TypeAlias = asyncio.Future[None]
Wake: TypeAlias = Callable[[Place], None]
"""Has a place done when it is a client's turn."""


@dataclass(slots=True, eq=False)
class Waiter:
    """One call that waits, again and again, until its session has ended."""

    ended: bool = False
    place: Place | None = None

    def end(self) -> None:
        """Says that the session has ended."""
        self.ended = True
        if self.place is not None:
            at_once(self.place)


class Waiters:
    """The calls that wait, by session."""

    def __init__(self) -> None:
        self._of: dict[str, set[Waiter]] = {}

    @contextmanager
    def of(self, session: str) -> Iterator[Waiter]:
        """Counts a call of a session while the body lasts."""
        waiter = Waiter()
        self._of.setdefault(session, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiting = self._of.get(session, set())
            waiting.discard(waiter)
            if not waiting:
                self._of.pop(session, None)

    def sessions(self) -> Iterable[str]:
        """The sessions that have such calls."""
        return tuple(self._of)

    def end(self, session: str) -> None:
        """Wakes a session's calls because it has ended."""
        for waiter in self._of.pop(session, set()):
            waiter.end()


class Sleepers:
    """Those who wait for the same kind of change: woken `after_s` seconds after the first one that each of them sleeps through."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._asleep: dict[Place, Wake] = {}

    def __len__(self) -> int:
        """How many no change has come for yet."""
        return len(self._asleep)

    async def sleep(self, waiter: Waiter, wake: Wake, *, until: float | None = None) -> None:
        """Returns when a change has come, at that time of the loop's clock, or when the waiter's session has ended."""
        if waiter.ended:
            return
        loop = asyncio.get_running_loop()
        place = waiter.place = loop.create_future()
        self._asleep[place] = wake
        timer = loop.call_at(until, wake, place) if until is not None else None
        try:
            await place
        finally:
            waiter.place = None
            self._asleep.pop(place, None)
            if timer is not None:
                timer.cancel()

    def rouse(self) -> None:
        """A change has come: whoever sleeps now is woken in time."""
        if not self._asleep:
            return
        roused, self._asleep = self._asleep, {}
        asyncio.get_running_loop().call_later(self._after_s, _wake_all, roused)


def at_once(place: Place) -> None:
    """Wakes without waiting for a turn."""
    if not place.done():
        place.set_result(None)


def _wake_all(roused: dict[Place, Wake]) -> None:
    for place, wake in roused.items():
        if not place.done():
            wake(place)
