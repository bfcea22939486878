"""Which users of an external directory may log in, and with which roles? See spec §3.6."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolnet.model import errors
from poolnet.model.classes.role import RoleRecord
from poolnet.model.classes.subject import Subject
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext
from poolnet.rules.role import require_role, role_ref


def create(ctx: CallContext, *, record: Mapping[str, Any]) -> Ref[Subject]:
    """Admits a user or group, with the role pool-admin.

    Raises:
        SUBJECT_ALREADY_EXISTS: It is admitted.
    """
    identifier = record["subject_identifier"]
    if any(subject.subject_identifier == identifier for subject in ctx.txn.all(Subject)):
        raise errors.subject_already_exists()
    roles = (role_ref(Role.POOL_ADMIN.value),)
    return ctx.txn.create(
        Subject(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            subject_identifier=identifier,
            other_config=record["other_config"],
            roles=roles,
        )
    )


def destroy(ctx: CallContext, *, self: Ref[Subject]) -> None:
    """Admits a user or group no longer."""
    ctx.txn.get(Subject, self)
    ctx.txn.destroy(Subject, self)


def add_to_roles(ctx: CallContext, *, self: Ref[Subject], role: Ref[RoleRecord]) -> None:
    """Gives a subject a role.

    Raises:
        ROLE_NOT_FOUND: There is none such.
        ROLE_ALREADY_EXISTS: The subject has it.
    """
    subject = ctx.txn.get(Subject, self)
    require_role(ctx.txn, role)
    if role in subject.roles:
        raise errors.role_already_exists()
    ctx.txn.update(Subject, self, roles=(*subject.roles, role))


def remove_from_roles(ctx: CallContext, *, self: Ref[Subject], role: Ref[RoleRecord]) -> None:
    """Takes a role from a subject.

    Raises:
        ROLE_NOT_FOUND: The subject does not have it.
    """
    subject = ctx.txn.get(Subject, self)
    if role not in subject.roles:
        raise errors.role_not_found()
    ctx.txn.update(Subject, self, roles=tuple(ref for ref in subject.roles if ref != role))


def get_permissions_name_label(ctx: CallContext, *, self: Ref[Subject]) -> tuple[str, ...]:
    """The names of all permissions that a subject's roles hold."""
    names: dict[str, None] = {}
    for ref in ctx.txn.get(Subject, self).roles:
        role = ctx.txn.find(RoleRecord, ref)
        for permission in role.subroles if role else ():
            row = ctx.txn.find(RoleRecord, permission)
            if row is not None:
                names[row.name_label] = None
    return tuple(names)
