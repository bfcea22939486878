"""What is a call that runs in the background? The class task of the XenAPI."""

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
    """A call under way or just finished, with its progress and its outcome."""

    uuid: str = dynamic(default=NO_DEFAULT, doc="The name that it keeps for life, in all pools.")
    name_label: str = dynamic(default="", path="name/label", doc="A name for people; not unique.")
    name_description: str = dynamic(default="", path="name/description", doc="What it is, in free text.")
    allowed_operations: tuple[TaskAllowedOperations, ...] = dynamic(
        default=(), persisted=False, doc="What may be done with it now."
    )
    current_operations: Mapping[str, TaskAllowedOperations] = dynamic(
        default={}, persisted=False, doc="What is being done with it, by task."
    )
    created: datetime = dynamic(default=NO_DEFAULT, doc="When the call began.")
    finished: datetime = dynamic(default=NO_DEFAULT, doc="When it ended; the epoch while it runs.")
    status: TaskStatusType = dynamic(
        default=NO_DEFAULT, doc="Whether it runs, and how it ended; never changes once it has ended."
    )
    resident_on: Ref[Host] = dynamic(default=NO_DEFAULT, doc="The host that carries it out.")
    progress: float = dynamic(default=NO_DEFAULT, doc="How much is done, from 0 to 1.")
    type: str = dynamic(default=NO_DEFAULT, doc="The type of the result; `<none/>` if there is none yet.")
    result: str = dynamic(default=NO_DEFAULT, doc="The result in XML-RPC, once it has succeeded.")
    error_info: tuple[str, ...] = dynamic(default=NO_DEFAULT, doc="The code and parameters of its failure.")
    other_config: Mapping[str, str] = dynamic(default={}, since="miami", doc="Further settings, by key.")
    subtask_of: Ref[Task] = dynamic(default="", since="orlando", doc="The task that it is a part of.")
    subtasks: tuple[Ref[Task], ...] = dynamic(
        default=NO_DEFAULT, computed=True, since="orlando", doc="The tasks that are parts of it."
    )
    backtrace: str = dynamic(default="()", since="dundee", doc="Where it failed, for developers.")
    session: Ref[Session] = dynamic(default=NO_DEFAULT, internal=True, doc="The session that started it.")
    externalpid: int = dynamic(
        default=NO_DEFAULT, internal=True, doc="The process that does the work, if there is one."
    )
    stunnelpid: int = dynamic(
        default=NO_DEFAULT, internal=True, state="deprecated", deprecated_since="boston", doc="Unused."
    )
    forwarded: bool = dynamic(default=NO_DEFAULT, internal=True, doc="Whether another host does the work.")
    forwarded_to: Ref[Host] = dynamic(
        default=NO_DEFAULT, internal=True, doc="The host that does the work, if another does."
    )


MESSAGES = (
    message(
        "create",
        {"label": "string", "description": "string"},
        "ref:task",
        role=Role.READ_ONLY,
        is_async=False,
        doc="Makes a task that the client itself will drive.",
    ),
    message(
        "destroy",
        {"self": "ref:task"},
        role=Role.READ_ONLY,
        is_async=False,
        doc="Removes the task, or lets it be removed when it ends.",
    ),
    message(
        "cancel",
        {"task": "ref:task"},
        role=Role.READ_ONLY,
        errors=("OPERATION_NOT_ALLOWED",),
        doc="Asks the call to stop; it ends with TASK_CANCELLED if it does.",
    ),
    message(
        "set_status",
        {"self": "ref:task", "value": "enum:task_status_type"},
        role=Role.READ_ONLY,
        is_async=False,
        since="falcon",
        doc="Says how the client's own task ended.",
    ),
    message(
        "set_progress",
        {"self": "ref:task", "value": "float"},
        role=Role.READ_ONLY,
        is_async=False,
        since="stockholm",
        doc="Says how far the client's own task is.",
    ),
    message(
        "set_result",
        {"self": "ref:task", "value": "string"},
        role=Role.READ_ONLY,
        is_async=False,
        since="21.3.0",
        doc="Gives the result of the client's own task.",
    ),
    message(
        "set_error_info",
        {"self": "ref:task", "value": "set:string"},
        role=Role.READ_ONLY,
        is_async=False,
        since="21.3.0",
        doc="Gives the failure of the client's own task.",
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
        doc="Adds a further setting.",
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
        doc="Removes a further setting.",
    ),
    message(
        "set_other_config",
        {"self": "ref:task", "value": "map:string:string"},
        role=Role.READ_ONLY,
        since="25.8.0",
        state="prototyped",
        doc="Sets all further settings.",
    ),
)
