"""What is this host's network, as the kernel's links have it?

Pure: links, what was asked for, and addresses in, the same type out that `derive` makes. What was asked for counts as
far as the kernel has it; what differs is reported as it is, so that a plan repairs it. A NIC that does not exist is no
difference: when it comes it is not in its bridge, and that is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from poolnet.hostd.linuxbridge import bonds, tunnels
from poolnet.hostd.linuxbridge.changes import SNOOPING, VLAN_ID
from poolnet.hostd.linuxbridge.names import BOND, BRIDGE, VLAN, is_our_tunnel, is_ours, vlan_device
from poolnet.hostd.linuxbridge.trunks import Branch, branches
from poolnet.hostd.netlink import NO_ADDRESSES, Addresses
from poolnet.hostd.netlink_codec import Link
from poolnet.hostd.seen_addresses import as_seen
from poolnet.hostnet.state import BondMode, BondOptions, Bridge, GuestPort, HostNetwork, PortLock, Uplink

_MISSING = Link(index=-1, name="", data={}, port_data={})


def observe(
    links: Mapping[str, Link],
    asked: HostNetwork,
    locks: Mapping[str, PortLock],
    addresses: Mapping[str, Addresses],
    nics: Collection[str],
    rates: Mapping[str, int],
) -> HostNetwork:
    """The host's network.

    `asked` is what was asked for of all that we made, `locks` what is loaded and `rates` the limits that are in force by
    device, `nics` are those that we may touch: one that is in a bridge of ours is its uplink, asked for or not.
    """
    return _Observer(links, asked, locks, addresses, nics, rates).network()


class _Observer:
    def __init__(
        self,
        links: Mapping[str, Link],
        asked: HostNetwork,
        locks: Mapping[str, PortLock],
        addresses: Mapping[str, Addresses],
        nics: Collection[str],
        rates: Mapping[str, int],
    ) -> None:
        self._links = links
        self._rates = rates
        self._asked = asked
        self._locks = locks
        self._addresses = addresses
        self._carriers: dict[
            int, list[Link]
        ] = {}  # NICs, bonds and VLANs by the bridge that they are ports of
        self._on_guests: dict[int, set[str]] = {}  # the names of VLAN devices by what they are on
        guests = {links[port.device].index for port in asked.ports if port.device in links}
        for link in links.values():
            if link.lower in guests and is_ours(link, VLAN):
                self._on_guests.setdefault(link.lower, set()).add(link.name)
                continue
            ours = is_ours(link, BOND) or is_ours(link, VLAN) or is_our_tunnel(link)
            if link.master and (link.name in nics or ours):
                self._carriers.setdefault(link.master, []).append(link)
        self._names = {link.index: link.name for link in links.values()}
        self._bridges = {bridge.name: bridge for bridge in asked.bridges}
        self._branches: dict[str, list[Branch]] = {}
        for branch in branches(asked):
            self._branches.setdefault(branch.port.device, []).append(branch)

    def network(self) -> HostNetwork:
        """Everything."""
        bridges = tuple(
            self._bridge(self._bridges.get(name, Bridge(name=name)), link)
            for name, link in sorted(self._links.items())
            if is_ours(link, BRIDGE)
        )
        there = {bridge.name for bridge in bridges}
        ports = tuple(seen for port in self._asked.ports if (seen := self._port(port, there)) is not None)
        management = self._asked.management_bridge
        return HostNetwork(
            bridges=bridges,
            ports=tuple(sorted(ports, key=lambda port: port.device)),
            management_bridge=management if management in there else "",
            foreign=tuple(sorted(self._foreign(bridges, {port.device for port in ports}))),
        )

    def _bridge(self, asked: Bridge, link: Link) -> Bridge:
        carriers = self._carriers.get(link.index, [])
        tags = [carrier for carrier in carriers if carrier.kind == VLAN]
        uplink = self._uplink(asked.uplink, link, [one for one in carriers if one.kind != VLAN])
        parent, tag = asked.parent, asked.vlan_tag
        if parent and tags != ([vlan] if (vlan := self._vlan(asked)) is not None else []):
            parent, tag = "", -1  # not what was asked for: it is made again
        elif not parent and tags:
            parent, tag = "?", tags[0].number(VLAN_ID)
        return replace(
            asked,
            uplink=uplink,
            parent=parent,
            vlan_tag=tag,
            mac=link.mac,
            mtu_bytes=min([link.mtu_bytes, *(self._mtu(link, carrier) for carrier in carriers)]),
            ip=as_seen(asked.ip, self._addresses.get(link.name, NO_ADDRESSES)),
            igmp_snooping=link.number(SNOOPING) == 1,
        )

    def _mtu(self, bridge: Link, carrier: Link) -> int:
        """The MTU of a port; but a VLAN's device that is as large as what it is on allows is large enough."""
        lower = self._links.get(self._names.get(carrier.lower, "")) if carrier.kind == VLAN else None
        if lower is not None and carrier.mtu_bytes == lower.mtu_bytes:
            return bridge.mtu_bytes
        return carrier.mtu_bytes

    def _uplink(self, asked: Uplink | None, bridge: Link, carriers: list[Link]) -> Uplink | None:
        names = sorted(carrier.name for carrier in carriers)
        if asked is not None and asked.tunnel is not None and tunnels.are_tunnels(carriers):
            return tunnels.observed(asked, asked.tunnel, carriers)
        if asked is None or names not in ([], [asked.device]):
            return self._strange(carriers[0], names) if names else None
        link = self._links.get(asked.device)
        if asked.bond is None:
            return asked if link is None or names else None
        if link is None or not names:
            return None
        members = {member for member in asked.members if member not in self._links}
        members |= self._members(link)
        return replace(
            asked,
            members=asked.members if members == set(asked.members) else tuple(sorted(members)),
            bond=bonds.observed(link, asked.bond),
        )

    def _strange(self, link: Link, names: list[str]) -> Uplink:
        """An uplink that was not asked for, or more than one."""
        if link.kind != BOND:
            return Uplink(device=link.name, members=tuple(names))
        options = bonds.observed(link, BondOptions(mode=BondMode.ACTIVE_BACKUP))
        return Uplink(device=link.name, members=tuple(sorted(self._members(link))), bond=options)

    def _members(self, bond: Link) -> set[str]:
        return {carrier.name for carrier in self._carriers.get(bond.index, [])}

    def _vlan(self, bridge: Bridge) -> Link | None:
        """The 802.1Q device that a VLAN's bridge should have as a port.

        None while its parent has no uplink, or one that does not exist or is not in it: it is made when that comes.
        """
        parent = self._bridges.get(bridge.parent)
        there = self._links.get(bridge.parent)
        if parent is None or parent.uplink is None or there is None:
            return None
        lower = self._links.get(parent.uplink.device)
        if lower is None or lower.master != there.index:
            return None
        device = self._links.get(vlan_device(lower.name, bridge.vlan_tag))
        if device is None or device.lower != lower.index or device.number(VLAN_ID) != bridge.vlan_tag:
            return _MISSING  # equal to none of the ports
        return device

    def _port(self, asked: GuestPort, bridges: set[str]) -> GuestPort | None:
        link = self._links.get(asked.device)
        if link is None:
            return None
        bridge = self._names.get(link.master, "")
        if bridge not in bridges:
            return None
        lock = asked.lock
        if self._locks.get(asked.device) != lock or not self._has_branches(link, bridges):
            lock = replace(lock, mac="")  # no lock that could be wanted has no address
        return replace(
            asked,
            bridge=bridge,
            lock=lock,
            mtu_bytes=link.mtu_bytes,
            rate_kbytes_per_s=self._rates.get(asked.device, 0),
        )

    def _has_branches(self, guest: Link, bridges: set[str]) -> bool:
        """Has a guest's interface the VLAN devices that its trunk needs, and no others?"""
        wanted = [one for one in self._branches.get(guest.name, ()) if one.bridge.name in bridges]
        there = self._on_guests.get(guest.index, set())
        return {branch.name for branch in wanted} == there and all(
            link.number(VLAN_ID) == branch.bridge.vlan_tag
            and self._names.get(link.master) == branch.bridge.name
            for branch in wanted
            if (link := self._links[branch.name])
        )

    def _foreign(self, bridges: tuple[Bridge, ...], devices: set[str]) -> Iterator[str]:
        ours = {bridge.name for bridge in bridges}
        uplinks = {b.uplink.device for b in bridges if b.uplink is not None}
        for name, link in self._links.items():
            master = self._names.get(link.master, "")
            if link.kind == BRIDGE and not is_ours(link, BRIDGE):
                yield name
            elif (
                master in ours
                and name not in uplinks | devices
                and not (is_ours(link, VLAN) or is_our_tunnel(link))
            ):
                yield f"{master}/{name}"
