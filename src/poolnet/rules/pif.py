"""Which PIFs does a host have, and when are they up? See spec §8. Addresses and properties are in `pif_config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.hostnet.facts import NicFacts
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PrimaryAddressType
from poolnet.model.types import NULL, Ref, is_null
from poolnet.rules import vlan as vlan_rules
from poolnet.rules.addresses import is_mac
from poolnet.rules.context import CallContext
from poolnet.rules.defaults import bridge_of_device, network_label
from poolnet.rules.features import require_unprotected
from poolnet.rules.functions import capabilities, record_devices
from poolnet.rules.pif_plug import require_not_bonded
from poolnet.rules.positions import follow_names

NO_PROPERTIES: Final[Mapping[str, str]] = {}
PHYSICAL_PROPERTIES: Final[Mapping[str, str]] = {"gro": "on"}


def scan(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Gives each NIC of a host its PIF, and refreshes those there are (spec §8.3).

    PIFs whose NIC is gone are kept.
    """
    ctx.require_live(host)
    nics = ctx.facts_of(host).nics
    known = refresh(ctx, host, nics)
    for nic in nics:
        if nic.name not in known:
            add_physical(ctx, host, nic, managed=True)
    record_devices(ctx.txn, host, nics, ctx.new_uuid)


def refresh(ctx: CallContext, host: Ref[Host], nics: tuple[NicFacts, ...]) -> set[str]:
    """Writes what the NICs say of themselves to their PIFs (spec §8.14); gives the devices that have one."""
    follow_names(ctx.txn, host, nics)
    by_name = {nic.name: nic for nic in nics}
    known: set[str] = set()
    for pif in ctx.txn.where(PIF, host=host):
        if not pif.physical:
            continue
        known.add(pif.device)
        nic = by_name.get(pif.device)
        if nic is not None:
            ctx.txn.update(PIF, pif.ref, MAC=nic.mac.lower(), capabilities=capabilities(nic))
    return known


def introduce(ctx: CallContext, *, host: Ref[Host], MAC: str, device: str, managed: bool = True) -> Ref[PIF]:
    """Makes a PIF for a NIC of a host (spec §8.4). Without MAC, the NIC's own is taken.

    Raises:
        MAC_INVALID: The MAC is none, or not known.
        DUPLICATE_PIF_DEVICE_NAME: A physical PIF of the host has that device.
        COULD_NOT_FIND_NETWORK_INTERFACE_WITH_SPECIFIED_DEVICE_NAME_AND_MAC_ADDRESS: The host has no such NIC.
    """
    ctx.require_live(host)
    nics = {nic.name: nic for nic in ctx.facts_of(host).nics}
    mac = MAC.lower() or (nics[device].mac.lower() if device in nics else "")
    if not is_mac(mac):
        raise errors.mac_invalid(mac)
    if any(pif.physical and pif.device == device for pif in ctx.txn.where(PIF, host=host)):
        raise errors.duplicate_pif_device_name(device)
    nic = nics.get(device)
    if nic is None or nic.mac.lower() != mac:
        raise errors.could_not_find_network_interface_with_specified_device_name_and_mac_address(device, mac)
    return add_physical(ctx, host, nic, managed=managed)


def add_physical(ctx: CallContext, host: Ref[Host], nic: NicFacts, *, managed: bool) -> Ref[PIF]:
    """Makes the PIF of a NIC, on the network that has its bridge, or else on a new one (spec §8.5)."""
    bridge = bridge_of_device(nic.name, nic.position) if managed else ""
    found = [network for network in ctx.txn.all(Network) if network.bridge == bridge]
    if len(found) == 1:
        network = found[0].ref
    else:
        network = ctx.txn.create(
            Network(
                ref=ctx.new_ref(),
                uuid=ctx.new_uuid(),
                name_label=network_label(nic.name),
                bridge=bridge,
                managed=managed,
            )
        )
    metrics = ctx.txn.create(
        PIFMetrics(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            carrier=nic.carrier,
            speed=nic.speed_mbps if nic.carrier else 0,
            duplex=nic.full_duplex,
            pci_bus_path=nic.pci_bus_path,
            vendor_id=nic.vendor_id,
            device_id=nic.device_id,
            vendor_name=nic.vendor_name,
            device_name=nic.device_name,
            last_updated=ctx.now,
        )
    )
    management = next((pif for pif in ctx.txn.where(PIF, host=host) if pif.management), None)
    return ctx.txn.create(
        PIF(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            device=nic.name,
            network=network,
            host=host,
            MAC=nic.mac.lower(),
            MTU=nic.mtu_bytes,
            VLAN=-1,
            metrics=metrics,
            physical=True,
            currently_attached=False,
            managed=managed,
            capabilities=capabilities(nic),
            properties=PHYSICAL_PROPERTIES,
            primary_address_type=management.primary_address_type if management else PrimaryAddressType.IPV4,
        )
    )


def db_introduce(
    ctx: CallContext,
    *,
    device: str,
    network: Ref[Network],
    host: Ref[Host],
    MAC: str,
    MTU: int,
    VLAN: int,
    physical: bool,
    ip_configuration_mode: IpConfigurationMode,
    IP: str,
    netmask: str,
    gateway: str,
    DNS: str,
    bond_slave_of: Ref[Bond],
    VLAN_master_of: Ref[VLAN],
    management: bool,
    other_config: Mapping[str, str],
    disallow_unplug: bool = False,
    ipv6_configuration_mode: Ipv6ConfigurationMode = Ipv6ConfigurationMode.NONE,
    IPv6: tuple[str, ...] = (),
    ipv6_gateway: str = "",
    primary_address_type: PrimaryAddressType = PrimaryAddressType.IPV4,
    managed: bool = True,
    properties: Mapping[str, str] = NO_PROPERTIES,
) -> Ref[PIF]:
    """Makes a PIF record with these values, unattached, without further checks (spec §8.6).

    `bond_slave_of` is ignored, as the reference does.

    Raises:
        NETWORK_INCOMPATIBLE_WITH_TRUNKS: It is a VLAN, and a VIF on the network passes VLANs through.
    """
    if VLAN != -1:
        vlan_rules.require_no_trunks(ctx, network)
    metrics = ctx.txn.create(PIFMetrics(ref=ctx.new_ref(), uuid=ctx.new_uuid()))
    return ctx.txn.create(
        PIF(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            device=device,
            network=network,
            host=host,
            MAC=MAC,
            MTU=MTU,
            VLAN=VLAN,
            metrics=metrics,
            physical=physical,
            currently_attached=False,
            ip_configuration_mode=ip_configuration_mode,
            IP=IP,
            netmask=netmask,
            gateway=gateway,
            DNS=DNS,
            bond_slave_of=NULL,
            VLAN_master_of=VLAN_master_of,
            management=management,
            other_config=other_config,
            disallow_unplug=disallow_unplug,
            ipv6_configuration_mode=ipv6_configuration_mode,
            IPv6=IPv6,
            ipv6_gateway=ipv6_gateway,
            primary_address_type=primary_address_type,
            managed=managed,
            properties=properties,
        )
    )


def db_forget(ctx: CallContext, *, self: Ref[PIF]) -> None:
    """Removes a PIF record and nothing else, without checks (spec §8.6)."""
    ctx.txn.get(PIF, self)
    ctx.txn.destroy(PIF, self)


def forget(ctx: CallContext, *, self: Ref[PIF]) -> None:
    """Takes a PIF down and removes it; its network stays, and a scan makes it anew (spec §8.7).

    Raises:
        PIF_IS_MANAGEMENT_INTERFACE, PIF_ALREADY_BONDED, PIF_VLAN_STILL_EXISTS, PIF_TUNNEL_STILL_EXISTS, HA_IS_ENABLED,
        REDO_LOG_IS_ENABLED, CANNOT_FORGET_SRIOV_LOGICAL, PIF_SRIOV_STILL_EXISTS: in this order.
    """
    pif = ctx.txn.get(PIF, self)
    ctx.require_live(pif.host)
    if pif.management:
        raise errors.pif_is_management_interface(self)
    require_not_bonded(ctx, pif)
    if pif.VLAN_slave_of or pif.VLAN != -1:
        raise errors.pif_vlan_still_exists(self)
    if pif.tunnel_access_PIF_of or pif.tunnel_transport_PIF_of:
        raise errors.pif_tunnel_still_exists(self)
    require_unprotected(ctx.txn, pif)
    if pif.sriov_logical_PIF_of:
        raise errors.cannot_forget_sriov_logical(self)
    if pif.sriov_physical_PIF_of:
        raise errors.pif_sriov_still_exists(self)
    if ctx.txn.exists(PIFMetrics, pif.metrics):
        ctx.txn.destroy(PIFMetrics, pif.metrics)
    ctx.txn.destroy(PIF, self)


def create_VLAN(
    ctx: CallContext, *, device: str, network: Ref[Network], host: Ref[Host], VLAN: int
) -> Ref[PIF]:
    """Makes a VLAN on the host's PIF of that device; gives the untagged PIF (spec §8.15).

    Raises:
        INVALID_VALUE: The host has no such PIF.
        (any of VLAN.create)
    """
    ctx.require_live(host)
    base = next((p for p in ctx.txn.where(PIF, host=host) if p.device == device and p.VLAN == -1), None)
    if base is None:
        raise errors.invalid_value("device", device)
    ref = vlan_rules.create(ctx, tagged_PIF=base.ref, tag=VLAN, network=network)
    return vlan_rules.untagged_pif(ctx, ref)


def destroy(ctx: CallContext, *, self: Ref[PIF]) -> None:
    """Removes the VLAN whose untagged PIF this is (spec §8.15).

    Raises:
        PIF_IS_PHYSICAL: It is the PIF of no VLAN; without parameters, as the reference has it.
        (any of VLAN.destroy)
    """
    pif = ctx.txn.get(PIF, self)
    ctx.require_live(pif.host)
    if pif.VLAN < 0:
        raise errors.pif_is_physical()
    if is_null(pif.VLAN_master_of):
        raise errors.handle_invalid("VLAN", pif.VLAN_master_of)
    vlan_rules.destroy(ctx, self=pif.VLAN_master_of)
