"""What is this host's network, as the switch's database and the kernel have it?

Pure: rows and addresses in, the same type out that `derive` makes. What differs from what we remember in the marks
(somebody changed a port's VLANs, or took an address away) is reported as it is, so that a plan repairs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from poolnet.hostd.netlink import NO_ADDRESSES, Addresses
from poolnet.hostd.openvswitch import bonds, limiters, marks, tunnels
from poolnet.hostd.openvswitch.layout import ALL_VLANS, vlan_columns
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.tables import Interface, Port, SwitchBridge, Tables
from poolnet.hostd.seen_addresses import as_seen
from poolnet.hostnet.state import (
    NO_IP,
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    LockMode,
    PortLock,
    Uplink,
)
from poolnet.ovsdb.values import Value, all_of, map_of, one_of

MTU_DEFAULT = 1500
_UNTAGGED = frozenset((Role.HOST, Role.UPLINK, Role.TUNNEL, Role.PATCH))
_UNKNOWN_LOCK = PortLock(mode=LockMode.DISABLED, mac="")


def observe(
    tables: Tables,
    addresses: Mapping[str, Addresses],
    macs: Mapping[str, str],
    rates: Mapping[str, int],
) -> HostNetwork:
    """The host's network.

    `addresses` are those of the kernel by interface, `macs` those of `unreported_macs`, `rates` the kernel's limits by the
    guest's interface, which are in force where the switch sends its frames through them.
    """
    bridges: list[Bridge] = []
    ports: list[GuestPort] = []
    foreign: list[str] = []
    management = ""
    for switch_bridge in tables.bridges.values():
        if switch_bridge.role is None:
            foreign.append(switch_bridge.name)
            continue
        if switch_bridge.role is Role.BRIDGE:
            bridges += _bridges_on(switch_bridge, addresses, macs)
        vlans = _vlans_of(tables, switch_bridge)
        is_closed = switch_bridge.is_secure and (
            switch_bridge.role is Role.GUESTS or not switch_bridge.has_uplink
        )
        for port in switch_bridge.ports:
            if port.role is None:
                foreign.append(f"{switch_bridge.name}/{port.name}")
            elif port.role is Role.GUEST and port.interfaces:
                limited = limiters.is_connected(switch_bridge, port.name)
                rate = rates.get(port.name, 0) if limited else 0
                seen = _guest_port(port, _base_name(switch_bridge), vlans, is_closed=is_closed)
                ports.append(replace(seen, rate_kbytes_per_s=rate))
            elif (
                port.role in (Role.HOST, Role.VLAN)
                and port.interfaces
                and port.interfaces[0].map("external_ids").get(marks.MANAGEMENT)
            ):
                management = port.name
    return HostNetwork(
        bridges=tuple(sorted(bridges, key=lambda bridge: bridge.name)),
        ports=tuple(sorted(ports, key=lambda port: port.device)),
        management_bridge=management,
        foreign=tuple(sorted(foreign)),
    )


def has_addresses(tables: Tables) -> bool:
    """Is any bridge's interface meant to have addresses, so that the kernel's must be known to observe it?"""
    return any(
        port.role in (Role.HOST, Role.VLAN)
        and any(marks.IP in map_of(i.row.get("external_ids")) for i in port.interfaces)
        for port in tables.ports.values()
    )


def unreported_macs(tables: Tables) -> Iterator[str]:
    """The bridges' interfaces that were given a hardware address which the switch does not say they have.

    It reports their addresses a while after it has set them: the kernel knows earlier.
    """
    for port in tables.ports.values():
        if port.role in (Role.HOST, Role.VLAN) and port.interfaces:
            interface = port.interfaces[0]
            if interface.text("mac") != interface.text("mac_in_use"):
                yield interface.name


def _base_name(bridge: SwitchBridge) -> str:
    if bridge.role is Role.GUESTS:
        return bridge.map("external_ids").get(marks.BRIDGE, bridge.name)
    return bridge.name


def _vlans_of(tables: Tables, bridge: SwitchBridge) -> Mapping[int, str]:
    """The VLAN bridges that a guest port on this bridge can be on, by tag."""
    base = tables.bridges.get(_base_name(bridge))
    if base is None:
        return {}
    return {one_of(port.row.get("tag"), int, -1): port.name for port in base.ports if port.role is Role.VLAN}


def _bridges_on(
    switch_bridge: SwitchBridge, addresses: Mapping[str, Addresses], macs: Mapping[str, str]
) -> Iterator[Bridge]:
    host = next((p for p in switch_bridge.ports if p.role is Role.HOST and p.interfaces), None)
    uplink_port = next((p for p in switch_bridge.ports if p.role is Role.UPLINK and p.interfaces), None)
    external_ids = switch_bridge.map("external_ids")
    uplink = _uplink(uplink_port) if uplink_port is not None else _tunnel(switch_bridge)
    flags: list[str] = []
    mtu = MTU_DEFAULT
    mac = switch_bridge.map("other_config").get("hwaddr", "")
    ip = NO_IP
    if host is not None:
        interface = host.interfaces[0]
        flags = _flags(interface)
        mtu = _mtu(interface)
        mac = macs.get(interface.name) or interface.text("mac_in_use") or mac
        ip = _ip(interface, addresses)
    if uplink_port is not None:
        # The smallest is what gets through, unless all are larger than asked for.
        mtu = min([mtu, *(_mtu(member) for member in uplink_port.interfaces)])
    yield Bridge(
        name=switch_bridge.name,
        uplink=uplink,
        mac=mac,
        mtu_bytes=mtu,
        network_uuids=_split(external_ids.get(marks.NETWORK_UUIDS, "")),
        ip=ip,
        igmp_snooping=switch_bridge.row.get("mcast_snooping_enable") is True,
        # An internal bridge is secure because of its guests: if it is not, it is other than any that could be wanted.
        fail_mode_secure=switch_bridge.is_secure == (uplink is not None or marks.FLAG_SECURE in flags),
        strange_vlans=tuple(_strange_vlans(port for port in switch_bridge.ports if port.role in _UNTAGGED)),
    )
    for port in switch_bridge.ports:
        if port.role is Role.VLAN and port.interfaces:
            yield _vlan_bridge(port, addresses, macs)


def _vlan_bridge(port: Port, addresses: Mapping[str, Addresses], macs: Mapping[str, str]) -> Bridge:
    interface = port.interfaces[0]
    flags = _flags(interface)
    return Bridge(
        name=port.name,
        parent=port.bridge,
        vlan_tag=one_of(port.row.get("tag"), int, -1),
        mac=macs.get(interface.name) or interface.text("mac_in_use") or interface.text("mac"),
        mtu_bytes=_mtu(interface),
        network_uuids=_split(port.map("external_ids").get(marks.VLAN_NETWORK_UUIDS, "")),
        ip=_ip(interface, addresses),
        igmp_snooping=marks.FLAG_SNOOPING in flags,
        fail_mode_secure=marks.FLAG_SECURE in flags,
        strange_vlans=tuple(_strange_vlans((port,))),
    )


def _strange_vlans(ports: Iterable[Port]) -> Iterator[str]:
    """What ports have in their columns about VLANs that nobody gives them; a VLAN's own port has a tag."""
    for port in sorted(ports, key=lambda port: port.name):
        for column in ALL_VLANS:
            values = sorted(map(str, _members(port.row.get(column, ()))))
            if values and not (column == "tag" and port.role is Role.VLAN):
                yield f"{port.name}: {column} {' '.join(values)}"


def _uplink(port: Port) -> Uplink:
    members = tuple(sorted(interface.name for interface in port.interfaces))
    if marks.BOND not in port.map("external_ids") and len(members) == 1:
        return Uplink(device=port.name, members=members)
    return Uplink(device=port.name, members=members, bond=bonds.observed(port.row, port.interfaces[0].row))


def _tunnel(switch_bridge: SwitchBridge) -> Uplink | None:
    ports = [port for port in switch_bridge.ports if port.role is Role.TUNNEL]
    return tunnels.observed(switch_bridge.map("external_ids"), ports)


def _guest_port(port: Port, base: str, vlans: Mapping[int, str], *, is_closed: bool) -> GuestPort:
    """`is_closed`: it is on a bridge that drops everything without flows, where every guest's port belongs."""
    interface = port.interfaces[0]
    external_ids = interface.map("external_ids")
    lock = marks.recall(external_ids.get(marks.LOCK, ""), PortLock) or _UNKNOWN_LOCK
    bridge = external_ids.get(marks.BRIDGE, base)
    tag = next((tag for tag, name in vlans.items() if name == bridge), -1)
    if not columns_are(port, vlan_columns(lock, tag)):
        seen = one_of(port.row.get("tag"), int, -1)
        bridge = vlans.get(seen, base)
        lock = replace(lock, mac="")  # not what it was: no lock that could be wanted has no address
    if not is_closed:
        lock = replace(lock, mac="")
    return GuestPort(
        device=port.name,
        bridge=bridge,
        lock=lock,
        mtu_bytes=_mtu(interface),
        vif_uuid=external_ids.get(marks.VIF_UUID, ""),
        vm_uuid=external_ids.get(marks.VM_UUID, ""),
        network_uuid=external_ids.get(marks.NETWORK_UUID, ""),
    )


def columns_are(port: Port, columns: Mapping[str, Value]) -> bool:
    """Does a port have these values in its columns?"""
    return all(_members(port.row.get(column, ())) == _members(value) for column, value in columns.items())


def _members(value: Value) -> frozenset[object]:
    return frozenset(all_of(value, object))


def _ip(interface: Interface, addresses: Mapping[str, Addresses]) -> IpConfig:
    """What is remembered, without what the kernel does not have."""
    text = interface.map("external_ids").get(marks.IP)
    asked = marks.recall(text, IpConfig) if text else NO_IP
    return NO_IP if asked is None else as_seen(asked, addresses.get(interface.name, NO_ADDRESSES))


def _mtu(interface: Interface) -> int:
    return interface.number("mtu") or interface.number("mtu_request") or MTU_DEFAULT


def _flags(interface: Interface) -> list[str]:
    return interface.map("external_ids").get(marks.FLAGS, "").split()


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(";") if part)
