"""Which virtual functions are there, which are free, and which VM has which? See spec §14.4–§14.8.

Bringing PIFs up and down, starting and ending VMs, placement and every report of a host end here. A function belongs to
one VIF at a time: it is taken and given back in the transaction that starts or ends the VM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from poolnet.db.txn import Txn, View
from poolnet.hostnet.facts import HostFacts, NicFacts, SriovFacts
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import SriovConfigurationMode
from poolnet.model.types import NULL, Ref, is_null
from poolnet.rules.function_evidence import without
from poolnet.rules.kinds import Kind, below, is_sriov_network, kind_of, local_pif

CAPABLE: Final = "sriov"
NETWORK_CLASS: Final = ("02", "Network controller")


def capabilities(nic: NicFacts) -> tuple[str, ...]:
    """What a NIC can do, as the field of its PIF says it (spec §8.14)."""
    return (CAPABLE,) if nic.sriov is not None and nic.sriov.functions_max > 0 else ()


# --- on and off ------------------------------------------------------------------------------------------------


def the_sriov(view: View, logical: PIF) -> NetworkSriov:
    """The SR-IOV object of a logical PIF."""
    return view.get(NetworkSriov, logical.sriov_logical_PIF_of[0])


def switch_on(txn: Txn, logical: PIF, facts: HostFacts) -> None:
    """Writes how the NIC gets its virtual functions, and whether it has them already (spec §14.4).

    What the kernel will do is known beforehand: it refuses to change the number of functions of a NIC that has some, so
    those were made by the administrator; an option of the driver takes effect with the next boot.

    Raises:
        NETWORK_SRIOV_ENABLE_FAILED: The NIC is gone, has no virtual functions, or its driver's option cannot be set.
    """
    sriov = the_sriov(txn, logical)
    physical = txn.get(PIF, sriov.physical_PIF)
    seen = _facts_of(facts, physical.device)
    if seen is None or seen.functions_max == 0:
        raise errors.network_sriov_enable_failed(logical.ref, f"{physical.device} has no virtual functions")
    if seen.damage:
        raise errors.network_sriov_enable_failed(logical.ref, seen.damage)
    mode, waits = SriovConfigurationMode.SYSFS, False
    if seen.by_module:
        mode, waits = SriovConfigurationMode.MODPROBE, seen.functions_now != seen.functions_max
    elif 0 < seen.functions_now < seen.functions_max and not _is_on(txn, sriov, logical):
        mode = SriovConfigurationMode.MANUAL
    elif 0 < seen.functions_now < seen.functions_max:
        mode = sriov.configuration_mode
    txn.update(NetworkSriov, sriov.ref, configuration_mode=mode, requires_reboot=waits)
    txn.update(PIF, logical.ref, currently_attached=not waits, MTU=physical.MTU)


def switch_off(txn: Txn, logical: PIF) -> None:
    """Writes that the NIC gives its virtual functions up; how it had them stays written (spec §14.5)."""
    txn.update(NetworkSriov, the_sriov(txn, logical).ref, requires_reboot=False)
    txn.update(PIF, logical.ref, currently_attached=False)


def failed_before(view: View, logical: PIF, facts: HostFacts) -> bool:
    """Whether the host could not switch this NIC's functions on when it tried last."""
    physical = view.find(PIF, the_sriov(view, logical).physical_PIF)
    seen = _facts_of(facts, physical.device) if physical is not None else None
    return seen is not None and bool(seen.failed)


def can_be_up_without_reboot(view: View, logical: PIF) -> bool:
    """Could VMs have functions of this NIC before the host boots again (spec §14.6)?"""
    sriov = the_sriov(view, logical)
    match sriov.configuration_mode:
        case SriovConfigurationMode.SYSFS:
            return True
        case SriovConfigurationMode.UNKNOWN:
            return False
    return logical.currently_attached or bool(free_functions(view, sriov))


def _is_on(view: View, sriov: NetworkSriov, logical: PIF) -> bool:
    return logical.currently_attached and sriov.configuration_mode is not SriovConfigurationMode.UNKNOWN


def _facts_of(facts: HostFacts, device: str) -> SriovFacts | None:
    return next((nic.sriov for nic in facts.nics if nic.name == device), None)


# --- the pool of functions -------------------------------------------------------------------------------------


def logical_pif(view: View, network: Ref[Network], host: Ref[Host]) -> PIF | None:
    """The logical PIF that gives a host's VMs this network: its own, or that under a VLAN. None for other networks."""
    return logical_under(view, local_pif(view, network, host))


def logical_under(view: View, pif: PIF | None) -> PIF | None:
    """The logical PIF that gives VMs the network of this PIF; None for another kind of network, or for no PIF."""
    if pif is not None and kind_of(pif) is Kind.VLAN:
        pif = below(view, pif)
    return pif if pif is not None and kind_of(pif) is Kind.SRIOV_LOGICAL else None


def free_functions(view: View, sriov: NetworkSriov) -> tuple[PCI, ...]:
    """The functions of a NIC that no VM has and none is to get, lowest address on the bus first."""
    physical = view.find(PIF, sriov.physical_PIF)
    if physical is None or is_null(physical.PCI):
        return ()
    functions = view.where(PCI, physical_function=physical.PCI)
    free = (pci for pci in functions if not pci.attached_VMs and is_null(pci.scheduled_to_be_attached_to))
    return tuple(sorted(free, key=lambda pci: pci.pci_id))


def free_on(view: View, network: Ref[Network], host: Ref[Host]) -> int:
    """How many VIFs on this network a host can still start."""
    logical = logical_pif(view, network, host)
    if logical is None or not logical.currently_attached:
        return 0
    return len(free_functions(view, the_sriov(view, logical)))


def wants_functions(view: View, vm: Ref[VM]) -> bool:
    """Whether a VM has a VIF on an SR-IOV network, and so starts only where a function is free."""
    return any(is_sriov_network(view, vif.network) for vif in view.where(VIF, VM=vm))


def require_capacity(view: View, vm: Ref[VM], host: Ref[Host]) -> None:
    """Lets a VM start on a host that has a free virtual function for each VIF that needs one (spec §17.1).

    VLANs on one NIC share its functions: what is counted is the NIC.

    Raises:
        NETWORK_SRIOV_INSUFFICIENT_CAPACITY: It has too few; with the first network that has.
    """
    needed: dict[Ref[PIF], int] = {}
    for vif in view.where(VIF, VM=vm):
        logical = logical_pif(view, vif.network, host)
        if logical is None or view.exists(PCI, vif.reserved_pci):
            continue
        needed[logical.ref] = needed.get(logical.ref, 0) + 1
        if needed[logical.ref] > free_on(view, vif.network, host):
            raise errors.network_sriov_insufficient_capacity(vif.network)


def take(txn: Txn, vm: Ref[VM], vif: VIF, host: Ref[Host]) -> Ref[PCI]:
    """Gives a VIF that is being attached its virtual function: the free one with the lowest address. Null without.

    One that it has already, it keeps.

    Raises:
        INTERNAL_ERROR: None is free.
    """
    logical = logical_pif(txn, vif.network, host)
    if logical is None:
        return NULL
    if txn.exists(PCI, vif.reserved_pci):
        return vif.reserved_pci
    free = free_functions(txn, the_sriov(txn, logical))
    if not free:
        raise errors.internal_error("No free virtual function found")
    txn.update(PCI, free[0].ref, attached_VMs=(vm,))
    txn.update(VM, vm, attached_PCIs=(*txn.get(VM, vm).attached_PCIs, free[0].ref))
    txn.update(VIF, vif.ref, reserved_pci=free[0].ref)
    return free[0].ref


def give_back(txn: Txn, vm: Ref[VM]) -> None:
    """Takes all virtual functions from a VM that has ended."""
    for ref in txn.get(VM, vm).attached_PCIs:
        if txn.exists(PCI, ref):
            txn.update(PCI, ref, attached_VMs=(), scheduled_to_be_attached_to=NULL)
    txn.update(VM, vm, attached_PCIs=())
    for vif in txn.where(VIF, VM=vm):
        txn.update(VIF, vif.ref, reserved_pci=NULL, runtime_properties=without(vif))


# --- devices ---------------------------------------------------------------------------------------------------


def record_devices(txn: Txn, host: Ref[Host], nics: Iterable[NicFacts], new_uuid: Callable[[], str]) -> None:
    """Writes the NICs and virtual functions that a host reports as PCI devices, and what its PIFs can do (spec §14.8).

    A device that a VM still has is kept, whatever the host says.
    """
    known = {pci.pci_id: pci for pci in txn.where(PCI, host=host)}
    pifs = txn.where(PIF, host=host, physical=True)  # once: a host may have a thousand others
    reported: set[str] = set()
    for nic in nics:
        if not nic.pci_bus_path:
            continue
        reported.add(nic.pci_bus_path)
        own = _write(txn, host, known, nic.pci_bus_path, new_uuid, **_described(nic), physical_function=NULL)
        for function in nic.sriov.functions if nic.sriov is not None else ():
            reported.add(function.pci_bus_path)
            _write(
                txn,
                host,
                known,
                function.pci_bus_path,
                new_uuid,
                vendor_id=function.vendor_id,
                vendor_name=function.vendor_name,
                device_id=function.device_id,
                device_name=function.device_name,
                driver_name=function.driver,
                physical_function=own,
            )
        for pif in pifs:
            if pif.device == nic.name:
                txn.update(PIF, pif.ref, PCI=own, capabilities=capabilities(nic))
    for address, pci in known.items():
        gone = address not in reported and not pci.attached_VMs and is_null(pci.scheduled_to_be_attached_to)
        if gone and any(nic.pci_bus_path for nic in nics):
            txn.destroy(PCI, pci.ref)


def _described(nic: NicFacts) -> dict[str, str]:
    return {
        "vendor_id": nic.vendor_id,
        "vendor_name": nic.vendor_name,
        "device_id": nic.device_id,
        "device_name": nic.device_name,
        "driver_name": nic.driver,
    }


def _write(
    txn: Txn, host: Ref[Host], known: dict[str, PCI], address: str, new_uuid: Callable[[], str], **fields: Any
) -> Ref[PCI]:
    there = known.get(address)
    if there is not None:
        txn.update(PCI, there.ref, **fields)
        return there.ref
    class_id, class_name = NETWORK_CLASS
    return txn.create(
        PCI(
            ref=Ref(f"OpaqueRef:{new_uuid()}"),
            uuid=new_uuid(),
            host=host,
            pci_id=address,
            class_id=class_id,
            class_name=class_name,
            **fields,
        )
    )
