"""What does a transaction see of its own writes? The layer of changes over committed tables or another overlay.

The layer below may change while the overlay is open, because others commit. The overlay holds fields, not rows, so
what it shows is always its own writes over the present state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from poolnet.db.changes import Changes, Key
from poolnet.db.errors import Duplicate
from poolnet.db.layer import Layer, filled
from poolnet.db.shape import SHAPES, OneEnd, uuid_of, with_values, without_computed
from poolnet.model.errors import handle_invalid
from poolnet.model.types import Ref, Row, is_null

R = TypeVar("R", bound=Row)


@dataclass(slots=True, eq=False)
class _Edits:
    """What the overlay changes of one class."""

    created: dict[Any, Row] = field(default_factory=dict)
    updated: dict[str, dict[str, object]] = field(default_factory=dict)
    seen: dict[str, dict[str, object]] = field(default_factory=dict)
    destroyed: dict[str, None] = field(default_factory=dict)
    index: dict[str, dict[object, dict[Any, None]]] = field(default_factory=dict)
    """Rows that have a value in an indexed attribute because the overlay says so."""
    uuids: dict[str, str] = field(default_factory=dict)
    touched: dict[str, set[str]] = field(default_factory=dict)
    """Rows, and which of their computed sets may differ from those in the layer below."""
    composed: dict[str, tuple[Row, Row]] = field(default_factory=dict)
    """Updated rows: the row below, and that row with the updates."""
    whole: dict[str, Row] = field(default_factory=dict)
    """Rows with their computed sets, as far as they were asked for and still hold."""

    def enlist(self, attribute: str, value: object, ref: str) -> None:
        self.index.setdefault(attribute, {}).setdefault(value, {})[ref] = None

    def unlist(self, attribute: str, value: object, ref: str) -> None:
        self.index.get(attribute, {}).get(value, {}).pop(ref, None)


class Overlay:
    """Changes over a layer; itself a layer."""

    __slots__ = ("_below", "_below_stamp", "_edits", "_own_stamp", "_touches")

    def __init__(self, below: Layer) -> None:
        self._below = below
        self._below_stamp = below.stamp
        self._own_stamp = 0
        self._edits: dict[type[Row], _Edits] = {}
        self._touches: dict[Key, None] = {}

    @property
    def stamp(self) -> int:
        """See `Layer`: both parts only grow."""
        return self._below.stamp + self._own_stamp

    def mark(self, cls: type[Row]) -> int:
        """See `Layer`."""
        return self._below.mark(cls)

    def changed_since(self, cls: type[Row], mark: int) -> frozenset[str] | None:
        """See `Layer`."""
        self._follow_below()
        below = self._below.changed_since(cls, mark)
        edits = self._edits.get(cls)
        if below is None or edits is None:
            return below
        return below.union(edits.created, edits.updated, edits.destroyed, edits.touched)

    def stored(self, cls: type[R], ref: str) -> R | None:
        """See `Layer`."""
        edits = self._edits.get(cls)
        if edits is None:
            return self._below.stored(cls, ref)
        if ref in edits.created:
            return edits.created[ref]  # type: ignore[return-value]
        if ref in edits.destroyed:
            return None
        below = self._below.stored(cls, ref)
        if below is None or ref not in edits.updated:
            return below
        known = edits.composed.get(ref)
        if known is None or known[0] is not below:
            known = edits.composed[ref] = (below, with_values(below, edits.updated[ref]))
        return known[1]  # type: ignore[return-value]

    def row(self, cls: type[R], ref: str) -> R | None:
        """See `Layer`."""
        self._follow_below()
        edits = self._edits.get(cls)
        if edits is None or not (
            ref in edits.created or ref in edits.updated or ref in edits.destroyed or ref in edits.touched
        ):
            return self._below.row(cls, ref)
        known = edits.whole.get(ref)
        if known is None:
            stored = self.stored(cls, ref)
            if stored is None:
                return None
            known = edits.whole[ref] = self._whole(edits, stored)
        return known  # type: ignore[return-value]

    def refs(self, cls: type[R]) -> Sequence[Ref[R]]:
        """See `Layer`."""
        below = self._below.refs(cls)
        edits = self._edits.get(cls)
        if edits is None:
            return below
        if edits.destroyed:
            below = tuple(ref for ref in below if ref not in edits.destroyed)
        return (*below, *edits.created) if edits.created else below

    def count(self, cls: type[Row]) -> int:
        """See `Layer`."""
        edits = self._edits.get(cls)
        if edits is None:
            return self._below.count(cls)
        gone = sum(self._below.stored(cls, ref) is not None for ref in edits.destroyed)
        return self._below.count(cls) + len(edits.created) - gone

    def lookup(self, cls: type[R], attribute: str, value: object) -> Sequence[Ref[R]]:
        """See `Layer`."""
        return self._over(self._below.lookup(cls, attribute, value), cls, attribute, value)

    def _over(self, below: Sequence[Ref[R]], cls: type[R], attribute: str, value: object) -> Sequence[Ref[R]]:
        """What becomes of the rows that the layer below gives for a value."""
        edits = self._edits.get(cls)
        if edits is None:
            return below
        if below and (edits.destroyed or edits.updated):
            below = tuple(
                ref
                for ref in below
                if ref not in edits.destroyed and attribute not in edits.updated.get(ref, _NO_FIELDS)
            )
        own = edits.index.get(attribute, _NO_VALUES).get(value)
        return (*below, *own) if own else below

    def at_most(self, cls: type[Row], attribute: str, value: object) -> int:
        """See `Layer`."""
        below = self._below.at_most(cls, attribute, value)
        edits = self._edits.get(cls)
        own = edits.index.get(attribute, _NO_VALUES).get(value) if edits is not None else None
        return below + len(own) if own else below

    def by_uuid(self, cls: type[R], uuid: str) -> Ref[R] | None:
        """See `Layer`."""
        edits = self._edits.get(cls)
        if edits is not None and uuid in edits.uuids:
            return Ref(edits.uuids[uuid])
        ref = self._below.by_uuid(cls, uuid)
        if ref is None or edits is None:
            return ref
        hidden = ref in edits.destroyed or "uuid" in edits.updated.get(ref, _NO_FIELDS)
        return None if hidden else ref

    def owner(self, ref: str) -> type[Row] | None:
        """See `Layer`."""
        for cls, edits in self._edits.items():
            if ref in edits.created:
                return cls
        return self._below.owner(ref)

    def create(self, row: Row) -> None:
        """Adds a row.

        Raises:
            TypeError: the row has no reference.
            Duplicate: the reference is or was that of another object, or the uuid is that of another row.
        """
        cls, shape = type(row), SHAPES[type(row)]
        if is_null(row.ref):
            raise TypeError(f"a new {shape.name} needs a reference")
        edits = self._edits_of(cls)
        if self.owner(row.ref) is not None:
            raise Duplicate(f"{shape.name} {row.ref} exists already")
        uuid = uuid_of(row)
        if uuid and self.by_uuid(cls, uuid) is not None:
            raise Duplicate(f"{shape.name} with uuid {uuid} exists already")
        stored = without_computed(row)
        edits.created[row.ref] = stored
        for attribute in shape.indexed:
            edits.enlist(attribute, getattr(stored, attribute), row.ref)
        if uuid:
            edits.uuids[uuid] = row.ref
        for end in shape.one_ends:
            self._touch_set(end, getattr(stored, end.attribute))
        self._own_stamp += 1

    def update(self, cls: type[R], ref: str, fields: Mapping[str, object]) -> None:
        """Writes fields of a row; equal values are no change.

        Raises:
            TypeError: a field is not a stored one.
            Failure: HANDLE_INVALID if there is no such row.
            Duplicate: the new uuid is that of another row.
        """
        shape = SHAPES[cls]
        if not shape.stored.issuperset(fields):
            raise TypeError(f"{shape.name} has no stored fields {sorted(fields.keys() - shape.stored)}")
        old = self.stored(cls, ref)
        if old is None:
            raise handle_invalid(shape.name, ref)
        changed = {name: value for name, value in fields.items() if getattr(old, name) != value}
        if not changed:
            return
        edits = self._edits_of(cls)
        self._update_uuid(edits, old, changed)
        for name in shape.indexed:
            if name in changed:
                edits.unlist(name, getattr(old, name), ref)
                edits.enlist(name, changed[name], ref)
        if ref in edits.created:
            edits.created[ref] = with_values(edits.created[ref], changed)
        else:
            self._note_fields(edits, cls, ref, changed)
        edits.whole.pop(ref, None)
        for end in shape.one_ends:
            if end.attribute in changed:
                self._touch_set(end, getattr(old, end.attribute))
                self._touch_set(end, changed[end.attribute])
        self._own_stamp += 1

    def destroy(self, cls: type[Row], ref: str) -> None:
        """Takes a row out.

        Raises:
            Failure: HANDLE_INVALID if there is no such row.
        """
        shape, old = SHAPES[cls], self.stored(cls, ref)
        if old is None:
            raise handle_invalid(shape.name, ref)
        edits = self._edits_of(cls)
        for attribute in shape.indexed:
            edits.unlist(attribute, getattr(old, attribute), ref)
        edits.uuids.pop(uuid_of(old), None)
        if edits.created.pop(ref, None) is None:
            edits.destroyed[ref] = None
        for notes in (edits.updated, edits.seen, edits.composed, edits.whole):
            notes.pop(ref, None)
        self._touches.pop((cls, ref), None)
        for end in shape.one_ends:
            self._touch_set(end, getattr(old, end.attribute))
        self._own_stamp += 1

    def touch(self, cls: type[Row], ref: str) -> None:
        """Makes a row count as modified (event.inject).

        Raises:
            Failure: HANDLE_INVALID if there is no such row.
        """
        if self.stored(cls, ref) is None:
            raise handle_invalid(SHAPES[cls].name, ref)
        self._touches[cls, ref] = None

    def replay(self, changes: Changes) -> None:
        """Writes what a transaction over this very layer wrote; see `create`, `update`, `destroy`, `touch`."""
        for row in changes.created:
            self.create(row)
        for (cls, ref), fields in changes.updated.items():
            self.update(cls, ref, fields)
        for cls, ref in changes.destroyed:
            self.destroy(cls, ref)
        for cls, ref in changes.touched:
            self.touch(cls, ref)

    def changes(self) -> Changes:
        """Gives what was written so far, in the order of creation."""
        edits = self._edits.items()
        return Changes(
            created=tuple(row for _, each in edits for row in each.created.values()),
            updated={(cls, ref): dict(new) for cls, each in edits for ref, new in each.updated.items()},
            seen={(cls, ref): dict(old) for cls, each in edits for ref, old in each.seen.items()},
            destroyed=tuple((cls, ref) for cls, each in edits for ref in each.destroyed),
            touched=tuple(self._touches),
        )

    def _whole(self, edits: _Edits, stored: R) -> R:
        """Fills in the computed sets of a row: those of the layer below, but for the few that were touched."""
        cls, ref = type(stored), stored.ref
        below = None if ref in edits.created else self._below.row(cls, ref)
        if below is None:
            return filled(self, stored)
        computed = SHAPES[cls].computed
        fields = dict(edits.updated.get(ref, _NO_FIELDS))
        for name in edits.touched.get(ref, ()):
            each = computed[name]
            fields[name] = self._over(getattr(below, name), each.other, each.other_attribute, ref)
        return with_values(below, fields)

    def _update_uuid(self, edits: _Edits, old: Row, changed: Mapping[str, object]) -> None:
        """Moves a row in the uuid index, if its uuid changes."""
        if "uuid" not in changed:
            return
        uuid = str(changed["uuid"])
        if uuid and self.by_uuid(type(old), uuid) is not None:
            raise Duplicate(f"{old.wire_name} with uuid {uuid} exists already")
        edits.uuids.pop(uuid_of(old), None)
        if uuid:
            edits.uuids[uuid] = old.ref

    def _note_fields(self, edits: _Edits, cls: type[Row], ref: str, changed: Mapping[str, object]) -> None:
        """Keeps the new values of a row of the layer below, and what stood there at first."""
        below = self._below.stored(cls, ref)
        updated, seen = edits.updated.setdefault(ref, {}), edits.seen.setdefault(ref, {})
        for name, value in changed.items():
            seen.setdefault(name, getattr(below, name))
            updated[name] = value
        edits.composed.pop(ref, None)

    def _edits_of(self, cls: type[Row]) -> _Edits:
        """What is changed of a class. Not by `setdefault`, which would make nine containers at every call."""
        edits = self._edits.get(cls)
        if edits is None:
            edits = self._edits[cls] = _Edits()
        return edits

    def _touch_set(self, end: OneEnd, ref: object) -> None:
        """Notes that the computed set at the other end of a relation is no longer that of the layer below."""
        if isinstance(ref, str) and not is_null(ref):
            edits = self._edits_of(end.other)
            edits.touched.setdefault(ref, set()).add(end.members)
            edits.whole.pop(ref, None)

    def _follow_below(self) -> None:
        """Forgets what no longer holds, if the layer below changed since the last look."""
        stamp = self._below.stamp
        if stamp == self._below_stamp:
            return
        self._below_stamp = stamp
        for edits in self._edits.values():
            edits.whole.clear()
        for cls, edits in tuple(self._edits.items()):
            for ref in (*edits.updated, *edits.destroyed):
                self._touch_ends_below(cls, ref, edits.updated.get(ref))

    def _touch_ends_below(self, cls: type[Row], ref: str, updated: Mapping[str, object] | None) -> None:
        """Notes the objects whose sets lack a row that the layer below, in its present state, has in them."""
        below = self._below.stored(cls, ref)
        for end in SHAPES[cls].one_ends:
            if below is not None and (updated is None or end.attribute in updated):
                self._touch_set(end, getattr(below, end.attribute))


_NO_FIELDS: Mapping[str, object] = {}
_NO_VALUES: Mapping[object, dict[Any, None]] = {}
