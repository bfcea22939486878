"""Where does a tunnel of the pool lead, and how much fits through it?

`derive` asks for a host's tunnels, the rules for what they tell clients. In the reference an SDN controller answers;
without one, the tunnels of a network connect all hosts that are attached to it by one (docs: user/interfaces).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from poolnet.db.txn import View
from poolnet.hostnet.state import TunnelKind, TunnelOptions, Uplink
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.enums import PrimaryAddressType

REMOTES_KEY: Final = "remote_ip"
NUMBER_KEY: Final = "key"
KEY_MAX: Final = 2**24 - 1  # RFC 7348: the identifier of a VXLAN network has 24 bits
_HEADERS_BYTES: Final = {  # the inner Ethernet header, and what the protocol puts before it, without IP
    TunnelKind.GRE: 14 + 8,  # RFC 2890: four bytes, and four for the key
    TunnelKind.VXLAN: 14 + 8 + 8,
}
_IPV4_BYTES, _IPV6_BYTES = 20, 40


def tunnel_uplink(view: View, access: PIF, network: Network) -> Uplink | None:
    """What the bridge of a tunnel's access PIF has for an uplink; None where the tunnel dangles."""
    tunnel = view.find(Tunnel, access.tunnel_access_PIF_of[0])
    if tunnel is None:
        return None
    options = TunnelOptions(
        kind=TunnelKind(tunnel.protocol.value),
        key=tunnel_key(tunnel, network),
        remotes=remotes(view, tunnel, access),
    )
    if options.kind is TunnelKind.GRE and any(":" in remote for remote in options.remotes):
        options = replace(options, local6=_own_ipv6(view, tunnel))
    return Uplink(device=access.device, members=(), tunnel=options)


def tunnel_key(tunnel: Tunnel, network: Network) -> int:
    """The number under which its frames travel: its own `key`, else one made from the network's uuid."""
    text = tunnel.other_config.get(NUMBER_KEY, "")
    if text.isascii() and text.isdecimal() and len(text) <= len(str(KEY_MAX)) and int(text) <= KEY_MAX:
        return int(text)
    return zlib.crc32(network.uuid.encode()) & KEY_MAX


def remotes(view: View, tunnel: Tunnel, access: PIF) -> tuple[str, ...]:
    """The other ends, sorted: the pool's other hosts on this network, and what the tunnel's `remote_ip` lists."""
    given = _valid(tunnel.other_config.get(REMOTES_KEY, "").split(","))
    return tuple(sorted({*given, *_valid(_of_pool(view, tunnel, access))}))


def frame_bytes_max(kind: TunnelKind, transport: PIF, transport_mtu_bytes: int) -> int:
    """The MTU inside a tunnel over a PIF with that MTU."""
    ipv6 = transport.primary_address_type is PrimaryAddressType.IPV6
    return transport_mtu_bytes - _HEADERS_BYTES[kind] - (_IPV6_BYTES if ipv6 else _IPV4_BYTES)


def _own_ipv6(view: View, tunnel: Tunnel) -> str:
    """The first IPv6 address of the PIF that carries a tunnel; "" if it has none."""
    transport = view.find(PIF, tunnel.transport_PIF)
    texts = transport.IPv6 if transport is not None else ()
    return next(_valid([text.partition("/")[0] for text in texts]), "")


def _of_pool(view: View, tunnel: Tunnel, access: PIF) -> Iterator[str]:
    for other in view.where(PIF, network=access.network):
        if other.host == access.host or not other.currently_attached or not other.tunnel_access_PIF_of:
            continue
        there = view.find(Tunnel, other.tunnel_access_PIF_of[0])
        transport = view.find(PIF, there.transport_PIF) if there is not None else None
        if there is None or transport is None or there.protocol is not tunnel.protocol:
            continue
        yield transport.IP
        if not transport.IP:
            yield from (text.partition("/")[0] for text in transport.IPv6)


def _valid(texts: Iterator[str] | list[str]) -> Iterator[str]:
    """The addresses in their canonical text; a link-local one leads nowhere without its interface."""
    for text in texts:
        try:
            address = ip_address(text.strip())
        except ValueError:
            continue
        if not (
            address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local
        ):
            yield str(address)
