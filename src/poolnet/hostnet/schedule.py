"""In which order can bridges change, when they take NICs, addresses and parents from each other?

`diff` hands in the changes in the order it prefers; they come back in one in which each finds free what it
needs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TypeAlias

from poolnet.hostnet.state import NO_IP, Bridge, IpConfig, Uplink
from poolnet.hostnet.steps import (
    CreateBridge,
    DestroyBridge,
    ReplaceBridge,
    ReplaceUplink,
    SetAddresses,
)

BridgeStep: TypeAlias = CreateBridge | DestroyBridge | ReplaceBridge | ReplaceUplink | SetAddresses
Claim: TypeAlias = tuple[
    str, str
]  # what only one bridge can have: ("nic", "eth0"), ("address", "10.0.0.1") …


def schedule(bridges: Iterable[Bridge], steps: Iterable[BridgeStep]) -> list[BridgeStep]:
    """The `steps` in an order in which no two bridges ever have the same uplink, NIC, address or default route.

    A step waits until what it claims is free and until its bridge's parent exists; otherwise the given order
    is kept. Where bridges exchange what they have, one of them lets go of it first, in an extra step. Should
    nothing help (two bridges are to have the same address for good), the given order decides.
    """
    pending = list(steps)
    if not pending:
        return []
    holdings = _Holdings(bridges)
    done: list[BridgeStep] = []
    while pending:
        waiting: list[BridgeStep] = []
        for step in pending:
            if holdings.allow(step):
                holdings.carry_out(step)
                done.append(step)
            else:
                waiting.append(step)
        if len(waiting) == len(pending):
            release, waiting = _break_circle(waiting)
            holdings.carry_out(release)
            done.append(release)
        pending = waiting
    return done


def uplink_claims(uplink: Uplink | None) -> frozenset[Claim]:
    """What a bridge with this uplink has to itself: the NICs, and the device, which may be a bond or a tunnel."""
    if uplink is None:
        return frozenset()
    return frozenset((("uplink", uplink.device), *(("nic", member) for member in uplink.members)))


def address_claims(config: IpConfig) -> frozenset[Claim]:
    """What a bridge with these addresses has to itself: the addresses, and the default routes."""
    if config == NO_IP:  # of most bridges
        return frozenset()
    texts = (config.ipv4_address, *config.ipv6_addresses)
    claims = {("address", text.partition("/")[0]) for text in texts if text}
    claims |= {("default route", "IPv4")} if config.ipv4_gateway else set()
    claims |= {("default route", "IPv6")} if config.ipv6_gateway else set()
    return frozenset(claims)


def bridge_claims(bridge: Bridge) -> frozenset[Claim]:
    """What this bridge has to itself."""
    return uplink_claims(bridge.uplink) | address_claims(bridge.ip)


class _Holdings:
    """Which bridges exist, and what they hold, as the steps are carried out one by one."""

    def __init__(self, bridges: Iterable[Bridge]) -> None:
        self._names: set[str] = set()
        self._holders: defaultdict[Claim, set[str]] = defaultdict(set)
        for bridge in bridges:
            self._names.add(bridge.name)
            if bridge.uplink is not None or bridge.ip is not NO_IP:  # most VLANs have neither
                self._swap(bridge.name, frozenset(), bridge_claims(bridge))

    def allow(self, step: BridgeStep) -> bool:
        name, _, gained = _exchange(step)
        if isinstance(step, CreateBridge) and step.bridge.parent not in (self._names | {""}):
            return False
        return not any(self._holders[claim] - {name} for claim in gained)

    def carry_out(self, step: BridgeStep) -> None:
        name, lost, gained = _exchange(step)
        self._swap(name, lost, gained)
        if isinstance(step, CreateBridge):
            self._names.add(name)
        elif isinstance(step, DestroyBridge):
            self._names.discard(name)

    def _swap(self, name: str, lost: frozenset[Claim], gained: frozenset[Claim]) -> None:
        for claim in lost:
            self._holders[claim].discard(name)
        for claim in gained:
            self._holders[claim].add(name)


def _exchange(step: BridgeStep) -> tuple[str, frozenset[Claim], frozenset[Claim]]:
    """The bridge that a step changes, what that bridge loses, and what it has afterwards."""
    match step:
        case CreateBridge(bridge=bridge):
            return bridge.name, frozenset(), bridge_claims(bridge)
        case DestroyBridge(bridge=bridge):
            return bridge.name, bridge_claims(bridge), frozenset()
        case ReplaceUplink(name=name, old=before, new=after):
            return name, uplink_claims(before), uplink_claims(after)
        case SetAddresses(name=name, old=old, new=new):
            return name, address_claims(old), address_claims(new)
        case ReplaceBridge(new=bridge):
            return bridge.name, frozenset(), frozenset()


def _break_circle(waiting: list[BridgeStep]) -> tuple[BridgeStep, list[BridgeStep]]:
    """A step to carry out though all of them wait, and what still waits then."""
    needed = {claim for step in waiting for claim in _exchange(step)[2] - _exchange(step)[1]}
    for index, step in enumerate(waiting):
        if not needed & (_exchange(step)[1] - _exchange(step)[2]):
            continue  # it has nothing that another one waits for
        if isinstance(step, ReplaceUplink):
            release: BridgeStep = ReplaceUplink(name=step.name, old=step.old, new=None)
            rest: BridgeStep = ReplaceUplink(name=step.name, old=None, new=step.new)
        elif isinstance(step, SetAddresses):
            release = SetAddresses(name=step.name, old=step.old, new=NO_IP)
            rest = SetAddresses(name=step.name, old=NO_IP, new=step.new)
        else:
            continue
        return release, [*waiting[:index], rest, *waiting[index + 1 :]]
    return waiting[0], waiting[1:]
