"""What is in the monitored tables of an OVSDB database right now?

A copy in memory that `Connection.monitor` keeps up to date. A row is replaced, never changed in place, so that whoever
kept an older one can tell by identity whether it changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from poolnet.ovsdb.values import Atom, Json, MalformedError, RowId, Value, decode

Row: TypeAlias = "Mapping[str, Value]"
_Map: TypeAlias = "Mapping[Atom, Atom] | Mapping[str, Atom]"


class Replica:
    """The monitored tables: rows by table name and row id."""

    def __init__(self, schema: Json) -> None:
        """`schema` is the server's answer to `get_schema`; it says which columns hold at most one value."""
        self._single = _single_columns(schema)
        self._tables: dict[str, dict[RowId, Row]] = {}

    def rows(self, table: str) -> Mapping[RowId, Row]:
        """All rows of a table."""
        return self._tables.get(table, {})

    def row(self, table: str, row_id: RowId) -> Row | None:
        """One row, or None."""
        return self._tables.get(table, {}).get(row_id)

    def clear(self) -> None:
        """Forget everything, before a dump from a new connection."""
        self._tables.clear()

    def apply(self, updates: Json) -> dict[str, set[RowId]]:
        """Takes a `<table-updates2>` and returns which rows of which tables it touched.

        Raises MalformedError when it is malformed or does not fit what is here.
        """
        touched: dict[str, set[RowId]] = {}
        for table, rows in _object(updates).items():
            target = self._tables.setdefault(table, {})
            ids = touched.setdefault(table, set())
            for row_id, change in _object(rows).items():
                self._apply_row(table, target, RowId(row_id), _object(change))
                ids.add(RowId(row_id))
        return touched

    def _apply_row(
        self, table: str, target: dict[RowId, Row], row_id: RowId, change: Mapping[str, Json]
    ) -> None:
        for kind, content in change.items():
            if kind in ("initial", "insert"):
                target[row_id] = {column: decode(value) for column, value in _object(content).items()}
            elif kind == "modify":
                old = target.get(row_id)
                if old is None:
                    raise MalformedError(f"{table} {row_id} is changed but not here")
                target[row_id] = {**old, **dict(self._modified(table, old, _object(content)))}
            elif kind == "delete":
                target.pop(row_id, None)
            else:
                raise MalformedError(f"unknown kind of change {kind!r}")

    def _modified(self, table: str, old: Row, change: Mapping[str, Json]) -> Iterator[tuple[str, Value]]:
        for column, wire in change.items():
            value = decode(wire)
            if (table, column) in self._single:
                yield column, value
            elif isinstance(value, Mapping):
                before = old.get(column)
                yield column, _changed_map(before if isinstance(before, Mapping) else {}, value)
            else:
                yield column, _toggled(_members(old.get(column, ())), _members(value))


def _changed_map(old: _Map, change: _Map) -> Value:
    """A pair that is there already goes; any other pair is set."""
    merged: dict[Atom, Atom] = dict(old.items())
    for key, value in change.items():
        if key in merged and merged[key] == value:
            del merged[key]
        else:
            merged[key] = value
    return merged


def _toggled(old: tuple[Atom, ...], change: tuple[Atom, ...]) -> Value:
    """Members that are there go, the others come."""
    leaving = set(change) & set(old)
    merged = [item for item in old if item not in leaving]
    merged += [item for item in change if item not in leaving]
    return tuple(merged)


def _members(value: Value) -> tuple[Atom, ...]:
    return value if isinstance(value, tuple) else () if isinstance(value, Mapping) else (value,)


def _single_columns(schema: Json) -> frozenset[tuple[str, str]]:
    """The columns that hold at most one value: their changes are sent as the new value, not as a difference."""
    single: set[tuple[str, str]] = set()
    for table, declaration in _object(_object(schema).get("tables", {})).items():
        for column, declared in _object(_object(declaration).get("columns", {})).items():
            kind = _object(declared).get("type")
            if not isinstance(kind, dict) or (kind.get("max", 1) == 1 and "value" not in kind):
                single.add((table, column))
    return frozenset(single)


def _object(wire: Json) -> Mapping[str, Json]:
    if not isinstance(wire, dict):
        raise MalformedError(f"expected a JSON object, got {type(wire).__name__}")
    return wire
