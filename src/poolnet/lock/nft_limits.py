"""Which frames can nftables not read as far as the policy does?

nftables looks at fixed places of a frame only. What it cannot read to the end it stops, with one exception that no
receiver takes. The tests hold the compiler to this list, and `docs/user/locks.md` tells it to people.
"""

from __future__ import annotations

from poolnet.lock.nft_chains import HEADER_UNITS_MAX, LINK_OPTIONS_MAX
from poolnet.lock.policy import (
    AUTHENTICATION,
    ETHERTYPE_MIN,
    FRAGMENT_HEADER,
    ICMPV6,
    IPV4,
    IPV6,
    OPTION_HEADERS,
    VLAN_TYPES,
)

_EXTENSION_HEADERS = (*OPTION_HEADERS, AUTHENTICATION, FRAGMENT_HEADER)
_TAG_AND_TYPES = 8
_NEIGHBOR_TYPES = (135, 136)


def unread(frame: bytes) -> str:
    """Why nftables does not read the frame to its end; "" if it does, and then does exactly what the policy says.

    Of such frames it lets none through that the policy stops, but for `"cut off fragment"`: an IPv6 fragment behind
    the first, with an extension header inside, that is shorter than it says. Every receiver discards it.
    """
    rest = frame[12:]
    if int.from_bytes(rest[:2]) in VLAN_TYPES:
        if len(rest) < _TAG_AND_TYPES:
            return "cut off VLAN tag"  # the kernel takes no such frame at all
        rest = rest[4:]
    ethertype, packet = int.from_bytes(rest[:2]), rest[2:]
    if ethertype < ETHERTYPE_MIN:
        return "length instead of an EtherType"
    if ethertype not in (IPV4, IPV6) or not packet:
        return ""
    if packet[0] >> 4 != (4 if ethertype == IPV4 else 6):
        return "wrong IP version"
    return _unread_ipv6(packet) if ethertype == IPV6 else ""


def _unread_ipv6(packet: bytes) -> str:
    size = int.from_bytes(packet[4:6])
    rest = packet[40 : 40 + size]
    protocol, used = packet[6] if len(packet) > 6 else 0, 0
    if protocol == FRAGMENT_HEADER and len(packet) < 40 + size:
        return "cut off fragment"
    while protocol in _EXTENSION_HEADERS and len(rest) >= used + 8:
        if used >= HEADER_UNITS_MAX * 8:
            return "long header chain"
        header, following = rest[used:], rest[used]
        if protocol == FRAGMENT_HEADER and int.from_bytes(header[2:4]) & 0xFFF8:
            return "headers before a fragment" if used and following in _EXTENSION_HEADERS else ""
        if protocol == FRAGMENT_HEADER:
            length = 8
        elif protocol == AUTHENTICATION:
            length = (header[1] + 2) * 4
        else:
            length = (header[1] + 1) * 8
        used += length
        if used > HEADER_UNITS_MAX * 8 or length % 8:
            return "long header chain"
        protocol = following
    if protocol == ICMPV6 and len(rest) > used and rest[used] in _NEIGHBOR_TYPES:
        if used:
            return "headers before neighbour discovery"
        if len(rest) >= 24 + 8 * (LINK_OPTIONS_MAX + 1):
            return "many options in neighbour discovery"
    return ""
