"""How is a bridge told behind which of its ports a MAC address is? Pure.

A guest that says nothing after a change is where the bridge heard it last, for minutes.

Numbers: <linux/rtnetlink.h>, <linux/neighbour.h>.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

from poolnet.hostd import netlink_codec as codec

RTM_NEWNEIGH: Final = 28
_NEIGHBOUR: Final = struct.Struct("=BxxxiHBB")  # struct ndmsg
_AF_BRIDGE: Final = 7
_REACHABLE: Final = 0x02  # NUD_REACHABLE: it is forgotten and moves like one that was heard
_MASTER: Final = 0x04  # NTF_MASTER: the table of the bridge
_MAC: Final = 2  # NDA_LLADDR


def message(port: int, mac: str) -> tuple[int, int, bytes, frozenset[int]]:
    """The message for the port with that number: type, flags, body, harmless errors (it has left its bridge, or gone)."""
    body = _NEIGHBOUR.pack(_AF_BRIDGE, port, _REACHABLE, _MASTER, 0) + codec.attribute(
        _MAC, codec.mac_bytes(mac)
    )
    gone = frozenset((errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP))
    return RTM_NEWNEIGH, codec.NLM_F_CREATE | codec.NLM_F_REPLACE, body, gone
