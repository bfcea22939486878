"""What has become of the bonds: which members have a link, carry traffic, and agree with their partner?

The backend asks. Carrier is in the switch's database; what the switch makes of it (delays, LACP) only its daemon knows,
which tells it in texts for people (`bond/show`, `lacp/show`). Where those are missing, the database must do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from poolnet.hostd.openvswitch import marks
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.tables import Interface, Port, Tables
from poolnet.hostnet.facts import BondFacts, LacpFacts, LacpMemberFacts
from poolnet.ovsdb.values import one_of

_HEAD = re.compile(r"---- (\S+) ----")
_BOND_MEMBER = re.compile(r"(?:member|slave) (\S+): (enabled|disabled)")
_LACP_MEMBER = re.compile(r"(?:member|slave): (\S+): (.*)")
_ACTIVE = ("active member", "active slave")
_NO_SYSTEM = "00:00:00:00:00:00"


@dataclass(slots=True)
class _Shown:
    """One bond of `bond/show`."""

    enabled: set[str] = field(default_factory=set)
    active: str = ""


@dataclass(slots=True)
class _Block:
    """The `name: value` lines of one bond, or of one member, of `lacp/show`; `flags` are a member's."""

    flags: tuple[str, ...] = ()
    values: dict[str, str] = field(default_factory=dict)
    members: dict[str, _Block] = field(default_factory=dict)


def bonded_ports(tables: Tables) -> tuple[Port, ...]:
    """The ports that are bonds of ours, by name."""
    ports = (
        port
        for port in tables.ports.values()
        if port.role is Role.UPLINK and marks.BOND in port.map("external_ids")
    )
    return tuple(sorted(ports, key=lambda port: port.name))


def read(tables: Tables, bond_show: str, lacp_show: str) -> tuple[BondFacts, ...]:
    """The facts of all bonds of ours."""
    shown, lacp = _bonds(bond_show), _lacps(lacp_show)
    return tuple(
        _facts(port, shown.get(port.name), lacp.get(port.name, _Block())) for port in bonded_ports(tables)
    )


def _facts(port: Port, shown: _Shown | None, lacp: _Block) -> BondFacts:
    interfaces = sorted(port.interfaces, key=lambda interface: interface.name)
    up = tuple(interface.name for interface in interfaces if interface.text("link_state") == "up")
    enabled = up if shown is None else tuple(name for name in up if name in shown.enabled)
    active = enabled
    if one_of(port.row.get("bond_mode"), str, "") == "active-backup":
        chosen = shown.active if shown is not None else _active_of(port, interfaces)
        active = tuple(name for name in enabled if name == chosen)
    return BondFacts(
        device=port.name,
        members=tuple(interface.name for interface in interfaces),
        members_up=up,
        enabled=enabled,
        active=active,
        lacp=_lacp_facts(interfaces, lacp) if one_of(port.row.get("lacp"), str, "off") != "off" else None,
    )


def _active_of(port: Port, interfaces: list[Interface]) -> str:
    mac = one_of(port.row.get("bond_active_slave"), str, "")
    return next((i.name for i in interfaces if mac and i.text("mac_in_use") == mac), "")


def _lacp_facts(interfaces: list[Interface], shown: _Block) -> LacpFacts:
    return LacpFacts(
        negotiated="negotiated" in shown.values.get("status", "").split(),
        fast=shown.values.get("lacp_time") == "fast",
        system=shown.values.get("sys_id", ""),
        key=_number(shown.values, "aggregation key"),
        members=tuple(_lacp_member(i, shown.members.get(i.name)) for i in interfaces),
    )


def _lacp_member(interface: Interface, shown: _Block | None) -> LacpMemberFacts:
    current = one_of(interface.row.get("lacp_current"), bool, False)
    if shown is None:
        return LacpMemberFacts(name=interface.name, current=current)
    partner = shown.values.get("partner sys_id", "")
    return LacpMemberFacts(
        name=interface.name,
        current="current" in shown.flags,
        attached="attached" in shown.flags,
        partner_system="" if partner == _NO_SYSTEM else partner,
        partner_key=_number(shown.values, "partner key"),
        partner_port=_number(shown.values, "partner port_id"),
    )


def _bonds(text: str) -> dict[str, _Shown]:
    found: dict[str, _Shown] = {}
    for name, lines in _sections(text):
        shown = found[name] = _Shown()
        member = ""
        for line in lines:
            if match := _BOND_MEMBER.match(line):
                member = match[1]
                if match[2] == "enabled":
                    shown.enabled.add(member)
            elif line in _ACTIVE:
                shown.active = member
    return found


def _lacps(text: str) -> dict[str, _Block]:
    found: dict[str, _Block] = {}
    for name, lines in _sections(text):
        bond = block = found[name] = _Block()
        for line in lines:
            if match := _LACP_MEMBER.match(line):
                block = bond.members[match[1]] = _Block(flags=tuple(match[2].split()))
            else:
                key, _, value = line.partition(": ")
                block.values[key] = value
    return found


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The bonds of a text with their lines, stripped."""
    name, lines = "", list[str]()
    for line in text.splitlines():
        if match := _HEAD.match(line):
            if name:
                yield name, lines
            name, lines = match[1], []
        else:
            lines.append(line.strip())
    if name:
        yield name, lines


def _number(values: Mapping[str, str], key: str) -> int:
    text = values.get(key, "")
    return int(text) if text.isdecimal() else 0
