"""How is a row written on disk? The database turns rows into JSON bodies and back, for every engine alike.

A body has the durable fields under their names on the wire. Fields that an older or newer poolnet did not have take
the defaults of the row's class; fields that are no more are passed over.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

import msgspec

from poolnet.db.errors import BadRow, DatabaseDamaged
from poolnet.db.shape import BY_NAME, SHAPES, Shape
from poolnet.model.declare import FieldDecl
from poolnet.model.registry import ENUMS
from poolnet.model.types import (
    NULL,
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    Int32T,
    IntT,
    MapT,
    OptionT,
    Ref,
    Row,
    SetT,
    WireType,
)

_PLAIN: Final[Mapping[type, Any]] = {
    BoolT: bool,
    IntT: int,
    Int32T: int,
    FloatT: float,
    DateTimeT: dt.datetime,
}


def _python_type(wire_type: WireType) -> Any:
    """Gives the type that msgspec decodes a value into."""
    match wire_type:
        case EnumT(name):
            return ENUMS[name]
        case SetT(item):
            return tuple.__class_getitem__((_python_type(item), ...))
        case MapT(key, value):
            return dict.__class_getitem__((_python_type(key), _python_type(value)))
        case OptionT(item):
            return _python_type(item) | None
        case _:
            return _PLAIN.get(type(wire_type), str)


def _default(decl: FieldDecl, default: Any) -> Any:
    """Says what a field is called in a body, and what it is when it is not there."""
    if isinstance(default, Mapping):
        return msgspec.field(default_factory=lambda: default, name=decl.name)
    return msgspec.field(default=default, name=decl.name)


def _decoder(shape: Shape) -> msgspec.json.Decoder[Any]:
    """Makes the decoder of one class's bodies."""
    blank = shape.row_type(ref=NULL)
    fields = [
        (each.attribute, _python_type(each.wire_type), _default(each, getattr(blank, each.attribute)))
        for each in shape.durable
    ]
    return msgspec.json.Decoder(msgspec.defstruct(shape.row_type.__name__, fields, gc=False))


_DECODERS: Final = {cls: _decoder(shape) for cls, shape in SHAPES.items() if shape.durable}


def _body_type(shape: Shape) -> tuple[type[msgspec.Struct], Callable[[Row], tuple[Any, ...]]]:
    """The type of one class's bodies, and what gets a row's values for it."""
    fields = [(each.attribute, Any, msgspec.field(name=each.name)) for each in shape.durable]
    values: Any = attrgetter(*(each.attribute for each in shape.durable))
    return msgspec.defstruct(shape.row_type.__name__, fields, gc=False), values


_TYPES: Final = {cls: _body_type(shape) for cls, shape in SHAPES.items() if shape.durable}
_ENCODER: Final = msgspec.json.Encoder()


def body_of(row: Row) -> msgspec.Struct:
    """A row's durable fields, for who writes them as JSON into something larger."""
    body_type, values = _TYPES[type(row)]
    return body_type(*values(row))


def encode_body(row: Row) -> bytes:
    """Writes a row's durable fields.

    Raises:
        BadRow: a field has a value of another type than the model's, which could not be read again.
    """
    try:
        body = _ENCODER.encode(body_of(row))
        _DECODERS[type(row)].decode(body)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise BadRow(f"{SHAPES[type(row)].name} {row.ref}: {error}") from error
    return body


def decode_body(class_name: str, ref: str, body: bytes) -> Row | None:
    """Reads a row; None if the model has no such class any more.

    Raises:
        DatabaseDamaged: the body is no JSON, or a field has a value of another type than the model's.
    """
    shape = BY_NAME.get(class_name)
    if shape is None or not shape.durable:
        return None
    try:
        fields = _DECODERS[shape.row_type].decode(body)
    except msgspec.MsgspecError as error:
        raise DatabaseDamaged(f"{class_name} {ref}: {error}") from error
    values = {each.attribute: getattr(fields, each.attribute) for each in shape.durable}
    return shape.row_type(ref=Ref(ref), **values)


def decode_value(decl: FieldDecl, value: object) -> Any:
    """Reads one field's value, as it stands in a body that has been read as plain JSON.

    Raises:
        BadRow: it is of another type than the model's.
    """
    try:
        return msgspec.convert(value, _python_type(decl.wire_type), strict=True)
    except msgspec.ValidationError as error:
        raise BadRow(f"{decl.name}: {error}") from error
