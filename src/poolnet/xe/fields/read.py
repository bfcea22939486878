"""What does a field say of one object? Lists, param-list, param-get, filters, selectors and event-wait ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from poolnet.model.errors import Failure
from poolnet.model.types import (
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    MapT,
    RefT,
    SetT,
    Value,
    WireType,
)
from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Field, Shape
from poolnet.xe.records import Reader
from poolnet.xe.texts import (
    INVALID_REFERENCE,
    UNKNOWN,
    Texts,
    boolean,
    decimals,
    enum_text,
    joined,
    moment,
)


async def read(field: Field, reader: Reader, ref: str, record: Record) -> Texts:
    """Give the texts of a field of one object.

    "<invalid reference>" stands for an object that vanished meanwhile, "<unknown>" for what this server cannot tell.
    """
    try:
        if field.column.compute is not None:
            return await field.column.compute(reader, ref, record)
        source = record
        if field.through is not None:
            reference, cls = field.through
            found = await reader.record(cls, str(record[reference]))
            if found is None:
                return field.column.missing
            source = found
        value = source[field.column.source]
        if field.wire_type is None:
            return str(value)
        return await _texts(field, reader, field.wire_type, value)
    except Failure as failure:
        if failure.code == "HANDLE_INVALID":
            return INVALID_REFERENCE
        if failure.code == "NOT_IMPLEMENTED":
            return UNKNOWN
        raise


async def text(field: Field, reader: Reader, ref: str, record: Record) -> str:
    """Give the text of a field of one object, as it is printed."""
    return joined(await read(field, reader, ref, record), field.separator)


async def prefetch(fields: Iterable[Field], reader: Reader, records: Mapping[str, Record]) -> None:
    """Read what these fields of these objects refer to, with one call per class where they are many."""
    for field in fields:
        if field.through is not None:
            reference, cls = field.through
            await reader.prefetch(cls, [str(record[reference]) for record in records.values()])
        elif field.wire_type is not None:
            for cls, refs in _references(
                field.wire_type, [record[field.column.source] for record in records.values()]
            ):
                await reader.prefetch(cls, refs)


def _references(wire_type: WireType, values: Iterable[Value]) -> list[tuple[str, list[str]]]:
    """Collect the references in the values of a field, with their class."""
    match wire_type:
        case RefT(cls):
            return [(cls, [str(value) for value in values])]
        case SetT(RefT(cls)):
            return [(cls, [ref for value in values for ref in cast("tuple[str, ...]", value)])]
        case _:
            return []


async def _texts(field: Field, reader: Reader, wire_type: WireType, value: Value) -> Texts:
    """Write a value of the API in its parts."""
    match wire_type:
        case SetT(item):
            members = cast("tuple[Value, ...]", value)
            return tuple([await _text(field, reader, item, member) for member in members])
        case MapT(_, states) if field.shape is Shape.SET or field.column.source == "current_operations":
            mapping = cast("Mapping[str, Value]", value)
            return tuple([await _text(field, reader, states, state) for state in mapping.values()])
        case MapT(_, item):
            mapping = cast("Mapping[str, Value]", value)
            return {str(key): await _text(field, reader, item, each) for key, each in mapping.items()}
        case _:
            return await _text(field, reader, wire_type, value)


async def _text(field: Field, reader: Reader, wire_type: WireType, value: Value) -> str:
    """Write one plain value."""
    match wire_type:
        case RefT(cls):
            return await reader.text(cls, str(value), "name_label" if field.column.by_name else "uuid")
        case BoolT():
            return boolean(value)
        case FloatT():
            return decimals(value)
        case DateTimeT():
            return moment(value)
        case EnumT(name):
            return enum_text(name, str(value))
        case _:
            return str(value)
