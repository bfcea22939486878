"""What may a guest send? The meaning of a lock, on the bytes of a frame.

This is the definition: compilers are tested and live switches are proved against it. It reads frames by the
RFCs and knows nothing of any switch. Where a frame is so broken that every receiver discards it, the
definition follows what switches can see, and a comment says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.owned import NO_MAC, Owned, owned
from poolnet.lock.reasons import DropReason

ETHERTYPE_MIN = 0x600  # below, the field is a length (IEEE 802.3)
IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
VLAN_TYPES = (0x8100, 0x88A8)  # switches strip either, so either counts as the tag
SNAP = bytes.fromhex("aaaa03000000")  # RFC 1042: an EtherType follows
UDP, ICMPV6, FRAGMENT_HEADER, AUTHENTICATION = 17, 58, 44, 51
OPTION_HEADERS = (0, 43, 60)  # hop-by-hop, routing, destination options: lengths in units of 8 bytes
DHCP_SERVER_PORT, DHCP_CLIENT_PORT = 67, 68
DHCPV6_SERVER_PORT, DHCPV6_CLIENT_PORT = 547, 546
ANY4, ANY6 = IPv4Address(0), IPv6Address(0)
BROADCAST4 = IPv4Address("255.255.255.255")
LINK_MULTICAST = IPv6Network("ff02::/16")
ALL_ROUTERS, MLDV2_ROUTERS = IPv6Address("ff02::2"), IPv6Address("ff02::16")
ECHO_TYPES = (128, 129)
ROUTER_SOLICITATION, NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT, MLDV2_REPORT = 133, 135, 136, 143
SOURCE_LINK_ADDRESS, TARGET_LINK_ADDRESS = 1, 2  # options of neighbour discovery
ROUTER_TYPES = {
    130: DropReason.ROUTER,  # MLD query
    134: DropReason.ROUTER_ADVERTISEMENT,
    137: DropReason.REDIRECT,
    138: DropReason.ROUTER,  # renumbering
    151: DropReason.ROUTER,  # multicast router discovery (RFC 4286)
    152: DropReason.ROUTER,
    153: DropReason.ROUTER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a frame passes, and what is wrong with it. In shadow mode a frame with a reason passes."""

    passes: bool
    reason: DropReason | None = None


def allows(lock: PortLock, frame: bytes) -> Verdict:
    """May a guest behind `lock` send `frame` (from the destination MAC on, without FCS)? Total on any bytes.

    Raises ValueError when the lock itself has a bad MAC or address (see `owned`).
    """
    match lock.mode:
        case LockMode.DISABLED:
            return Verdict(passes=False, reason=DropReason.DISABLED)
        case LockMode.UNLOCKED:
            _, tag_fits = _untag(frame, lock.trunks)
            reason = DropReason.VLAN if lock.trunks and not tag_fits else None
        case LockMode.LOCKED:
            reason = _violation(owned(lock), lock.trunks, frame)
    return Verdict(passes=reason is None or lock.shadow, reason=reason)


def receives(lock: PortLock, frame: bytes) -> bool:
    """May a guest behind `lock` be sent `frame`? No one when disabled; no VLAN that it may not send in, when locked.

    What else its neighbours send is theirs to answer for: a lock is a limit on its own guest.
    """
    if lock.mode is LockMode.DISABLED:
        return False
    if lock.mode is LockMode.UNLOCKED and not lock.trunks:
        return True
    return _untag(frame, lock.trunks)[1] or lock.shadow


def _violation(mine: Owned, trunks: tuple[int, ...], frame: bytes) -> DropReason | None:
    rest, tag_fits = _untag(frame, trunks)
    if not tag_fits:
        return DropReason.VLAN
    if len(frame) < 14 or frame[6:12] != mine.mac:
        return DropReason.MAC
    ethertype, payload = _ethertype(rest)
    if ethertype == ARP:
        return _arp_violation(mine, payload)
    if ethertype == IPV4:
        return _ipv4_violation(mine, payload)
    if ethertype == IPV6:
        return _ipv6_violation(mine, payload)
    return DropReason.ETHERTYPE


def _untag(frame: bytes, trunks: tuple[int, ...]) -> tuple[bytes, bool]:
    """The frame from its EtherType on, behind one VLAN tag, and whether the tag is allowed.

    An access port sends no tag. A trunk port sends the tags in its list, and untagged frames if 0 is in it. A
    priority tag (VLAN 0) is a tag. A tag that is cut off is none: such a frame is stopped for its EtherType.
    """
    rest = frame[12:]
    if len(rest) >= 6 and int.from_bytes(rest[:2]) in VLAN_TYPES:
        tag = int.from_bytes(rest[2:4]) & 0xFFF
        return rest[4:], tag != 0 and tag in trunks
    return rest, not trunks or 0 in trunks


def _ethertype(rest: bytes) -> tuple[int, bytes]:
    """The EtherType, 0 if there is none, and what follows it."""
    ethertype = int.from_bytes(rest[:2]) if len(rest) >= 2 else 0
    if ethertype < ETHERTYPE_MIN and rest[2:8] == SNAP and len(rest) >= 10:
        return int.from_bytes(rest[8:10]), rest[10:]
    return ethertype, rest[2:]


def _arp_violation(mine: Owned, packet: bytes) -> DropReason | None:
    """RFC 826, RFC 5227: requests and replies with one's own addresses, and probes for one's own address."""
    if len(packet) < 28 or packet[:6] != b"\x00\x01\x08\x00\x06\x04" or packet[8:14] != mine.mac:
        return DropReason.ARP
    operation = int.from_bytes(packet[6:8])
    sender, target = IPv4Address(packet[14:18]), IPv4Address(packet[24:28])
    if sender == ANY4:
        probe = operation == 1 and any(target in prefix for prefix in mine.ipv4)
        return None if probe else DropReason.ARP
    own = operation in (1, 2) and any(sender in prefix for prefix in mine.ipv4)
    return None if own else DropReason.ARP


def _ipv4_violation(mine: Owned, packet: bytes) -> DropReason | None:
    """RFC 791, RFC 2131: one's own source; DHCP as a client, never as a server, whatever port that would answer from."""
    if not mine.ipv4 or len(packet) < 20:
        return DropReason.IPV4_SOURCE
    header_bytes, total_bytes = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
    if not 20 <= header_bytes <= total_bytes <= len(packet):
        return DropReason.IPV4_SOURCE
    source, destination = IPv4Address(packet[12:16]), IPv4Address(packet[16:20])
    payload = packet[header_bytes:total_bytes]
    first = int.from_bytes(packet[6:8]) & 0x1FFF == 0
    if packet[9] == UDP and first and len(payload) >= 8:
        ports = (int.from_bytes(payload[:2]), int.from_bytes(payload[2:4]))
        if ports[0] == DHCP_SERVER_PORT or ports[1] == DHCP_CLIENT_PORT:
            return DropReason.DHCP_SERVER
        if ports == (DHCP_CLIENT_PORT, DHCP_SERVER_PORT) and (source, destination) == (ANY4, BROADCAST4):
            return None
    if source != ANY4 and any(source in prefix for prefix in mine.ipv4):
        return None
    return DropReason.IPV4_SOURCE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ipv6:
    """An IPv6 packet behind its extension headers; `payload` is empty in a fragment that is not the first."""

    source: IPv6Address
    destination: IPv6Address
    hop_limit: int
    protocol: int
    fragmented: bool
    payload: bytes


def _ipv6_violation(mine: Owned, data: bytes) -> DropReason | None:
    if not mine.ipv6:
        return DropReason.IPV6_SOURCE
    packet = _read_ipv6(data)
    if packet is None:
        return DropReason.HEADER_CHAIN
    if packet.protocol == ICMPV6:
        return _icmpv6_violation(mine, packet)
    if packet.protocol == UDP:
        whole = len(packet.payload) >= 8
        port = int.from_bytes(packet.payload[:2]) if whole else 0
        if port == DHCPV6_SERVER_PORT or (
            whole and int.from_bytes(packet.payload[2:4]) == DHCPV6_CLIENT_PORT
        ):  # a server may answer from any port (RFC 8415 §7.2)
            return DropReason.DHCP_SERVER
        if packet.fragmented and port == 0:
            return DropReason.FRAGMENT  # RFC 7112: a first fragment has all headers
    return _ipv6_source_violation(mine, packet)


def _read_ipv6(data: bytes) -> _Ipv6 | None:
    """RFC 8200; None when the headers cannot be followed to the upper layer's.

    A fragment header without offset, flag and reserved bits is an atomic fragment, a whole packet (RFC 6946).
    """
    if len(data) < 40 or 40 + int.from_bytes(data[4:6]) > len(data):
        return None
    rest = data[40 : 40 + int.from_bytes(data[4:6])]
    protocol, fragmented = data[6], False
    while protocol in (*OPTION_HEADERS, AUTHENTICATION, FRAGMENT_HEADER):
        if len(rest) < 8:
            return None
        this, protocol = protocol, rest[0]
        if this == FRAGMENT_HEADER:
            size, position = 8, int.from_bytes(rest[2:4])
            fragmented = fragmented or position != 0
            if position & 0xFFF8:
                protocol, rest = FRAGMENT_HEADER, b""
                break
        else:
            size = (rest[1] + 2) * 4 if this == AUTHENTICATION else (rest[1] + 1) * 8
        if len(rest) < size:
            return None
        rest = rest[size:]
    return _Ipv6(
        source=IPv6Address(data[8:24]),
        destination=IPv6Address(data[24:40]),
        hop_limit=data[7],
        protocol=protocol,
        fragmented=fragmented,
        payload=rest,
    )


def _ipv6_source_violation(mine: Owned, packet: _Ipv6) -> DropReason | None:
    if packet.source != ANY6 and any(packet.source in prefix for prefix in mine.ipv6):
        return None
    return DropReason.IPV6_SOURCE


def _icmpv6_violation(mine: Owned, packet: _Ipv6) -> DropReason | None:
    kind, code = (packet.payload[0], packet.payload[1]) if len(packet.payload) >= 8 else (0, 0)
    if packet.fragmented:
        # RFC 6980: neighbour discovery is never fragmented; nor is any other ICMPv6 that a host needs.
        return _ipv6_source_violation(mine, packet) if kind in ECHO_TYPES else DropReason.FRAGMENT
    if kind == 0:
        return DropReason.HEADER_CHAIN  # cut off, or of the reserved type 0
    if kind in ROUTER_TYPES:
        return ROUTER_TYPES[kind]
    if kind in (NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT):
        if code != 0 or packet.hop_limit != 255:
            return DropReason.NEIGHBOR_DISCOVERY
        return _neighbor_violation(mine, packet, kind)
    if packet.source == ANY6 and _is_start_of_a_host(packet, kind, code):
        return None
    return _ipv6_source_violation(mine, packet)


def _is_start_of_a_host(packet: _Ipv6, kind: int, code: int) -> bool:
    """What a host sends before it has an address: a router solicitation, and MLDv2 reports (RFC 3590)."""
    if kind == ROUTER_SOLICITATION:
        return code == 0 and packet.destination == ALL_ROUTERS and packet.hop_limit == 255
    return kind == MLDV2_REPORT and packet.destination == MLDV2_ROUTERS


def _neighbor_violation(mine: Owned, packet: _Ipv6, kind: int) -> DropReason | None:
    """RFC 4861, RFC 4862: ask with one's own link address; answer, and test for duplicates, as oneself."""
    target = IPv6Address(packet.payload[8:24]) if len(packet.payload) >= 24 else ANY6
    links = _link_addresses(packet.payload[24:])
    if target == ANY6 or links is None:
        return DropReason.NEIGHBOR_DISCOVERY
    source_link, target_link = links
    target_is_mine = any(target in prefix for prefix in mine.ipv6)
    if kind == NEIGHBOR_ADVERTISEMENT:
        fine = target_is_mine and target_link in (mine.mac, NO_MAC)
    elif packet.source == ANY6 and packet.destination in LINK_MULTICAST and source_link == NO_MAC:
        return None if target_is_mine else DropReason.NEIGHBOR_DISCOVERY
    else:
        fine = source_link in (mine.mac, NO_MAC)
    return _ipv6_source_violation(mine, packet) if fine else DropReason.NEIGHBOR_DISCOVERY


def _link_addresses(options: bytes) -> tuple[bytes, bytes] | None:
    """The source and target link addresses in the options, NO_MAC for none; None if one is given twice.

    A link address that is not 8 bytes with its header does not count, nor anything behind an option of length
    0 or one that is cut off: receivers discard such messages as a whole (RFC 4861 §7.1, RFC 2464 §6).
    """
    found = {SOURCE_LINK_ADDRESS: NO_MAC, TARGET_LINK_ADDRESS: NO_MAC}
    for kind, body in _options(options):
        if kind in found and len(body) == 6:
            if found[kind] != NO_MAC:
                return None
            found[kind] = body
    return found[SOURCE_LINK_ADDRESS], found[TARGET_LINK_ADDRESS]


def _options(options: bytes) -> Iterable[tuple[int, bytes]]:
    while len(options) >= 8:
        size = options[1] * 8
        if not 0 < size <= len(options):
            return
        yield options[0], options[2:size]
        options = options[size:]
