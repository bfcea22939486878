"""When may a host leave its pool, what is removed with it, and what does it keep? See spec §20.3, §26."""

from __future__ import annotations

from poolnet.db.txn import View
from poolnet.hostnet.protocol import Management
from poolnet.hostnet.state import IpConfig, Ipv4Mode, Ipv6Mode
from poolnet.hostnet.written import ipv4_with_prefix, ipv6_with_prefixes, plain_address, plain_addresses
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, VmPowerState
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext
from poolnet.rules.features import require_no_ha, the_pool
from poolnet.rules.host import reset_networking
from poolnet.rules.kinds import Kind, below, kind_of

_IPV4 = {
    IpConfigurationMode.NONE: Ipv4Mode.NONE,
    IpConfigurationMode.DHCP: Ipv4Mode.DHCP,
    IpConfigurationMode.STATIC: Ipv4Mode.STATIC,
}
_IPV6 = {
    Ipv6ConfigurationMode.NONE: Ipv6Mode.NONE,
    Ipv6ConfigurationMode.DHCP: Ipv6Mode.DHCP,
    Ipv6ConfigurationMode.STATIC: Ipv6Mode.STATIC,
    Ipv6ConfigurationMode.AUTOCONF: Ipv6Mode.AUTOCONF,
}


def require_ejectable(ctx: CallContext, host: Ref[Host]) -> None:
    """Lets a host be ejected.

    Raises:
        HANDLE_INVALID, HOST_OFFLINE, HA_IS_ENABLED, INTERNAL_ERROR (it is the coordinator), OPERATION_NOT_ALLOWED (a VM is
        on it): in this order.
    """
    ctx.require_live(host)
    require_no_ha(ctx.txn)
    if the_pool(ctx.txn).master == host:
        raise errors.internal_error("Cannot_eject_master")
    if _resident(ctx.txn, host):
        raise errors.operation_not_allowed("VM resident on host")


def eject(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Removes what the pool has of a host that has left it. Raises like `require_ejectable`."""
    require_ejectable(ctx, host)
    remove(ctx, host)


def destroy(ctx: CallContext, *, self: Ref[Host]) -> None:
    """Forgets a host that is lost.

    Raises:
        HOST_CANNOT_DESTROY_SELF: It is the coordinator.
        HOST_IS_LIVE: It can be reached, and should be ejected.
        HOST_HAS_RESIDENT_VMS: VMs may still run on it.
    """
    ctx.txn.get(Host, self)
    if self == ctx.local_host:
        raise errors.host_cannot_destroy_self(self)
    if ctx.is_live(self):
        raise errors.host_is_live(self)
    if _resident(ctx.txn, self):
        raise errors.host_has_resident_vms(self)
    remove(ctx, self)


def _resident(view: View, host: Ref[Host]) -> bool:
    return any(
        not vm.is_control_domain and vm.power_state is not VmPowerState.HALTED
        for vm in view.where(VM, resident_on=host)
    )


def remove(ctx: CallContext, host: Ref[Host]) -> None:
    """Removes a host's records: its networking, its control domain, and itself. Networks and VMs stay."""
    txn = ctx.txn
    row = txn.get(Host, host)
    reset_networking(ctx, host=host)
    for cls in (PBD, PCI, Certificate):
        for one in txn.where(cls, host=host):
            txn.destroy(cls, one.ref)
    domain = txn.find(VM, row.control_domain)
    if domain is not None:
        if txn.exists(VMMetrics, domain.metrics):
            txn.destroy(VMMetrics, domain.metrics)
        txn.destroy(VM, domain.ref)
    if txn.exists(HostMetrics, row.metrics):
        txn.destroy(HostMetrics, row.metrics)
    txn.destroy(Host, host)


def management_of(view: View, host: Ref[Host]) -> Management | None:
    """The management interface of a host as it begins anew with it: a NIC, even where it is on a bond now."""
    pif = next((pif for pif in view.where(PIF, host=host) if pif.management), None)
    if pif is None:
        return None
    base = below(view, pif) if kind_of(pif) is Kind.VLAN else pif
    if base is not None and base.bond_master_of:
        bond = view.find(Bond, base.bond_master_of[0])
        base = view.find(PIF, bond.primary_slave) if bond is not None else None
    if base is None:
        return None
    return Management(nic=base.device, vlan_tag=pif.VLAN, ip=_ip(pif))


def _ip(pif: PIF) -> IpConfig:
    ipv4, ipv6 = _IPV4[pif.ip_configuration_mode], _IPV6[pif.ipv6_configuration_mode]
    static4, static6 = ipv4 is Ipv4Mode.STATIC, ipv6 is Ipv6Mode.STATIC
    return IpConfig(
        ipv4_mode=ipv4,
        ipv4_address=ipv4_with_prefix(pif.IP, pif.netmask) if static4 else "",
        ipv4_gateway=plain_address(pif.gateway, 4) if static4 else "",
        ipv6_mode=ipv6,
        ipv6_addresses=ipv6_with_prefixes(pif.IPv6) if static6 else (),
        ipv6_gateway=plain_address(pif.ipv6_gateway, 6) if static6 else "",
        dns_servers=plain_addresses(pif.DNS.split(",")) if static4 or static6 else (),
    )
