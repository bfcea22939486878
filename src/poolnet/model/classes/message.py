"""What is a message? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from datetime import datetime

    from poolnet.model.enums import Cls


@api_class("message", events=True, role=Role.POOL_OPERATOR, persisted=False, in_database=False)
class Message(Row):
    """The API class message."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name: str = dynamic(default=NO_DEFAULT, doc="")
    priority: int = dynamic(default=NO_DEFAULT, doc="")
    cls: Cls = dynamic(default=NO_DEFAULT, since="orlando", doc="")
    obj_uuid: str = dynamic(default=NO_DEFAULT, doc="")
    timestamp: datetime = dynamic(default=NO_DEFAULT, doc="")
    body: str = dynamic(default=NO_DEFAULT, doc="")


MESSAGES = (
    message(
        "create",
        {"name": "string", "priority": "int", "cls": "enum:cls", "obj_uuid": "string", "body": "string"},
        "ref:message",
        is_async=False,
        since="orlando",
        doc="",
    ),
    message("destroy", {"self": "ref:message"}, is_async=False, since="orlando", doc=""),
    message("destroy_many", {"messages": "set:ref:message"}, since="22.19.0", state="prototyped", doc=""),
    message("destroy_all", {"filters": "map:string:string"}, since="26.6.0", state="prototyped", doc=""),
    message(
        "get",
        {"cls": "enum:cls", "obj_uuid": "string", "since": "datetime"},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="",
    ),
    message("get_all", {}, "set:ref:message", role=Role.READ_ONLY, is_async=False, since="orlando", doc=""),
    message(
        "get_since",
        {"since": "datetime"},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="",
    ),
    message(
        "get_record",
        {"self": "ref:message"},
        "record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="",
    ),
    message(
        "get_by_uuid",
        {"uuid": "string"},
        "ref:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="",
    ),
    message(
        "get_all_records",
        {},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="",
    ),
    message(
        "get_all_records_where",
        {"expr": "string"},
        "map:ref:message:record:message",
        role=Role.READ_ONLY,
        is_async=False,
        since="orlando",
        doc="",
    ),
)
