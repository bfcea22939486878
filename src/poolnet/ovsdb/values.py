"""How is an OVSDB value written in JSON, and in Python? (RFC 7047 §5.1).

Sets are tuples, maps are dicts, row identities are `RowId`; a column that holds at most one value is read with
`one_of`, whatever way the server chose to write it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias, TypeVar

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


class MalformedError(ValueError):
    """The server sent something that RFC 7047 does not allow."""


class RowId(str):
    """The uuid of a row."""

    __slots__ = ()


class NewRow(str):
    """The name that a row has inside the transaction that inserts it (`named-uuid`)."""

    __slots__ = ()


Atom: TypeAlias = "bool | int | float | str | RowId | NewRow"
Value: TypeAlias = "Atom | tuple[Atom, ...] | Mapping[Atom, Atom] | Mapping[str, Atom]"

T = TypeVar("T")


def decode(wire: Json) -> Value:
    """The Python value of a `<value>`; raises MalformedError for anything else."""
    if isinstance(wire, list) and len(wire) == 2:
        kind, content = wire
        if kind == "uuid" and isinstance(content, str):
            return RowId(content)
        if kind == "set" and isinstance(content, list):
            return tuple(_decode_atom(item) for item in content)
        if kind == "map" and isinstance(content, list):
            return dict(_decode_pair(item) for item in content)
    return _decode_atom(wire)


def encode(value: Value | Iterable[Atom]) -> Json:
    """The `<value>` of a Python value."""
    if isinstance(value, RowId):
        return ["uuid", str(value)]
    if isinstance(value, NewRow):
        return ["named-uuid", str(value)]
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return ["map", [[encode(key), encode(item)] for key, item in value.items()]]
    return ["set", [encode(item) for item in value]]


def one_of(value: Value | None, kind: type[T], default: T) -> T:
    """The only value of a column that holds at most one, or `default` when it is empty or of another type."""
    if isinstance(value, tuple):
        value = value[0] if len(value) == 1 else None
    return value if isinstance(value, kind) else default


def all_of(value: Value | None, kind: type[T]) -> tuple[T, ...]:
    """The values of a set column, also when the server wrote its only member bare."""
    items = (
        value if isinstance(value, tuple) else () if value is None or isinstance(value, Mapping) else (value,)
    )
    return tuple(item for item in items if isinstance(item, kind))


def map_of(value: Value | None) -> dict[str, str]:
    """A column of text to text."""
    return {str(key): str(item) for key, item in value.items()} if isinstance(value, Mapping) else {}


def _decode_atom(wire: Json) -> Atom:
    if isinstance(wire, bool | int | float | str):
        return wire
    if isinstance(wire, list) and len(wire) == 2 and wire[0] == "uuid" and isinstance(wire[1], str):
        return RowId(wire[1])
    raise MalformedError(f"not an OVSDB value: {wire!r}")


def _decode_pair(wire: Json) -> tuple[Atom, Atom]:
    if isinstance(wire, list) and len(wire) == 2:
        return _decode_atom(wire[0]), _decode_atom(wire[1])
    raise MalformedError(f"not a pair of an OVSDB map: {wire!r}")
