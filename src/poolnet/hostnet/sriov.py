"""Which NICs of a host are to have virtual functions, and how is each function to be? See spec §14. `derive` asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from poolnet.db.txn import View
from poolnet.hostnet.state import FunctionsMode, SriovNic, VirtualFunction
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import SriovConfigurationMode
from poolnet.model.types import Ref, is_null

BITS_PER_KBYTE: Final = 8 * 1024
BITS_PER_MBIT: Final = 1_000_000

_MODES: Final[Mapping[SriovConfigurationMode, FunctionsMode]] = {
    SriovConfigurationMode.SYSFS: FunctionsMode.SYSFS,
    SriovConfigurationMode.MODPROBE: FunctionsMode.MODPROBE,
    SriovConfigurationMode.MANUAL: FunctionsMode.MANUAL,
}


def sriov_nics(
    view: View, pifs: Iterable[PIF], vifs: Iterable[tuple[VIF, VirtualFunction]]
) -> tuple[SriovNic, ...]:
    """The NICs of a host that have virtual functions, or will after the next boot; of its PIFs, and the VIFs here.

    With each VIF on such a network comes the function as it is to be.
    """
    own = {pif.ref: pif for pif in pifs}
    found: dict[str, SriovNic] = {}
    by_nic = _by_nic(view, own, vifs)
    for logical in own.values():
        sriov = (
            view.find(NetworkSriov, logical.sriov_logical_PIF_of[0]) if logical.sriov_logical_PIF_of else None
        )
        physical = own.get(sriov.physical_PIF) if sriov is not None else None
        mode = _MODES.get(sriov.configuration_mode) if sriov is not None else None
        if sriov is None or physical is None or mode is None or not logical.managed:
            continue
        if logical.currently_attached or sriov.requires_reboot:
            functions = tuple(sorted(by_nic.get(physical.ref, ()), key=lambda one: one.address))
            found[physical.device] = SriovNic(device=physical.device, mode=mode, functions=functions)
    return tuple(found[device] for device in sorted(found))


def _by_nic(
    view: View, own: Mapping[Ref[PIF], PIF], vifs: Iterable[tuple[VIF, VirtualFunction]]
) -> dict[Ref[PIF], list[VirtualFunction]]:
    """The functions of the NICs that they are of."""
    nics = {pif.PCI: pif.ref for pif in own.values() if pif.physical and not is_null(pif.PCI)}
    found: dict[Ref[PIF], list[VirtualFunction]] = {}
    for vif, function in vifs:
        pci = view.find(PCI, vif.reserved_pci)
        nic = nics.get(pci.physical_function) if pci is not None else None
        if nic is not None:
            found.setdefault(nic, []).append(function)
    return found


def function_of(
    view: View, vif: VIF, local: PIF, *, connected: bool, rate_kbytes_per_s: int
) -> VirtualFunction | None:
    """The function that a VIF has, as it is to be; `local` is its network's PIF here. None for a VIF that has none."""
    pci = view.find(PCI, vif.reserved_pci)
    if pci is None:
        return None
    return VirtualFunction(
        address=pci.pci_id,
        mac=vif.MAC.lower(),
        vlan_tag=tag_of(view, local),
        rate_mbits_per_s=mbits_per_s(rate_kbytes_per_s),
        connected=connected,
        vif_uuid=vif.uuid,
    )


def tag_of(view: View, local: PIF) -> int:
    """The VLAN in which a NIC is to have the functions of a network, whose PIF on its host this is; 0 for none."""
    vlan = view.find(VLAN, local.VLAN_master_of)
    return vlan.tag if vlan is not None else 0


def mbits_per_s(kbytes_per_s: int) -> int:
    """A rate as NICs take it: whole Mbit/s, at least as much as was asked for; 0 for none."""
    return -(-kbytes_per_s * BITS_PER_KBYTE // BITS_PER_MBIT)
