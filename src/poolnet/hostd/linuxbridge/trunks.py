"""How is a guest with a trunk heard by the guests of a VLAN's bridge on the same host? Pure; `layout`, `observe`, `backend` ask.

A VLAN's device takes the tag's frames from the NIC before the parent's bridge sees them, so the two bridges share nothing. A
guest on the parent whose trunk list has the tag gets an 802.1Q device on its own interface, which is a port of the VLAN's
bridge and under the guest's own lock: tagged frames from the guest come in there, and what is for it leaves there. It holds
for lists only: an unlocked guest without one would need a device for each VLAN there is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from poolnet.hostd.linuxbridge.names import vlan_device
from poolnet.hostnet.state import Bridge, GuestPort, HostNetwork, PortLock


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """The 802.1Q device `name` on the interface of a guest with a trunk, for one VLAN's bridge."""

    name: str
    port: GuestPort
    bridge: Bridge


def branches(network: HostNetwork) -> Iterator[Branch]:
    """All of them."""
    vlans = {(bridge.parent, bridge.vlan_tag): bridge for bridge in network.bridges if bridge.parent}
    for port in network.ports:
        for tag in dict.fromkeys(port.lock.trunks):
            bridge = vlans.get((port.bridge, tag))
            if bridge is not None:
                yield Branch(name=vlan_device(port.device, tag), port=port, bridge=bridge)


def locks_of(network: HostNetwork) -> dict[str, PortLock]:
    """The locks by device. A branch has its guest's: the tag is off there already."""
    locks = {port.device: port.lock for port in network.ports}
    locks |= {branch.name: replace(branch.port.lock, trunks=()) for branch in branches(network)}
    return locks


def guests_of(network: HostNetwork) -> dict[str, str]:
    """The guest's interface for each device that has a lock."""
    own = {port.device: port.device for port in network.ports}
    return own | {branch.name: branch.port.device for branch in branches(network)}
