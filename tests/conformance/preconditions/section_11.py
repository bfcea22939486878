"""Bonds."""

from __future__ import annotations

from typing import Any

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import PrimaryAddressType
from tests.conformance.preconditions.rig import Rig, precondition

CREATE = "Bond.create"


async def two(rig: Rig, *more: Any) -> tuple[Any, ...]:
    """The arguments of a bond of eth1 and eth2."""
    return (await rig.network(), [rig.nic("eth1"), rig.nic("eth2")], *(more or ("",)))


@precondition("11.2.1")
async def properties_of_another_mode(rig: Rig) -> None:
    for mode in ("balance-slb", "active-backup"):
        for key, value in (("hashing_algorithm", "src_mac"), ("lacp-time", "fast")):
            error = ["INVALID_VALUE", "properties", f"{key} = {value}"]
            await rig.refused(error, CREATE, *await two(rig, "", mode, {key: value}))


@precondition("11.2.2")
async def a_property_that_no_bond_has(rig: Rig) -> None:
    for key in ("min_links", "hashing-algorithm", "lacp_time", ""):
        error = ["INVALID_VALUE", "properties", f"{key} = 1"]
        await rig.refused(error, CREATE, *await two(rig, "", "lacp", {key: "1"}))


@precondition("11.2.3")
async def a_wrong_value_of_a_property(rig: Rig) -> None:
    for key, value in (
        ("hashing_algorithm", "tcpudp"),
        ("lacp-time", "Fast"),
        ("lacp-aggregation-key", "one"),
        ("lacp-fallback-ab", "yes"),
    ):
        error = ["INVALID_VALUE", "properties", f"{key} = {value}"]
        await rig.refused(error, CREATE, *await two(rig, "", "lacp", {key: value}))


@precondition("11.2.4")
async def defaults_of_properties(rig: Rig) -> None:
    defaults = {"hashing_algorithm": "tcpudp_ports", "lacp-time": "slow", "lacp-fallback-ab": "true"}
    given = {"lacp-time": "fast", "lacp-aggregation-key": "7"}
    made = await rig.accepted(CREATE, *await two(rig, "", "lacp", given))
    rig.equal(rig.row(Bond, made).properties, {**defaults, **given})
    await rig.accepted("Bond.set_mode", made, "active-backup")
    rig.equal(rig.row(Bond, made).properties, {})
    await rig.accepted("Bond.set_mode", made, "lacp")
    rig.equal(rig.row(Bond, made).properties, defaults)


@precondition("11.3.1")
async def no_members(rig: Rig) -> None:
    await rig.refused(["PIF_BOND_NEEDS_MORE_MEMBERS"], CREATE, "OpaqueRef:none", [], "bad")


@precondition("11.3.2")
async def a_member_that_is_none(rig: Rig) -> None:
    members = [rig.nic("eth1"), "OpaqueRef:none"]
    for given in (members, members[::-1]):
        await rig.refused(
            ["HANDLE_INVALID", "PIF", "OpaqueRef:none"], CREATE, await rig.network(), given, "bad"
        )


@precondition("11.3.3")
async def an_unmanaged_network(rig: Rig) -> None:
    network = await rig.network(managed=False)
    await rig.refused(["NETWORK_UNMANAGED", network], CREATE, network, [rig.nic("eth1")], "bad")


@precondition("11.3.4")
async def a_network_that_is_connected(rig: Rig) -> None:
    network = rig.network_of("eth3")
    error = ["NETWORK_ALREADY_CONNECTED", rig.host, rig.nic("eth3")]
    await rig.refused(error, CREATE, network, [rig.nic("eth1")], "bad")


@precondition("11.3.5")
async def a_network_of_virtual_functions(rig: Rig) -> None:
    logical = await rig.virtual_functions("eth3")
    network = rig.row(PIF, logical).network
    await rig.elsewhere(logical)
    await rig.refused(["NETWORK_INCOMPATIBLE_WITH_BOND", network], CREATE, network, [rig.nic("eth1")], "bad")


@precondition("11.3.6")
async def a_wrong_mac(rig: Rig) -> None:
    for mac in ("bad", "02:00:00:00:00:0", "02-00-00-00-00-01"):
        arguments = await two(rig, mac, "balance-slb", {"min_links": "1"})
        await rig.refused(["MAC_INVALID", mac], CREATE, *arguments)


@precondition("11.3.7")
async def a_member_named_twice(rig: Rig) -> None:
    members = [rig.nic("eth1"), rig.nic("eth2"), rig.nic("eth1")]
    made = await rig.accepted(CREATE, await rig.network(), members, "")
    found = {pif.device for pif in rig.view.all(PIF) if pif.bond_slave_of == made}
    rig.equal(found, {"eth1", "eth2"})
    rig.equal(rig.row(Bond, made).primary_slave, rig.nic("eth2"))


@precondition("11.3.8")
async def members_of_two_families(rig: Rig) -> None:
    await rig.unmanaged("eth2")
    await rig.write(PIF, rig.nic("eth2"), primary_address_type=PrimaryAddressType.IPV6)
    error = ["PIF_INCOMPATIBLE_PRIMARY_ADDRESS_TYPE", rig.nic("eth2")]
    await rig.refused(error, CREATE, *await two(rig))


@precondition("11.3.9")
async def an_unmanaged_member(rig: Rig) -> None:
    pif = await rig.unmanaged("eth2")
    await rig.write(PIF, pif, properties={"gro": "off"})
    await rig.refused(["PIF_UNMANAGED", pif], CREATE, *await two(rig))


@precondition("11.3.10")
async def a_member_of_a_bond(rig: Rig) -> None:
    await rig.bond("eth2", "eth3")
    await rig.refused(["PIF_ALREADY_BONDED", rig.nic("eth2")], CREATE, *await two(rig))


@precondition("11.3.11")
async def a_vlan_as_a_member(rig: Rig) -> None:
    pif = rig.row(VLAN, await rig.vlan("eth2", 7)).untagged_PIF
    members = [rig.nic("eth1"), pif]
    await rig.refused(["PIF_VLAN_EXISTS", "eth2"], CREATE, await rig.network(), members, "")


@precondition("11.3.12")
async def a_tunnel_as_a_member(rig: Rig) -> None:
    pif = rig.row(Tunnel, await rig.tunnel("eth2")).access_PIF
    members = [rig.nic("eth1"), pif]
    await rig.refused(["IS_TUNNEL_ACCESS_PIF", pif], CREATE, await rig.network(), members, "")


@precondition("11.3.13")
async def a_logical_pif_as_a_member(rig: Rig) -> None:
    pif = await rig.virtual_functions("eth2")
    members = [rig.nic("eth1"), pif]
    await rig.refused(["PIF_IS_SRIOV_LOGICAL", pif], CREATE, await rig.network(), members, "")


@precondition("11.3.14")
async def bonding_management_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True)
    await rig.write(PIF, rig.nic("eth1"), properties={})
    members = [rig.nic("eth1"), rig.nic("eth0")]
    error = ["HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE"]
    await rig.refused(error, CREATE, await rig.network(), members, "")
    await rig.write(PIF, rig.nic("eth1"), properties={"gro": "on"})
    await rig.accepted(CREATE, *await two(rig))


@precondition("11.3.15")
async def members_with_different_properties(rig: Rig) -> None:
    await rig.call("PIF.set_property", rig.nic("eth2"), "gro", "off")
    for device, address in (("eth1", "10.1.0.1"), ("eth2", "10.2.0.1")):
        await rig.address(device, address)
    await rig.refused(["INCOMPATIBLE_PIF_PROPERTIES"], CREATE, *await two(rig))


@precondition("11.3.16")
async def members_with_two_addresses(rig: Rig) -> None:
    await rig.address("eth1", "10.1.0.1")
    await rig.call("PIF.reconfigure_ip", rig.nic("eth2"), "DHCP", "", "", "", "")
    await rig.refused(["PIF_BOND_MORE_THAN_ONE_IP"], CREATE, *await two(rig))


@precondition("11.3.17")
async def a_bond_of_one(rig: Rig) -> None:
    made = await rig.accepted(CREATE, await rig.network(), [rig.nic("eth1")], "")
    rig.equal(rig.row(Bond, made).primary_slave, rig.nic("eth1"))


@precondition("11.3.18")
async def a_bond_as_a_member(rig: Rig) -> None:
    master = rig.row(Bond, await rig.bond("eth2", "eth3")).master
    members = [rig.nic("eth1"), master]
    await rig.refused(["PIF_ALREADY_BONDED", master], CREATE, await rig.network(), members, "")


@precondition("11.4.1")
async def dissolving_management_under_high_availability(rig: Rig) -> None:
    bond, other = await rig.bond("eth0", "eth1"), await rig.bond("eth2", "eth3")
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.refused(["HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE"], "Bond.destroy", bond)
    await rig.accepted("Bond.destroy", other)


@precondition("11.4.2")
async def dissolving_below_a_vm(rig: Rig) -> None:
    bond = await rig.bond("eth1", "eth2")
    vif = await rig.running_on(rig.row(PIF, rig.row(Bond, bond).master).network)
    await rig.accepted("Bond.destroy", bond)
    rig.equal(rig.row(VIF, vif).network, rig.network_of("eth1"))
    rig.equal(rig.row(VIF, vif).currently_attached, True)


@precondition("11.8.1")
async def setting_a_property(rig: Rig) -> None:
    slb, lacp = await rig.bond("eth1", "eth2"), await rig.bond("eth3", "eth4", mode="lacp")
    for bond, name, value in (
        (slb, "hashing_algorithm", "src_mac"),
        (lacp, "hashing_algorithm", "none"),
        (lacp, "min_links", "1"),
    ):
        error = ["INVALID_VALUE", "properties", f"{name} = {value}"]
        await rig.refused(error, "Bond.set_property", bond, name, value)
    await rig.accepted("Bond.set_property", lacp, "hashing_algorithm", "src_mac")
    rig.equal(rig.row(Bond, lacp).properties["hashing_algorithm"], "src_mac")
