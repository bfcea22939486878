"""Where does a VXLAN device flood to? The entries of its table for the address 00:00:00:00:00:00. Pure.

The others it has learnt: behind which other end it heard a MAC address last.

Numbers: <linux/neighbour.h>.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from poolnet.hostd import netlink_codec as codec

_PERMANENT: Final = 0x80 | 0x40  # NUD_PERMANENT, NUD_NOARP
_SELF: Final = 0x02  # NTF_SELF: the table of the device, not that of its bridge
_APPEND: Final = 0x800  # NLM_F_APPEND
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
    return codec.RTM_NEWNEIGH, codec.NLM_F_CREATE | _APPEND, body, frozenset((errno.EEXIST,))


def deletion(index: int, entry: Entry) -> Message:
    """The message that takes an entry from the table of the device with that number."""
    return codec.RTM_DELNEIGH, 0, _body(index, entry), frozenset((errno.ENOENT,))


def _body(index: int, entry: Entry) -> bytes:
    address = codec.attribute(codec.Nda.DST, ip_address(entry.address).packed)
    return codec.neighbour_body(
        index, _PERMANENT, _SELF, codec.attribute(codec.Nda.LLADDR, entry.mac) + address
    )


def entry_in(body: bytes, index: int) -> Entry | None:
    """What a message tells of the table of the device with that number; None for what is of another."""
    of_device, flags, found = codec.neighbour_in(body)
    address = found.get(codec.Nda.DST, b"")
    if of_device != index or not flags & _SELF or len(address) not in (4, 16):
        return None
    return Entry(mac=found.get(codec.Nda.LLADDR, b""), address=str(ip_address(address)))
