"""Who may do what? The roles and their order; permission checks and the declarations of messages ask."""

from __future__ import annotations

import enum
from typing import Final


class Role(enum.StrEnum):
    """The roles in decreasing order of privilege: each may do all that the ones after it may (spec §3.6)."""

    POOL_ADMIN = "pool-admin"
    POOL_OPERATOR = "pool-operator"
    VM_POWER_ADMIN = "vm-power-admin"
    VM_ADMIN = "vm-admin"
    VM_OPERATOR = "vm-operator"
    READ_ONLY = "read-only"


LOCAL_ROOT: Final = None
"""In place of a minimum role: only superuser sessions may (root, the Unix socket, the pool's secret)."""

CLIENT_CERT_ROLE: Final = "client-cert"
"""The internal role of clients that log in with a certificate; see `MessageDecl.client_cert_allowed`."""

_ORDER: Final = tuple(Role)


def allows(role: Role, min_role: Role | None) -> bool:
    """Says whether a session with `role` may do what needs at least `min_role` (LOCAL_ROOT: no role may)."""
    return min_role is not LOCAL_ROOT and _ORDER.index(role) <= _ORDER.index(min_role)


def roles_with(min_role: Role | None) -> tuple[str, ...]:
    """Names the roles that may do what needs `min_role`, in decreasing order of privilege."""
    return tuple(role.value for role in _ORDER if allows(role, min_role))
