"""How are the queue and the filter of a rate limit written for the kernel, and read from it? Pure; `limits` sends.

The queue is a token bucket (`tc` calls it tbf): it delays frames, and drops only what finds it full, so that TCP keeps
to the rate without losing time on retransmissions. It counts whole Ethernet frames, and takes apart what the guest's
kernel had put together. The filter takes all that comes in at one link to the queue of another (or of the same).

What a link sends back itself comes from a switch in user space, which sends the frames of all guests by one socket. The kernel
counts a frame against its socket until the frame is gone, also while it waits here: a limited guest's queue would fill that
socket (90 frames), and what the switch sends to others were lost. So the queue gets a copy, which belongs to no socket.
Numbers: <linux/rtnetlink.h>, <linux/pkt_sched.h>, <linux/pkt_cls.h>, <linux/tc_act/tc_mirred.h>.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from poolnet.hostd import netlink_codec as codec

_ROOT: Final = 0xFFFFFFFF  # TC_H_ROOT
_INGRESS: Final = 0xFFFFFFF1  # TC_H_INGRESS
_INGRESS_HANDLE: Final = 0xFFFF0000
_HANDLE: Final = 0x00010000
_KIND, _OPTIONS, _STATISTICS = 1, 2, 3  # TCA_KIND, TCA_OPTIONS, TCA_STATS
_PARAMETERS, _RATE64, _BURST = 1, 4, 6  # TCA_TBF_PARMS, TCA_TBF_RATE64, TCA_TBF_BURST
_SELECTOR, _ACTIONS = 5, 7  # TCA_U32_SEL, TCA_U32_ACT
_ACTION_KIND, _ACTION_OPTIONS, _MIRRED_PARAMETERS = 1, 2, 2
_EGRESS_REDIRECT, _STOLEN = 1, 4  # TCA_EGRESS_REDIR, TC_ACT_STOLEN
_EGRESS_MIRROR, _DROPPED = 2, 2  # TCA_EGRESS_MIRROR, TC_ACT_SHOT: a copy goes, the frame itself is dropped
_ETHERNET: Final = 1  # TC_LINKLAYER_ETHERNET: the kernel needs no table of times
_TBF: Final = struct.Struct("=BBHhHI12sIII")  # struct tc_tbf_qopt; the second rate, a peak, is not used
_MIRRED: Final = struct.Struct("=IIiiiiI")  # struct tc_mirred
_MATCH_ALL: Final = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + bytes(
    16
)  # struct tc_u32_sel, one key
_TRAFFIC: Final = struct.Struct("=BxxxiIII")
_WAITING_AT: Final = 28  # tc_stats.qlen
_ALL_PROTOCOLS: Final = 0x0003  # ETH_P_ALL
_PREFERENCE: Final = 1
_32_BITS: Final = 0xFFFFFFFF

_FRAME_OVERHEAD_BYTES: Final = 14 + 8  # Ethernet's header, and two VLAN tags
_BURST_S: Final = 0.01  # so much may follow a pause at once: 0.1 % of what passes in 10 s
_WAITING_S: Final = 0.1  # so long a frame waits at most before further ones are dropped …
_WAITING_FRAMES_MIN: Final = 10  # … but so many may wait in any case: TCP needs some on their way
_WAITING_BYTES_MAX: Final = 64 << 20

Message = tuple[int, int, bytes, frozenset[int]]  # type, flags, body, the errors that are none


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A token bucket: bytes per second, bytes that may follow at once, bytes that may wait."""

    rate: int
    burst: int
    limit: int


def queue_for(rate_bytes_per_s: int, mtu_bytes: int) -> Queue:
    """The queue that lets exactly that rate through, in Ethernet frames of up to this MTU."""
    frame = mtu_bytes + _FRAME_OVERHEAD_BYTES
    burst = min(max(2 * frame, int(rate_bytes_per_s * _BURST_S)), _WAITING_BYTES_MAX)
    waiting = max(_WAITING_FRAMES_MIN * frame, int(rate_bytes_per_s * _WAITING_S))
    return Queue(rate=rate_bytes_per_s, burst=burst, limit=min(waiting, _WAITING_BYTES_MAX))


def queue_message(index: int, queue: Queue) -> Message:
    """Gives the link of that number this queue, or changes the one it has; what waits in it stays."""
    rate = min(queue.rate, _32_BITS)
    parameters = _TBF.pack(0, _ETHERNET, 0, 0, 0, rate, bytes(12), queue.limit, 0, 0)
    options = [(_PARAMETERS, parameters), (_BURST, codec.u32(queue.burst))]
    if queue.rate > _32_BITS:
        options.append((_RATE64, struct.pack("=Q", queue.rate)))
    attributes = codec.attribute(_KIND, b"tbf\0") + codec.nested(_OPTIONS, options)
    body = codec.traffic_body(index, _HANDLE, _ROOT, 0, attributes)
    return codec.RTM_NEWQDISC, codec.NLM_F_CREATE | codec.NLM_F_REPLACE, body, frozenset()


def redirect_messages(index: int, to_index: int) -> Iterator[Message]:
    """Takes all that comes in at one link to the queue of the other."""
    yield from stop_messages(index)
    made = codec.NLM_F_CREATE | codec.NLM_F_EXCL
    queue = codec.traffic_body(index, _INGRESS_HANDLE, _INGRESS, 0, codec.attribute(_KIND, b"ingress\0"))
    yield codec.RTM_NEWQDISC, made, queue, frozenset()
    verdict, how = _way(index, to_index)
    parameters = _MIRRED.pack(0, 0, verdict, 0, 0, how, to_index)
    action = codec.attribute(_ACTION_KIND, b"mirred\0") + codec.nested(
        _ACTION_OPTIONS, [(_MIRRED_PARAMETERS, parameters)]
    )
    options = codec.nested(_OPTIONS, [(_SELECTOR, _MATCH_ALL), (_ACTIONS, codec.attribute(1, action))])
    info = _PREFERENCE << 16 | socket.htons(_ALL_PROTOCOLS)
    attributes = codec.attribute(_KIND, b"u32\0") + options
    yield (
        codec.RTM_NEWTFILTER,
        made,
        codec.traffic_body(index, 0, _INGRESS_HANDLE, info, attributes),
        frozenset(),
    )


def stop_messages(index: int) -> Iterator[Message]:
    """Takes away what takes frames elsewhere when they come in at this link."""
    body = codec.traffic_body(index, _INGRESS_HANDLE, _INGRESS, 0, b"")
    yield codec.RTM_DELQDISC, 0, body, frozenset((errno.ENOENT, errno.EINVAL, errno.ENODEV))


def queues_request(number: int) -> bytes:
    """Asks for the queues of all links."""
    return codec.message(codec.RTM_GETQDISC, codec.NLM_F_DUMP, number, codec.traffic_body(0, 0, 0, 0, b""))


def filters_request(number: int, index: int) -> bytes:
    """Asks for the filters of what comes in at a link."""
    body = codec.traffic_body(index, 0, _INGRESS_HANDLE, 0, b"")
    return codec.message(codec.RTM_GETTFILTER, codec.NLM_F_DUMP, number, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenQueue:
    """A token bucket that a link has: its rate in bytes per second, and how many frames wait in it."""

    rate: int
    waiting: int


def queue_in(body: bytes) -> tuple[int, SeenQueue] | None:
    """The number of the link and its queue, if the message is about a token bucket that is all of it."""
    _, index, _, parent, _ = _TRAFFIC.unpack_from(body)
    found = dict(codec.attributes_in(body, _TRAFFIC.size))
    options = dict(codec.attributes_in(found.get(_OPTIONS, b"")))
    parameters = options.get(_PARAMETERS, b"")
    if parent != _ROOT or found.get(_KIND) != b"tbf\0" or len(parameters) < _TBF.size:
        return None
    rate = codec.number_of(options[_RATE64]) if _RATE64 in options else _TBF.unpack_from(parameters)[5]
    statistics = found.get(_STATISTICS, b"")
    waiting = int.from_bytes(statistics[_WAITING_AT : _WAITING_AT + 4], "little")
    return index, SeenQueue(rate=rate, waiting=waiting)


def target_in(body: bytes) -> int:
    """The number of the link to whose queue a filter takes everything; 0 if it does something else."""
    found = dict(codec.attributes_in(body, _TRAFFIC.size))
    options = dict(codec.attributes_in(found.get(_OPTIONS, b"")))
    if options.get(_SELECTOR, b"")[: len(_MATCH_ALL)] != _MATCH_ALL:
        return 0
    for _, action in codec.attributes_in(options.get(_ACTIONS, b"")):
        parts: Mapping[int, bytes] = dict(codec.attributes_in(action))
        parameters = dict(codec.attributes_in(parts.get(_ACTION_OPTIONS, b""))).get(_MIRRED_PARAMETERS, b"")
        if parts.get(_ACTION_KIND) == b"mirred\0" and len(parameters) >= _MIRRED.size:
            _, _, verdict, _, _, how, to_index = _MIRRED.unpack_from(parameters)
            index = _TRAFFIC.unpack_from(body)[1]
            return to_index if (verdict, how) == _way(index, to_index) else 0
    return 0


def _way(index: int, to_index: int) -> tuple[int, int]:
    """What becomes of a frame, and how it is taken to the queue: itself, or as a copy if the link sends it back."""
    return (_DROPPED, _EGRESS_MIRROR) if index == to_index else (_STOLEN, _EGRESS_REDIRECT)
