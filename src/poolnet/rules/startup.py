"""What must the database say when the server starts: on an empty one, and on one it has served before? See spec §21."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Any, Final

from poolnet import __version__
from poolnet.hostnet import protocol
from poolnet.hostnet.derive_bridge import HIMN_KEY, himn
from poolnet.hostnet.facts import WAITING, HostFacts
from poolnet.hostnet.state import IpConfig, Ipv4Mode, Ipv6Mode
from poolnet.model import errors
from poolnet.model.alerts import NETWORK_ALERT_PRIORITY, POOL_MASTER_TRANSITION
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.sr import SR
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.classes.vm_metrics import VMMetrics
from poolnet.model.enums import (
    Cls,
    DomainType,
    HostAllowedOperations,
    IpConfigurationMode,
    Ipv6ConfigurationMode,
    OnCrashBehaviour,
    OnNormalExit,
    PrimaryAddressType,
    VmPowerState,
)
from poolnet.model.types import Ref, is_null
from poolnet.rules import bond as bond_rules
from poolnet.rules import functions
from poolnet.rules import pif as pif_rules
from poolnet.rules import vlan as vlan_rules
from poolnet.rules.allowed import refresh_vm
from poolnet.rules.attach import LIVE, bring_down, bring_up, refresh_address
from poolnet.rules.context import CallContext
from poolnet.rules.defaults import free_bridge, network_label
from poolnet.rules.facts import CONTROL_DOMAIN_NAME, record_facts
from poolnet.rules.ha import note_loss
from poolnet.rules.kinds import is_bond_slave
from poolnet.rules.message import raise_alert
from poolnet.rules.pif_plug import plug
from poolnet.rules.role import write_roles
from poolnet.rules.sr import refresh as refresh_storage
from poolnet.rules.vm_power import halt

API_VERSION: Final = (2, 23)
HIMN_BRIDGE: Final = "xenapi"
HIMN_CONFIG: Final = {
    "is_guest_installer_network": "true",
    HIMN_KEY: "true",
    "ip_begin": "169.254.0.1",
    "ip_end": "169.254.255.254",
    "netmask": "255.255.0.0",
}
POOL_CONFIG: Final = {"memory-ratio-hvm": "0.25", "memory-ratio-pv": "0.25"}
RESTRICTIONS: Final = {
    **{
        f"restrict_{name}": "false"
        for name in (
            "network_sriov",
            "vif_locking",
            "guest_ip_setting",
            "igmp_snooping",
            "pooling",
            "pool_size",
            "vm_start",
            "xen_motion",
            "storage_xen_motion",
            "pvs_proxy",
            "vlan",
            "qos",
            "connection",
            "pool_attached_storage",
            "vswitch_controller",
            "rbac",
            "email_alerting",
            "historical_performance",
            "wlb",
            "dmc",
            "checkpoint",
            "cifs",
            "read_caching",
            "ssl_legacy_switch",
            "live_patching",
            "usb_passthrough",
            "pci_device_for_auto_update",
            "web_selfservice",
            "health_check",
            "gpu",
            "dr",
            "vmss",
            "csvm",
            "external_auth",
            "ad",
        )
    },
    "enable_xha": "true",
}
"""Everything that clients ask licences for is allowed (spec §19.6)."""

_IPV4_MODES: Final = {
    Ipv4Mode.NONE: IpConfigurationMode.NONE,
    Ipv4Mode.DHCP: IpConfigurationMode.DHCP,
    Ipv4Mode.STATIC: IpConfigurationMode.STATIC,
}
_IPV6_MODES: Final = {
    Ipv6Mode.NONE: Ipv6ConfigurationMode.NONE,
    Ipv6Mode.DHCP: Ipv6ConfigurationMode.DHCP,
    Ipv6Mode.STATIC: Ipv6ConfigurationMode.STATIC,
    Ipv6Mode.AUTOCONF: Ipv6ConfigurationMode.AUTOCONF,
}


def first_boot(ctx: CallContext, host_uuid: str, greeting: protocol.Greeting, facts: HostFacts) -> None:
    """Fills an empty database: a pool of this host alone, its NICs with their networks, and the roles.

    Each NIC gets its PIF, attached to a network of its own; the management interface is as the host's administrator
    chose at installation. `ctx.local_host` is the reference that the host gets.
    """
    write_roles(ctx.txn)
    _create_pool(ctx)
    _create_host(ctx, host_uuid, greeting, facts)
    pif_rules.scan(ctx, host=ctx.local_host)
    _ensure_himn(ctx)
    if greeting.management is not None:
        _set_management(ctx, greeting.management)
    _bring_up_all(ctx)
    record_facts(ctx.txn, ctx.local_host, facts, ctx.now, ctx.new_uuid)


def take_office(ctx: CallContext) -> None:
    """Writes that this host is the pool's coordinator: another one may have been when it last was in the database."""
    for pool in ctx.txn.all(Pool):
        if pool.master == ctx.local_host:
            continue
        ctx.txn.update(Pool, pool.ref, master=ctx.local_host)
        host = ctx.txn.get(Host, ctx.local_host)
        raise_alert(
            ctx.txn,
            ctx.new_uuid,
            ctx.now,
            name=POOL_MASTER_TRANSITION,
            priority=NETWORK_ALERT_PRIORITY,
            cls=Cls.HOST,
            obj_uuid=host.uuid,
            body=f"{host.name_label} is the pool's coordinator now",
        )


def resync(ctx: CallContext, facts: HostFacts) -> None:
    """Brings a database in step with what its host runs, after the server or the whole host was started anew.

    VMs whose guest is gone are halted; guests that no VM accounts for are to be removed; operations that were under
    way are forgotten; PIFs that are always up are (spec §21).
    """
    write_roles(ctx.txn)
    _refresh_host(ctx, facts)
    pif_rules.refresh(ctx, ctx.local_host, facts.nics)
    bond_rules.repair(ctx, ctx.local_host)
    _ensure_himn(ctx)
    _resync_guests(ctx, facts)
    for storage in ctx.txn.refs(SR):
        refresh_storage(ctx.txn, storage)
    _bring_up_all(ctx)
    record_facts(ctx.txn, ctx.local_host, facts, ctx.now, ctx.new_uuid)


# --- the pool and its host -------------------------------------------------------------------------------------


def _create_pool(ctx: CallContext) -> None:
    ctx.txn.create(
        Pool(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            master=ctx.local_host,
            other_config=POOL_CONFIG,
            restrictions=RESTRICTIONS,
        )
    )


def _create_host(ctx: CallContext, uuid: str, greeting: protocol.Greeting, facts: HostFacts) -> None:
    hostname = greeting.hostname or facts.hostname or "localhost"
    metrics = ctx.txn.create(
        HostMetrics(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            memory_total=facts.memory_total_bytes,
            memory_free=facts.memory_free_bytes,
            live=True,
            last_updated=ctx.now,
        )
    )
    control_domain: Ref[VM] = ctx.new_ref()
    ctx.txn.create(
        Host(
            ref=ctx.local_host,
            uuid=uuid,
            name_label=hostname,
            hostname=hostname,
            API_version_major=API_VERSION[0],
            API_version_minor=API_VERSION[1],
            API_version_vendor="poolnet",
            enabled=True,
            metrics=metrics,
            control_domain=control_domain,
            capabilities=("hvm-3.0-x86_64",),
            sched_policy="credit",
            supported_bootloaders=(),
            license_params=_license_params(),
            edition="free",
            editions=("free",),
            ssl_legacy=False,
            other_config={},
        )
    )
    _create_control_domain(ctx, control_domain, hostname, facts)
    _refresh_host(ctx, facts)


def _license_params() -> dict[str, str]:
    return {
        **RESTRICTIONS,
        "sku_type": "free",
        "license_type": "",
        "expiry": "29991231T00:00:00Z",
        "version": __version__,
        "grace": "no",
    }


def _refresh_host(ctx: CallContext, facts: HostFacts) -> None:
    """Writes what may have changed since the host last ran: versions, hardware, the time of the start."""
    host = ctx.txn.get(Host, ctx.local_host)
    started = f"{ctx.now.timestamp():.0f}."
    other_config = {**host.other_config, "agent_start_time": started}
    other_config.setdefault("boot_time", started)
    ctx.txn.update(
        Host,
        host.ref,
        software_version=_software_version(facts),
        cpu_info={"cpu_count": str(facts.cpu_count), "socket_count": "1"},
        other_config=other_config,
        current_operations={},
        allowed_operations=(HostAllowedOperations.VM_START, HostAllowedOperations.VM_RESUME),
    )


def _software_version(facts: HostFacts) -> dict[str, str]:
    return {
        "product_brand": "poolnet",
        "product_version": __version__,
        "product_version_text": __version__,
        "platform_name": "poolnet",
        "platform_version": __version__,
        "build_number": "0",
        "xapi": f"{API_VERSION[0]}.{API_VERSION[1]}",
        "network_backend": facts.backend,
        **dict(facts.software),
    }


def _create_control_domain(ctx: CallContext, ref: Ref[VM], hostname: str, facts: HostFacts) -> None:
    metrics = ctx.txn.create(
        VMMetrics(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            VCPUs_number=facts.cpu_count,
            memory_actual=facts.memory_total_bytes,
            start_time=ctx.now,
            last_updated=ctx.now,
            current_domain_type=DomainType.PV,
        )
    )
    ctx.txn.create(
        VM(
            ref=ref,
            uuid=ctx.new_uuid(),
            name_label=f"{CONTROL_DOMAIN_NAME}{hostname}",
            name_description="The domain which manages physical devices and manages other domains",
            power_state=VmPowerState.RUNNING,
            resident_on=ctx.local_host,
            affinity=ctx.local_host,
            is_control_domain=True,
            domid=0,
            metrics=metrics,
            VCPUs_max=max(1, facts.cpu_count),
            VCPUs_at_startup=max(1, facts.cpu_count),
            memory_static_max=facts.memory_total_bytes,
            memory_dynamic_max=facts.memory_total_bytes,
            memory_dynamic_min=facts.memory_total_bytes,
            actions_after_shutdown=OnNormalExit.DESTROY,
            actions_after_reboot=OnNormalExit.DESTROY,
            actions_after_crash=OnCrashBehaviour.DESTROY,
            domain_type=DomainType.PV,
        )
    )
    refresh_vm(ctx.txn, ref)


# --- networks --------------------------------------------------------------------------------------------------


def _ensure_himn(ctx: CallContext) -> None:
    """Makes the host internal management network, or mends its bridge (spec §7.9).

    Making it uses up one number of generated bridge names, as clients that count on the first name know.
    """
    network = next((network for network in ctx.txn.all(Network) if himn(network)), None)
    if network is not None:
        ctx.txn.update(Network, network.ref, bridge=HIMN_BRIDGE)
        return
    ctx.counters.take_bridge()
    ctx.txn.create(
        Network(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            name_label="Host internal management network",
            name_description=(
                "Network on which guests will be assigned a private link-local IP address which can be used "
                "to talk XenAPI"
            ),
            bridge=HIMN_BRIDGE,
            other_config=HIMN_CONFIG,
        )
    )


def _set_management(ctx: CallContext, management: protocol.Management) -> None:
    """Makes the PIF that the administrator chose the management interface."""
    base = ctx.txn.first(PIF, host=ctx.local_host, device=management.nic)
    if base is None:
        raise errors.invalid_value("management", management.nic)
    ref = base.ref if management.vlan_tag < 0 else _management_vlan(ctx, base, management.vlan_tag)
    ctx.txn.update(PIF, ref, management=True, **_addresses(management.ip))
    bring_up(ctx, ref)


def _management_vlan(ctx: CallContext, base: PIF, tag: int) -> Ref[PIF]:
    taken = {network.bridge for network in ctx.txn.all(Network)}
    network = ctx.txn.create(
        Network(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            name_label=f"{network_label(base.device)} on VLAN{tag}",
            bridge=free_bridge(ctx, taken),
        )
    )
    return vlan_rules.untagged_pif(ctx, vlan_rules.make(ctx, base, tag, network))


def _addresses(ip: IpConfig) -> dict[str, Any]:
    """The fields of a PIF that has this configuration."""
    ipv6_only = ip.ipv4_mode is Ipv4Mode.NONE and ip.ipv6_mode is not Ipv6Mode.NONE
    fields: dict[str, Any] = {
        "ip_configuration_mode": _IPV4_MODES[ip.ipv4_mode],
        "ipv6_configuration_mode": _IPV6_MODES[ip.ipv6_mode],
        "primary_address_type": PrimaryAddressType.IPV6 if ipv6_only else PrimaryAddressType.IPV4,
        "gateway": ip.ipv4_gateway,
        "ipv6_gateway": ip.ipv6_gateway,
        "DNS": ",".join(ip.dns_servers),
    }
    if ip.ipv4_address:
        interface = ip_interface(ip.ipv4_address)
        fields |= {"IP": str(interface.ip), "netmask": str(interface.netmask)}
    if ip.ipv6_addresses:
        fields["IPv6"] = ip.ipv6_addresses
    return fields


def _bring_up_all(ctx: CallContext) -> None:
    """Plugs the PIFs that are always up: NICs, bonds, and whatever has an address (spec §21). Others stay as they are."""
    for pif in ctx.txn.where(PIF, host=ctx.local_host):
        configured = (
            pif.ip_configuration_mode is not IpConfigurationMode.NONE
            or pif.ipv6_configuration_mode is not Ipv6ConfigurationMode.NONE
        )
        if not pif.managed or is_bond_slave(ctx.txn, pif):
            continue
        if pif.sriov_logical_PIF_of and functions.failed_before(ctx.txn, pif, ctx.facts_of(pif.host)):
            bring_down(
                ctx, pif.ref
            )  # the host could not when it booted; whoever plugs the PIF lets it try again
            continue
        always = pif.physical or pif.bond_master_of or pif.sriov_logical_PIF_of
        if (always or configured) and ctx.txn.exists(Network, pif.network):
            _plug_if_possible(ctx, pif)
    refresh_address(ctx, ctx.local_host)


def _plug_if_possible(ctx: CallContext, pif: PIF) -> None:
    attempt = ctx.on(ctx.txn.nested())
    try:
        plug(attempt, self=pif.ref)
    except errors.Failure:
        return  # one that cannot come up must not keep the server from starting
    attempt.txn.merge()


# --- guests ----------------------------------------------------------------------------------------------------


def _resync_guests(ctx: CallContext, facts: HostFacts) -> None:
    alive = {g.vm_uuid: g for g in facts.guests if g.state in ("running", "paused", *WAITING)}
    for guest in facts.guests:
        ctx.counters.note_domid(ctx.local_host, guest.domid)
    accounted: set[str] = set()
    for vm in tuple(ctx.txn.all(VM)):
        here = vm.resident_on == ctx.local_host and not vm.is_control_domain
        ctx.counters.note_domid(ctx.local_host, vm.domid if here else 0)
        own = alive.get(vm.uuid)
        if here and own is not None and own.domid == vm.domid:
            state = VmPowerState.RUNNING if own.state == "running" else VmPowerState.PAUSED
            if own.state in WAITING:  # its migration was decided, or came to nothing; it will be told
                state = vm.power_state
            ctx.txn.update(VM, vm.ref, power_state=state, current_operations={})
            _forget_operations(ctx, vm.ref)
            accounted.add(vm.uuid)
        elif here or (vm.power_state is VmPowerState.HALTED and is_null(vm.resident_on)):
            halt(ctx, vm)
            if here and vm.power_state in LIVE:
                note_loss(ctx.txn, vm)
        else:
            ctx.txn.update(VM, vm.ref, current_operations={})
            _forget_operations(ctx, vm.ref)
        refresh_vm(ctx.txn, vm.ref)
    for uuid in sorted(alive.keys() - accounted):
        ctx.before(ctx.local_host, protocol.DestroyGuest(vm_uuid=uuid))


def _forget_operations(ctx: CallContext, vm: Ref[VM]) -> None:
    for vif in ctx.txn.where(VIF, VM=vm):
        ctx.txn.update(VIF, vif.ref, current_operations={})
