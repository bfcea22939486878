"""Where do tests keep a database? An engine without a disk; what it holds lives as long as the object."""

from __future__ import annotations

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
from poolnet.db.errors import DatabaseInUse, StorageFailed


class MemoryEngine:
    """An `Engine` that can be opened again after it was closed, like a file."""

    def __init__(self) -> None:
        self._rows: dict[str, StoredRow] = {}
        self._deletions: dict[str, list[Deletion]] = {}
        self._ceiling = 0
        self._notes: list[Note] = []
        self._log_head = LogHead()
        self._open = False

    def load(self) -> Stored:
        """See `Engine`."""
        if self._open:
            raise DatabaseInUse("this memory is open already")
        self._open = True
        deletions = [each for memory in self._deletions.values() for each in memory]
        return Stored(
            rows=tuple(self._rows.values()),
            deletions=tuple(sorted(deletions, key=lambda each: each.number)),
            ceiling=self._ceiling,
            notes=tuple(self._notes),
            log_head=self._log_head,
        )

    def append(self, record: CommitRecord) -> None:
        """See `Engine`."""
        if not self._open:
            raise StorageFailed("this memory is not open")
        for deletion in record.deletions:
            del self._rows[deletion.ref]
            self._deletions.setdefault(deletion.class_name, []).append(deletion)
        for memory in self._deletions.values():
            if len(memory) >= DELETIONS_MAX:
                del memory[:-DELETIONS_KEPT]
        for row in record.puts:
            self._rows[row.ref] = row
        for touch in record.touches:
            row = self._rows[touch.ref]
            self._rows[touch.ref] = StoredRow(
                class_name=row.class_name,
                ref=row.ref,
                created=row.created,
                modified=touch.modified,
                body=row.body,
            )
        if record.ceiling is not None:
            self._ceiling = record.ceiling
        self._notes += record.notes
        if record.log_head is not None:
            self._log_head = record.log_head
            self._notes = [each for each in self._notes if each.number > record.log_head.noted]

    def close(self) -> None:
        """See `Engine`."""
        self._open = False
