"""Which alerts are there? None yet: nothing in this version raises one (spec §25), and clients are told so in good form.

Graphical clients ask at login and want an empty answer rather than an error (spec §29).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from poolnet.model import errors
from poolnet.model.classes.message import Message
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext

Alerts = Mapping[Ref[Message], Message]

NO_ALERTS: Alerts = {}


def get_all(ctx: CallContext) -> tuple[Ref[Message], ...]:
    """The references of all alerts."""
    return ()


def get_all_records(ctx: CallContext) -> Alerts:
    """All alerts."""
    return NO_ALERTS


def get_all_records_where(ctx: CallContext, *, expr: str) -> Alerts:
    """The alerts that a filter selects."""
    return NO_ALERTS


def get_since(ctx: CallContext, *, since: datetime) -> Alerts:
    """The alerts raised since a moment."""
    return NO_ALERTS


def get(ctx: CallContext, *, cls: Cls, obj_uuid: str, since: datetime) -> Alerts:
    """The alerts about an object, raised since a moment."""
    return NO_ALERTS


def get_record(ctx: CallContext, *, self: Ref[Message]) -> Message:
    """An alert.

    Raises:
        HANDLE_INVALID: There is none such.
    """
    raise errors.handle_invalid("message", self)


def get_by_uuid(ctx: CallContext, *, uuid: str) -> Ref[Message]:
    """The reference of the alert with this uuid.

    Raises:
        UUID_INVALID: There is none such.
    """
    raise errors.uuid_invalid("message", uuid)


def destroy(ctx: CallContext, *, self: Ref[Message]) -> None:
    """Removes an alert.

    Raises:
        HANDLE_INVALID: There is none such.
    """
    raise errors.handle_invalid("message", self)
