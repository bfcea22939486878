"""What of what a host's locks have seen goes into the database? Counters of VIFs, and alerts.

The pool calls `record_locks` whenever a host reports. The counters are in `VIF.runtime_properties`, which the reference
leaves empty; the host decides how often it reports, and how often it tells of the same guest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from poolnet.db.txn import Txn, View
from poolnet.hostnet.derive_port import vif_device
from poolnet.hostnet.facts import PortFacts
from poolnet.hostnet.protocol import DriftFound, LocksSeen, Offence
from poolnet.model.alerts import (
    HOST_ADDRESS_CONFLICT,
    HOST_NETWORK_DRIFT,
    NETWORK_ALERT_PRIORITY,
    VIF_LOCK_ALTERED,
    VIF_LOCK_VIOLATION,
)
from poolnet.model.classes.host import Host
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import Cls
from poolnet.model.types import Ref
from poolnet.rules.attach import LIVE
from poolnet.rules.message import raise_alert

DROPPED: Final = "lock-dropped"
DRIFT_LINES_MAX: Final = 20
WOULD_DROP: Final = "lock-would-drop"


def record_locks(
    txn: Txn, host: Ref[Host], seen: LocksSeen, now: datetime, new_uuid: Callable[[], str]
) -> None:
    """Writes the counters of a host's locks to its VIFs, and raises the alerts; `new_uuid` names them."""
    if not txn.exists(Host, host):
        return
    vifs = dict(_by_device(txn, host))
    for facts in seen.ports:
        if facts.device in vifs:
            _count(txn, vifs[facts.device][0], facts)
    for offence in seen.offences:
        if offence.device in vifs:
            vif, vm = vifs[offence.device]
            raise_alert(
                txn,
                new_uuid,
                now,
                name=VIF_LOCK_VIOLATION,
                priority=NETWORK_ALERT_PRIORITY,
                cls=Cls.VM,
                obj_uuid=vm.uuid,
                body=violation(vif, vm, offence),
            )
    said = [(VIF_LOCK_ALTERED, text) for text in seen.repaired]
    said += [(HOST_ADDRESS_CONFLICT, text) for text in seen.conflicts]
    for name, text in said:
        raise_alert(
            txn,
            new_uuid,
            now,
            name=name,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=txn.get(Host, host).uuid,
            body=text,
        )

    for drift in seen.drifts:
        raise_alert(
            txn,
            new_uuid,
            now,
            name=HOST_NETWORK_DRIFT,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=txn.get(Host, host).uuid,
            body=drifted(txn.get(Host, host).name_label, drift),
        )


def drifted(name: str, drift: DriftFound) -> str:
    """An alert's text: what was changed by hand, one line each, and what became of it."""
    became = "put back" if drift.repaired else "left as it is"
    lines = [f"The network of {name} was changed by somebody else; it was {became}:"]
    lines += [change.text() for change in drift.changes[:DRIFT_LINES_MAX]]
    if len(drift.changes) > DRIFT_LINES_MAX:
        lines.append(f"and {len(drift.changes) - DRIFT_LINES_MAX} more")
    return "\n".join(lines)


def violation(vif: VIF, vm: VM, offence: Offence) -> str:
    """An alert's text: who did what, and how often since it was last told of."""
    done = "would have stopped" if offence.shadow else "stopped"
    frames = "1 frame" if offence.count == 1 else f"{offence.count} frames"
    return (
        f"VIF {vif.device} of {vm.name_label} {offence.did}; "
        f"its lock {done} {frames} (reason {offence.reason}, VIF uuid: {vif.uuid})"
    )


def _by_device(view: View, host: Ref[Host]) -> Iterator[tuple[str, tuple[VIF, VM]]]:
    for vm in view.where(VM, resident_on=host):
        if vm.power_state in LIVE and vm.domid > 0:
            for vif in view.where(VIF, VM=vm.ref):
                if vif.currently_attached and vif.device.isdecimal():
                    yield vif_device(vm.domid, vif.device), (vif, vm)


def _count(txn: Txn, vif: VIF, facts: PortFacts) -> None:
    others = {
        key: value
        for key, value in vif.runtime_properties.items()
        if not key.startswith((DROPPED, WOULD_DROP))
    }
    properties = {**others, **_properties(DROPPED, facts.dropped), **_properties(WOULD_DROP, facts.shadowed)}
    if properties != dict(vif.runtime_properties):
        txn.update(VIF, vif.ref, runtime_properties=properties)


def _properties(name: str, counts: tuple[tuple[str, int], ...]) -> Mapping[str, str]:
    """The sum, and the count of each reason; nothing when nothing was counted."""
    counted = {reason: count for reason, count in counts if count}
    if not counted:
        return {}
    return {name: str(sum(counted.values()))} | {
        f"{name}-{reason}": str(count) for reason, count in counted.items()
    }
