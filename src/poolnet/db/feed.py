"""What changed since a client looked last? event.from, event.next and the coordinator ask; the database tells it.

Every commit that changes something has a number, one higher than the last; the tokens of event.from are these numbers
(spec §5.2). They never go back, even for changes that are not kept over a restart; a restart may skip some.
"""

from __future__ import annotations

import asyncio
import operator
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from poolnet.db.engine import DELETIONS_KEPT, DELETIONS_MAX, Deletion, StoredRow
from poolnet.db.shape import BY_NAME, SHAPES, Shape
from poolnet.db.staging import StagedCommit
from poolnet.model.types import Ref, Row


class Change(Struct, frozen=True, kw_only=True, gc=False):
    """One object in a delta; `number` is the commit that made it, changed it last, or deleted it."""

    class_name: str
    ref: Ref[Row]
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """What differs between two commits; per object at most one entry (spec §5.2, "Collapsing").

    `modified` objects were there before; `deleted` ones were too. Each group is in the order of the numbers.
    `complete` is false if deletions that old may have been forgotten.
    """

    number: int
    created: tuple[Change, ...]
    modified: tuple[Change, ...]
    deleted: tuple[Change, ...]
    complete: bool

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.created or self.modified or self.deleted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One commit as it becomes visible, with the rows as they are then; of deleted rows, as they were last."""

    number: int
    created: tuple[Row, ...]
    modified: tuple[Row, ...]
    deleted: tuple[Row, ...]


@dataclass(slots=True)
class _Life:
    created: int
    modified: int


class _ClassFeed:
    """One class: its objects ordered by their last change, and the deletions that are remembered."""

    __slots__ = ("deletions", "forgotten", "lives", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.lives: OrderedDict[str, _Life] = OrderedDict()
        self.deletions: list[Deletion] = []
        self.forgotten = 0
        """Deletions up to this number may have been forgotten."""

    def delete(self, ref: str, number: int) -> None:
        life = self.lives.pop(ref)
        self.deletions.append(Deletion(class_name=self.name, ref=ref, created=life.created, number=number))
        if len(self.deletions) >= DELETIONS_MAX:
            dropped = len(self.deletions) - DELETIONS_KEPT
            self.forgotten = self.deletions[dropped - 1].number
            del self.deletions[:dropped]

    def changed_since(self, number: int) -> Iterable[tuple[str, _Life]]:
        """Walks back from the newest change: the cost is that of the answer."""
        for ref, life in reversed(self.lives.items()):
            if life.modified <= number:
                return
            yield ref, life

    def deleted_since(self, number: int) -> Iterable[Deletion]:
        for deletion in reversed(self.deletions):
            if deletion.number <= number:
                return
            if deletion.created <= number:
                yield deletion


class Feed:
    """The commit numbers of all objects. It belongs to a database and to the thread of its event loop."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self._classes = {cls: _ClassFeed(shape.name) for cls, shape in SHAPES.items()}
        self._waiters: set[asyncio.Future[None]] = set()
        self._subscribers: dict[int, Callable[[Published], None]] = {}

    @property
    def number(self) -> int:
        """The last commit that is visible."""
        return self._number

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody wants every single commit."""
        return bool(self._subscribers)

    def created_at(self, cls: type[Row], ref: str) -> int | None:
        """Gives the commit that made an object; None if it does not exist."""
        life = self._classes[cls].lives.get(ref)
        return None if life is None else life.created

    def modified_at(self, cls: type[Row], ref: str) -> int | None:
        """Gives the last commit that made or changed an object or one of its computed sets."""
        life = self._classes[cls].lives.get(ref)
        return None if life is None else life.modified

    def changes_since(self, number: int, class_names: Collection[str] | None = None) -> Delta:
        """Gives what differs between a commit and now, in the classes named (on the wire), or in all of them.

        Unknown names match nothing (spec §5.1). A number from the future gives nothing.
        """
        created: list[Change] = []
        modified: list[Change] = []
        deleted: list[Change] = []
        complete = True
        for each in self._chosen(class_names):
            for ref, life in each.changed_since(number):
                group, at = (created, life.created) if life.created > number else (modified, life.modified)
                group.append(Change(class_name=each.name, ref=Ref(ref), number=at))
            deleted += [
                Change(class_name=each.name, ref=Ref(one.ref), number=one.number)
                for one in each.deleted_since(number)
            ]
            complete = complete and number >= each.forgotten
        return Delta(
            number=self._number,
            created=tuple(sorted(created, key=_by_number)),
            modified=tuple(sorted(modified, key=_by_number)),
            deleted=tuple(sorted(deleted, key=_by_number)),
            complete=complete,
        )

    def everything(self, class_names: Collection[str]) -> list[tuple[int, str, Ref[Row]]]:
        """All objects of the classes named, in the order in which they were made: the commit, the class, the reference."""
        return sorted(
            (
                (life.created, each.name, Ref(ref))
                for each in self._chosen(class_names)
                for ref, life in each.lives.items()
            ),
            key=operator.itemgetter(0),
        )

    async def wait(self, number: int) -> None:
        """Waits until a commit later than this one is visible."""
        while self._number <= number:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    def subscribe(self, listener: Callable[[Published], None]) -> Callable[[], None]:
        """Has every commit told to a function, in order, when it has become visible (event.next).

        The function must not raise or commit. Calling the result ends the subscription.
        """
        key = max(self._subscribers, default=0) + 1
        self._subscribers[key] = listener
        return lambda: (self._subscribers.pop(key, None), None)[1]

    def record(self, commit: StagedCommit) -> None:
        """Notes a commit that has just become visible; only the database calls it."""
        number = commit.number
        for row in commit.created:
            self._classes[type(row)].lives[row.ref] = _Life(number, number)
        for cls, ref in commit.modified:
            lives = self._classes[cls].lives
            lives[ref].modified = number
            lives.move_to_end(ref)
        for cls, ref in commit.destroyed:
            self._classes[cls].delete(ref, number)
        self._number = number

    def publish(self, published: Published) -> None:
        """Tells the subscribers of a commit; only the database calls it."""
        for listener in tuple(self._subscribers.values()):
            listener(published)

    def wake(self) -> None:
        """Wakes whoever waits; only the database calls it, after the last commit of a batch."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def restore(self, rows: Iterable[StoredRow], deletions: Sequence[Deletion], number: int) -> None:
        """Takes over what an engine kept; only the database calls it, once."""
        self._number = number
        for row in sorted(rows, key=lambda each: each.modified):
            self._of(BY_NAME[row.class_name]).lives[row.ref] = _Life(row.created, row.modified)
        for deletion in deletions:
            if deletion.class_name in BY_NAME:
                self._of(BY_NAME[deletion.class_name]).deletions.append(deletion)
        for shape in SHAPES.values():
            each = self._of(shape)
            if not shape.durable:
                each.forgotten = number  # what was there before the restart went without a word
            elif len(each.deletions) >= DELETIONS_KEPT:
                each.forgotten = each.deletions[0].number

    def follow(self, puts: Iterable[StoredRow], deletions: Iterable[Deletion], number: int) -> None:
        """Notes what has just been taken over from another database; only the database calls it."""
        for deletion in deletions:
            self._of(BY_NAME[deletion.class_name]).delete(deletion.ref, deletion.number)
        for row in sorted(puts, key=lambda each: each.modified):
            lives = self._of(BY_NAME[row.class_name]).lives
            lives[row.ref] = _Life(row.created, row.modified)
            lives.move_to_end(row.ref)
        self._number = number

    def _of(self, shape: Shape) -> _ClassFeed:
        return self._classes[shape.row_type]

    def _chosen(self, class_names: Collection[str] | None) -> Iterable[_ClassFeed]:
        if class_names is None:
            return self._classes.values()
        return [self._of(BY_NAME[name]) for name in class_names if name in BY_NAME]


_by_number = operator.attrgetter("number")
