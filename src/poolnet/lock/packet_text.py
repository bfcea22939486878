"""Which frame do these words mean? Packets as people write them, for `vif-lock-explain`.

A packet is one kind and any number of `field=value`, in words that users of `tcpdump` and `ovs-ofctl` know:

    arp spa=10.0.0.2                   udp src=10.0.0.9 dport=53          na target=fd00::2 tll=02:00:00:00:00:09
    arp op=reply spa=10.0.0.2          dhcp-server                        ethernet type=0x88cc vlan=20

or the frame itself in hexadecimal digits. What is not said is as the VIF would send it: its MAC address, its first
allowed address, a neighbour as the other side.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from struct import pack
from typing import Final, TypeVar

from poolnet.hostnet.state import PortLock
from poolnet.lock import craft
from poolnet.lock.owned import link_local, owned, parse_mac
from poolnet.lock.packets import ALL_NODES, ALL_ROUTERS, BROADCAST, BROADCAST4, solicited_node
from poolnet.lock.prove import NO_IPV4, NO_IPV6

FRAME_BYTES_MAX: Final = 9216
TEXT_MAX: Final = 2 * FRAME_BYTES_MAX + 64
_HEX: Final = re.compile(r"(?:0x)?((?:[0-9a-fA-F]{2}[\s:]?)+)")
_ALIASES: Final = {
    "dl_src": "smac", "eth_src": "smac", "dl_dst": "dmac", "eth_dst": "dmac", "dl_vlan": "vlan", "vid": "vlan",
    "dl_type": "type", "eth_type": "type",
    "arp_spa": "spa", "arp_tpa": "tpa", "arp_sha": "sha", "arp_tha": "tha", "arp_op": "op", "psrc": "spa", "pdst": "tpa",
    "nw_src": "src", "ip_src": "src", "ipv6_src": "src", "nw_dst": "dst", "ip_dst": "dst", "ipv6_dst": "dst",
    "nw_proto": "proto", "tp_src": "sport", "tp_dst": "dport", "udp_src": "sport", "udp_dst": "dport",
    "tcp_src": "sport", "tcp_dst": "dport", "nw_frag": "frag", "nw_ttl": "hlim", "ttl": "hlim",
    "icmp_type": "type", "icmpv6_type": "type", "icmp_code": "code", "icmpv6_code": "code",
    "nd_target": "target", "nd_sll": "sll", "nd_tll": "tll",
}  # fmt: skip
_KINDS: Final = {"ip": "ipv4", "ip4": "ipv4", "ip6": "ipv6", "eth": "ethernet", "icmpv6": "icmp6"}
_PROTOCOLS: Final = {
    "icmp": 1,
    "igmp": 2,
    "tcp": 6,
    "udp": 17,
    "gre": 47,
    "esp": 50,
    "icmp6": 58,
    "icmpv6": 58,
    "sctp": 132,
}
_OPERATIONS: Final = {"request": 1, "reply": 2}
_ICMP6_KINDS: Final = {"rs": 133, "ra": 134, "ns": 135, "na": 136, "redirect": 137, "ping6": 128}
_FRAGMENTS: Final = {"first": (0, True), "later": (1480, False), "middle": (1480, True)}

T = TypeVar("T")


class PacketTextError(ValueError):
    """The words mean no frame; the text says why."""


def frame_of(text: str, lock: PortLock) -> bytes:
    """The frame, from the destination MAC on. Raises PacketTextError, and ValueError when the lock is impossible."""
    if len(text) > TEXT_MAX:
        raise PacketTextError(f"a packet of more than {FRAME_BYTES_MAX} bytes")
    words = text.split()
    if not words:
        raise PacketTextError("no packet; try 'arp spa=10.0.0.2'")
    if (digits := _HEX.fullmatch(text.strip())) is not None and "=" not in text:
        return _from_hex(digits[1])
    return _Maker(words, lock).frame()


def _from_hex(digits: str) -> bytes:
    frame = bytes.fromhex(re.sub(r"[\s:]", "", digits))
    if len(frame) < 14:
        raise PacketTextError("a frame has at least 14 bytes")
    return frame


@dataclass(slots=True)
class _Maker:
    """The words of one packet, taken one by one; what is left over at the end is a mistake."""

    words: list[str]
    lock: PortLock
    given: dict[str, str] = field(default_factory=dict)

    def frame(self) -> bytes:
        """Builds what the words say."""
        kind = self.words[0].lower()
        kind = _KINDS.get(kind, kind)
        for word in self.words[1:]:
            name, equals, value = word.partition("=")
            name = _ALIASES.get(name.lower(), name.lower())
            if not equals or name in self.given:
                raise PacketTextError(
                    f"'{word}' is no FIELD=VALUE" if not equals else f"'{name}' is given twice"
                )
            self.given[name] = value
        makers: Mapping[str, Callable[[], bytes]] = {
            "arp": lambda: self.arp(0x0806),
            "rarp": lambda: self.arp(0x8035, 3),
            "ipv4": lambda: self.ipv4(None),
            "icmp": lambda: self.ipv4(1),
            "tcp": lambda: self.ip(6),
            "udp": lambda: self.ip(17),
            "tcp6": lambda: self.ipv6(6),
            "udp6": lambda: self.ipv6(17),
            "ipv6": lambda: self.ipv6(None),
            "icmp6": lambda: self.ipv6(58),
            "dhcp": lambda: self.dhcp(server=False),
            "dhcp-server": lambda: self.dhcp(server=True),
            "dhcpv6": lambda: self.dhcpv6(server=False),
            "dhcpv6-server": lambda: self.dhcpv6(server=True),
            "ethernet": self.ethernet,
            **{name: partial(self.icmp6, number) for name, number in _ICMP6_KINDS.items()},
        }
        if kind not in makers:
            raise PacketTextError(f"'{self.words[0]}' is no kind of packet; there are {', '.join(makers)}")
        frame = makers[kind]()
        if self.given:
            raise PacketTextError(f"'{next(iter(self.given))}' is no field of {kind}")
        return frame

    # --- fields -------------------------------------------------------------------------------------------------

    def take(self, name: str, read: Callable[[str], T], default: T) -> T:
        """The value of a field, as `read` reads it."""
        text = self.given.pop(name, None)
        if text is None:
            return default
        try:
            return read(text)
        except (ValueError, KeyError):
            raise PacketTextError(f"'{text}' is no value of {name}") from None

    def number(self, name: str, default: int, most: int, names: Mapping[str, int] | None = None) -> int:
        """A number, decimal or with 0x, or one of some names for numbers."""

        def read(text: str) -> int:
            value = (names or {}).get(text.lower())
            value = int(text, 0) if value is None else value
            if not 0 <= value <= most:
                raise ValueError(text)
            return value

        return self.take(name, read, default)

    @property
    def mac(self) -> bytes:
        """The VIF's own."""
        return parse_mac(self.lock.mac)

    @property
    def own4(self) -> IPv4Address:
        """The first address that the VIF may use."""
        return next((prefix[0] for prefix in owned(self.lock).ipv4), NO_IPV4)

    @property
    def own6(self) -> IPv6Address:
        """The first address that the VIF may use, but the one that every host has."""
        local = link_local(self.mac)
        return next((prefix[0] for prefix in owned(self.lock).ipv6 if prefix[0] != local), NO_IPV6)

    @property
    def neighbour(self) -> bytes:
        """Somebody else's MAC address."""
        return self.mac[:5] + bytes((self.mac[5] ^ 3,))

    def sealed(self, to: bytes, ethertype: int, payload: bytes) -> bytes:
        """The frame around a packet."""
        frame = craft.ethernet(
            self.take("dmac", parse_mac, to), self.take("smac", parse_mac, self.mac), ethertype, payload
        )
        tag = self.number("vlan", -1, 4095)
        if tag < 0 and self.lock.trunks and 0 not in self.lock.trunks:
            tag = self.lock.trunks[0]
        return craft.vlan_tag(frame, tag) if tag >= 0 else frame

    # --- kinds --------------------------------------------------------------------------------------------------

    def arp(self, ethertype: int, operation: int = 1) -> bytes:
        """ARP or RARP."""
        operation = self.number("op", operation, 0xFFFF, _OPERATIONS)
        sender = self.take("sha", parse_mac, self.mac), self.take("spa", IPv4Address, self.own4)
        target_mac = self.take("tha", parse_mac, bytes(6) if operation == 1 else self.neighbour)
        target = target_mac, self.take("tpa", IPv4Address, IPv4Address(int(self.own4) ^ 3))
        to = BROADCAST if operation != 2 else target_mac
        return self.sealed(to, ethertype, craft.arp(operation, sender, target))

    def ip(self, protocol: int) -> bytes:
        """TCP or UDP over whichever IP the addresses are of."""
        is_ipv6 = any(":" in self.given.get(name, "") for name in ("src", "dst"))
        return self.ipv6(protocol) if is_ipv6 else self.ipv4(protocol)

    def ipv4(self, protocol: int | None) -> bytes:
        """An IPv4 packet."""
        source = self.take("src", IPv4Address, self.own4)
        target = self.take("dst", IPv4Address, IPv4Address(int(self.own4) ^ 3))
        if protocol is None:
            protocol = self.number(
                "proto", 17 if {"sport", "dport"} & self.given.keys() else 6, 255, _PROTOCOLS
            )
        payload = self.upper(protocol)
        offset, more = self.take("frag", _FRAGMENTS.__getitem__, (0, False))
        packet = craft.ipv4(source, target, protocol, payload, offset_bytes=offset, more=more)
        return self.sealed(BROADCAST if target == BROADCAST4 else self.neighbour, 0x0800, packet)

    def upper(self, protocol: int) -> bytes:
        """What is behind the IPv4 header."""
        if protocol == 17:
            return craft.udp(self.number("sport", 40000, 0xFFFF), self.number("dport", 53, 0xFFFF), bytes(8))
        if protocol == 6:
            return craft.tcp(self.number("sport", 40000, 0xFFFF), self.number("dport", 80, 0xFFFF))
        if protocol == 1:
            return craft.with_checksum(
                pack("!BBHI", self.number("type", 8, 255), self.number("code", 0, 255), 0, 1), at=2
            )
        return bytes(8)

    def ipv6(self, protocol: int | None) -> bytes:
        """An IPv6 packet."""
        if protocol is None:
            protocol = self.number(
                "proto", 17 if {"sport", "dport"} & self.given.keys() else 6, 255, _PROTOCOLS
            )
        if protocol == 58:
            return self.icmp6(self.number("type", 128, 255))
        source, target = self.addresses(IPv6Address(int(self.own6) ^ 3))
        if protocol == 17:
            ports = self.number("sport", 40000, 0xFFFF), self.number("dport", 53, 0xFFFF)
            payload = craft.udp6(source, target, ports, bytes(8))
        elif protocol == 6:
            payload = craft.tcp(self.number("sport", 40000, 0xFFFF), self.number("dport", 80, 0xFFFF))
        else:
            payload = bytes(8)
        return self.over_ipv6(source, target, protocol, payload, 64)

    def addresses(self, to: IPv6Address) -> tuple[IPv6Address, IPv6Address]:
        """Source and destination."""
        return self.take("src", IPv6Address, self.own6), self.take("dst", IPv6Address, to)

    def over_ipv6(
        self, source: IPv6Address, target: IPv6Address, protocol: int, payload: bytes, hops: int
    ) -> bytes:
        """The IPv6 header around something, and the frame around it."""
        fragment = self.given.pop("frag", None)
        if fragment is not None:
            if fragment not in _FRAGMENTS:
                raise PacketTextError(f"'{fragment}' is no value of frag; there are {', '.join(_FRAGMENTS)}")
            offset, more = _FRAGMENTS[fragment]
            payload = craft.fragment_header(protocol, offset_bytes=offset, more=more) + payload
            protocol = 44
        packet = craft.ipv6(source, target, protocol, payload, hop_limit=self.number("hlim", hops, 255))
        to = b"\x33\x33" + target.packed[12:] if target.is_multicast else self.neighbour
        return self.sealed(to, 0x86DD, packet)

    def icmp6(self, kind: int) -> bytes:
        """An ICMPv6 message; of neighbour discovery with its target and link addresses."""
        code = self.number("code", 0, 255)
        target = self.take(
            "target", IPv6Address, self.own6 if kind != 135 else IPv6Address(int(self.own6) ^ 3)
        )
        links = [*self.link("sll", 1, kind == 135), *self.link("tll", 2, kind == 136)]
        destinations = {133: ALL_ROUTERS, 135: solicited_node(target)}
        source, to = self.addresses(
            destinations.get(kind, ALL_NODES if kind > 128 else IPv6Address(int(self.own6) ^ 3))
        )
        if source == IPv6Address(0):
            links = [link for link in links if link[0] != 1]  # who has no address says no link address
        if kind in (135, 136):
            body = craft.neighbor(target, *links, flags=0x20 if kind == 136 else 0)
        elif kind == 137:
            body = bytes(4) + source.packed + target.packed
        else:
            body = bytes(4) + (bytes(8) if kind == 134 else b"")
        return self.over_ipv6(source, to, 58, craft.icmpv6(source, to, kind, body, code=code), 255)

    def link(self, name: str, number: int, is_usual: bool) -> Iterator[tuple[int, bytes]]:
        """An option with a link address; `none` leaves out the usual one."""
        if self.given.get(name) == "none":
            del self.given[name]
            return
        if is_usual or name in self.given:
            yield number, self.take(name, parse_mac, self.mac)

    def dhcp(self, *, server: bool) -> bytes:
        """A DHCP request of a client, or the answer of a server."""
        nobody = IPv4Address(0)
        source = self.take("src", IPv4Address, self.own4 if server else nobody)
        target = self.take("dst", IPv4Address, BROADCAST4)
        ports = (67, 68) if server else (68, 67)
        payload = craft.udp(
            self.number("sport", ports[0], 0xFFFF), self.number("dport", ports[1], 0xFFFF), bytes(240)
        )
        return self.sealed(
            BROADCAST if target == BROADCAST4 else self.neighbour,
            0x0800,
            craft.ipv4(source, target, 17, payload),
        )

    def dhcpv6(self, *, server: bool) -> bytes:
        """A DHCPv6 solicit of a client, or the answer of a server."""
        to = IPv6Address(int(self.own6) ^ 3) if server else IPv6Address("ff02::1:2")
        source = self.take("src", IPv6Address, link_local(self.mac))
        target = self.take("dst", IPv6Address, to)
        ports = (547, 546) if server else (546, 547)
        chosen = self.number("sport", ports[0], 0xFFFF), self.number("dport", ports[1], 0xFFFF)
        return self.over_ipv6(source, target, 17, craft.udp6(source, target, chosen, b"\x01\x00\x12\x34"), 64)

    def ethernet(self) -> bytes:
        """A frame of any protocol."""
        return self.sealed(BROADCAST, self.number("type", 0x88B5, 0xFFFF), bytes(46))
