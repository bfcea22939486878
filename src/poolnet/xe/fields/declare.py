"""How is a field of the command line declared, and what follows from the model? The tables and generic commands ask.

A table says only what the API does not: the name on the command line, where it differs, which columns a list shows,
how a reference is shown, and what `xe` refuses although the API would do it. Types, setters, `add_` and `remove_`
messages are looked up in the model.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from poolnet.model.declare import ClassDecl
from poolnet.model.registry import CLASSES
from poolnet.model.types import EnumT, MapT, RefT, SetT, WireType
from poolnet.xe.caller import Record
from poolnet.xe.records import Reader
from poolnet.xe.texts import NOT_IN_DATABASE, Texts

Compute: TypeAlias = Callable[[Reader, str, Record], Awaitable[Texts]]
"""Works out a field that no field of the API holds, from the object's reference and record."""


class Shape(enum.StrEnum):
    """As what a field can be read: a text, a set of items, or a map (the letter of its qualifier)."""

    PLAIN = ""
    SET = "S"
    MAP = "M"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One line of a table, as a person writes it; see `column` and `computed` for the words."""

    name: str
    source: str
    through: str = ""
    missing: str = NOT_IN_DATABASE
    by_name: bool = False
    plain: bool = False
    comma: bool = False
    fixed: bool = False
    whole: bool = False
    hidden: bool = False
    deprecated: bool = False
    expensive: bool = False
    unasked: bool = False
    any_case: bool = False
    old: bool = False
    size: bool = False
    trimmed: bool = False
    strict: bool = False
    setter: str = ""
    adder: str = ""
    remover: str = ""
    key_setter: str = ""
    map_setter: str = ""
    clearer: str = ""
    compute: Compute | None = None
    shape: Shape | None = None


def column(name: str, source: str = "", **facts: object) -> Column:
    """Declare a field that shows a field of the API.

    Args:
        name: the name on the command line.
        source: the API's field, unless it is the name with underscores for hyphens.
        **facts: through= the reference to another object (its metrics) that has the field, and missing= the text if
            there is none; by_name: a reference is shown by name-label instead of uuid; plain: cannot be read as a set
            or map; comma: items are joined by ", "; fixed: never written; whole: a set that is set as a whole;
            hidden, deprecated, any_case (filters ignore case); old: conversion errors in the older words; size: takes
            KiB and the like; trimmed: a list whose items are trimmed; strict: an empty text is no null reference;
            setter, adder, remover, key_setter (one call per key), map_setter (one call for all keys), clearer:
            messages that do not follow from the field's name.
    """
    return Column(name=name, source=source or name.replace("-", "_"), **facts)  # type: ignore[arg-type]


def computed(name: str, compute: Compute, source: str = "", **facts: object) -> Column:
    """Declare a field that is worked out.

    shape= says what it can be read as, expensive that lists leave it out, unasked that lists show it where there is
    something to show, though nobody has asked for it by `params=`.
    """
    return Column(name=name, source=source, compute=compute, **facts)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """A column with what the model says of it. Messages are full names; "" means that there is none."""

    column: Column
    api: str
    shape: Shape
    wire_type: WireType | None
    through: tuple[str, str] | None
    setter: str
    setter_type: WireType | None
    adder: str
    remover: str
    key_setter: str
    map_setter: str
    clearer: str

    @property
    def name(self) -> str:
        """The name on the command line."""
        return self.column.name

    @property
    def separator(self) -> str:
        """What stands between the items."""
        return ", " if self.column.comma else "; "

    @property
    def key_writable(self) -> bool:
        """Whether param-set can write single keys."""
        return bool(self.key_setter or self.map_setter or (self.shape is Shape.MAP and self.adder))

    @property
    def label(self) -> str:
        """The name with its qualifier, as records show it (spec xe-cli §5.1)."""
        if self.shape is Shape.PLAIN:
            qualifier = " RW" if self.setter else " RO"
        else:
            qualifier = f"{self.shape.value}RW" if self.adder else f"{self.shape.value}RO"
        return f"{self.name} ({qualifier})" + (" [DEPRECATED]" if self.column.deprecated else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """One class of the command line: its fields in record order, what a list shows, and its default filters."""

    name: str
    api: str
    shown: tuple[str, ...]
    fields: tuple[Field, ...]
    filters: tuple[tuple[str, str], ...] = ()
    expression: str = "true"
    by_name: Mapping[str, Field] = field(repr=False)

    @property
    def visible(self) -> tuple[Field, ...]:
        """The fields that lists, param-list and help show."""
        return tuple(each for each in self.fields if not each.column.hidden)


def table(
    name: str,
    api: str,
    *,
    columns: Iterable[Column],
    shown: str = "",
    filters: tuple[tuple[str, str], ...] = (),
    expression: str = "true",
) -> Table:
    """Declare a class of the command line; `shown` are the columns of a list, all if none are named."""
    fields = tuple(_field(CLASSES[api], each) for each in columns)
    names = tuple(shown.split()) or tuple(each.name for each in fields if not each.column.hidden)
    by_name = {each.name: each for each in fields}
    return Table(
        name=name,
        api=api,
        shown=names,
        fields=fields,
        filters=filters,
        expression=expression,
        by_name=by_name,
    )


_MAP_OF_STATES: Final = "current_operations"


def _field(decl: ClassDecl, column: Column) -> Field:
    """Complete a column with what the model says."""
    through = None
    source_class = decl
    if column.through:
        reference = decl.field(column.through).wire_type
        source_class = CLASSES[reference.cls] if isinstance(reference, RefT) else decl
        through = (column.through, source_class.name)
    wire_type = source_class.field(column.source).wire_type if column.source and not column.compute else None
    shape = column.shape if column.shape is not None else _shape(column, wire_type)
    writable = not column.fixed and not column.through and bool(column.source)
    settable = bool(column.setter) or (writable and _set_whole(column, shape))
    setter = _message(decl, column.setter or f"set_{column.source}", wanted=settable)
    adding = "add_to" if shape is Shape.MAP else "add"
    removing = "remove_from" if shape is Shape.MAP else "remove"
    addable = writable and shape is not Shape.PLAIN
    return Field(
        column=column,
        api=decl.name,
        shape=shape,
        wire_type=wire_type,
        through=through,
        setter=setter,
        setter_type=decl.messages[setter.partition(".")[2]].params[1].wire_type if setter else None,
        adder=_message(decl, column.adder or f"{adding}_{column.source}", wanted=addable),
        remover=_message(decl, column.remover or f"{removing}_{column.source}", wanted=addable),
        key_setter=_message(decl, column.key_setter, wanted=bool(column.key_setter)),
        map_setter=_message(decl, column.map_setter, wanted=bool(column.map_setter)),
        clearer=_message(decl, column.clearer, wanted=bool(column.clearer)),
    )


def _shape(column: Column, wire_type: WireType | None) -> Shape:
    """Say as what a field can be read, from its type."""
    if column.plain:
        return Shape.PLAIN
    match wire_type:
        case SetT():
            return Shape.SET
        case MapT(_, EnumT()) if column.source == _MAP_OF_STATES:
            return Shape.SET
        case MapT(_, RefT()):
            return Shape.PLAIN
        case MapT():
            return Shape.MAP
        case _:
            return Shape.PLAIN


def _set_whole(column: Column, shape: Shape) -> bool:
    """Say whether param-set gives the field a value as a whole."""
    return column.whole or (shape is Shape.PLAIN and not column.plain)


def _message(decl: ClassDecl, name: str, *, wanted: bool) -> str:
    """Give the full name of a message, or "" if it is not wanted or does not exist."""
    return f"{decl.name}.{name}" if wanted and name in decl.messages else ""
