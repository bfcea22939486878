"""Who has changed which lock, from what to what? One structured line in the log of the API server for each.

Written once the change is durable and carried out on its host, never before; refused calls leave none. The log only grows,
and is the journal's: who may read it is the host's administrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import structlog

from poolnet.db.changes import Changes
from poolnet.db.txn import View
from poolnet.hostnet.derive_port import SHADOW_KEY
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.types import Ref, Row
from poolnet.pool.audit_entry import track_id
from poolnet.rules.context import Session

log = structlog.get_logger("poolnet.audit")

EVENT: Final = "lock-changed"
_FIELDS: Final[Mapping[type[Row], tuple[str, ...]]] = {
    VIF: ("locking_mode", "ipv4_allowed", "ipv6_allowed", "trunks", "network"),
    Network: ("default_locking_mode",),
}


def note(method: str, session: Session, changes: Changes, view: View) -> None:
    """Writes a line for each VIF and network whose lock these changes concern; `view` is after them."""
    for key, written in changes.updated.items():
        cls, ref = key
        seen = changes.seen.get(key, {})
        before, after = _texts(cls, seen), _texts(cls, written)
        before = {name: value for name, value in before.items() if name in after}
        if before != after:
            _write(method, session, view, cls, ref, before, after)
    for row in changes.created:
        if isinstance(row, VIF):
            values = {name: getattr(row, name) for name in (*_FIELDS[VIF], "other_config")}
            _write(method, session, view, VIF, row.ref, {}, _texts(VIF, values))


def _texts(cls: type[Row], values: Mapping[str, object]) -> dict[str, Any]:
    """The values that are about locks, as a log writes them."""
    found = {name: _text(values[name]) for name in _FIELDS.get(cls, ()) if name in values}
    settings = values.get("other_config")
    if cls is VIF and isinstance(settings, Mapping):
        found[SHADOW_KEY] = settings.get(SHADOW_KEY, "")
    return found


def _text(value: object) -> Any:
    return list(value) if isinstance(value, tuple) else str(value)


def _write(
    method: str,
    session: Session,
    view: View,
    cls: type[Row],
    ref: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    row = view.find(cls, Ref(ref))
    vm = view.find(VM, row.VM) if isinstance(row, VIF) else None
    log.info(
        EVENT,
        user=session.user,
        role=session.role.value if session.role is not None else "superuser",
        session=track_id(session.ref),
        method=method,
        cls=cls.wire_name,
        uuid=getattr(row, "uuid", ""),
        vm=vm.uuid if vm is not None else "",
        before=dict(before),
        after=dict(after),
    )
