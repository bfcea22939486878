"""Which links of the kernel carry a tunnel, and where do they lead? `layout`, `changes` and `observe` ask. Pure.

VXLAN is one device for each version of IP, with an entry of its table for each other end: what is flooded goes to each of
them, and from whom an address was heard is learnt. GRE is a device for each other end. All are ports of the tunnel's bridge
and isolated from each other, so nothing goes from one other end to another: the ends form a full mesh, which would be a loop.
Frames that have become too large for the way are cut in two under IPv4, not lost. Numbers: <linux/if_link.h>, <linux/if_tunnel.h>.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from struct import pack
from typing import Final

from poolnet.hostd.linuxbridge.names import GRE, GRE6, TUNNELS, VXLAN, is_ours
from poolnet.hostd.netlink_codec import Attribute, Link, u8, u32
from poolnet.hostd.tunnel_names import NAME_LENGTH_MAX, port_to
from poolnet.hostnet.state import TunnelKind, TunnelOptions, Uplink

ISOLATED: Final = 33  # IFLA_BRPORT_ISOLATED
_IN_FLAGS, _OUT_FLAGS, _IN_KEY, _OUT_KEY, _LOCAL, _REMOTE = 2, 3, 4, 5, 6, 7  # IFLA_GRE_*
_TTL, _PMTU, _FLAGS, _CUT = 8, 10, 13, 19  # IFLA_GRE_*; the last is IGNORE_DF
_HAS_KEY: Final = pack("!H", 0x2000)  # GRE_KEY
_NO_ENCAPSULATION_LIMIT: Final = (
    0x1  # IP6_TNL_F_IGN_ENCAP_LIMIT: 8 bytes that `frame_bytes_max` does not count
)
_HOPS: Final = 64
_NUMBER, _PORT, _LOCAL6 = 1, 15, 17  # IFLA_VXLAN_*
_VXLAN_PORT: Final = pack("!H", 4789)  # IANA
_ANY_IPV6: Final = bytes(16)
_IPV6_SUFFIX: Final = "-6"
_NOBODY: Final = "::"  # no tunnel leads there, so one that seems to is not what was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A link of a tunnel: its kind, what the kernel is told to make it, and what tells that it is the one.

    `far_ends` are the addresses in the table of a VXLAN device; a GRE device has its only one in `shown`.
    """

    name: str
    kind: str
    told: tuple[Attribute, ...]
    shown: tuple[Attribute, ...]
    leads_to: frozenset[str]
    far_ends: frozenset[str] = field(default=frozenset())


def ends(uplink: Uplink) -> Iterator[End]:
    """The links of a tunnel; none for one that leads nowhere yet."""
    if uplink.tunnel is None:
        return
    if uplink.tunnel.kind is TunnelKind.GRE:
        yield from (_gre(uplink.device, uplink.tunnel, remote) for remote in uplink.tunnel.remotes)
        return
    for version in (4, 6):
        remotes = frozenset(r for r in uplink.tunnel.remotes if ip_address(r).version == version)
        if remotes:
            yield _vxlan(uplink.device, uplink.tunnel.key, version, remotes)


def _gre(device: str, options: TunnelOptions, remote: str) -> End:
    address = ip_address(remote)
    number = pack("!I", options.key)
    shown: tuple[Attribute, ...] = ((_IN_KEY, number), (_OUT_KEY, number), (_REMOTE, address.packed))
    if address.version == 6 and options.local6:
        shown = (*shown, (_LOCAL, ip_address(options.local6).packed))
    way: tuple[Attribute, ...] = ((_PMTU, u8(0)), (_CUT, u8(1)))
    if address.version == 6:
        way = ((_FLAGS, u32(_NO_ENCAPSULATION_LIMIT)),)
    flags = ((_IN_FLAGS, _HAS_KEY), (_OUT_FLAGS, _HAS_KEY), (_TTL, u8(_HOPS)))
    return End(
        name=port_to(device, remote),
        kind=GRE6 if address.version == 6 else GRE,
        told=(*shown, *flags, *way),
        shown=shown,
        leads_to=frozenset((remote,)),
    )


def _vxlan(device: str, key: int, version: int, remotes: frozenset[str]) -> End:
    shown = ((_NUMBER, u32(key)), (_PORT, _VXLAN_PORT))
    return End(
        name=f"{device[: NAME_LENGTH_MAX - len(_IPV6_SUFFIX)]}{_IPV6_SUFFIX}" if version == 6 else device,
        kind=VXLAN,
        told=(*shown, (_LOCAL6, _ANY_IPV6)) if version == 6 else shown,
        shown=shown,
        leads_to=remotes,
        far_ends=remotes,
    )


def is_right(link: Link, end: End) -> bool:
    """Is it that link, but for its table and what its bridge knows of it?"""
    return is_ours(link, end.kind) and all(link.data.get(kind) == content for kind, content in end.shown)


def observed(asked: Uplink, options: TunnelOptions, ports: Iterable[Link]) -> Uplink:
    """The tunnel as far as a bridge's ports make it: with the other ends that they lead to as they should."""
    there = {port.name: port for port in ports}
    found: set[str] = set()
    for end in ends(asked):
        link = there.pop(end.name, None)
        if link is not None and is_right(link, end) and link.port_number(ISOLATED) == 1:
            found |= link.far_ends if end.kind == VXLAN else end.leads_to
    strays = {_NOBODY} if there else set()
    return replace(asked, tunnel=replace(options, remotes=tuple(sorted(found | strays))))


def are_tunnels(links: Iterable[Link]) -> bool:
    """Are all of these links that tunnels are made of?"""
    return all(link.kind in TUNNELS for link in links)
