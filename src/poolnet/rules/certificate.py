"""What does the pool know of its hosts' certificates, and when are people told that one ends?

Alerts are those of the reference: 30, 14 and 7 days before the end, and at the end; each once for each certificate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from poolnet.db.txn import Txn
from poolnet.model.alerts import TLS_VERIFICATION_EMERGENCY_DISABLED
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.message import Message
from poolnet.model.classes.pool import Pool
from poolnet.model.enums import CertificateType, Cls
from poolnet.model.types import Ref
from poolnet.rules.message import raise_alert

EMERGENCY_PRIORITY: Final = 2
_STEPS: Final = ((7, "EXPIRING_07", 2), (14, "EXPIRING_14", 3), (30, "EXPIRING_30", 4))
_EXPIRED: Final = ("EXPIRED", 1)
_KINDS: Final = {
    CertificateType.HOST: ("HOST_SERVER_CERTIFICATE", "server"),
    CertificateType.HOST_INTERNAL: ("HOST_INTERNAL_CERTIFICATE", "internal server"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A certificate that a host has."""

    type: CertificateType
    not_before: datetime
    not_after: datetime
    sha256: str
    sha1: str


def record(txn: Txn, host: Ref[Host], seen: tuple[Seen, ...], new_uuid: Callable[[], str]) -> None:
    """Lets the records of a host's own certificates be those that it has."""
    if not txn.exists(Host, host):
        return
    missing = list(seen)
    for row in txn.where(Certificate, host=host):
        same = next(
            (one for one in missing if (one.type, one.sha256) == (row.type, row.fingerprint_sha256)), None
        )
        if same is not None:
            missing.remove(same)
        elif row.type in _KINDS:
            txn.destroy(Certificate, row.ref)
    for one in missing:
        txn.create(
            Certificate(
                ref=Ref(f"OpaqueRef:{new_uuid()}"),
                uuid=new_uuid(),
                type=one.type,
                host=host,
                not_before=one.not_before,
                not_after=one.not_after,
                fingerprint=one.sha256,
                fingerprint_sha256=one.sha256,
                fingerprint_sha1=one.sha1,
            )
        )


def verifying(
    txn: Txn, host: Ref[Host], now: datetime, new_uuid: Callable[[], str], *, verifies: bool
) -> None:
    """Lets a host's record say whether it checks certificates; that it does not is an alert, once until it does again."""
    row = txn.find(Host, host)
    if row is None:
        return
    if verifies:
        pool = next(iter(txn.all(Pool)), None)
        if pool is not None and pool.tls_verification_enabled and not row.tls_verification_enabled:
            txn.update(Host, host, tls_verification_enabled=True)
            for alert in txn.where(Message, name=TLS_VERIFICATION_EMERGENCY_DISABLED, obj_uuid=row.uuid):
                txn.destroy(Message, alert.ref)
        return
    if row.tls_verification_enabled:
        txn.update(Host, host, tls_verification_enabled=False)
    if not txn.where(Message, name=TLS_VERIFICATION_EMERGENCY_DISABLED, obj_uuid=row.uuid):
        text = "This host does not check the certificates of other hosts, because somebody has switched that off."
        raise_alert(
            txn,
            new_uuid,
            now,
            name=TLS_VERIFICATION_EMERGENCY_DISABLED,
            priority=EMERGENCY_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=row.uuid,
            body=f"<body><message>{text}</message><host>{row.uuid}</host></body>",
        )


def warn(txn: Txn, now: datetime, new_uuid: Callable[[], str]) -> None:
    """Raises the alerts that are due and have not been raised yet."""
    for row, name, priority, text in tuple(_due(txn, now)):
        host = txn.find(Host, row.host)
        if host is None:
            continue
        when = row.not_after.strftime("%Y%m%dT%H:%M:%SZ")
        body = f"<body><message>{text}</message><date>{when}</date></body>"
        known = txn.where(Message, name=name, obj_uuid=host.uuid)
        if not any(alert.body == body for alert in known):
            raise_alert(
                txn,
                new_uuid,
                now,
                name=name,
                priority=priority,
                cls=Cls.HOST,
                obj_uuid=host.uuid,
                body=body,
            )


def _due(txn: Txn, now: datetime) -> Iterator[tuple[Certificate, str, int, str]]:
    for row in txn.all(Certificate):
        if row.type not in _KINDS:
            continue
        name, what = _KINDS[row.type]
        left = row.not_after - now
        if left <= timedelta(0):
            yield row, f"{name}_{_EXPIRED[0]}", _EXPIRED[1], f"The TLS {what} certificate has expired."
            continue
        for days, suffix, priority in _STEPS:
            if left <= timedelta(days=days):
                yield row, f"{name}_{suffix}", priority, f"The TLS {what} certificate is expiring soon."
                break
