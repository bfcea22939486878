"""How are fields written? CLASS-param-set, -add, -remove and -clear (spec xe-cli §5.5 to §5.8); `generic` names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

from poolnet.model.errors import Failure, internal_error
from poolnet.model.types import NULL, BoolT, EnumT, FloatT, IntT, RefT, SetT, Value, WireType
from poolnet.xe.commands.command import Call
from poolnet.xe.fields.declare import Field, Shape, Table
from poolnet.xe.fields.read import read
from poolnet.xe.filters import find_key, find_named
from poolnet.xe.params import STANDARD, byte_size, integer, items, whole_number
from poolnet.xe.refusals import Refused
from poolnet.xe.texts import Texts, enum_value

_NOT_SETTINGS: Final = STANDARD | {"uuid"}
_NOT_KEYS: Final = STANDARD | {"uuid", "param-name", "param-key"}


async def param_set(table: Table, call: Call) -> None:
    """Set fields, one API call each, in the order of the words; what is done before a failure stays done."""
    ref = await call.find(table.api)
    gathered: dict[str, dict[str, Value]] = {}
    added: set[tuple[str, str]] = set()
    for name, value in call.params:
        if name in _NOT_SETTINGS:
            continue
        found = find_key(table, name)
        if found.key is None:
            await _set(call, ref, found.field, value)
        elif found.field.shape is Shape.SET:
            raise Refused("Cannot param-set on set fields")
        elif found.field.map_setter:
            gathered.setdefault(found.field.map_setter, {})[found.key] = value
        else:
            again = (found.field.name, found.key) in added
            await _set_key(call, ref, found.field, found.key, value, again=again)
            added.add((found.field.name, found.key))
    for method, mapping in gathered.items():
        await call.api(method, ref, mapping)


async def _set(call: Call, ref: str, field: Field, value: str) -> None:
    """Give a field a value as a whole."""
    if field.setter and field.setter_type is not None:
        await call.api(field.setter, ref, await _converted(call, field, field.setter_type, value))
    elif field.key_writable:
        raise Refused(f"Field '{field.name}' is a map or set. use the 'name:key=value' syntax.")
    else:
        raise Refused(f"Field '{field.name}' is read-only.")


async def _set_key(call: Call, ref: str, field: Field, key: str, value: str, *, again: bool) -> None:
    """Give one key of a map a value: with one call where there is one for it, else by removing and adding it.

    `again` says that an earlier word of the command has added the key: what was read before does not show it.
    """
    if field.key_setter:
        await call.api(field.key_setter, ref, key, value)
    elif field.adder:
        if again or key in await _texts(call, ref, field):
            await call.api(field.remover, ref, key)
        await call.api(field.adder, ref, key, value)
    else:
        raise Refused(f"Map field '{field.name}' is read-only.")


async def param_add(table: Table, call: Call) -> None:
    """Add an item to a set, or keys to a map."""
    if "param-name" not in call.params:
        await _items(table, call, adds=True)
        return
    ref, field = await _object_and_field(table, call)
    if field.shape is Shape.PLAIN:
        raise Refused("Can only add to parameters of type Set or Map")
    if not field.adder:
        raise Refused("Parameter is read-only")
    if field.shape is Shape.SET:
        item = call.params.find("param-key")
        if item is None:
            raise Refused(
                "When adding a key to a set, use the syntax: *-param-add param-name=<name> param-key=<key>"
            )
        await call.api(field.adder, ref, await _item(call, field, item))
        return
    for key, value in call.params:
        if key not in _NOT_KEYS:
            await call.api(field.adder, ref, key, value)


async def param_remove(table: Table, call: Call) -> None:
    """Remove an item from a set, or a key from a map."""
    if "param-name" not in call.params:
        await _items(table, call, adds=False)
        return
    ref, field = await _object_and_field(table, call)
    if field.shape is Shape.PLAIN:
        raise Refused("Can only remove from parameters of type Set or Map")
    if not field.remover:
        raise Refused("Cannot remove parameters from read-only map")
    key = call.params.required("param-key")
    if key not in await _texts(call, ref, field):
        raise Refused(f"Key {key} is not in {'map' if field.shape is Shape.MAP else 'the set'}")
    await call.api(field.remover, ref, key if field.shape is Shape.MAP else await _item(call, field, key))


async def _items(table: Table, call: Call, *, adds: bool) -> None:
    """Add or remove the items of `FIELD=ITEM,ITEM` words, as the manual has it: vif-param-add ipv4-allowed=A,B.

    All items of a field are changed with one call where the API has one.
    """
    ref = await call.find(table.api)
    for name, value in call.params:
        if name in _NOT_KEYS:
            continue
        field = find_named(table, name)
        if field.shape is not Shape.SET or not field.adder:
            raise Refused(f"Field '{name}' is not a set that can be changed")
        given, present = items(value), await _texts(call, ref, field)
        missing = [] if adds else [item for item in given if item not in present]
        if missing:
            raise Refused(f"Key {missing[0]} is not in the set")
        if field.setter:
            wanted = (*present, *given) if adds else (item for item in present if item not in given)
            values = [await _item(call, field, item) for item in dict.fromkeys(wanted)]
            await call.api(field.setter, ref, tuple(values))
            continue
        for item in given:
            await call.api(field.adder if adds else field.remover, ref, await _item(call, field, item))


async def param_clear(table: Table, call: Call) -> None:
    """Empty a field in whichever way it can be emptied."""
    ref, field = await _object_and_field(table, call)
    if field.shape is Shape.SET and field.remover:
        for item in await _texts(call, ref, field):
            await call.api(field.remover, ref, await _item(call, field, item))
    elif field.clearer or field.map_setter:
        await call.api(field.clearer or field.map_setter, ref, {})
    elif field.shape is Shape.MAP and field.remover:
        for key in await _texts(call, ref, field):
            await call.api(field.remover, ref, key)
    elif field.setter:
        try:
            await _set(call, ref, field, "")
        except (Failure, Refused):
            raise Refused("Cannot clear this parameter") from None
    else:
        raise Refused("Can only clear RW parameters")


async def _object_and_field(table: Table, call: Call) -> tuple[str, Field]:
    """Find the object and the field that `uuid=` and `param-name=` mean."""
    ref = await call.find(table.api)
    return ref, find_named(table, call.params.required("param-name"))


async def _texts(call: Call, ref: str, field: Field) -> tuple[str, ...] | Mapping[str, str]:
    """Read the items or keys that a set or map has now."""
    record = await call.reader.record(field.api, ref)
    texts: Texts = () if record is None else await read(field, call.reader, ref, record)
    return () if isinstance(texts, str) else texts


async def _item(call: Call, field: Field, text: str) -> Value:
    """Convert an item of a set."""
    item = field.wire_type.item if isinstance(field.wire_type, SetT) else None
    return text if item is None else await _converted(call, field, item, text, name="value")


async def _converted(call: Call, field: Field, wire_type: WireType, text: str, name: str = "") -> Value:
    """Convert a text to what the setter takes; errors are worded as the field's age has it (spec xe-cli §5.5)."""
    name = name or field.name
    match wire_type:
        case BoolT():
            return _boolean(field, text)
        case IntT():
            return _integer(field, name, text)
        case FloatT():
            return _float(name, text)
        case EnumT(enum):
            return enum_value(enum, text)
        case RefT(cls):
            if not text and not field.column.strict:
                return NULL
            return cast(str, await call.api(f"{cls}.get_by_uuid", text))
        case SetT(item):
            parts = items(text)
            if field.column.trimmed:
                parts = tuple(part.strip() for part in parts if part.strip())
            return tuple([await _converted(call, field, item, part, name="value") for part in parts])
        case _:
            return text


def _boolean(field: Field, text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    if field.column.old:
        raise Refused(f"Parameter {field.name} must be a boolean (true or false)")
    raise Refused(f"Failed to parse parameter '{field.name}': expecting a boolean (true or false)")


def _integer(field: Field, name: str, text: str) -> int:
    if field.column.size:
        return byte_size(name, text)
    if not field.column.old:
        return integer(name, text)
    value = whole_number(text)
    if value is None:
        raise internal_error("Failure: Int64.of_string")
    return value


def _float(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused(f"Parameter {name} must be a floating-point number") from None
