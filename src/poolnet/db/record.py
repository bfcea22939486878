"""What must the engine store for a batch of commits? The database asks before it makes them durable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from poolnet.db.engine import CommitRecord, Deletion, StoredRow, Touch
from poolnet.db.feed import Feed
from poolnet.db.shape import SHAPES
from poolnet.db.staging import StagedCommit
from poolnet.model.types import Row


def record_of(commits: Sequence[StagedCommit], feed: Feed, ceiling: int | None) -> CommitRecord:
    """Folds staged commits, none of which is in the feed yet, into one record with the last state of each object.

    Classes and fields that do not outlive a restart leave no trace. An object made and destroyed within the batch
    leaves a deletion only, so that a token from between the two still gets its `del`.
    """
    batch = _Batch(feed)
    for commit in commits:
        batch.add(commit)
    return CommitRecord(
        puts=tuple(batch.puts.values()),
        touches=tuple(Touch(ref=ref, modified=number) for ref, number in batch.touches.items()),
        deletions=tuple(batch.deletions),
        ceiling=ceiling,
    )


class _Batch:
    """The outcome of several commits while it is put together."""

    __slots__ = ("_born", "_feed", "deletions", "puts", "touches")

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._born: dict[str, int] = {}
        self.puts: dict[str, StoredRow] = {}
        self.touches: dict[str, int] = {}
        self.deletions: list[Deletion] = []

    def add(self, commit: StagedCommit) -> None:
        """Adds the next commit."""
        self._born.update((row.ref, commit.number) for row in commit.created)
        for row in (*commit.created, *(each.row for each in commit.updated)):
            if row.ref in commit.bodies:
                self.touches.pop(row.ref, None)
                self.puts[row.ref] = StoredRow(
                    class_name=SHAPES[type(row)].name,
                    ref=row.ref,
                    created=self._birth(type(row), row.ref),
                    modified=commit.number,
                    body=commit.bodies[row.ref],
                )
        for cls, ref in commit.durably_touched:
            if SHAPES[cls].durable:
                self._touch(ref, commit.number)
        for cls, ref in commit.destroyed:
            if SHAPES[cls].durable:
                self._delete(cls, ref, commit.number)

    def _touch(self, ref: str, number: int) -> None:
        if ref in self.puts:
            self.puts[ref] = dataclasses.replace(self.puts[ref], modified=number)
        else:
            self.touches[ref] = number

    def _delete(self, cls: type[Row], ref: str, number: int) -> None:
        self.touches.pop(ref, None)
        self.puts.pop(ref, None)
        created = self._birth(cls, ref)
        self.deletions.append(Deletion(class_name=SHAPES[cls].name, ref=ref, created=created, number=number))

    def _birth(self, cls: type[Row], ref: str) -> int:
        """Gives the commit that made an object, in the batch or before it."""
        born = self._born.get(ref)
        if born is None:
            born = self._feed.created_at(cls, ref)
        assert born is not None, f"{ref} was never made"  # noqa: S101 - for the type checker; nothing from outside is asserted
        return born
