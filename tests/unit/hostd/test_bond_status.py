"""The switch's own words about its bonds, as Open vSwitch 3.1 writes them."""

from __future__ import annotations

from collections.abc import Mapping

from poolnet.hostd.openvswitch import bond_status, marks
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.tables import Interface, Port, Tables
from poolnet.hostnet.facts import BondFacts, LacpFacts, LacpMemberFacts
from poolnet.ovsdb.values import RowId, Value

BOND_SHOW = """---- other ----
bond_mode: balance-slb

member eth9: enabled
  active member
  may_enable: true

---- bond0 ----
bond_mode: active-backup
updelay: 31000 ms
lacp_status: off
active-backup primary: <none>
active member mac: 02:98:11:8f:a7:1e(eth2)

member eth1: disabled
  updelay expires in 29669 ms
  may_enable: true

member eth2: enabled
  active member
  may_enable: true

member eth3: enabled
  may_enable: true
"""
LACP_SHOW = """---- bond0 ----
  status: active negotiated
  sys_id: 02:98:11:8f:a7:1e
  sys_priority: 65534
  aggregation key: 1
  lacp_time: fast

member: eth1: defaulted detached
  port_id: 1
  may_enable: false

  actor sys_id: 02:98:11:8f:a7:1e
  actor key: 1

  partner sys_id: 00:00:00:00:00:00
  partner port_id: 0
  partner key: 0
  partner state:

member: eth2: current attached
  port_id: 2
  may_enable: true

  actor sys_id: 02:98:11:8f:a7:1e

  partner sys_id: 92:01:1c:48:44:46
  partner port_id: 67
  partner key: 70
  partner state: activity timeout aggregation synchronized collecting distributing

member: eth3: current attached
  partner sys_id: 92:01:1c:48:44:46
  partner port_id: 68
  partner key: 70
"""


def interface(name: str, **columns: Value) -> Interface:
    row = {"name": name, "link_state": "up", "mac_in_use": f"02:00:00:00:00:0{name[-1]}", **columns}
    return Interface(RowId(name), name, row)


def tables(interfaces: tuple[Interface, ...], **columns: Value) -> Tables:
    ids = {marks.OWNER: Role.UPLINK.value, marks.BOND: "{}"}
    ours = Port(RowId("p"), "bond0", {"external_ids": ids, **columns}, "xapi1", interfaces, role=Role.UPLINK)
    single = Port(RowId("q"), "eth9", {}, "xenbr9", (interface("eth9"),), role=Role.UPLINK)
    foreign = Port(RowId("r"), "other", {}, "br", (interface("eth8"),), role=None)
    ports: Mapping[str, Port] = {port.name: port for port in (foreign, single, ours)}
    return Tables(RowId("root"), 0, "3.1.0", {}, ports)


MEMBERS = tuple(interface(name) for name in ("eth3", "eth1", "eth2"))


def test_members_in_waiting_are_up_but_not_enabled() -> None:
    (facts,) = bond_status.read(tables(MEMBERS, bond_mode="active-backup"), BOND_SHOW, "")
    assert facts == BondFacts(
        device="bond0",
        members=("eth1", "eth2", "eth3"),
        members_up=("eth1", "eth2", "eth3"),
        enabled=("eth2", "eth3"),
        active=("eth2",),
    )
    assert facts.is_settling
    (balanced,) = bond_status.read(tables(MEMBERS, bond_mode="balance-slb"), BOND_SHOW, "")
    assert balanced.active == ("eth2", "eth3")


def test_lacp_tells_of_the_partner_per_member() -> None:
    (facts,) = bond_status.read(tables(MEMBERS, bond_mode="balance-tcp", lacp="active"), BOND_SHOW, LACP_SHOW)
    partner = "92:01:1c:48:44:46"
    assert facts.lacp == LacpFacts(
        negotiated=True,
        fast=True,
        system="02:98:11:8f:a7:1e",
        key=1,
        members=(
            LacpMemberFacts(name="eth1"),
            LacpMemberFacts(
                name="eth2",
                current=True,
                attached=True,
                partner_system=partner,
                partner_key=70,
                partner_port=67,
            ),
            LacpMemberFacts(
                name="eth3",
                current=True,
                attached=True,
                partner_system=partner,
                partner_key=70,
                partner_port=68,
            ),
        ),
    )
    assert facts.lacp is not None
    assert facts.lacp.partner_system == partner


def test_a_silent_daemon_leaves_what_the_database_knows() -> None:
    down, up = interface("eth1", link_state="down", lacp_current=False), interface("eth2", lacp_current=True)
    rows = {"bond_mode": "active-backup", "bond_active_slave": "02:00:00:00:00:02"}
    (facts,) = bond_status.read(tables((down, up), **rows), "", "")
    assert (facts.members_up, facts.enabled, facts.active, facts.lacp) == (
        ("eth2",),
        ("eth2",),
        ("eth2",),
        None,
    )
    (facts,) = bond_status.read(tables((down, up), bond_mode="balance-tcp", lacp="active"), "", "")
    assert facts.lacp is not None
    assert [member.current for member in facts.lacp.members] == [False, True]
    assert (facts.lacp.negotiated, facts.lacp.partner_system) == (False, "")


def test_nonsense_is_no_bond() -> None:
    for text in ("", "---- bond0 ----", "no such command\n", "---- bond0 ----\nmember eth1\n: \n"):
        (facts,) = bond_status.read(tables(MEMBERS, lacp="active"), text, text)
        assert facts.members == ("eth1", "eth2", "eth3")
