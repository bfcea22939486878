"""What refuses a change of VIFs and VMs? The rules raise these.

Each gives the failure with the parameters really sent (spec §27); its docstring is what people read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from poolnet.model import failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from poolnet.model.classes.host import Host
    from poolnet.model.classes.network import Network
    from poolnet.model.classes.pif import PIF
    from poolnet.model.classes.sr import SR
    from poolnet.model.classes.vif import VIF
    from poolnet.model.classes.vm import VM
    from poolnet.model.types import Ref


@failure.error("address")
def address_violates_locking_constraint(address: str) -> failure.Parameters:
    """The locking mode of the VIF does not allow this address."""
    return (address,)


@failure.error("VIF")
def cannot_plug_vif(vif: Ref[VIF]) -> failure.Parameters:
    """The VIF could not be plugged."""
    return (vif,)


@failure.error("device")
def device_already_attached(device: str) -> failure.Parameters:
    """The device is already plugged."""
    return (device,)


@failure.error("device")
def device_already_detached(device: str) -> failure.Parameters:
    """The device is not plugged."""
    return (device,)


@failure.error("device")
def device_already_exists(device: str) -> failure.Parameters:
    """The VM already has a device with this number."""
    return (device,)


@failure.error("type", "ref", "msg")
def device_detach_rejected(kind: str, device: str, message: str) -> failure.Parameters:
    """The guest would not let the device go."""
    return kind, device, message


@failure.error("seed")
def duplicate_mac_seed(seed: str) -> failure.Parameters:
    """Another VM already has this MAC seed."""
    return (seed,)


@failure.error("vm")
def duplicate_vm(vm: Ref[VM]) -> failure.Parameters:
    """The VM already exists."""
    return (vm,)


@failure.error("host", "network")
def host_cannot_attach_network(host: Ref[Host], network: Ref[Network]) -> failure.Parameters:
    """The host cannot attach this network: it has no PIF on it, and nobody else does without one."""
    return host, network


@failure.error("device")
def invalid_device(device: str) -> failure.Parameters:
    """The VM cannot have a device with this number."""
    return (device,)


@failure.error()
def no_hosts_available() -> failure.Parameters:
    """No host can run the VM."""
    return ()


@failure.error("ref", "code")
def operation_blocked(ref: str, code: str) -> failure.Parameters:
    """The object is set to refuse this operation."""
    return ref, code


@failure.error("device")
def pvs_proxy_present_on_higher_vif_device(device: str) -> failure.Parameters:
    """A VIF with a higher device number already has a provisioning cache."""
    return (device,)


@failure.error("PIF")
def required_pif_is_unplugged(pifs: Iterable[Ref[PIF]]) -> failure.Parameters:
    """PIFs that the VM's networks need are not plugged."""
    return tuple(pifs)


@failure.error("network", "VIF")
def vif_in_use(network: Ref[Network], vif: Ref[VIF]) -> failure.Parameters:
    """The network has a VIF that is in use."""
    return network, vif


@failure.error("vif")
def vif_not_in_map(vif: Ref[VIF]) -> failure.Parameters:
    """The map of VIFs to networks lacks this VIF."""
    return (vif,)


@failure.error("vm", "expected", "actual")
def vm_bad_power_state(vm: Ref[VM], expected: str, actual: str) -> failure.Parameters:
    """The VM is not in the power state that the operation needs."""
    return vm, expected, actual


@failure.error("vm")
def vm_has_pci_attached(vm: Ref[VM]) -> failure.Parameters:
    """The VM has a PCI device of the host, so it cannot leave it."""
    return (vm,)


@failure.error("vm")
def vm_hvm_required(vm: Ref[VM]) -> failure.Parameters:
    """This needs a VM with full virtualization."""
    return (vm,)


@failure.error("vm")
def vm_has_sriov_vif(vm: Ref[VM]) -> failure.Parameters:
    """The VM has a VIF on an SR-IOV network, so it cannot leave the host."""
    return (vm,)


@failure.error("vm", "host", "reason")
def vm_incompatible_with_this_host(vm: Ref[VM], host: Ref[Host], reason: str) -> failure.Parameters:
    """The host cannot run this VM."""
    return vm, host, reason


@failure.error("vm")
def vm_is_template(vm: Ref[VM]) -> failure.Parameters:
    """The VM is a template, and templates do not run."""
    return (vm,)


@failure.error("VM")
def vm_is_immobile(vm: Ref[VM]) -> failure.Parameters:
    """The VM is of a kind that cannot go to another host while it runs."""
    return (vm,)


@failure.error("vm")
def vm_lacks_feature(vm: Ref[VM]) -> failure.Parameters:
    """The guest does not say that it can do this."""
    return (vm,)


@failure.error("vm")
def vm_missing_pv_drivers(vm: Ref[VM]) -> failure.Parameters:
    """The guest has no paravirtual drivers."""
    return (vm,)


@failure.error("vm", "host")
def vm_not_resident_here(vm: Ref[VM], host: Ref[Host]) -> failure.Parameters:
    """The VM does not run on this host."""
    return vm, host


@failure.error("vm", "network")
def vm_requires_network(vm: Ref[VM], network: Ref[Network]) -> failure.Parameters:
    """The host does not have a network that the VM needs."""
    return vm, network


@failure.error("vm", "sr")
def vm_requires_sr(vm: Ref[VM], sr: Ref[SR]) -> failure.Parameters:
    """The host does not reach a storage repository that the VM needs."""
    return vm, sr
