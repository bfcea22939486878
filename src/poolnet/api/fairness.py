"""How do clients share what there is? Rates per client, and turns that go round between clients.

The login (`logins`), the calls and the long polls (`budgets`) use these. Nothing here knows what a client is: a key is any
text. Clocks are in seconds and never go back.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass


class Full(Exception):
    """A key waits for too much already."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rates:
    """A rate for each key: `burst` at once, and `per_s` in the long run.

    Keys that have had nothing for as long as it takes to fill up are forgotten, and never more than `keys_max` are kept:
    who is forgotten has a full burst again, so that many keys cost an attacker as many sources.
    """

    def __init__(
        self, burst: float, per_s: float, clock: Callable[[], float], *, keys_max: int = 10_000
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._clock = clock
        self._keys_max = keys_max
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, key: str, amount: float = 1.0) -> float:
        """How long until the key may have that much; 0 if at once."""
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0.0
        missing = min(amount, self._burst) - self._now(bucket)
        return max(0.0, missing / self._per_s)

    def take(self, key: str, amount: float = 1.0) -> float:
        """Takes that much, on credit if need be; how long the key should wait for it."""
        bucket = self._buckets.pop(key, None) or _Bucket(self._burst, self._clock())
        bucket.tokens = self._now(bucket) - amount
        bucket.at = self._clock()
        self._buckets[key] = bucket
        self._forget()
        return max(0.0, -bucket.tokens / self._per_s)

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._buckets)

    def _now(self, bucket: _Bucket) -> float:
        return min(self._burst, bucket.tokens + (self._clock() - bucket.at) * self._per_s)

    def _forget(self) -> None:
        """Drops the least recently used keys: those that are full again, and those above the number."""
        while self._buckets:
            key, oldest = next(iter(self._buckets.items()))
            if len(self._buckets) <= self._keys_max and self._now(oldest) < self._burst:
                return
            del self._buckets[key]


class FairGate:
    """Lets `at_once` workers in, no more than `of_key` of one key, and between keys in turn."""

    def __init__(self, at_once: int, *, of_key: int, waiting_max: int) -> None:
        self._free = at_once
        self._of_key = of_key
        self._waiting_max = waiting_max
        self._inside: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def entered(self, key: str) -> AsyncIterator[None]:
        """Waits for a place, and keeps it for the body.

        Raises:
            Full: The key has `waiting_max` waiting already.
        """
        if self._waiting or not self._may(key):
            await self._wait(key)
        else:
            self._enter(key)
        try:
            yield
        finally:
            self._leave(key)

    def _may(self, key: str) -> bool:
        return self._free > 0 and self._inside[key] < self._of_key

    def _enter(self, key: str) -> None:
        self._free -= 1
        self._inside[key] += 1

    def _leave(self, key: str) -> None:
        self._free += 1
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]
        self._admit()

    async def _wait(self, key: str) -> None:
        queue = self._waiting.setdefault(key, deque())
        if len(queue) >= self._waiting_max:
            raise Full
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(place)
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._leave(key)  # it was let in at the very moment that it gave up
            else:
                self._drop(key, place)
            raise

    def _drop(self, key: str, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(key)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[key]

    def _admit(self) -> None:
        """Lets in whoever may: the keys go round, each has one at a time."""
        for key in tuple(self._waiting):
            if self._free <= 0:
                return
            if not self._may(key):
                continue
            queue = self._waiting[key]
            place = queue.popleft()
            self._waiting.move_to_end(key)
            if not queue:
                del self._waiting[key]
            if not place.done():
                self._enter(key)
                place.set_result(None)


class Turns:
    """Turns of an event loop: in each round of the loop, each key begins one piece of work.

    The loop does everything in one thread, so whoever has two hundred calls ready would have them all done before
    anybody else's next one. Here each of them waits for its turn, a key that has one call waits for one of each other
    key at most, and a key that has begun nothing in this round does not wait at all.
    """

    def __init__(self) -> None:
        self._began: set[str] = set()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._scheduled = False

    async def take(self, key: str) -> None:
        """Returns when it is the key's turn."""
        if key not in self._began and key not in self._waiting:
            self._began.add(key)
            self._next_round()
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wake(key, place)
        await place

    def wake(self, key: str, place: asyncio.Future[None]) -> None:
        """Has a future done when it is the key's turn, unless it is done before."""
        self._waiting.setdefault(key, deque()).append(place)
        self._next_round()

    def _next_round(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._round)

    def _round(self) -> None:
        self._scheduled = False
        self._began.clear()
        for key in tuple(self._waiting):
            queue = self._waiting[key]
            while queue:
                place = queue.popleft()
                if not place.done():  # who has hung up takes no turn
                    place.set_result(None)
                    self._began.add(key)
                    break
            if not queue:
                del self._waiting[key]
        if self._began:
            self._next_round()
