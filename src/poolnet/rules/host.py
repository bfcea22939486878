"""What may be done to a host: its name, whether VMs start on it, and by which interface it is managed? See spec §18."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode, PrimaryAddressType
from poolnet.model.types import Ref
from poolnet.rules.attach import attach_network, refresh_address
from poolnet.rules.context import CallContext
from poolnet.rules.facts import rename
from poolnet.rules.features import require_no_ha, the_pool
from poolnet.rules.ha_plan import protected, require_plan
from poolnet.rules.kinds import Kind, below, is_bond_slave, is_vlan_on_sriov, kind_of

HOSTNAME_MAX: Final = 64  # what the kernel takes; the reference checks for 255, and fails at the kernel
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9.]([A-Za-z0-9.-]*[A-Za-z0-9.])?")


def get_management_interface(ctx: CallContext, *, host: Ref[Host]) -> Ref[PIF]:
    """The PIF by which a host is managed (spec §18.2).

    Raises:
        INTERNAL_ERROR: It has none.
    """
    ctx.txn.get(Host, host)
    pif = next((pif for pif in ctx.txn.where(PIF, host=host) if pif.management), None)
    if pif is None:
        raise errors.internal_error("Not_found")
    return pif.ref


def require_manageable(ctx: CallContext, pif: PIF) -> None:
    """Lets a PIF become a management interface.

    Raises:
        CANNOT_PLUG_BOND_SLAVE: It is a bond's member.
        PIF_HAS_NO_NETWORK_CONFIGURATION, PIF_HAS_NO_V6_NETWORK_CONFIGURATION: It would have no address.
    """
    if is_bond_slave(ctx.txn, pif):
        raise errors.cannot_plug_bond_slave(pif.ref)
    if pif.primary_address_type is PrimaryAddressType.IPV4:
        if pif.ip_configuration_mode is IpConfigurationMode.NONE:
            raise errors.pif_has_no_network_configuration(pif.ref)
    elif pif.ipv6_configuration_mode is Ipv6ConfigurationMode.NONE:
        raise errors.pif_has_no_v6_network_configuration(pif.ref)


def management_reconfigure(ctx: CallContext, *, pif: Ref[PIF]) -> None:
    """Manages a host by another of its interfaces; the old one stays up with its addresses (spec §18.3).

    Raises:
        HA_IS_ENABLED, CANNOT_PLUG_BOND_SLAVE, PIF_HAS_NO_NETWORK_CONFIGURATION, PIF_HAS_NO_V6_NETWORK_CONFIGURATION,
        CLUSTERING_ENABLED (a server of the database's cluster is found at the host's address): in this order.
    """
    row = ctx.txn.get(PIF, pif)
    ctx.require_live(row.host)
    require_no_ha(ctx.txn)
    if row.managed:
        require_manageable(ctx, row)
    if row.management:
        return
    ctx.require_no_server(row.host)
    attach_network(ctx, row.network, row.host, force=True)
    for other in ctx.txn.where(PIF, host=row.host):
        ctx.txn.update(PIF, other.ref, management=other.ref == pif)
    refresh_address(ctx, row.host)


def management_disable(ctx: CallContext) -> None:
    """Manages this host by no interface any more (spec §18.4).

    Raises:
        HA_IS_ENABLED: High availability needs it.
        SLAVE_REQUIRES_MANAGEMENT_INTERFACE: This host is a member of a pool.
        CLUSTERING_ENABLED: The pool's database is on a cluster, which this host has a server of.
    """
    require_no_ha(ctx.txn)
    if the_pool(ctx.txn).master != ctx.local_host:
        raise errors.slave_requires_management_interface()
    ctx.require_no_server(ctx.local_host)
    for pif in ctx.txn.where(PIF, host=ctx.local_host):
        ctx.txn.update(PIF, pif.ref, management=False)
    refresh_address(ctx, ctx.local_host)


def local_management_reconfigure(ctx: CallContext, *, interface: str) -> None:
    """Manages this host by the interface of that bridge, from its console (spec §18.5).

    Emergency, for a host that decides calls itself, is to have no management address.

    Raises:
        NOT_IN_EMERGENCY_MODE: It has one.
        INVALID_VALUE: No interface of this host is on such a bridge.
        CANNOT_PLUG_BOND_SLAVE, PIF_HAS_NO_NETWORK_CONFIGURATION, PIF_HAS_NO_V6_NETWORK_CONFIGURATION,
        CLUSTERING_ENABLED: in this order.
    """
    managed = any(pif.management for pif in ctx.txn.where(PIF, host=ctx.local_host))
    if managed and ctx.txn.get(Host, ctx.local_host).address:
        raise errors.not_in_emergency_mode()
    bridges = {row.ref for row in ctx.txn.all(Network) if row.bridge == interface}
    pif = next((pif for pif in ctx.txn.where(PIF, host=ctx.local_host) if pif.network in bridges), None)
    if pif is None:
        raise errors.invalid_value("interface", interface)
    management_reconfigure(ctx, pif=pif.ref)


def set_hostname_live(ctx: CallContext, *, host: Ref[Host], hostname: str) -> None:
    """Changes a host's name, on the host too (spec §18.8). Leading and doubled dots are accepted.

    Raises:
        HOST_NAME_INVALID: It is empty, too long, or has characters that names cannot have.
    """
    row = ctx.txn.get(Host, host)
    ctx.require_live(host)
    if not hostname:
        raise errors.host_name_invalid("hostname empty")
    if len(hostname) > HOSTNAME_MAX:
        raise errors.host_name_invalid("hostname is too long")
    if _HOSTNAME.fullmatch(hostname) is None:
        raise errors.host_name_invalid("hostname contains invalid characters")
    label = row.name_label
    rename(ctx.txn, host, hostname)
    ctx.txn.update(Host, host, name_label=label)
    ctx.hostname_changes.append((host, hostname))


def enable(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Lets VMs start on a host.

    Raises:
        HANDLE_INVALID, HOST_OFFLINE.
        HA_CONSTRAINT_VIOLATION_NETWORK_NOT_SHARED: With high availability, a protected VM uses a network on which this host
            has a bond's member only (spec §18.12).
    """
    ctx.require_live(host)
    _require_networks_of_protected(ctx, host)
    ctx.txn.update(Host, host, enabled=True)


def _require_networks_of_protected(ctx: CallContext, host: Ref[Host]) -> None:
    pool = the_pool(ctx.txn)
    if not pool.ha_enabled or pool.ha_allow_overcommit:
        return
    used = {vif.network for vm in protected(ctx.txn) for vif in ctx.txn.where(VIF, VM=vm.ref)}
    for pif in ctx.txn.where(PIF, host=host):
        if pif.network in used and _stands_on_member(ctx, pif):
            raise errors.ha_constraint_violation_network_not_shared(pif.network)


def _stands_on_member(ctx: CallContext, pif: PIF) -> bool:
    """Whether a PIF, or what carries it in the end, is a member of a bond."""
    base: PIF | None = pif
    while base is not None:
        if is_bond_slave(ctx.txn, base):
            return True
        base = below(ctx.txn, base)
    return False


def disable(ctx: CallContext, *, host: Ref[Host], auto_enable: bool = True) -> None:
    """Lets no more VMs start on a host until it is enabled, or, with `auto_enable`, until it starts anew.

    Raises:
        HANDLE_INVALID, HOST_OFFLINE.
        HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN: The other hosts have too little room for the failures to be borne.
    """
    ctx.require_live(host)
    ctx.txn.update(Host, host, enabled=False)
    require_plan(ctx)


def get_servertime(ctx: CallContext, *, host: Ref[Host]) -> datetime:
    """The time at a host, in UTC."""
    ctx.txn.get(Host, host)
    return ctx.now


def is_in_emergency_mode(ctx: CallContext) -> bool:
    """Whether this host has lost its coordinator: a server that decides calls has not."""
    return False


def local_assert_healthy(ctx: CallContext) -> None:
    """Says by its error why this host cannot work; one that decides calls can."""


def signal_networking_change(ctx: CallContext) -> None:
    """Lets this host's address follow its management interface (spec §18.6, §18.7)."""
    refresh_address(ctx, ctx.local_host)


def set_ssl_legacy(ctx: CallContext, *, self: Ref[Host], value: bool) -> None:
    """Refuses to bring old TLS back.

    Raises:
        VALUE_NOT_SUPPORTED: To turn it on.
    """
    ctx.txn.get(Host, self)
    if value:
        raise errors.value_not_supported("value", "true", "Legacy SSL support has been removed")


def set_https_only(ctx: CallContext, *, self: Ref[Host], value: bool) -> None:
    """Closes a host's port for plain HTTP to other machines, or opens it again (spec §18.9)."""
    ctx.txn.get(Host, self)
    ctx.require_live(self)
    ctx.txn.update(Host, self, https_only=value)


def sync_pif_currently_attached(ctx: CallContext, *, host: Ref[Host], bridges: tuple[str, ...]) -> None:
    """Writes which PIFs of a host are attached: those whose bridges are in the list (spec §18.11)."""
    ctx.txn.get(Host, host)
    for pif in ctx.txn.where(PIF, host=host):
        if kind_of(pif) is Kind.SRIOV_LOGICAL or is_vlan_on_sriov(ctx.txn, pif):
            continue
        network = ctx.txn.find(Network, pif.network)
        ctx.txn.update(PIF, pif.ref, currently_attached=network is not None and network.bridge in bridges)


def reset_networking(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Forgets all bonds, VLANs, tunnels, SR-IOV networks and PIFs of a host, without checks (spec §18.10).

    Networks and VIFs stay, and so do the metrics of PIFs that share another's.
    """
    txn = ctx.txn
    txn.get(Host, host)
    pifs = txn.where(PIF, host=host)
    for pif in pifs:
        for bond in pif.bond_master_of:
            txn.destroy(Bond, bond)
        for vlan in pif.VLAN_slave_of:
            txn.destroy(VLAN, vlan)
        for tunnel in pif.tunnel_access_PIF_of:
            txn.destroy(Tunnel, tunnel)
        for sriov in pif.sriov_logical_PIF_of:
            txn.destroy(NetworkSriov, sriov)
    for pif in pifs:
        own_metrics = pif.physical or bool(pif.bond_master_of)
        if own_metrics and txn.exists(PIFMetrics, pif.metrics):
            txn.destroy(PIFMetrics, pif.metrics)
        txn.destroy(PIF, pif.ref)
