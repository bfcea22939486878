"""Under which names does the kernel have what carries a VLAN, and which links are ours? `layout` and `observe` ask.

Every link that we make is in one group of links from its first moment on (`ip link show group ...`); links outside it
are never changed, but for the NICs and the guests' interfaces that a state names.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from poolnet.hostd.netlink_codec import Link
from poolnet.hostd.netlink_links import OUR_GROUP

BRIDGE, BOND, VLAN = "bridge", "bond", "vlan"
GRE, GRE6, VXLAN = "gretap", "ip6gretap", "vxlan"
TUNNELS: Final = frozenset((GRE, GRE6, VXLAN))
NAME_LENGTH_MAX: Final = 15
_DIGEST_LENGTH = 8


def vlan_device(uplink: str, tag: int) -> str:
    """The name of the 802.1Q device for a tag on an uplink: `eth0.50`, shorter for a long name."""
    name = f"{uplink}.{tag}"
    if len(name) <= NAME_LENGTH_MAX:
        return name
    return f"v{sha256(uplink.encode()).hexdigest()[:_DIGEST_LENGTH]}.{tag}"


def is_ours(link: Link | None, kind: str) -> bool:
    """Is this a link of that kind which we made?"""
    return link is not None and link.group == OUR_GROUP and link.kind == kind


def is_our_tunnel(link: Link) -> bool:
    """Is this a link of a tunnel which we made?"""
    return link.group == OUR_GROUP and link.kind in TUNNELS
