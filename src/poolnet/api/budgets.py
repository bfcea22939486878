"""How much of the server does one client get? Turns, rates and numbers per machine and per session.

The HTTP server, the dispatcher and the events share one of these. Whoever asks for too much waits longer, which every client
understands; only what would be kept (blocked event calls, background tasks) is refused, with an error of the API. Whoever
comes over the Unix socket has turns like everybody else, but no rate: root must get in during a flood.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from poolnet.api import limits
from poolnet.api.fairness import FairGate, Rates, Turns
from poolnet.api.listener import LOCAL, machine_of
from poolnet.model import errors


class Budgets:
    """Who has used what. Made inside the event loop that the clients share."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, rates: bool = True) -> None:
        """Without `rates` nobody waits for anything but turns: for measuring how fast the server is."""
        self._rates = rates
        self._turns = Turns()
        self._calls_of_machine = Rates(limits.CALLS_OF_MACHINE_BURST, limits.CALLS_OF_MACHINE_PER_S, clock)
        self._calls_of_session = Rates(limits.CALLS_OF_SESSION_BURST, limits.CALLS_OF_SESSION_PER_S, clock)
        self._bytes = Rates(limits.BYTES_OF_MACHINE_BURST, limits.BYTES_OF_MACHINE_PER_S, clock)
        self._fulls = Rates(limits.FULL_POLLS_OF_MACHINE_BURST, limits.FULL_POLLS_OF_MACHINE_PER_S, clock)
        self._large = FairGate(
            limits.CONNECTIONS_MAX,
            of_key=limits.LARGE_ANSWERS_OF_MACHINE,
            waiting_max=limits.CONNECTIONS_MAX,
        )
        self._polls_of_machine: Counter[str] = Counter()
        self._polls_of_session: Counter[str] = Counter()

    async def turn(self, peer: str) -> None:
        """Waits for the turn of the client at that address: before anything that takes more than a moment."""
        await self.turn_of(_machine(peer))

    async def turn_of(self, machine: str) -> None:
        """Waits for the turn of a machine, as `machine_of` names it."""
        await self._turns.take(machine)

    def wake(self, peer: str, place: asyncio.Future[None]) -> None:
        """Has a future done at the turn of the client at that address: a change wakes all who wait for one."""
        self._turns.wake(_machine(peer), place)

    async def admit_request(self, peer: str, size: int) -> None:
        """Waits until a request of that many bytes may be parsed."""
        machine = _machine(peer)
        if self._rates and machine != LOCAL:
            await _pause(max(self._calls_of_machine.take(machine), self._bytes.take(machine, size)))
        await self._turns.take(machine)

    async def admit_call(self, peer: str, session: str) -> None:
        """Waits until the session may have one more call."""
        if self._rates and _machine(peer) != LOCAL:
            await _pause(self._calls_of_session.take(session[: limits.SESSION_CHARS]))

    async def admit_full_poll(self, peer: str) -> None:
        """Waits until a client may have all of the database as events."""
        if self._rates and _machine(peer) != LOCAL:
            await _pause(self._fulls.take(_machine(peer)))

    @asynccontextmanager
    async def sending(self, peer: str, size: int) -> AsyncIterator[None]:
        """Waits until an answer of that size may be sent: the system has work with every one that is under way."""
        if size < limits.LARGE_ANSWER_BYTES:
            yield
            return
        async with self._large.entered(_machine(peer)):
            yield

    @contextmanager
    def poll(self, peer: str, session: str) -> Iterator[None]:
        """Counts a call that may wait for long.

        Raises:
            TOO_BUSY: The session, or the machine, has too many of them.
        """
        machine = _machine(peer)
        if self._polls_of_session[session] >= limits.POLLS_OF_SESSION_MAX or (
            machine != LOCAL and self._polls_of_machine[machine] >= limits.POLLS_OF_MACHINE_MAX
        ):
            raise errors.too_busy()
        self._polls_of_session[session] += 1
        self._polls_of_machine[machine] += 1
        try:
            yield
        finally:
            _uncount(self._polls_of_session, session)
            _uncount(self._polls_of_machine, machine)


def _machine(peer: str) -> str:
    return machine_of(peer) if peer else LOCAL


def _uncount(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
