"""Whose turn is it to coordinate, and is it this host's? A connection to the leader of a cluster of OVSDB servers.

The seat runs in a thread of its own, so that it keeps the database's lock while the API server starts anew in another role.
Whoever gets the lock claims the next term: one transaction that fails if anybody else has done anything meanwhile. Locks are
each server's own, so they only say who should try; what decides is the term in the database, which every commit requires.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import structlog

from poolnet.db import ovsdb_transactions as words
from poolnet.db.errors import SchemaTooNew
from poolnet.db.ovsdb_schema import DATABASE, STATE, STATE_ROW, merged_schema
from poolnet.db.ovsdb_transactions import LOCK, Turn
from poolnet.ovsdb.connection import Connection, ConnectionLost, OvsdbError, TransactionFailed
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.replica import Replica
from poolnet.ovsdb.values import Json, MalformedError, Value

log = structlog.get_logger("poolnet.db.seat")

PROBE_S: Final = 3.0  # for a server to be reached, and to say whether it leads
AGAIN_S: Final = 0.1
COURTESY_S: Final = 0.4  # after a change of the leader, for the coordinator of before to take the lock again
SUCCESSOR_S: Final = 6.0  # how long a successor that was named is waited for
CONVERSION_S: Final = 10.0  # for a new schema to reach the servers, before it is asked for again
ECHO_S: Final = 1.5
TRANSACTION_S: Final = 4.0  # after which a transaction is tried again, which does no harm
BROKEN: Final = (OSError, OvsdbError, MalformedError, TimeoutError)

T = TypeVar("T")
Opener = Callable[[], Awaitable[Connection]]
_STATE_COLUMNS: Final = ("ready", "line", "term", "holder", "address", "next", "number")


class NoMajority(Exception):
    """No server leads, or the one that does cannot be reached."""


class Seat:
    """A host's place at the cluster.

    Args:
        servers: How each of the cluster's servers is connected to.
        host: This host's uuid.
        address: Where others find this host when it coordinates.
        line: The line of commits of the cluster that is meant; one that has another's rows is not used.
        candidate: Whether it wants to coordinate.
        on_turn: Told whose turn it is whenever that changes, in the seat's thread.
    """

    def __init__(
        self,
        servers: Sequence[Opener],
        *,
        host: str,
        address: Callable[[], str],
        line: str,
        candidate: bool,
        on_turn: Callable[[Turn], None],
    ) -> None:
        self.host = host
        self.term = 0
        """The term that this host has claimed last; 0 for none."""
        self.named = False
        """Whether the coordinator of before has handed the term over that this host has claimed last."""
        self.turn: Turn | None = None
        """Whose turn it is, as last heard."""
        self.connected = False
        """Whether the leader is connected at this moment."""
        self._servers = tuple(servers)
        self._address = address
        self._candidate = candidate
        self._line = line
        self._on_turn = on_turn
        self._connection: Connection | None = None
        self._others: dict[Connection, Replica] = {}
        self._locked = False
        self._fresh = False
        self._renew = False
        self._converted_at: float | None = None
        self._passed_over = ""
        self._moved = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="seat", daemon=True)
        self._ended = False

    def start(self) -> None:
        """Begins to look for the leader."""
        self._thread.start()

    def close(self) -> None:
        """Gives the lock back and ends the thread; closing twice is allowed."""
        if self._ended or not self._thread.is_alive():
            return
        self._ended = True
        self._loop.call_soon_threadsafe(lambda: self._task.cancel() if self._task is not None else None)
        self._thread.join(10.0)

    def do(self, work: Coroutine[Any, Any, T], within_s: float | None = None) -> T:
        """Runs a coroutine in the seat's thread and waits for it, in the caller's. Raises what it raises, or TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(within_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise TimeoutError from None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the seat's thread."""
        return self._loop

    @property
    def is_ours(self) -> bool:
        """Whether the present term is this host's, as far as it knows."""
        return self.term > 0 and self.turn is not None and self.turn.term == self.term

    @property
    def candidate(self) -> bool:
        """Whether this host wants to coordinate."""
        return self._candidate

    # --- in the seat's own thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._look())
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._task)
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
            with contextlib.suppress(BaseException):
                self._loop.run_until_complete(task)
        self._loop.close()

    async def _look(self) -> None:
        """Finds the leader, again and again."""
        courtesy = False
        while True:
            connection, servers = await self._leader()
            try:
                await self._sit(connection, servers, courtesy=courtesy)
            except BROKEN as error:
                log.info("leader-lost", reason=f"{type(error).__name__} {error}")
            finally:
                self._connection, self._locked, self.connected = None, False, False
                self._move()
                await connection.close()
            courtesy = True

    async def _leader(self) -> tuple[Connection, Replica]:
        """A connection to the server that leads, as soon as one does. Nobody waits for one that does not answer."""
        waiting = [asyncio.create_task(self._when_it_leads(opener)) for opener in self._servers]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        first, *others = [task.result() for task in waiting if not task.cancelled()]
        for connection, _ in others:
            await connection.close()
        return first

    async def _when_it_leads(self, opener: Opener) -> tuple[Connection, Replica]:
        """A connection to that server, from when it leads on."""
        while True:
            changed = asyncio.Event()
            opened = await self._open(opener, changed)
            if opened is not None:
                connection, servers = opened
                leading = False
                self._others[connection] = servers
                try:
                    while connection.alive and not (leading := leads(servers)):
                        changed.clear()
                        await _first_of(changed.wait(), connection.wait_closed())
                finally:
                    del self._others[connection]
                    if not leading:
                        await connection.close()
                if leading:
                    return opened
            await asyncio.sleep(AGAIN_S)

    async def _open(self, opener: Opener, changed: asyncio.Event) -> tuple[Connection, Replica] | None:
        """A connection to that server with what it says of itself, whose changes set the event; None without an answer."""
        connection: Connection | None = None
        servers: Replica | None = None

        def hear(_: object) -> None:
            changed.set()
            self._move()

        try:
            async with asyncio.timeout(PROBE_S):
                connection = await opener()
                columns = {"Database": ("name", "connected", "leader")}
                servers = await connection.monitor("_Server", columns, hear)
        except BROKEN:
            return None
        finally:
            if connection is not None and servers is None:
                await connection.close()
        return connection, servers

    def _move(self) -> None:
        self._moved.set()

    async def _sit(self, connection: Connection, servers: Replica, *, courtesy: bool) -> None:
        """Stays with a leader as long as it leads. Raises what ends a connection."""
        replica = await connection.monitor(DATABASE, {STATE: _STATE_COLUMNS}, lambda _: self._move())
        first = words.turn_of(replica.row(STATE, STATE_ROW))
        if first.line not in ("", self._line):
            log.error("another-database", line=first.line)
            await asyncio.sleep(PROBE_S)
            return
        self._connection, self.connected = connection, True
        self._hear(first)
        beside = [asyncio.create_task(self._watch(connection))]
        if self._candidate:
            wait_s = 0.0 if self.is_ours or not courtesy else COURTESY_S
            beside.append(asyncio.create_task(self._ask_for_lock(connection, wait_s)))
        for task in beside:
            task.add_done_callback(lambda _: self._move())
        try:
            while leads(servers):
                self._moved.clear()
                self._hear(words.turn_of(replica.row(STATE, STATE_ROW)))
                for task in beside:
                    if task.done():
                        task.result()
                if self._locked and self._is_open_to_claim():
                    await self._claim_or_yield(connection)
                await self._moved.wait()
            log.info("leader-leads-no-more")
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _watch(self, connection: Connection) -> None:
        """Notices that a leader is gone, also when nobody says so. Raises what ends a connection."""
        while True:
            await connection.call("echo", [], ECHO_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ECHO_S):
                    await connection.wait_closed()

    async def _require_schema(self, connection: Connection) -> None:
        """Brings the tables of another version up to date, before this host's turn.

        Raises ConnectionLost, when that is under way: servers end their connections then. SchemaTooNew: they cannot be used.
        """
        wanted = merged_schema(_as_object(await connection.schema(DATABASE)))
        if wanted is None:
            return
        now = asyncio.get_running_loop().time()
        if self._converted_at is None or now - self._converted_at > CONVERSION_S:
            log.info("schema-converted", version=str(wanted["version"]))
            self._converted_at = now
            await connection.call("convert", [DATABASE, wanted])
        await asyncio.sleep(AGAIN_S)
        raise ConnectionLost("the schema is brought up to date")

    def _hear(self, turn: Turn) -> None:
        if turn == self.turn:
            return
        before, self.turn = self.turn, turn
        if before is not None and before.term != turn.term:
            self._passed_over = ""
            self._fresh = self._fresh and turn.term == self.term
        if before is None or (before.ready, before.term, before.holder, before.address) != (
            turn.ready,
            turn.term,
            turn.holder,
            turn.address,
        ):
            self._on_turn(turn)

    async def _ask_for_lock(self, connection: Connection, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        got = await connection.lock(LOCK, self._lock_changed)
        if got:
            self._lock_changed(True)

    def _lock_changed(self, ours: bool) -> None:
        self._locked = ours
        self._move()

    def _is_open_to_claim(self) -> bool:
        turn = self.turn
        if turn is None or not turn.ready:
            return False
        return self._renew or not self.term or turn.term != self.term

    async def _claim_or_yield(self, connection: Connection) -> None:
        turn = self.turn
        assert turn is not None, "asked before"  # noqa: S101 - for the type checker; nothing from outside is asserted
        if turn.successor not in ("", self.host, self._passed_over):
            await self._yield_to(connection, turn.successor)
            return
        try:
            await self._claim(connection, turn)
        except (TransactionFailed, SchemaTooNew) as error:
            log.info("not-claimed", reason=str(error))
            await asyncio.sleep(AGAIN_S)
            self._move()

    async def _yield_to(self, connection: Connection, successor: str) -> None:
        """Lets the host take the lock that was named, for a while: it may be gone."""
        self._locked = False
        await connection.unlock(LOCK)
        loop = asyncio.get_running_loop()
        until = loop.time() + SUCCESSOR_S
        while self.turn is not None and self.turn.successor == successor and loop.time() < until:
            await asyncio.sleep(AGAIN_S)
            state, _ = await self.ask_state(connection)
            self._hear(state)
        if self.turn is not None and self.turn.successor == successor:
            log.warning("successor-does-not-come", host=successor)
            self._passed_over = successor
        await self._ask_for_lock(connection, 0.0)

    async def _claim(self, connection: Connection, turn: Turn) -> None:
        """Becomes the coordinator of the next term. Raises TransactionFailed, and what ends a connection."""
        await self._require_schema(connection)
        address = self._address()
        await connection.transact(DATABASE, words.claim(turn, self.host, address), TRANSACTION_S)
        self.named = turn.successor == self.host
        self.term, self._fresh, self._renew = turn.term + 1, True, False
        log.info("term-claimed", term=self.term)
        self._hear(
            Turn(
                ready=True,
                line=turn.line,
                term=self.term,
                holder=self.host,
                address=address,
                number=turn.number,
            )
        )

    async def ask_state(self, connection: Connection) -> tuple[Turn, dict[int, int]]:
        """Whose turn it is, and at which number each term began. Raises what ends a connection."""
        return words.state_in(await connection.transact(DATABASE, words.STATE_QUESTION, TRANSACTION_S))

    async def state(self, within_s: float) -> tuple[Turn, dict[int, int]]:
        """Whose turn it is, asked anew. Raises NoMajority, BROKEN."""
        return await self.ask_state(await self.leader(within_s))

    async def leader(self, within_s: float) -> Connection:
        """The connection to the leader, when there is one. Raises NoMajority."""
        until = asyncio.get_running_loop().time() + within_s
        while True:
            if self._connection is not None and self._connection.alive:
                return self._connection
            if asyncio.get_running_loop().time() > until:
                raise NoMajority("no server of the database's cluster leads")
            await asyncio.sleep(AGAIN_S / 5)

    def holds(self, connection: Connection) -> bool:
        """Whether the lock is this host's on that connection."""
        return self._locked and connection is self._connection

    async def begin_term(self, within_s: float) -> int:
        """The term that this host has just claimed, or a new one: each is used by one engine only. Raises NoMajority."""
        self._renew = not self._fresh
        self._move()
        until = asyncio.get_running_loop().time() + within_s
        while not self._fresh:
            if asyncio.get_running_loop().time() > until:
                raise NoMajority("no server leads, or another host coordinates")
            await asyncio.sleep(AGAIN_S / 5)
        self._fresh = False
        return self.term

    async def resign(self, successor: str) -> None:
        """Leaves the next term to that host, and wants none before it has had its own. Raises NoMajority, BROKEN."""
        connection = await self.leader(PROBE_S)
        turn, _ = await self.ask_state(connection)
        await connection.transact(DATABASE, words.hand_over(turn, successor), TRANSACTION_S)
        self.term, self._fresh, self._renew = 0, False, False
        self._move()

    async def stand_down(self) -> None:
        """Forgets the term that it has; if the lock is still this host's, it claims another."""
        self.term, self._fresh, self._renew = 0, False, False
        self._move()

    async def transact(self, work: Sequence[Operation], within_s: float = TRANSACTION_S) -> list[Json]:
        """Carries out operations at the leader. Raises NoMajority, BROKEN."""
        connection = await self.leader(within_s)
        return await connection.transact(DATABASE, work, within_s)

    async def transact_anywhere(
        self, work: Sequence[Operation], within_s: float = TRANSACTION_S
    ) -> list[Json]:
        """Carries out operations at the leader, or by a server that reaches it if this host does not. Raises NoMajority, BROKEN.

        What is read may be late there; whatever is written is written with a majority, and requires what it says.
        """
        if self._connection is None:
            for connection, servers in self._others.items():
                if reaches_leader(servers):
                    return await connection.transact(DATABASE, work, within_s)
        return await self.transact(work, within_s)


async def _first_of(*ways: Coroutine[Any, Any, Any]) -> None:
    tasks = [asyncio.create_task(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def leads(servers: Replica) -> bool:
    """Whether a server says of itself that it leads, or has no cluster at all."""
    return any(row.get("leader") is True and row.get("connected") is True for row in _ours(servers))


def reaches_leader(servers: Replica) -> bool:
    """Whether a server says of itself that it hears one that leads, or leads."""
    return any(row.get("connected") is True for row in _ours(servers))


def _ours(servers: Replica) -> Iterator[Mapping[str, Value]]:
    return (row for row in servers.rows("Database").values() if row.get("name") == DATABASE)


def _as_object(value: Json) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
