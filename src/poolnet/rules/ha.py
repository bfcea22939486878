"""May high availability be turned on or off? See spec §22.1. What it refuses while it is on is with each rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poolnet.model import errors
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext
from poolnet.rules.features import require_no_ha, the_pool

NEEDS = (
    "High availability needs the pool's database on a cluster of three or five hosts, and hosts that fence themselves when "
    "they lose its majority, which those of poolnet do not do yet"
)


def enable_ha(
    ctx: CallContext, *, heartbeat_srs: tuple[Ref[Any], ...], configuration: Mapping[str, str]
) -> None:
    """Says by its error what high availability lacks in this pool.

    Raises:
        HA_IS_ENABLED: It is on already.
        REQUIRED_PIF_IS_UNPLUGGED: PIFs that must not be unplugged are; with all of them.
        OPERATION_NOT_ALLOWED: Hosts do not fence themselves; nobody could tell a dead one from one that is cut off.
    """
    require_no_ha(ctx.txn)
    down = tuple(pif.ref for pif in ctx.txn.all(PIF) if pif.disallow_unplug and not pif.currently_attached)
    if down:
        raise errors.required_pif_is_unplugged(down)
    raise errors.operation_not_allowed(NEEDS)


def disable_ha(ctx: CallContext) -> None:
    """Turns high availability off, which only a database from elsewhere can have on.

    Raises:
        HA_NOT_ENABLED: It is off.
    """
    pool = the_pool(ctx.txn)
    if not pool.ha_enabled:
        raise errors.ha_not_enabled()
    ctx.txn.update(Pool, pool.ref, ha_enabled=False)
