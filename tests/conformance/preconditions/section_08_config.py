"""PIFs: their addresses and properties."""

from __future__ import annotations

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import PrimaryAddressType
from tests.conformance.preconditions.rig import Rig, precondition

IPV4, IPV6 = "PIF.reconfigure_ip", "PIF.reconfigure_ipv6"
STATIC = ("Static", "10.9.9.9", "255.255.255.0", "", "")
STATIC6 = ("Static", "fd00::1/64", "", "")


@precondition("8.10.1")
async def configuring_an_unmanaged_pif(rig: Rig) -> None:
    await rig.pool(ha_enabled=True)
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], IPV4, pif, "Static", "bad", "", "", "")


@precondition("8.10.2")
async def configuring_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], IPV4, rig.nic("eth1"), "Static", "bad", "", "", "")
    await rig.write(PIF, rig.nic("eth1"), currently_attached=False)
    await rig.accepted(IPV4, rig.nic("eth1"), *STATIC)


@precondition("8.10.3")
async def configuring_with_a_redo_log(rig: Rig) -> None:
    await rig.pool(redo_log_enabled=True)
    await rig.refused(["REDO_LOG_IS_ENABLED"], IPV4, rig.nic("eth1"), "Static", "bad", "", "", "")


@precondition("8.10.4")
async def changing_the_dns_alone(rig: Rig) -> None:
    await rig.address("eth1")
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.unchanged(IPV4, rig.nic("eth1"), *STATIC)
    await rig.accepted(IPV4, rig.nic("eth1"), *STATIC[:4], "192.0.2.53")
    rig.equal(rig.pif("eth1").DNS, "192.0.2.53")
    for changed in (
        ("Static", "10.9.9.8", "255.255.255.0", "", ""),
        ("Static", "10.9.9.9", "255.255.0.0", "", ""),
        ("Static", "10.9.9.9", "255.255.255.0", "10.9.9.1", ""),
        ("DHCP", "10.9.9.9", "255.255.255.0", "", ""),
    ):
        await rig.refused(["HA_IS_ENABLED"], IPV4, rig.nic("eth1"), *changed)


@precondition("8.10.5")
async def static_without_an_address(rig: Rig) -> None:
    for address in ("", "10.0.0", "fd00::1"):
        error = ["INVALID_IP_ADDRESS_SPECIFIED", "IP"]
        await rig.refused(error, IPV4, rig.nic("eth1"), "Static", address, "bad", "bad", "")


@precondition("8.10.6")
async def static_without_a_netmask(rig: Rig) -> None:
    for netmask in ("", "24", "/24"):
        error = ["INVALID_IP_ADDRESS_SPECIFIED", "netmask"]
        await rig.refused(error, IPV4, rig.nic("eth1"), "Static", "10.0.0.1", netmask, "bad", "")


@precondition("8.10.7")
async def wrong_texts_in_any_mode(rig: Rig) -> None:
    good, bad = "10.0.0.1", "10.0.0.256"
    for mode in ("None", "DHCP", "Static"):
        for which, words in (
            ("IP", (bad, bad, bad)),
            ("netmask", (good, bad, bad)),
            ("gateway", (good, good, bad)),
        ):
            error = ["INVALID_IP_ADDRESS_SPECIFIED", which]
            await rig.refused(error, IPV4, rig.nic("eth1"), mode, *words, "")


@precondition("8.10.8")
async def management_without_an_address(rig: Rig) -> None:
    pif = rig.nic("eth0")
    await rig.refused(["PIF_IS_MANAGEMENT_INTERFACE", pif], IPV4, pif, "None", "", "", "", "")
    await rig.refused(["INVALID_IP_ADDRESS_SPECIFIED", "IP"], IPV4, pif, "None", "bad", "", "", "")


@precondition("8.10.9")
async def everything_may_have_an_address(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    vlan = rig.row(VLAN, await rig.vlan("eth3", 7)).untagged_PIF
    access = rig.row(Tunnel, await rig.tunnel("eth4")).access_PIF
    for number, pif in enumerate((rig.nic("eth1"), vlan, access)):
        words = ("Static", f"10.8.{number}.1", "255.255.255.0", "172.16.0.1", "")
        await rig.accepted(IPV4, pif, *words)
        rig.equal(rig.row(PIF, pif).gateway, "172.16.0.1")


@precondition("8.11.1")
async def configuring_ipv6_of_an_unmanaged_pif(rig: Rig) -> None:
    await rig.pool(ha_enabled=True)
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], IPV6, pif, "Static", "bad", "bad", "")


@precondition("8.11.2")
async def configuring_ipv6_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], IPV6, rig.nic("eth1"), "Static", "bad", "bad", "")


@precondition("8.11.3")
async def configuring_ipv6_with_a_redo_log(rig: Rig) -> None:
    await rig.pool(redo_log_enabled=True)
    await rig.refused(["REDO_LOG_IS_ENABLED"], IPV6, rig.nic("eth1"), "Static", "bad", "bad", "")


@precondition("8.11.4")
async def changing_the_dns_of_ipv6_alone(rig: Rig) -> None:
    await rig.call(IPV6, rig.nic("eth1"), *STATIC6)
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.accepted(IPV6, rig.nic("eth1"), *STATIC6[:3], "2001:db8::53")
    rig.equal(rig.pif("eth1").DNS, "2001:db8::53")
    for changed in (("Static", "fd00::2/64", "", ""), ("Static", "fd00::1/64", "fd00::9", "")):
        await rig.refused(["HA_IS_ENABLED"], IPV6, rig.nic("eth1"), *changed)


@precondition("8.11.5")
async def a_wrong_gateway_of_ipv6(rig: Rig) -> None:
    for gateway in ("10.0.0.1", "fd00::1/64", "fe80::1%eth0", "x"):
        error = ["INVALID_IP_ADDRESS_SPECIFIED", "gateway"]
        await rig.refused(error, IPV6, rig.nic("eth1"), "Static", "bad", gateway, "")


@precondition("8.11.6")
async def a_wrong_address_of_ipv6(rig: Rig) -> None:
    for address in ("fd00::1", "fd00::1/129", "10.0.0.1/24", "x/64", "fd00::1/"):
        error = ["INVALID_CIDR_ADDRESS_SPECIFIED", "IPv6"]
        await rig.refused(error, IPV6, rig.nic("eth1"), "None", address, "", "")


@precondition("8.11.7")
async def management_without_an_address_of_ipv6(rig: Rig) -> None:
    pif = rig.nic("eth0")
    await rig.accepted(IPV6, pif, "None", "", "", "")
    await rig.write(PIF, pif, primary_address_type=PrimaryAddressType.IPV6)
    await rig.refused(["PIF_IS_MANAGEMENT_INTERFACE", pif], IPV6, pif, "None", "", "", "")


@precondition("8.11.8")
async def static_without_an_address_of_ipv6(rig: Rig) -> None:
    await rig.accepted(IPV6, rig.nic("eth1"), "Static", "", "", "")
    rig.equal(rig.pif("eth1").IPv6, ("",))


@precondition("8.12.1")
async def another_family_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    method = "PIF.set_primary_address_type"
    await rig.refused(["HA_IS_ENABLED"], method, rig.nic("eth0"), "IPv6")


@precondition("8.12.2")
async def another_family_with_a_redo_log(rig: Rig) -> None:
    await rig.pool(redo_log_enabled=True)
    method = "PIF.set_primary_address_type"
    await rig.refused(["REDO_LOG_IS_ENABLED"], method, rig.nic("eth0"), "IPv6")


@precondition("8.12.3")
async def another_family_of_management(rig: Rig) -> None:
    method = "PIF.set_primary_address_type"
    error = ["PIF_IS_MANAGEMENT_INTERFACE", rig.nic("eth0")]
    await rig.refused(error, method, rig.nic("eth0"), "IPv6")
    await rig.accepted(method, rig.nic("eth1"), "IPv6")


@precondition("8.12.4")
async def a_property_that_is_none(rig: Rig) -> None:
    pif = rig.row(VLAN, await rig.vlan("eth1", 7)).untagged_PIF  # the value is looked at before the PIF
    for name, value in (("gro", "yes"), ("gro", ""), ("tso2", "on"), ("", "")):
        error = ["INVALID_VALUE", "properties", f"{name} = {value}"]
        await rig.refused(error, "PIF.set_property", pif, name, value)


@precondition("8.12.5")
async def a_property_of_a_vlan(rig: Rig) -> None:
    vlan = rig.row(VLAN, await rig.vlan("eth2", 7)).untagged_PIF
    access = rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF
    for pif in (vlan, access):
        error = ["CANNOT_CHANGE_PIF_PROPERTIES", pif]
        await rig.refused(error, "PIF.set_property", pif, "gro", "off")


@precondition("8.12.6")
async def a_property_of_a_member(rig: Rig) -> None:
    master = rig.row(Bond, await rig.bond("eth1", "eth2")).master
    error = ["CANNOT_CHANGE_PIF_PROPERTIES", rig.nic("eth1")]
    await rig.refused(error, "PIF.set_property", rig.nic("eth1"), "gro", "off")
    await rig.accepted("PIF.set_property", master, "gro", "off")
    rig.equal(rig.pif("eth1").properties, {"gro": "off"})


@precondition("8.12.7")
async def a_protection_that_is_there(rig: Rig) -> None:
    await rig.pool(ha_enabled=True)
    await rig.unchanged("PIF.set_disallow_unplug", rig.nic("eth1"), False)
    await rig.accepted("PIF.set_disallow_unplug", rig.nic("eth1"), True)
    await rig.unchanged("PIF.set_disallow_unplug", rig.nic("eth1"), True)


@precondition("9.2.1")
async def what_the_host_cannot_do(rig: Rig) -> None:
    network = await rig.network()
    with rig.host_that_refuses():
        await rig.refused(
            ["PIF_CONFIGURATION_ERROR", rig.nic("eth1"), "told to fail"], IPV4, rig.nic("eth1"), *STATIC
        )
        error = ["PIF_CONFIGURATION_ERROR", rig.nic("eth1"), "told to fail"]
        await rig.refused(error, "VLAN.create", rig.nic("eth1"), 7, network)
        await rig.refused(error, "PIF.unplug", rig.nic("eth1"))
