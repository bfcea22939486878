"""May this session send this message? The permission names of spec §3.6, and the check; sessions and dispatch ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.declare import MessageDecl
from poolnet.model.registry import CLASSES, MESSAGES
from poolnet.model.roles import CLIENT_CERT_ROLE, Role, allows, roles_with


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


def require_permission(
    role: Role | None, message: MessageDecl, arguments: Mapping[str, Any], view: View
) -> None:
    """Lets a session with that role send the message, or refuses.

    Adding or removing a protected key of a map needs that key's role instead of the message's; setting a whole map
    needs the message's, and that of each protected key whose value in `view` would change (spec §3.6). A role of None
    is a superuser.

    Raises:
        RBAC_PERMISSION_DENIED: The role is too low; with the permission and the roles that hold it.
    """
    if role is None:
        return
    if message.map_key_roles and _may_touch(role, message, arguments["key"]):
        return
    _require(role, permission_of(message), message.min_role)
    for adding, key in _changed_keys(message, arguments, view):
        _may_touch(role, adding, key)


def certified_permissions() -> tuple[str, ...]:
    """All permissions of clients that have logged in with a certificate."""
    return tuple(sorted(permission_of(m) for m in MESSAGES.values() if m.client_cert_allowed))


def require_certified_permission(message: MessageDecl, arguments: Mapping[str, Any], view: View) -> None:
    """Lets a client that has logged in with a certificate send the message, or refuses (spec §3.6).

    Raises:
        RBAC_PERMISSION_DENIED: The internal role of such clients does not hold the permission, or a key is protected.
    """
    protected = bool(message.map_key_roles) and _protected_key(message.map_key_roles, arguments["key"])
    if message.client_cert_allowed and not protected and not _changes_protected(message, arguments, view):
        return
    raise errors.rbac_permission_denied(
        permission_of(message), f"No permission in a session of {CLIENT_CERT_ROLE}"
    )


def _changes_protected(message: MessageDecl, arguments: Mapping[str, Any], view: View) -> bool:
    return any(
        _protected_key(adding.map_key_roles, key) for adding, key in _changed_keys(message, arguments, view)
    )


def _may_touch(role: Role, message: MessageDecl, key: str) -> bool:
    """Whether the key of a map is protected, and the role may add or remove it; refuses a role that may not."""
    protected = _protected_key(message.map_key_roles, key)
    if protected is None:
        return False
    _require(role, f"{permission_of(message)}/key:{protected}", message.map_key_roles[protected])
    return True


def _changed_keys(
    message: MessageDecl, arguments: Mapping[str, Any], view: View
) -> Iterator[tuple[MessageDecl, str]]:
    """The keys that setting a whole map changes, if it has protected ones, with the message that would add each."""
    name = message.name.removeprefix("set_")
    adding = MESSAGES.get(f"{message.cls}.add_to_{name}")
    if name == message.name or adding is None or not adding.map_key_roles:
        return
    field = next(field for field in CLASSES[message.cls].fields if field.name == name)
    row = view.find(CLASSES[message.cls].python_type, arguments["self"])
    old: Mapping[str, str] = getattr(row, field.attribute) if row is not None else {}
    new: Mapping[str, str] = arguments["value"]
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            yield adding, key


def _require(role: Role, permission: str, least: Role | None) -> None:
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
