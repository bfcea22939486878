"""The rows of the switch's database by name, as they were when the index was made.

`observe` reads a host's network from it, `transact` what must change. Making it costs one pass over the replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poolnet.hostd.openvswitch import marks
from poolnet.hostd.openvswitch.marks import Role, role_of
from poolnet.ovsdb.replica import Replica, Row
from poolnet.ovsdb.values import RowId, all_of, map_of, one_of

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Open_vSwitch": ("bridges", "next_cfg", "cur_cfg", "ovs_version", "external_ids"),
    "Bridge": (
        "name",
        "ports",
        "fail_mode",
        "datapath_type",
        "mcast_snooping_enable",
        "external_ids",
        "other_config",
    ),
    "Port": (
        "name",
        "interfaces",
        "tag",
        "trunks",
        "vlan_mode",
        "fake_bridge",
        "protected",
        "mac",
        "bond_mode",
        "bond_updelay",
        "bond_downdelay",
        "bond_active_slave",
        "lacp",
        "external_ids",
        "other_config",
    ),
    "Interface": (
        "name",
        "type",
        "options",
        "mac",
        "mac_in_use",
        "mtu",
        "mtu_request",
        "ofport",
        "ofport_request",
        "ifindex",
        "admin_state",
        "link_state",
        "lacp_current",
        "error",
        "external_ids",
        "other_config",
    ),
}


@dataclass(frozen=True, slots=True)
class Interface:
    """An Interface row."""

    id: RowId
    name: str
    row: Row

    def text(self, column: str) -> str:
        """A column of at most one text; "" when it is empty."""
        return one_of(self.row.get(column), str, "")

    def number(self, column: str) -> int | None:
        """A column of at most one number."""
        return one_of(self.row.get(column), int, None)

    def map(self, column: str) -> dict[str, str]:
        """A column of text to text."""
        return map_of(self.row.get(column))


@dataclass(frozen=True, slots=True)
class Port:
    """A Port row with its interfaces, on the switch's bridge of that name."""

    id: RowId
    name: str
    row: Row
    bridge: str
    interfaces: tuple[Interface, ...]
    role: Role | None

    def map(self, column: str) -> dict[str, str]:
        """A column of text to text."""
        return map_of(self.row.get(column))


@dataclass(frozen=True, slots=True)
class SwitchBridge:
    """A Bridge row with its ports."""

    id: RowId
    name: str
    row: Row
    ports: tuple[Port, ...]
    role: Role | None

    def map(self, column: str) -> dict[str, str]:
        """A column of text to text."""
        return map_of(self.row.get(column))

    @property
    def is_secure(self) -> bool:
        """Does it drop everything while it has no flows?"""
        return one_of(self.row.get("fail_mode"), str, "") == "secure"

    @property
    def has_uplink(self) -> bool:
        """Does it lead out of the host? Then its guests are on a bridge of their own."""
        return marks.TUNNEL in self.map("external_ids") or any(
            port.role is Role.UPLINK for port in self.ports
        )


@dataclass(frozen=True, slots=True)
class Tables:
    """The whole of it."""

    root: RowId
    cur_cfg: int
    ovs_version: str
    bridges: Mapping[str, SwitchBridge]
    ports: Mapping[str, Port]


def tables_of(replica: Replica) -> Tables:
    """The index of a replica of COLUMNS. Rows that nothing refers to are left out."""
    root_id, root = next(iter(replica.rows("Open_vSwitch").items()))
    bridges: dict[str, SwitchBridge] = {}
    ports: dict[str, Port] = {}
    for bridge_id in all_of(root.get("bridges"), RowId):
        row = replica.row("Bridge", bridge_id)
        if row is None:
            continue
        name = one_of(row.get("name"), str, "")
        of_bridge = tuple(
            _port(replica, port_id, port_row, name)
            for port_id in all_of(row.get("ports"), RowId)
            if (port_row := replica.row("Port", port_id)) is not None
        )
        ports |= {port.name: port for port in of_bridge}
        bridges[name] = SwitchBridge(
            bridge_id, name, row, of_bridge, role_of(map_of(row.get("external_ids")))
        )
    return Tables(
        root_id,
        one_of(root.get("cur_cfg"), int, 0),
        one_of(root.get("ovs_version"), str, ""),
        bridges,
        ports,
    )


def _port(replica: Replica, port_id: RowId, row: Row, bridge: str) -> Port:
    interfaces = tuple(
        Interface(interface_id, one_of(interface.get("name"), str, ""), interface)
        for interface_id in all_of(row.get("interfaces"), RowId)
        if (interface := replica.row("Interface", interface_id)) is not None
    )
    role = role_of(map_of(row.get("external_ids")))
    return Port(port_id, one_of(row.get("name"), str, ""), row, bridge, interfaces, role)
