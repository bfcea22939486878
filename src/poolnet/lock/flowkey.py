"""What does Open vSwitch read from a frame? The fields that its rules can look at.

Written from the documented and observed behaviour of its userspace parser, and deliberately not from the
policy's reader: the two are compared with each other. A field that is not there, or cut off, reads as zero.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from poolnet.lock.flows import Field

NO_ETHERTYPE = 0x05FF  # what a frame with a length instead of an EtherType counts as
LATER, ANY = 2, 1  # kinds of fragment


@dataclass(slots=True)
class _Reader:
    """A frame that is consumed from the front, and the fields found so far."""

    rest: bytes
    key: dict[Field, int] = field(default_factory=dict)

    def pull(self, size: int) -> bytes | None:
        """The next `size` bytes, or None if there are fewer."""
        if len(self.rest) < size:
            return None
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def put(self, name: Field, value: bytes | int) -> None:
        self.key[name] = value if isinstance(value, int) else int.from_bytes(value)


def flow_key(frame: bytes, in_port: int) -> dict[Field, int]:
    """The fields of a frame that enters at `in_port`; what is missing from the answer is zero.

    As with `vlan-limit=1` (the default) and `set-frags nx-match`: one tag is read, and the first fragment's
    ports.
    """
    reader = _Reader(frame)
    reader.put(Field.IN_PORT, in_port)
    if len(frame) < 14:
        return reader.key
    reader.put(Field.ETH_DST, reader.pull(6) or b"")
    reader.put(Field.ETH_SRC, reader.pull(6) or b"")
    if reader.rest[:2] in (b"\x81\x00", b"\x88\xa8") and len(reader.rest) >= 6:
        tag = reader.pull(4) or b""
        reader.put(Field.VLAN, int.from_bytes(tag[2:4]) & 0xFFF | 0x1000)
    ethertype = _ethertype(reader)
    reader.put(Field.ETHERTYPE, ethertype)
    if ethertype == 0x0806:
        _read_arp(reader)
    elif ethertype == 0x0800:
        _read_ipv4(reader)
    elif ethertype == 0x86DD:
        _read_ipv6(reader)
    return reader.key


def _ethertype(reader: _Reader) -> int:
    ethertype = int.from_bytes(reader.pull(2) or b"")
    if ethertype >= 0x600:
        return ethertype
    if len(reader.rest) < 8 or reader.rest[:6] != b"\xaa\xaa\x03\0\0\0":
        return NO_ETHERTYPE
    snap = int.from_bytes((reader.pull(8) or b"")[6:])
    return snap if snap >= 0x600 else NO_ETHERTYPE


def _read_arp(reader: _Reader) -> None:
    packet = reader.pull(28)
    if packet is None or packet[:6] != b"\0\x01\x08\0\x06\x04":
        return
    operation = int.from_bytes(packet[6:8])
    reader.put(Field.ARP_OPERATION, operation if operation <= 0xFF else 0)
    reader.put(Field.ARP_SENDER_MAC, packet[8:14])
    reader.put(Field.ARP_SENDER, packet[14:18])
    reader.put(Field.ARP_TARGET, packet[24:28])


def _read_ipv4(reader: _Reader) -> None:
    head = reader.rest[:20]
    if len(head) < 20:
        return
    header, total = (head[0] & 0xF) * 4, int.from_bytes(head[2:4])
    if header < 20 or header > len(reader.rest) or total > len(reader.rest) or header > total:
        return
    reader.rest = reader.rest[:total]
    reader.pull(header)
    reader.put(Field.IPV4_SOURCE, head[12:16])
    reader.put(Field.IPV4_DESTINATION, head[16:20])
    reader.put(Field.PROTOCOL, head[9])
    reader.put(Field.HOP_LIMIT, head[8])
    position = int.from_bytes(head[6:8])
    fragment = (ANY if position & 0x3FFF else 0) | (LATER if position & 0x1FFF else 0)
    reader.put(Field.FRAGMENT, fragment & ANY)
    if not fragment & LATER and head[9] == 17:
        _read_udp(reader)


def _read_ipv6(reader: _Reader) -> None:
    if len(reader.rest) < 40 or 40 + int.from_bytes(reader.rest[4:6]) > len(reader.rest):
        return
    head = reader.pull(40) or b""
    reader.rest = reader.rest[: int.from_bytes(head[4:6])]
    reader.put(Field.IPV6_SOURCE, head[8:24])
    reader.put(Field.IPV6_DESTINATION, head[24:40])
    followed = _follow_extension_headers(reader, head[6])
    if followed is None:
        return
    protocol, fragment = followed
    reader.put(Field.HOP_LIMIT, head[7])
    reader.put(Field.PROTOCOL, protocol)
    reader.put(Field.FRAGMENT, fragment & ANY)
    if fragment & LATER:
        return
    if protocol == 17:
        _read_udp(reader)
    elif protocol == 58:
        _read_icmpv6(reader)


def _follow_extension_headers(reader: _Reader, protocol: int) -> tuple[int, int] | None:
    """The last header's protocol and the kind of fragment; None when a header is cut off."""
    fragment = 0
    while protocol in (0, 43, 44, 51, 60):
        if len(reader.rest) < 8:
            return None
        following, units = reader.rest[0], reader.rest[1]
        if protocol == 44:
            position = int.from_bytes((reader.pull(8) or b"")[2:4])
            fragment |= ANY if position else 0
            if position & 0xFFF8:
                return 44, fragment | LATER
        elif reader.pull((units + 2) * 4 if protocol == 51 else (units + 1) * 8) is None:
            return None
        protocol = following
    return protocol, fragment


def _read_udp(reader: _Reader) -> None:
    header = reader.pull(8)
    if header is not None:
        reader.put(Field.SOURCE_PORT, header[:2])
        reader.put(Field.DESTINATION_PORT, header[2:4])


def _read_icmpv6(reader: _Reader) -> None:
    header = reader.pull(8)
    if header is None:
        return
    reader.put(Field.ICMP_TYPE, header[0])
    reader.put(Field.ICMP_CODE, header[1])
    if header[0] not in (135, 136) or header[1] != 0:
        return
    target = reader.pull(16)
    if target is None:
        return
    links = {1: 0, 2: 0}
    while len(reader.rest) >= 8:
        size = reader.rest[1] * 8
        if size == 0 or size > len(reader.rest):
            break
        option = reader.pull(size) or b""
        if option[0] in links and size == 8:
            if links[option[0]]:
                return  # given twice: neither target nor link addresses count
            links[option[0]] = int.from_bytes(option[2:])
    reader.put(Field.ND_TARGET, target)
    reader.put(Field.ND_SOURCE_LINK, links[1])
    reader.put(Field.ND_TARGET_LINK, links[2])
