"""What refuses a change of networks, PIFs, bonds, VLANs, tunnels and SR-IOV? The rules raise these.

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
    from poolnet.model.types import Ref


@failure.error("bridge")
def bridge_name_exists(bridge: str) -> failure.Parameters:
    """The bridge name is already that of another network."""
    return (bridge,)


@failure.error("bridge")
def bridge_not_available(bridge: str) -> failure.Parameters:
    """The host has no bridge of this name."""
    return (bridge,)


@failure.error("network")
def cannot_destroy_system_network(network: Ref[Network]) -> failure.Parameters:
    """This network belongs to the system and cannot be destroyed."""
    return (network,)


@failure.error("network", "connected PIF")
def network_already_connected(host: Ref[Host], pif: Ref[PIF]) -> failure.Parameters:
    """The host already has a PIF on this network."""
    return host, pif


@failure.error("pifs")
def network_contains_pif(pifs: Iterable[Ref[PIF]]) -> failure.Parameters:
    """The network still has PIFs, so it cannot be destroyed."""
    return tuple(pifs)


@failure.error("vifs")
def network_contains_vif(vifs: Iterable[Ref[VIF]]) -> failure.Parameters:
    """The network still has VIFs, so it cannot be destroyed."""
    return tuple(vifs)


@failure.error("PIF", "network")
def network_has_incompatible_sriov_pifs(pif: Ref[PIF], network: Ref[Network]) -> failure.Parameters:
    """The network has an SR-IOV PIF on another kind of NIC than this PIF's."""
    return pif, network


@failure.error("PIF", "network")
def network_has_incompatible_vlan_on_sriov_pifs(pif: Ref[PIF], network: Ref[Network]) -> failure.Parameters:
    """The network has a VLAN PIF on another kind of SR-IOV NIC than this PIF's."""
    return pif, network


@failure.error("new_purpose", "conflicting_purpose")
def network_incompatible_purposes(new: str, conflicting: str) -> failure.Parameters:
    """The network already has a purpose that does not go with the new one."""
    return new, conflicting


@failure.error("network")
def network_incompatible_with_bond(network: Ref[Network]) -> failure.Parameters:
    """The network has VIFs or PIFs that a bond cannot take over."""
    return (network,)


@failure.error("network")
def network_incompatible_with_sriov(network: Ref[Network]) -> failure.Parameters:
    """The network already has PIFs that are not SR-IOV ones."""
    return (network,)


@failure.error("network")
def network_incompatible_with_trunks(network: Ref[Network]) -> failure.Parameters:
    """The network has VIFs that carry VLAN trunks, so it cannot be a VLAN."""
    return (network,)


@failure.error("network")
def network_incompatible_with_tunnel(network: Ref[Network]) -> failure.Parameters:
    """The network already has PIFs that are not tunnel access PIFs."""
    return (network,)


@failure.error("network")
def network_incompatible_with_vlan_on_bridge(network: Ref[Network]) -> failure.Parameters:
    """The network already has PIFs that do not go with a VLAN on a bridge."""
    return (network,)


@failure.error("network")
def network_incompatible_with_vlan_on_sriov(network: Ref[Network]) -> failure.Parameters:
    """The network already has PIFs that do not go with a VLAN on an SR-IOV PIF."""
    return (network,)


@failure.error("PIF")
def network_sriov_already_enabled(pif: Ref[PIF]) -> failure.Parameters:
    """SR-IOV is already on for this PIF."""
    return (pif,)


@failure.error("PIF", "msg")
def network_sriov_disable_failed(pif: Ref[PIF], message: str) -> failure.Parameters:
    """The host could not switch SR-IOV off."""
    return pif, message


@failure.error("PIF", "msg")
def network_sriov_enable_failed(pif: Ref[PIF], message: str) -> failure.Parameters:
    """The host could not switch SR-IOV on."""
    return pif, message


@failure.error("network")
def network_sriov_insufficient_capacity(network: Ref[Network]) -> failure.Parameters:
    """No virtual function of this SR-IOV network is free."""
    return (network,)


@failure.error("network")
def network_unmanaged(network: Ref[Network]) -> failure.Parameters:
    """The network is not managed by poolnet."""
    return (network,)


@failure.error()
def openvswitch_not_active() -> failure.Parameters:
    """This needs Open vSwitch as the network backend of the host."""
    return ()


@failure.error()
def could_not_update_igmp_snooping_everywhere() -> failure.Parameters:
    """Not every host could change IGMP snooping."""
    return ()


@failure.error("PIF")
def cannot_add_tunnel_to_bond_slave(pif: Ref[PIF]) -> failure.Parameters:
    """A member of a bond cannot carry a tunnel."""
    return (pif,)


@failure.error("PIF")
def cannot_add_tunnel_to_sriov_logical(pif: Ref[PIF]) -> failure.Parameters:
    """The logical PIF of an SR-IOV network cannot carry a tunnel."""
    return (pif,)


@failure.error("PIF")
def cannot_add_tunnel_to_vlan_on_sriov_logical(pif: Ref[PIF]) -> failure.Parameters:
    """A VLAN on the logical PIF of an SR-IOV network cannot carry a tunnel."""
    return (pif,)


@failure.error("PIF")
def cannot_add_vlan_to_bond_slave(pif: Ref[PIF]) -> failure.Parameters:
    """A member of a bond cannot carry a VLAN; put it on the bond."""
    return (pif,)


@failure.error("PIF")
def cannot_change_pif_properties(pif: Ref[PIF]) -> failure.Parameters:
    """The properties of this PIF cannot be changed; change those of the PIF below it."""
    return (pif,)


@failure.error("PIF")
def cannot_forget_sriov_logical(pif: Ref[PIF]) -> failure.Parameters:
    """The logical PIF of an SR-IOV network cannot be forgotten; destroy the SR-IOV network."""
    return (pif,)


@failure.error("PIF")
def cannot_plug_bond_slave(pif: Ref[PIF]) -> failure.Parameters:
    """A member of a bond cannot be plugged by itself; plug the bond."""
    return (pif,)


@failure.error("device", "mac")
def could_not_find_network_interface_with_specified_device_name_and_mac_address(
    device: str, mac: str
) -> failure.Parameters:
    """The host has no NIC with this device name and MAC address."""
    return device, mac


@failure.error("device")
def duplicate_pif_device_name(device: str) -> failure.Parameters:
    """The host already has a PIF for this device."""
    return (device,)


@failure.error()
def incompatible_pif_properties() -> failure.Parameters:
    """The properties of the PIFs to be bonded differ."""
    return ()


@failure.error("interface")
def interface_has_no_ip(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF has no IP address."""
    return (pif,)


@failure.error("PIF")
def is_tunnel_access_pif(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is the access PIF of a tunnel, and nothing can be built on it."""
    return (pif,)


@failure.error("MAC")
def mac_does_not_exist(mac: str) -> failure.Parameters:
    """The host has no NIC with this MAC address any more."""
    return (mac,)


@failure.error("MAC")
def mac_invalid(mac: str) -> failure.Parameters:
    """This is not a MAC address."""
    return (mac,)


@failure.error("MAC")
def mac_still_exists(mac: str) -> failure.Parameters:
    """The host still has a NIC with this MAC address."""
    return (mac,)


@failure.error("PIF")
def pif_allows_unplug(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF may be unplugged, and this operation needs one that may not."""
    return (pif,)


@failure.error("PIF")
def pif_already_bonded(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is already a member of a bond."""
    return (pif,)


@failure.error()
def pif_bond_more_than_one_ip() -> failure.Parameters:
    """Only one of the PIFs to be bonded may have an IP configuration."""
    return ()


@failure.error()
def pif_bond_needs_more_members() -> failure.Parameters:
    """A bond needs at least two members."""
    return ()


@failure.error()
def pif_cannot_bond_cross_host() -> failure.Parameters:
    """PIFs of different hosts cannot be bonded."""
    return ()


@failure.error("PIF", "msg")
def pif_configuration_error(pif: Ref[PIF], message: str) -> failure.Parameters:
    """The host could not configure the PIF."""
    return pif, message


@failure.error("PIF")
def pif_does_not_allow_unplug(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF may not be unplugged."""
    return (pif,)


@failure.error("PIF", "SR")
def pif_has_fcoe_sr_in_use(pif: Ref[PIF], sr: Ref[SR]) -> failure.Parameters:
    """The PIF carries a storage repository over FCoE that is in use."""
    return pif, sr


@failure.error("PIF")
def pif_has_no_network_configuration(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF has no IP configuration."""
    return (pif,)


@failure.error("PIF")
def pif_has_no_v6_network_configuration(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF has no IPv6 configuration."""
    return (pif,)


@failure.error("PIF")
def pif_incompatible_primary_address_type(pif: Ref[PIF]) -> failure.Parameters:
    """The primary address type of the PIF does not fit."""
    return (pif,)


@failure.error("PIF")
def pif_is_management_interface(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is the management interface."""
    return (pif,)


@failure.error("PIF")
def pif_is_not_physical(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is not a physical NIC."""
    return (pif,)


@failure.error("PIF")
def pif_is_not_sriov_capable(pif: Ref[PIF]) -> failure.Parameters:
    """The NIC of this PIF cannot do SR-IOV."""
    return (pif,)


@failure.error("PIF")
def pif_is_physical() -> failure.Parameters:
    """The PIF is a physical NIC, and this operation is for VLANs."""
    return ()


@failure.error("PIF")
def pif_is_sriov_logical(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is the logical PIF of an SR-IOV network and cannot be bonded."""
    return (pif,)


@failure.error("PIF")
def pif_is_vlan(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is itself a VLAN and cannot carry another."""
    return (pif,)


@failure.error("pif", "host")
def pif_not_attached_to_host(pif: Ref[PIF], host: Ref[Host]) -> failure.Parameters:
    """The PIF is not one of this host's."""
    return pif, host


@failure.error("host", "network")
def pif_not_present(host: Ref[Host], network: Ref[Network]) -> failure.Parameters:
    """The host has no PIF on this network."""
    return host, network


@failure.error("PIF")
def pif_sriov_still_exists(pif: Ref[PIF]) -> failure.Parameters:
    """An SR-IOV network still rests on the PIF."""
    return (pif,)


@failure.error("PIF")
def pif_tunnel_still_exists(pif: Ref[PIF]) -> failure.Parameters:
    """A tunnel still rests on the PIF."""
    return (pif,)


@failure.error("PIF")
def pif_unmanaged(pif: Ref[PIF]) -> failure.Parameters:
    """The PIF is not managed by poolnet."""
    return (pif,)


@failure.error("PIF")
def pif_vlan_exists(device: str) -> failure.Parameters:
    """This VLAN already exists on the device."""
    return (device,)


@failure.error("PIF")
def pif_vlan_still_exists(pif: Ref[PIF]) -> failure.Parameters:
    """A VLAN still rests on the PIF."""
    return (pif,)


@failure.error("PIF")
def transport_pif_not_configured(pif: Ref[PIF]) -> failure.Parameters:
    """The transport PIF of the tunnel has no IP configuration."""
    return (pif,)


@failure.error("device", "vlan")
def vlan_in_use(device: str, tag: int) -> failure.Parameters:
    """The host already uses this VLAN of the device for something else."""
    return device, str(tag)


@failure.error("VLAN")
def vlan_tag_invalid(tag: int) -> failure.Parameters:
    """A VLAN tag is a number from 0 to 4094."""
    return (str(tag),)
