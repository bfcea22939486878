"""What else can be said about a VIF? Its other_config, one key of which is about its lock.

`lock-shadow=true` makes a lock count what it would stop and stop nothing, on the switch at once; so it takes the role that
locks take, and not that of the other keys (spec §15.8, §3.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.hostnet.derive_port import SHADOW_KEY
from poolnet.model import errors
from poolnet.model.classes.vif import VIF
from poolnet.model.roles import Role, allows, roles_with
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext

_LEAST: Final = Role.POOL_OPERATOR


def set_other_config(ctx: CallContext, *, self: Ref[VIF], value: Mapping[str, str]) -> None:
    """Sets the VIF's further settings.

    Raises:
        RBAC_PERMISSION_DENIED: The shadow mode of its lock would change, and the role is too low for that.
    """
    _write(ctx, ctx.txn.get(VIF, self), dict(value), "set_other_config")


def add_to_other_config(ctx: CallContext, *, self: Ref[VIF], key: str, value: str) -> None:
    """Adds one of the VIF's further settings.

    Raises:
        MAP_DUPLICATE_KEY: The key is there.
        RBAC_PERMISSION_DENIED: See `set_other_config`.
    """
    vif = ctx.txn.get(VIF, self)
    if key in vif.other_config:
        raise errors.map_duplicate_key("VIF", "other_config", self, key)
    _write(ctx, vif, {**vif.other_config, key: value}, "add_to_other_config")


def remove_from_other_config(ctx: CallContext, *, self: Ref[VIF], key: str) -> None:
    """Removes one of the VIF's further settings; an absent key is no error.

    Raises:
        RBAC_PERMISSION_DENIED: See `set_other_config`.
    """
    vif = ctx.txn.get(VIF, self)
    left = {name: value for name, value in vif.other_config.items() if name != key}
    _write(ctx, vif, left, "remove_from_other_config")


def require_shadow_right(
    ctx: CallContext, before: Mapping[str, str], after: Mapping[str, str], by: str
) -> None:
    """Lets a session change the shadow mode of a lock only if it may change the lock.

    Raises:
        RBAC_PERMISSION_DENIED: Its role is too low.
    """
    role = ctx.session.role
    if before.get(SHADOW_KEY) == after.get(SHADOW_KEY) or role is None or allows(role, _LEAST):
        return
    raise errors.rbac_permission_denied(
        f"vif.{by}/key:{SHADOW_KEY}",
        f"No permission in user session. (Roles with this permission: {', '.join(roles_with(_LEAST))})",
    )


def _write(ctx: CallContext, vif: VIF, value: Mapping[str, str], by: str) -> None:
    require_shadow_right(ctx, vif.other_config, value, by)
    ctx.txn.update(VIF, vif.ref, other_config=value)
