"""What do the messages do that every class has? Listing, look-up, records, and the getters and setters of fields.

The dispatcher calls `read` for those that only read and `change` for those that write (spec §2.1). Both work on any
view, so that a dry run sees its own changes. Nothing here is specific to a class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from poolnet.db.filter import parse, select
from poolnet.db.txn import Txn, View
from poolnet.model import errors
from poolnet.model.classes.role import RoleRecord
from poolnet.model.declare import ClassDecl, FieldDecl, MessageDecl
from poolnet.model.registry import CLASSES
from poolnet.model.types import Ref, Row, Value

Arguments: TypeAlias = Mapping[str, Any]

ROLES_PROPER = "subroles<>[]"  # xe-cli §5.2: not in the filters' grammar, and recognized as it stands
READS = frozenset(
    f"implicit:{kind}"
    for kind in (
        "obj_get_all",
        "obj_get_all_where",
        "obj_get_all_records",
        "obj_get_all_records_where",
        "obj_get_record",
        "obj_get_by_uuid",
        "obj_get_by_name_label",
        "field_get",
    )
)
WRITES = frozenset({"implicit:field_set", "implicit:field_add", "implicit:field_remove"})


def read(message: MessageDecl, view: View, arguments: Arguments) -> Any:
    """Answers a message that only reads: a value, or rows in the place of records.

    Raises:
        HANDLE_INVALID: The object is not there.
        UUID_INVALID: No object has this uuid.
        INVALID_VALUE: The filter cannot be read.
    """
    decl = CLASSES[message.cls]
    cls: type[Row] = decl.python_type
    match message.kind.removeprefix("implicit:"):
        case "obj_get_all":
            return tuple(view.refs(cls))
        case "obj_get_all_where":
            return tuple(row.ref for row in select(view, cls, parse(str(arguments["expr"]))))
        case "obj_get_all_records":
            return {row.ref: row for row in view.all(cls)}
        case "obj_get_all_records_where":
            if message.cls == "role" and arguments["expr"] == ROLES_PROPER:
                return {row.ref: row for row in view.all(RoleRecord) if row.subroles}
            return {row.ref: row for row in select(view, cls, parse(str(arguments["expr"])))}
        case "obj_get_record":
            return view.get(cls, arguments["self"])
        case "obj_get_by_uuid":
            return view.by_uuid(cls, arguments["uuid"]).ref
        case "obj_get_by_name_label":
            return tuple(row.ref for row in view.by_name_label(cls, arguments["label"]))
        case "field_get":
            field = _field(message)
            return getattr(view.get(cls, arguments["self"]), field.attribute)
        case kind:
            raise AssertionError(f"{message.full_name}: {kind} does not read")


def change(message: MessageDecl, txn: Txn, arguments: Arguments) -> None:
    """Carries out a message that writes one field, without any check of the value (spec §2.1).

    Raises:
        HANDLE_INVALID: The object is not there.
        MAP_DUPLICATE_KEY: The key to add is in the map already.
    """
    decl = CLASSES[message.cls]
    field = _field(message)
    row = txn.get(decl.python_type, arguments["self"])
    value = _changed(message, decl, field, row, arguments)
    txn.update(decl.python_type, row.ref, **{field.attribute: value})


def _changed(message: MessageDecl, decl: ClassDecl, field: FieldDecl, row: Row, arguments: Arguments) -> Any:
    old = getattr(row, field.attribute)
    if message.kind == "implicit:field_set":
        return arguments["value"]
    if isinstance(old, Mapping):
        key = arguments["key"]
        if message.kind == "implicit:field_remove":
            return {k: v for k, v in old.items() if k != key}
        if key in old:
            raise errors.map_duplicate_key(decl.name, field.internal_name, row.ref, key)
        return {**old, key: arguments["value"]}
    value = arguments["value"]
    if message.kind == "implicit:field_remove":
        return tuple(item for item in old if item != value)
    return old if value in old else (*old, value)


def record_of(row: Row) -> dict[str, Value]:
    """A row as a record: the public fields by their names on the wire, in order."""
    return {field.name: getattr(row, field.attribute) for field in CLASSES[row.wire_name].fields}


def _field(message: MessageDecl) -> FieldDecl:
    if message.field is None:
        raise AssertionError(f"{message.full_name} is about no field")
    return message.field


def require_class(name: str) -> ClassDecl:
    """The class of that exact name.

    Raises:
        HANDLE_INVALID: There is none.
    """
    decl = CLASSES.get(name)
    if decl is None:
        raise errors.handle_invalid(name, Ref(""))
    return decl
