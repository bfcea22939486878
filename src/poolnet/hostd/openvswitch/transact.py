"""Which operations turn the rows that are there into the rows that should be?

Pure. All of them together are one transaction, so their order does not matter to the switch.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from poolnet.hostd.openvswitch.layout import Columns, InterfaceRow, Layout, PortRow
from poolnet.hostd.openvswitch.marks import Role, is_ours, role_of
from poolnet.hostd.openvswitch.tables import Interface, Port, SwitchBridge, Tables
from poolnet.ovsdb import operations
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.replica import Row
from poolnet.ovsdb.values import Atom, NewRow, RowId, Value, map_of


class NotOurs(Exception):
    """A row that the layout needs belongs to somebody else; `name` is the bridge or port."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} exists in the switch, and was not made by this daemon")
        self.name = name


def operations_for(layout: Layout, tables: Tables) -> list[Operation]:
    """The operations that make the layout real; empty when it is already.

    Raises NotOurs when a bridge or port of that name is there without our mark; a guest's port on a bridge of ours is ours.
    """
    return _Transaction(layout, tables).operations()


class _Transaction:
    """The operations as they are collected: those on rows, and the changes of the sets that hold rows together."""

    def __init__(self, layout: Layout, tables: Tables) -> None:
        self._layout = layout
        self._tables = tables
        self._names = count(1)
        self._operations: list[Operation] = []
        self._inserted_bridges: dict[str, dict[str, Value]] = {}
        self._new_bridges: dict[str, NewRow] = {}
        self._joining: dict[str, list[NewRow]] = {}
        self._leaving: dict[str, list[RowId]] = {}

    def operations(self) -> list[Operation]:
        """See `operations_for`."""
        gone = [
            self._existing_bridge(name) for name, columns in self._layout.bridges.items() if columns is None
        ]
        destroyed = {bridge.name: bridge for bridge in gone if bridge is not None}
        for name, columns in self._layout.bridges.items():
            if columns is not None:
                self._put_bridge(name, columns)
        for name, row in self._layout.ports.items():
            self._put_port(name, row, destroyed)
        self._finish(destroyed)
        return self._operations

    def _existing_bridge(self, name: str) -> SwitchBridge | None:
        bridge = self._tables.bridges.get(name)
        if bridge is not None and bridge.role is None:
            if self._layout.bridges.get(name) is None:
                return None  # somebody else's, and we do not want one of that name
            raise NotOurs(name)
        return bridge

    def _put_bridge(self, name: str, columns: Columns) -> None:
        bridge = self._existing_bridge(name)
        if bridge is None:
            self._new_bridges[name] = self._new_name()
            self._inserted_bridges[name] = {"name": name, **columns}
        else:
            self._update("Bridge", bridge.id, bridge.row, columns)

    def _put_port(self, name: str, wanted: PortRow | None, destroyed: Mapping[str, SwitchBridge]) -> None:
        port = self._tables.ports.get(name)
        if port is not None and port.role is None:
            if wanted is None:
                return
            if not self._is_stray_guest(port, wanted):
                raise NotOurs(name)
        stays = (
            port is not None and port.role is not None and wanted is not None and port.bridge == wanted.bridge
        )
        if port is not None and port.bridge in destroyed:
            stays = False
        elif port is not None and not stays:
            self._leaving.setdefault(port.bridge, []).append(port.id)
        if wanted is None:
            return
        if port is not None and stays:
            self._change_port(port, wanted)
        else:
            self._joining.setdefault(wanted.bridge, []).append(self._insert_port(wanted))

    def _is_stray_guest(self, port: Port, wanted: PortRow) -> bool:
        """A guest's port that somebody took out of one of our bridges and put into one again: without its marks."""
        role = role_of(map_of(wanted.columns.get("external_ids", ())))
        return role is Role.GUEST and self._tables.bridges[port.bridge].role is not None

    def _insert_port(self, wanted: PortRow) -> NewRow:
        interfaces = tuple(self._insert_interface(interface) for interface in wanted.interfaces)
        name = self._new_name()
        row = {"name": wanted.name, "interfaces": interfaces, **wanted.columns}
        self._operations.append(operations.insert("Port", row, name))
        return name

    def _insert_interface(self, wanted: InterfaceRow) -> NewRow:
        name = self._new_name()
        self._operations.append(operations.insert("Interface", {"name": wanted.name, **wanted.columns}, name))
        return name

    def _change_port(self, port: Port, wanted: PortRow) -> None:
        self._update("Port", port.id, port.row, wanted.columns)
        there: dict[str, Interface] = {interface.name: interface for interface in port.interfaces}
        members: list[RowId | NewRow] = []
        for interface in wanted.interfaces:
            old = there.get(interface.name)
            if old is None:
                members.append(self._insert_interface(interface))
            else:
                self._update("Interface", old.id, old.row, interface.columns)
                members.append(old.id)
        if {str(member) for member in members} != {str(interface.id) for interface in port.interfaces}:
            self._operations.append(operations.update("Port", port.id, {"interfaces": tuple(members)}))

    def _update(self, table: str, row_id: RowId, row: Row, columns: Columns) -> None:
        changed: dict[str, Value] = {}
        for column, wanted in columns.items():
            old = row.get(column, ())
            if isinstance(wanted, Mapping):
                others = old.items() if isinstance(old, Mapping) else ()
                kept: dict[Atom, Atom] = {key: v for key, v in others if not is_ours(column, str(key))}
                kept.update(wanted.items())
                wanted = kept
            if _comparable(old) != _comparable(wanted):
                changed[column] = wanted
        if changed:
            self._operations.append(operations.update(table, row_id, changed))

    def _finish(self, destroyed: Mapping[str, SwitchBridge]) -> None:
        """Put new rows into the sets that hold them, and take the others out."""
        for name, columns in self._inserted_bridges.items():
            row = {**columns, "ports": tuple(self._joining.pop(name, ()))}
            self._operations.append(operations.insert("Bridge", row, self._new_bridges[name]))
        for name in self._joining.keys() | self._leaving.keys():
            bridge = self._tables.bridges[name]
            mutations: list[tuple[str, str, Value]] = []
            if leaving := self._leaving.get(name):
                mutations.append(("ports", "delete", tuple(leaving)))
            if joining := self._joining.get(name):
                mutations.append(("ports", "insert", tuple(joining)))
            self._operations.append(operations.mutate("Bridge", bridge.id, mutations))
        changes: list[tuple[str, str, Value]] = []
        if destroyed:
            changes.append(("bridges", "delete", tuple(bridge.id for bridge in destroyed.values())))
        if self._new_bridges:
            changes.append(("bridges", "insert", tuple(self._new_bridges.values())))
        if changes:
            self._operations.append(operations.mutate("Open_vSwitch", self._tables.root, changes))

    def _new_name(self) -> NewRow:
        return NewRow(f"row{next(self._names)}")


def _comparable(value: Value) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return frozenset(value) if isinstance(value, tuple) else frozenset((value,))
