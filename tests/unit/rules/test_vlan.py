from __future__ import annotations

import pytest

from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode
from poolnet.model.types import NULL, Ref
from tests.unit.rules.world import LOCAL, World, refused


def test_a_vlan_is_a_pif_on_the_network_and_attached() -> None:
    w = World.new()
    tagged = w.nic_pif("eth1")
    network = w.network()
    vlan = w.txn.get(VLAN, w.vlan(tagged.ref, 100, network))
    pif = w.txn.get(PIF, vlan.untagged_PIF)
    assert (vlan.tag, vlan.tagged_PIF, vlan.other_config) == (100, tagged.ref, {})
    assert (pif.device, pif.MAC, pif.VLAN, pif.physical) == ("eth1", "fe:ff:ff:ff:ff:ff", 100, False)
    assert pif.currently_attached
    assert pif.metrics == tagged.metrics
    assert pif.IPv6 == ("",)
    assert pif.VLAN_master_of == vlan.ref
    assert w.txn.get(PIF, tagged.ref).VLAN_slave_of == (vlan.ref,)


def test_the_pif_under_a_vlan_need_not_be_attached() -> None:
    w = World.new()
    tagged = w.nic_pif("eth1")
    w.call("PIF.unplug", self=tagged.ref)
    w.vlan(tagged.ref, 100)
    assert not w.nic_pif("eth1").currently_attached
    assert {b.name for b in w.derive().bridges if b.uplink or b.parent} >= {"xenbr1"}


@pytest.mark.parametrize("tag", [-1, 4095, 9999])
def test_tags_outside_0_to_4094_are_refused(tag: int) -> None:
    w = World.new()
    with refused("VLAN_TAG_INVALID", str(tag)):
        w.vlan(w.nic_pif("eth1").ref, tag)


@pytest.mark.parametrize("tag", [0, 4094])
def test_the_outermost_tags_are_valid(tag: int) -> None:
    w = World.new()
    assert w.txn.get(VLAN, w.vlan(w.nic_pif("eth1").ref, tag)).tag == tag


def test_refusals_come_in_the_order_of_the_reference() -> None:
    """Each step mends what the one before was refused for; all later faults are there from the start."""
    w = World.new()
    first = w.nic_pif("eth1")
    members = (w.nic_pif("eth1").ref, w.nic_pif("eth2").ref)
    vlan_there = w.vlan(first.ref, 7)
    network = w.network(managed=False)
    trunked = w.vif(w.vm(), network, MAC="00:16:3e:00:00:01", trunks=(10,))

    with refused("NETWORK_UNMANAGED", network):
        w.vlan(first.ref, 7777, network)
    w.txn.update(Network, network, managed=True)

    blocker = w.unmanaged_pif(network)
    with refused("NETWORK_ALREADY_CONNECTED", LOCAL, blocker):
        w.vlan(first.ref, 7777, network)
    w.call("PIF.db_forget", self=blocker)

    w.txn.update(PIF, first.ref, managed=False)
    with refused("PIF_UNMANAGED", first.ref):
        w.vlan(first.ref, 7777, network)
    w.txn.update(PIF, first.ref, managed=True)

    with refused("PIF_IS_VLAN", w.txn.get(VLAN, vlan_there).untagged_PIF):
        w.vlan(w.txn.get(VLAN, vlan_there).untagged_PIF, 7777, network)
    with refused("VLAN_TAG_INVALID", "7777"):
        w.vlan(first.ref, 7777, network)
    with refused("PIF_VLAN_EXISTS", "eth1"):
        w.vlan(first.ref, 7, network)
    with refused("NETWORK_INCOMPATIBLE_WITH_TRUNKS", network):
        w.vlan(first.ref, 8, network)
    w.call("VIF.set_trunks", self=trunked, value=())
    w.vlan(first.ref, 8, network)

    w.call("Bond.create", network=w.network(), members=members, MAC="")
    with refused("CANNOT_ADD_VLAN_TO_BOND_SLAVE", first.ref):
        w.vlan(first.ref, 9)


def test_a_tunnels_access_pif_carries_no_vlan() -> None:
    w = World.new()
    transport = w.nic_pif("eth0").ref
    tunnel = w.call("tunnel.create", transport_PIF=transport, network=w.network())
    access = next(p for p in w.txn.all(PIF) if tunnel in p.tunnel_access_PIF_of)
    with refused("IS_TUNNEL_ACCESS_PIF", access.ref):
        w.vlan(access.ref, 9)


def test_a_bond_carries_vlans() -> None:
    w = World.new()
    members = (w.nic_pif("eth1").ref, w.nic_pif("eth2").ref)
    w.call("Bond.create", network=w.network(), members=members, MAC="")
    master = next(p for p in w.txn.all(PIF) if p.bond_master_of)
    w.vlan(master.ref, 9)
    assert {p.device for p in w.txn.all(PIF) if p.VLAN == 9} == {"bond0"}


def test_another_hosts_vlan_on_the_network_is_no_obstacle() -> None:
    w = World.new()
    host = w.host()
    network = w.network()
    w.vlan(w.pif_of(host, w.nic_network("eth1")).ref, 10, network)
    w.vlan(w.nic_pif("eth1").ref, 10, network)
    mine = w.pif_of(LOCAL, network)
    with refused("NETWORK_ALREADY_CONNECTED", LOCAL, mine.ref):
        w.vlan(w.nic_pif("eth1").ref, 9999, network)


def test_a_dead_hosts_vlan_cannot_be_made() -> None:
    w = World.new()
    host = w.host(live=False)
    with refused("HOST_OFFLINE", host):
        w.vlan(w.pif_of(host, w.nic_network("eth1")).ref, 10)


def test_destroy_removes_the_vlan_and_its_pif_but_not_the_shared_metrics() -> None:
    w = World.new()
    tagged = w.nic_pif("eth1")
    network = w.network()
    vlan = w.vlan(tagged.ref, 10, network)
    pif = w.txn.get(VLAN, vlan).untagged_PIF
    w.call("VLAN.destroy", self=vlan)
    assert not w.txn.exists(VLAN, vlan)
    assert not w.txn.exists(PIF, pif)
    assert w.txn.exists(PIFMetrics, tagged.metrics)
    assert w.txn.exists(Network, network)


def test_destroy_refuses_in_the_order_of_the_reference() -> None:
    w = World.new()
    network = w.network()
    vlan = w.vlan(w.nic_pif("eth1").ref, 10, network)
    pif = w.txn.get(VLAN, vlan).untagged_PIF
    vm = w.vm()
    vif = w.vif(vm, network)
    w.start(vm)
    w.txn.update(PIF, pif, management=True, disallow_unplug=True)
    w.pool(ha_enabled=True, redo_log_enabled=True)
    with refused("HA_IS_ENABLED"):
        w.call("VLAN.destroy", self=vlan)
    w.pool(ha_enabled=False)
    with refused("REDO_LOG_IS_ENABLED"):
        w.call("VLAN.destroy", self=vlan)
    w.pool(redo_log_enabled=False)
    with refused("PIF_IS_MANAGEMENT_INTERFACE", pif):
        w.call("VLAN.destroy", self=vlan)
    w.txn.update(PIF, pif, management=False)
    with refused("VIF_IN_USE", network, vif):
        w.call("VLAN.destroy", self=vlan)
    w.call("VM.hard_shutdown", vm=vm)
    with refused("PIF_DOES_NOT_ALLOW_UNPLUG", pif):
        w.call("VLAN.destroy", self=vlan)
    w.txn.update(PIF, pif, disallow_unplug=False)
    w.call("VLAN.destroy", self=vlan)


def test_a_vlan_without_its_pif_is_just_removed() -> None:
    w = World.new()
    vlan = w.vlan(w.nic_pif("eth1").ref, 10)
    w.call("PIF.db_forget", self=w.txn.get(VLAN, vlan).untagged_PIF)
    w.call("VLAN.destroy", self=vlan)
    assert not w.txn.exists(VLAN, vlan)


def test_the_deprecated_pif_messages_make_and_remove_vlans() -> None:
    w = World.new()
    network = w.network()
    with refused("INVALID_VALUE", "device", "eth7"):
        w.call("PIF.create_VLAN", device="eth7", network=network, host=LOCAL, VLAN=5)
    pif = w.call("PIF.create_VLAN", device="eth1", network=network, host=LOCAL, VLAN=5)
    assert w.txn.get(PIF, pif).VLAN == 5
    with refused("PIF_IS_PHYSICAL"):
        w.call("PIF.destroy", self=w.nic_pif("eth1").ref)
    w.call("PIF.destroy", self=pif)
    assert w.txn.count(VLAN) == 0


def test_a_vlan_of_the_whole_pool_is_made_on_every_host_or_on_none() -> None:
    w = World.new()
    w.host()
    network = w.network()
    pifs = w.call("pool.create_VLAN", device="eth1", network=network, VLAN=5)
    assert len(pifs) == 2
    again = w.network()
    made = w.call("pool.create_VLAN_from_PIF", pif=w.nic_pif("eth1").ref, network=again, VLAN=6)
    assert {w.txn.get(PIF, ref).VLAN for ref in made} == {6}
    with refused("PIF_VLAN_EXISTS", "eth1"):
        w.call("pool.create_VLAN_from_PIF", pif=w.nic_pif("eth1").ref, network=w.network(), VLAN=6)
    dead = w.host(live=False)
    with refused("HOST_OFFLINE", dead):
        w.call("pool.create_VLAN", device="eth1", network=w.network(), VLAN=7)
    assert not [p for p in w.txn.all(PIF) if p.VLAN == 7]
    live_only = w.call("pool.create_VLAN_from_PIF", pif=w.nic_pif("eth1").ref, network=w.network(), VLAN=8)
    assert len(live_only) == 2


def test_introducing_a_vlan_shares_the_metrics() -> None:
    w = World.new()
    tagged = w.nic_pif("eth1")
    untagged = introduced(w, w.network())
    own = w.txn.get(PIF, untagged).metrics
    vlan = w.call(
        "VLAN.pool_introduce", tagged_PIF=tagged.ref, untagged_PIF=untagged, tag=3, other_config={"k": "v"}
    )
    assert w.txn.get(PIF, untagged).metrics == tagged.metrics
    assert w.txn.get(PIF, untagged).VLAN_master_of == vlan
    assert not w.txn.exists(PIFMetrics, own)


def introduced(w: World, network: Ref[Network], tag: int = 3) -> Ref[PIF]:
    result: Ref[PIF] = w.call(
        "PIF.pool_introduce",
        device="eth1",
        network=network,
        host=LOCAL,
        MAC="fe:ff:ff:ff:ff:ff",
        MTU=1500,
        VLAN=tag,
        physical=False,
        ip_configuration_mode=IpConfigurationMode.NONE,
        IP="",
        netmask="",
        gateway="",
        DNS="",
        bond_slave_of=Ref("OpaqueRef:ignored"),
        VLAN_master_of=NULL,
        management=False,
        other_config={},
    )
    return result


def test_introducing_a_vlan_pif_respects_trunks_and_ignores_the_bond() -> None:
    w = World.new()
    network = w.network()
    assert w.txn.get(PIF, introduced(w, network)).bond_slave_of == NULL
    trunked = w.network()
    w.vif(w.vm(), trunked, trunks=(1,))
    with refused("NETWORK_INCOMPATIBLE_WITH_TRUNKS", trunked):
        introduced(w, trunked)
    introduced(w, trunked, tag=-1)
