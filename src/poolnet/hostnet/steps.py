"""The closed set of changes that a plan is made of, and what each of them disturbs.

`diff` makes steps, `show` prints them, a backend carries them out. Every consumer matches all of them, so that adding
one makes the type checker list the places to think about.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from poolnet.hostnet.state import (
    Bridge,
    FunctionsMode,
    GuestPort,
    IpConfig,
    PortLock,
    Uplink,
    VirtualFunction,
)


class Disturbance(IntEnum):
    """What traffic notices of a step; ordered, so that a plan's disturbance is the maximum of its steps'."""

    NONE = 0  # no frame lost
    PORT = 1  # one guest port appears, disappears or moves
    BRIDGE = 2  # all ports of a bridge may lose frames for a moment
    MANAGEMENT = 3  # the path by which the host is reached may be cut


class CreateBridge(Struct, frozen=True, kw_only=True, tag=True):
    """Make a bridge with its uplink, tag, MAC, MTU and addresses. A parent bridge comes before its VLANs."""

    bridge: Bridge


class DestroyBridge(Struct, frozen=True, kw_only=True, tag=True):
    """Remove a bridge, its addresses and its uplink's membership. VLANs on it are removed before it."""

    bridge: Bridge


class ReplaceUplink(Struct, frozen=True, kw_only=True, tag=True):
    """Give a bridge another uplink, in one switch transaction; the bridge and its addresses stay."""

    name: str
    old: Uplink | None
    new: Uplink | None


class SetAddresses(Struct, frozen=True, kw_only=True, tag=True):
    """Change the host's addresses, routes and DNS on a bridge."""

    name: str
    old: IpConfig
    new: IpConfig


class ReplaceBridge(Struct, frozen=True, kw_only=True, tag=True):
    """Change a bridge's MAC, MTU, marks, snooping or fail mode in place; uplink, parent, tag and addresses are equal."""

    old: Bridge
    new: Bridge


class AddPort(Struct, frozen=True, kw_only=True, tag=True):
    """Connect a guest port: its lock first, then the port."""

    port: GuestPort


class RemovePort(Struct, frozen=True, kw_only=True, tag=True):
    """Disconnect a guest port: the port first, then its lock."""

    port: GuestPort


class MovePort(Struct, frozen=True, kw_only=True, tag=True):
    """Move a guest port to another bridge, locked before it is connected there."""

    old: GuestPort
    new: GuestPort


class ReplaceLock(Struct, frozen=True, kw_only=True, tag=True):
    """Change what a connected port may send, in one atomic replacement of its rules."""

    device: str
    bridge: str
    old: PortLock
    new: PortLock


class ReplacePort(Struct, frozen=True, kw_only=True, tag=True):
    """Change a port's MTU, rate or marks in place; its bridge and lock are equal."""

    old: GuestPort
    new: GuestPort


class SetManagement(Struct, frozen=True, kw_only=True, tag=True):
    """Let another bridge carry the management address."""

    old: str
    new: str


class OpenNbdPort(Struct, frozen=True, kw_only=True, tag=True):
    """Open the host's NBD port on these bridges, and close it on all others, in one transaction."""

    old: tuple[str, ...]
    new: tuple[str, ...]


class CloseHttp(Struct, frozen=True, kw_only=True, tag=True):
    """Close the host's port for plain HTTP to all but the host itself, or open it again."""

    old: bool
    new: bool


class SetLink(Struct, frozen=True, kw_only=True, tag=True):
    """Change how a NIC or a bridge's own interface works. `bridge` is the one that it serves, "" for none."""

    name: str
    bridge: str
    old: tuple[tuple[str, str], ...]
    new: tuple[tuple[str, str], ...]


class EnableFunctions(Struct, frozen=True, kw_only=True, tag=True):
    """Give a NIC all the virtual functions it can have. `bridge` is the one that the NIC serves, "" for none."""

    device: str
    mode: FunctionsMode
    bridge: str


class DisableFunctions(Struct, frozen=True, kw_only=True, tag=True):
    """Take a NIC's virtual functions away; those that the administrator made stay."""

    device: str
    mode: FunctionsMode
    bridge: str


class SetFunction(Struct, frozen=True, kw_only=True, tag=True):
    """Prepare a virtual function for a guest, change it, or (`new` None) reset it for the next."""

    device: str
    old: VirtualFunction | None
    new: VirtualFunction | None


Step: TypeAlias = (
    CreateBridge
    | DestroyBridge
    | ReplaceUplink
    | SetAddresses
    | ReplaceBridge
    | AddPort
    | RemovePort
    | MovePort
    | ReplaceLock
    | ReplacePort
    | SetManagement
    | OpenNbdPort
    | CloseHttp
    | SetLink
    | EnableFunctions
    | DisableFunctions
    | SetFunction
)


class Plan(Struct, frozen=True, kw_only=True):
    """The ordered steps from one observed state to a desired one, and what they disturb at most."""

    steps: tuple[Step, ...] = ()
    disturbance: Disturbance = Disturbance.NONE
