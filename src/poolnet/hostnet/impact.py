"""Whom does one step of a plan interrupt, and for about how long? `show` prints it under the step.

The times are round figures of what was measured in the lab with a ping every 10 ms; switches that learn slowly, or that
block new links for a while, add theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from poolnet.hostnet.disturbance import management_chain, step_disturbance, subnets
from poolnet.hostnet.state import EMPTY, Bridge, GuestPort, HostNetwork, VirtualFunction
from poolnet.hostnet.steps import (
    CreateBridge,
    DestroyBridge,
    DisableFunctions,
    Disturbance,
    EnableFunctions,
    MovePort,
    Plan,
    RemovePort,
    ReplaceBridge,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetFunction,
    SetLink,
    SetManagement,
    Step,
)

MAKE_MS: Final = 500  # a bridge in another's place: NIC, address, and until the neighbours know
UPLINK_MS: Final = 150
ADDRESS_MS: Final = 10
CHANGE_MS: Final = 50
NEGOTIATE_MS: Final = 3000  # a NIC at another speed, or with other virtual functions
NAMED_MAX: Final = 5

Named = Callable[[GuestPort], str]


def named_by_uuid(port: GuestPort) -> str:
    """A port as the host knows it."""
    return f"{port.device} of VM {port.vm_uuid}" if port.vm_uuid else port.device


def impact(step: Step, plan: Plan, desired: HostNetwork, named: Named = named_by_uuid) -> str:
    """What the step interrupts, as a sentence; "" when nothing notices."""
    chain = management_chain(desired) | _former_management(plan)
    disturbance = step_disturbance(step, chain)
    if disturbance is Disturbance.NONE:
        return ""
    match step:
        case RemovePort(port=port):
            return f"disconnects {named(port)}"
        case MovePort(new=port) | ReplacePort(new=port):
            return f"interrupts {named(port)} for about {CHANGE_MS} ms"
        case SetFunction(new=None, device=device, old=VirtualFunction(address=address)):
            return f"disconnects the guest on {address} of {device}"
        case SetManagement(old=old, new=new):
            return _management_moves(old, new)
        case DestroyBridge(bridge=Bridge(name=name)) if desired.bridge(name) is None:
            return "" if disturbance is Disturbance.MANAGEMENT else f"ends what {name} carried"
        case SetAddresses(name=name):
            return _interrupts(name, ADDRESS_MS, disturbance, EMPTY, named)  # guests do not notice
    found = _bridge_and_time(step)
    return _interrupts(*found, disturbance, desired, named) if found is not None else ""


def overlaps(step: Step, desired: HostNetwork) -> tuple[str, ...]:
    """With which other bridges' subnets does an address that the step sets overlap? A sentence for each.

    The host then sends to that subnet by either interface, whichever route the kernel finds first.
    """
    match step:
        case CreateBridge(bridge=Bridge(name=name, ip=ip)) | SetAddresses(name=name, new=ip):
            return tuple(
                f"warning: {one} overlaps {other} of {bridge.name}: traffic for it may leave by either"
                for one in subnets(ip)
                for bridge in desired.bridges
                if bridge.name != name
                for other in subnets(bridge.ip)
                if one.version == other.version and one.overlaps(other)
            )
        case _:
            return ()


def _bridge_and_time(step: Step) -> tuple[str, int] | None:
    """Which bridge a step interrupts with all that it carries, and for how long."""
    match step:
        case CreateBridge(bridge=Bridge(name=name)):
            return name, MAKE_MS
        case DestroyBridge(bridge=Bridge(name=name)) | ReplaceBridge(new=Bridge(name=name)):
            return name, CHANGE_MS
        case ReplaceUplink(name=name):
            return name, UPLINK_MS
        case SetLink(bridge=name) | EnableFunctions(bridge=name) | DisableFunctions(bridge=name):
            return name, NEGOTIATE_MS
    return None


def _former_management(plan: Plan) -> frozenset[str]:
    """The bridge that management leaves by this plan."""
    return frozenset(step.old for step in plan.steps if isinstance(step, SetManagement) and step.old)


def _management_moves(old: str, new: str) -> str:
    if not new:
        return f"ends the connections to the host by {old}"
    return f"new connections to the host come by {new}" + (f", no more by {old}" if old else "")


def _interrupts(
    bridge: str,
    milliseconds: int,
    disturbance: Disturbance,
    desired: HostNetwork,
    named: Named,
) -> str:
    what = f"management on {bridge}" if disturbance is Disturbance.MANAGEMENT else bridge
    ports = [named(port) for port in _ports_on(bridge, desired)]
    return f"interrupts {_listed((what, *ports))} for about {milliseconds} ms"


def _ports_on(bridge: str, network: HostNetwork) -> Iterable[GuestPort]:
    """The guest ports whose frames pass through a bridge: its own, and those of the VLANs on it."""
    through = {bridge, *(one.name for one in network.bridges if one.parent == bridge)}
    return (port for port in network.ports if port.bridge in through)


def _listed(names: tuple[str, ...]) -> str:
    shown, more = names[: NAMED_MAX + 1], len(names) - NAMED_MAX - 1
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
