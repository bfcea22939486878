from __future__ import annotations

from typing import Any

import pytest

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import (
    BondMode,
    IpConfigurationMode,
    Ipv6ConfigurationMode,
    PrimaryAddressType,
)
from poolnet.model.types import NULL, Ref
from poolnet.rules.bond import repair
from tests.unit.rules.world import LOCAL, World, refused


def members(w: World, *devices: str) -> tuple[Ref[PIF], ...]:
    return tuple(w.nic_pif(device).ref for device in devices)


def bond(w: World, *devices: str, **arguments: Any) -> Bond:
    network = w.network()
    ref: Ref[Bond] = w.call(
        "Bond.create", network=network, members=members(w, *devices), **{"MAC": "", **arguments}
    )
    return w.txn.get(Bond, ref)


def give_address(w: World, device: str, address: str) -> None:
    w.txn.update(
        PIF,
        w.nic_pif(device).ref,
        ip_configuration_mode=IpConfigurationMode.STATIC,
        IP=address,
        netmask="255.255.255.0",
    )


def test_a_bond_over_the_management_interface_takes_it_over() -> None:
    w = World.new()
    w.txn.update(
        PIF, w.nic_pif("eth0").ref, ipv6_configuration_mode=Ipv6ConfigurationMode.STATIC, IPv6=("fd00::1/64",)
    )
    made = bond(w, "eth1", "eth0")
    eth0, eth1, master = w.nic_pif("eth0"), w.nic_pif("eth1"), w.txn.get(PIF, made.master)
    assert made.primary_slave == eth0.ref
    assert (master.device, master.MAC, master.IP) == ("bond0", eth0.MAC, "192.0.2.10")
    assert master.IPv6 == ("fd00::1/64",)
    assert (eth0.management, master.management) == (False, True)
    assert (eth0.currently_attached, eth1.currently_attached, master.currently_attached) == (
        False,
        False,
        True,
    )
    assert (eth0.IP, eth0.ip_configuration_mode) == ("", IpConfigurationMode.NONE)
    assert w.txn.get(Host, LOCAL).address == "192.0.2.10"
    state = w.derive()
    assert state.management_bridge == w.txn.get(Network, master.network).bridge
    bridge = state.bridge(state.management_bridge)
    assert bridge is not None
    assert bridge.uplink is not None
    assert (bridge.uplink.device, bridge.uplink.members) == ("bond0", ("eth0", "eth1"))
    assert state.bridge("xenbr0") is None


def test_vlans_move_with_their_vifs_in_place() -> None:
    w = World.new()
    network = w.network()
    old = w.txn.get(VLAN, w.vlan(w.nic_pif("eth0").ref, 20, network))
    w.txn.update(PIF, old.untagged_PIF, other_config={"k": "v"})
    w.txn.update(VLAN, old.ref, other_config={"a": "b"})
    vm = w.vm()
    vif = w.vif(vm, network)
    w.start(vm)
    made = bond(w, "eth0", "eth1")
    assert not w.txn.exists(VLAN, old.ref)
    assert not w.txn.exists(PIF, old.untagged_PIF)
    (new,) = w.txn.where(VLAN, tagged_PIF=made.master)
    pif = w.txn.get(PIF, new.untagged_PIF)
    assert (pif.network, pif.device, pif.currently_attached) == (network, "bond0", True)
    assert (pif.other_config, new.other_config) == ({"k": "v"}, {"a": "b"})
    row = w.txn.get(VIF, vif)
    assert (row.network, row.currently_attached) == (network, True)
    assert len(w.derive().ports) == 1


def test_two_members_with_one_tag_become_one_vlan() -> None:
    w = World.new()
    networks = [w.network(), w.network()]
    for device, network in zip(("eth1", "eth2"), networks, strict=True):
        w.vlan(w.nic_pif(device).ref, 7, network)
    vm = w.vm()
    vif = w.vif(vm, networks[1])
    w.start(vm)
    made = bond(w, "eth1", "eth2")
    assert [v.tag for v in w.txn.where(VLAN, tagged_PIF=made.master)] == [7]
    assert w.txn.get(VIF, vif).network == networks[0]


def test_tunnels_and_vifs_on_the_members_move() -> None:
    w = World.new()
    give_address(w, "eth1", "10.0.0.1")
    transport = w.nic_pif("eth1").ref
    old = w.call("tunnel.create", transport_PIF=transport, network=w.network())
    vm = w.vm()
    vif = w.vif(vm, w.nic_network("eth2"))
    halted = w.vif(w.vm(), w.nic_network("eth1"))
    w.start(vm)
    w.txn.update(PIF, transport, disallow_unplug=True)
    made = bond(w, "eth1", "eth2")
    master = w.txn.get(PIF, made.master)
    assert not w.txn.exists(Tunnel, old)
    (tunnel,) = w.txn.where(Tunnel, transport_PIF=master.ref)
    assert w.txn.get(PIF, tunnel.access_PIF).currently_attached
    assert w.txn.get(VIF, vif).network == master.network
    assert w.txn.get(VIF, halted).network == master.network
    assert master.disallow_unplug
    assert not w.txn.get(PIF, transport).disallow_unplug


def test_halted_vms_that_could_run_elsewhere_keep_their_network() -> None:
    w = World.new()
    w.host()
    elsewhere = w.vif(w.vm(), w.nic_network("eth1"))
    bond(w, "eth1", "eth2")
    assert w.txn.get(VIF, elsewhere).network == w.nic_network("eth1")


def test_destroy_gives_everything_back_to_the_primary_member() -> None:
    w = World.new()
    vm = w.vm()
    network = w.nic_network("eth0")
    vif = w.vif(vm, network)
    w.start(vm)
    w.vlan(w.nic_pif("eth0").ref, 20)
    before = w.derive()
    made = bond(w, "eth0", "eth1")
    master = w.txn.get(PIF, made.master)
    w.call("Bond.destroy", self=made.ref)
    assert not w.txn.exists(Bond, made.ref)
    assert not w.txn.exists(PIF, made.master)
    assert w.txn.exists(PIFMetrics, master.metrics)
    assert w.txn.exists(Network, master.network)
    eth0 = w.nic_pif("eth0")
    assert (eth0.management, eth0.IP, eth0.currently_attached) == (True, "192.0.2.10", True)
    assert w.nic_pif("eth1").currently_attached
    assert w.txn.get(VIF, vif).network == network
    assert w.derive() == before


def test_create_refuses_in_the_order_of_the_reference() -> None:
    w = World.new()
    eth1, eth2 = members(w, "eth1", "eth2")
    network = w.network(managed=False)
    arguments: dict[str, Any] = {"network": network, "MAC": "bad", "properties": {"min_links": "1"}}

    def create(*refs: Ref[PIF]) -> None:
        w.call("Bond.create", members=refs, **arguments)

    with refused("PIF_BOND_NEEDS_MORE_MEMBERS"):
        create()
    missing: Ref[PIF] = Ref("OpaqueRef:none")
    with refused("HANDLE_INVALID", "PIF", missing):
        create(eth1, missing)
    with refused("NETWORK_UNMANAGED", network):
        create(eth1, eth2)
    arguments["network"] = w.nic_network("eth1")
    with refused("NETWORK_ALREADY_CONNECTED", LOCAL, eth1):
        create(eth1, eth2)
    arguments["network"] = w.network()
    with refused("MAC_INVALID", "bad"):
        create(eth1, eth2)
    arguments["MAC"] = "02:00:00:00:00:01"
    with refused("INVALID_VALUE", "properties", "min_links = 1"):
        create(eth1, eth2)
    arguments["properties"] = {}
    w.txn.update(PIF, eth2, primary_address_type=PrimaryAddressType.IPV6, managed=False)
    with refused("PIF_INCOMPATIBLE_PRIMARY_ADDRESS_TYPE", eth2):
        create(eth1, eth2)
    w.txn.update(PIF, eth2, primary_address_type=PrimaryAddressType.IPV4)
    with refused("PIF_UNMANAGED", eth2):
        create(eth1, eth2)
    w.txn.update(PIF, eth2, managed=True)
    untagged = w.txn.get(VLAN, w.vlan(eth1, 3)).untagged_PIF
    with refused("PIF_VLAN_EXISTS", "eth1"):
        create(eth1, untagged)
    w.pool(ha_enabled=True)
    with refused("HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE"):
        create(w.nic_pif("eth0").ref, eth2)
    w.pool(ha_enabled=False)
    foreign = w.pif_of(w.host(), w.nic_network("eth1")).ref
    w.txn.update(PIF, eth2, properties={"gro": "off"})
    with refused("PIF_CANNOT_BOND_CROSS_HOST"):
        create(eth2, foreign)
    give_address(w, "eth1", "10.0.0.1")
    give_address(w, "eth2", "10.0.0.2")
    with refused("INCOMPATIBLE_PIF_PROPERTIES"):
        create(eth1, eth2)
    w.txn.update(PIF, eth2, properties={"gro": "on"})
    with refused("PIF_BOND_MORE_THAN_ONE_IP"):
        create(eth1, eth2)
    w.txn.update(PIF, eth2, ip_configuration_mode=IpConfigurationMode.NONE)
    create(eth1, eth2, eth1)
    arguments["network"] = w.network()
    with refused("PIF_ALREADY_BONDED", eth2):
        create(eth2)


def test_a_given_mac_stays_and_a_taken_one_follows_the_primary_member() -> None:
    w = World.new()
    given = bond(w, "eth1", "eth2", MAC="02:00:00:00:00:01")
    assert (given.auto_update_mac, w.txn.get(PIF, given.master).MAC) == (False, "02:00:00:00:00:01")
    w.call("Bond.destroy", self=given.ref)
    taken = bond(w, "eth1", "eth2")
    w.txn.update(PIF, taken.primary_slave, MAC="52:54:00:00:00:aa")
    w.call("PIF.plug", self=taken.master)
    assert w.txn.get(PIF, taken.master).MAC == "52:54:00:00:00:aa"


def test_the_members_networks_take_the_bonds_mtu() -> None:
    w = World.new()
    made = bond(w, "eth1", "eth2")
    w.txn.update(Network, w.txn.get(PIF, made.master).network, MTU=9000)
    w.call("PIF.plug", self=made.master)
    assert w.txn.get(Network, w.nic_network("eth1")).MTU == 9000
    assert w.txn.get(PIF, made.master).MTU == 9000


@pytest.mark.parametrize(
    ("mode", "properties", "bad"),
    [
        (BondMode.BALANCE_SLB, {"hashing_algorithm": "src_mac"}, "hashing_algorithm = src_mac"),
        (BondMode.LACP, {"hashing_algorithm": "none"}, "hashing_algorithm = none"),
        (BondMode.LACP, {"lacp-time": "medium"}, "lacp-time = medium"),
        (BondMode.LACP, {"lacp-aggregation-key": "x"}, "lacp-aggregation-key = x"),
        (BondMode.LACP, {"lacp-fallback-ab": "yes"}, "lacp-fallback-ab = yes"),
        (BondMode.LACP, {"min_links": "1"}, "min_links = 1"),
    ],
)
def test_properties_are_those_of_the_mode(mode: BondMode, properties: dict[str, str], bad: str) -> None:
    w = World.new()
    with refused("INVALID_VALUE", "properties", bad):
        bond(w, "eth1", "eth2", mode=mode, properties=properties)


def test_defaults_come_with_lacp_and_go_with_it() -> None:
    w = World.new()
    made = bond(w, "eth1", "eth2", mode=BondMode.LACP, properties={"lacp-time": "fast"})
    assert made.properties == {
        "lacp-time": "fast",
        "hashing_algorithm": "tcpudp_ports",
        "lacp-fallback-ab": "true",
    }
    w.call("Bond.set_property", self=made.ref, name="lacp-aggregation-key", value="7")
    assert w.txn.get(Bond, made.ref).properties["lacp-aggregation-key"] == "7"
    w.call("Bond.set_mode", self=made.ref, value=BondMode.ACTIVE_BACKUP)
    assert w.txn.get(Bond, made.ref).properties == {}
    with refused("INVALID_VALUE", "properties", "lacp-time = slow"):
        w.call("Bond.set_property", self=made.ref, name="lacp-time", value="slow")


def test_a_bond_of_one_is_a_plain_bridge() -> None:
    w = World.new()
    made = bond(w, "eth1")
    bridge = w.derive().bridge(w.txn.get(Network, w.txn.get(PIF, made.master).network).bridge)
    assert bridge is not None
    assert bridge.uplink is not None
    assert (bridge.uplink.members, bridge.uplink.bond) == (("eth1",), None)


def test_the_management_bond_stays_under_high_availability() -> None:
    w = World.new()
    made = bond(w, "eth0", "eth1")
    w.pool(ha_enabled=True)
    with refused("HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE"):
        w.call("Bond.destroy", self=made.ref)


def test_a_start_leaves_bonds_that_are_in_order_alone() -> None:
    w = World.new()
    w.vlan(w.nic_pif("eth0").ref, 20)
    bond(w, "eth0", "eth1")
    w.ctx = w.ctx.on(w.txn.nested())
    repair(w.ctx, LOCAL)
    assert not w.txn.changes()


def test_a_start_moves_to_the_master_what_is_found_on_members() -> None:
    w = World.new()
    made = bond(w, "eth1", "eth2")
    eth1, master = w.nic_pif("eth1"), w.txn.get(PIF, made.master)
    vif = w.vif(w.vm(), eth1.network)
    vlan = w.txn.get(VLAN, w.vlan(made.master, 20))
    w.txn.update(VLAN, vlan.ref, tagged_PIF=eth1.ref)
    w.txn.update(PIF, w.nic_pif("eth0").ref, management=False, bond_slave_of=Ref("OpaqueRef:gone"))
    w.txn.update(PIF, eth1.ref, management=True)
    give_address(w, "eth1", "10.0.0.1")
    w.txn.update(Bond, made.ref, primary_slave=NULL)
    repair(w.ctx, LOCAL)
    (moved,) = w.txn.where(VLAN, tagged_PIF=master.ref)
    assert (moved.tag, w.txn.where(VLAN, tagged_PIF=eth1.ref)) == (20, ())
    assert w.txn.get(VIF, vif).network == master.network
    assert w.txn.get(Bond, made.ref).primary_slave == eth1.ref
    assert w.nic_pif("eth0").bond_slave_of == NULL
    row = w.txn.get(PIF, master.ref)
    assert (row.management, row.IP, w.nic_pif("eth1").management) == (True, "10.0.0.1", False)
