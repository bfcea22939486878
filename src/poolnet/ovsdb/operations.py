"""The operations of an OVSDB transaction, as Python calls (RFC 7047 §5.2).

Each function returns one operation for `Connection.transact`; values are those of `values`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from poolnet.ovsdb.values import Atom, Json, NewRow, RowId, Value, encode

Operation: TypeAlias = "dict[str, Json]"
Clause: TypeAlias = "tuple[str, str, Value]"


def insert(table: str, row: Mapping[str, Value], name: NewRow) -> Operation:
    """A new row; other operations of the same transaction may refer to it as `name`."""
    return {"op": "insert", "table": table, "row": _row(row), "uuid-name": str(name)}


def insert_as(table: str, row: Mapping[str, Value], row_id: RowId | None = None) -> Operation:
    """A new row whose uuid we choose, or else the server (an extension of Open vSwitch to RFC 7047)."""
    operation: Operation = {"op": "insert", "table": table, "row": _row(row)}
    return operation if row_id is None else {**operation, "uuid": str(row_id)}


def update(table: str, row_id: RowId, row: Mapping[str, Value]) -> Operation:
    """New values for some columns of one row."""
    return {"op": "update", "table": table, "where": where_row(row_id), "row": _row(row)}


def delete(table: str, row_id: RowId) -> Operation:
    """Remove one row (of a table whose rows are not removed by themselves when nothing refers to them)."""
    return {"op": "delete", "table": table, "where": where_row(row_id)}


def add_to_set(table: str, row_id: RowId, column: str, items: Iterable[Atom]) -> Operation:
    """Put members into a set column."""
    return mutate(table, row_id, [(column, "insert", tuple(items))])


def remove_from_set(table: str, row_id: RowId, column: str, items: Iterable[Atom]) -> Operation:
    """Take members out of a set column."""
    return mutate(table, row_id, [(column, "delete", tuple(items))])


def mutate(table: str, row_id: RowId, mutations: Sequence[Clause]) -> Operation:
    """Change columns of one row by (column, mutator, value)."""
    wire: list[Json] = [[column, mutator, encode(value)] for column, mutator, value in mutations]
    return {"op": "mutate", "table": table, "where": where_row(row_id), "mutations": wire}


def delete_where(table: str, *clauses: Clause) -> Operation:
    """Remove the rows that meet all clauses (column, function, value)."""
    return {
        "op": "delete",
        "table": table,
        "where": [[column, function, encode(value)] for column, function, value in clauses],
    }


def select_all(table: str) -> Operation:
    """Read a whole table."""
    return {"op": "select", "table": table, "where": []}


def hold(lock: str) -> Operation:
    """Let the transaction fail unless this connection holds the lock."""
    return {"op": "assert", "lock": lock}


def select(table: str, row_id: RowId, columns: Sequence[str]) -> Operation:
    """Read some columns of one row."""
    return {"op": "select", "table": table, "where": where_row(row_id), "columns": list(columns)}


def require(table: str, row_id: RowId, row: Mapping[str, Value]) -> Operation:
    """Let the transaction fail at once unless the row still has these values."""
    return {
        "op": "wait",
        "table": table,
        "timeout": 0,
        "where": where_row(row_id),
        "columns": list(row),
        "until": "==",
        "rows": [_row(row)],
    }


def comment(text: str) -> Operation:
    """A remark in the server's log."""
    return {"op": "comment", "comment": text}


def where_row(row_id: RowId) -> Json:
    """The condition that matches one row."""
    return [["_uuid", "==", ["uuid", str(row_id)]]]


def _row(row: Mapping[str, Value]) -> Json:
    return {column: encode(value) for column, value in row.items()}
