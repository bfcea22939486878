"""Which links should the kernel have for a state of the host's network, and how are they joined?

Pure. Each bridge of the state is a bridge of the kernel under the same name. Its uplink is a port of it, a NIC or a
bond, or the links of a tunnel; a VLAN's bridge has the 802.1Q device of its tag on its parent's uplink as a port (dataplane.md §A5, §A7). On a
parent without an uplink a VLAN is a bridge by itself, as there is nowhere its tag could be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from poolnet.hostd.linuxbridge.names import vlan_device
from poolnet.hostd.linuxbridge.trunks import branches
from poolnet.hostd.linuxbridge.tunnels import End, ends
from poolnet.hostnet.state import BondOptions, Bridge, HostNetwork


class Layer(IntEnum):
    """What a link is, ordered from the cable to the guest: an MTU rises in this order."""

    NIC = 0
    BOND = 1
    TUNNEL = 2
    VLAN = 3
    BRIDGE = 4
    GUEST = 5
    BRANCH = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A link as it should be. `owners` are the bridge of the state that it is for, and the guest's device.

    `mac` is "" where the kernel may choose, `mtu_bytes` 0 where its master decides.
    """

    name: str
    layer: Layer
    owners: tuple[str, ...]
    mtu_bytes: int
    master: str = ""
    mac: str = ""
    lower: str = ""
    tag: int = -1
    bond: BondOptions | None = None
    tunnel: End | None = None
    igmp_snooping: bool = False

    @property
    def is_made(self) -> bool:
        """Do we make this link, rather than find it?"""
        return self.layer in (Layer.BOND, Layer.TUNNEL, Layer.VLAN, Layer.BRIDGE, Layer.BRANCH)


def goals_of(network: HostNetwork) -> dict[str, Goal]:
    """The links of a state by name."""
    by_name = {bridge.name: bridge for bridge in network.bridges}
    goals: dict[str, Goal] = {}
    for bridge in network.bridges:
        for goal in _of_bridge(bridge, by_name):
            goals[goal.name] = goal
    for port in network.ports:
        goals[port.device] = Goal(
            name=port.device,
            layer=Layer.GUEST,
            owners=(port.device,),
            mtu_bytes=port.mtu_bytes,
            master=port.bridge,
        )
    for branch in branches(network):
        goals[branch.name] = Goal(
            name=branch.name,
            layer=Layer.BRANCH,
            owners=(branch.bridge.name, branch.port.device),
            mtu_bytes=min(branch.bridge.mtu_bytes, branch.port.mtu_bytes),
            master=branch.bridge.name,
            lower=branch.port.device,
            tag=branch.bridge.vlan_tag,
        )
    return goals


def _of_bridge(bridge: Bridge, by_name: Mapping[str, Bridge]) -> Iterator[Goal]:
    yield Goal(
        name=bridge.name,
        layer=Layer.BRIDGE,
        owners=(bridge.name,),
        mtu_bytes=bridge.mtu_bytes,
        mac=bridge.mac,
        igmp_snooping=bridge.igmp_snooping,
    )
    parent = by_name.get(bridge.parent)
    if parent is not None and parent.uplink is not None and parent.uplink.tunnel is None:
        yield Goal(
            name=vlan_device(parent.uplink.device, bridge.vlan_tag),
            layer=Layer.VLAN,
            owners=(bridge.name,),
            mtu_bytes=min(bridge.mtu_bytes, parent.mtu_bytes),
            master=bridge.name,
            lower=parent.uplink.device,
            tag=bridge.vlan_tag,
        )
    uplink = bridge.uplink
    if uplink is None:
        return
    if uplink.tunnel is not None:
        for end in ends(uplink):
            yield Goal(
                name=end.name,
                layer=Layer.TUNNEL,
                owners=(bridge.name,),
                mtu_bytes=bridge.mtu_bytes,
                master=bridge.name,
                tunnel=end,
            )
        return
    if uplink.bond is None:
        yield Goal(
            name=uplink.device,
            layer=Layer.NIC,
            owners=(bridge.name,),
            mtu_bytes=bridge.mtu_bytes,
            master=bridge.name,
        )
        return
    yield Goal(
        name=uplink.device,
        layer=Layer.BOND,
        owners=(bridge.name,),
        mtu_bytes=bridge.mtu_bytes,
        master=bridge.name,
        mac=bridge.mac,
        bond=uplink.bond,
    )
    for member in uplink.members:
        yield Goal(name=member, layer=Layer.NIC, owners=(bridge.name,), mtu_bytes=0, master=uplink.device)
