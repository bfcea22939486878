"""Where is the pool's present state, and how does it change? One object per process; everybody reads its `view`.

All of it belongs to one thread, that of the event loop; only the engine's `append` runs in a thread of its own. While
one append waits for the disk, the commits that arrive meanwhile queue up and share the next one (group commit).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final, TypeVar

from poolnet.db.body import decode_body
from poolnet.db.changes import Changes
from poolnet.db.engine import CommitRecord, Deletion, Engine, LogHead, Note
from poolnet.db.errors import BadRow, Conflict, DatabaseDamaged, DatabaseError, OutcomeUnknown, StorageFailed
from poolnet.db.feed import Feed, Published
from poolnet.db.overlay import Overlay
from poolnet.db.record import record_of
from poolnet.db.replica import Replicated
from poolnet.db.shape import BY_NAME, SHAPES
from poolnet.db.staging import StagedCommit, stage
from poolnet.db.table import Tables
from poolnet.db.txn import Txn, View
from poolnet.model.errors import handle_invalid
from poolnet.model.types import Ref, Row

R = TypeVar("R", bound=Row)

NUMBERS_RESERVED: Final = 10_000
"""Commit numbers set aside on disk at a time, so that commits of what is not kept need no write of their own."""


class _Waiting:
    """A commit that was handed in; `outcome` is its number or what went wrong."""

    __slots__ = ("changes", "notes", "outcome", "waiter")

    def __init__(
        self,
        changes: Sequence[Changes],
        waiter: asyncio.Future[None] | None,
        notes: Sequence[bytes] = (),
    ) -> None:
        self.changes = changes
        self.notes = notes
        self.waiter = waiter
        self.outcome: int | BaseException | None = None

    def settle(self, outcome: int | BaseException) -> None:
        self.outcome = outcome
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def result(self) -> int:
        assert self.outcome is not None, "the commit is not settled"  # noqa: S101 - for the type checker; nothing from outside is asserted
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class _Foreseen:
    """Changes that were checked before they are committed; that holds until classes on which it stands are changed."""

    changes: Sequence[Changes]
    staged: list[StagedCommit]
    stands_on: frozenset[type[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Whose commits share an append: those that fit, with the number that each caller will get, and those that do not."""

    everybody: Sequence[_Waiting]
    commits: Sequence[StagedCommit]
    callers: Sequence[tuple[_Waiting, int]]
    misfits: Sequence[tuple[_Waiting, DatabaseError]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flight:
    """A batch whose append is under way."""

    batch: _Batch
    record: CommitRecord
    ceiling: int
    done: concurrent.futures.Future[None]
    loop: asyncio.AbstractEventLoop


class Database:
    """The committed state, its change feed, and the one way to change it.

    Everything that is visible is durable (or need not be). Nothing else may call it from another thread.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._tables = Tables()
        self._feed = Feed()
        self._view = View(self._tables)
        self._ceiling = 0
        self._assigned = 0
        self._queue: list[_Waiting] = []
        self._alone: deque[_Waiting] = deque()  # what failed together, and may have failed because of one
        self._flight: _Flight | None = None
        self._foreseen: _Foreseen | None = None
        self._writer: concurrent.futures.ThreadPoolExecutor | None = None
        self._noted = 0
        self._on_notes: Callable[[Sequence[Note]], None] | None = None
        self._unlogged: list[Note] = []
        self._log_head = LogHead()
        self._new_head: LogHead | None = None
        self._head_due = False

    @classmethod
    def open(cls, engine: Engine) -> Database:
        """Loads everything that the engine keeps.

        Raises:
            DatabaseInUse: another process has it open.
            SchemaTooNew: a newer version wrote it.
            DatabaseDamaged: it cannot be read.
            StorageFailed: the file cannot be opened or written.
        """
        database = cls(engine)
        stored = engine.load()
        try:
            known = []
            for each in stored.rows:
                row = decode_body(each.class_name, each.ref, each.body)
                if row is not None:
                    database._tables.insert(row)
                    known.append(each)
        except BaseException:
            engine.close()
            raise
        database._ceiling = database._assigned = stored.ceiling
        database._feed.restore(known, stored.deletions, stored.ceiling)
        database._unlogged = list(stored.notes)
        database._log_head = stored.log_head
        database._noted = max((stored.log_head.noted, *(each.number for each in stored.notes)))
        return database

    @property
    def view(self) -> View:
        """The committed state; it moves on with every commit."""
        return self._view

    @property
    def feed(self) -> Feed:
        """The commit numbers, and what changed since one."""
        return self._feed

    def begin(self) -> Txn:
        """Begins a transaction on the committed state."""
        return Txn(self._tables)

    async def commit(self, changes: Changes | Sequence[Changes], notes: Sequence[bytes] = ()) -> int:
        """Makes changes durable, then visible, then tells the feed.

        A sequence is applied whole or not at all; each of its members gets a commit number of its own. Changes begun
        on an older state merge with what was committed since (`changes.merged`). Once called, the commit is carried
        out even if the caller is cancelled. `notes` are what the audit log is to say of them: durable with them.

        Returns:
            The last of its commit numbers; the present one if nothing changed. Never, if nobody can say whether it is
            durable: the server that sees no majority of its database's cluster starts anew, and its callers get no answer.

        Raises:
            Conflict: a row is gone meanwhile, or integrity would break (see `staging.stage`); nothing is applied.
            StorageFailed: it could not be made durable; nothing is applied.
        """
        waiting = _Waiting(_sequence(changes), asyncio.get_running_loop().create_future(), notes)
        self._queue.append(waiting)
        self._take_off()
        if waiting.outcome is None and waiting.waiter is not None:
            await asyncio.shield(waiting.waiter)
        return waiting.result()

    def foresee(self, changes: Sequence[Changes]) -> None:
        """Checks and encodes changes whose commit is likely to follow, while there is time.

        That commit need not do it again, unless others come before it. Nothing changes; misfits are the commit's to find.
        """
        sequence = tuple(changes)
        with contextlib.suppress(Conflict, BadRow):
            staged = self._stage(Overlay(self._tables), sequence, followed=False)
            written = {cls for commit in staged for cls in _written(commit)}
            ends = {end.other for cls in written for end in SHAPES[cls].one_ends}
            self._foreseen = _Foreseen(changes=sequence, staged=staged, stands_on=frozenset(written | ends))

    def commit_now(self, changes: Changes | Sequence[Changes]) -> int:
        """Commits like `commit`, but blocks the thread until it is done, together with all that was queued before."""
        waiting = _Waiting(_sequence(changes), None)
        self._queue.append(waiting)
        self._drain()
        return waiting.result()

    def log_from(self, hear: Callable[[Sequence[Note]], None]) -> tuple[LogHead, Sequence[Note]]:
        """Has `hear` told of the notes of each commit; gives the end of the log, and the notes that it lacks so far.

        Whoever writes them into the log says so by `keep_log_head`; until then they are kept.
        """
        lacking, self._unlogged = self._unlogged, []
        self._on_notes = hear
        return self._log_head, lacking

    @property
    def log_head(self) -> LogHead:
        """The end of the audit log, as far as that is durable."""
        return self._log_head

    def keep_log_head(self, head: LogHead, *, at_once: bool) -> None:
        """Makes the end of the audit log durable with the next commit, or by itself; forgets the notes that are in it."""
        self._new_head = head
        if at_once:
            self._head_due = True
            self._take_off()

    async def touch(self, cls: type[R], ref: Ref[R]) -> int:
        """Makes an object count as modified (event.inject, spec §5.4) and gives the commit number of that.

        Raises:
            Failure: HANDLE_INVALID[class; ref].
        """
        if not self._view.exists(cls, ref):
            raise handle_invalid(SHAPES[cls].name, ref)
        return await self.commit(Changes(touched=((cls, ref),)))

    async def follow(self, replicated: Replicated) -> None:
        """Takes over what another database has committed, under its commit numbers: durable first, then visible.

        For databases that nobody commits to, such as a member's; calls must not overlap.

        Raises:
            DatabaseDamaged: a row cannot be read; nothing is applied.
            StorageFailed: it could not be made durable; nothing is applied.
        """
        rows = []
        for each in replicated.puts:
            row = decode_body(each.class_name, each.ref, each.body)
            if row is None:
                raise DatabaseDamaged(f"a class {each.class_name} that is not kept here")
            if self._tables.owner(each.ref) not in (None, type(row)):
                raise DatabaseDamaged(f"{each.ref} is an object of another class")
            rows.append(row)
        gone = self._gone(replicated)
        head = self._new_head
        record = CommitRecord(puts=replicated.puts, deletions=gone, ceiling=replicated.number, log_head=head)
        await asyncio.wrap_future(self._thread().submit(self._engine.append, record))
        self._head_kept(head)
        self._ceiling = self._assigned = replicated.number
        deleted = [self._remove(each) for each in gone]
        created = tuple(row for row in rows if self._put(row))
        self._tables.forget_all()
        self._feed.follow(replicated.puts, gone, replicated.number)
        if self._feed.has_subscribers:
            new = {row.ref for row in created}
            self._feed.publish(
                Published(
                    number=replicated.number,
                    created=created,
                    modified=tuple(row for row in rows if row.ref not in new),
                    deleted=tuple(row for row in deleted if row is not None),
                )
            )
        self._feed.wake()

    def _gone(self, replicated: Replicated) -> tuple[Deletion, ...]:
        """The objects here that are no more there."""
        if not replicated.whole:
            known = (BY_NAME[d.class_name].row_type for d in replicated.deletions)
            pairs = zip(replicated.deletions, known, strict=True)
            return tuple(d for d, cls in pairs if self._tables.stored(cls, d.ref) is not None)
        kept = {each.ref for each in replicated.puts}
        return tuple(
            Deletion(
                class_name=shape.name,
                ref=ref,
                created=self._feed.created_at(cls, ref) or 0,
                number=replicated.number,
            )
            for cls, shape in SHAPES.items()
            if shape.durable
            for ref in self._tables.refs(cls)
            if ref not in kept
        )

    def _remove(self, deletion: Deletion) -> Row | None:
        cls = BY_NAME[deletion.class_name].row_type
        row = self._tables.row(cls, deletion.ref)
        self._tables.remove(cls, deletion.ref)
        return row

    def _put(self, row: Row) -> bool:
        """Adds a row, or puts it in the place of its former version; says whether it is new."""
        if self._tables.stored(type(row), row.ref) is None:
            self._tables.insert(row)
            return True
        self._tables.replace(row)
        return False

    def fragment(self, cls: type[R], ref: Ref[R], codec: str, encode: Callable[[R], bytes]) -> bytes:
        """Gives the encoding of a committed row, kept until the row or one of its computed sets changes.

        Args:
            cls: the row's class.
            ref: its reference.
            codec: names the encoding; one codec must always mean the same function.
            encode: makes the encoding when it is not kept.

        Raises:
            Failure: HANDLE_INVALID[class; ref].
        """
        if not self._view.exists(cls, ref):
            raise handle_invalid(SHAPES[cls].name, ref)
        return self._tables.table(cls).fragment(ref, codec, lambda ref: encode(self._view.get(cls, ref)))

    def fragments(
        self, cls: type[R], codec: str, encode: Callable[[R], bytes]
    ) -> Sequence[tuple[Ref[R], bytes]]:
        """Gives `fragment` of every row of a class, in creation order."""
        return self._tables.table(cls).fragments(codec, lambda ref: encode(self._view.get(cls, ref)))

    def close(self) -> None:
        """Carries out what was handed in and gives the engine free; closing twice is allowed."""
        self._drain()
        if self._writer is not None:
            self._writer.shutdown()
            self._writer = None
        if self._ceiling > self._assigned or self._new_head is not None:
            with contextlib.suppress(
                DatabaseError
            ):  # then the next start skips some numbers, as after a crash
                self._engine.append(CommitRecord(ceiling=self._assigned, log_head=self._new_head))
            self._ceiling = self._assigned
            self._head_kept(self._new_head)
        self._engine.close()

    def _take_off(self) -> None:
        """Starts the next append, if none is under way; batches that need no append are settled at once."""
        loop = asyncio.get_running_loop()
        if self._flight is not None and self._flight.loop is not loop:
            self._finish_flight()  # its loop was closed before it could be told
        while (self._alone or self._queue or self._head_due) and self._flight is None:
            due, self._head_due = self._head_due, False
            batch = self._stage_next()
            record, ceiling = self._record(batch, head_due=due)
            if not record:
                self._settle(batch, record)
                continue
            done = self._thread().submit(self._engine.append, record)
            self._flight = _Flight(batch=batch, record=record, ceiling=ceiling, done=done, loop=loop)
            done.add_done_callback(functools.partial(_call_soon, loop, self._landed))

    def _landed(self, done: concurrent.futures.Future[None]) -> None:
        """Takes note of an append that is over, unless `_drain` has done so, and starts the next."""
        if self._flight is not None and self._flight.done is done:
            self._land(self._flight)
            self._take_off()

    def _land(self, flight: _Flight) -> None:
        """Makes a batch visible whose append is over, or tells its callers that it failed."""
        self._flight = None
        error = flight.done.exception()
        if error is None:
            self._ceiling = flight.ceiling
            self._settle(flight.batch, flight.record)
            return
        self._failed(flight.batch, error)

    def _finish_flight(self) -> None:
        """Waits, in this thread, for the append that is under way."""
        if self._flight is not None:
            concurrent.futures.wait([self._flight.done])
            self._land(self._flight)

    def _drain(self) -> None:
        """Carries out everything that was handed in, in this thread."""
        self._finish_flight()
        while self._alone or self._queue:
            batch = self._stage_next()
            record, ceiling = self._record(batch)
            try:
                if record:
                    self._engine.append(record)
            except DatabaseError as error:
                self._failed(batch, error)
            else:
                self._ceiling = ceiling
                self._settle(batch, record)

    def _thread(self) -> concurrent.futures.ThreadPoolExecutor:
        """The one thread in which the engine writes."""
        if self._writer is None:
            self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="database")
        return self._writer

    def _stage_next(self) -> _Batch:
        """Checks what is to be appended next, each on top of the ones before it: the queue, or one that is to be alone."""
        if self._alone:
            queue = [self._alone.popleft()]
        else:
            queue, self._queue = self._queue, []
        batch = Overlay(self._tables)
        commits: list[StagedCommit] = []
        callers: list[tuple[_Waiting, int]] = []
        misfits: list[tuple[_Waiting, DatabaseError]] = []
        for position, waiting in enumerate(queue, 1):
            try:
                staged = self._as_foreseen(waiting.changes) if len(queue) == 1 else None
                if staged is None:
                    staged = self._stage(batch, waiting.changes, followed=position < len(queue))
            except (Conflict, BadRow) as error:
                misfits.append((waiting, error))
                continue
            commits += staged
            self._assigned += len(staged)
            callers.append((waiting, self._assigned))
        return _Batch(everybody=queue, commits=commits, callers=callers, misfits=misfits)

    def _as_foreseen(self, changes: Sequence[Changes]) -> list[StagedCommit] | None:
        """What `foresee` has made of these changes, if it still holds."""
        foreseen = self._foreseen
        if foreseen is None or len(foreseen.changes) != len(changes):
            return None
        if any(one is not other for one, other in zip(foreseen.changes, changes, strict=True)):
            return None
        self._foreseen = None
        first = self._assigned + 1
        return [replace(commit, number=number) for number, commit in enumerate(foreseen.staged, first)]

    def _stage(self, batch: Overlay, sequence: Sequence[Changes], *, followed: bool) -> list[StagedCommit]:
        """Checks one caller's changes and, if others follow, puts them into the batch; all or none."""
        own = Overlay(batch)
        staged: list[StagedCommit] = []
        for position, changes in enumerate(sequence, 1):
            commit, outcome = stage(own, changes, self._assigned + len(staged) + 1)
            if commit:
                staged.append(commit)
                if followed or position < len(sequence):
                    own.replay(outcome)
        if followed:
            batch.replay(own.changes())
        return staged

    def _record(self, batch: _Batch, *, head_due: bool = False) -> tuple[CommitRecord, int]:
        """Gives what to store for a batch, and the ceiling of the commit numbers that holds then."""
        enough = self._assigned <= self._ceiling
        ceiling = self._ceiling if enough else self._assigned + NUMBERS_RESERVED
        record = record_of(batch.commits, self._feed, None if enough else ceiling)
        notes = [body for waiting, _ in batch.callers for body in waiting.notes]
        if not notes and not record and not head_due:
            return record, ceiling
        numbered = tuple(map(Note, count(self._noted + 1), notes))
        self._noted += len(numbered)
        return dataclasses.replace(record, notes=numbered, log_head=self._new_head), ceiling

    def _head_kept(self, head: LogHead | None) -> None:
        if head is not None:
            self._log_head = head
            if self._new_head is head:
                self._new_head = None

    def _failed(self, batch: _Batch, error: BaseException) -> None:
        """Tells callers that their commits failed; several are tried once more, each alone: some may need no disk.

        Not told are those of whose commits nobody knows: they wait until the server ends.
        """
        if isinstance(error, StorageFailed) and len(batch.everybody) > 1:
            self._alone.extend(batch.everybody)
            return
        for waiting, misfit in batch.misfits:
            waiting.settle(misfit)
        for waiting, _ in batch.callers:
            if waiting.waiter is None or not isinstance(error, OutcomeUnknown):
                waiting.settle(error)

    def _settle(self, batch: _Batch, record: CommitRecord) -> None:
        """Makes a batch visible, in order, and answers its callers."""
        self._head_kept(record.log_head)
        for commit in batch.commits:
            self._apply(commit)
        if record.notes:
            if self._on_notes is not None:
                self._on_notes(record.notes)
            else:
                self._unlogged += record.notes
        for waiting, misfit in batch.misfits:
            waiting.settle(misfit)
        for waiting, number in batch.callers:
            waiting.settle(number)
        if batch.commits:
            self._feed.wake()

    def _apply(self, commit: StagedCommit) -> None:
        """Makes one commit visible."""
        if self._foreseen is not None and not self._foreseen.stands_on.isdisjoint(_written(commit)):
            self._foreseen = None
        told = self._feed.has_subscribers
        deleted = tuple(self._tables.row(cls, ref) for cls, ref in commit.destroyed) if told else ()
        for row in commit.created:
            self._tables.insert(row)
        for each in commit.updated:
            self._tables.replace(each.row)
        for cls, ref in commit.destroyed:
            self._tables.remove(cls, ref)
        for cls, ref in commit.touched:
            self._tables.forget(cls, ref)
        self._feed.record(commit)
        if told:
            rows = (self._tables.row(type(row), row.ref) for row in commit.created)
            modified = (self._tables.row(cls, ref) for cls, ref in commit.modified)
            self._feed.publish(
                Published(
                    number=commit.number,
                    created=tuple(row for row in rows if row is not None),
                    modified=tuple(row for row in modified if row is not None),
                    deleted=tuple(row for row in deleted if row is not None),
                )
            )


def _written(commit: StagedCommit) -> set[type[Row]]:
    """The classes of which a commit makes, changes or destroys rows, or changes computed sets."""
    keys = (*commit.destroyed, *commit.touched)
    rows = (*commit.created, *(each.row for each in commit.updated))
    return {*(cls for cls, _ in keys), *map(type, rows)}


def _sequence(changes: Changes | Sequence[Changes]) -> Sequence[Changes]:
    """Gives what was handed in as a sequence that nobody else changes."""
    return (changes,) if isinstance(changes, Changes) else tuple(changes)


def _call_soon(
    loop: asyncio.AbstractEventLoop,
    callback: Callable[[concurrent.futures.Future[None]], None],
    done: concurrent.futures.Future[None],
) -> None:
    """Has the loop's thread called; if the loop is closed by now, `Database.close` will see to it."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, done)
