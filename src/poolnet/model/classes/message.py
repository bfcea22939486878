"""What should an administrator know? The class message of the XenAPI: alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from datetime import datetime

    from poolnet.model.enums import Cls


@api_class("message", events=True, role=Role.POOL_OPERATOR, persisted=False, in_database=False, kept=True)
class Message(Row):
    """An alert about an object."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name: str = dynamic(default=NO_DEFAULT, doc="What kind of alert it is, such as BOND_STATUS_CHANGED.")
    priority: int = dynamic(default=NO_DEFAULT, doc="How urgent it is; 1 is the most.")
    cls: Cls = dynamic(default=NO_DEFAULT, since="orlando", doc="The class of the object that it is about.")
    obj_uuid: str = dynamic(default=NO_DEFAULT, doc="The uuid of that object.")
    timestamp: datetime = dynamic(default=NO_DEFAULT, doc="When it was raised.")
    body: str = dynamic(default=NO_DEFAULT, doc="What happened, for people.")


MESSAGES = (
    message(
        "create",
        {"name": "string", "priority": "int", "cls": "enum:cls", "obj_uuid": "string", "body": "string"},
        "ref:message",
        is_async=False,
        since="orlando",
        doc="Raises an alert.",
    ),
    message("destroy", {"self": "ref:message"}, is_async=False, since="orlando", doc="Removes an alert."),
    message(
        "destroy_many",
        {"messages": "set:ref:message"},
        since="22.19.0",
        state="prototyped",
        doc="Removes several alerts.",
    ),
    message(
        "destroy_all",
        {"filters": "map:string:string"},
        since="26.6.0",
        state="prototyped",
        doc="Removes all alerts that match.",
    ),
    message(
        "get",
        {"cls": "enum:cls", "obj_uuid": "string", "since": "datetime"},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Lists the alerts about an object since a moment.",
    ),
    message(
        "get_all",
        {},
        "set:ref:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Lists the alerts.",
    ),
    message(
        "get_since",
        {"since": "datetime"},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Lists the alerts since a moment.",
    ),
    message(
        "get_record",
        {"self": "ref:message"},
        "record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Reads an alert.",
    ),
    message(
        "get_by_uuid",
        {"uuid": "string"},
        "ref:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Finds the alert with this uuid.",
    ),
    message(
        "get_all_records",
        {},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Lists all alerts with their contents.",
    ),
    message(
        "get_all_records_where",
        {"expr": "string"},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="Lists the alerts that match a filter, with their contents.",
    ),
)
