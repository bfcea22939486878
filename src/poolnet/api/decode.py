"""Which Python value does a parsed parameter stand for, given its declared type (spec §1.3)? Dispatch asks.

One decoder for both codecs: each accepts what any client of either sends. Recursion follows the declared type, never
the request, so a request cannot make it deep.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Final, NoReturn

from poolnet.api.wire import Mark, Marked, Wire
from poolnet.model import errors
from poolnet.model.enums import enum_member
from poolnet.model.registry import CLASSES
from poolnet.model.types import (
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    Int32T,
    IntT,
    MapT,
    OptionT,
    RecordT,
    RefT,
    SetT,
    StringT,
    Value,
    WireType,
    wire_type_text,
)

_NOT_TEXT: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_FLOAT: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?", re.ASCII)
_FLOAT_CHARS_MAX: Final = 512
_DATE_TIME: Final = re.compile(
    r"(?P<year>\d{4})-?(?P<month>\d\d)-?(?P<day>\d\d)T(?P<hour>\d\d):?(?P<minute>\d\d):?(?P<second>\d\d)(?:\.\d{1,9})?"
    r"(?:Z|(?P<sign>[+-])(?P<zone_hours>\d\d):?(?P<zone_minutes>\d\d))?",
    re.ASCII,
)
_INT64: Final = range(-(2**63), 2**63)
_INT32: Final = range(-(2**31), 2**31)


def decode_value(wire_type: WireType, wire: Wire) -> Value:
    """Reads a wire tree as a value of a type. A record is a dict of those public fields that were sent.

    Raises:
        INVALID_VALUE["Invalid UTF-8 string in parameter"; the text]: a text has bytes that are no UTF-8, or characters
            that XML could not carry back.
        INTERNAL_ERROR[text]: the tree is of another type.
    """
    match wire_type:
        case SetT(item):
            return tuple(decode_value(item, each) for each in _items(wire_type, wire))
        case MapT(key, value):
            return {
                decode_value(key, name): decode_value(value, each)
                for name, each in _members(wire_type, wire).items()
            }
        case OptionT(item):
            return None if wire is None else decode_value(item, wire)
        case RecordT(name):
            return _record(name, _members(wire_type, wire))
        case _:
            return _plain(wire_type, wire)


def _plain(wire_type: WireType, wire: Wire) -> Value:
    """Reads a value that has no values inside."""
    match wire_type:
        case StringT() | RefT():
            return _text(wire_type, wire)
        case IntT():
            return _integer(wire_type, wire, _INT64)
        case EnumT(name):
            return enum_member(name, _text(wire_type, wire)) or _refuse(wire_type)
        case BoolT():
            return wire if isinstance(wire, bool) else _refuse(wire_type)
        case FloatT():
            return _float(wire)
        case DateTimeT():
            return _date_time(wire)
        case Int32T():
            return _integer(wire_type, wire, _INT32)
        case _:
            return None if wire is None or wire == "" else _refuse(wire_type)


def _refuse(wire_type: WireType) -> NoReturn:
    """Says what was expected, and never what was sent: it may be a password in the wrong place."""
    raise errors.internal_error(f'Failure("Expected {wire_type_text(wire_type)}")')


def _text(wire_type: WireType, wire: Wire) -> str:
    if isinstance(wire, Marked) and wire.mark is Mark.NOT_UTF8:
        _refuse_text(wire.text)
    if not isinstance(wire, str):
        _refuse(wire_type)
    if _NOT_TEXT.search(wire):
        _refuse_text(wire)
    return wire


def _refuse_text(text: str) -> NoReturn:
    raise errors.invalid_value("Invalid UTF-8 string in parameter", _NOT_TEXT.sub("\ufffd", text))


def _integer(wire_type: WireType, wire: Wire, bounds: range) -> int:
    if isinstance(wire, str) and _INTEGER.fullmatch(wire):
        wire = int(wire)
    if isinstance(wire, bool) or not isinstance(wire, int) or wire not in bounds:
        _refuse(wire_type)
    return wire


def _float(wire: Wire) -> float:
    if isinstance(wire, str) and len(wire) <= _FLOAT_CHARS_MAX and _FLOAT.fullmatch(wire):
        wire = float(wire)
    if isinstance(wire, bool) or not isinstance(wire, int | float):
        _refuse(FloatT())
    try:
        number = float(wire)
    except OverflowError:
        _refuse(FloatT())
    return number if math.isfinite(number) else _refuse(FloatT())


def _date_time(wire: Wire) -> dt.datetime:
    """Reads a moment; without a zone it is UTC. Fractions of a second are dropped, as the wire cannot say them back."""
    text = wire.text if isinstance(wire, Marked) and wire.mark is Mark.DATE_TIME else wire
    found = _DATE_TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        _refuse(DateTimeT())
    part = found.groupdict(default="0")
    offset = dt.timedelta(hours=int(part["zone_hours"]), minutes=int(part["zone_minutes"]))
    try:
        day = dt.date(int(part["year"]), int(part["month"]), int(part["day"]))
        time = dt.time(int(part["hour"]), int(part["minute"]), int(part["second"]), tzinfo=dt.UTC)
        local = dt.datetime.combine(day, time)
        return local + offset if part["sign"] == "-" else local - offset
    except (ValueError, OverflowError):
        _refuse(DateTimeT())


def _items(wire_type: WireType, wire: Wire) -> list[Wire]:
    return wire if isinstance(wire, list) else _refuse(wire_type)


def _members(wire_type: WireType, wire: Wire) -> dict[str, Wire]:
    return wire if isinstance(wire, dict) else _refuse(wire_type)


def _record(cls: str, members: dict[str, Wire]) -> dict[str, Value]:
    return {
        field.name: decode_value(field.wire_type, members[field.name])
        for field in CLASSES[cls].fields
        if field.name in members
    }
