"""What is a task? The class of the XenAPI; the registry collects it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message
from poolnet.model.roles import Role
from poolnet.model.types import Row

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.session import Session
    from poolnet.model.enums import TaskAllowedOperations, TaskStatusType
    from poolnet.model.types import Ref


@api_class("task", events=True, role=Role.POOL_OPERATOR, persisted=False)
class Task(Row):
    """The API class task."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="")
    name_label: str = dynamic(default="", path="name/label", doc="")
    name_description: str = dynamic(default="", path="name/description", doc="")
    allowed_operations: tuple[TaskAllowedOperations, ...] = dynamic(default=(), persisted=False, doc="")
    current_operations: Mapping[str, TaskAllowedOperations] = dynamic(default={}, persisted=False, doc="")
    created: datetime = dynamic(default=NO_DEFAULT, doc="")
    finished: datetime = dynamic(default=NO_DEFAULT, doc="")
    status: TaskStatusType = dynamic(default=NO_DEFAULT, doc="")
    resident_on: Ref[Host] = dynamic(default=NO_DEFAULT, doc="")
    progress: float = dynamic(default=NO_DEFAULT, doc="")
    type: str = dynamic(default=NO_DEFAULT, doc="")
    result: str = dynamic(default=NO_DEFAULT, doc="")
    error_info: tuple[str, ...] = dynamic(default=NO_DEFAULT, doc="")
    other_config: Mapping[str, str] = dynamic(default={}, since="miami", doc="")
    subtask_of: Ref[Task] = dynamic(default="", since="orlando", doc="")
    subtasks: tuple[Ref[Task], ...] = dynamic(default=NO_DEFAULT, computed=True, since="orlando", doc="")
    backtrace: str = dynamic(default="()", since="dundee", doc="")
    session: Ref[Session] = dynamic(default=NO_DEFAULT, internal=True, doc="")
    externalpid: int = dynamic(default=NO_DEFAULT, internal=True, doc="")
    stunnelpid: int = dynamic(
        default=NO_DEFAULT, internal=True, state="deprecated", deprecated_since="boston", doc=""
    )
    forwarded: bool = dynamic(default=NO_DEFAULT, internal=True, doc="")
    forwarded_to: Ref[Host] = dynamic(default=NO_DEFAULT, internal=True, doc="")


MESSAGES = (
    message(
        "create",
        {"label": "string", "description": "string"},
        "ref:task",
        role=Role.READ_ONLY,
        is_async=False,
        doc="",
    ),
    message("destroy", {"self": "ref:task"}, role=Role.READ_ONLY, is_async=False, doc=""),
    message("cancel", {"task": "ref:task"}, role=Role.READ_ONLY, errors=("OPERATION_NOT_ALLOWED",), doc=""),
    message(
        "set_status",
        {"self": "ref:task", "value": "enum:task_status_type"},
        role=Role.READ_ONLY,
        is_async=False,
        since="falcon",
        doc="",
    ),
    message(
        "set_progress",
        {"self": "ref:task", "value": "float"},
        role=Role.READ_ONLY,
        is_async=False,
        since="stockholm",
        doc="",
    ),
    message(
        "set_result",
        {"self": "ref:task", "value": "string"},
        role=Role.READ_ONLY,
        is_async=False,
        since="21.3.0",
        doc="",
    ),
    message(
        "set_error_info",
        {"self": "ref:task", "value": "set:string"},
        role=Role.READ_ONLY,
        is_async=False,
        since="21.3.0",
        doc="",
    ),
    message(
        "add_to_other_config",
        {"self": "ref:task", "key": "string", "value": "string"},
        role=Role.READ_ONLY,
        map_key_roles={
            "applies_to": Role.VM_OPERATOR,
            "XenCenterUUID": Role.VM_OPERATOR,
            "XenCenterMeddlingActionTitle": Role.VM_OPERATOR,
        },
        since="25.8.0",
        state="prototyped",
        doc="",
    ),
    message(
        "remove_from_other_config",
        {"self": "ref:task", "key": "string"},
        role=Role.READ_ONLY,
        map_key_roles={
            "applies_to": Role.VM_OPERATOR,
            "XenCenterUUID": Role.VM_OPERATOR,
            "XenCenterMeddlingActionTitle": Role.VM_OPERATOR,
        },
        since="25.8.0",
        state="prototyped",
        doc="",
    ),
    message(
        "set_other_config",
        {"self": "ref:task", "value": "map:string:string"},
        role=Role.READ_ONLY,
        since="25.8.0",
        state="prototyped",
        doc="",
    ),
)
