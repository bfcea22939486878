"""What does a state become by some steps, and what of it do they change?

The backends ask, because they take all steps of a plan together: what counts is the state after them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from poolnet.hostnet.functions import functions_after
from poolnet.hostnet.state import HostNetwork, LinkSettings
from poolnet.hostnet.steps import (
    AddPort,
    CloseHttp,
    CreateBridge,
    DestroyBridge,
    DisableFunctions,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """The names of the bridges and the devices of the guest ports that some steps change."""

    bridges: frozenset[str]
    devices: frozenset[str]


def touched_by(steps: Iterable[Step]) -> Touched:
    """What the steps change."""
    bridges: set[str] = set()
    devices: set[str] = set()
    for step in steps:
        match step:
            case CreateBridge(bridge=bridge) | DestroyBridge(bridge=bridge) | ReplaceBridge(new=bridge):
                bridges.add(bridge.name)
            case ReplaceUplink(name=name) | SetAddresses(name=name):
                bridges.add(name)
            case SetManagement(old=old, new=new):
                bridges |= {old, new} - {""}
            case AddPort(port=port) | RemovePort(port=port) | MovePort(new=port) | ReplacePort(new=port):
                devices.add(port.device)
            case ReplaceLock(device=device):
                devices.add(device)
            case _:
                pass  # no bridge's or port's
    return Touched(bridges=frozenset(bridges), devices=frozenset(devices))


def with_vlans(touched: Touched, before: HostNetwork, after: HostNetwork) -> Touched:
    """The same with the VLANs on the touched bridges, where these have their devices on the bridge's uplink."""
    vlans = {b.name for network in (before, after) for b in network.bridges if b.parent in touched.bridges}
    return Touched(bridges=touched.bridges | vlans, devices=touched.devices)


def advance(network: HostNetwork, steps: Sequence[Step]) -> HostNetwork:
    """The state after the steps. Raises KeyError when a step changes something that is not there."""
    bridges = {bridge.name: bridge for bridge in network.bridges}
    ports = {port.device: port for port in network.ports}
    for step in steps:
        match step:
            case CreateBridge(bridge=bridge) | ReplaceBridge(new=bridge):
                bridges[bridge.name] = bridge
            case DestroyBridge(bridge=bridge):
                bridges.pop(bridge.name, None)
            case ReplaceUplink(name=name, new=uplink):
                bridges[name] = replace(bridges[name], uplink=uplink)
            case SetAddresses(name=name, new=ip):
                bridges[name] = replace(bridges[name], ip=ip)
            case RemovePort(port=port):
                ports.pop(port.device, None)
            case AddPort(port=port) | MovePort(new=port) | ReplacePort(new=port):
                ports[port.device] = port
            case ReplaceLock(device=device, new=lock):
                ports[device] = replace(ports[device], lock=lock)
            case (
                SetManagement()
                | OpenNbdPort()
                | CloseHttp()
                | SetLink()
                | EnableFunctions()
                | DisableFunctions()
                | SetFunction()
            ):
                pass  # see `_settings_after`
    return replace(
        _settings_after(network, steps),
        bridges=tuple(bridges[name] for name in sorted(bridges)),
        ports=tuple(ports[device] for device in sorted(ports)),
    )


def _settings_after(network: HostNetwork, steps: Sequence[Step]) -> HostNetwork:
    """The state after the steps, but for bridges and ports."""
    management, nbd, http = network.management_bridge, network.nbd_bridges, network.http_closed
    links = {link.name: link.values for link in network.links}
    for step in steps:
        match step:
            case SetManagement(new=management):
                pass
            case OpenNbdPort(new=nbd):
                pass
            case CloseHttp(new=http):
                pass
            case SetLink(name=name, new=values):
                links[name] = values
            case _:
                pass
    kept = (LinkSettings(name=name, values=links[name]) for name in sorted(links) if links[name])
    return replace(
        network,
        management_bridge=management,
        nbd_bridges=nbd,
        http_closed=http,
        links=tuple(kept),
        sriov=functions_after(network.sriov, steps),
    )
