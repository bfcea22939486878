"""What kind of PIF is this, and what does it stand on? See spec §8.1.

The PIF, VLAN, bond and tunnel rules ask before they let anything be built on a PIF.
"""

from __future__ import annotations

from enum import StrEnum

from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PrimaryAddressType
from poolnet.model.types import Ref, is_null


class Kind(StrEnum):
    """The kinds of PIF."""

    TUNNEL_ACCESS = "tunnel-access"
    VLAN = "vlan"
    SRIOV_LOGICAL = "sriov-logical"
    BOND_MASTER = "bond-master"
    PHYSICAL = "physical"


SRIOV_STACK = (Kind.SRIOV_LOGICAL, Kind.PHYSICAL)


def kind_of(pif: PIF) -> Kind:
    """The kind of a PIF: the first rule of spec §8.1 that matches.

    Raises:
        INTERNAL_ERROR: It is of no kind.
    """
    if pif.tunnel_access_PIF_of:
        return Kind.TUNNEL_ACCESS
    if not is_null(pif.VLAN_master_of):
        return Kind.VLAN
    if pif.sriov_logical_PIF_of:
        return Kind.SRIOV_LOGICAL
    if pif.bond_master_of:
        return Kind.BOND_MASTER
    if pif.physical:
        return Kind.PHYSICAL
    raise errors.internal_error(f"Cannot calculate PIF type of {pif.uuid}")


def below(view: View, pif: PIF) -> PIF | None:
    """The PIF that a VLAN, tunnel or SR-IOV PIF stands on; None for the others and where it dangles."""
    match kind_of(pif):
        case Kind.TUNNEL_ACCESS:
            tunnel = view.find(Tunnel, pif.tunnel_access_PIF_of[0])
            return view.find(PIF, tunnel.transport_PIF) if tunnel is not None else None
        case Kind.VLAN:
            vlan = view.find(VLAN, pif.VLAN_master_of)
            return view.find(PIF, vlan.tagged_PIF) if vlan is not None else None
        case Kind.SRIOV_LOGICAL:
            sriov = view.find(NetworkSriov, pif.sriov_logical_PIF_of[0])
            return view.find(PIF, sriov.physical_PIF) if sriov is not None else None
    return None


def topology(view: View, pif: PIF) -> tuple[Kind, ...]:
    """The kinds from a PIF downwards, ending at a bond master or a physical PIF."""
    kinds = [kind_of(pif)]
    lower = below(view, pif)
    while lower is not None and len(kinds) < 8:  # a stack is at most tunnel, VLAN, SR-IOV, physical
        kinds.append(kind_of(lower))
        lower = below(view, lower)
    return tuple(kinds)


def is_vlan_on_sriov(view: View, pif: PIF) -> bool:
    """Is this a VLAN PIF whose tagged PIF is SR-IOV logical?"""
    return topology(view, pif)[:2] == (Kind.VLAN, Kind.SRIOV_LOGICAL)


def is_bond_slave(view: View, pif: PIF) -> bool:
    """Is this a member of a bond that exists?"""
    return view.find(Bond, pif.bond_slave_of) is not None


def first_pif(view: View, network: Ref[Network]) -> PIF | None:
    """The network's first PIF, of any host; it says what kind of network this is."""
    return view.first(PIF, network=network)


def local_pif(view: View, network: Ref[Network], host: Ref[Host]) -> PIF | None:
    """The PIF that connects a host to a network, if any."""
    return view.first(PIF, network=network, host=host)


def is_sriov_network(view: View, network: Ref[Network]) -> bool:
    """Is this an SR-IOV network: does its first PIF, or the one under that VLAN, stand for virtual functions (§14.6)?"""
    pif = first_pif(view, network)
    return pif is not None and Kind.SRIOV_LOGICAL in topology(view, pif)[:2]


def pci_ids(view: View, pif: PIF) -> tuple[str, str]:
    """Vendor and device id of the physical device that a PIF stands on; empty texts where unknown."""
    lowest: PIF | None = pif
    while lowest is not None and kind_of(lowest) is not Kind.PHYSICAL:
        lowest = below(view, lowest)
    pci = view.find(PCI, lowest.PCI) if lowest is not None else None
    return (pci.vendor_id, pci.device_id) if pci else ("", "")


def has_ip_configuration(pif: PIF) -> bool:
    """Has the PIF an address mode in the family of its own primary address type?"""
    if pif.primary_address_type is PrimaryAddressType.IPV6:
        return pif.ipv6_configuration_mode is not Ipv6ConfigurationMode.NONE
    return pif.ip_configuration_mode is not IpConfigurationMode.NONE
