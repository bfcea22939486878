"""How does anybody read and change the pool database? Rules, derive, dispatch and the xe commands through these.

A `View` reads the committed state or a transaction's; a `Txn` is a view that also writes. Nothing here waits, does
I/O, or makes anything durable: `Database.commit` does, with the `Changes` of a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from poolnet.db.changes import Changes
from poolnet.db.layer import Layer
from poolnet.db.overlay import Overlay
from poolnet.db.shape import SHAPES
from poolnet.model.errors import handle_invalid, uuid_invalid
from poolnet.model.types import Ref, Row

R = TypeVar("R", bound=Row)
_NOTHING: Final = object()  # what a row that is not there has in every field


class View:
    """Reads rows. They are immutable values with their computed sets filled in as of the moment of reading.

    What a view shows moves on when something is committed; rows that were read before do not.
    """

    __slots__ = ("_layer",)

    def __init__(self, layer: Layer) -> None:
        self._layer = layer

    @property
    def layer(self) -> Layer:
        """What the view reads from; for the filters and the database."""
        return self._layer

    def get(self, cls: type[R], ref: Ref[R]) -> R:
        """Gives a row.

        Raises:
            Failure: HANDLE_INVALID[class; ref] if there is none (spec §1.6).
        """
        row = self._layer.row(cls, ref)
        if row is None:
            raise handle_invalid(SHAPES[cls].name, ref)
        return row

    def find(self, cls: type[R], ref: Ref[R]) -> R | None:
        """Gives a row, or None for the null reference and for one whose object is gone."""
        return self._layer.row(cls, ref)

    def stored(self, cls: type[R], ref: Ref[R]) -> R | None:
        """Gives a row with its computed sets empty: the same object as long as nobody writes to it."""
        return self._layer.stored(cls, ref)

    def all(self, cls: type[R]) -> Iterator[R]:
        """Gives the rows of a class in creation order; changing them meanwhile is allowed, new ones are not seen."""
        for ref in self._layer.refs(cls):
            row = self._layer.row(cls, ref)
            if row is not None:
                yield row

    def refs(self, cls: type[R]) -> Sequence[Ref[R]]:
        """Gives the references of a class in creation order."""
        return self._layer.refs(cls)

    def mark(self, cls: type[Row]) -> int:
        """Gives a number that stands for the committed rows of a class as they are now."""
        return self._layer.mark(cls)

    def changed_since(self, cls: type[Row], mark: int) -> frozenset[str] | None:
        """Gives the rows that are seen here other than they were committed at that mark, those that have gone included.

        None if nobody remembers how it was.
        """
        return self._layer.changed_since(cls, mark)

    def count(self, cls: type[Row]) -> int:
        """Says how many rows a class has."""
        return self._layer.count(cls)

    def exists(self, cls: type[R], ref: Ref[R]) -> bool:
        """Says whether there is such a row."""
        return self._layer.stored(cls, ref) is not None

    def by_uuid(self, cls: type[R], uuid: str) -> R:
        """Gives the row with a uuid.

        Raises:
            Failure: UUID_INVALID[class; uuid] if there is none (spec §1.6).
        """
        ref = self._layer.by_uuid(cls, uuid)
        row = None if ref is None else self._layer.row(cls, ref)
        if row is None:
            raise uuid_invalid(SHAPES[cls].name, uuid)
        return row

    def by_name_label(self, cls: type[R], name: str) -> tuple[R, ...]:
        """Gives the rows with a name, for a class that has a name_label."""
        return self.where(cls, name_label=name)

    def where(self, cls: type[R], **fields: object) -> tuple[R, ...]:
        """Gives the rows whose stored fields (by attribute name) all have these values.

        With a uuid, a reference field or another indexed one among them the cost is that of the result; else all rows of the
        class are looked at.

        Raises:
            TypeError: a field is not a stored one.
        """
        layer = self._layer
        return tuple(
            [row for ref in self._refs_where(cls, fields) if (row := layer.row(cls, ref)) is not None]
        )

    def first(self, cls: type[R], **fields: object) -> R | None:
        """Gives the first of the rows that `where` would give; the others' computed sets are not looked for."""
        return next((self._layer.row(cls, ref) for ref in self._refs_where(cls, fields)), None)

    def _refs_where(self, cls: type[R], fields: Mapping[str, object]) -> Iterable[Ref[R]]:
        """The rows with these values, as they are asked for. Raises TypeError."""
        shape = SHAPES[cls]
        if not shape.stored.issuperset(fields):
            raise TypeError(f"{shape.name} has no stored fields {sorted(fields.keys() - shape.stored)}")
        indexed, candidates = self._candidates(cls, fields)
        checked = [(name, value) for name, value in fields.items() if name != indexed]
        if not checked:
            return candidates
        return self._with(cls, candidates, checked)

    def _with(
        self, cls: type[R], candidates: Sequence[Ref[R]], fields: Sequence[tuple[str, object]]
    ) -> Iterator[Ref[R]]:
        """Those of some rows with these values, looked at one by one."""
        stored = self._layer.stored
        for ref in candidates:
            row = stored(cls, ref)
            for name, value in fields:
                if getattr(row, name, _NOTHING) != value:
                    break
            else:
                yield ref

    def _candidates(self, cls: type[R], fields: Mapping[str, object]) -> tuple[str, Sequence[Ref[R]]]:
        """Gives the rows among which those with these values are, and the field of which that is certain, if any."""
        layer = self._layer
        if fields.get("uuid"):
            ref = layer.by_uuid(cls, str(fields["uuid"]))
            return "uuid", () if ref is None else (ref,)
        sizes = [
            (layer.at_most(cls, name, fields[name]), name) for name in SHAPES[cls].indexed if name in fields
        ]
        if not sizes:
            return "", layer.refs(cls)
        _, name = min(sizes)
        return name, layer.lookup(cls, name, fields[name])


class Txn(View):
    """A view that sees its own writes, which nobody else sees until they are committed.

    Dropping it undoes everything. It shows the present state below its writes, so others' commits appear in it.
    """

    __slots__ = ("_overlay", "_parent")

    def __init__(self, below: Layer, parent: Txn | None = None) -> None:
        self._overlay = Overlay(below)
        self._parent = parent
        super().__init__(self._overlay)

    def create(self, row: R) -> Ref[R]:
        """Adds a row. Its reference and its uuid must be set; its computed sets are ignored.

        Raises:
            TypeError: the row has no reference.
            Duplicate: the reference or the uuid is taken (spec §1.6: INTERNAL_ERROR).
        """
        self._overlay.create(row)
        return row.ref

    def update(self, cls: type[R], ref: Ref[R], **fields: object) -> None:
        """Writes stored fields (by attribute name) of a row; an equal value is no change.

        Raises:
            TypeError: a field is not a stored one.
            Failure: HANDLE_INVALID[class; ref].
            Duplicate: another row has this uuid.
        """
        self._overlay.update(cls, ref, fields)

    def destroy(self, cls: type[R], ref: Ref[R]) -> None:
        """Takes a row out; references to it go stale (spec §2.3).

        Raises:
            Failure: HANDLE_INVALID[class; ref].
        """
        self._overlay.destroy(cls, ref)

    def touch(self, cls: type[R], ref: Ref[R]) -> None:
        """Makes a row count as modified though nothing is written (event.inject).

        Raises:
            Failure: HANDLE_INVALID[class; ref].
        """
        self._overlay.touch(cls, ref)

    def changes(self) -> Changes:
        """Gives what was written so far; for a nested transaction, without its parent's writes."""
        return self._overlay.changes()

    def nested(self) -> Txn:
        """Begins a transaction over this one: dropped, or folded in by `merge`."""
        return Txn(self._overlay, self)

    def merge(self) -> None:
        """Folds a nested transaction's writes into its parent and forgets them here.

        Raises:
            TypeError: it is not nested.
            Failure: HANDLE_INVALID if its parent destroyed a row meanwhile that this one changed.
            Duplicate: its parent made an object meanwhile with a reference or uuid that this one used.
        """
        if self._parent is None:
            raise TypeError("only a nested transaction has a parent to be merged into")
        changes = self._overlay.changes()
        self._overlay = Overlay(self._parent.layer)
        self._layer = self._overlay
        self._parent._overlay.replay(changes)
