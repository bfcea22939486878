"""The packets that a lock must let through, and those it must stop (dataplane.md, appendix H3, and four more).

The prover and the tests build them for a port's own addresses; the names are those of the appendix: L for
legitimate, A for attack. The frames are untagged unless the tag is the point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from struct import pack

from poolnet.lock.craft import (
    arp,
    destination_options,
    ethernet,
    fragment_header,
    icmpv6,
    ipv4,
    ipv6,
    llc,
    neighbor,
    router_alert,
    tcp,
    udp,
    udp6,
    vlan_tag,
)
from poolnet.lock.owned import link_local, parse_mac

BROADCAST = b"\xff" * 6
ANY4, BROADCAST4 = IPv4Address(0), IPv4Address("255.255.255.255")
ANY6, ALL_NODES, ALL_ROUTERS = IPv6Address(0), IPv6Address("ff02::1"), IPv6Address("ff02::2")
MLDV2_ROUTERS, DHCPV6_SERVERS = IPv6Address("ff02::16"), IPv6Address("ff02::1:2")
IP4, ARP, IP6 = 0x0800, 0x0806, 0x86DD
TCP, UDP, ICMPV6, IGMP, SCTP = 6, 17, 58, 2, 132
SLL, TLL = 1, 2  # link address options
FOREIGN_MAC = parse_mac("aa:00:00:00:00:ee")


class Expect(StrEnum):
    """What must happen to a packet from a locked port; EITHER when the verdict alone decides nothing."""

    PASS = "pass"  # noqa: S105 - a word of the protocol, no secret
    DROP = "drop"
    EITHER = "either"


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Whose packets: those of the locked port, and those of a neighbour that it must not pretend to be."""

    mac: bytes
    ipv4: IPv4Address
    ipv6: IPv6Address
    victim_mac: bytes
    victim_ipv4: IPv4Address
    victim_ipv6: IPv6Address

    @property
    def local(self) -> IPv6Address:
        """The port's own link-local address."""
        return link_local(self.mac)

    def eth(self, ethertype: int, payload: bytes, to: bytes | None = None) -> bytes:
        """A frame from the port's own MAC, to the neighbour if not said otherwise."""
        return ethernet(to or self.victim_mac, self.mac, ethertype, payload)

    def arp(
        self, operation: int, sender: IPv4Address, target: IPv4Address, sha: bytes | None = None
    ) -> bytes:
        """An ARP frame with the port's own source MAC: requests to all, replies to the neighbour."""
        to, tha = (BROADCAST, bytes(6)) if operation == 1 else (self.victim_mac, self.victim_mac)
        return self.eth(ARP, arp(operation, (sha or self.mac, sender), (tha, target)), to)

    def ip4(
        self,
        source: IPv4Address,
        protocol: int,
        payload: bytes,
        to: IPv4Address | None = None,
        **fragment: int,
    ) -> bytes:
        """An IPv4 frame; `fragment` as in `craft.ipv4`."""
        target = to or self.victim_ipv4
        packet = ipv4(
            source,
            target,
            protocol,
            payload,
            offset_bytes=fragment.get("offset_bytes", 0),
            more=bool(fragment.get("more", 0)),
        )
        return self.eth(IP4, packet, BROADCAST if target == BROADCAST4 else None)

    def ip6(self, source: IPv6Address, to: IPv6Address, protocol: int, payload: bytes) -> bytes:
        """An IPv6 frame with hop limit 255, to the multicast MAC where the address is multicast."""
        link = b"\x33\x33" + to.packed[12:] if to.is_multicast else self.victim_mac
        return self.eth(IP6, ipv6(source, to, protocol, payload), link)

    def icmp(self, source: IPv6Address, to: IPv6Address, kind: int, body: bytes) -> bytes:
        """An ICMPv6 frame."""
        return self.ip6(source, to, ICMPV6, icmpv6(source, to, kind, body))


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast address that neighbour solicitations for `address` are sent to."""
    return IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + address.packed[13:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A packet of the corpus."""

    name: str
    title: str
    expect: Expect
    build: Callable[[Addresses], bytes]


def _ns(a: Addresses, source: IPv6Address, target: IPv6Address, *links: bytes) -> bytes:
    return a.icmp(source, solicited_node(target), 135, neighbor(target, *((SLL, link) for link in links)))


def _na(
    a: Addresses, source: IPv6Address, target: IPv6Address, *options: tuple[int, bytes], override: int = 0x20
) -> bytes:
    return a.icmp(source, ALL_NODES, 136, neighbor(target, *options, flags=override))


def _ra(source: IPv6Address) -> bytes:
    return icmpv6(source, ALL_NODES, 134, pack("!BBHII", 64, 0, 1800, 0, 0))


def _na_victim(a: Addresses) -> bytes:
    return icmpv6(a.ipv6, ALL_NODES, 136, neighbor(a.victim_ipv6, (TLL, a.mac), flags=0x20))


def _fragments(message: bytes, protocol: int, cut: int) -> tuple[bytes, bytes]:
    """`message` as the payloads of two IPv6 fragments, cut at a multiple of 8 bytes."""
    return (
        fragment_header(protocol, more=True) + message[:cut],
        fragment_header(protocol, offset_bytes=cut) + message[cut:],
    )


def _hidden(message: bytes, fragment: int) -> bytes:
    """`message` behind destination options that fill the first fragment."""
    return _fragments(destination_options(ICMPV6) + message, 60, 8)[fragment]


def _bootp(operation: int, hardware: bytes) -> bytes:
    head = pack("!BBBBIHH", operation, 1, 6, 0, 0x1234, 0, 0x8000) + bytes(16)
    return head + hardware.ljust(16, b"\0") + bytes(192) + b"\x63\x82\x53\x63\x35\x01\x01\xff"


def _mldv2_report(source: IPv6Address, group: IPv6Address) -> bytes:
    message = icmpv6(source, MLDV2_ROUTERS, 143, pack("!HHBBH", 0, 1, 4, 0, 0) + group.packed)
    return router_alert(ICMPV6) + message


def _dhcpv6(source: IPv6Address, ports: tuple[int, int], to: IPv6Address) -> bytes:
    return udp6(source, to, ports, b"\x01\x00\x12\x34")


L, A = Expect.PASS, Expect.DROP
_PING = bytes(1200)
_LEGITIMATE: tuple[tuple[str, str, Callable[[Addresses], bytes]], ...] = (
    ("L01", "IPv4 TCP own ip", lambda a: a.ip4(a.ipv4, TCP, tcp(40000, 80))),
    ("L02", "ARP request own ip", lambda a: a.arp(1, a.ipv4, a.victim_ipv4)),
    ("L03", "ARP reply own ip", lambda a: a.arp(2, a.ipv4, a.victim_ipv4)),
    ("L04", "gratuitous ARP request", lambda a: a.arp(1, a.ipv4, a.ipv4)),
    (
        "L05",
        "gratuitous ARP reply (broadcast)",
        lambda a: a.eth(ARP, arp(2, (a.mac, a.ipv4), (BROADCAST, a.ipv4)), BROADCAST),
    ),
    ("L06", "ARP probe own ip (RFC 5227)", lambda a: a.arp(1, ANY4, a.ipv4)),
    ("L07", "DHCP discover", lambda a: a.ip4(ANY4, UDP, udp(68, 67, _bootp(1, a.mac)), BROADCAST4)),
    ("L08", "DHCP renew unicast own ip", lambda a: a.ip4(a.ipv4, UDP, udp(68, 67, _bootp(1, a.mac)))),
    ("L09", "IPv4 later fragment own ip", lambda a: a.ip4(a.ipv4, UDP, bytes(64), offset_bytes=1480)),
    (
        "L10",
        "IGMP report own ip",
        lambda a: a.ip4(a.ipv4, IGMP, bytes.fromhex("16000904e0000005"), IPv4Address("224.0.0.5")),
    ),
    ("L11", "IPv6 TCP own ip", lambda a: a.ip6(a.ipv6, a.victim_ipv6, TCP, tcp(40000, 80))),
    ("L12", "NS own ip with SLL", lambda a: _ns(a, a.ipv6, a.victim_ipv6, a.mac)),
    (
        "L13",
        "NS unicast without SLL (NUD)",
        lambda a: a.icmp(a.ipv6, a.victim_ipv6, 135, neighbor(a.victim_ipv6)),
    ),
    ("L14", "NS from LL with SLL", lambda a: _ns(a, a.local, a.victim_ipv6, a.mac)),
    ("L15", "DAD NS for own global", lambda a: _ns(a, ANY6, a.ipv6)),
    ("L16", "DAD NS for own LL", lambda a: _ns(a, ANY6, a.local)),
    ("L17", "NA own ip with own TLL", lambda a: _na(a, a.ipv6, a.ipv6, (TLL, a.mac))),
    ("L18", "NA own global from LL", lambda a: _na(a, a.local, a.ipv6, (TLL, a.mac))),
    ("L19", "RS from LL", lambda a: a.icmp(a.local, ALL_ROUTERS, 133, bytes(4) + bytes((SLL, 1)) + a.mac)),
    ("L20", "RS from ::", lambda a: a.icmp(ANY6, ALL_ROUTERS, 133, bytes(4))),
    (
        "L21",
        "MLDv2 report from :: (DAD)",
        lambda a: a.ip6(ANY6, MLDV2_ROUTERS, 0, _mldv2_report(ANY6, solicited_node(a.ipv6))),
    ),
    (
        "L22",
        "MLDv2 report from LL",
        lambda a: a.ip6(a.local, MLDV2_ROUTERS, 0, _mldv2_report(a.local, solicited_node(a.ipv6))),
    ),
    (
        "L23",
        "DHCPv6 solicit from LL",
        lambda a: a.ip6(a.local, DHCPV6_SERVERS, UDP, _dhcpv6(a.local, (546, 547), DHCPV6_SERVERS)),
    ),
    ("L24", "IPv6 SCTP own ip", lambda a: a.ip6(a.ipv6, a.victim_ipv6, SCTP, bytes(12))),
    (
        "L25",
        "IPv6 UDP first fragment own ip",
        lambda a: a.ip6(a.ipv6, a.victim_ipv6, 44, _fragments(udp(40000, 53, _PING), UDP, 64)[0]),
    ),
    (
        "L26",
        "IPv6 later fragment own ip",
        lambda a: a.ip6(a.ipv6, a.victim_ipv6, 44, _fragments(udp(40000, 53, _PING), UDP, 64)[1]),
    ),
    ("L27", "ICMPv6 echo own ip", lambda a: a.icmp(a.ipv6, a.victim_ipv6, 128, bytes(60))),
    (
        "L28a",
        "big ping6 first fragment",
        lambda a: a.ip6(
            a.ipv6, a.victim_ipv6, 44, _fragments(icmpv6(a.ipv6, a.victim_ipv6, 128, _PING), ICMPV6, 800)[0]
        ),
    ),
    (
        "L28b",
        "big ping6 later fragment",
        lambda a: a.ip6(
            a.ipv6, a.victim_ipv6, 44, _fragments(icmpv6(a.ipv6, a.victim_ipv6, 128, _PING), ICMPV6, 800)[1]
        ),
    ),
    ("L29", "big IPv4 UDP first fragment", lambda a: a.ip4(a.ipv4, UDP, udp(40000, 53, _PING)[:800], more=1)),
)

_ATTACKS: tuple[tuple[str, str, Expect, Callable[[Addresses], bytes]], ...] = (
    (
        "A01",
        "MAC spoof",
        A,
        lambda a: ethernet(a.victim_mac, FOREIGN_MAC, IP4, ipv4(a.ipv4, a.victim_ipv4, TCP, tcp(40000, 80))),
    ),
    ("A02", "IPv4 spoof", A, lambda a: a.ip4(a.victim_ipv4, TCP, tcp(40000, 80), a.ipv4)),
    ("A03", "IPv4 from 0.0.0.0, not DHCP", A, lambda a: a.ip4(ANY4, UDP, udp(40000, 53))),
    ("A04", "ARP reply for the victim's ip", A, lambda a: a.arp(2, a.victim_ipv4, a.ipv4)),
    ("A05", "ARP request from the victim's ip", A, lambda a: a.arp(1, a.victim_ipv4, a.ipv4)),
    (
        "A06",
        "ARP reply own ip, foreign sender MAC",
        A,
        lambda a: a.arp(2, a.ipv4, a.victim_ipv4, FOREIGN_MAC),
    ),
    (
        "A07",
        "ARP request own ip, foreign sender MAC",
        A,
        lambda a: a.arp(1, a.ipv4, a.victim_ipv4, FOREIGN_MAC),
    ),
    ("A08", "ARP reply with sender 0.0.0.0", A, lambda a: a.arp(2, ANY4, a.ipv4)),
    ("A09", "ARP probe for the victim's ip", A, lambda a: a.arp(1, ANY4, a.victim_ipv4)),
    (
        "A10",
        "UDP to 67 from the victim's ip, unicast",
        A,
        lambda a: a.ip4(a.victim_ipv4, UDP, udp(68, 67), a.ipv4),
    ),
    (
        "A11",
        "DHCP server reply own ip",
        A,
        lambda a: a.ip4(a.ipv4, UDP, udp(67, 68, _bootp(2, a.victim_mac))),
    ),
    (
        "A12",
        "DHCPv6 server reply from LL",
        A,
        lambda a: a.ip6(a.local, a.victim_ipv6, UDP, _dhcpv6(a.local, (547, 546), a.victim_ipv6)),
    ),
    (
        "A13",
        "DHCPv6 server reply own global",
        A,
        lambda a: a.ip6(a.ipv6, a.victim_ipv6, UDP, _dhcpv6(a.ipv6, (547, 546), a.victim_ipv6)),
    ),
    ("A14", "RA from LL", A, lambda a: a.ip6(a.local, ALL_NODES, ICMPV6, _ra(a.local))),
    ("A15", "RA from own global", A, lambda a: a.ip6(a.ipv6, ALL_NODES, ICMPV6, _ra(a.ipv6))),
    (
        "A16",
        "RA behind destination options",
        A,
        lambda a: a.ip6(a.local, ALL_NODES, 60, destination_options(ICMPV6) + _ra(a.local)),
    ),
    (
        "A17a",
        "tiny first fragment, RA hidden",
        A,
        lambda a: a.ip6(a.local, ALL_NODES, 44, _hidden(_ra(a.local), 0)),
    ),
    (
        "A17b",
        "later fragment with the RA",
        Expect.EITHER,
        lambda a: a.ip6(a.local, ALL_NODES, 44, _hidden(_ra(a.local), 1)),
    ),
    (
        "A18",
        "RA in a first fragment",
        A,
        lambda a: a.ip6(a.local, ALL_NODES, 44, fragment_header(ICMPV6, more=True) + _ra(a.local)),
    ),
    ("A19", "NA for the victim's ip", A, lambda a: _na(a, a.ipv6, a.victim_ipv6, (TLL, a.mac))),
    ("A20", "NA own ip, foreign TLL", A, lambda a: _na(a, a.ipv6, a.ipv6, (TLL, FOREIGN_MAC))),
    ("A21", "NS with foreign SLL", A, lambda a: _ns(a, a.ipv6, a.victim_ipv6, FOREIGN_MAC)),
    ("A22", "NS from the victim's ip", A, lambda a: _ns(a, a.victim_ipv6, a.ipv6, a.mac)),
    (
        "A23",
        "NA for the victim behind options",
        A,
        lambda a: a.ip6(a.ipv6, ALL_NODES, 60, destination_options(ICMPV6) + _na_victim(a)),
    ),
    (
        "A24a",
        "tiny first fragment, NA hidden",
        A,
        lambda a: a.ip6(a.ipv6, ALL_NODES, 44, _hidden(_na_victim(a), 0)),
    ),
    (
        "A24b",
        "later fragment with the NA",
        Expect.EITHER,
        lambda a: a.ip6(a.ipv6, ALL_NODES, 44, _hidden(_na_victim(a), 1)),
    ),
    (
        "A25",
        "NA for the victim in a first fragment",
        A,
        lambda a: a.ip6(a.ipv6, ALL_NODES, 44, fragment_header(ICMPV6, more=True) + _na_victim(a)),
    ),
    ("A26", "DAD NS for the victim's ip", A, lambda a: _ns(a, ANY6, a.victim_ipv6)),
    (
        "A27",
        "NA with TLL twice, own and foreign",
        A,
        lambda a: _na(a, a.ipv6, a.ipv6, (TLL, a.mac), (TLL, FOREIGN_MAC)),
    ),
    (
        "A28",
        "NA with own SLL, foreign TLL",
        A,
        lambda a: _na(a, a.ipv6, a.ipv6, (SLL, a.mac), (TLL, FOREIGN_MAC)),
    ),
    (
        "A29",
        "redirect from LL",
        A,
        lambda a: a.icmp(a.local, a.victim_ipv6, 137, bytes(4) + a.local.packed + a.ipv6.packed),
    ),
    ("A30", "IPv6 spoof TCP", A, lambda a: a.ip6(a.victim_ipv6, a.ipv6, TCP, tcp(40000, 80))),
    (
        "A31",
        "IPv6 from ::, no neighbour discovery",
        A,
        lambda a: a.ip6(ANY6, a.victim_ipv6, UDP, udp(40000, 53)),
    ),
    ("A32", "802.1Q tag, own MAC and ip", A, lambda a: vlan_tag(a.ip4(a.ipv4, TCP, tcp(40000, 80)), 20)),
    (
        "A33",
        "priority tag, own ip",
        Expect.EITHER,
        lambda a: vlan_tag(a.ip4(a.ipv4, TCP, tcp(40000, 80)), 0x6000),
    ),
    ("A34", "service tag (88a8)", A, lambda a: vlan_tag(a.ip4(a.ipv4, TCP, tcp(40000, 80)), 20, 0x88A8)),
    ("A35", "two 802.1Q tags", A, lambda a: vlan_tag(vlan_tag(a.ip4(a.ipv4, TCP, tcp(40000, 80)), 20), 30)),
    ("A36", "RARP", A, lambda a: a.eth(0x8035, arp(3, (a.mac, a.ipv4), (a.mac, a.ipv4)), BROADCAST)),
    ("A37", "unknown EtherType", A, lambda a: a.eth(0x88B5, bytes(46))),
    (
        "A38",
        "spanning tree BPDU",
        A,
        lambda a: llc(bytes.fromhex("0180c2000000"), a.mac, bytes.fromhex("424203") + bytes(35)),
    ),
    (
        "A39",
        "LLDP",
        A,
        lambda a: a.eth(0x88CC, bytes.fromhex("020704") + a.mac, bytes.fromhex("0180c200000e")),
    ),
    (
        "A40",
        "multicast source MAC",
        A,
        lambda a: ethernet(
            a.victim_mac, b"\x01" + a.mac[1:], IP4, ipv4(a.ipv4, a.victim_ipv4, TCP, tcp(40000, 80))
        ),
    ),
    (
        "A41",
        "DHCP discover for a foreign MAC",
        Expect.EITHER,
        lambda a: a.ip4(ANY4, UDP, udp(68, 67, _bootp(1, a.victim_mac)), BROADCAST4),
    ),
    (
        "A42",
        "ARP with wrong address lengths",
        Expect.EITHER,
        lambda a: a.eth(ARP, arp(2, (a.mac, a.victim_ipv4), (a.mac, a.ipv4), sizes=(8, 16)), BROADCAST),
    ),
    ("A43", "MLD query", Expect.EITHER, lambda a: a.icmp(a.local, ALL_NODES, 130, bytes(24))),
    (
        "A44",
        "IGMP query",
        Expect.EITHER,
        lambda a: a.ip4(a.ipv4, IGMP, bytes.fromhex("1164ee9b00000000"), IPv4Address("224.0.0.1")),
    ),
    (
        "A45",
        "IPv6 with cut off header chain",
        A,
        lambda a: a.ip6(a.ipv6, a.victim_ipv6, 0, b"\x3a\x08" + bytes(14)),
    ),
    (
        "A46",
        "IPv6 in IPv4 from own ip",
        Expect.EITHER,
        lambda a: a.ip4(a.ipv4, 41, ipv6(a.victim_ipv6, a.ipv6, 59, b"")),
    ),
    (
        "A47a",
        "DHCP reply, first fragment, broadcast",
        A,
        lambda a: a.ip4(a.ipv4, UDP, udp(67, 68, _bootp(2, a.victim_mac))[:64], BROADCAST4, more=1),
    ),
    (
        "A47b",
        "DHCP reply, later fragment, broadcast",
        Expect.EITHER,
        lambda a: a.ip4(a.ipv4, UDP, udp(67, 68, _bootp(2, a.victim_mac))[64:], BROADCAST4, offset_bytes=64),
    ),
    (
        "A48a",
        "DHCP reply, first fragment, unicast",
        A,
        lambda a: a.ip4(a.ipv4, UDP, udp(67, 68, _bootp(2, a.victim_mac))[:64], more=1),
    ),
    (
        "A49",
        "RA in an atomic fragment",
        A,
        lambda a: a.ip6(a.local, ALL_NODES, 44, fragment_header(ICMPV6) + _ra(a.local)),
    ),
    (
        "A50",
        "DHCPv6 server, first fragment",
        A,
        lambda a: a.ip6(a.local, a.victim_ipv6, 44, _fragments(udp(547, 546, _PING), UDP, 64)[0]),
    ),
    # Not in the appendix: clients look at the destination port alone, and a server may answer from any (RFC 8415 §7.2).
    (
        "A51",
        "DHCP server reply from another port",
        A,
        lambda a: a.ip4(a.ipv4, UDP, udp(1067, 68, _bootp(2, a.victim_mac))),
    ),
    (
        "A52",
        "DHCPv6 server reply from another port",
        A,
        lambda a: a.ip6(a.local, a.victim_ipv6, UDP, _dhcpv6(a.local, (40000, 546), a.victim_ipv6)),
    ),
    ("A53", "DHCP relay", A, lambda a: a.ip4(a.ipv4, UDP, udp(67, 67, _bootp(2, a.victim_mac)))),
    (
        "A54",
        "DHCPv6 relay",
        A,
        lambda a: a.ip6(a.local, a.victim_ipv6, UDP, _dhcpv6(a.local, (547, 547), a.victim_ipv6)),
    ),
)

CORPUS: tuple[Case, ...] = (
    *(Case(name=name, title=title, expect=L, build=build) for name, title, build in _LEGITIMATE),
    *(Case(name=name, title=title, expect=expect, build=build) for name, title, expect, build in _ATTACKS),
)
