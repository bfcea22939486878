from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PifIgmpStatus, PrimaryAddressType
from poolnet.model.types import NULL, Ref
from poolnet.rules.facts import record_facts
from tests.unit.rules.world import LOCAL, NOW, World, facts_with, refused

NO_IP: dict[str, Any] = {"IP": "", "netmask": "", "gateway": "", "DNS": ""}
STATIC: dict[str, Any] = {
    "mode": IpConfigurationMode.STATIC,
    "IP": "10.0.0.5",
    "netmask": "255.255.255.0",
    "gateway": "10.0.0.1",
    "DNS": "",
}


def test_a_scan_gives_new_nics_a_pif_and_keeps_those_of_missing_ones() -> None:
    w = World.new(nics=2)
    w.ctx.facts = {LOCAL: facts_with(nics=4)}
    w.call("PIF.scan", host=LOCAL)
    assert {p.device for p in w.txn.all(PIF)} == {"eth0", "eth1", "eth2", "eth3"}
    assert not w.nic_pif("eth3").currently_attached
    w.ctx.facts = {LOCAL: facts_with(nics=1)}
    w.call("PIF.scan", host=LOCAL)
    assert w.txn.count(PIF) == 4


def test_a_forgotten_pif_comes_back_on_the_same_network_under_a_new_uuid() -> None:
    w = World.new()
    old = w.nic_pif("eth1")
    w.call("PIF.forget", self=old.ref)
    assert not w.txn.exists(PIFMetrics, old.metrics)
    w.call("PIF.scan", host=LOCAL)
    new = w.nic_pif("eth1")
    assert new.network == old.network
    assert new.uuid != old.uuid


def test_a_scan_reads_the_macs_anew() -> None:
    w = World.new()
    facts = facts_with()
    nics = (replace(facts.nics[0], mac="52:54:00:AA:00:00"), *facts.nics[1:])
    w.ctx.facts = {LOCAL: replace(facts, nics=nics)}
    w.call("PIF.scan", host=LOCAL)
    assert w.nic_pif("eth0").MAC == "52:54:00:aa:00:00"


def test_introduce_refuses_in_the_order_of_the_reference() -> None:
    w = World.new()
    with refused("HANDLE_INVALID", "host", NULL):
        w.call("PIF.introduce", host=NULL, MAC="", device="eth0")
    with refused("MAC_INVALID", ""):
        w.call("PIF.introduce", host=LOCAL, MAC="", device="eth9")
    with refused("MAC_INVALID", "aa:bb"):
        w.call("PIF.introduce", host=LOCAL, MAC="AA:BB", device="eth0")
    with refused("DUPLICATE_PIF_DEVICE_NAME", "eth0"):
        w.call("PIF.introduce", host=LOCAL, MAC="", device="eth0")
    w.call("PIF.forget", self=w.nic_pif("eth1").ref)
    wrong = "52:54:00:00:00:99"
    code = "COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS"
    with refused(code, "eth1", wrong):
        w.call("PIF.introduce", host=LOCAL, MAC=wrong.upper(), device="eth1")
    pif = w.call("PIF.introduce", host=LOCAL, MAC="52:54:00:00:00:01", device="eth1")
    assert w.txn.get(PIF, pif).network == w.txn.where(Network, bridge="xenbr1")[0].ref


def test_an_unmanaged_pif_gets_a_network_without_bridge() -> None:
    w = World.new()
    w.call("PIF.forget", self=w.nic_pif("eth1").ref)
    pif = w.call("PIF.introduce", host=LOCAL, MAC="", device="eth1", managed=False)
    network = w.txn.get(Network, w.txn.get(PIF, pif).network)
    assert (network.bridge, network.managed) == ("", False)
    assert w.derive().bridge("xenbr1") is None
    for method in ("PIF.plug", "PIF.unplug"):
        with refused("PIF_UNMANAGED", pif):
            w.call(method, self=pif)
    with refused("PIF_UNMANAGED", pif):
        w.call("PIF.reconfigure_ip", self=pif, mode=IpConfigurationMode.DHCP, **NO_IP)


def test_unplug_refuses_in_the_order_of_the_reference() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    network = w.nic_network("eth1")
    vm = w.vm()
    vif = w.vif(vm, network)
    w.start(vm)
    w.txn.update(PIF, pif, management=True, disallow_unplug=True, managed=False)
    w.pool(ha_enabled=True, redo_log_enabled=True)
    with refused("PIF_UNMANAGED", pif):
        w.call("PIF.unplug", self=pif)
    w.txn.update(PIF, pif, managed=True)
    with refused("HA_IS_ENABLED"):
        w.call("PIF.unplug", self=pif)
    w.pool(ha_enabled=False)
    with refused("REDO_LOG_IS_ENABLED"):
        w.call("PIF.unplug", self=pif)
    w.pool(redo_log_enabled=False)
    with refused("PIF_IS_MANAGEMENT_INTERFACE", pif):
        w.call("PIF.unplug", self=pif)
    w.txn.update(PIF, pif, management=False)
    with refused("VIF_IN_USE", network, vif):
        w.call("PIF.unplug", self=pif)
    w.call("VM.suspend", vm=vm)
    with refused("PIF_DOES_NOT_ALLOW_UNPLUG", pif):
        w.call("PIF.unplug", self=pif)
    w.call("PIF.set_disallow_unplug", self=pif, value=False)
    w.call("PIF.unplug", self=pif)
    assert not w.txn.get(PIF, pif).currently_attached
    w.call("PIF.unplug", self=pif)


def test_a_detached_pif_may_be_changed_under_high_availability() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    w.call("PIF.unplug", self=pif)
    w.pool(ha_enabled=True)
    w.call("PIF.unplug", self=pif)
    w.call("PIF.reconfigure_ip", self=pif, **STATIC)
    w.call("PIF.set_primary_address_type", self=pif, primary_address_type=PrimaryAddressType.IPV6)
    w.call("PIF.forget", self=pif)


def test_vlans_stay_up_when_the_pif_below_goes_down() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    vlan = w.txn.get(VLAN, w.vlan(pif, 10))
    w.call("PIF.unplug", self=pif)
    assert not w.txn.get(PIF, pif).currently_attached
    assert w.txn.get(PIF, vlan.untagged_PIF).currently_attached
    assert w.derive().bridge("xenbr1") is not None


def test_a_tunnel_goes_down_with_its_transport() -> None:
    w = World.new()
    transport = w.nic_pif("eth1").ref
    with refused("TRANSPORT_PIF_NOT_CONFIGURED", transport):
        w.call("tunnel.create", transport_PIF=transport, network=w.network())
    assert w.txn.count(Tunnel) == 0
    w.call("PIF.reconfigure_ip", self=transport, **STATIC)
    tunnel = w.txn.get(Tunnel, w.call("tunnel.create", transport_PIF=transport, network=w.network()))
    assert w.txn.get(PIF, tunnel.access_PIF).device == "tunnel0"
    w.call("PIF.unplug", self=transport)
    assert not w.txn.get(PIF, tunnel.access_PIF).currently_attached
    w.call("PIF.plug", self=tunnel.access_PIF)
    assert w.txn.get(PIF, transport).currently_attached
    with refused("PIF_TUNNEL_STILL_EXISTS", transport):
        w.call("PIF.forget", self=transport)
    w.call("tunnel.destroy", self=tunnel.ref)
    assert not w.txn.exists(PIF, tunnel.access_PIF)


def test_forget_refuses_in_the_order_of_the_reference() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    vlan = w.vlan(pif, 10)
    untagged = w.txn.get(VLAN, vlan).untagged_PIF
    w.pool(ha_enabled=True)
    w.txn.update(PIF, pif, management=True)
    with refused("PIF_IS_MANAGEMENT_INTERFACE", pif):
        w.call("PIF.forget", self=pif)
    w.txn.update(PIF, pif, management=False)
    for ref in (pif, untagged):
        with refused("PIF_VLAN_STILL_EXISTS", ref):
            w.call("PIF.forget", self=ref)
    w.pool(ha_enabled=False)
    w.call("VLAN.destroy", self=vlan)
    w.pool(ha_enabled=True)
    with refused("HA_IS_ENABLED"):
        w.call("PIF.forget", self=pif)
    w.pool(ha_enabled=False, redo_log_enabled=True)
    with refused("REDO_LOG_IS_ENABLED"):
        w.call("PIF.forget", self=pif)
    w.pool(redo_log_enabled=False)
    w.txn.update(PIF, pif, disallow_unplug=True)
    w.call("PIF.forget", self=pif)


def test_a_bonded_pif_cannot_be_forgotten() -> None:
    w = World.new()
    members = (w.nic_pif("eth1").ref, w.nic_pif("eth2").ref)
    w.call("Bond.create", network=w.network(), members=members, MAC="")
    master = next(p.ref for p in w.txn.all(PIF) if p.bond_master_of)
    for pif in (*members, master):
        with refused("PIF_ALREADY_BONDED", pif):
            w.call("PIF.forget", self=pif)
    with refused("CANNOT_PLUG_BOND_SLAVE", members[0]):
        w.call("PIF.plug", self=members[0])
    w.call("PIF.unplug", self=members[0])


def test_plug_takes_the_mtu_of_the_network_and_of_the_pif() -> None:
    w = World.new()
    pif = w.nic_pif("eth1")
    w.txn.update(Network, pif.network, MTU=9000)
    assert w.derive().bridge("xenbr1").mtu_bytes == 1500  # type: ignore[union-attr]
    w.call("PIF.plug", self=pif.ref)
    assert w.nic_pif("eth1").MTU == 9000
    assert w.derive().bridge("xenbr1").mtu_bytes == 9000  # type: ignore[union-attr]
    w.txn.update(PIF, pif.ref, other_config={"mtu": "1400"})
    w.call("PIF.plug", self=pif.ref)
    assert w.nic_pif("eth1").MTU == 1400
    w.txn.update(PIF, pif.ref, other_config={"mtu": "many"})
    w.call("PIF.plug", self=pif.ref)
    assert w.nic_pif("eth1").MTU == 9000


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"IP": ""}, "IP"),
        ({"IP": "10.0.0"}, "IP"),
        ({"IP": "010.0.0.1", "netmask": "x"}, "IP"),
        ({"IP": "10.0.0.1/24"}, "IP"),
        ({"IP": "0.0.0.0"}, "IP"),
        ({"IP": "0.0.0.0", "netmask": "x"}, "netmask"),
        ({"IP": "0.0.0.0", "gateway": "gw"}, "gateway"),
        ({"netmask": ""}, "netmask"),
        ({"netmask": "24"}, "netmask"),
        ({"gateway": "gw"}, "gateway"),
        ({"mode": IpConfigurationMode.NONE, "IP": "x", "netmask": "x", "gateway": "x"}, "IP"),
        ({"mode": IpConfigurationMode.DHCP, "IP": "", "netmask": "", "gateway": "x"}, "gateway"),
    ],
)
def test_addresses_are_checked_in_order(change: dict[str, Any], parameter: str) -> None:
    w = World.new()
    with refused("INVALID_IP_ADDRESS_SPECIFIED", parameter):
        w.call("PIF.reconfigure_ip", self=w.nic_pif("eth1").ref, **{**STATIC, **change})


def test_masks_with_holes_and_foreign_gateways_are_accepted() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    arguments = {**STATIC, "netmask": "255.0.255.0", "gateway": "172.16.0.1"}
    w.call("PIF.reconfigure_ip", self=pif, **{**arguments, "DNS": "8.8.8.8,foo,1.1.1.1"})
    row = w.txn.get(PIF, pif)
    assert (row.netmask, row.gateway, row.DNS) == ("255.0.255.0", "172.16.0.1", "8.8.8.8,1.1.1.1")


def test_the_management_interface_keeps_an_address() -> None:
    w = World.new()
    pif = w.nic_pif("eth0").ref
    with refused("PIF_IS_MANAGEMENT_INTERFACE", pif):
        w.call("PIF.reconfigure_ip", self=pif, mode=IpConfigurationMode.NONE, **NO_IP)
    w.call("PIF.reconfigure_ip", self=pif, **{**STATIC, "IP": "192.0.2.99"})
    assert w.txn.get(Host, LOCAL).address == "192.0.2.99"
    w.call("PIF.reconfigure_ip", self=pif, mode=IpConfigurationMode.DHCP, **NO_IP)
    assert w.txn.get(Host, LOCAL).address == "192.0.2.99"


def test_high_availability_lets_only_dns_change() -> None:
    w = World.new()
    pif = w.nic_pif("eth0")
    w.pool(ha_enabled=True)
    same = {"IP": pif.IP, "netmask": pif.netmask, "gateway": pif.gateway}
    static = IpConfigurationMode.STATIC
    w.call("PIF.reconfigure_ip", self=pif.ref, mode=static, DNS="192.0.2.54", **same)
    assert w.nic_pif("eth0").DNS == "192.0.2.54"
    with refused("HA_IS_ENABLED"):
        w.call("PIF.reconfigure_ip", self=pif.ref, mode=static, DNS="", **{**same, "IP": "bad"})
    with refused("HA_IS_ENABLED"):
        w.call("PIF.set_primary_address_type", self=pif.ref, primary_address_type=PrimaryAddressType.IPV6)
    w.pool(ha_enabled=False)
    with refused("PIF_IS_MANAGEMENT_INTERFACE", pif.ref):
        w.call("PIF.set_primary_address_type", self=pif.ref, primary_address_type=PrimaryAddressType.IPV6)


def ipv6(
    w: World, mode: Ipv6ConfigurationMode, address: str = "", gateway: str = "", dns: str = ""
) -> Ref[PIF]:
    pif = w.nic_pif("eth1").ref
    w.call("PIF.reconfigure_ipv6", self=pif, mode=mode, IPv6=address, gateway=gateway, DNS=dns)
    return pif


def test_ipv6_gateways_are_checked_before_addresses() -> None:
    w = World.new()
    static = Ipv6ConfigurationMode.STATIC
    with refused("INVALID_IP_ADDRESS_SPECIFIED", "gateway"):
        ipv6(w, static, "fd00::1", "gw")
    with refused("INVALID_CIDR_ADDRESS_SPECIFIED", "IPv6"):
        ipv6(w, static, "fd00::1", "fd00::2")
    pif = ipv6(w, static, "fd00::1/64", "fd00::2", "fd00::53,x")
    assert w.txn.get(PIF, pif).IPv6 == ("fd00::1/64",)
    assert w.txn.get(PIF, pif).DNS == "fd00::53"
    ipv6(w, static)
    assert w.txn.get(PIF, pif).IPv6 == ("",)
    bridge = w.derive().bridge("xenbr1")
    assert bridge is not None
    assert bridge.ip.ipv6_addresses == ()


@pytest.mark.parametrize("address", ["::/64", "::1/128", "ff02::5/64"])
def test_no_interface_can_have_some_addresses_of_ipv6(address: str) -> None:
    w = World.new()
    with refused("INVALID_CIDR_ADDRESS_SPECIFIED", "IPv6"):
        ipv6(w, Ipv6ConfigurationMode.STATIC, address)
    assert w.nic_pif("eth1").IPv6 == ()


def test_what_no_interface_can_have_is_no_address_once_it_is_plugged() -> None:
    """The texts are valid (spec §28.2), so a PIF that is not plugged keeps them."""
    w = World.new()
    pif = w.nic_pif("eth1").ref
    w.call("PIF.unplug", self=pif)
    w.call("PIF.reconfigure_ip", self=pif, **{**STATIC, "IP": "0.0.0.0"})
    ipv6(w, Ipv6ConfigurationMode.STATIC, "::/64")
    assert (w.nic_pif("eth1").IP, w.nic_pif("eth1").IPv6) == ("0.0.0.0", ("::/64",))
    w.call("PIF.plug", self=pif)
    bridge = w.derive().bridge("xenbr1")
    assert bridge is not None
    assert (bridge.ip.ipv4_address, bridge.ip.ipv6_addresses) == ("", ())


def test_a_management_interface_of_ipv6_keeps_its_address() -> None:
    w = World.new()
    w.txn.update(PIF, w.nic_pif("eth1").ref, management=True, primary_address_type=PrimaryAddressType.IPV6)
    with refused("PIF_IS_MANAGEMENT_INTERFACE", w.nic_pif("eth1").ref):
        ipv6(w, Ipv6ConfigurationMode.NONE)


def test_only_gro_can_be_set_and_only_on_nics_and_bonds() -> None:
    w = World.new()
    pif = w.nic_pif("eth1").ref
    with refused("INVALID_VALUE", "properties", "tso = on"):
        w.call("PIF.set_property", self=pif, name="tso", value="on")
    with refused("INVALID_VALUE", "properties", "gro = maybe"):
        w.call("PIF.set_property", self=pif, name="gro", value="maybe")
    untagged = w.txn.get(VLAN, w.vlan(pif, 5)).untagged_PIF
    with refused("CANNOT_CHANGE_PIF_PROPERTIES", untagged):
        w.call("PIF.set_property", self=untagged, name="gro", value="off")
    w.call("PIF.set_property", self=pif, name="gro", value="off")
    w.call("PIF.set_property", self=w.nic_pif("eth2").ref, name="gro", value="off")
    members = (pif, w.nic_pif("eth2").ref)
    w.call("Bond.create", network=w.network(), members=members, MAC="")
    with refused("CANNOT_CHANGE_PIF_PROPERTIES", pif):
        w.call("PIF.set_property", self=pif, name="gro", value="on")
    master = next(p.ref for p in w.txn.all(PIF) if p.bond_master_of)
    w.call("PIF.set_property", self=master, name="gro", value="on")
    assert w.txn.get(PIF, pif).properties == {"gro": "on"}


def test_snooping_reaches_the_pifs_without_tag() -> None:
    w = World.new()
    untagged = w.txn.get(VLAN, w.vlan(w.nic_pif("eth1").ref, 5)).untagged_PIF
    pool = w.pool()
    w.call("pool.set_igmp_snooping_enabled", self=pool, value=True)
    assert w.nic_pif("eth1").igmp_snooping_status is PifIgmpStatus.ENABLED
    assert w.txn.get(PIF, untagged).igmp_snooping_status is PifIgmpStatus.UNKNOWN
    assert w.derive().bridge("xenbr1").igmp_snooping  # type: ignore[union-attr]
    w.restrict("restrict_igmp_snooping")
    with refused("LICENCE_RESTRICTION", "IGMP_snooping"):
        w.call("pool.set_igmp_snooping_enabled", self=pool, value=True)
    w.txn.update(Host, LOCAL, software_version={"network_backend": "bridge"})  # which can do it too
    w.call("pool.set_igmp_snooping_enabled", self=pool, value=False)
    assert w.nic_pif("eth1").igmp_snooping_status is PifIgmpStatus.DISABLED


def test_a_forgotten_pif_leaves_its_vifs_on_a_bridge_without_wire() -> None:
    w = World.new()
    vm = w.vm()
    vif = w.vif(vm, w.nic_network("eth1"))
    w.start(vm)
    w.call("PIF.forget", self=w.nic_pif("eth1").ref)
    bridge = w.derive().bridge("xenbr1")
    assert bridge is not None
    assert bridge.uplink is None
    assert [p.vif_uuid for p in w.derive().ports] == [w.txn.get(VIF, vif).uuid]


def test_a_layer_carries_at_most_what_the_one_below_does() -> None:
    w = World.new()
    nic, network = w.nic_pif("eth1"), w.network(MTU=9000)
    vlan = w.txn.get(VLAN, w.vlan(nic.ref, 10, network))
    assert w.txn.get(PIF, vlan.untagged_PIF).MTU == 1500
    w.txn.update(Network, nic.network, MTU=9000)
    w.call("PIF.plug", self=nic.ref)
    assert w.txn.get(PIF, vlan.untagged_PIF).MTU == 1500  # until it is plugged again
    w.call("PIF.plug", self=vlan.untagged_PIF)
    assert w.txn.get(PIF, vlan.untagged_PIF).MTU == 9000
    vm = w.vm()
    vif = w.vif(vm, network, other_config={"mtu": "9600"})
    w.start(vm)
    assert w.txn.get(VIF, vif).MTU == 9000
    w.txn.update(PIF, nic.ref, other_config={"mtu": "4000"})
    w.call("PIF.plug", self=nic.ref)
    assert {b.mtu_bytes for b in w.derive().bridges if b.name != "xenbr0" and b.name != "xenbr2"} == {4000}


def test_a_vlan_on_a_pif_that_is_down_has_what_that_will_have() -> None:
    w = World.new()
    nic = w.nic_pif("eth1")
    w.call("PIF.unplug", self=nic.ref)
    w.txn.update(Network, nic.network, MTU=3000)
    vlan = w.txn.get(VLAN, w.vlan(nic.ref, 10, w.network(MTU=9000)))
    assert w.txn.get(PIF, vlan.untagged_PIF).MTU == 3000
    assert {b.mtu_bytes for b in w.derive().bridges if b.name in ("xenbr1", "xapi1")} == {3000}


def test_a_pif_follows_its_nic_to_another_name() -> None:
    w = World.new(nics=3)
    vlan = w.txn.get(VLAN, w.vlan(w.nic_pif("eth1").ref, 10))
    before = {device: w.nic_pif(device).ref for device in ("eth0", "eth1", "eth2")}
    nics = facts_with(3).nics
    swapped = (
        replace(nics[0], position=0),
        replace(nics[1], name="eth2", position=1),
        replace(nics[2], name="eth1", position=2),
    )
    record_facts(w.txn, LOCAL, replace(facts_with(3), nics=swapped), NOW, w.ctx.new_uuid)
    assert {d: w.nic_pif(d).ref for d in ("eth0", "eth2", "eth1")} == dict(
        zip(("eth0", "eth2", "eth1"), before.values(), strict=True)
    )
    assert w.txn.get(PIF, vlan.untagged_PIF).device == "eth2"
    uplinks = {b.name: b.uplink.device for b in w.derive().bridges if b.uplink is not None}
    assert uplinks == {"xenbr0": "eth0", "xenbr1": "eth2", "xenbr2": "eth1"}


def test_a_nic_of_any_name_gets_the_bridge_of_its_position() -> None:
    w = World.new(nics=1)
    new = replace(facts_with(2).nics[1], name="ens9", position=4)
    w.ctx.facts = {LOCAL: replace(facts_with(1), nics=(*facts_with(1).nics, new))}
    w.call("PIF.scan", host=LOCAL)
    assert w.txn.get(Network, w.nic_network("ens9")).bridge == "xenbr4"
