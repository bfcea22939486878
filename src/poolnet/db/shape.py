"""What must a table know of its class? Derived once from the model's declarations; tables and overlays ask."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from poolnet.model.declare import ClassDecl, FieldDecl
from poolnet.model.registry import CLASSES, RELATIONS, WRITTEN_SETS
from poolnet.model.types import RefT, Row

R = TypeVar("R", bound=Row)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneEnd:
    """A reference that a relation follows: `attribute` of this class refers to a row of `other`.

    The other row has this one in its computed set `members`.
    """

    attribute: str
    other: type[Row]
    members: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComputedSet:
    """A set that a relation makes: all rows of `other` whose `other_attribute` is this row."""

    other: type[Row]
    other_attribute: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shape:
    """One class, as its table sees it. All names are Python attributes."""

    decl: ClassDecl
    row_type: type[Row]
    name: str
    attributes: tuple[str, ...]
    """Every attribute of a row, the reference first."""
    values: Callable[[Row], tuple[Any, ...]]
    """The values of `attributes`."""
    setters: Mapping[str, Callable[[Row, object], None]]
    """What sets an attribute of a row that nobody has seen yet, in the order of `attributes`."""
    stored: frozenset[str]
    """The attributes that are written: all but the reference and the computed sets."""
    indexed: tuple[str, ...]
    """The attributes with an index: stored references, name_label, and what the model says."""
    has_uuid: bool
    one_ends: tuple[OneEnd, ...]
    computed: Mapping[str, ComputedSet]
    """By attribute."""
    durable: tuple[FieldDecl, ...]
    """The fields that an engine keeps; none for a class whose rows live in memory only."""
    durable_attributes: frozenset[str]


def _shape(decl: ClassDecl) -> Shape:
    """Reads one class's declaration."""
    attributes = ("ref", *(each.attribute for each in decl.all_fields))
    stored = tuple(
        each for each in decl.all_fields if not each.computed or (decl.name, each.name) in WRITTEN_SETS
    )
    names = frozenset(each.attribute for each in stored)
    durable = tuple(each for each in stored if each.persisted) if decl.persisted or decl.kept else ()
    return Shape(
        decl=decl,
        row_type=decl.python_type,
        name=decl.name,
        attributes=attributes,
        values=operator.attrgetter(*attributes),
        setters={name: getattr(decl.python_type, name).__set__ for name in attributes},
        stored=names,
        indexed=tuple(
            each.attribute
            for each in stored
            if isinstance(each.wire_type, RefT) or each.attribute == "name_label" or each.indexed
        ),
        has_uuid="uuid" in names,
        one_ends=tuple(
            OneEnd(
                attribute=decl.field(relation.one_field).attribute,
                other=CLASSES[relation.many_class].python_type,
                members=CLASSES[relation.many_class].field(relation.many_field).attribute,
            )
            for relation in RELATIONS
            if relation.one_class == decl.name
        ),
        computed={
            decl.field(relation.many_field).attribute: ComputedSet(
                other=CLASSES[relation.one_class].python_type,
                other_attribute=CLASSES[relation.one_class].field(relation.one_field).attribute,
            )
            for relation in RELATIONS
            if relation.many_class == decl.name
        },
        durable=durable,
        durable_attributes=frozenset(each.attribute for each in durable),
    )


SHAPES: Final[Mapping[type[Row], Shape]] = {
    decl.python_type: _shape(decl) for decl in CLASSES.values() if decl.has_table
}
"""Every class that has a table, in the model's order."""

BY_NAME: Final[Mapping[str, Shape]] = {shape.name: shape for shape in SHAPES.values()}


def with_values(row: R, fields: Mapping[str, object]) -> R:
    """Gives the row with some attributes replaced (`dataclasses.replace`, at a fifth of the price)."""
    shape, copy = SHAPES[type(row)], object.__new__(type(row))
    for set_value, value in zip(shape.setters.values(), shape.values(row), strict=True):
        set_value(copy, value)
    for name, value in fields.items():
        shape.setters[name](copy, value)
    return copy


def without_computed(row: R) -> R:
    """Gives the row as it is stored: its computed sets empty."""
    filled = {name: () for name in SHAPES[type(row)].computed if getattr(row, name)}
    return with_values(row, filled) if filled else row


def uuid_of(row: Row) -> str:
    """Gives a row's uuid, or the empty text if its class has none."""
    uuid: str = getattr(row, "uuid", "")
    return uuid
