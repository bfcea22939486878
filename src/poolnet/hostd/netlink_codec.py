"""How are links written in the kernel's routing messages, and read from them? Pure; `netlink_links` sends and receives.

A host has a thousand links and looks at all of them after every change. The library spends a millisecond on each; what
is needed of them are a dozen attributes, which take a hundredth of that (docs/decisions/0007).
Numbers: <linux/rtnetlink.h>, <linux/if_link.h>.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
RTM_NEWQDISC: Final = 36
RTM_DELQDISC: Final = 37
RTM_GETQDISC: Final = 38
RTM_NEWTFILTER: Final = 44
RTM_DELTFILTER: Final = 45
RTM_GETTFILTER: Final = 46
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_DUMP_INTR: Final = 0x10  # something changed during a dump: it may be wrong
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
IFF_UP: Final = 0x1
IFF_LOWER_UP: Final = 0x10000

_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr
_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # struct ndmsg
_AF_BRIDGE: Final = 7
_TRAFFIC: Final = struct.Struct("=BxxxiIII")  # struct tcmsg
_ATTRIBUTE: Final = struct.Struct("=HH")
_NESTED: Final = 0x8000
_VETH_PEER: Final = 1  # VETH_INFO_PEER
_TYPE_MASK: Final = 0x3FFF
_SKIP_STATISTICS: Final = 8  # RTEXT_FILTER_SKIP_STATS

Attribute: TypeAlias = tuple[int, bytes]


class Ifla(IntEnum):
    """Attributes of a link."""

    ADDRESS = 1
    IFNAME = 3
    MTU = 4
    LINK = 5
    MASTER = 10
    LINKINFO = 18
    GROUP = 27
    EXT_MASK = 29


class Nda(IntEnum):
    """Attributes of a MAC address in a table, of <linux/neighbour.h>."""

    DST = 1
    LLADDR = 2


class Info(IntEnum):
    """Attributes in LINKINFO: what kind of link it is, and what kind of port of its master."""

    KIND = 1
    DATA = 2
    SLAVE_KIND = 4
    SLAVE_DATA = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link as the kernel has it.

    `data` are the attributes of its kind and `port_data` those that its master has of it, by number, as bytes.
    `master` and `lower` are numbers of links, 0 for none, `group` is a label that anybody may give; the lower link of a VLAN is what its frames leave by.
    `far_ends` are the addresses that a VXLAN device floods to, which are not in the same message: see `netlink_links`.
    """

    index: int
    name: str
    kind: str = ""
    mac: str = ""
    mtu_bytes: int = 0
    master: int = 0
    lower: int = 0
    group: int = 0
    is_up: bool = False
    has_carrier: bool = False
    data: Mapping[int, bytes]
    port_data: Mapping[int, bytes]
    far_ends: frozenset[str] = frozenset()

    def number(self, attribute: int) -> int:
        """The number that an attribute of its kind has; -1 without it."""
        return number_of(self.data.get(attribute))

    def port_number(self, attribute: int) -> int:
        """The number that an attribute of it as a port has; -1 without it."""
        return number_of(self.port_data.get(attribute))


def number_of(content: bytes | None) -> int:
    """An attribute's content as a number in the machine's byte order; -1 if there is none."""
    return -1 if content is None else int.from_bytes(content[:8], "little")


def u8(value: int) -> bytes:
    """A number as an attribute of one byte."""
    return struct.pack("=B", value)


def u16(value: int) -> bytes:
    """A number as an attribute of two bytes."""
    return struct.pack("=H", value)


def u32(value: int) -> bytes:
    """A number as an attribute of four bytes."""
    return struct.pack("=I", value)


def mac_bytes(text: str) -> bytes:
    """A MAC as an attribute. Raises ValueError."""
    return bytes.fromhex(text.replace(":", ""))


def attribute(kind: int, content: bytes) -> bytes:
    """An attribute, padded."""
    return _ATTRIBUTE.pack(len(content) + 4, kind) + content + b"\0" * (-len(content) % 4)


def nested(kind: int, attributes: Sequence[Attribute]) -> bytes:
    """An attribute that has attributes."""
    return attribute(kind | _NESTED, b"".join(attribute(*one) for one in attributes))


def message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """A whole message."""
    return _HEADER.pack(len(body) + _HEADER.size, kind, flags | NLM_F_REQUEST, number, 0) + body


def dump_request(number: int) -> bytes:
    """Asks for all links, without their counters."""
    body = _LINK.pack(0, 0, 0, 0, 0) + attribute(Ifla.EXT_MASK, u32(_SKIP_STATISTICS))
    return message(RTM_GETLINK, NLM_F_DUMP, number, body)


def link_body(index: int, flags: int, change: int, attributes: bytes) -> bytes:
    """The body of a message about one link; index 0 where a name says which."""
    return _LINK.pack(0, 0, index, flags, change) + attributes


def neighbour_body(index: int, state: int, flags: int, attributes: bytes) -> bytes:
    """The body of a message about a MAC address in the table of a bridge or of a device: NUD_* and NTF_* say what and where."""
    return _NEIGHBOUR.pack(_AF_BRIDGE, index, state, flags, 0) + attributes


def neighbours_dump_request(index: int, number: int) -> bytes:
    """Asks for the whole table of the device with that number; the kernel looks for it in a `struct ifinfomsg`."""
    return message(RTM_GETNEIGH, NLM_F_DUMP, number, _LINK.pack(_AF_BRIDGE, 0, index, 0, 0))


def neighbour_in(body: bytes) -> tuple[int, int, dict[int, bytes]]:
    """What a message tells of a MAC address: the number of the device, the flags and the attributes."""
    _, index, _, flags, _ = _NEIGHBOUR.unpack_from(body)
    return index, flags, dict(attributes_in(body, _NEIGHBOUR.size))


def peer_data(name: str, group: int, mtu_bytes: int) -> Attribute:
    """The attribute of a new veth link that says what its other end is like."""
    parts = (
        attribute(Ifla.IFNAME, name.encode() + b"\0"),
        attribute(Ifla.MTU, u32(mtu_bytes)),
        attribute(Ifla.GROUP, u32(group)),
    )
    return _VETH_PEER | _NESTED, link_body(0, 0, 0, b"".join(parts))


def traffic_body(index: int, handle: int, parent: int, info: int, attributes: bytes) -> bytes:
    """The body of a message about a queue or a filter of a link."""
    return _TRAFFIC.pack(0, index, handle, parent, info) + attributes


def messages_in(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of a datagram: type, flags, number, body."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, flags, number, _ = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        yield kind, flags, number, data[position + _HEADER.size : position + length]
        position += length + (-length % 4)


def attributes_in(data: bytes, start: int = 0) -> Iterator[Attribute]:
    """The attributes of a body from `start` on, without the marks for nested ones."""
    position, end = start, len(data)
    unpack = _ATTRIBUTE.unpack_from
    while position + 4 <= end:
        length, kind = unpack(data, position)
        if length < 4:
            return
        yield kind & _TYPE_MASK, data[position + 4 : position + length]
        position += length + (-length % 4)


def link_in(body: bytes) -> Link:
    """The link that a RTM_NEWLINK message tells of."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes_in(body, _LINK.size))
    info = dict(attributes_in(found.get(Ifla.LINKINFO, b"")))
    return Link(
        index=index,
        name=_text(found.get(Ifla.IFNAME)),
        kind=_text(info.get(Info.KIND)),
        mac=found.get(Ifla.ADDRESS, b"").hex(":"),
        mtu_bytes=number_of(found.get(Ifla.MTU)),
        master=max(0, number_of(found.get(Ifla.MASTER))),
        lower=max(0, number_of(found.get(Ifla.LINK))),
        group=max(0, number_of(found.get(Ifla.GROUP))),
        is_up=bool(flags & IFF_UP),
        has_carrier=bool(flags & IFF_LOWER_UP),
        data=dict(attributes_in(info.get(Info.DATA, b""))),
        port_data=dict(attributes_in(info.get(Info.SLAVE_DATA, b""))),
    )


def _text(content: bytes | None) -> str:
    return "" if content is None else content.rstrip(b"\0").decode(errors="replace")
