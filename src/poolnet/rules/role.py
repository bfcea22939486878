"""Which permissions does a role hold, and who has a permission? See spec §3.6.

Roles and permissions are objects that never change while the server runs; their references and uuids follow from their
names, so that they are the same everywhere, and the same as the reference's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final
from uuid import UUID

from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.role import RoleRecord
from poolnet.model.registry import MESSAGES
from poolnet.model.roles import CLIENT_CERT_ROLE, Role, allows
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext

_DESCRIPTIONS: Final = {
    Role.POOL_ADMIN: "The Pool Administrator role has full access to all features and settings",
    Role.POOL_OPERATOR: "The Pool Operator role manages host- and pool-wide resources",
    Role.VM_POWER_ADMIN: "The VM Power Administrator role has full access to VM and template management",
    Role.VM_ADMIN: "The VM Administrator role manages VMs and templates",
    Role.VM_OPERATOR: "The VM Operator role uses VMs and interacts with their consoles",
    Role.READ_ONLY: "The Read-Only role logs in with basic read-only access",
}


def role_uuid(name: str) -> str:
    """The uuid of the role or permission with this name."""
    return str(UUID(bytes=hashlib.md5(name.encode(), usedforsecurity=False).digest()))


def role_ref(name: str) -> Ref[RoleRecord]:
    """The reference of the role or permission with this name."""
    return Ref(f"OpaqueRef:{role_uuid(name)}")


def write_roles(txn: Txn) -> None:
    """Makes the objects of all roles and permissions what the model says; done at every start."""
    wanted = {row.ref: row for row in _records()}
    for ref in tuple(txn.refs(RoleRecord)):
        if ref not in wanted:
            txn.destroy(RoleRecord, ref)
    for ref, row in wanted.items():
        if not txn.exists(RoleRecord, ref):
            txn.create(row)
        else:
            txn.update(
                RoleRecord,
                ref,
                name_description=row.name_description,
                subroles=row.subroles,
                is_internal=row.is_internal,
            )


def _records() -> Iterator[RoleRecord]:
    permissions = _permissions()
    for role in Role:
        held = tuple(role_ref(name) for name, least in permissions.items() if allows(role, least))
        yield _record(role.value, _DESCRIPTIONS[role], held)
    certified = tuple(
        role_ref(message.full_name.lower()) for message in MESSAGES.values() if message.client_cert_allowed
    )
    yield _record(
        CLIENT_CERT_ROLE, "The role of clients that log in with a certificate", certified, internal=True
    )
    for name in permissions:
        yield _record(name, "A basic permission", ())


def _permissions() -> dict[str, Role | None]:
    """The least role for each permission: of every message, and of the protected keys of maps."""
    least = {message.full_name.lower(): message.min_role for message in MESSAGES.values()}
    for message in MESSAGES.values():
        for key, role in message.map_key_roles.items():
            least[f"{message.full_name.lower()}/key:{key}"] = role
    return least


def _record(
    name: str, description: str, subroles: tuple[Ref[RoleRecord], ...], *, internal: bool = False
) -> RoleRecord:
    return RoleRecord(
        ref=role_ref(name),
        uuid=role_uuid(name),
        name_label=name,
        name_description=description,
        subroles=subroles,
        is_internal=internal,
    )


def get_permissions(ctx: CallContext, *, self: Ref[RoleRecord]) -> tuple[Ref[RoleRecord], ...]:
    """The permissions that a role holds."""
    return ctx.txn.get(RoleRecord, self).subroles


def get_permissions_name_label(ctx: CallContext, *, self: Ref[RoleRecord]) -> tuple[str, ...]:
    """The names of the permissions that a role holds."""
    held = (ctx.txn.find(RoleRecord, ref) for ref in ctx.txn.get(RoleRecord, self).subroles)
    return tuple(row.name_label for row in held if row is not None)


def get_by_permission(ctx: CallContext, *, permission: Ref[RoleRecord]) -> tuple[Ref[RoleRecord], ...]:
    """The roles that hold a permission."""
    ctx.txn.get(RoleRecord, permission)
    return tuple(row.ref for row in ctx.txn.all(RoleRecord) if permission in row.subroles)


def get_by_permission_name_label(ctx: CallContext, *, label: str) -> tuple[Ref[RoleRecord], ...]:
    """The roles that hold the permission of that name; none for a name that is none."""
    found = next((row for row in ctx.txn.by_name_label(RoleRecord, label) if not row.subroles), None)
    return () if found is None else get_by_permission(ctx, permission=found.ref)


def require_role(txn: Txn, ref: Ref[RoleRecord]) -> RoleRecord:
    """The role, to be given to a subject.

    Raises:
        ROLE_NOT_FOUND: There is none, or it is a permission or internal.
    """
    row = txn.find(RoleRecord, ref)
    if row is None or not row.subroles or row.is_internal:
        raise errors.role_not_found()
    return row
