"""How does a bond begin to speak LACP without doubling frames, and with all its members?

Open vSwitch takes a new LACP bond for one with a partner until three seconds of silence have shown that there is none. Its
members must not carry traffic in that time: to a switch that knows no bond they are two ways into the same network. They
would for as long as the bond waits before it gives up a link, and only one would come back before the bond has waited for a
link to be steady. So it waits for nothing until it has found its partner, or found that there is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final

from poolnet.hostd.openvswitch.layout import Layout, PortRow
from poolnet.hostd.openvswitch.tables import Tables
from poolnet.hostnet.facts import BondFacts
from poolnet.ovsdb.values import one_of

FORMING_S: Final = 3.5  # the switch's three seconds, and a moment for what it makes of them
FORMING_LOOK_S: Final = 0.05
_ACTIVE = "active"
_NO_DELAYS = {"bond_downdelay": 0, "bond_updelay": 0}


@dataclass(frozen=True, slots=True)
class Forming:
    """The layout to go through before the wanted one, and the bonds that begin to speak LACP in it."""

    layout: Layout
    bonds: tuple[str, ...]


def has_formed(facts: Iterable[BondFacts], names: Collection[str]) -> bool:
    """Whether all members of these bonds that have a link agree with a partner."""
    mine = [bond for bond in facts if bond.device in names and bond.lacp is not None]
    return all(
        member.current and member.attached
        for bond in mine
        if bond.lacp is not None
        for member in bond.lacp.members
        if member.name in bond.members_up
    )


def forming(layout: Layout, tables: Tables) -> Forming | None:
    """What comes before `layout`; None when nothing begins to speak LACP."""
    ports = {
        name: replace(row, columns={**row.columns, **_NO_DELAYS})
        for name, row in layout.ports.items()
        if row is not None and _begins(row, tables)
    }
    if not ports:
        return None
    return Forming(Layout(bridges=layout.bridges, ports={**layout.ports, **ports}), tuple(ports))


def _begins(row: PortRow, tables: Tables) -> bool:
    if one_of(row.columns.get("lacp"), str, "") != _ACTIVE:
        return False
    there = tables.ports.get(row.name)
    if there is None or one_of(there.row.get("lacp"), str, "") != _ACTIVE:
        return True
    return {i.name for i in there.interfaces} != {i.name for i in row.interfaces}
