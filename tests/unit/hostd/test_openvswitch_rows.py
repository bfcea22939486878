"""What is laid out in the switch's rows is read back as the same state, without a switch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from poolnet.hostd.openvswitch import bonds, marks
from poolnet.hostd.openvswitch.layout import layout_of, vlan_columns
from poolnet.hostd.openvswitch.names import NAME_LENGTH_MAX, guests_bridge, patch_ports
from poolnet.hostd.openvswitch.observe import observe
from poolnet.hostd.openvswitch.ofports import OFPORT_MAX, OFPORT_MIN, NoFreePort, next_ofport
from poolnet.hostd.openvswitch.tables import tables_of
from poolnet.hostd.openvswitch.transact import NotOurs, operations_for
from poolnet.hostnet.advance import advance, touched_by
from poolnet.hostnet.diff import diff
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.state import (
    EMPTY,
    BondMode,
    BondOptions,
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv6Mode,
    LockMode,
    PortLock,
    TunnelKind,
    TunnelOptions,
    Uplink,
)
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.replica import Replica
from poolnet.ovsdb.values import Json

SCHEMA: Json = {"tables": {}}
ROOT = "00000000-0000-0000-0000-000000000000"


class FakeDatabase:
    """Rows that operations are carried out on, as far as a layout uses them. The real one is in the lab tests."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Json]]] = {
            "Open_vSwitch": {ROOT: {"bridges": ["set", []]}},
            "Bridge": {},
            "Port": {},
            "Interface": {},
        }

    def replica(self) -> Replica:
        replica = Replica(SCHEMA)
        replica.apply(
            {
                table: {row_id: {"initial": dict(row)} for row_id, row in rows.items()}
                for table, rows in self.tables.items()
            }
        )
        return replica

    def carry_out(self, operations: list[Operation]) -> None:
        number = sum(len(rows) for rows in self.tables.values())
        names: dict[str, str] = {}
        for operation in operations:
            if operation["op"] == "insert":
                number += 1
                names[str(operation["uuid-name"])] = f"{number:08x}-0000-0000-0000-{id(self) & 0xFFFF:012x}"
        for operation in operations:
            self._carry_out(operation, names)

    def _carry_out(self, operation: Operation, names: Mapping[str, str]) -> None:
        table = self.tables[str(operation["table"])]
        if operation["op"] == "insert":
            row = operation["row"]
            assert isinstance(row, dict)
            table[names[str(operation["uuid-name"])]] = {k: _named(v, names) for k, v in row.items()}
            return
        where: Any = operation["where"]
        row_id = where[0][2][1]
        if operation["op"] == "update":
            row = operation["row"]
            assert isinstance(row, dict)
            table[str(row_id)] |= {k: _named(v, names) for k, v in row.items()}
            return
        assert operation["op"] == "mutate"
        mutations: Any = operation["mutations"]
        for column, mutator, members in mutations:
            old = _members(table[str(row_id)].get(str(column)))
            change = _members(_named(members, names))
            merged = [m for m in old if m not in change] + (change if mutator == "insert" else [])
            table[str(row_id)][str(column)] = ["set", merged]


def _named(value: Json, names: Mapping[str, str]) -> Json:
    if isinstance(value, list) and len(value) == 2 and value[0] == "named-uuid":
        return ["uuid", names[str(value[1])]]
    return [_named(item, names) for item in value] if isinstance(value, list) else value


def _members(value: Json) -> list[Json]:
    if isinstance(value, list) and value and value[0] == "set":
        assert isinstance(value[1], list)
        return value[1]
    return [] if value is None else [value]


def apply_to(database: FakeDatabase, desired: HostNetwork) -> list[Operation]:
    tables = tables_of(database.replica())
    before = observe(tables, {}, {}, {port.device: port.rate_kbytes_per_s for port in desired.ports})
    steps = diff(before, desired).steps
    ofports = iter(range(OFPORT_MIN, OFPORT_MAX))
    layout = layout_of(
        before,
        advance(before, steps),
        touched_by(steps),
        datapath_type="netdev",
        ofport_of=lambda _device, _bridge: next(ofports),
    )
    operations = operations_for(layout, tables)
    database.carry_out(operations)
    return operations


LOCK = PortLock(
    mode=LockMode.LOCKED, mac="aa:00:00:00:00:01", ipv4_allowed=("10.0.0.1",), ipv6_allowed=("fd00::/64",)
)


def tunnel_to(*remotes: str) -> Uplink:
    return Uplink(
        device="tunnel0", members=(), tunnel=TunnelOptions(kind=TunnelKind.VXLAN, key=7, remotes=remotes)
    )


BASE = Bridge(name="xenbr0", uplink=Uplink(device="eth0", members=("eth0",)), mac="02:00:00:00:00:01")
VLAN = Bridge(name="xapi0", parent="xenbr0", vlan_tag=50, igmp_snooping=True, fail_mode_secure=True)
LONG = Bridge(name="fifteen-letters", fail_mode_secure=True, network_uuids=("a", "b"))
AUTOCONF = IpConfig(ipv6_mode=Ipv6Mode.AUTOCONF, dns_search=("example.org",))
STATES = (
    HostNetwork(bridges=(BASE,)),
    HostNetwork(bridges=(VLAN, BASE), ports=(GuestPort(device="vif1.0", bridge="xapi0", lock=LOCK),)),
    HostNetwork(
        bridges=(replace(VLAN, ip=AUTOCONF), replace(BASE, igmp_snooping=True)), management_bridge="xapi0"
    ),
    HostNetwork(
        bridges=(LONG, replace(BASE, uplink=None)),
        ports=(
            GuestPort(
                device="vif1.0", bridge="fifteen-letters", lock=replace(LOCK, shadow=True), mtu_bytes=9000
            ),
            GuestPort(
                device="vif2.0", bridge="xenbr0", lock=replace(LOCK, trunks=(0, 7)), rate_kbytes_per_s=3
            ),
        ),
    ),
    HostNetwork(bridges=(replace(LONG, uplink=BASE.uplink),), ports=()),
    HostNetwork(bridges=(replace(LONG, uplink=tunnel_to(), fail_mode_secure=False),), ports=()),
    HostNetwork(
        bridges=(replace(LONG, uplink=tunnel_to("10.0.0.2", "10.0.0.3")),),
        ports=(GuestPort(device="vif1.0", bridge="fifteen-letters", lock=LOCK),),
    ),
    HostNetwork(bridges=(replace(LONG, uplink=tunnel_to("10.0.0.3", "fd00::1")),), ports=()),
    EMPTY,
)


def test_a_walk_through_states_is_read_back_at_every_station() -> None:
    database = FakeDatabase()
    for desired in (*STATES, *reversed(STATES)):
        apply_to(database, desired)
        rates = {port.device: port.rate_kbytes_per_s for port in desired.ports}
        observed = observe(tables_of(database.replica()), {}, {}, rates)
        assert mismatches(observed, desired) == ()
        assert apply_to(database, desired) == []


def test_a_port_that_somebody_moved_to_another_vlan_is_seen_and_repaired() -> None:
    database = FakeDatabase()
    desired = STATES[1]
    apply_to(database, desired)
    row = next(row for row in database.tables["Port"].values() if row["name"] == "vif1.0")
    row |= {"tag": 99, "vlan_mode": ["set", []]}
    assert mismatches(observe(tables_of(database.replica()), {}, {}, {}), desired)
    apply_to(database, desired)
    assert (row["tag"], row["vlan_mode"]) == (50, "access")


@pytest.mark.parametrize(
    ("port", "bridge", "columns"),
    [
        ("eth0", "xenbr0", {"tag": 5}),
        ("eth0", "xenbr0", {"vlan_mode": "trunk", "trunks": ["set", [7, 9]]}),
        ("xenbr0", "xenbr0", {"tag": 5}),
        (patch_ports("xenbr0")[0], "xenbr0", {"tag": 5}),
        ("xapi0", "xapi0", {"vlan_mode": "trunk", "trunks": 7}),
    ],
)
def test_vlans_that_somebody_gave_to_a_port_of_a_bridge_are_seen_and_repaired(
    port: str, bridge: str, columns: dict[str, Json]
) -> None:
    database = FakeDatabase()
    desired = STATES[1]
    apply_to(database, desired)
    row = next(row for row in database.tables["Port"].values() if row["name"] == port)
    before = dict(row)
    row |= columns
    (found,) = mismatches(observe(tables_of(database.replica()), {}, {}, {}), desired)
    assert found.startswith(f"bridge {bridge}: strange_vlans is [{port}: ")
    apply_to(database, desired)
    assert {name: _members(row[name]) for name in columns} == {
        name: _members(before[name]) for name in columns
    }


def test_a_tunnel_that_somebody_bent_or_lengthened_is_seen_and_repaired() -> None:
    database = FakeDatabase()
    desired = HostNetwork(bridges=(replace(LONG, uplink=tunnel_to("10.0.0.2", "10.0.0.3")),))
    apply_to(database, desired)
    rows = [row for row in database.tables["Interface"].values() if row.get("type") == "vxlan"]
    rows[0]["options"] = ["map", [["remote_ip", "10.0.0.99"], ["key", "7"]]]
    assert mismatches(observe(tables_of(database.replica()), {}, {}, {}), desired)
    apply_to(database, desired)
    assert observe(tables_of(database.replica()), {}, {}, {}) == desired
    apply_to(database, HostNetwork(bridges=(replace(LONG, uplink=tunnel_to("10.0.0.2")),)))
    assert len(tables_of(database.replica()).ports) == 2


def test_a_name_that_somebody_else_has_is_not_taken() -> None:
    database = FakeDatabase()
    apply_to(database, HostNetwork(bridges=(LONG,)))
    for row in (*database.tables["Bridge"].values(), *database.tables["Port"].values()):
        row["external_ids"] = ["map", []]
    with pytest.raises(NotOurs, match="fifteen-letters"):
        apply_to(database, HostNetwork(bridges=(LONG,)))


@pytest.mark.parametrize("spoilt", ["", "{", '{"mode": "none"}', "[]"])
def test_a_mark_that_somebody_spoilt_reads_as_a_lock_that_nobody_wants(spoilt: str) -> None:
    database = FakeDatabase()
    apply_to(database, STATES[1])
    row = next(row for row in database.tables["Interface"].values() if row["name"] == "vif1.0")
    pairs: Any = row["external_ids"]
    ids: Json = [[key, spoilt if key == marks.LOCK else value] for key, value in pairs[1]]
    row["external_ids"] = ["map", ids]
    observed = observe(tables_of(database.replica()), {}, {}, {})
    assert observed.ports[0].lock.mac == ""
    assert mismatches(observed, STATES[1])


@pytest.mark.parametrize("bridge", ["xenbr0", "fourteen-chars", "fifteen-letters", "fifteen-letterz"])
def test_the_names_of_a_bridge_fit_and_differ(bridge: str) -> None:
    names = {bridge, guests_bridge(bridge), *patch_ports(bridge)}
    assert len(names) == 4
    assert all(len(name) <= NAME_LENGTH_MAX for name in names)


def test_names_that_are_cut_alike_stay_apart() -> None:
    assert guests_bridge("fifteen-letters") != guests_bridge("fifteen-letterz")


def test_port_numbers_go_on_after_the_last_and_begin_again_at_the_end() -> None:
    assert next_ofport(OFPORT_MIN, ()) == OFPORT_MIN
    assert next_ofport(OFPORT_MIN + 5, {OFPORT_MIN + 5}) == OFPORT_MIN + 6
    assert next_ofport(OFPORT_MAX, {OFPORT_MAX, OFPORT_MIN}) == OFPORT_MIN + 1
    assert next_ofport(OFPORT_MAX + 1, ()) == OFPORT_MIN
    assert next_ofport(7, ()) == OFPORT_MIN
    with pytest.raises(NoFreePort):
        next_ofport(OFPORT_MIN, range(OFPORT_MIN, OFPORT_MAX + 1))


@pytest.mark.parametrize(
    ("options", "bond_mode", "lacp", "config"),
    [
        (
            BondOptions(mode=BondMode.BALANCE_SLB),
            "balance-slb",
            "off",
            {"bond-rebalance-interval": "1800000"},
        ),
        (
            BondOptions(mode=BondMode.ACTIVE_BACKUP, use_carrier=False),
            "active-backup",
            "off",
            {"bond-detect-mode": "miimon"},
        ),
        (BondOptions(mode=BondMode.LACP), "balance-tcp", "active", {"bond-detect-mode": "carrier"}),
        (
            BondOptions(
                mode=BondMode.LACP,
                properties=(
                    ("hashing_algorithm", "src_mac"),
                    ("lacp-aggregation-key", "9"),
                    ("lacp-fallback-ab", "true"),
                    ("lacp-time", "fast"),
                    ("primary", "eth1"),
                ),
            ),
            "balance-slb",
            "active",
            {"lacp-time": "fast", "lacp-fallback-ab": "true", "bond-primary": "eth1"},
        ),
    ],
)
def test_bond_options_are_written_as_the_reference_writes_them_and_read_back(
    options: BondOptions, bond_mode: str, lacp: str, config: dict[str, str]
) -> None:
    columns = bonds.port_columns(options)
    assert (columns["bond_mode"], columns["lacp"]) == ((bond_mode,), (lacp,))
    written = columns["other_config"]
    assert isinstance(written, Mapping)
    assert config.items() <= dict(written).items()
    assert ("bond-rebalance-interval" in written) == (options.mode is not BondMode.LACP)
    asked = {"external_ids": {marks.BOND: marks.remember(options)}}
    member = {"other_config": bonds.member_config(options)}
    assert bonds.observed({**columns, **asked}, member) == options
    altered = {**columns, **asked, "bond_updelay": 7}
    assert bonds.observed(altered, member).updelay_ms == 7
    for words in (("balance-tcp", "off"), ("active-backup", "passive"), ("balance-slb", "passive")):
        other = {**columns, **asked, "bond_mode": (words[0],), "lacp": (words[1],)}
        assert bonds.observed(other, member) != options, "no mode of ours"


@pytest.mark.parametrize(
    ("lock", "tag", "columns"),
    [
        (replace(LOCK, mode=LockMode.DISABLED), 50, {"vlan_mode": "trunk", "trunks": (4095,), "tag": ()}),
        (LOCK, 50, {"vlan_mode": "access", "tag": 50, "trunks": ()}),
        (LOCK, -1, {"vlan_mode": "access", "tag": 0, "trunks": ()}),
        (replace(LOCK, trunks=(9, 7, 9)), -1, {"vlan_mode": "trunk", "trunks": (7, 9), "tag": ()}),
        (replace(LOCK, mode=LockMode.UNLOCKED), -1, {"vlan_mode": (), "trunks": (), "tag": ()}),
    ],
)
def test_the_vlans_of_a_guest_port_follow_from_its_lock_and_its_bridge(
    lock: PortLock, tag: int, columns: dict[str, object]
) -> None:
    assert vlan_columns(lock, tag) == columns
