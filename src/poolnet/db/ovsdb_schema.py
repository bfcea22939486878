"""How are the pool database's rows kept in an OVSDB server? The schema, made from the model, and rows to columns and back.

Pure. Each class that is kept has a table of its own name with a column for each field, and columns `row_…` for what the
engine knows of the row. A column of one value is empty where nothing was stored: the field has the model's default then. OVSDB
sorts its sets, so sets are maps from position to member. Tables `db_…` are the engine's own.
"""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from poolnet.db.engine import StoredRow
from poolnet.db.errors import DatabaseDamaged, SchemaTooNew
from poolnet.db.shape import BY_NAME, SHAPES, Shape
from poolnet.model.declare import FieldDecl
from poolnet.model.types import NULL, BoolT, FloatT, Int32T, IntT, MapT, OptionT, SetT, WireType
from poolnet.ovsdb.values import Atom, Json, RowId, Value

DATABASE: Final = "poolnet"
STATE: Final = "db_state"
TERM: Final = "db_term"
DELETION: Final = "db_deletion"
NOTE: Final = "db_note"
LOG_HEAD: Final = "db_log_head"
LEASE: Final = "db_lease"

STATE_ROW: Final = RowId("706f6f6c-6e65-4000-8000-000000000001")
"""The only row of `db_state`: whose turn it is, and how far the commits are."""

INTEGER_MAX: Final = 2**63 - 1
_PREFIX: Final = "OpaqueRef:"
_OWN: Final[Mapping[str, Mapping[str, str]]] = {
    STATE: {
        "ready": "boolean",
        "line": "string",
        "term": "integer",
        "holder": "string",
        "address": "string",
        "next": "string",
        "number": "integer",
        "ceiling": "integer",
    },
    TERM: {"term": "integer", "holder": "string", "number": "integer"},
    DELETION: {
        "class": "string",
        "ref": "string",
        "created": "integer",
        "number": "integer",
        "position": "integer",
    },
    NOTE: {"number": "integer", "body": "string"},
    LOG_HEAD: {"host": "string", "records": "integer", "hash": "string", "noted": "integer"},
    LEASE: {
        "host": "string",
        "generation": "string",
        "seconds": "integer",
        "state": "string",
        "beat": "string",
    },
}
_OF_A_ROW: Final[Mapping[str, Json]] = {
    "row_ref": {"type": "string"},
    "row_created": {"type": "integer"},
    "row_modified": {"type": "integer"},
    "row_position": {"type": "integer"},
    "row_empty": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
}
_KEPT: Final = tuple(shape for shape in SHAPES.values() if shape.durable)


def schema() -> dict[str, Json]:
    """The schema that this version of poolnet keeps its database in."""
    tables: dict[str, Json] = {}
    for shape in _KEPT:
        columns: dict[str, Json] = {each.name: {"type": _column(each.wire_type)} for each in shape.durable}
        tables[shape.name] = {"isRoot": True, "columns": {**_OF_A_ROW, **columns}, "indexes": [["row_ref"]]}
    for name, own in _OWN.items():
        tables[name] = {"isRoot": True, "columns": {column: {"type": kind} for column, kind in own.items()}}
    return _finished(tables)


def merged_schema(found: Mapping[str, Any]) -> dict[str, Json] | None:
    """The schema that a server needs so that this version can use it; None if the one that it has will do.

    What another version added stays. Classes and fields of the model that come and go need nothing else.

    Raises:
        SchemaTooNew: a column is of another type than here.
    """
    theirs: Mapping[str, Any] = found.get("tables", {})
    # Servers leave `isRoot` out when all tables have it. Beside one that says it, the rows of all others would be garbage.
    tables: dict[str, Any] = {name: {**table, "isRoot": True} for name, table in theirs.items()}
    lacking = False
    for name, table in _tables(schema()).items():
        if name not in tables:
            tables[name] = table
            lacking = True
            continue
        columns = dict(tables[name]["columns"])
        for column, declared in table["columns"].items():
            if column not in columns:
                lacking = True
            elif _normal(columns[column]["type"]) != _normal(declared["type"]):
                raise SchemaTooNew(f"the column {column} of the table {name} is of another type")
            columns[column] = declared
        tables[name] = {**tables[name], "columns": columns}
    return _finished(tables) if lacking else None


@functools.cache
def defaults(table: str) -> Mapping[str, Value]:
    """What a new row of a table has in each column; servers leave that out of what they send to replicas."""
    zeros: Mapping[str, Value] = {"boolean": False, "integer": 0, "string": ""}
    declared: Any = schema()["tables"]
    return {
        name: zeros[column["type"]] if isinstance(column["type"], str) else ()
        for name, column in declared[table]["columns"].items()
    }


def _tables(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    tables: Mapping[str, Any] = whole["tables"]
    return tables


def _finished(tables: Mapping[str, Json]) -> dict[str, Json]:
    ordered: dict[str, Json] = {name: tables[name] for name in sorted(tables)}
    digest = hashlib.sha256(msgspec.json.encode(ordered, order="deterministic")).digest()
    version = f"1.{int.from_bytes(digest[:2], 'big')}.{int.from_bytes(digest[2:4], 'big')}"
    return {"name": DATABASE, "version": version, "tables": ordered}


def _normal(kind: Any) -> Any:
    """A column's type in one of the several ways that RFC 7047 allows to write it."""
    if isinstance(kind, str):
        kind = {"key": kind}
    plain = {key: each["type"] if isinstance(each, dict) else each for key, each in kind.items()}
    return {"min": 1, "max": 1, **plain}


def _atom(wire_type: WireType) -> str:
    if isinstance(wire_type, BoolT):
        return "boolean"
    return "integer" if isinstance(wire_type, IntT | Int32T) else "string"


def _column(wire_type: WireType) -> Json:
    match wire_type:
        case SetT(item):
            return {"key": "integer", "value": _atom(item), "min": 0, "max": "unlimited"}
        case MapT(key, value):
            return {"key": _atom(key), "value": _atom(value), "min": 0, "max": "unlimited"}
        case OptionT(item):
            return {"key": _atom(item), "min": 0, "max": 1}
        case _:
            return {"key": _atom(wire_type), "min": 0, "max": 1}


def row_id(ref: str) -> RowId:
    """The uuid that the row of an object has: that of its reference, or one made from it."""
    text = ref.removeprefix(_PREFIX)
    try:
        if str(uuid.UUID(text)) == text:
            return RowId(text)
    except ValueError:
        pass
    return RowId(str(uuid.uuid5(uuid.NAMESPACE_URL, ref)))


def columns_of(row: StoredRow, position: int) -> dict[str, Value]:
    """The columns of a row; `position` orders rows by their creation.

    Raises:
        DatabaseDamaged: the row is not one of the model's.
    """
    shape = _shape(row.class_name)
    try:
        fields = msgspec.json.decode(row.body, type=dict[str, Any])
        columns: dict[str, Value] = {}
        empty = []
        for decl in shape.durable:
            if decl.name not in fields:
                columns[decl.name] = {} if _collects(decl) else ()
                continue
            columns[decl.name] = _to_column(decl.wire_type, fields[decl.name])
            if not columns[decl.name] and _collects(decl) and _default(shape, decl):
                empty.append(decl.name)
    except (msgspec.MsgspecError, TypeError, ValueError, AttributeError) as error:
        raise DatabaseDamaged(f"{row.class_name} {row.ref}: {error}") from error
    return {
        "row_ref": row.ref,
        "row_created": row.created,
        "row_modified": row.modified,
        "row_position": position,
        "row_empty": tuple(empty),
        **columns,
    }


def row_of(class_name: str, columns: Mapping[str, Value]) -> tuple[int, StoredRow]:
    """A row from its columns, and its position.

    Raises:
        DatabaseDamaged: a column is missing, or has a value that no row has.
    """
    shape = _shape(class_name)
    try:
        empty = columns["row_empty"]
        named = empty if isinstance(empty, tuple) else (empty,)
        fields: dict[str, Any] = {}
        for decl in shape.durable:
            column = columns.get(decl.name, ())
            if column in ((), {}) and (not _collects(decl) or decl.name not in named):
                continue  # never stored, or as an empty default
            fields[decl.name] = _from_column(decl.wire_type, column)
        position = _integer(columns["row_position"])
        return position, StoredRow(
            class_name=class_name,
            ref=str(columns["row_ref"]),
            created=_integer(columns["row_created"]),
            modified=_integer(columns["row_modified"]),
            body=msgspec.json.encode(fields),
        )
    except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise DatabaseDamaged(f"{class_name}: {type(error).__name__} {error}") from error


def text_in(text: str) -> str:
    r"""A text as OVSDB can keep it, which knows no NUL: that becomes `\0`, and a backslash two."""
    return text.replace("\\", "\\\\").replace("\0", "\\0") if "\0" in text or "\\" in text else text


def text_out(kept: str) -> str:
    """The text that was kept."""
    if "\\" not in kept:
        return kept
    return "\\".join(part.replace("\\0", "\0") for part in kept.split("\\\\"))


def classes() -> tuple[str, ...]:
    """The classes that have tables."""
    return tuple(shape.name for shape in _KEPT)


def _shape(class_name: str) -> Shape:
    shape = BY_NAME.get(class_name)
    if shape is None or not shape.durable:
        raise DatabaseDamaged(f"a class {class_name} that is not kept here")
    return shape


def _collects(decl: FieldDecl) -> bool:
    return isinstance(decl.wire_type, SetT | MapT)


def _default(shape: Shape, decl: FieldDecl) -> Any:
    return getattr(shape.row_type(ref=NULL), decl.attribute)


def _to_column(wire_type: WireType, value: Any) -> Value:
    match wire_type:
        case SetT(item):
            members: dict[Atom, Atom] = {at: _to_atom(item, each) for at, each in enumerate(value)}
            return members
        case MapT(key_type, value_type):
            return {_key(key_type, key): _to_atom(value_type, each) for key, each in value.items()}
        case OptionT(item):
            return () if value is None else _to_atom(item, value)
        case _:
            return _to_atom(wire_type, value)


def _from_column(wire_type: WireType, column: Value) -> Any:
    match wire_type:
        case SetT(item):
            return [_from_atom(item, each) for _, each in sorted(_pairs(column))]
        case MapT(key_type, value_type):
            return {
                str(_from_atom(key_type, key)): _from_atom(value_type, each) for key, each in _pairs(column)
            }
        case OptionT(item):
            return _from_atom(item, column)
        case _:
            return _from_atom(wire_type, column)


def _pairs(column: Value) -> list[tuple[Any, Atom]]:
    if column == ():
        return []
    if not isinstance(column, Mapping):
        raise TypeError(f"{column!r} is no map")
    return list(column.items())


def _key(wire_type: WireType, key: str) -> Atom:
    """A map's key, which is a text in JSON whatever it is in the model."""
    return int(key) if _atom(wire_type) == "integer" else text_in(key)


def _to_atom(wire_type: WireType, value: Any) -> Atom:
    if isinstance(wire_type, FloatT):
        return repr(float(value))  # OVSDB's own reals have fifteen digits
    if _atom(wire_type) == "string":
        return text_in(value)
    plain: Atom = value
    if isinstance(plain, int) and not -INTEGER_MAX - 1 <= plain <= INTEGER_MAX:
        raise ValueError(f"{plain} has more than 64 bits")
    return plain


def _from_atom(wire_type: WireType, value: Any) -> Any:
    if isinstance(wire_type, FloatT):
        return float(value)
    if _atom(wire_type) == "string":
        return text_out(value)
    return value


def _integer(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value
