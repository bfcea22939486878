from __future__ import annotations

from collections.abc import Mapping

from poolnet.hostd.openvswitch.forming import forming, has_formed
from poolnet.hostd.openvswitch.layout import InterfaceRow, Layout, PortRow
from poolnet.hostd.openvswitch.tables import Interface, Port, Tables
from poolnet.hostnet.facts import BondFacts, LacpFacts, LacpMemberFacts
from poolnet.ovsdb.values import RowId, Value


def wanted(lacp: str, members: str = "eth0 eth1") -> Layout:
    columns: Mapping[str, Value] = {"lacp": (lacp,), "bond_updelay": 31000, "bond_downdelay": 200}
    interfaces = tuple(InterfaceRow(name=name, columns={}) for name in members.split())
    return Layout(ports={"bond0": PortRow(bridge="b", name="bond0", columns=columns, interfaces=interfaces)})


def there(lacp: str = "", members: str = "eth0 eth1") -> Tables:
    interfaces = tuple(Interface(RowId(name), name, {}) for name in members.split())
    port = Port(RowId("p"), "bond0", {"lacp": lacp}, "b", interfaces, role=None)
    return Tables(RowId("r"), 0, "", {}, {"bond0": port} if lacp else {})


def test_only_what_begins_to_speak_lacp_waits_for_nothing_at_first() -> None:
    for tables in (there(), there("off"), there("active", "eth0 eth2")):
        form = forming(wanted("active"), tables)
        assert form is not None
        assert form.bonds == ("bond0",)
        row = form.layout.ports["bond0"]
        assert row is not None
        assert (row.columns["bond_updelay"], row.columns["bond_downdelay"]) == (0, 0)
    assert forming(wanted("active"), there("active")) is None
    assert forming(wanted("off"), there()) is None
    assert forming(Layout(ports={"bond0": None}), there("active")) is None


def test_it_has_formed_when_all_members_with_a_link_agree_with_a_partner() -> None:
    def facts(up: tuple[str, ...], *agreeing: str) -> BondFacts:
        members = tuple(
            LacpMemberFacts(name=name, current=name in agreeing, attached=name in agreeing)
            for name in ("eth0", "eth1")
        )
        return BondFacts(
            device="bond0", members=("eth0", "eth1"), members_up=up, lacp=LacpFacts(members=members)
        )

    assert has_formed([facts(("eth0", "eth1"), "eth0", "eth1")], ("bond0",))
    assert has_formed([facts(("eth0",), "eth0")], ("bond0",))
    assert not has_formed([facts(("eth0", "eth1"), "eth0")], ("bond0",))
    assert has_formed([facts(("eth0", "eth1"))], ("bond1",))
