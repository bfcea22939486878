"""How are commits made durable on one host? The default engine: one sqlite file, WAL, synchronous=FULL.

After `append` returns, the record survives a crash of the process and of the machine; before, none of it may be there
or all of it, never a part.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from poolnet.db.engine import (
    DELETIONS_KEPT,
    DELETIONS_MAX,
    CommitRecord,
    Deletion,
    LogHead,
    Note,
    Stored,
    StoredRow,
)
from poolnet.db.errors import DatabaseDamaged, DatabaseInUse, StorageFailed
from poolnet.db.upgrade import upgrade

_PUT: Final = (
    "INSERT INTO object (class, ref, created, modified, body) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (ref) DO UPDATE SET modified = excluded.modified, body = excluded.body"
)
_FORGET: Final = (
    "DELETE FROM deletion WHERE class = :class AND id <="
    " (SELECT id FROM deletion WHERE class = :class ORDER BY id DESC LIMIT 1 OFFSET :kept)"
)


def notes_in(connection: sqlite3.Connection) -> tuple[Note, ...]:
    """The notes that are not in the audit log yet, in their order."""
    rows = connection.execute("SELECT number, body FROM note ORDER BY number")
    return tuple(note for number, body in rows for note in _notes_of(number, body))


def _notes_of(last: int, body: bytes) -> Iterator[Note]:
    """The notes of one append, which share a row: a line each, under the number of the last."""
    bodies = body.split(b"\n")
    return (Note(number=number, body=each) for number, each in enumerate(bodies, last + 1 - len(bodies)))


def log_head_in(connection: sqlite3.Connection) -> LogHead:
    """The end of the audit log, as the database knows it."""
    records, digest, noted = connection.execute("SELECT records, hash, noted FROM log_head").fetchone()
    return LogHead(records=records, hash=digest, noted=noted)


class SqliteEngine:
    """An `Engine` on the file `path`; beside it lie sqlite's own files and `path`.lock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        self._deletions: Counter[str] = Counter()

    def load(self) -> Stored:
        """See `Engine`."""
        self._take_lock()
        try:
            # Secrets and session records are in it: created for the owner alone, which sqlite's own files inherit.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            upgrade(self._connection)
            return self._read(self._connection)
        except sqlite3.OperationalError as error:
            self.close()
            raise StorageFailed(f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            self.close()
            raise DatabaseDamaged(f"{self._path}: {error}") from error
        except BaseException:
            self.close()
            raise

    def append(self, record: CommitRecord) -> None:
        """See `Engine`."""
        connection = self._connection
        if connection is None:
            raise StorageFailed(f"{self._path} is not open")
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                deletions = self._write(connection, record)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise StorageFailed(f"{self._path}: {error}") from error
        self._deletions = deletions

    def close(self) -> None:
        """See `Engine`; closing twice is allowed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        """Takes the lock that the kernel gives back when the process ends, however it ends."""
        if self._lock is not None:
            raise DatabaseInUse(f"{self._path} is open already")
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise DatabaseInUse(f"another process has {self._path} open") from error
        self._lock = lock

    def _read(self, connection: sqlite3.Connection) -> Stored:
        """Reads everything."""
        rows = connection.execute("SELECT class, ref, created, modified, body FROM object ORDER BY id")
        deletions = connection.execute("SELECT class, ref, created, number FROM deletion ORDER BY id")
        stored = Stored(
            rows=tuple(
                StoredRow(class_name=cls, ref=ref, created=created, modified=modified, body=body.encode())
                for cls, ref, created, modified, body in rows
            ),
            deletions=tuple(
                Deletion(class_name=cls, ref=ref, created=created, number=number)
                for cls, ref, created, number in deletions
            ),
            ceiling=connection.execute("SELECT max(number) FROM ceiling").fetchone()[0],
            notes=notes_in(connection),
            log_head=log_head_in(connection),
        )
        self._deletions = Counter(each.class_name for each in stored.deletions)
        return stored

    def _write(self, connection: sqlite3.Connection, record: CommitRecord) -> Counter[str]:
        """Writes a record inside a transaction; gives how many deletions of each class are kept then."""
        deletions = self._deletions
        if record.deletions:
            connection.executemany(
                "DELETE FROM object WHERE ref = ?", [(each.ref,) for each in record.deletions]
            )
            connection.executemany(
                "INSERT INTO deletion (class, ref, created, number) VALUES (?, ?, ?, ?)",
                [(each.class_name, each.ref, each.created, each.number) for each in record.deletions],
            )
            deletions = self._forget_deletions(connection, record)
        if record.puts:
            connection.executemany(
                _PUT,
                [
                    (each.class_name, each.ref, each.created, each.modified, each.body.decode())
                    for each in record.puts
                ],
            )
        if record.touches:
            connection.executemany(
                "UPDATE object SET modified = ? WHERE ref = ?",
                [(each.modified, each.ref) for each in record.touches],
            )
        if record.ceiling is not None:
            connection.execute("UPDATE ceiling SET number = ?", (record.ceiling,))
        if record.notes:
            together = b"\n".join([each.body for each in record.notes])
            connection.execute("INSERT INTO note VALUES (?, ?)", (record.notes[-1].number, together))
        if record.log_head is not None:
            head = record.log_head
            connection.execute("DELETE FROM note WHERE number <= ?", (head.noted,))
            connection.execute(
                "UPDATE log_head SET records = ?, hash = ?, noted = ?", (head.records, head.hash, head.noted)
            )
        return deletions

    def _forget_deletions(self, connection: sqlite3.Connection, record: CommitRecord) -> Counter[str]:
        """Cuts back the deletions of the classes that have too many; gives how many are left of each."""
        counts = self._deletions + Counter(each.class_name for each in record.deletions)
        for name, count in counts.items():
            if count >= DELETIONS_MAX:
                connection.execute(_FORGET, {"class": name, "kept": DELETIONS_KEPT})
                counts[name] = DELETIONS_KEPT
        return counts
