"""How may the addresses and properties of a PIF be changed? See spec §8.10 to §8.12."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.hostnet.written import fits_an_interface
from poolnet.model import errors
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PrimaryAddressType
from poolnet.model.types import Ref
from poolnet.rules.addresses import is_ipv4, is_ipv6, is_ipv6_cidr, merged_dns
from poolnet.rules.attach import bring_up, refresh_address
from poolnet.rules.context import CallContext
from poolnet.rules.features import require_unprotected
from poolnet.rules.kinds import Kind, is_bond_slave, kind_of

PROPERTIES: Final[Mapping[str, frozenset[str]]] = {"gro": frozenset({"on", "off"})}


def reconfigure_ip(
    ctx: CallContext,
    *,
    self: Ref[PIF],
    mode: IpConfigurationMode,
    IP: str,
    netmask: str,
    gateway: str,
    DNS: str,
) -> None:
    """Changes a PIF's IPv4 configuration (spec §8.10).

    Netmasks with holes and gateways off the subnet are accepted; DNS entries that are no IPv4 address are dropped.

    Raises:
        PIF_UNMANAGED: The PIF is not poolnet's to configure.
        HA_IS_ENABLED, REDO_LOG_IS_ENABLED: It is attached, and more than its DNS would change.
        CLUSTERING_ENABLED: Likewise, and a server of the database's cluster is found at the host's address.
        INVALID_IP_ADDRESS_SPECIFIED: In static mode without an IP or netmask; any of them is no address; the IP is 0.0.0.0,
            which no interface can have, and the PIF is attached.
        PIF_IS_MANAGEMENT_INTERFACE: It would leave the management interface without an address.
    """
    pif = ctx.txn.get(PIF, self)
    ctx.require_live(pif.host)
    if not pif.managed:
        raise errors.pif_unmanaged(self)
    stays_static = mode is pif.ip_configuration_mode is IpConfigurationMode.STATIC
    if not (stays_static and (IP, netmask, gateway) == (pif.IP, pif.netmask, pif.gateway)):
        _require_free(ctx, pif)
    for name, text in (("IP", IP), ("netmask", netmask)):
        if mode is IpConfigurationMode.STATIC and not is_ipv4(text):
            raise errors.invalid_ip_address_specified(name)
    for name, text in (("IP", IP), ("netmask", netmask), ("gateway", gateway)):
        if text and not is_ipv4(text):
            raise errors.invalid_ip_address_specified(name)
    if mode is IpConfigurationMode.STATIC and pif.currently_attached and not fits_an_interface(IP):
        raise errors.invalid_ip_address_specified("IP")
    leaves_none = mode is IpConfigurationMode.NONE and pif.primary_address_type is PrimaryAddressType.IPV4
    if pif.management and leaves_none:
        raise errors.pif_is_management_interface(self)
    ctx.txn.update(
        PIF,
        self,
        ip_configuration_mode=mode,
        IP=IP,
        netmask=netmask,
        gateway=gateway,
        DNS=merged_dns(DNS, pif.DNS, ipv6=False),
    )
    _apply(ctx, pif)


def reconfigure_ipv6(
    ctx: CallContext, *, self: Ref[PIF], mode: Ipv6ConfigurationMode, IPv6: str, gateway: str, DNS: str
) -> None:
    """Changes a PIF's IPv6 configuration (spec §8.11). An empty address is accepted even in static mode.

    Raises:
        PIF_UNMANAGED: The PIF is not poolnet's to configure.
        HA_IS_ENABLED, REDO_LOG_IS_ENABLED: It is attached, and more than its DNS would change.
        CLUSTERING_ENABLED: Likewise, and a server of the database's cluster is found at the host's address.
        INVALID_IP_ADDRESS_SPECIFIED: The gateway is no IPv6 address.
        INVALID_CIDR_ADDRESS_SPECIFIED: The address is no IPv6 address with a prefix length; or none that an interface can
            have, in static mode, and the PIF is attached.
        PIF_IS_MANAGEMENT_INTERFACE: It would leave the management interface without an address.
    """
    pif = ctx.txn.get(PIF, self)
    ctx.require_live(pif.host)
    if not pif.managed:
        raise errors.pif_unmanaged(self)
    stays_static = mode is pif.ipv6_configuration_mode is Ipv6ConfigurationMode.STATIC
    if not (stays_static and ((IPv6,), gateway) == (tuple(pif.IPv6), pif.ipv6_gateway)):
        _require_free(ctx, pif)
    if gateway and not is_ipv6(gateway):
        raise errors.invalid_ip_address_specified("gateway")
    applies = mode is Ipv6ConfigurationMode.STATIC and pif.currently_attached
    if IPv6 and not (is_ipv6_cidr(IPv6) and (fits_an_interface(IPv6) or not applies)):
        raise errors.invalid_cidr_address_specified("IPv6")
    leaves_none = mode is Ipv6ConfigurationMode.NONE and pif.primary_address_type is PrimaryAddressType.IPV6
    if pif.management and leaves_none:
        raise errors.pif_is_management_interface(self)
    ctx.txn.update(
        PIF,
        self,
        ipv6_configuration_mode=mode,
        IPv6=(IPv6,),
        ipv6_gateway=gateway,
        DNS=merged_dns(DNS, pif.DNS, ipv6=True),
    )
    _apply(ctx, pif)


def _require_free(ctx: CallContext, pif: PIF) -> None:
    """Lets more than the DNS of a PIF change. Raises HA_IS_ENABLED, REDO_LOG_IS_ENABLED, CLUSTERING_ENABLED."""
    require_unprotected(ctx.txn, pif)
    if pif.management:
        ctx.require_no_server(pif.host)


def _apply(ctx: CallContext, pif: PIF) -> None:
    """Brings an attached PIF up with its new addresses, and tells the host's address."""
    if pif.currently_attached:
        bring_up(ctx, pif.ref)
    if pif.management:
        refresh_address(ctx, pif.host)


def set_primary_address_type(
    ctx: CallContext, *, self: Ref[PIF], primary_address_type: PrimaryAddressType
) -> None:
    """Says which family's address a PIF is known by; only the database changes (spec §8.12).

    Raises:
        HA_IS_ENABLED, REDO_LOG_IS_ENABLED: The PIF is attached.
        PIF_IS_MANAGEMENT_INTERFACE: It is the management interface.
    """
    pif = ctx.txn.get(PIF, self)
    ctx.require_live(pif.host)
    require_unprotected(ctx.txn, pif)
    if pif.management:
        raise errors.pif_is_management_interface(self)
    ctx.txn.update(PIF, self, primary_address_type=primary_address_type)


def set_property(ctx: CallContext, *, self: Ref[PIF], name: str, value: str) -> None:
    """Changes a property of a NIC or bond, and of the bond's members (spec §8.12).

    Raises:
        INVALID_VALUE: There is no such property, or no such value of it.
        CANNOT_CHANGE_PIF_PROPERTIES: The PIF is neither physical nor a bond, or it is a bond's member.
    """
    pif = ctx.txn.get(PIF, self)
    ctx.require_live(pif.host)
    if value not in PROPERTIES.get(name, ()):
        raise errors.invalid_value("properties", f"{name} = {value}")
    if kind_of(pif) not in (Kind.PHYSICAL, Kind.BOND_MASTER) or is_bond_slave(ctx.txn, pif):
        raise errors.cannot_change_pif_properties(self)
    properties = {name: value, **{k: v for k, v in pif.properties.items() if k != name}}
    ctx.txn.update(PIF, self, properties=properties)
    for bond in pif.bond_master_of:
        for member in ctx.txn.where(PIF, bond_slave_of=bond):
            ctx.txn.update(PIF, member.ref, properties=properties)
    if pif.currently_attached:
        bring_up(ctx, self)
        for ref in pif.VLAN_slave_of:
            vlan = ctx.txn.find(VLAN, ref)
            upper = ctx.txn.find(PIF, vlan.untagged_PIF) if vlan is not None else None
            if upper is not None and upper.currently_attached:
                bring_up(ctx, upper.ref)


def set_disallow_unplug(ctx: CallContext, *, self: Ref[PIF], value: bool) -> None:
    """Protects a PIF from being unplugged, or no longer (spec §8.12)."""
    ctx.txn.update(PIF, self, disallow_unplug=value)
