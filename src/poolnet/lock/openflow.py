"""Which OpenFlow rules enforce a lock (dataplane.md §B9)?

The host daemon puts `shared_flows` on every bridge with guest ports and `port_flows` there before a port is
connected. The bridge's fail mode must be secure, so that no rule means no traffic, and fragments must be
exposed (`ovs-ofctl set-frags BRIDGE nx-match`), after every start of the switch.

The way of a frame: START sends a guest's frames to ETHERNET, which checks the MAC and sends each protocol to
its own table; those that pass reach OUTPUT by way of SOURCE and ADMITTED. Whatever is wrong sends a frame to
the table of its reason, where each port has a row that counts and drops, or in shadow mode counts and lets it
through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.flows import LOCAL_PORT, Action, Field, Final, Flow, Term, exactly
from poolnet.lock.owned import Owned, owned
from poolnet.lock.reasons import DropReason

SHARED_COOKIE = 0x1
PORT_COOKIES = 0x7E01_0000_0000_0000
PORT_COOKIE_MASK = 0xFFFF_FFFF_0000_0000


class Table(IntEnum):
    """The tables of the pipeline; those of the reasons follow from 50 on."""

    START = 0
    ETHERNET = 10
    ARP = 11
    IPV4 = 12
    IPV6 = 13
    NEIGHBOR = 14
    DUPLICATE = 15  # address detection
    SOURCE = 20
    ADMITTED = 30
    OUTPUT = 40


FIRST_REASON_TABLE = 50
COUNTED: tuple[DropReason, ...] = tuple(reason for reason in DropReason if reason is not DropReason.DISABLED)
_TABLE_OF = {reason: FIRST_REASON_TABLE + index for index, reason in enumerate(COUNTED)}
_REASON_AT = {table: reason for reason, table in _TABLE_OF.items()}

_ARP = exactly(Field.ETHERTYPE, 0x0806)
_IPV4 = exactly(Field.ETHERTYPE, 0x0800)
_IPV6 = exactly(Field.ETHERTYPE, 0x86DD)
_UDP = exactly(Field.PROTOCOL, 17)
_ICMPV6 = (_IPV6, exactly(Field.PROTOCOL, 58))
_FRAGMENT = exactly(Field.FRAGMENT, 1)
_CODE_0 = exactly(Field.ICMP_CODE, 0)
_ONE_LINK = (_CODE_0, exactly(Field.HOP_LIMIT, 255))  # not forwarded by any router
_FROM_NOWHERE = exactly(Field.IPV6_SOURCE, 0)
_ROUTER_TYPES = {
    130: DropReason.ROUTER,
    134: DropReason.ROUTER_ADVERTISEMENT,
    137: DropReason.REDIRECT,
    138: DropReason.ROUTER,
    151: DropReason.ROUTER,
    152: DropReason.ROUTER,
    153: DropReason.ROUTER,
}


def port_cookie(ofport: int) -> int:
    """The cookie of a guest port's rules."""
    return PORT_COOKIES | ofport


def ofport_of(cookie: int) -> int | None:
    """The guest port that a rule with this cookie belongs to, or None."""
    return cookie & ~PORT_COOKIE_MASK if cookie & PORT_COOKIE_MASK == PORT_COOKIES else None


def reason_at(table: int) -> DropReason | None:
    """What the packet counters of the port rows in this table count, or None if it is no reason's table."""
    return _REASON_AT.get(table)


def shared_flows(uplink_ports: Sequence[int | Literal["LOCAL"]]) -> tuple[Flow, ...]:
    """The rules that all guest ports of a bridge share.

    `uplink_ports` (uplink, patch, LOCAL) are not filtered.
    A port that is neither an uplink nor has rules of its own can send nothing.
    """
    flows = [
        _shared(
            Table.START, 50, (exactly(Field.IN_PORT, LOCAL_PORT if port == "LOCAL" else port),), Table.OUTPUT
        )
        for port in uplink_ports
    ]
    flows += [
        _shared(Table.START, 0, (), Final.DROP),
        _shared(Table.ETHERNET, 0, (), Final.DROP),
        *_shared_ipv4(),
        *_shared_ipv6(),
        *_shared_neighbor(),
        *_shared_source(),
        _shared(Table.ADMITTED, 0, (), Table.OUTPUT),
        _shared(Table.OUTPUT, 0, (), Final.NORMAL),
    ]
    flows += [_shared(table, 0, (), Final.DROP) for table in _REASON_AT]
    return tuple(flows)


def port_flows(lock: PortLock, ofport: int, cookie: int) -> tuple[Flow, ...]:
    """The rules of one guest port, besides the shared ones; none when the port is disabled.

    A lock without addresses lets nothing through. Raises ValueError when the lock's MAC or an address is
    none.
    """
    if lock.mode is LockMode.DISABLED:
        return ()
    here = exactly(Field.IN_PORT, ofport)
    if lock.mode is LockMode.UNLOCKED and not lock.trunks:
        return (_flow(cookie, Table.START, 100, (here,), Table.OUTPUT),)
    inside = Table.OUTPUT if lock.mode is LockMode.UNLOCKED else Table.ETHERNET
    flows = [
        _flow(cookie, Table.START, 100, (here, exactly(Field.VLAN, tag | 0x1000 if tag else 0)), inside)
        for tag in dict.fromkeys(lock.trunks or (0,))
    ]
    flows.append(_flow(cookie, Table.START, 90, (here,), _TABLE_OF[DropReason.VLAN]))
    reasons: tuple[DropReason, ...] = (DropReason.VLAN,)
    if lock.mode is LockMode.LOCKED:
        mine = owned(lock)
        flows += (_flow(cookie, *row) for row in _locked_rows(mine, here))
        reasons = _possible_reasons(mine)
    after: Action = Table.OUTPUT if lock.shadow else Final.DROP
    flows += (_flow(cookie, _TABLE_OF[reason], 100, (here,), after, reason) for reason in reasons)
    return tuple(flows)


def _flow(
    cookie: int,
    table: int,
    priority: int,
    match: tuple[Term, ...],
    action: Action,
    reason: DropReason | None = None,
) -> Flow:
    return Flow(table=table, priority=priority, match=match, action=action, cookie=cookie, reason=reason)


def _shared(table: int, priority: int, match: tuple[Term, ...], action: Action) -> Flow:
    return _flow(SHARED_COOKIE, table, priority, match, action, _REASON_AT.get(table))


def _drop(table: int, priority: int, match: tuple[Term, ...], reason: DropReason) -> Flow:
    return _shared(table, priority, match, _TABLE_OF[reason])


def _unreadable(table: int, priority: int, match: tuple[Term, ...], reason: DropReason) -> Flow:
    """A drop of what cannot be read: of such frames the kernel's datapath reads more, and caches by what it has read.

    It would take honest frames for them (decisions/0012).
    """
    return replace(_drop(table, priority, match, reason), apart=True)


def _possible_reasons(mine: Owned) -> tuple[DropReason, ...]:
    """Why this port's frames can be stopped; a protocol without addresses is stopped for its source."""
    inside_ipv6 = COUNTED[COUNTED.index(DropReason.NEIGHBOR_DISCOVERY) :]
    dhcp = {DropReason.DHCP_SERVER} if not mine.ipv4 and not mine.ipv6 else set()
    unused = dhcp if mine.ipv6 else dhcp | set(inside_ipv6)
    return tuple(reason for reason in COUNTED if reason not in unused)


_Row = tuple[int, int, tuple[Term, ...], Action]  # table, priority, match, action


def _locked_rows(mine: Owned, here: Term) -> Iterator[_Row]:
    own_mac = int.from_bytes(mine.mac)
    from_own = (here, exactly(Field.ETH_SRC, own_mac))
    for protocol, prefixes, table, reason in (
        (_ARP, mine.ipv4, Table.ARP, DropReason.ARP),
        (_IPV4, mine.ipv4, Table.IPV4, DropReason.IPV4_SOURCE),
        (_IPV6, mine.ipv6, Table.IPV6, DropReason.IPV6_SOURCE),
    ):
        yield Table.ETHERNET, 100, (*from_own, protocol), table if prefixes else _TABLE_OF[reason]
    yield Table.ETHERNET, 60, from_own, _TABLE_OF[DropReason.ETHERTYPE]
    yield Table.ETHERNET, 50, (here,), _TABLE_OF[DropReason.MAC]
    for prefix4 in mine.ipv4:
        yield from _ipv4_rows(prefix4, here, own_mac)
    for prefix6 in mine.ipv6:
        yield from _ipv6_rows(prefix6, here, own_mac)
    if mine.ipv6:
        solicitation = (here, *_icmpv6(135), _CODE_0)
        for link in (own_mac, 0):
            yield Table.NEIGHBOR, 100, (*solicitation, exactly(Field.ND_SOURCE_LINK, link)), Table.SOURCE


def _ipv4_rows(prefix: IPv4Network, here: Term, own_mac: int) -> Iterator[_Row]:
    own_sender = exactly(Field.ARP_SENDER_MAC, own_mac)
    for operation in (1, 2):
        packet = (here, _ARP, exactly(Field.ARP_OPERATION, operation), own_sender)
        yield Table.ARP, 100, (*packet, *_within(Field.ARP_SENDER, prefix)), Table.ADMITTED
    probe = (here, _ARP, exactly(Field.ARP_OPERATION, 1), own_sender, exactly(Field.ARP_SENDER, 0))
    yield Table.ARP, 120, (*probe, *_within(Field.ARP_TARGET, prefix)), Table.ADMITTED
    yield Table.SOURCE, 100, (here, _IPV4, *_within(Field.IPV4_SOURCE, prefix)), Table.ADMITTED


def _ipv6_rows(prefix: IPv6Network, here: Term, own_mac: int) -> Iterator[_Row]:
    target = _within(Field.ND_TARGET, prefix)
    yield Table.SOURCE, 100, (here, _IPV6, *_within(Field.IPV6_SOURCE, prefix)), Table.ADMITTED
    yield Table.DUPLICATE, 100, (here, *_icmpv6(135), _CODE_0, *target), Table.ADMITTED
    for link in (own_mac, 0):
        advertisement = (here, *_icmpv6(136), _CODE_0, *target, exactly(Field.ND_TARGET_LINK, link))
        yield Table.NEIGHBOR, 100, advertisement, Table.SOURCE


def _shared_ipv4() -> Iterator[Flow]:
    client = (_IPV4, _UDP, exactly(Field.IPV4_SOURCE, 0), exactly(Field.IPV4_DESTINATION, 0xFFFFFFFF))
    ports = (exactly(Field.SOURCE_PORT, 68), exactly(Field.DESTINATION_PORT, 67))
    yield _drop(Table.ARP, 110, (_ARP, exactly(Field.ARP_SENDER, 0)), DropReason.ARP)  # a probe is above
    yield _drop(Table.ARP, 0, (), DropReason.ARP)
    for priority, answer in (
        (210, exactly(Field.DESTINATION_PORT, 68)),
        (200, exactly(Field.SOURCE_PORT, 67)),
    ):
        yield _drop(Table.IPV4, priority, (_IPV4, _UDP, answer), DropReason.DHCP_SERVER)
    yield _shared(Table.IPV4, 100, (*client, *ports), Table.ADMITTED)
    yield _shared(Table.IPV4, 50, (_IPV4,), Table.SOURCE)
    yield _shared(Table.IPV4, 0, (), Final.DROP)


def _shared_ipv6() -> Iterator[Flow]:
    for echo in (128, 129):  # a big ping is fragmented
        yield _shared(Table.IPV6, 330, (*_ICMPV6, _FRAGMENT, exactly(Field.ICMP_TYPE, echo)), Table.SOURCE)
    yield _drop(Table.IPV6, 320, (*_ICMPV6, _FRAGMENT), DropReason.FRAGMENT)
    for kind, reason in _ROUTER_TYPES.items():
        yield _drop(Table.IPV6, 310, _icmpv6(kind), reason)
    yield _drop(Table.IPV6, 310, _icmpv6(0), DropReason.HEADER_CHAIN)  # what is cut off reads as zero
    yield _unreadable(Table.IPV6, 300, (_IPV6, exactly(Field.PROTOCOL, 0)), DropReason.HEADER_CHAIN)
    datagram = (_IPV6, _UDP)
    for priority, answer in (
        (305, exactly(Field.DESTINATION_PORT, 546)),
        (300, exactly(Field.SOURCE_PORT, 547)),
    ):
        yield _drop(Table.IPV6, priority, (*datagram, answer), DropReason.DHCP_SERVER)
    yield _drop(Table.IPV6, 300, (*datagram, _FRAGMENT, exactly(Field.SOURCE_PORT, 0)), DropReason.FRAGMENT)
    link_multicast = _within(Field.IPV6_DESTINATION, IPv6Network("ff02::/16"))
    detection = (_FROM_NOWHERE, *link_multicast, exactly(Field.ND_SOURCE_LINK, 0))
    yield _shared(Table.IPV6, 200, (*_icmpv6(135), *_ONE_LINK, *detection), Table.DUPLICATE)
    for kind in (135, 136):
        yield _shared(Table.IPV6, 190, (*_icmpv6(kind), *_ONE_LINK), Table.NEIGHBOR)
        yield _drop(Table.IPV6, 180, _icmpv6(kind), DropReason.NEIGHBOR_DISCOVERY)
    routers = exactly(Field.IPV6_DESTINATION, int(IPv6Address("ff02::2")))
    reports = exactly(Field.IPV6_DESTINATION, int(IPv6Address("ff02::16")))
    yield _shared(Table.IPV6, 150, (*_icmpv6(133), *_ONE_LINK, _FROM_NOWHERE, routers), Table.ADMITTED)
    yield _shared(Table.IPV6, 150, (*_icmpv6(143), _FROM_NOWHERE, reports), Table.ADMITTED)
    yield _shared(Table.IPV6, 50, (_IPV6,), Table.SOURCE)
    yield _shared(Table.IPV6, 0, (), Final.DROP)


def _shared_neighbor() -> Iterator[Flow]:
    """Stop what has no target, or a link address twice: the switch then reads no target."""
    no_target = exactly(Field.ND_TARGET, 0)
    for kind in (135, 136):
        match = (*_icmpv6(kind), _CODE_0, no_target)
        yield _drop(Table.NEIGHBOR, 110, match, DropReason.NEIGHBOR_DISCOVERY)
    yield _drop(Table.NEIGHBOR, 0, (), DropReason.NEIGHBOR_DISCOVERY)
    yield _drop(Table.DUPLICATE, 110, (*_icmpv6(135), _CODE_0, no_target), DropReason.NEIGHBOR_DISCOVERY)
    yield _drop(Table.DUPLICATE, 0, (), DropReason.NEIGHBOR_DISCOVERY)


def _shared_source() -> Iterator[Flow]:
    """No prefix contains the unspecified address, which is also what a broken header reads as."""
    yield _unreadable(Table.SOURCE, 110, (_IPV4, exactly(Field.IPV4_SOURCE, 0)), DropReason.IPV4_SOURCE)
    yield _drop(Table.SOURCE, 110, (_IPV6, _FROM_NOWHERE), DropReason.IPV6_SOURCE)
    yield _drop(Table.SOURCE, 10, (_IPV4,), DropReason.IPV4_SOURCE)
    yield _drop(Table.SOURCE, 10, (_IPV6,), DropReason.IPV6_SOURCE)
    yield _shared(Table.SOURCE, 0, (), Final.DROP)


def _icmpv6(kind: int) -> tuple[Term, ...]:
    return (*_ICMPV6, exactly(Field.ICMP_TYPE, kind))


def _within(field: Field, prefix: IPv4Network | IPv6Network) -> tuple[Term, ...]:
    """The condition that a field is in a prefix; none at all for a prefix of length 0."""
    network: IPv4Address | IPv6Address = prefix.network_address
    mask = int(prefix.netmask)
    return (Term(field, int(network), mask),) if mask else ()
