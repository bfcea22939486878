"""What changed? The class event of the XenAPI, whose objects are never kept."""

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
    """A change of one object, as event.next and event.from tell it."""

    id: int = static(default=NO_DEFAULT, doc="The number of the change.")
    timestamp: datetime = static(
        default=NO_DEFAULT, state="deprecated", deprecated_since="boston", doc="When it happened."
    )
    class_: str = static(name="class", default=NO_DEFAULT, doc="The class of the object, in lower case.")
    operation: EventOperation = static(default=NO_DEFAULT, doc="Whether the object came, went or changed.")
    ref_: str = static(name="ref", default=NO_DEFAULT, doc="The object's reference.")
    obj_uuid: str = static(
        default=NO_DEFAULT, state="deprecated", deprecated_since="boston", doc="The object's uuid."
    )


MESSAGES = (
    message(
        "register",
        {"classes": "set:string"},
        role=Role.READ_ONLY,
        state="deprecated",
        deprecated_since="boston",
        doc="Adds to what the session wants to hear of; event.next then tells it.",
    ),
    message(
        "unregister",
        {"classes": "set:string"},
        role=Role.READ_ONLY,
        state="deprecated",
        deprecated_since="boston",
        doc="Takes classes from what the session wants to hear of.",
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
        doc="Waits for changes that the session registered for, and lists them.",
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
        doc="Lists what changed since a token, waiting for a change up to the timeout.",
    ),
    message(
        "get_current_id",
        {},
        "int",
        role=Role.READ_ONLY,
        is_async=False,
        doc="Gives the number that the next change will have.",
    ),
    message(
        "inject",
        {"class": "string", "ref": "string"},
        "string",
        role=Role.READ_ONLY,
        is_async=False,
        since="tampa",
        doc="Marks an object as changed and gives a token with which event.from tells of it.",
    ),
)
