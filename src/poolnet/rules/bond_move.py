"""How does what one PIF carries come to another: addresses, management, VLANs, tunnels, VIFs? See spec §11.5, §11.6.

Bonding moves it from the members to the bond, dissolving a bond moves it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode
from poolnet.model.types import Ref, is_null
from poolnet.rules.attach import bring_up
from poolnet.rules.context import CallContext
from poolnet.rules.placement import possible_hosts
from poolnet.rules.tunnel import make as make_tunnel
from poolnet.rules.vlan import make as make_vlan


def _addresses(pif: PIF) -> dict[str, Any]:
    return {
        "ip_configuration_mode": pif.ip_configuration_mode,
        "IP": pif.IP,
        "netmask": pif.netmask,
        "gateway": pif.gateway,
        "DNS": pif.DNS,
        "ipv6_configuration_mode": pif.ipv6_configuration_mode,
        "IPv6": pif.IPv6,
        "ipv6_gateway": pif.ipv6_gateway,
    }


def move_addresses(ctx: CallContext, source: Ref[PIF], target: Ref[PIF]) -> None:
    """Moves the address configuration of one PIF to another; the first then has none."""
    ctx.txn.update(PIF, target, **_addresses(ctx.txn.get(PIF, source)))
    ctx.txn.update(
        PIF,
        source,
        ip_configuration_mode=IpConfigurationMode.NONE,
        IP="",
        netmask="",
        gateway="",
        DNS="",
        ipv6_configuration_mode=Ipv6ConfigurationMode.NONE,
        IPv6=(),
        ipv6_gateway="",
    )


def move_management(ctx: CallContext, source: Ref[PIF], target: Ref[PIF]) -> None:
    """Makes another PIF the management interface, and brings it up."""
    ctx.txn.update(PIF, source, management=False)
    ctx.txn.update(PIF, target, management=True)
    bring_up(ctx, target)


def move_vlans(ctx: CallContext, source: Ref[PIF], target: Ref[PIF]) -> None:
    """Makes the VLANs of one PIF anew on another, on the same networks.

    Where the other has a VLAN with that tag, the VIFs of the first's network go to that VLAN's network instead.
    """
    for vlan in ctx.txn.where(VLAN, tagged_PIF=source):
        there = ctx.txn.first(VLAN, tagged_PIF=target, tag=vlan.tag)
        old = ctx.txn.find(PIF, vlan.untagged_PIF)
        if old is None:
            ctx.txn.destroy(VLAN, vlan.ref)
        elif there is not None:
            _merge_vlan(ctx, vlan, old, there)
        else:
            _remake_vlan(ctx, vlan, old, target)


def _merge_vlan(ctx: CallContext, vlan: VLAN, old: PIF, there: VLAN) -> None:
    kept = ctx.txn.get(PIF, there.untagged_PIF)
    if old.management:
        move_addresses(ctx, old.ref, kept.ref)
        move_management(ctx, old.ref, kept.ref)
    _retarget_tunnels(ctx, old.ref, kept.ref)
    ctx.txn.destroy(VLAN, vlan.ref)
    ctx.txn.destroy(PIF, old.ref)
    move_local_vifs(ctx, old.host, [old.network], kept.network)


def _remake_vlan(ctx: CallContext, vlan: VLAN, old: PIF, target: Ref[PIF]) -> None:
    txn = ctx.txn
    ref = make_vlan(ctx, txn.get(PIF, target), vlan.tag, old.network)
    txn.update(VLAN, ref, other_config=vlan.other_config)
    new = txn.get(VLAN, ref).untagged_PIF
    txn.update(PIF, new, **_addresses(old), **_kept_flags(old))
    _retarget_tunnels(ctx, old.ref, new)
    txn.destroy(VLAN, vlan.ref)
    txn.destroy(PIF, old.ref)
    if old.currently_attached:
        bring_up(ctx, new)


def _retarget_tunnels(ctx: CallContext, source: Ref[PIF], target: Ref[PIF]) -> None:
    """Lets the tunnels over a VLAN's PIF go over the one that takes its place."""
    for tunnel in ctx.txn.where(Tunnel, transport_PIF=source):
        ctx.txn.update(Tunnel, tunnel.ref, transport_PIF=target)


def _kept_flags(old: PIF) -> dict[str, Any]:
    """What the PIF that takes another's place has of it besides its addresses."""
    return {
        "other_config": old.other_config,
        "primary_address_type": old.primary_address_type,
        "disallow_unplug": old.disallow_unplug,
        "properties": old.properties,
        "management": old.management,
    }


def move_tunnels(ctx: CallContext, source: Ref[PIF], target: Ref[PIF]) -> None:
    """Makes the tunnels over one PIF anew over another, on the same networks."""
    for tunnel in ctx.txn.where(Tunnel, transport_PIF=source):
        old = ctx.txn.find(PIF, tunnel.access_PIF)
        ctx.txn.destroy(Tunnel, tunnel.ref)
        if old is None:
            continue
        ctx.txn.destroy(PIF, old.ref)
        ref = make_tunnel(ctx, ctx.txn.get(PIF, target), old.network, tunnel.protocol)
        ctx.txn.update(Tunnel, ref, other_config=tunnel.other_config, status=tunnel.status)
        access = ctx.txn.get(Tunnel, ref).access_PIF
        ctx.txn.update(PIF, access, **_addresses(old), **_kept_flags(old))
        if old.currently_attached:
            bring_up(ctx, access)


def move_local_vifs(
    ctx: CallContext, host: Ref[Host], networks: Sequence[Ref[Network]], target: Ref[Network]
) -> None:
    """Moves the VIFs that belong to this host from some networks to another; the guests do not notice."""
    for network in dict.fromkeys(networks):
        for vif in ctx.txn.where(VIF, network=network):
            vm = ctx.txn.find(VM, vif.VM)
            if vm is not None and network != target and _is_local(ctx, vm, host):
                ctx.txn.update(VIF, vif.ref, network=target)


def _is_local(ctx: CallContext, vm: VM, host: Ref[Host]) -> bool:
    if not is_null(vm.resident_on):
        return vm.resident_on == host
    return set(possible_hosts(ctx, vm.ref)) <= {host}
