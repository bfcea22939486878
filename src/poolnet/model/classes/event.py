"""What is a event? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, message, static
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from datetime import datetime

    from poolnet.model.enums import EventOperation


@api_class("event", events=False, role=Role.POOL_ADMIN, persisted=False, in_database=False)
class Event(Row):
    """The API class event."""

    id: int = static(default=NO_DEFAULT, doc="")
    timestamp: datetime = static(default=NO_DEFAULT, state="deprecated", deprecated_since="boston", doc="")
    class_: str = static(name="class", default=NO_DEFAULT, doc="")
    operation: EventOperation = static(default=NO_DEFAULT, doc="")
    ref_: str = static(name="ref", default=NO_DEFAULT, doc="")
    obj_uuid: str = static(default=NO_DEFAULT, state="deprecated", deprecated_since="boston", doc="")


MESSAGES = (
    message(
        "register",
        {"classes": "set:string"},
        role=Role.READ_ONLY,
        state="deprecated",
        deprecated_since="boston",
        doc="",
    ),
    message(
        "unregister",
        {"classes": "set:string"},
        role=Role.READ_ONLY,
        state="deprecated",
        deprecated_since="boston",
        doc="",
    ),
    message(
        "next",
        {},
        "set:record:event",
        role=Role.READ_ONLY,
        errors=("SESSION_NOT_REGISTERED", "EVENTS_LOST", "EVENT_SUBSCRIPTION_PARSE_FAILURE"),
        is_async=False,
        flags=("custom_result_marshaller",),
        state="deprecated",
        deprecated_since="boston",
        doc="",
    ),
    message(
        "from",
        {"classes": "set:string", "token": "string", "timeout": "float"},
        "set:record:event",
        role=Role.READ_ONLY,
        errors=("EVENT_FROM_TOKEN_PARSE_FAILURE", "EVENT_SUBSCRIPTION_PARSE_FAILURE"),
        is_async=False,
        flags=("custom_result_marshaller",),
        since="boston",
        doc="",
    ),
    message("get_current_id", {}, "int", role=Role.READ_ONLY, is_async=False, doc=""),
    message(
        "inject",
        {"class": "string", "ref": "string"},
        "string",
        role=Role.READ_ONLY,
        is_async=False,
        since="tampa",
        doc="",
    ),
)
