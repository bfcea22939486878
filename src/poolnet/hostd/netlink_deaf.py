"""How is a NIC made deaf to floods? A filter at its ingress, before the bond that it is a member of. Pure.

Not by nftables: kernels without its netdev family have the filters of `tc` more often than not.
Numbers: <linux/rtnetlink.h>, <linux/pkt_sched.h>, <linux/pkt_cls.h>.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final

from poolnet.hostd import netlink_codec as codec

_CLSACT: Final = 0xFFFFFFF1  # TC_H_CLSACT
_INGRESS: Final = 0xFFFFFFF2  # the ingress of a clsact queue
_CLSACT_HANDLE: Final = 0xFFFF0000
_KIND, _OPTIONS = 1, 2  # TCA_KIND, TCA_OPTIONS
_ACTIONS, _TO, _TO_MASK = 3, 4, 5  # TCA_FLOWER_ACT, _KEY_ETH_DST, _KEY_ETH_DST_MASK
_PARAMETERS: Final = 2  # TCA_GACT_PARMS
_SHOT: Final = 2  # TC_ACT_SHOT
_ALL_PROTOCOLS: Final = 0x0003  # ETH_P_ALL
_PREFERENCE: Final = 0x706E  # ours among the filters of a NIC
_NUMBER: Final = 1
_GROUP_BIT: Final = bytes((1, 0, 0, 0, 0, 0))

Message = tuple[int, int, bytes, frozenset[int]]


def messages(index: int, *, deaf: bool) -> Iterator[Message]:
    """The messages about the link of that number: type, flags, body, and the errors that are none."""
    info = _PREFERENCE << 16 | socket.htons(_ALL_PROTOCOLS)
    if not deaf:
        body = codec.traffic_body(index, _NUMBER, _INGRESS, info, codec.attribute(_KIND, b"flower\0"))
        yield codec.RTM_DELTFILTER, 0, body, frozenset((errno.ENOENT, errno.EINVAL, errno.ENODEV))
        return
    queue = codec.traffic_body(index, _CLSACT_HANDLE, _CLSACT, 0, codec.attribute(_KIND, b"clsact\0"))
    made = codec.NLM_F_CREATE | codec.NLM_F_EXCL
    yield codec.RTM_NEWQDISC, made, queue, frozenset((errno.EEXIST,))
    action = codec.attribute(_KIND, b"gact\0") + codec.nested(
        _OPTIONS, [(_PARAMETERS, struct.pack("=IIiii", 0, 0, _SHOT, 0, 0))]
    )
    options = codec.nested(
        _OPTIONS, [(_TO, _GROUP_BIT), (_TO_MASK, _GROUP_BIT), (_ACTIONS, codec.attribute(1, action))]
    )
    body = codec.traffic_body(index, _NUMBER, _INGRESS, info, codec.attribute(_KIND, b"flower\0") + options)
    yield codec.RTM_NEWTFILTER, codec.NLM_F_CREATE | codec.NLM_F_EXCL, body, frozenset((errno.EEXIST,))
