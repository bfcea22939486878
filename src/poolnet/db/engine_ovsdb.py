"""How are commits made durable on several hosts? An engine on a cluster of OVSDB servers, which agree by Raft.

After `append` returns, most of the servers have the record on their disks. Each append is one transaction that requires the
term of this engine and the number of the append before it. So a coordinator whose term is over cannot write, and a transaction
can be sent again whenever its outcome is not known: it is carried out once, and if it is too late, the database says whether
it was.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from poolnet.db import ovsdb_transactions as words
from poolnet.db.engine import CommitRecord, Stored
from poolnet.db.errors import DatabaseDamaged, DatabaseInUse, OutcomeUnknown, StorageFailed
from poolnet.db.ovsdb_schema import DATABASE
from poolnet.db.ovsdb_transactions import Turn
from poolnet.db.seat import BROKEN, TRANSACTION_S, NoMajority, Seat
from poolnet.ovsdb.connection import TransactionFailed
from poolnet.ovsdb.operations import Operation

log = structlog.get_logger("poolnet.db.engine_ovsdb")

LOAD_S: Final = 60.0
GIVE_UP_S: Final = 10.0  # without a majority for that long, nobody is kept waiting
AGAIN_S: Final = 0.05
_ELSEWHERE: Final = frozenset({"not owner", "timed out"})
"""Codes by which a transaction says that it came at the wrong time: without the lock, or after another."""

_PASSING: Final = frozenset(
    {"not leader", "cluster error", "timeout", "database removed", "canceled", "shutdown", "I/O error"}
)
"""Codes of a server that is about to lose, or gain, its place in the cluster."""


class OvsdbEngine:
    """An `Engine` at a host's seat, which has the lock.

    Args:
        seat: The seat.
        on_end: Told, in the engine's thread, when the engine can write nothing more.
    """

    def __init__(self, seat: Seat, on_end: Callable[[], None] = lambda: None) -> None:
        self._seat = seat
        self._on_end = on_end
        self._book: words.Book | None = None
        self._term = 0
        self._number = 0
        self._over = False

    @property
    def term(self) -> int:
        """The term in which this engine writes."""
        return self._term

    def load(self) -> Stored:
        """See `Engine`. Begins a term."""
        if self._book is not None:
            raise DatabaseInUse("this engine is open already")
        with _asking():
            stored = self._seat.do(self._load(), LOAD_S)
        self._over = False
        return stored

    async def _load(self) -> Stored:
        self._term = await self._seat.begin_term(LOAD_S / 2)
        while True:
            results = await self._seat.transact(words.read_operations(), LOAD_S / 2)
            turn = words.turn_in(results)
            if turn.term >= self._term:
                break
            await asyncio.sleep(AGAIN_S)  # a new leader that is behind
        if turn.term != self._term:
            raise NoMajority("another host coordinates")
        self._number = turn.number
        stored, self._book = words.read(results, self._seat.host)
        return stored

    def append(self, record: CommitRecord) -> None:
        """See `Engine`.

        Raises:
            StorageFailed: it has not been made durable, and never will be.
            OutcomeUnknown: nobody can say; the engine writes nothing more.
        """
        book = self._book
        if book is None or self._over:
            raise StorageFailed("the engine is not open, or another host coordinates")
        try:
            work = words.operations_of(record, book, self._seat.host)
        except DatabaseDamaged as error:
            raise StorageFailed(str(error)) from error
        try:
            self._seat.do(self._append(work), GIVE_UP_S + TRANSACTION_S)
        except (TimeoutError, RuntimeError, concurrent.futures.CancelledError) as error:
            self._end()
            raise OutcomeUnknown("the database's cluster does not answer") from error
        self._number += 1
        book.remember(record)

    async def _append(self, work: list[Operation]) -> None:
        """Sends a transaction until its outcome is known. Raises StorageFailed, TimeoutError."""
        transaction = words.guarded(work, self._term, self._number)
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                try:
                    connection = await self._seat.leader(GIVE_UP_S)
                    if self._seat.holds(connection):
                        await connection.transact(DATABASE, transaction, TRANSACTION_S)
                        return
                    await asyncio.sleep(AGAIN_S)
                except TransactionFailed as error:
                    if error.code not in _ELSEWHERE | _PASSING:
                        raise StorageFailed(f"the database's cluster: {error}") from error
                    await asyncio.sleep(AGAIN_S)
                except (NoMajority, *BROKEN) as error:
                    log.info("append-again", reason=f"{type(error).__name__} {error}")
                    await asyncio.sleep(AGAIN_S)
                if await self._is_carried_out():
                    return

    async def _is_carried_out(self) -> bool:
        """Whether the transaction after `number` is in the database. Raises StorageFailed if it never will be."""
        try:
            connection = await self._seat.leader(GIVE_UP_S)
            turn, terms = await self._seat.ask_state(connection)
        except (NoMajority, *BROKEN):
            return False
        if turn.term == self._term:
            return turn.number > self._number
        if turn.term < self._term:
            return False  # a server that is behind
        self._end()
        if words.is_committed(terms, self._term, self._number):
            return True
        raise StorageFailed("another host coordinates")

    def _end(self) -> None:
        self._over = True
        self._on_end()

    def close(self) -> None:
        """See `Engine`; closing twice is allowed."""
        self._book = None


def seed(seat: Seat, stored: Stored, line: str, term: int) -> None:
    """Writes a whole database to a cluster that has none in use; this host is to coordinate it, in a later term.

    Raises:
        StorageFailed: it could not be written; the cluster is not in use then.
    """
    with _asking():
        seat.do(_seed(seat, stored, line, term))


async def _seed(seat: Seat, stored: Stored, line: str, term: int) -> None:
    found, _ = await seat.state(LOAD_S)
    if found.ready and found.line == line:
        return  # done before, and the answer was lost
    term = max(term, found.term)
    await seat.transact(words.empty(), LOAD_S)
    await seat.transact(words.begin(line), LOAD_S)
    for work in words.whole(stored, seat.host):
        await seat.transact(work, LOAD_S)
    await seat.transact(words.open_for(line, seat.host, term), LOAD_S)


def read_from(seat: Seat) -> tuple[Stored, Turn]:
    """Everything that the cluster's leader has, and whose turn it is. Raises StorageFailed."""
    with _asking():
        results = seat.do(seat.transact(words.read_operations(), LOAD_S), LOAD_S)
    stored, _ = words.read(results, seat.host)
    return stored, words.turn_in(results)


@contextmanager
def _asking() -> Iterator[None]:
    """What the body asks of a cluster is answered. Raises StorageFailed."""
    try:
        yield
    except (NoMajority, *BROKEN, concurrent.futures.CancelledError) as error:
        raise StorageFailed(f"the database's cluster: {error}") from error
