"""What does a state become by some steps?

`layout` asks, because the switch takes all steps of a plan in one transaction: what counts is the state after them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.steps import (
    AddPort,
    CreateBridge,
    DestroyBridge,
    MovePort,
    RemovePort,
    ReplaceBridge,
    ReplaceLock,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetManagement,
    Step,
)


def advance(network: HostNetwork, steps: Iterable[Step]) -> HostNetwork:
    """The state after the steps. Raises KeyError when a step changes something that is not there."""
    bridges = {bridge.name: bridge for bridge in network.bridges}
    ports = {port.device: port for port in network.ports}
    management = network.management_bridge
    for step in steps:
        match step:
            case CreateBridge(bridge=bridge):
                bridges[bridge.name] = bridge
            case DestroyBridge(bridge=bridge):
                bridges.pop(bridge.name, None)
            case ReplaceUplink(name=name, new=uplink):
                bridges[name] = replace(bridges[name], uplink=uplink)
            case SetAddresses(name=name, new=ip):
                bridges[name] = replace(bridges[name], ip=ip)
            case ReplaceBridge(new=bridge):
                bridges[bridge.name] = bridge
            case AddPort(port=port):
                ports[port.device] = port
            case RemovePort(port=port):
                ports.pop(port.device, None)
            case MovePort(new=port) | ReplacePort(new=port):
                ports[port.device] = port
            case ReplaceLock(device=device, new=lock):
                ports[device] = replace(ports[device], lock=lock)
            case SetManagement(new=management):
                pass
    return replace(
        network,
        bridges=tuple(bridges[name] for name in sorted(bridges)),
        ports=tuple(ports[device] for device in sorted(ports)),
        management_bridge=management,
    )
