"""May these changes be applied to the present state, and what do they change then? The database asks before a commit.

Pure: it reads a layer and says what would become of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from poolnet.db.body import encode_body
from poolnet.db.changes import Changes, Key, merged
from poolnet.db.errors import Conflict
from poolnet.db.layer import Layer
from poolnet.db.overlay import Overlay
from poolnet.db.shape import SHAPES
from poolnet.model.types import Row, is_null


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """A stored row after a commit and before it, and the attributes that changed."""

    row: Row
    before: Row
    attributes: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedCommit:
    """A commit that fits: the rows it makes, changes and destroys, and those that count as modified besides.

    `bodies` are the created and updated rows as they are to be stored, as far as that outlives a restart;
    `durably_touched` are those of `touched` whose computed sets changed in a way that outlives a restart.
    """

    number: int
    created: tuple[Row, ...]
    updated: tuple[Updated, ...]
    destroyed: tuple[Key, ...]
    touched: tuple[Key, ...]
    durably_touched: tuple[Key, ...]
    bodies: Mapping[str, bytes]

    @property
    def modified(self) -> Sequence[Key]:
        """Every object that existed before and counts as modified."""
        return (*((type(each.row), each.row.ref) for each in self.updated), *self.touched)

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.created or self.updated or self.destroyed or self.touched)


def stage(layer: Layer, changes: Changes, number: int) -> tuple[StagedCommit, Changes]:
    """Merges changes over a layer, field by field, and checks the outcome; the layer stays as it is.

    Returns:
        The commit, and the changes as they are for this layer.

    Raises:
        Conflict: an object that was changed or destroyed is gone; a reference or uuid is taken (Duplicate); or a
            reference newly written to a relation's one end is neither null nor that of an object (spec §2.3: others
            may dangle).
        BadRow: a value is not of its field's type.
    """
    overlay = Overlay(layer)
    for row in changes.created:
        overlay.create(row)
    for key, fields in changes.updated.items():
        _write(overlay, key, fields, changes.seen.get(key, {}))
    for cls, ref in changes.destroyed:
        _require(overlay, (cls, ref))
        overlay.destroy(cls, ref)
    for cls, ref in changes.touched:
        _require(overlay, (cls, ref))
        overlay.touch(cls, ref)
    outcome = overlay.changes()
    updated = tuple(_updated(layer, overlay, outcome))
    for row in outcome.created:
        _check_references(overlay, row, SHAPES[type(row)].stored)
    for each in updated:
        _check_references(overlay, each.row, each.attributes)
    ends = _other_ends(layer, outcome, updated)
    ends.update((key, ends.get(key, False)) for key in outcome.touched)
    written = {row.ref for row in outcome.created} | {each.row.ref for each in updated}
    touched = tuple(key for key in ends if key[1] not in written and overlay.stored(*key) is not None)
    staged = StagedCommit(
        number=number,
        created=outcome.created,
        updated=updated,
        destroyed=outcome.destroyed,
        touched=touched,
        durably_touched=tuple(key for key in touched if ends[key]),
        bodies=_bodies(outcome.created, updated),
    )
    return staged, outcome


def _bodies(created: Sequence[Row], updated: Sequence[Updated]) -> dict[str, bytes]:
    """Encodes the rows whose durable fields are new."""
    rows = [row for row in created if SHAPES[type(row)].durable]
    rows += [
        each.row
        for each in updated
        if not each.attributes.isdisjoint(SHAPES[type(each.row)].durable_attributes)
    ]
    return {row.ref: encode_body(row) for row in rows}


def _write(overlay: Overlay, key: Key, fields: Mapping[str, object], seen: Mapping[str, object]) -> None:
    """Writes the merged fields of one object."""
    cls, ref = key
    row = _require(overlay, key)
    values = {name: merged(seen.get(name), new, getattr(row, name)) for name, new in fields.items()}
    overlay.update(cls, ref, values)


def _require(layer: Layer, key: Key) -> Row:
    """Gives the row of an object that must exist."""
    cls, ref = key
    row = layer.stored(cls, ref)
    if row is None:
        raise Conflict(f"{SHAPES[cls].name} {ref} is gone")
    return row


def _updated(layer: Layer, overlay: Overlay, outcome: Changes) -> Iterator[Updated]:
    """Compares the written rows with what they were; those that came out equal are no change."""
    for cls, ref in outcome.updated:
        before, row = _require(layer, (cls, ref)), _require(overlay, (cls, ref))
        names = frozenset(name for name in SHAPES[cls].stored if getattr(row, name) != getattr(before, name))
        if names:
            yield Updated(row=row, before=before, attributes=names)


def _check_references(overlay: Overlay, row: Row, written: frozenset[str]) -> None:
    """Checks the one ends of relations among the attributes written."""
    for end in SHAPES[type(row)].one_ends:
        target = getattr(row, end.attribute)
        if end.attribute in written and not is_null(target) and overlay.stored(end.other, target) is None:
            name = SHAPES[type(row)].name
            raise Conflict(
                f"{name} {row.ref}: {end.attribute} is {target}, which is no {SHAPES[end.other].name}"
            )


def _other_ends(layer: Layer, outcome: Changes, updated: Sequence[Updated]) -> dict[Key, bool]:
    """Finds the objects whose computed sets change (spec §2.3), and whether the change outlives a restart."""
    found: dict[Key, bool] = {}
    moved = [(row, SHAPES[type(row)].stored) for row in outcome.created]
    moved += [(_require(layer, key), SHAPES[key[0]].stored) for key in outcome.destroyed]
    moved += [(row, each.attributes) for each in updated for row in (each.before, each.row)]
    for row, attributes in moved:
        shape = SHAPES[type(row)]
        for end in shape.one_ends:
            target = getattr(row, end.attribute)
            if end.attribute in attributes and not is_null(target):
                durable = end.attribute in shape.durable_attributes
                found[end.other, target] = found.get((end.other, target), False) or durable
    return found
