"""What is a state when NICs have other names? The host daemon asks when the kernel named NICs anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from poolnet.hostnet.state import Bridge, HostNetwork, Uplink


def renamed(network: HostNetwork, names: Mapping[str, str]) -> HostNetwork:
    """The same state with these NICs' new names, old to new, all at once: two may have changed names with each other."""
    if not names:
        return network
    links = (replace(link, name=names.get(link.name, link.name)) for link in network.links)
    sriov = (replace(nic, device=names.get(nic.device, nic.device)) for nic in network.sriov)
    return replace(
        network,
        bridges=tuple(_renamed_bridge(bridge, names) for bridge in network.bridges),
        links=tuple(sorted(links, key=lambda link: link.name)),
        sriov=tuple(sorted(sriov, key=lambda nic: nic.device)),
    )


def _renamed_bridge(bridge: Bridge, names: Mapping[str, str]) -> Bridge:
    uplink = bridge.uplink
    if uplink is None or not set(uplink.members) & names.keys():
        return bridge
    members = tuple(names.get(member, member) for member in uplink.members)
    is_nic = uplink.members == (uplink.device,)
    return replace(
        bridge,
        uplink=Uplink(
            device=members[0] if is_nic else uplink.device,
            members=tuple(sorted(members)),
            bond=uplink.bond,
            tunnel=uplink.tunnel,
        ),
    )
