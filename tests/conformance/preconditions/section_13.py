"""Tunnels."""

from __future__ import annotations

from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from tests.conformance.preconditions.rig import Rig, precondition

CREATE, DESTROY = "tunnel.create", "tunnel.destroy"


@precondition("13.2.1")
async def an_unmanaged_network(rig: Rig) -> None:
    network = await rig.network(managed=False)
    pif = await rig.unmanaged("eth1")
    await rig.refused(["NETWORK_UNMANAGED", network], CREATE, pif, network)


@precondition("13.2.2")
async def a_network_that_is_connected(rig: Rig) -> None:
    pif = await rig.unmanaged("eth1")
    error = ["NETWORK_ALREADY_CONNECTED", rig.host, rig.nic("eth2")]
    await rig.refused(error, CREATE, pif, rig.network_of("eth2"))


@precondition("13.2.3")
async def an_unmanaged_pif(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], CREATE, pif, await rig.network())


@precondition("13.2.4")
async def over_a_member(rig: Rig) -> None:
    await rig.bond("eth1", "eth2")
    error = ["CANNOT_ADD_TUNNEL_TO_BOND_SLAVE", rig.nic("eth1")]
    await rig.refused(error, CREATE, rig.nic("eth1"), await rig.network())


@precondition("13.2.5")
async def over_a_tunnel(rig: Rig) -> None:
    pif = rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF
    await rig.refused(["IS_TUNNEL_ACCESS_PIF", pif], CREATE, pif, await rig.network())


@precondition("13.2.6")
async def over_virtual_functions(rig: Rig) -> None:
    pif = await rig.virtual_functions("eth1")
    await rig.refused(["CANNOT_ADD_TUNNEL_TO_SRIOV_LOGICAL", pif], CREATE, pif, await rig.network())


@precondition("13.2.7")
async def over_a_vlan_on_virtual_functions(rig: Rig) -> None:
    pif = rig.row(VLAN, await rig.vlan("eth2", 7)).untagged_PIF
    logical = await rig.virtual_functions("eth1")
    await rig.write(VLAN, rig.row(PIF, pif).VLAN_master_of, tagged_PIF=logical)
    error = ["CANNOT_ADD_TUNNEL_TO_VLAN_ON_SRIOV_LOGICAL", pif]
    await rig.refused(error, CREATE, pif, await rig.network())


@precondition("13.2.8")
async def a_network_of_virtual_functions(rig: Rig) -> None:
    logical = await rig.virtual_functions("eth2")
    network = rig.row(PIF, logical).network
    await rig.elsewhere(logical)
    error = ["NETWORK_INCOMPATIBLE_WITH_TUNNEL", network]
    await rig.refused(error, CREATE, rig.nic("eth1"), network)


@precondition("13.2.9")
async def without_open_vswitch(rig: Rig) -> None:
    await rig.write(Host, rig.host, software_version={"network_backend": "bridge"})
    pif = rig.row(PIF, rig.row(Tunnel, await rig.tunnel("eth1")).access_PIF)
    rig.equal(pif.currently_attached, True)


@precondition("13.2.10")
async def over_a_nic_without_an_address(rig: Rig) -> None:
    await rig.call("PIF.reconfigure_ipv6", rig.nic("eth1"), "Static", "fd00::1/64", "", "")
    error = ["TRANSPORT_PIF_NOT_CONFIGURED", rig.nic("eth1")]
    await rig.refused(error, CREATE, rig.nic("eth1"), await rig.network())


@precondition("13.3.1")
async def below_a_vm(rig: Rig) -> None:
    tunnel = await rig.tunnel("eth1")
    pif = rig.row(PIF, rig.row(Tunnel, tunnel).access_PIF)
    vif = await rig.running_on(pif.network)
    await rig.refused(["VIF_IN_USE", pif.network, vif], DESTROY, tunnel)


@precondition("13.3.2")
async def what_must_not_be_unplugged(rig: Rig) -> None:
    tunnel = await rig.tunnel("eth1")
    pif = rig.row(Tunnel, tunnel).access_PIF
    await rig.call("PIF.set_disallow_unplug", pif, True)
    await rig.refused(["PIF_DOES_NOT_ALLOW_UNPLUG", pif], DESTROY, tunnel)


@precondition("13.3.3")
async def under_high_availability(rig: Rig) -> None:
    tunnel = await rig.tunnel("eth1")
    await rig.pool(ha_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], DESTROY, tunnel)
