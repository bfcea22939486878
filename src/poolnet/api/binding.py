"""Do a call's parameters fit its message? From what arrived to keyword arguments of declared types (spec §1.5).

The dispatcher binds what came over the wire, and what commands of `xe` pass in this process, with the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from poolnet.api.decode import decode_value
from poolnet.api.wire import Mark, Marked, Wire
from poolnet.model import errors
from poolnet.model.declare import MessageDecl
from poolnet.model.registry import CLASSES
from poolnet.model.types import RecordT, StringT, Value

CONSTRUCTOR = "implicit:obj_create"
_TEXT = StringT()


def bind(message: MessageDecl, called_as: str, params: Sequence[Wire]) -> tuple[str, dict[str, Any]]:
    """Splits parameters into the session and decoded arguments by name, with defaults filled in.

    Raises:
        MESSAGE_PARAMETER_COUNT_MISMATCH: Too few, or more than declared where no parameter has a default.
        INTERNAL_ERROR: A parameter has another type than declared, or a constructor lacks a field.
        INVALID_VALUE: A text is not UTF-8.
    """
    given = list(params)
    session = ""
    received = len(given) - (1 if message.session_arg else 0)
    required = sum(not p.has_default for p in message.params)
    has_defaults = required < len(message.params)
    if received < required or (received > len(message.params) and not has_defaults):
        raise errors.message_parameter_count_mismatch(called_as, required, received)
    if message.session_arg:
        session = str(decode_value(_TEXT, given.pop(0)))
    arguments: dict[str, Any] = {}
    for index, param in enumerate(message.params):
        if index >= len(given):
            arguments[param.name] = param.default
        elif message.kind == CONSTRUCTOR and isinstance(param.wire_type, RecordT):
            arguments["record"] = constructor_record(param.wire_type.cls, given[index])
        else:
            arguments[param.name] = decode_value(param.wire_type, given[index])
    return session, arguments


def constructor_record(cls: str, wire: Wire) -> dict[str, Value]:
    """Decodes the struct given to a constructor; fields that are left out get their defaults, others are ignored.

    Raises:
        INTERNAL_ERROR: A required field is missing, or one has a wrong type.
    """
    if not isinstance(wire, dict):
        raise errors.internal_error('Failure("Unknown tag/contents")')
    record: dict[str, Value] = {}
    for field in CLASSES[cls].fields:
        if not field.in_constructor:
            continue
        if field.name in wire:
            record[field.name] = decode_value(field.wire_type, wire[field.name])
        elif field.constructor_required:
            raise errors.internal_error(f'Server_helpers.Dispatcher_FieldNotFound("{field.name}")')
        else:
            record[field.name] = field.default
    return record


def as_wire(value: object) -> Wire:
    """A Python value as it would look after parsing, for calls made inside this process."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        return Marked(Mark.DATE_TIME, value.strftime("%Y%m%dT%H:%M:%SZ"))
    if isinstance(value, Mapping):
        return {str(key): as_wire(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [as_wire(item) for item in value]
    raise TypeError(f"{type(value).__name__} is no value of the API")
