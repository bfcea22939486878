"""Hosts."""

from __future__ import annotations

from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.enums import PrimaryAddressType
from tests.conformance.preconditions.rig import Rig, precondition

MOVE, RENAME = "host.management_reconfigure", "host.set_hostname_live"


@precondition("18.2.1")
async def no_management(rig: Rig) -> None:
    rig.equal(await rig.call("host.get_management_interface", rig.host), rig.nic("eth0"))
    await rig.call("host.management_disable")
    await rig.refused(["INTERNAL_ERROR", "Not_found"], "host.get_management_interface", rig.host)


@precondition("18.3.1")
async def moving_management_under_high_availability(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    await rig.pool(ha_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], MOVE, rig.nic("eth1"))


@precondition("18.3.2")
async def moving_management_to_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    await rig.refused(["CANNOT_PLUG_BOND_SLAVE", rig.nic("eth1")], MOVE, rig.nic("eth1"))


@precondition("18.3.3")
async def moving_management_to_a_nic_without_an_address(rig: Rig) -> None:
    await rig.call("PIF.reconfigure_ipv6", rig.nic("eth1"), "Static", "fd00::1/64", "", "")
    error = ["PIF_HAS_NO_NETWORK_CONFIGURATION", rig.nic("eth1")]
    await rig.refused(error, MOVE, rig.nic("eth1"))


@precondition("18.3.4")
async def moving_management_to_a_nic_without_ipv6(rig: Rig) -> None:
    await rig.address("eth1")
    await rig.write(PIF, rig.nic("eth1"), primary_address_type=PrimaryAddressType.IPV6)
    error = ["PIF_HAS_NO_V6_NETWORK_CONFIGURATION", rig.nic("eth1")]
    await rig.refused(error, MOVE, rig.nic("eth1"))


@precondition("18.3.5")
async def moving_management_where_it_is(rig: Rig) -> None:
    await rig.unchanged(MOVE, rig.nic("eth0"))


@precondition("18.4.1")
async def disabling_management_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], "host.management_disable")


@precondition("18.5.1")
async def an_emergency_that_is_none(rig: Rig) -> None:
    await rig.refused(["NOT_IN_EMERGENCY_MODE"], "host.local_management_reconfigure", "xenbr1")


@precondition("18.8.1")
async def no_name(rig: Rig) -> None:
    await rig.refused(["HOST_NAME_INVALID", "hostname empty"], RENAME, rig.host, "")


@precondition("18.8.2")
async def a_long_name(rig: Rig) -> None:
    await rig.refused(["HOST_NAME_INVALID", "hostname is too long"], RENAME, rig.host, "_" * 65)
    await rig.accepted(RENAME, rig.host, "a" * 64)


@precondition("18.8.3")
async def a_name_with_other_characters(rig: Rig) -> None:
    error = ["HOST_NAME_INVALID", "hostname contains invalid characters"]
    for name in ("-a", "a-", "a_b", "a b", "a\n", "ä", "-"):
        await rig.refused(error, RENAME, rig.host, name)
    for name in (".a", "a..b", "HOST1", "a.b-c", "7"):
        await rig.accepted(RENAME, rig.host, name)
        rig.equal(rig.row(Host, rig.host).hostname, name)


@precondition("18.9.1")
async def old_tls(rig: Rig) -> None:
    error = ["VALUE_NOT_SUPPORTED", "value", "true", "Legacy SSL support has been removed"]
    await rig.refused(error, "host.set_ssl_legacy", rig.host, True)
    await rig.unchanged("host.set_ssl_legacy", rig.host, False)
