"""How is a bridge told behind which of its ports a MAC address is? Pure.

A guest that says nothing after a change is where the bridge heard it last, for minutes.

Numbers: <linux/neighbour.h>.
"""

from __future__ import annotations

import errno
from typing import Final

from poolnet.hostd import netlink_codec as codec

_REACHABLE: Final = 0x02  # NUD_REACHABLE: it is forgotten and moves like one that was heard
_MASTER: Final = 0x04  # NTF_MASTER: the table of the bridge


def message(port: int, mac: str) -> tuple[int, int, bytes, frozenset[int]]:
    """The message for the port with that number: type, flags, body, harmless errors (it has left its bridge, or gone)."""
    address = codec.attribute(codec.Nda.LLADDR, codec.mac_bytes(mac))
    body = codec.neighbour_body(port, _REACHABLE, _MASTER, address)
    gone = frozenset((errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP))
    return codec.RTM_NEWNEIGH, codec.NLM_F_CREATE | codec.NLM_F_REPLACE, body, gone
