"""May this session send this message? The permission names of spec §3.6, and the check; sessions and dispatch ask."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from poolnet.model import errors
from poolnet.model.declare import MessageDecl
from poolnet.model.registry import MESSAGES
from poolnet.model.roles import Role, allows, roles_with
from poolnet.model.types import Value


def permission_of(message: MessageDecl) -> str:
    """The name of the permission to send a message."""
    return message.full_name.lower()


@cache
def permissions_of(role: Role) -> tuple[str, ...]:
    """All permissions that a role holds, keys of maps included."""
    names = [permission_of(m) for m in MESSAGES.values() if allows(role, m.min_role)]
    names += [
        f"{permission_of(m)}/key:{key}"
        for m in MESSAGES.values()
        for key, least in m.map_key_roles.items()
        if allows(role, least)
    ]
    return tuple(sorted(names))


def require_permission(role: Role | None, message: MessageDecl, arguments: Mapping[str, Value]) -> None:
    """Lets a session with that role send the message, or refuses.

    Adding or removing a protected key of a map needs that key's role instead of the message's (spec §3.6). A role of
    None is a superuser.

    Raises:
        RBAC_PERMISSION_DENIED: The role is too low; with the permission and the roles that hold it.
    """
    if role is None:
        return
    permission, least = permission_of(message), message.min_role
    key = arguments.get("key")
    if message.map_key_roles and isinstance(key, str):
        protected = _protected_key(message.map_key_roles, key)
        if protected is not None:
            permission, least = f"{permission}/key:{protected}", message.map_key_roles[protected]
    if not allows(role, least):
        raise errors.rbac_permission_denied(
            permission,
            f"No permission in user session. (Roles with this permission: {', '.join(roles_with(least))})",
        )


def _protected_key(keys: Mapping[str, Role], key: str) -> str | None:
    for candidate in keys:
        if candidate == key or (candidate.endswith("*") and key.startswith(candidate[:-1])):
            return candidate
    return None
