"""PIFs: finding, forgetting, plugging and unplugging them. Their configuration is in `section_08_config`."""

from __future__ import annotations

from typing import Any

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import IpConfigurationMode, VifOperations
from poolnet.model.types import NULL
from tests.conformance.preconditions.rig import Rig, precondition

NOT_FOUND = "COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS"


def introduced(rig: Rig, network: str, **fields: Any) -> tuple[Any, ...]:
    """The arguments of PIF.db_introduce."""
    values: dict[str, Any] = {
        "device": "eth1",
        "network": network,
        "host": rig.host,
        "MAC": "",
        "MTU": 1500,
        "VLAN": -1,
        "physical": False,
        "ip_configuration_mode": "None",
        "IP": "",
        "netmask": "",
        "gateway": "",
        "DNS": "",
        "bond_slave_of": NULL,
        "VLAN_master_of": NULL,
        "management": False,
        "other_config": {},
        **fields,
    }
    return tuple(values.values())


@precondition("8.3.1")
async def scanning_no_host(rig: Rig) -> None:
    await rig.refused(["HANDLE_INVALID", "host", "OpaqueRef:none"], "PIF.scan", "OpaqueRef:none")


@precondition("8.4.1")
async def introducing_with_a_wrong_mac(rig: Rig) -> None:
    await rig.refused(["MAC_INVALID", "0:AA".lower()], "PIF.introduce", rig.host, "0:AA", "eth1")


@precondition("8.4.2")
async def introducing_what_is_not_there(rig: Rig) -> None:
    await rig.refused(["MAC_INVALID", ""], "PIF.introduce", rig.host, "", "eth77")


@precondition("8.4.3")
async def introducing_twice(rig: Rig) -> None:
    await rig.refused(["DUPLICATE_PIF_DEVICE_NAME", "eth1"], "PIF.introduce", rig.host, "", "eth1")
    mac = "02:00:00:00:00:99"  # the device decides, whatever the MAC
    await rig.refused(["DUPLICATE_PIF_DEVICE_NAME", "eth1"], "PIF.introduce", rig.host, mac, "eth1")


@precondition("8.4.4")
async def introducing_with_the_mac_of_another(rig: Rig) -> None:
    await rig.call("PIF.forget", rig.nic("eth1"))
    for device, mac in (("eth1", "02:00:00:00:00:AA"), ("eth77", "02:00:00:00:00:02")):
        await rig.refused([NOT_FOUND, device, mac.lower()], "PIF.introduce", rig.host, mac, device)
    await rig.accepted("PIF.introduce", rig.host, "02:00:00:00:00:02".upper(), "eth1")


@precondition("8.6.1")
async def a_vlans_record_beside_trunks(rig: Rig) -> None:
    network = await rig.network()
    await rig.vif(network, trunks=["7"])
    arguments = introduced(rig, network, VLAN=7)
    await rig.refused(["NETWORK_INCOMPATIBLE_WITH_TRUNKS", network], "PIF.db_introduce", *arguments)
    await rig.accepted("PIF.db_introduce", *introduced(rig, network))


@precondition("8.6.2")
async def a_record_that_is_there_already(rig: Rig) -> None:
    bond = await rig.bond("eth2", "eth3")
    network = rig.network_of("eth1")
    arguments = introduced(rig, network, physical=True, bond_slave_of=bond)
    made = await rig.accepted("PIF.db_introduce", *arguments)
    rig.equal(rig.row(PIF, made).bond_slave_of, NULL)
    rig.equal(rig.row(PIF, made).currently_attached, False)


@precondition("8.7.1")
async def forgetting_management(rig: Rig) -> None:
    pif = rig.nic("eth0")
    await rig.refused(["PIF_IS_MANAGEMENT_INTERFACE", pif], "PIF.forget", pif)


@precondition("8.7.2")
async def forgetting_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    await rig.refused(["PIF_ALREADY_BONDED", rig.nic("eth1")], "PIF.forget", rig.nic("eth1"))


@precondition("8.7.3")
async def forgetting_a_bond(rig: Rig) -> None:
    master = rig.row(Bond, await rig.bond("eth1", "eth2")).master
    await rig.refused(["PIF_ALREADY_BONDED", master], "PIF.forget", master)


@precondition("8.7.4")
async def forgetting_below_a_vlan(rig: Rig) -> None:
    await rig.vlan("eth1", 7)
    await rig.refused(["PIF_VLAN_STILL_EXISTS", rig.nic("eth1")], "PIF.forget", rig.nic("eth1"))


@precondition("8.7.5")
async def forgetting_a_vlans_pif(rig: Rig) -> None:
    pif = rig.row(VLAN, await rig.vlan("eth1", 7)).untagged_PIF
    await rig.refused(["PIF_VLAN_STILL_EXISTS", pif], "PIF.forget", pif)


@precondition("8.7.6")
async def forgetting_a_transport(rig: Rig) -> None:
    await rig.tunnel("eth1")
    await rig.refused(["PIF_TUNNEL_STILL_EXISTS", rig.nic("eth1")], "PIF.forget", rig.nic("eth1"))


@precondition("8.7.7")
async def forgetting_an_access_pif(rig: Rig) -> None:
    pif = rig.row(Tunnel, await rig.tunnel()).access_PIF
    await rig.refused(["PIF_TUNNEL_STILL_EXISTS", pif], "PIF.forget", pif)


@precondition("8.7.8")
async def forgetting_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], "PIF.forget", rig.nic("eth1"))
    await rig.write(PIF, rig.nic("eth2"), currently_attached=False)
    await rig.accepted("PIF.forget", rig.nic("eth2"))


@precondition("8.7.9")
async def forgetting_with_a_redo_log(rig: Rig) -> None:
    await rig.pool(redo_log_enabled=True)
    await rig.refused(["REDO_LOG_IS_ENABLED"], "PIF.forget", rig.nic("eth1"))


@precondition("8.7.10")
async def forgetting_a_logical_pif(rig: Rig) -> None:
    pif = await rig.virtual_functions("eth1")
    await rig.refused(["CANNOT_FORGET_SRIOV_LOGICAL", pif], "PIF.forget", pif)


@precondition("8.7.11")
async def forgetting_below_virtual_functions(rig: Rig) -> None:
    await rig.virtual_functions("eth1")
    await rig.refused(["PIF_SRIOV_STILL_EXISTS", rig.nic("eth1")], "PIF.forget", rig.nic("eth1"))


@precondition("8.7.12")
async def forgetting_what_must_not_be_unplugged(rig: Rig) -> None:
    await rig.call("PIF.set_disallow_unplug", rig.nic("eth1"), True)
    await rig.accepted("PIF.forget", rig.nic("eth1"))


@precondition("8.8.1")
async def plugging_an_unmanaged_pif(rig: Rig) -> None:
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], "PIF.plug", pif)


@precondition("8.8.2")
async def plugging_a_tunnel_without_addresses(rig: Rig) -> None:
    pif = rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF
    await rig.call("PIF.unplug", pif)
    words = ("Static", "fd00::1/64", "", "")
    await rig.call("PIF.reconfigure_ipv6", rig.nic("eth1"), *words)
    await rig.call("PIF.reconfigure_ip", rig.nic("eth1"), "None", "", "", "", "")
    await rig.refused(["TRANSPORT_PIF_NOT_CONFIGURED", rig.nic("eth1")], "PIF.plug", pif)


@precondition("8.8.3")
async def plugging_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    await rig.refused(["CANNOT_PLUG_BOND_SLAVE", rig.nic("eth1")], "PIF.plug", rig.nic("eth1"))


@precondition("8.8.4")
async def plugging_twice(rig: Rig) -> None:
    await rig.call("PIF.plug", rig.nic("eth1"))
    await rig.unchanged("PIF.plug", rig.nic("eth1"))


@precondition("8.9.1")
async def unplugging_an_unmanaged_pif(rig: Rig) -> None:
    await rig.pool(ha_enabled=True)
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], "PIF.unplug", pif)


@precondition("8.9.2")
async def unplugging_under_high_availability(rig: Rig) -> None:
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    for device in ("eth0", "eth1"):
        await rig.refused(["HA_IS_ENABLED"], "PIF.unplug", rig.nic(device))


@precondition("8.9.3")
async def unplugging_with_a_redo_log(rig: Rig) -> None:
    await rig.pool(redo_log_enabled=True)
    await rig.refused(["REDO_LOG_IS_ENABLED"], "PIF.unplug", rig.nic("eth0"))


@precondition("8.9.4")
async def unplugging_management(rig: Rig) -> None:
    pif = rig.nic("eth0")
    await rig.running_on(rig.network_of("eth0"))
    await rig.call("PIF.set_disallow_unplug", pif, True)
    await rig.refused(["PIF_IS_MANAGEMENT_INTERFACE", pif], "PIF.unplug", pif)


@precondition("8.9.5")
async def unplugging_below_a_vm(rig: Rig) -> None:
    network = rig.network_of("eth1")
    vif = await rig.running_on(network)
    await rig.call("PIF.set_disallow_unplug", rig.nic("eth1"), True)
    await rig.refused(["VIF_IN_USE", network, vif], "PIF.unplug", rig.nic("eth1"))
    await rig.call("VM.pause", rig.row(VIF, vif).VM)
    await rig.refused(["VIF_IN_USE", network, vif], "PIF.unplug", rig.nic("eth1"))


@precondition("8.9.6")
async def unplugging_below_a_vm_that_starts(rig: Rig) -> None:
    network = rig.network_of("eth1")
    vif = await rig.vif(network)
    await rig.write(VIF, vif, current_operations={"task": VifOperations.ATTACH})
    vm = rig.row(VIF, vif).VM
    await rig.accepted("PIF.unplug", rig.nic("eth1"))
    await rig.call("PIF.plug", rig.nic("eth1"))
    for field in ("scheduled_to_be_resident_on", "resident_on"):
        await rig.write(VM, vm, scheduled_to_be_resident_on=NULL, resident_on=NULL)
        await rig.write(VM, vm, **{field: rig.host})
        await rig.refused(["VIF_IN_USE", network, vif], "PIF.unplug", rig.nic("eth1"))


@precondition("8.9.7")
async def unplugging_what_must_not_be(rig: Rig) -> None:
    pif = rig.nic("eth1")
    await rig.call("PIF.set_disallow_unplug", pif, True)
    await rig.refused(["PIF_DOES_NOT_ALLOW_UNPLUG", pif], "PIF.unplug", pif)


@precondition("8.9.8")
async def unplugging_below_a_tunnel(rig: Rig) -> None:
    access = rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF
    await rig.call("PIF.set_disallow_unplug", access, True)
    await rig.refused(["PIF_DOES_NOT_ALLOW_UNPLUG", access], "PIF.unplug", rig.nic("eth1"))
    await rig.call("PIF.set_disallow_unplug", access, False)
    await rig.accepted("PIF.unplug", rig.nic("eth1"))
    rig.equal(rig.row(PIF, access).currently_attached, False)


@precondition("8.9.9")
async def unplugging_twice(rig: Rig) -> None:
    await rig.call("PIF.unplug", rig.nic("eth1"))
    await rig.unchanged("PIF.unplug", rig.nic("eth1"))


@precondition("8.9.10")
async def unplugging_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    await rig.unchanged("PIF.unplug", rig.nic("eth1"))
    await rig.write(PIF, rig.nic("eth2"), disallow_unplug=True)
    error = ["PIF_DOES_NOT_ALLOW_UNPLUG", rig.nic("eth2")]
    await rig.refused(error, "PIF.unplug", rig.nic("eth2"))


@precondition("8.15.1")
async def a_vlan_on_no_device(rig: Rig) -> None:
    network = await rig.network()
    error = ["INVALID_VALUE", "device", "eth77"]
    await rig.refused(error, "PIF.create_VLAN", "eth77", network, rig.host, 7)


@precondition("8.15.2")
async def a_vlan_by_its_device(rig: Rig) -> None:
    network = rig.network_of("eth2")
    error = ["NETWORK_ALREADY_CONNECTED", rig.host, rig.nic("eth2")]
    await rig.refused(error, "PIF.create_VLAN", "eth1", network, rig.host, 9999)
    error = ["VLAN_TAG_INVALID", "9999"]
    await rig.refused(error, "PIF.create_VLAN", "eth1", await rig.network(), rig.host, 9999)
    made = await rig.accepted("PIF.create_VLAN", "eth1", await rig.network(), rig.host, 7)
    rig.equal(rig.row(PIF, made).VLAN, 7)


@precondition("8.15.3")
async def destroying_what_is_no_vlan(rig: Rig) -> None:
    master = rig.row(Bond, await rig.bond("eth2", "eth3")).master
    access = rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF
    for pif in (rig.nic("eth0"), master, access):
        await rig.refused(["PIF_IS_PHYSICAL"], "PIF.destroy", pif)
    rig.equal(rig.row(PIF, rig.nic("eth0")).ip_configuration_mode, IpConfigurationMode.STATIC)
