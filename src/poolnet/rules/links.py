"""What do hosts' links say about PIFs and bonds, and when is an administrator told? See spec §10, §25.

Called with what a host reports, by `facts`. What LACP says has no field in the API; it is kept in the other_config of the
PIFs' metrics, under keys that begin with `lacp-`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from poolnet.db.txn import Txn
from poolnet.hostnet.facts import BondFacts, HostFacts, LacpFacts, NicFacts
from poolnet.model.alerts import BOND_STATUS_CHANGED, NETWORK_ALERT_PRIORITY
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.enums import BondMode, Cls
from poolnet.model.types import Ref
from poolnet.rules.function_evidence import record_refusals
from poolnet.rules.functions import record_devices
from poolnet.rules.message import raise_alert

LACP_KEYS: Final = "lacp-"
NEVER: Final = datetime.fromtimestamp(0, UTC)

NewUuid = Callable[[], str]


def record_links(txn: Txn, host: Ref[Host], facts: HostFacts, now: datetime, new_uuid: NewUuid) -> None:
    """Writes carrier, speed and LACP of NICs and bonds, and raises an alert where a bond's links changed.

    Also called after a change of bonds: a report may have come before the bond that it is about was committed.
    """
    record_devices(txn, host, facts.nics, new_uuid)
    record_refusals(txn, host, facts.nics, now, new_uuid)
    nics = {nic.name: nic for nic in facts.nics}
    lacp = _lacp_of_members(facts.bonds)
    for pif in txn.where(PIF, host=host):
        if pif.bond_master_of:
            _record_bond(txn, pif, facts.bonds, nics, now, new_uuid)
        elif pif.physical and pif.device in nics:
            nic = nics[pif.device]
            _write_metrics(
                txn,
                pif,
                now,
                new_uuid,
                carrier=nic.carrier,
                speed=nic.speed_mbps if nic.carrier else 0,
                duplex=nic.carrier and nic.full_duplex,
                pci_bus_path=nic.pci_bus_path,
                vendor_id=nic.vendor_id,
                device_id=nic.device_id,
                vendor_name=nic.vendor_name,
                device_name=nic.device_name,
            )
            _write_lacp(txn, pif, lacp.get(pif.device, {}))


def _record_bond(
    txn: Txn,
    pif: PIF,
    reports: Sequence[BondFacts],
    nics: Mapping[str, NicFacts],
    now: datetime,
    new_uuid: NewUuid,
) -> None:
    bond = txn.find(Bond, pif.bond_master_of[0])
    if bond is None:
        return
    members = sorted(member.device for member in txn.where(PIF, bond_slave_of=bond.ref))
    reported = _report_on(reports, pif.device, members)
    if reported is None and pif.currently_attached and len(members) > 1:
        return  # it has just been made: what there is to say comes soon
    up = _with_link(members, reported, nics)
    counted = up
    if bond.mode is BondMode.ACTIVE_BACKUP:
        counted = [name for name in up if name in reported.active] if reported else up[:1]
    links = [nics[name] for name in counted if name in nics]
    first = _write_metrics(
        txn,
        pif,
        now,
        new_uuid,
        carrier=bool(up),
        speed=sum(nic.speed_mbps for nic in links),
        duplex=bool(links) and all(nic.full_duplex for nic in links),
    )
    _write_lacp(txn, pif, _lacp_of_bond(reported.lacp) if reported and reported.lacp else {})
    if len(members) > 1:
        if reported is not None:
            text = _status(members, len(up), None if first else bond.links_up)
            _tell(txn, pif, text, now, new_uuid)
        txn.update(Bond, bond.ref, links_up=len(up))


def _report_on(reports: Sequence[BondFacts], device: str, members: Sequence[str]) -> BondFacts | None:
    """What the host reports of this bond; what it reports of an earlier one of the same name does not count."""
    return next((b for b in reports if b.device == device and set(b.members) == set(members)), None)


def _with_link(members: Sequence[str], reported: BondFacts | None, nics: Mapping[str, NicFacts]) -> list[str]:
    if reported is not None:
        return [name for name in members if name in reported.members_up]
    return [name for name in members if name in nics and nics[name].carrier]


def _status(members: Sequence[str], up: int, was: int | None) -> str:
    """The words of spec §25; "" when there is nothing to tell. `was` is None when the bond is seen for the first time."""
    total = len(members)
    name = f"The status of the {'+'.join(members)} bond"
    if was is None:
        return "" if up == total else f"{name} is: {up}/{total} up"
    return "" if up == was else f"{name} changed: {up}/{total} up (was {was}/{total})"


def _tell(txn: Txn, pif: PIF, text: str, now: datetime, new_uuid: NewUuid) -> None:
    if text:
        raise_alert(
            txn,
            new_uuid,
            now,
            name=BOND_STATUS_CHANGED,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=txn.get(Host, pif.host).uuid,
            body=text,
        )


def _write_metrics(txn: Txn, pif: PIF, now: datetime, new_uuid: NewUuid, **fields: Any) -> bool:
    """Writes changed values, and then when they changed; says whether these are the first. Missing metrics are made."""
    metrics = txn.find(PIFMetrics, pif.metrics)
    if metrics is None:
        metrics = PIFMetrics(ref=Ref(f"OpaqueRef:{new_uuid()}"), uuid=new_uuid())
        txn.create(metrics)
        txn.update(PIF, pif.ref, metrics=metrics.ref)
    first = metrics.last_updated == NEVER
    if first or any(getattr(metrics, name) != value for name, value in fields.items()):
        txn.update(PIFMetrics, metrics.ref, last_updated=now, **fields)
    return first


def _write_lacp(txn: Txn, pif: PIF, lacp: Mapping[str, str]) -> None:
    metrics = txn.find(PIFMetrics, pif.metrics)
    if metrics is not None:
        kept = {k: v for k, v in metrics.other_config.items() if not k.startswith(LACP_KEYS)}
        txn.update(PIFMetrics, metrics.ref, other_config={**kept, **lacp})


def _lacp_of_bond(lacp: LacpFacts) -> dict[str, str]:
    return {
        "lacp-negotiated": _word(lacp.negotiated),
        "lacp-partner": lacp.partner_system,
        "lacp-time": "fast" if lacp.fast else "slow",
    }


def _lacp_of_members(bonds: Sequence[BondFacts]) -> dict[str, dict[str, str]]:
    return {
        member.name: {
            "lacp-current": _word(member.current),
            "lacp-attached": _word(member.attached),
            "lacp-enabled": _word(member.name in bond.enabled),
            "lacp-partner": member.partner_system,
            "lacp-partner-key": str(member.partner_key),
            "lacp-partner-port": str(member.partner_port),
        }
        for bond in bonds
        if bond.lacp is not None
        for member in bond.lacp.members
    }


def _word(value: bool) -> str:
    return "true" if value else "false"
