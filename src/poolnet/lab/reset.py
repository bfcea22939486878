"""How does somebody at a host's console get its last good network back? `poolnet host-reset-network --to last-good`.

The host daemon is asked directly: neither the API server nor the database has to work. Where the daemon does not either,
what it would do is said in words that can be typed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

from poolnet.hostd.checkpoint import read_confirmed
from poolnet.hostd.config import Paths
from poolnet.hostnet.protocol import Restore, Restored
from poolnet.hostnet.state import Bridge, HostNetwork, Ipv4Mode, Ipv6Mode
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused

_ANSWERS_WITHIN_S = 60.0


def main() -> int:
    """Restore this host's last confirmed network; 0 when it can be reached again."""
    paths = Paths()
    try:
        restored = asyncio.run(_restore(paths.socket))
    except HostGone as error:
        sys.stderr.write(f"poolnet: poolnet-hostd does not answer ({error}).\n")
        sys.stderr.write("".join(f"{line}\n" for line in advice(paths.state_dir)))
        return 1
    except HostRefused as refused:
        sys.stderr.write(f"poolnet: the network cannot be restored: {refused.refused.message}\n")
        return 1
    sys.stdout.write(f"The last confirmed network is restored: {_management(restored.network)}.\n")
    if restored.unreachable:
        sys.stderr.write(f"poolnet: even so the host cannot be reached: {restored.unreachable}\n")
        return 1
    return 0


async def _restore(socket: Path) -> Restored:
    link = HostLink(socket)
    try:
        return await link.request(Restore(), Restored, _ANSWERS_WITHIN_S)
    finally:
        await link.close()


def advice(state_dir: Path) -> Iterator[str]:
    """What to do on a host whose daemon does not run."""
    yield "Start it: it restores the last confirmed network by itself, before it does anything else."
    yield "    systemctl restart poolnet-hostd"
    yield "    journalctl -u poolnet-hostd     # why it does not start"
    confirmed = read_confirmed(state_dir)
    if confirmed is None:
        yield f"No confirmed network can be read from {state_dir}."
        return
    network = confirmed.network
    bridge = network.bridge(network.management_bridge)
    if bridge is None:
        yield "The confirmed network has no management interface."
        return
    yield from _by_hand(network, bridge)


def _by_hand(network: HostNetwork, bridge: Bridge) -> Iterator[str]:
    """The words that give the management address to the NIC itself, without any bridge."""
    lower = network.bridge(bridge.parent) or bridge
    addresses = [bridge.ip.ipv4_address] if bridge.ip.ipv4_mode is Ipv4Mode.STATIC else []
    addresses += bridge.ip.ipv6_addresses if bridge.ip.ipv6_mode is Ipv6Mode.STATIC else ()
    if lower.uplink is None or not addresses:
        return
    nic = lower.uplink.members[0]
    yield "Until then, reach the host by hand:"
    device = nic
    if bridge.parent:
        device = f"{nic}.{bridge.vlan_tag}"
        yield f"    ip link add link {nic} name {device} type vlan id {bridge.vlan_tag}"
    yield f"    ip link set {nic} nomaster up"
    for address in addresses:
        yield f"    ip address add {ip_interface(address)} dev {device}"
    for gateway in filter(None, (bridge.ip.ipv4_gateway, bridge.ip.ipv6_gateway)):
        yield f"    ip route replace default via {gateway} dev {device}"


def _management(network: HostNetwork) -> str:
    bridge = network.bridge(network.management_bridge)
    if bridge is None:
        return "it has no management interface"
    addresses = [bridge.ip.ipv4_address or str(bridge.ip.ipv4_mode)] if bridge.ip.ipv4_mode != "none" else []
    addresses += bridge.ip.ipv6_addresses or (
        [str(bridge.ip.ipv6_mode)] if bridge.ip.ipv6_mode != "none" else []
    )
    return f"management on {bridge.name}, {', '.join(addresses)}"
