"""SR-IOV networks."""

from __future__ import annotations

from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import DomainType, SriovConfigurationMode
from poolnet.model.types import NULL, Ref
from tests.conformance.preconditions.rig import Rig, precondition
from tests.unit.rules.sriov_nics import functions

CREATE, DESTROY = "network_sriov.create", "network_sriov.destroy"


async def enabled(rig: Rig) -> tuple[NetworkSriov, Ref[Network]]:
    """An SR-IOV network on eth1, whose four functions are there."""
    sriov = rig.row(NetworkSriov, await rig.sriov("eth1"))
    await rig.capable("eth1", functions_now=4, functions=functions("eth1", 4))
    return sriov, rig.row(PIF, sriov.logical_PIF).network


async def running(rig: Rig, network: Ref[Network]) -> tuple[Ref[VM], Ref[VIF]]:
    """A running VM with a VIF on an SR-IOV network."""
    vm = await rig.vm(domain_type=DomainType.HVM)
    vif = await rig.vif(network, vm)
    await rig.call("VM.start", vm, False, False)
    return vm, vif


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


@precondition("14.3.3")
async def in_use(rig: Rig) -> None:
    sriov, network = await enabled(rig)
    _, vif = await running(rig, network)
    await rig.refused(["VIF_IN_USE", network, vif], DESTROY, sriov.ref)


@precondition("14.3.4")
async def high_availability(rig: Rig) -> None:
    sriov, _ = await enabled(rig)
    await rig.pool(ha_enabled=True)
    await rig.refused(["HA_IS_ENABLED"], DESTROY, sriov.ref)


@precondition("14.3.5")
async def a_redo_log(rig: Rig) -> None:
    sriov, _ = await enabled(rig)
    await rig.pool(redo_log_enabled=True)
    await rig.refused(["REDO_LOG_IS_ENABLED"], DESTROY, sriov.ref)


@precondition("14.3.6")
async def an_unmanaged_logical_pif(rig: Rig) -> None:
    sriov, _ = await enabled(rig)
    await rig.write(PIF, sriov.logical_PIF, managed=False)
    await rig.refused(["PIF_UNMANAGED", sriov.logical_PIF], DESTROY, sriov.ref)


@precondition("14.3.7")
async def the_network_stays(rig: Rig) -> None:
    sriov, network = await enabled(rig)
    await rig.accepted(DESTROY, sriov.ref)
    rig.equal(rig.view.exists(NetworkSriov, sriov.ref), False)
    rig.equal(rig.view.exists(PIF, sriov.logical_PIF), False)
    rig.equal(rig.row(Network, network).PIFs, ())
    rig.equal(rig.row(PIF, rig.nic("eth1")).sriov_physical_PIF_of, ())


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


@precondition("14.4.3")
async def at_once(rig: Rig) -> None:
    sriov, _ = await enabled(rig)
    found = rig.row(NetworkSriov, sriov.ref)
    rig.equal((found.configuration_mode, found.requires_reboot), (SriovConfigurationMode.SYSFS, False))
    rig.equal(rig.row(PIF, sriov.logical_PIF).currently_attached, True)


@precondition("14.4.4")
async def an_option_that_is_in_effect(rig: Rig) -> None:
    pif = await rig.capable("eth1", by_module=True, functions_now=4, functions=functions("eth1", 4))
    sriov = rig.row(NetworkSriov, await rig.call(CREATE, pif, await rig.network()))
    rig.equal((sriov.configuration_mode, sriov.requires_reboot), (SriovConfigurationMode.MODPROBE, False))
    rig.equal(rig.row(PIF, sriov.logical_PIF).currently_attached, True)


@precondition("14.4.5")
async def functions_of_the_administrator(rig: Rig) -> None:
    pif = await rig.capable("eth1", functions_now=2, functions=functions("eth1", 2))
    sriov = rig.row(NetworkSriov, await rig.call(CREATE, pif, await rig.network()))
    rig.equal((sriov.configuration_mode, sriov.requires_reboot), (SriovConfigurationMode.MANUAL, False))
    rig.equal(rig.row(PIF, sriov.logical_PIF).currently_attached, True)


@precondition("14.5.1")
async def brought_down(rig: Rig) -> None:
    pif = await rig.capable("eth1", by_module=True)
    sriov = rig.row(NetworkSriov, await rig.call(CREATE, pif, await rig.network()))
    await rig.call("PIF.unplug", sriov.logical_PIF)
    found = rig.row(NetworkSriov, sriov.ref)
    rig.equal((found.configuration_mode, found.requires_reboot), (SriovConfigurationMode.MODPROBE, False))
    rig.equal(rig.row(PIF, sriov.logical_PIF).currently_attached, False)


@precondition("14.6.1")
async def the_capacity_is_what_is_free(rig: Rig) -> None:
    sriov = await rig.sriov("eth1")
    rig.equal(await rig.call("network_sriov.get_remaining_capacity", sriov), 0)


@precondition("14.6.2")
async def what_a_vm_has_is_not_free(rig: Rig) -> None:
    sriov, network = await enabled(rig)
    rig.equal(await rig.call("network_sriov.get_remaining_capacity", sriov.ref), 4)
    await running(rig, network)
    rig.equal(await rig.call("network_sriov.get_remaining_capacity", sriov.ref), 3)


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


@precondition("14.7.7")
async def a_new_vif_without_the_feature(rig: Rig) -> None:
    _, network = await enabled(rig)
    await rig.call("VLAN.create", rig.row(Network, network).PIFs[0], 7, await rig.network())
    tagged = rig.pif("eth1", 7).network
    vm = await rig.vm(domain_type=DomainType.HVM)
    await rig.pool(restrictions={"restrict_network_sriov": "true"})
    for one in (network, tagged):
        record = rig.vif_record(one, vm)
        await rig.refused(["LICENCE_RESTRICTION", "Network_sriov"], "VIF.create", record)


@precondition("14.7.8")
async def what_must_not_be_moved(rig: Rig) -> None:
    _, network = await enabled(rig)
    vm, _ = await running(rig, network)
    for operation in ("suspend", "checkpoint", "pool_migrate", "migrate_send"):
        await rig.refused(["VM_HAS_PCI_ATTACHED", vm], "VM.assert_operation_valid", vm, operation)
    await rig.refused(["VM_HAS_PCI_ATTACHED", vm], "VM.suspend", vm)
    await rig.refused(["VM_HAS_PCI_ATTACHED", vm], "VM.pool_migrate", vm, rig.host, {})


@precondition("14.7.9")
async def an_attached_vif_elsewhere(rig: Rig) -> None:
    _, network = await enabled(rig)
    _, vif = await running(rig, network)
    text = f"vif_move: Unable to move a network SR-IOV backed VIF {vif}"
    await rig.refused(["INTERNAL_ERROR", text], "VIF.move", vif, await rig.network())


@precondition("14.7.10")
async def the_lowest_address_until_it_halts(rig: Rig) -> None:
    _, network = await enabled(rig)
    vm, vif = await running(rig, network)
    pci = rig.row(VIF, vif).reserved_pci
    rig.equal(rig.row(PCI, pci).pci_id, functions("eth1", 1)[0].pci_bus_path)
    rig.equal((rig.row(VM, vm).attached_PCIs, rig.row(PCI, pci).attached_VMs), ((pci,), (vm,)))
    await rig.call("VM.hard_shutdown", vm)
    rig.equal((rig.row(VM, vm).attached_PCIs, rig.row(PCI, pci).attached_VMs), ((), ()))
    rig.equal(rig.row(VIF, vif).reserved_pci, NULL)


@precondition("14.8.1")
async def devices(rig: Rig) -> None:
    await enabled(rig)
    own = rig.row(PCI, rig.row(PIF, rig.nic("eth1")).PCI)
    rig.equal((own.pci_id, own.vendor_id, own.device_id), ("0000:01:00.0", "8086", "1521"))
    rig.equal((own.class_id, own.host), ("02", rig.host))
    seen = rig.view.where(PCI, physical_function=own.ref)
    rig.equal(sorted(pci.pci_id for pci in seen), [one.pci_bus_path for one in functions("eth1", 4)])
    rig.equal({pci.device_id for pci in seen}, {"1520"})
    rig.equal(rig.row(PIF, rig.nic("eth2")).PCI, NULL)
