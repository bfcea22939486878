"""What must a store do to make commits durable? The database calls an engine through this protocol only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

DELETIONS_MAX: Final = 512
"""Deletions remembered per class; when there are so many, they are cut back to DELETIONS_KEPT (spec §5.2)."""

DELETIONS_KEPT: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """One object: the commits that made it and changed it last, and its durable fields as JSON (`body`)."""

    class_name: str
    ref: str
    created: int
    modified: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """An object of which only a computed set changed."""

    ref: str
    modified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """An object that is gone: the commits that made and deleted it."""

    class_name: str
    ref: str
    created: int
    number: int


class Note(NamedTuple):
    """What the audit log will say of a commit, in one line; kept with it until it is in the log.

    Numbers only grow; those of one append follow each other.
    """

    number: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LogHead:
    """The end of the audit log: how many records it has, and the hash of the last one.

    `noted`: all notes up to this number are in the log.
    """

    records: int = 0
    hash: str = ""
    noted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitRecord:
    """What one append makes durable, whole or not at all: the outcome of one or more commits.

    A row in `puts` is new or takes the place of the row with its reference. `ceiling` is set when commit numbers above
    the last one stored are in use: after a restart, numbers start above it. `log_head` takes the place of the one before,
    and the notes that are in the log are forgotten.
    """

    puts: tuple[StoredRow, ...] = ()
    touches: tuple[Touch, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    ceiling: int | None = None
    notes: tuple[Note, ...] = ()
    log_head: LogHead | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to store."""
        of_rows = self.puts or self.touches or self.deletions or self.ceiling is not None
        return bool(of_rows or self.notes or self.log_head is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """All that an engine keeps; rows in creation order, deletions in the order of their numbers."""

    rows: Sequence[StoredRow]
    deletions: Sequence[Deletion]
    ceiling: int
    notes: Sequence[Note] = ()
    log_head: LogHead = LogHead()


class Engine(Protocol):
    """A store with one user at a time. `append` may be called from any thread, but not by two at once."""

    def load(self) -> Stored:
        """Opens the store, makes it if it is new, brings its schema up to date, and reads everything.

        Raises:
            DatabaseInUse: another process has it open.
            SchemaTooNew: a newer version wrote it.
            DatabaseDamaged: it cannot be read.
        """
        ...

    def append(self, record: CommitRecord) -> None:
        """Returns when the record is durable.

        Raises:
            StorageFailed: it could not be made durable; the store goes on without it.
        """
        ...

    def close(self) -> None:
        """Gives the store free for others."""
        ...
