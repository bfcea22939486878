"""What may a client do with tasks: make its own, drive them, remove them? See spec §4. Cancelling is the API server's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.session import Session as SessionRow
from poolnet.model.classes.task import Task
from poolnet.model.enums import TaskAllowedOperations, TaskStatusType
from poolnet.model.roles import Role, allows, roles_with
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext, Session

PENDING_OF_SESSION_MAX: Final = 500
"""Of the tasks that a client drives itself; those of its calls under way count as well."""


def create(ctx: CallContext, *, label: str, description: str) -> Ref[Task]:
    """Makes a pending task that the client drives itself.

    Raises:
        TOO_MANY_PENDING_TASKS: The session has left many of them pending.
    """
    own = ctx.txn.where(Task, session=ctx.session.ref)
    if sum(task.status is TaskStatusType.PENDING for task in own) >= PENDING_OF_SESSION_MAX:
        raise errors.too_many_pending_tasks()
    return ctx.txn.create(
        Task(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            name_label=label,
            name_description=description,
            created=ctx.now,
            status=TaskStatusType.PENDING,
            type="<none/>",
            resident_on=ctx.local_host,
            session=ctx.session.ref,
        )
    )


def own_task(txn: View, who: Session, ref: Ref[Task]) -> Task:
    """The task, if the caller may change it: one that the same user started, or anybody's with the right to (spec §4).

    Raises:
        HANDLE_INVALID: There is no such task.
        RBAC_PERMISSION_DENIED: It is somebody else's.
    """
    task = txn.get(Task, ref)
    if who.is_superuser or who.role is None or allows(who.role, Role.POOL_OPERATOR):
        return task
    starter = txn.find(SessionRow, task.session)
    if task.session == who.ref or (starter is not None and starter.auth_user_sid == who.sid):
        return task
    holders = ", ".join(roles_with(Role.POOL_OPERATOR))
    raise errors.rbac_permission_denied(
        "task.destroy_any", f"No permission in user session. (Roles with this permission: {holders})"
    )


def destroy(ctx: CallContext, *, self: Ref[Task]) -> None:
    """Removes a completed task; one that is pending goes when it has completed.

    Raises:
        RBAC_PERMISSION_DENIED: It is somebody else's.
    """
    task = own_task(ctx.txn, ctx.session, self)
    if task.status is not TaskStatusType.PENDING:
        ctx.txn.destroy(Task, self)
        return
    ctx.txn.update(
        Task, self, current_operations={**task.current_operations, "task": TaskAllowedOperations.DESTROY}
    )


def set_status(ctx: CallContext, *, self: Ref[Task], value: TaskStatusType) -> None:
    """Says how far a task is; RBAC_PERMISSION_DENIED for somebody else's. One that has completed stays as it is."""
    task = own_task(ctx.txn, ctx.session, self)
    if task.status is not TaskStatusType.PENDING:
        return
    ctx.txn.update(Task, self, status=value)
    if value is not TaskStatusType.PENDING:
        ctx.txn.update(Task, self, finished=ctx.now, allowed_operations=())


def set_progress(ctx: CallContext, *, self: Ref[Task], value: float) -> None:
    """Says how much of a task is done, from 0 to 1; RBAC_PERMISSION_DENIED for somebody else's."""
    own_task(ctx.txn, ctx.session, self)
    ctx.txn.update(Task, self, progress=value)


def set_result(ctx: CallContext, *, self: Ref[Task], value: str) -> None:
    """Sets a task's result; RBAC_PERMISSION_DENIED for somebody else's."""
    own_task(ctx.txn, ctx.session, self)
    ctx.txn.update(Task, self, result=value)


def set_error_info(ctx: CallContext, *, self: Ref[Task], value: tuple[str, ...]) -> None:
    """Sets a task's error, code first; RBAC_PERMISSION_DENIED for somebody else's."""
    own_task(ctx.txn, ctx.session, self)
    ctx.txn.update(Task, self, error_info=value)


def set_other_config(ctx: CallContext, *, self: Ref[Task], value: Mapping[str, str]) -> None:
    """Sets a task's further settings; RBAC_PERMISSION_DENIED for somebody else's."""
    own_task(ctx.txn, ctx.session, self)
    ctx.txn.update(Task, self, other_config=dict(value))


def add_to_other_config(ctx: CallContext, *, self: Ref[Task], key: str, value: str) -> None:
    """Adds one of a task's further settings.

    Raises:
        RBAC_PERMISSION_DENIED: It is somebody else's.
        MAP_DUPLICATE_KEY: The key is there.
    """
    config = own_task(ctx.txn, ctx.session, self).other_config
    if key in config:
        raise errors.map_duplicate_key("task", "other_config", self, key)
    ctx.txn.update(Task, self, other_config={**config, key: value})


def remove_from_other_config(ctx: CallContext, *, self: Ref[Task], key: str) -> None:
    """Removes one of a task's further settings; RBAC_PERMISSION_DENIED for somebody else's."""
    config = own_task(ctx.txn, ctx.session, self).other_config
    ctx.txn.update(Task, self, other_config={k: v for k, v in config.items() if k != key})
