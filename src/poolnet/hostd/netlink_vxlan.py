"""Where does a VXLAN device flood to? The entries of its table for the address 00:00:00:00:00:00. Pure.

The others it has learnt: behind which other end it heard a MAC address last.

Numbers: <linux/rtnetlink.h>, <linux/neighbour.h>.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from poolnet.hostd import netlink_codec as codec

RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # struct ndmsg
_LINK: Final = struct.Struct("=BxHiII")  # struct ifinfomsg, in which the kernel looks for the device to list
_AF_BRIDGE: Final = 7
_PERMANENT: Final = 0x80 | 0x40  # NUD_PERMANENT, NUD_NOARP
_SELF: Final = 0x02  # NTF_SELF: the table of the device, not that of its bridge
_APPEND: Final = 0x800  # NLM_F_APPEND
_DESTINATION, _MAC = 1, 2  # NDA_DST, NDA_LLADDR
EVERYBODY: Final = bytes(6)

Message = tuple[int, int, bytes, frozenset[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A MAC address, and the other end to which what is for it goes; EVERYBODY: what has to be flooded."""

    mac: bytes
    address: str


def addition(index: int, address: str) -> Message:
    """The message that makes the device with that number flood to an address too: type, flags, body, harmless errors."""
    body = _body(index, Entry(mac=EVERYBODY, address=address))
    return RTM_NEWNEIGH, codec.NLM_F_CREATE | _APPEND, body, frozenset((errno.EEXIST,))


def deletion(index: int, entry: Entry) -> Message:
    """The message that takes an entry from the table of the device with that number."""
    return RTM_DELNEIGH, 0, _body(index, entry), frozenset((errno.ENOENT,))


def _body(index: int, entry: Entry) -> bytes:
    return (
        _NEIGHBOUR.pack(_AF_BRIDGE, index, _PERMANENT, _SELF, 0)
        + codec.attribute(_MAC, entry.mac)
        + codec.attribute(_DESTINATION, ip_address(entry.address).packed)
    )


def dump_request(index: int, number: int) -> bytes:
    """Asks for the whole table of the device with that number."""
    return codec.message(RTM_GETNEIGH, codec.NLM_F_DUMP, number, _LINK.pack(_AF_BRIDGE, 0, index, 0, 0))


def entry_in(body: bytes, index: int) -> Entry | None:
    """What a message tells of the table of the device with that number; None for what is of another."""
    _, of_device, _, flags, _ = _NEIGHBOUR.unpack_from(body)
    found = dict(codec.attributes_in(body, _NEIGHBOUR.size))
    address = found.get(_DESTINATION, b"")
    if of_device != index or not flags & _SELF or len(address) not in (4, 16):
        return None
    return Entry(mac=found.get(_MAC, b""), address=str(ip_address(address)))
