"""What does traffic notice of one step of a plan?

`diff` takes the maximum over a plan; the pool arms its dead-man timers by it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_interface

from poolnet.hostnet.state import NO_IP, FunctionsMode, HostNetwork, IpConfig, Uplink
from poolnet.hostnet.steps import (
    AddPort,
    CloseHttp,
    CreateBridge,
    DestroyBridge,
    DisableFunctions,
    Disturbance,
    EnableFunctions,
    MovePort,
    OpenNbdPort,
    RemovePort,
    ReplaceBridge,
    ReplaceLock,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetFunction,
    SetLink,
    SetManagement,
    Step,
)

RENEGOTIATING = frozenset(("speed", "duplex", "autoneg", "advertise"))  # the link goes down for seconds


def management_chain(network: HostNetwork) -> frozenset[str]:
    """The bridges that management passes through: its own and, if that is a VLAN, the parent."""
    bridge = network.bridge(network.management_bridge)
    if bridge is None:
        return frozenset()
    return frozenset(name for name in (bridge.name, bridge.parent) if name)


def rivals(network: HostNetwork) -> frozenset[str]:
    """The bridges with an address in a subnet of the management address: what is sent there may leave by them."""
    bridge = network.bridge(network.management_bridge)
    managed = subnets(bridge.ip) if bridge is not None else ()
    if not managed:
        return frozenset()
    return frozenset(
        other.name
        for other in network.bridges
        if other.ip is not NO_IP
        and any(
            one.version == near.version and one.overlaps(near)
            for one in subnets(other.ip)
            for near in managed
        )
    )


def subnets(config: IpConfig) -> tuple[IPv4Network | IPv6Network, ...]:
    """The subnets of the addresses that are written down."""
    found = []
    for text in filter(None, (config.ipv4_address, *config.ipv6_addresses)):
        with suppress(ValueError):  # the daemon says so when it plans
            found.append(ip_interface(text).network)
    return tuple(found)


def step_disturbance(step: Step, chain: frozenset[str]) -> Disturbance:
    """What `step` disturbs, when management passes through the bridges in `chain` before or after the plan.

    A new VLAN or guest port on a bridge of the chain does not cut it; new name servers do not either; a
    changed default or static route on any bridge may.
    """
    match step:
        case CreateBridge(bridge=bridge):
            return Disturbance.MANAGEMENT if bridge.name in chain else Disturbance.NONE
        case DestroyBridge(bridge=bridge):
            return _of_bridge(bridge.name, chain)
        case ReplaceUplink(name=name, old=previous, new=wanted):
            return Disturbance.NONE if _only_leads_further(previous, wanted) else _of_bridge(name, chain)
        case SetAddresses():
            return _of_addresses(step, chain)
        case ReplaceBridge(old=before, new=after):
            # A switch's fail mode flushes its flows when it changes, VLANs lead elsewhere; marks and snooping are only read.
            same = (before.mac, before.mtu_bytes, before.fail_mode_secure, before.strange_vlans) == (
                after.mac,
                after.mtu_bytes,
                after.fail_mode_secure,
                after.strange_vlans,
            )
            return Disturbance.NONE if same else _of_bridge(after.name, chain)
        case AddPort() | RemovePort() | MovePort() | SetFunction():
            return Disturbance.PORT
        case ReplaceLock() | OpenNbdPort() | CloseHttp():
            return Disturbance.NONE
        case ReplacePort(old=old, new=new):
            return Disturbance.NONE if old.mtu_bytes == new.mtu_bytes else Disturbance.PORT
        case SetManagement():
            return Disturbance.MANAGEMENT
        case EnableFunctions(mode=mode, bridge=serving) | DisableFunctions(mode=mode, bridge=serving):
            # Drivers start the NIC anew for another number of functions. Options of drivers wait for the next boot.
            at_once = mode is FunctionsMode.SYSFS and serving
            return _of_bridge(serving, chain) if at_once else Disturbance.NONE
        case SetLink(bridge=serving, old=old_values, new=new_values):
            renegotiates = {key for key, _ in set(old_values) ^ set(new_values)} & RENEGOTIATING
            return _of_bridge(serving, chain) if renegotiates else Disturbance.NONE


def _only_leads_further(old: Uplink | None, new: Uplink | None) -> bool:
    """Is it the same tunnel, with more other ends?"""
    if old is None or new is None or old.tunnel is None or new.tunnel is None:
        return False
    longer = replace(old.tunnel, remotes=new.tunnel.remotes)
    return longer == new.tunnel and set(old.tunnel.remotes) <= set(new.tunnel.remotes)


def _of_bridge(name: str, chain: frozenset[str]) -> Disturbance:
    return Disturbance.MANAGEMENT if name in chain else Disturbance.BRIDGE


def _of_addresses(step: SetAddresses, chain: frozenset[str]) -> Disturbance:
    if _without_dns(step.old) == _without_dns(step.new):
        return Disturbance.NONE
    routes_differ = (step.old.ipv4_gateway, step.old.ipv6_gateway, step.old.routes, step.old.dhcp_routes) != (
        step.new.ipv4_gateway,
        step.new.ipv6_gateway,
        step.new.routes,
        step.new.dhcp_routes,
    )
    return Disturbance.MANAGEMENT if routes_differ else _of_bridge(step.name, chain)


def _without_dns(config: IpConfig) -> IpConfig:
    return replace(config, dns_servers=(), dns_search=(), dhcp_dns=False)
