"""Which rows should the switch's database have for the bridges and ports that a plan touches?

Pure: two states in, rows out. `transact` compares them with the rows that are there. A bridge with an uplink has its
guest ports on a bridge of their own, which fails closed and exists only while there are any (spec dataplane §F2 B), so
that the host's own network never depends on flows; an internal bridge has them itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from poolnet.hostd.limits import limiter_of
from poolnet.hostd.openvswitch import bonds, limiters, marks, tunnels
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.names import guests_bridge, patch_ports
from poolnet.hostd.openvswitch.ofports import PATCH_OFPORT
from poolnet.hostd.openvswitch.tables import Tables
from poolnet.hostnet.advance import Touched
from poolnet.hostnet.state import NO_IP, Bridge, GuestPort, HostNetwork, LockMode, PortLock, Uplink
from poolnet.ovsdb.values import Value, map_of

MAC_TABLE_SIZE = "10000"
DEAD_VLAN = 4095  # a trunk of only this VLAN receives nothing and sends nothing

Columns = Mapping[str, Value]

ALL_VLANS: Columns = MappingProxyType({"tag": (), "trunks": (), "vlan_mode": ()})
"""Of a port that carries every VLAN, as they come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceRow:
    """An Interface: the columns that we decide about."""

    name: str
    columns: Columns


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRow:
    """A Port on the switch's bridge of that name."""

    bridge: str
    name: str
    columns: Columns
    interfaces: tuple[InterfaceRow, ...]


@dataclass(slots=True, kw_only=True)
class Layout:
    """The rows to be, by name; None for one that must not be. Those that are not named stay as they are."""

    bridges: dict[str, Columns | None] = field(default_factory=dict)
    ports: dict[str, PortRow | None] = field(default_factory=dict)


def layout_of(
    before: HostNetwork,
    after: HostNetwork,
    touched: Touched,
    *,
    datapath_type: str,
    ofport_of: Callable[[str, str], int],
) -> Layout:
    """The rows of what is touched, as they should be in the state `after`.

    `ofport_of(device, switch_bridge)` says which port number a guest port has or gets there.
    """
    old_bridges, new_bridges = _by_name(before), _by_name(after)
    old_ports = {port.device: port for port in before.ports if port.device in touched.devices}
    new_ports = {port.device: port for port in after.ports if port.device in touched.devices}
    layout = Layout()
    for name in sorted(touched.bridges):
        _lay_bridge(layout, old_bridges.get(name), new_bridges.get(name), after, datapath_type)
    families = {
        _family(b, by) for by in (old_bridges, new_bridges) for n in touched.bridges if (b := by.get(n))
    }
    for ports, by_name in ((old_ports, old_bridges), (new_ports, new_bridges)):
        families |= {
            _family(by_name[port.bridge], by_name) for port in ports.values() if port.bridge in by_name
        }
    with_guests = {_family(new_bridges[port.bridge], new_bridges) for port in after.ports}
    for family in sorted(families):
        _lay_guests_bridge(layout, family, new_bridges.get(family), family in with_guests, datapath_type)
    for device in sorted(touched.devices):
        port = new_ports.get(device)
        layout.ports[device] = (
            None if port is None else _guest_row(port, new_bridges[port.bridge], new_bridges, ofport_of)
        )
        layout.ports[limiter_of(device)] = (
            _limiter_row(port, new_bridges, ofport_of)
            if port is not None and port.rate_kbytes_per_s
            else None
        )
    return layout


def tunnels_first(layout: Layout, tables: Tables) -> Layout:
    """The tunnel ports that must be gone before the layout's own tunnel ports are made.

    The switch refuses a second port to the same other end, and takes one of the same transaction out too late.
    """
    making = {
        name
        for name, row in layout.ports.items()
        if row is not None and marks.role_of(map_of(row.columns.get("external_ids", ()))) is Role.TUNNEL
    }
    leaving = {
        port.name
        for port in tables.ports.values()
        if port.role is Role.TUNNEL
        and (
            (port.name in layout.ports and not _stays(layout.ports[port.name], port.bridge))
            or layout.bridges.get(port.bridge, {}) is None
        )
    }
    return Layout(ports=dict.fromkeys(sorted(leaving)) if making else {})


def _stays(row: PortRow | None, bridge: str) -> bool:
    return row is not None and row.bridge == bridge


def switch_bridge_of(port: GuestPort, bridges: Mapping[str, Bridge]) -> str:
    """The switch's bridge that a guest port is on; `bridges` are those of its state, by name."""
    family = bridges[_family(bridges[port.bridge], bridges)]
    return guests_bridge(family.name) if family.uplink is not None else family.name


def displaced(before: HostNetwork, after: HostNetwork) -> set[str]:
    """The devices of guest ports that change the switch's bridge though they stay on theirs.

    A bridge that loses its uplink has its guests itself from then on; one that gets an uplink lets them go.
    """
    old_bridges, new_bridges = _by_name(before), _by_name(after)
    was_on = {
        port.device: switch_bridge_of(port, old_bridges)
        for port in before.ports
        if port.bridge in old_bridges
    }
    return {
        port.device
        for port in after.ports
        if was_on.get(port.device, "") not in ("", switch_bridge_of(port, new_bridges))
    }


def vlan_columns(lock: PortLock, vlan_tag: int) -> dict[str, Value]:
    """The columns that say which VLANs a guest port has; `vlan_tag` is its bridge's, or -1.

    A disabled port is dead. On a VLAN the port is an access port. Otherwise it has the trunks it may have; a locked one
    without any only untagged frames, an unlocked one everything, as the reference does.
    """
    columns: dict[str, Value] = dict(ALL_VLANS)
    if lock.mode is LockMode.DISABLED:
        columns |= {"vlan_mode": "trunk", "trunks": (DEAD_VLAN,)}
    elif vlan_tag >= 0:
        columns |= {"vlan_mode": "access", "tag": vlan_tag}
    elif lock.trunks:
        columns |= {"vlan_mode": "trunk", "trunks": tuple(sorted(set(lock.trunks)))}
    elif lock.mode is LockMode.LOCKED and not lock.shadow:  # which is to drop nothing
        columns |= {"vlan_mode": "access", "tag": 0}
    return columns


def _by_name(network: HostNetwork) -> dict[str, Bridge]:
    return {bridge.name: bridge for bridge in network.bridges}


def _family(bridge: Bridge, bridges: Mapping[str, Bridge]) -> str:
    """The name of the bridge at the bottom: a VLAN's parent, or the bridge itself."""
    return bridge.parent if bridge.parent in bridges else bridge.name


def _lay_bridge(
    layout: Layout, old: Bridge | None, new: Bridge | None, after: HostNetwork, datapath_type: str
) -> None:
    """The rows of one bridge and its uplink, without its guests' bridge."""
    if old is not None and old.uplink is not None and (new is None or new.uplink != old.uplink):
        for name in _uplink_ports(old.uplink):
            layout.ports.setdefault(name, None)
    if old is not None and (new is None or bool(old.parent) != bool(new.parent)):
        if old.parent:
            layout.ports.setdefault(old.name, None)
        else:
            layout.bridges[old.name] = None
    if new is None:
        return
    is_management = after.management_bridge == new.name
    if new.parent:
        layout.ports[new.name] = _vlan_row(new, is_management)
        return
    layout.bridges[new.name] = _bridge_columns(new, datapath_type)
    layout.ports[new.name] = PortRow(
        bridge=new.name,
        name=new.name,
        columns={**ALL_VLANS, "external_ids": _owned(Role.HOST)},
        interfaces=(_host_interface(new, is_management),),
    )
    if new.uplink is not None:
        for row in _tunnel_rows(new) if new.uplink.tunnel is not None else (_uplink_row(new),):
            layout.ports[row.name] = row


def _uplink_ports(uplink: Uplink) -> tuple[str, ...]:
    return tuple(tunnels.port_names(uplink)) if uplink.tunnel is not None else (uplink.device,)


def _bridge_columns(bridge: Bridge, datapath_type: str) -> Columns:
    secure = bridge.uplink is None or bridge.fail_mode_secure
    external_ids = _owned(Role.BRIDGE)
    if bridge.network_uuids:
        external_ids[marks.NETWORK_UUIDS] = ";".join(bridge.network_uuids)
    if bridge.uplink is not None and bridge.uplink.tunnel is not None:
        external_ids[marks.TUNNEL] = marks.remember(bridge.uplink)
    other_config = _switching_config(bridge)
    if bridge.mac:
        other_config["hwaddr"] = bridge.mac
    return {
        "datapath_type": datapath_type,
        "fail_mode": "secure" if secure else "standalone",
        "mcast_snooping_enable": bridge.igmp_snooping,
        "external_ids": external_ids,
        "other_config": other_config,
    }


def _switching_config(bridge: Bridge) -> dict[str, str]:
    config = {"mac-table-size": MAC_TABLE_SIZE}
    if bridge.igmp_snooping:
        config["mcast-snooping-disable-flood-unregistered"] = "true"
    return config


def _host_interface(bridge: Bridge, is_management: bool) -> InterfaceRow:
    """The bridge's own interface, which carries the host's addresses there."""
    external_ids = _owned(Role.HOST)
    if bridge.ip != NO_IP:
        external_ids[marks.IP] = marks.remember(bridge.ip)
    if is_management:
        external_ids[marks.MANAGEMENT] = "true"
    columns: dict[str, Value] = {
        "type": "internal",
        "mtu_request": bridge.mtu_bytes,
        "external_ids": external_ids,
    }
    if bridge.parent:
        columns["mac"] = (bridge.mac,) if bridge.mac else ()
    asked = [word for word, value in _flags(bridge) if value]
    if asked:
        external_ids[marks.FLAGS] = " ".join(asked)
    return InterfaceRow(name=bridge.name, columns=columns)


def _flags(bridge: Bridge) -> tuple[tuple[str, bool], ...]:
    """What is asked of a bridge that its rows have no column for."""
    return (
        (marks.FLAG_SECURE, bridge.fail_mode_secure and bridge.uplink is None),
        (marks.FLAG_SNOOPING, bridge.igmp_snooping and bool(bridge.parent)),
    )


def _vlan_row(bridge: Bridge, is_management: bool) -> PortRow:
    external_ids = _owned(Role.VLAN)
    if bridge.network_uuids:
        external_ids[marks.VLAN_NETWORK_UUIDS] = ";".join(bridge.network_uuids)
    return PortRow(
        bridge=bridge.parent,
        name=bridge.name,
        columns={**ALL_VLANS, "tag": bridge.vlan_tag, "fake_bridge": True, "external_ids": external_ids},
        interfaces=(_host_interface(bridge, is_management),),
    )


def _uplink_row(bridge: Bridge) -> PortRow:
    uplink = bridge.uplink
    assert uplink is not None, "only bridges with an uplink have an uplink port"  # noqa: S101 - for the type checker; nothing from outside is asserted
    external_ids = _owned(Role.UPLINK)
    columns: dict[str, Value] = {**ALL_VLANS, "external_ids": external_ids}
    config: dict[str, str] = {}
    if uplink.bond is not None:
        columns |= bonds.port_columns(uplink.bond)
        columns["mac"] = (bridge.mac,) if bridge.mac else ()
        external_ids[marks.BOND] = marks.remember(uplink.bond)
        config = bonds.member_config(uplink.bond)
    members = tuple(
        InterfaceRow(
            name=member,
            columns={
                "mtu_request": bridge.mtu_bytes,
                "other_config": config,
                "external_ids": _owned(Role.UPLINK),
            },
        )
        for member in uplink.members
    )
    return PortRow(bridge=bridge.name, name=uplink.device, columns=columns, interfaces=members)


def _tunnel_rows(bridge: Bridge) -> Iterator[PortRow]:
    """One port for each other end; the switch passes nothing from one protected port to another."""
    uplink = bridge.uplink
    assert uplink is not None, "only bridges with an uplink have a tunnel"  # noqa: S101 - for the type checker; nothing from outside is asserted
    for name, interface_type, options in tunnels.interfaces(uplink):
        columns: dict[str, Value] = {
            "type": interface_type,
            "options": options,
            "external_ids": _owned(Role.TUNNEL),
        }
        yield PortRow(
            bridge=bridge.name,
            name=name,
            columns={**ALL_VLANS, "protected": True, "external_ids": _owned(Role.TUNNEL)},
            interfaces=(InterfaceRow(name=name, columns=columns),),
        )


def _lay_guests_bridge(
    layout: Layout, family: str, bridge: Bridge | None, has_guests: bool, datapath_type: str
) -> None:
    """The secure bridge of a family's guest ports, and the patch between the two."""
    name = guests_bridge(family)
    near, far = patch_ports(family)
    if bridge is None or bridge.uplink is None or not has_guests:
        layout.bridges.setdefault(name, None)
        layout.ports.setdefault(near, None)
        return
    layout.bridges[name] = {
        "datapath_type": datapath_type,
        "fail_mode": "secure",
        "mcast_snooping_enable": bridge.igmp_snooping,
        "external_ids": {**_owned(Role.GUESTS), marks.BRIDGE: family},
        "other_config": _switching_config(bridge),
    }
    layout.ports[name] = PortRow(
        bridge=name,
        name=name,
        columns={"external_ids": _owned(Role.HOST)},
        interfaces=(
            InterfaceRow(name=name, columns={"type": "internal", "external_ids": _owned(Role.HOST)}),
        ),
    )
    layout.ports[near] = _patch_row(family, near, far, snoops=bridge.igmp_snooping)
    layout.ports[far] = _patch_row(name, far, near, ofport=PATCH_OFPORT, snoops=bridge.igmp_snooping)


def _patch_row(bridge: str, name: str, peer: str, ofport: int | None = None, *, snoops: bool) -> PortRow:
    """One end. What members of groups report, both bridges hear, or one would not know whom the other carries."""
    columns: dict[str, Value] = {
        "type": "patch",
        "options": {"peer": peer},
        "external_ids": _owned(Role.PATCH),
    }
    if ofport is not None:
        columns["ofport_request"] = ofport
    return PortRow(
        bridge=bridge,
        name=name,
        columns={
            **ALL_VLANS,
            "external_ids": _owned(Role.PATCH),
            "other_config": {"mcast-snooping-flood-reports": "true"} if snoops else {},
        },
        interfaces=(InterfaceRow(name=name, columns=columns),),
    )


def _guest_row(
    port: GuestPort, bridge: Bridge, bridges: Mapping[str, Bridge], ofport_of: Callable[[str, str], int]
) -> PortRow:
    switch_bridge = switch_bridge_of(port, bridges)
    external_ids = _owned(Role.GUEST) | {
        marks.LOCK: marks.remember(port.lock),
        marks.BRIDGE: port.bridge,
        marks.ATTACHED_MAC: port.lock.mac,
    }
    uuids = {
        marks.VM_UUID: port.vm_uuid,
        marks.VIF_UUID: port.vif_uuid,
        marks.NETWORK_UUID: port.network_uuid,
    }
    external_ids |= {key: uuid for key, uuid in uuids.items() if uuid}
    interface = InterfaceRow(
        name=port.device,
        columns={
            "ofport_request": ofport_of(port.device, switch_bridge),
            "mtu_request": port.mtu_bytes,
            "external_ids": external_ids,
        },
    )
    columns = vlan_columns(port.lock, bridge.vlan_tag) | {"external_ids": _owned(Role.GUEST)}
    return PortRow(bridge=switch_bridge, name=port.device, columns=columns, interfaces=(interface,))


def _limiter_row(
    port: GuestPort, bridges: Mapping[str, Bridge], ofport_of: Callable[[str, str], int]
) -> PortRow:
    switch_bridge, name = switch_bridge_of(port, bridges), limiter_of(port.device)
    columns = limiters.interface_columns(port, ofport_of(name, switch_bridge))
    marked = {"external_ids": _owned(Role.LIMITER) | {marks.LIMITED: port.device}}
    return PortRow(
        bridge=switch_bridge,
        name=name,
        columns=limiters.port_columns() | {"external_ids": _owned(Role.LIMITER)},
        interfaces=(InterfaceRow(name=name, columns=columns | marked),),
    )


def _owned(role: Role) -> dict[str, str]:
    return {marks.OWNER: role.value}
