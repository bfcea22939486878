"""SR-IOV networks."""

from __future__ import annotations

from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.enums import DomainType, SriovConfigurationMode
from tests.conformance.preconditions.rig import Rig, precondition

CREATE, DESTROY = "network_sriov.create", "network_sriov.destroy"


@precondition("14.2.1")
async def the_feature_is_off(rig: Rig) -> None:
    await rig.pool(restrictions={"restrict_network_sriov": "true"})
    network = await rig.network(managed=False)
    await rig.refused(["LICENCE_RESTRICTION", "Network_sriov"], CREATE, await rig.unmanaged("eth1"), network)


@precondition("14.2.2")
async def an_unmanaged_network(rig: Rig) -> None:
    network = await rig.network(managed=False)
    await rig.refused(["NETWORK_UNMANAGED", network], CREATE, await rig.unmanaged("eth1"), network)


@precondition("14.2.3")
async def an_unmanaged_pif(rig: Rig) -> None:
    pif = await rig.unmanaged("eth1")
    await rig.refused(["PIF_UNMANAGED", pif], CREATE, pif, rig.network_of("eth2"))


@precondition("14.2.4")
async def a_vlan(rig: Rig) -> None:
    await rig.vlan("eth1", 7)
    pif = rig.pif("eth1", 7).ref
    await rig.refused(["PIF_IS_NOT_PHYSICAL", pif], CREATE, pif, rig.network_of("eth2"))


@precondition("14.2.5")
async def a_nic_that_has_it_already(rig: Rig) -> None:
    await rig.sriov("eth1")
    await rig.write(PIF, rig.nic("eth1"), capabilities=())
    error = ["NETWORK_SRIOV_ALREADY_ENABLED", rig.nic("eth1")]
    await rig.refused(error, CREATE, rig.nic("eth1"), rig.network_of("eth2"))


@precondition("14.2.6")
async def a_nic_that_cannot(rig: Rig) -> None:
    error = ["PIF_IS_NOT_SRIOV_CAPABLE", rig.nic("eth1")]
    await rig.refused(error, CREATE, rig.nic("eth1"), rig.network_of("eth2"))


@precondition("14.2.7")
async def a_network_that_is_connected(rig: Rig) -> None:
    pif = await rig.capable("eth1")
    error = ["NETWORK_ALREADY_CONNECTED", rig.host, rig.nic("eth2")]
    await rig.refused(error, CREATE, pif, rig.network_of("eth2"))


@precondition("14.2.8")
async def a_network_of_other_pifs(rig: Rig) -> None:
    pif, network = await rig.capable("eth1"), rig.network_of("eth2")
    await rig.elsewhere(rig.nic("eth2"))
    await rig.refused(["NETWORK_INCOMPATIBLE_WITH_SRIOV", network], CREATE, pif, network)


@precondition("14.2.9")
async def a_network_of_other_nics(rig: Rig) -> None:
    logical = rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF
    network = rig.row(PIF, logical).network
    pif = await rig.capable("eth2", device_id="10fb")
    await rig.elsewhere(logical)
    await rig.refused(["NETWORK_HAS_INCOMPATIBLE_SRIOV_PIFS", pif, network], CREATE, pif, network)


@precondition("14.2.10")
async def a_member_of_a_bond(rig: Rig) -> None:
    pif = await rig.capable("eth1")
    await rig.bond("eth1", "eth2")
    await rig.accepted(CREATE, pif, await rig.network())


@precondition("14.3.1")
async def below_a_vlan(rig: Rig) -> None:
    sriov = await rig.sriov("eth1")
    logical = rig.row(NetworkSriov, sriov).logical_PIF
    await rig.call("VLAN.create", logical, 7, await rig.network())
    await rig.refused(["PIF_VLAN_STILL_EXISTS", logical], DESTROY, sriov)


@precondition("14.3.2")
async def what_must_not_be_unplugged(rig: Rig) -> None:
    sriov = await rig.sriov("eth1")
    logical = rig.row(NetworkSriov, sriov).logical_PIF
    await rig.call("PIF.set_disallow_unplug", logical, True)
    await rig.refused(["PIF_DOES_NOT_ALLOW_UNPLUG", logical], DESTROY, sriov)


@precondition("14.4.1")
async def a_damaged_file_of_a_driver(rig: Rig) -> None:
    sriov = await rig.sriov("eth1")
    logical = rig.row(NetworkSriov, sriov).logical_PIF
    await rig.capable("eth1", damage="igb.conf: damaged")
    error = ["NETWORK_SRIOV_ENABLE_FAILED", logical, "igb.conf: damaged"]
    await rig.refused(error, "PIF.plug", logical)


@precondition("14.4.2")
async def an_option_of_a_driver(rig: Rig) -> None:
    pif = await rig.capable("eth1", by_module=True)
    sriov = rig.row(NetworkSriov, await rig.call(CREATE, pif, await rig.network()))
    rig.equal((sriov.configuration_mode, sriov.requires_reboot), (SriovConfigurationMode.MODPROBE, True))
    rig.equal(rig.row(PIF, sriov.logical_PIF).currently_attached, False)


@precondition("14.6.1")
async def the_capacity_is_what_is_free(rig: Rig) -> None:
    sriov = await rig.sriov("eth1")
    rig.equal(await rig.call("network_sriov.get_remaining_capacity", sriov), 0)


@precondition("14.7.1")
async def a_vif_without_the_feature(rig: Rig) -> None:
    network = rig.row(PIF, rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF).network
    vm = await rig.vm(domain_type=DomainType.HVM)
    await rig.vif(network, vm)
    await rig.pool(restrictions={"restrict_network_sriov": "true", "restrict_vm_start": "false"})
    await rig.refused(["LICENCE_RESTRICTION", "Network_sriov"], "VM.start", vm, False, False)


@precondition("14.7.2")
async def hot_plug(rig: Rig) -> None:
    network = rig.row(PIF, rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF).network
    vif = await rig.vif(network, await rig.vm())
    text = "Network SR-IOV VIF plug/unplug not allowed"
    await rig.refused(["OPERATION_NOT_ALLOWED", text], "VIF.plug", vif)
    await rig.refused(["OPERATION_NOT_ALLOWED", text], "VIF.unplug", vif)


@precondition("14.7.3")
async def too_few_functions(rig: Rig) -> None:
    network = rig.row(PIF, rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF).network
    vm = await rig.vm(domain_type=DomainType.HVM)
    await rig.vif(network, vm)
    error = ["NETWORK_SRIOV_INSUFFICIENT_CAPACITY", network]
    await rig.refused(error, "VM.start", vm, False, False)
    await rig.refused(error, "VM.assert_can_boot_here", vm, rig.host)


@precondition("14.7.4")
async def not_hvm(rig: Rig) -> None:
    network = rig.row(PIF, rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF).network
    vm = await rig.vm(domain_type=DomainType.PV)
    await rig.vif(network, vm)
    await rig.refused(["VM_HVM_REQUIRED", vm], "VM.start", vm, False, False)


@precondition("14.7.5")
async def not_agile(rig: Rig) -> None:
    network = rig.row(PIF, rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF).network
    vm = await rig.vm()
    await rig.vif(network, vm)
    await rig.refused(["VM_HAS_SRIOV_VIF", vm], "VM.assert_agile", vm)


@precondition("14.7.6")
async def a_lock(rig: Rig) -> None:
    network = rig.row(PIF, rig.row(NetworkSriov, await rig.sriov("eth1")).logical_PIF).network
    vif = await rig.vif(network, await rig.vm())
    text = "A VIF on an SR-IOV network cannot be locked"
    await rig.refused(["OPERATION_NOT_ALLOWED", text], "VIF.set_locking_mode", vif, "locked")
