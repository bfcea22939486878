"""How are the XenAPI's bond options written for the kernel's bonding driver, and read back? See spec §9.4, §9.6.

balance-slb is no mode of the mainline driver: it is the mode balance-xor, which chooses a member by source MAC and
VLAN, with the rules of `slb` against loops (dataplane.md §A6, §F7). Numbers: <linux/if_link.h>, <linux/if_bonding.h>.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from poolnet.hostd.linuxbridge.names import BOND, is_ours
from poolnet.hostd.netlink_codec import (
    Attribute,
    Link,
    attributes_in,
    number_of,
    u8,
    u16,
    u32,
)
from poolnet.hostnet.facts import BondFacts, LacpFacts, LacpMemberFacts
from poolnet.hostnet.state import BondMode, BondOptions

MODE, _MIIMON, _UPDELAY, _DOWNDELAY, _HASHING, _PEERS_TOLD = 1, 3, 4, 5, 14, 16  # IFLA_BOND_*
_ACTIVE_MEMBER, _LACP_RATE, _LACP_INFO, _LACP_KEY = 2, 21, 23, 25
_INFO_AGGREGATOR, _INFO_KEY, _INFO_PARTNER_KEY, _INFO_PARTNER_MAC = 1, 3, 4, 5  # IFLA_BOND_AD_INFO_*
MEMBER_STATE, MEMBER_LINK, _MEMBER_AGGREGATOR, _MEMBER_PARTNER = 1, 2, 6, 8  # IFLA_BOND_SLAVE_*
_KERNEL_MODES: Final = {BondMode.ACTIVE_BACKUP: 1, BondMode.BALANCE_SLB: 2, BondMode.LACP: 4}
_BY_ADDRESSES_AND_PORTS, _BY_SOURCE_AND_VLAN = 1, 5  # BOND_XMIT_POLICY_LAYER34, _VLAN_SRCMAC
_TOLD_TIMES = 3  # announcements after a failover
_LINK_UP, _STATE_ACTIVE = 0, 0
_PARTNER_HEARD = 0x10  # LACP_STATE_SYNCHRONIZATION is 0x8, LACP_STATE_COLLECTING 0x10
_MIIMON_DEFAULT_MS = 100
_KEY_MAX = 1023  # what the driver lets a port key have beside speed and duplex
_NO_SYSTEM = "00:00:00:00:00:00"
_ONLY_WHEN_DOWN: Final = frozenset({MODE, _LACP_RATE, _LACP_KEY})


def attributes(options: BondOptions) -> tuple[Attribute, ...]:
    """What the driver is told. A member's delays are whole numbers of the times that it looks at the link."""
    look = options.miimon_ms or _MIIMON_DEFAULT_MS
    told: list[Attribute] = [
        (MODE, u8(_KERNEL_MODES[options.mode])),
        (_MIIMON, u32(look)),
        (_UPDELAY, u32(options.updelay_ms // look * look)),
        (_DOWNDELAY, u32(options.downdelay_ms // look * look)),
    ]
    properties = dict(options.properties)
    match options.mode:
        case BondMode.ACTIVE_BACKUP:
            told.append((_PEERS_TOLD, u8(_TOLD_TIMES)))
        case BondMode.BALANCE_SLB:
            told.append((_HASHING, u8(_BY_SOURCE_AND_VLAN)))
        case BondMode.LACP:
            by_mac = properties.get("hashing_algorithm") == "src_mac"
            told.append((_HASHING, u8(_BY_SOURCE_AND_VLAN if by_mac else _BY_ADDRESSES_AND_PORTS)))
            told.append((_LACP_RATE, u8(properties.get("lacp-time") == "fast")))
            key = properties.get("lacp-aggregation-key", "")
            told.append((_LACP_KEY, u16(int(key) if key.isdecimal() and int(key) <= _KEY_MAX else 0)))
    return tuple(told)


def forming(options: BondOptions) -> tuple[Attribute, ...]:
    """What the driver is told of a new bond: members whose link is up carry traffic at once.

    The delay before one is used is for links that come back.
    """
    return tuple((kind, u32(0) if kind == _UPDELAY else content) for kind, content in attributes(options))


def since_formed(options: BondOptions) -> tuple[Attribute, ...]:
    """What of it the driver is told when the members are in."""
    at_first = forming(options)
    return tuple(one for one in attributes(options) if one not in at_first)


def differences(link: Link, options: BondOptions) -> tuple[Attribute, ...]:
    """What of it the bond does not have yet."""
    return tuple(one for one in attributes(options) if link.number(one[0]) != number_of(one[1]))


def needs_down(changes: Iterable[Attribute]) -> bool:
    """Does the driver take these only while the bond is down?"""
    return any(kind in _ONLY_WHEN_DOWN for kind, _ in changes)


def needs_empty(changes: Iterable[Attribute]) -> bool:
    """Does the driver take these only while the bond has no members?"""
    return any(kind == MODE for kind, _ in changes)


def observed(link: Link, asked: BondOptions) -> BondOptions:
    """The options of a bond: what was asked for, as long as the driver has what that comes to."""
    if not differences(link, asked):
        return asked
    modes = {number: mode for mode, number in _KERNEL_MODES.items()}
    return replace(
        asked,
        mode=modes.get(link.number(MODE), asked.mode),
        miimon_ms=link.number(_MIIMON),
        updelay_ms=link.number(_UPDELAY),
        downdelay_ms=link.number(_DOWNDELAY),
        properties=(*asked.properties, ("changed", "by-others")),
    )


def facts(links: Mapping[str, Link]) -> tuple[BondFacts, ...]:
    """The links of all bonds of ours, as the driver sees them."""
    members: dict[int, list[Link]] = {}
    for link in links.values():
        members.setdefault(link.master, []).append(link)
    return tuple(
        _facts(bond, sorted(members.get(bond.index, ()), key=lambda link: link.name))
        for _, bond in sorted(links.items())
        if is_ours(bond, BOND)
    )


def _facts(bond: Link, members: list[Link]) -> BondFacts:
    up = [member for member in members if member.has_carrier]
    info = dict(attributes_in(bond.data.get(_LACP_INFO, b"")))
    speaks_lacp = bond.number(MODE) == _KERNEL_MODES[BondMode.LACP]
    chosen = bond.number(_ACTIVE_MEMBER)
    aggregator = number_of(info.get(_INFO_AGGREGATOR))
    enabled = [
        member
        for member in up
        if member.port_number(MEMBER_LINK) == _LINK_UP
        and (not speaks_lacp or member.port_number(_MEMBER_AGGREGATOR) == aggregator)
    ]
    active = enabled
    if bond.number(MODE) == _KERNEL_MODES[BondMode.ACTIVE_BACKUP]:
        active = [member for member in enabled if member.index == chosen]
    return BondFacts(
        device=bond.name,
        members=tuple(member.name for member in members),
        members_up=tuple(member.name for member in up),
        enabled=tuple(member.name for member in enabled),
        active=tuple(member.name for member in active),
        lacp=_lacp_facts(bond, info, members, aggregator) if speaks_lacp else None,
    )


def _lacp_facts(bond: Link, info: Mapping[int, bytes], members: Iterable[Link], aggregator: int) -> LacpFacts:
    """The driver tells the partner of the aggregate that carries the traffic only."""
    partner = info.get(_INFO_PARTNER_MAC, b"").hex(":")
    system = "" if partner == _NO_SYSTEM else partner
    of_members = []
    for member in members:
        attached = member.port_number(_MEMBER_AGGREGATOR) == aggregator and bool(system)
        heard = max(0, member.port_number(_MEMBER_PARTNER)) & _PARTNER_HEARD != 0
        of_members.append(
            LacpMemberFacts(
                name=member.name,
                current=heard,
                attached=attached,
                partner_system=system if attached else "",
                partner_key=max(0, number_of(info.get(_INFO_PARTNER_KEY))) if attached else 0,
            )
        )
    return LacpFacts(
        negotiated=bool(system),
        fast=bond.number(_LACP_RATE) == 1,
        system=bond.mac,
        key=max(0, number_of(info.get(_INFO_KEY))),
        members=tuple(of_members),
    )
