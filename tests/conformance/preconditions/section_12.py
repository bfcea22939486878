"""VLANs."""

from __future__ import annotations

from typing import Any

from poolnet.hostnet import protocol
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.types import NULL, Ref
from poolnet.pool.hostlink import HostRefused
from tests.conformance.preconditions.rig import Rig, precondition

CREATE, DESTROY = "VLAN.create", "VLAN.destroy"
BAD = 9999


@precondition("12.2.1")
async def an_unmanaged_network(rig: Rig) -> None:
    network = await rig.network(managed=False)
    pif = await rig.unmanaged("eth1")
    await rig.refused(["NETWORK_UNMANAGED", network], CREATE, pif, BAD, network)


@precondition("12.2.2")
async def a_network_that_is_connected(rig: Rig) -> None:
    pif = await rig.unmanaged("eth1")
    error = ["NETWORK_ALREADY_CONNECTED", rig.host, rig.nic("eth2")]
    await rig.refused(error, CREATE, pif, BAD, rig.network_of("eth2"))


@precondition("12.2.3")
async def an_unmanaged_pif(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], CREATE, pif, BAD, await rig.network())


@precondition("12.2.4")
async def on_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    error = ["CANNOT_ADD_VLAN_TO_BOND_SLAVE", rig.nic("eth1")]
    await rig.refused(error, CREATE, rig.nic("eth1"), BAD, await rig.network())


@precondition("12.2.5")
async def on_a_vlan(rig: Rig) -> None:
    pif = rig.row(VLAN, await rig.vlan("eth1", 7)).untagged_PIF
    await rig.refused(["PIF_IS_VLAN", pif], CREATE, pif, BAD, await rig.network())


@precondition("12.2.6")
async def on_a_tunnel(rig: Rig) -> None:
    pif = rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF
    await rig.refused(["IS_TUNNEL_ACCESS_PIF", pif], CREATE, pif, BAD, await rig.network())


@precondition("12.2.7")
async def on_virtual_functions_for_bridges(rig: Rig) -> None:
    logical = await rig.virtual_functions("eth1")
    await rig.elsewhere(rig.nic("eth2"))
    network = rig.network_of("eth2")
    error = ["NETWORK_INCOMPATIBLE_WITH_VLAN_ON_SRIOV", network]
    await rig.refused(error, CREATE, logical, BAD, network)


@precondition("12.2.8")
async def on_a_bridge_for_virtual_functions(rig: Rig) -> None:
    logical = await rig.virtual_functions("eth2")
    network = rig.row(PIF, logical).network
    await rig.elsewhere(logical)
    error = ["NETWORK_INCOMPATIBLE_WITH_VLAN_ON_BRIDGE", network]
    await rig.refused(error, CREATE, rig.nic("eth1"), BAD, network)


@precondition("12.2.9")
async def a_tag_that_is_none(rig: Rig) -> None:
    network = await rig.network()
    await rig.vif(network, trunks=["7"])
    for tag in (-1, 4095, 9999):
        await rig.refused(["VLAN_TAG_INVALID", str(tag)], CREATE, rig.nic("eth1"), tag, network)


@precondition("12.2.10")
async def a_tag_that_is_taken(rig: Rig) -> None:
    await rig.vlan("eth1", 7)
    network = await rig.network()
    await rig.vif(network, trunks=["7"])
    await rig.refused(["PIF_VLAN_EXISTS", "eth1"], CREATE, rig.nic("eth1"), 7, network)
    await rig.accepted(CREATE, rig.nic("eth2"), 7, await rig.network())


@precondition("12.2.11")
async def a_device_of_somebody_else(rig: Rig) -> None:
    network = await rig.network()
    fault = protocol.Refused(fault=protocol.Fault.VLAN_IN_USE, message="it is there", subject="eth1.7")

    def refuse(_: Any) -> bool:
        raise HostRefused(fault)

    rig.server.host.refuse = refuse
    await rig.refused(["VLAN_IN_USE", "eth1", "7"], CREATE, rig.nic("eth1"), 7, network)


@precondition("12.2.12")
async def beside_trunks(rig: Rig) -> None:
    network = await rig.network()
    await rig.vif(network, trunks=["7"])
    error = ["NETWORK_INCOMPATIBLE_WITH_TRUNKS", network]
    await rig.refused(error, CREATE, rig.nic("eth1"), 8, network)


@precondition("12.2.13")
async def on_a_pif_that_is_down(rig: Rig) -> None:
    await rig.call("PIF.unplug", rig.nic("eth1"))
    await rig.accepted(CREATE, rig.nic("eth1"), 7, await rig.network())
    rig.equal(rig.pif("eth1").currently_attached, False)
    rig.equal(rig.pif("eth1", 7).currently_attached, True)


@precondition("12.3.1")
async def without_its_pif(rig: Rig) -> None:
    vlan = await rig.vlan("eth1", 7)
    await rig.call("PIF.db_forget", rig.pif("eth1", 7).ref)
    await rig.accepted(DESTROY, vlan)
    rig.equal(rig.view.find(VLAN, vlan), None)


@precondition("12.3.2")
async def in_a_bond(rig: Rig) -> None:
    vlan, bond = await rig.vlan("eth1", 7), await rig.bond("eth2", "eth3")
    pif = rig.pif("eth1", 7).ref
    await rig.write(PIF, pif, bond_slave_of=bond)
    await rig.pool(ha_enabled=True)
    await rig.refused(["PIF_ALREADY_BONDED", pif], DESTROY, vlan)


@precondition("12.3.3")
async def under_high_availability(rig: Rig) -> None:
    vlan = await rig.vlan("eth1", 7)
    await rig.pool(ha_enabled=True, redo_log_enabled=True)
    await rig.write(PIF, rig.pif("eth1", 7).ref, VLAN=-1)
    await rig.refused(["HA_IS_ENABLED"], DESTROY, vlan)


@precondition("12.3.4")
async def with_a_redo_log(rig: Rig) -> None:
    vlan = await rig.vlan("eth1", 7)
    await rig.pool(redo_log_enabled=True)
    await rig.refused(["REDO_LOG_IS_ENABLED"], DESTROY, vlan)


@precondition("12.3.5")
async def without_a_tag(rig: Rig) -> None:
    vlan = await rig.vlan("eth1", 7)
    pif = rig.pif("eth1", 7).ref
    await rig.write(PIF, pif, VLAN=-1, management=True)
    await rig.refused(["PIF_IS_PHYSICAL"], DESTROY, vlan)


@precondition("12.3.6")
async def management(rig: Rig) -> None:
    vlan = await rig.vlan("eth1", 7)
    pif = rig.pif("eth1", 7).ref
    await rig.call("PIF.reconfigure_ip", pif, "Static", "10.9.9.9", "255.255.255.0", "", "")
    await rig.call("host.management_reconfigure", pif)
    await rig.refused(["PIF_IS_MANAGEMENT_INTERFACE", pif], DESTROY, vlan)


@precondition("12.3.7")
async def below_a_vm(rig: Rig) -> None:
    network = await rig.network()
    vlan: Ref[Any] = await rig.vlan("eth1", 7, network)
    vif = await rig.running_on(network)
    await rig.call("PIF.set_disallow_unplug", rig.pif("eth1", 7).ref, True)
    await rig.refused(["VIF_IN_USE", network, vif], DESTROY, vlan)


@precondition("12.3.8")
async def what_must_not_be_unplugged(rig: Rig) -> None:
    vlan = await rig.vlan("eth1", 7)
    pif = rig.pif("eth1", 7).ref
    await rig.call("PIF.set_disallow_unplug", pif, True)
    await rig.refused(["PIF_DOES_NOT_ALLOW_UNPLUG", pif], DESTROY, vlan)
    rig.equal(rig.row(PIF, pif).bond_slave_of, NULL)
