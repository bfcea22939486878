"""Where are the committed rows? One table per class, with its indexes and caches; the database writes, views read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from poolnet.db.layer import filled
from poolnet.db.shape import SHAPES, Shape, uuid_of
from poolnet.model.types import Ref, Row

R = TypeVar("R", bound=Row)

CHANGES_REMEMBERED: Final = 8192
"""Of each class; who was away for longer looks at all rows."""


class Table(Generic[R]):
    """The rows of one class.

    Dicts keep the order in which rows were made. `index` has, for every indexed attribute and value, the rows that
    have it; a dict stands for an ordered set there. Caches of filled rows and encoded fragments hold only what is
    still true: whatever changes a row, or one of its computed sets, calls `forget`.
    """

    __slots__ = (
        "_changed",
        "_changes",
        "_filled",
        "_fragments",
        "_listings",
        "_shape",
        "index",
        "rows",
        "uuids",
    )

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self.rows: dict[Any, R] = {}
        self.uuids: dict[str, Any] = {}
        self.index: dict[str, dict[object, dict[Any, None]]] = {name: {} for name in shape.indexed}
        self._filled: dict[str, R] = {}
        self._fragments: dict[str, dict[str, tuple[Ref[R], bytes]]] = {}
        self._listings: dict[str, tuple[tuple[Ref[R], bytes], ...]] = {}
        self._changes = 0
        self._changed: deque[str] = deque(maxlen=CHANGES_REMEMBERED)  # what the last of them concerned

    @property
    def mark(self) -> int:
        """How often something changed so far."""
        return self._changes

    def changed_since(self, mark: int) -> frozenset[str] | None:
        """The rows that have come, changed (computed sets, too) or gone since that mark; None if that is forgotten."""
        later = self._changes - mark
        if later > len(self._changed):
            return None
        return frozenset(islice(reversed(self._changed), later))

    def _note(self, ref: str) -> None:
        self._changes += 1
        self._changed.append(ref)

    def insert(self, row: R) -> None:
        """Adds a new row at the end."""
        self.rows[row.ref] = row
        for name, buckets in self.index.items():
            buckets.setdefault(getattr(row, name), {})[row.ref] = None
        if uuid := self._uuid(row):
            self.uuids[uuid] = row.ref
        self._listings.clear()
        self._note(row.ref)

    def replace(self, row: R) -> None:
        """Puts a new version in the place of a row."""
        old = self.rows[row.ref]
        self.rows[row.ref] = row
        for name, buckets in self.index.items():
            before, after = getattr(old, name), getattr(row, name)
            if before != after:
                self._unlist(buckets, before, row.ref)
                buckets.setdefault(after, {})[row.ref] = None
        if (before := self._uuid(old)) != (after := self._uuid(row)):
            self.uuids.pop(before, None)
            if after:
                self.uuids[after] = row.ref
        self.forget(row.ref)

    def remove(self, ref: str) -> None:
        """Takes a row out."""
        row = self.rows.pop(ref)
        for name, buckets in self.index.items():
            self._unlist(buckets, getattr(row, name), ref)
        self.uuids.pop(self._uuid(row), None)
        self.forget(ref)

    def forget(self, ref: str) -> None:
        """Drops what was cached of a row."""
        self._filled.pop(ref, None)
        for fragments in self._fragments.values():
            fragments.pop(ref, None)
        self._listings.clear()
        self._note(ref)

    def forget_all(self) -> None:
        """Drops what was cached of all rows."""
        self._filled.clear()
        self._fragments.clear()
        self._listings.clear()
        self._changes += 1
        self._changed.clear()

    def filled(self, ref: str, fill: Callable[[R], R]) -> R | None:
        """Gives a row with its computed sets, which `fill` adds when they are not cached."""
        row = self.rows.get(ref)
        if row is None or not self._shape.computed:
            return row
        whole = self._filled.get(ref)
        if whole is None:
            whole = self._filled[ref] = fill(row)
        return whole

    def fragment(self, ref: Ref[R], codec: str, make: Callable[[Ref[R]], bytes]) -> bytes:
        """Gives the cached encoding of a row in its present version, made when it is asked for first."""
        pairs = self._fragments.setdefault(codec, {})
        if ref not in pairs:
            pairs[ref] = (ref, make(ref))
        return pairs[ref][1]

    def fragments(self, codec: str, make: Callable[[Ref[R]], bytes]) -> Sequence[tuple[Ref[R], bytes]]:
        """Gives `fragment` of every row, in creation order; the list itself is kept until the class changes."""
        listing = self._listings.get(codec)
        if listing is None:
            pairs = self._fragments.setdefault(codec, {})
            for ref in self.rows:
                if ref not in pairs:
                    pairs[ref] = (ref, make(ref))
            listing = self._listings[codec] = tuple([pairs[ref] for ref in self.rows])
        return listing

    def _uuid(self, row: R) -> str:
        """Gives the row's uuid; empty, which is in no index, if it has none."""
        return uuid_of(row)

    @staticmethod
    def _unlist(buckets: dict[object, dict[Any, None]], value: object, ref: str) -> None:
        bucket = buckets[value]
        del bucket[ref]
        if not bucket:
            del buckets[value]


class Tables:
    """All tables: the layer under every view. Only the database changes it, one whole commit at a time."""

    def __init__(self) -> None:
        self._tables: dict[type[Row], Table[Any]] = {cls: Table(shape) for cls, shape in SHAPES.items()}
        self._owners: dict[str, type[Row]] = {}
        self._stamp = 0

    @property
    def stamp(self) -> int:
        """See `Layer`."""
        return self._stamp

    def table(self, cls: type[R]) -> Table[R]:
        """Gives one class's table; KeyError for a class that is not in the database."""
        return self._tables[cls]

    def mark(self, cls: type[Row]) -> int:
        """See `Layer`."""
        return self._tables[cls].mark

    def changed_since(self, cls: type[Row], mark: int) -> frozenset[str] | None:
        """See `Layer`."""
        return self._tables[cls].changed_since(mark)

    def stored(self, cls: type[R], ref: str) -> R | None:
        """See `Layer`."""
        row: R | None = self._tables[cls].rows.get(ref)
        return row

    def row(self, cls: type[R], ref: str) -> R | None:
        """See `Layer`."""
        whole: R | None = self._tables[cls].filled(ref, self._fill)
        return whole

    def refs(self, cls: type[R]) -> Sequence[Ref[R]]:
        """See `Layer`."""
        refs: tuple[Ref[R], ...] = tuple(self._tables[cls].rows)
        return refs

    def count(self, cls: type[Row]) -> int:
        """See `Layer`."""
        return len(self._tables[cls].rows)

    def lookup(self, cls: type[R], attribute: str, value: object) -> Sequence[Ref[R]]:
        """See `Layer`."""
        refs: tuple[Ref[R], ...] = tuple(self._tables[cls].index[attribute].get(value, ()))
        return refs

    def at_most(self, cls: type[Row], attribute: str, value: object) -> int:
        """See `Layer`."""
        return len(self._tables[cls].index[attribute].get(value, ()))

    def by_uuid(self, cls: type[R], uuid: str) -> Ref[R] | None:
        """See `Layer`."""
        ref: Ref[R] | None = self._tables[cls].uuids.get(uuid)
        return ref

    def owner(self, ref: str) -> type[Row] | None:
        """See `Layer`."""
        return self._owners.get(ref)

    def insert(self, row: Row) -> None:
        """Adds a row whose reference and uuid are new."""
        self._tables[type(row)].insert(row)
        self._owners[row.ref] = type(row)
        self._stamp += 1

    def replace(self, row: Row) -> None:
        """Puts a new version in the place of a row."""
        self._tables[type(row)].replace(row)
        self._stamp += 1

    def remove(self, cls: type[Row], ref: str) -> None:
        """Takes a row out."""
        self._tables[cls].remove(ref)
        del self._owners[ref]
        self._stamp += 1

    def forget(self, cls: type[Row], ref: str) -> None:
        """Drops what was cached of a row, because a computed set of it changed."""
        self._tables[cls].forget(ref)
        self._stamp += 1

    def forget_all(self) -> None:
        """Drops all that was cached, because nobody knows whose computed sets changed."""
        for table in self._tables.values():
            table.forget_all()
        self._stamp += 1

    def _fill(self, row: R) -> R:
        return filled(self, row)
