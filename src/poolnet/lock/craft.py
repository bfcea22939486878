"""How does a frame look on the wire? Builders of headers from plain values, for the corpus of test packets.

Lengths and checksums are right unless a caller says otherwise, so that nothing but the intended flaw is in a
packet.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from struct import pack

ICMPV6, UDP = 58, 17


def ethernet(destination: bytes, source: bytes, ethertype: int, payload: bytes) -> bytes:
    """An Ethernet II frame; short ones are padded to 60 bytes as a NIC would."""
    return (destination + source + pack("!H", ethertype) + payload).ljust(60, b"\0")


def vlan_tag(frame: bytes, tag: int, tpid: int = 0x8100) -> bytes:
    """`frame` with a tag in front of its EtherType."""
    return frame[:12] + pack("!HH", tpid, tag) + frame[12:]


def llc(destination: bytes, source: bytes, payload: bytes) -> bytes:
    """An IEEE 802.3 frame with a length instead of an EtherType."""
    return ethernet(destination, source, len(payload), payload)


def arp(
    operation: int,
    sender: tuple[bytes, IPv4Address],
    target: tuple[bytes, IPv4Address],
    *,
    sizes: tuple[int, int] = (6, 4),
) -> bytes:
    """An ARP packet for Ethernet and IPv4."""
    head = pack("!HHBBH", 1, 0x0800, *sizes, operation)
    return head + sender[0] + sender[1].packed + target[0] + target[1].packed


def ipv4(
    source: IPv4Address,
    destination: IPv4Address,
    protocol: int,
    payload: bytes,
    *,
    offset_bytes: int = 0,
    more: bool = False,
) -> bytes:
    """An IPv4 packet or fragment."""
    fragment = offset_bytes // 8 | (0x2000 if more else 0)
    head = pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, fragment, 64, protocol, 0)
    addresses = source.packed + destination.packed
    return head[:10] + pack("!H", _checksum(head + addresses)) + addresses + payload


def udp(source_port: int, destination_port: int, payload: bytes = b"") -> bytes:
    """A UDP datagram without checksum (allowed in IPv4)."""
    return pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def udp6(
    source: IPv6Address, destination: IPv6Address, ports: tuple[int, int], payload: bytes = b""
) -> bytes:
    """A UDP datagram with the checksum that IPv6 asks for."""
    return _sealed(source, destination, UDP, udp(*ports, payload), at=6)


def tcp(source_port: int, destination_port: int) -> bytes:
    """The TCP header of a connection's first segment; its checksum is not filled in."""
    return pack("!HHIIHHHH", source_port, destination_port, 1, 0, 0x5002, 64240, 0, 0)


def ipv6(
    source: IPv6Address, destination: IPv6Address, protocol: int, payload: bytes, *, hop_limit: int = 255
) -> bytes:
    """An IPv6 packet; `protocol` is that of the first header in `payload`."""
    return (
        pack("!IHBB", 6 << 28, len(payload), protocol, hop_limit)
        + source.packed
        + destination.packed
        + payload
    )


def icmpv6(source: IPv6Address, destination: IPv6Address, kind: int, body: bytes, *, code: int = 0) -> bytes:
    """An ICMPv6 message; `body` is what follows the checksum."""
    return _sealed(source, destination, ICMPV6, pack("!BBH", kind, code, 0) + body, at=2)


def neighbor(target: IPv6Address, *options: tuple[int, bytes], flags: int = 0) -> bytes:
    """The body of a neighbour solicitation or advertisement with link address options (type, MAC)."""
    return (
        pack("!I", flags << 24)
        + target.packed
        + b"".join(pack("!BB", kind, 1) + mac for kind, mac in options)
    )


def fragment_header(protocol: int, *, offset_bytes: int = 0, more: bool = False) -> bytes:
    """An IPv6 fragment header; with neither offset nor `more` an atomic fragment."""
    return pack("!BBHI", protocol, 0, offset_bytes | (1 if more else 0), 0x1234)


def destination_options(protocol: int, units: int = 1) -> bytes:
    """A destination options header of `units` times 8 bytes, all padding."""
    filler = units * 8 - 4
    return pack("!BBBB", protocol, units - 1, 1, filler) + bytes(filler)


def router_alert(protocol: int) -> bytes:
    """The hop-by-hop header that MLD messages carry (RFC 2711)."""
    return pack("!BBBBHH", protocol, 0, 5, 2, 0, 0x0100)


def with_checksum(data: bytes, *, at: int) -> bytes:
    """`data` with the Internet checksum (RFC 1071) of all of it at this place, where zeros are."""
    return data[:at] + pack("!H", _checksum(data)) + data[at + 2 :]


def _sealed(
    source: IPv6Address, destination: IPv6Address, protocol: int, message: bytes, *, at: int
) -> bytes:
    pseudo = source.packed + destination.packed + pack("!II", len(message), protocol)
    checksum = _checksum(pseudo + message) or 0xFFFF
    return message[:at] + pack("!H", checksum) + message[at + 2 :]


def _checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[index : index + 2]) for index in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
