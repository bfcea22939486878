"""Where is the audit log kept, and who writes it? Files of lines below the state directory, written in groups.

What a commit says comes with the commit: the database keeps it (a note) until it is in the log, so that neither is there
without the other. After a crash the notes that are left are written at the next start, marked `"late":true`. Other
records, of calls that changed nothing, are written when they come. One group is one write and one fsync, beside the
calls: nobody waits for it. The files are `audit-N.log`, N the number of the first record.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from poolnet.db.database import Database
from poolnet.db.engine import LogHead, Note
from poolnet.pool.audit_chain import GENESIS, Head, Record, lines, parse

log = structlog.get_logger("poolnet.audit")

DIRECTORY: Final = "audit"
FILE_BYTES_MAX: Final = 16 * 1024 * 1024
FILES_MAX: Final = 64  # a gigabyte; the oldest go then, which the log says
COMPANY_S: Final = 0.05  # for other records of a group
HEAD_IDLE_S: Final = 1.0  # after which the database is told of the log's end even if nobody commits
RETRY_S: Final = 5.0
WAITING_MAX: Final = (
    20_000  # records that cannot be written, as on a full disk, before new ones are dropped and counted
)
_DIGITS: Final = 12


class _Identified(msgspec.Struct, frozen=True):
    id: str = ""


class AuditLog:
    """The log of one host.

    Args:
        directory: Where its files are.
        database: What keeps its end, and the notes of commits.
    """

    def __init__(
        self,
        directory: Path,
        database: Database,
        *,
        file_bytes_max: int = FILE_BYTES_MAX,
        files_max: int = FILES_MAX,
    ) -> None:
        self._directory = directory
        self._database = database
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._head = Head()
        self._noted = 0
        self._waiting: list[Note] = []  # number 0: of no commit
        self._dropped = 0
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()

    @property
    def head(self) -> Head:
        """The end of what is written."""
        return self._head

    def open(self) -> None:
        """Finds the end of the log, and takes the notes that a crash has left. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        known, left = self._database.log_from(self._hear)
        self._noted = known.noted
        written = self._find_end(known)
        late = [note for note in left if _id_of(note.body) not in written]
        if late:
            log.warning(
                "audit-records-late", records=len(late), reason="the server ended before they were written"
            )
        self._waiting = [Note(note.number, b'%s,"late":true}' % note.body[:-1]) for note in late]
        if left and not late:
            self._noted = max(note.number for note in left)
        if late:
            self._wake.set()

    async def follow(self) -> None:
        """Writes what comes, for ever."""
        while True:
            try:
                async with asyncio.timeout(HEAD_IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                self._tell(at_once=True)
                await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(COMPANY_S)
            try:
                await self.flush()
            except OSError as error:
                log.error("audit-log-not-written", reason=str(error), waiting=len(self._waiting))  # noqa: TRY400 - the reason says all
                await asyncio.sleep(RETRY_S)
                self._wake.set()

    def add(self, entry: bytes) -> None:
        """Takes a record of a call that has committed nothing."""
        if len(self._waiting) >= WAITING_MAX:
            self._dropped += 1
            return
        self._waiting.append(Note(0, entry))
        self._wake.set()

    async def flush(self) -> None:
        """Writes all that has come so far; begun is carried out, also when the caller is cancelled. Raises OSError."""
        await asyncio.shield(asyncio.create_task(self._flush(), name="audit-log-write"))

    async def _flush(self) -> None:
        async with self._writing:
            group = self._take()
            if group:
                try:
                    self._head = await asyncio.to_thread(self._write, self._head, group)
                except OSError:
                    self._waiting = [*group, *self._waiting]
                    raise
                self._written(group)

    async def close(self) -> None:
        """Writes what is left, and has the database know the log's end."""
        try:
            await self.flush()
            self._tell(at_once=False)
        except OSError as error:
            log.error("audit-log-not-written", reason=str(error), waiting=len(self._waiting))  # noqa: TRY400 - the reason says all

    def files(self) -> list[Path]:
        """The files, oldest first."""
        return files_in(self._directory)

    def _hear(self, notes: Sequence[Note]) -> None:
        self._waiting += notes
        self._wake.set()

    def _take(self) -> list[Note]:
        group, self._waiting = self._waiting, []
        if self._dropped:
            text = msgspec.json.encode({"method": "audit", "result": ["Dropped"], "records": self._dropped})
            group.append(Note(0, text))
            self._dropped = 0
        return group

    def _written(self, group: Sequence[Note]) -> None:
        self._noted = max(self._noted, *(note.number for note in group))
        self._tell(at_once=False)

    def _tell(self, *, at_once: bool) -> None:
        head = LogHead(records=self._head.records, hash=self._head.hash, noted=self._noted)
        if head.records and head != self._database.log_head:
            self._database.keep_log_head(head, at_once=at_once)

    def _write(self, head: Head, group: Sequence[Note]) -> Head:
        """Appends records; gives the end then. A failed append leaves nothing behind. Raises OSError."""
        files = self.files()
        entries = [note.body for note in group]
        if not files or files[-1].stat().st_size >= self._file_bytes_max:
            path = self._directory / f"audit-{head.records + 1:0{_DIGITS}}.log"
            gone = self._forget(files)
            if gone is not None:
                entries.insert(0, gone)
        else:
            path = files[-1]
        content, head = lines(head, entries)
        _append(path, content)
        if len(files) >= self._files_max and path not in files:
            for old in files[: len(files) - self._files_max + 1]:
                old.unlink()
        return head

    def _forget(self, files: Sequence[Path]) -> bytes | None:
        """What the log says when its oldest files go; None if none do."""
        going = files[: max(0, len(files) - self._files_max + 1)]
        if not going:
            return None
        last = last_record(going[-1])
        if last is None:
            return None
        forgotten = {"through": last.seq, "hash": last.hash}
        return msgspec.json.encode({"method": "audit", "result": ["Success"], "forgotten": forgotten})

    def _find_end(self, known: LogHead) -> set[str]:
        """Takes the end of the log over; gives the ids of the records that the database does not know to be written."""
        files = self.files()
        for path in reversed(files):
            _cut_torn_end(path)
            last = last_record(path)
            if last is not None:
                self._head = Head(last.seq, last.hash)
                break
        if self._head.records < known.records:
            log.error("audit-log-cut-off", found=self._head.records, known=known.records)
            # The gap stays to be seen: numbers go on where they should.
            self._head = Head(known.records, known.hash or GENESIS)
            return set()
        beyond = (record for record in records_of(files) if record.seq > known.records)
        return {_id_of(record.entry) for record in beyond}


def files_in(directory: Path) -> list[Path]:
    """The files of a log, oldest first."""
    return sorted(directory.glob("audit-*.log"))


def lines_of(files: Sequence[Path], *, complete: bool = False) -> Iterator[bytes]:
    """The lines of a log, without newlines; `complete` leaves an end out that is being written. Raises OSError."""
    for path in files:
        with path.open("rb") as file:
            for text in file:
                if text.endswith(b"\n") or not complete:
                    yield text.removesuffix(b"\n")


def records_of(files: Sequence[Path]) -> Iterator[Record]:
    """The records of a log; lines that are none are passed over. Raises OSError."""
    for text in lines_of(files, complete=True):
        record = parse(text)
        if record is not None:
            yield record


def last_record(path: Path) -> Record | None:
    """The last record of a file. Raises OSError."""
    found = None
    for text in lines_of([path]):
        found = parse(text) or found
    return found


def _id_of(entry: bytes) -> str:
    try:
        return msgspec.json.decode(entry, type=_Identified).id
    except msgspec.MsgspecError:
        return ""


def _cut_torn_end(path: Path) -> None:
    """Takes the part of a line away that a crash has left."""
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        whole = content.rfind(b"\n") + 1
        os.truncate(path, whole)


def _append(path: Path, content: bytes) -> None:
    """Appends durably, or leaves the file as it was. Raises OSError."""
    fresh = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if fresh:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
