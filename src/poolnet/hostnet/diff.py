"""Which steps lead from an observed state to a desired one, in which order, and what do they disturb?

The host daemon calls `diff` when it stages a rollout, the pool for a dry run. Every prefix of a plan is a
possible state: a backend that applies the steps one by one never needs a NIC, a tag or an address that
another bridge still has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from typing import Final

from poolnet.hostnet.disturbance import management_chain, rivals, step_disturbance
from poolnet.hostnet.functions import function_steps
from poolnet.hostnet.laws import ImpossibleStateError, contradictions
from poolnet.hostnet.match import same_kind, settle
from poolnet.hostnet.schedule import (
    BridgeStep,
    Claim,
    address_claims,
    bridge_claims,
    schedule,
    uplink_claims,
)
from poolnet.hostnet.state import NO_IP, Bridge, GuestPort, HostNetwork
from poolnet.hostnet.steps import (
    AddPort,
    CloseHttp,
    CreateBridge,
    DestroyBridge,
    Disturbance,
    MovePort,
    OpenNbdPort,
    Plan,
    RemovePort,
    ReplaceBridge,
    ReplaceLock,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetLink,
    SetManagement,
    Step,
)

_BY_NAME: Final = attrgetter("name")


def diff(observed: HostNetwork, desired: HostNetwork) -> Plan:
    """The plan that turns `observed` into a state without `mismatches` from `desired`.

    The order: ports that go, locks, bridges (those that must go before others can come; MTUs that rise;
    uplinks; new bridges, parents first; addresses), ports that move, come or change, management, the ports of services,
    virtual functions, bridges that could stay until then, MTUs that fall. A bridge whose parent or tag changes is
    destroyed and made again, and so are the VLANs of a parent that is; their guest ports are removed and added.

    Raises `ImpossibleStateError` when `desired` contradicts itself (`laws.contradictions`); any `observed`
    will do.
    """
    reasons = contradictions(desired)
    if reasons:
        raise ImpossibleStateError(reasons)
    settled = settle(observed, desired)
    bridges = _BridgeChanges(observed, settled, desired)
    leaving, arriving = _port_steps(observed.ports, settled.ports, bridges.early)
    steps: list[Step] = [*leaving, *schedule(observed.bridges, bridges.first_steps()), *arriving]
    if observed.management_bridge != desired.management_bridge:
        steps.append(SetManagement(old=observed.management_bridge, new=desired.management_bridge))
    if observed.nbd_bridges != settled.nbd_bridges:
        steps.append(OpenNbdPort(old=observed.nbd_bridges, new=settled.nbd_bridges))
    if observed.http_closed != desired.http_closed:
        steps.append(CloseHttp(old=observed.http_closed, new=desired.http_closed))
    if observed.links != settled.links:
        steps += _link_steps(observed, settled)
    if observed.sriov != settled.sriov:
        steps += function_steps(observed, settled, _serving(observed, settled))
    steps += bridges.last_steps()
    if not steps:
        return Plan(steps=(), disturbance=Disturbance.NONE)
    chain = management_chain(observed) | management_chain(desired)
    near = chain | rivals(observed) | rivals(desired)
    most = max(step_disturbance(step, near) for step in steps)
    return Plan(steps=tuple(steps), disturbance=most)


def _link_steps(observed: HostNetwork, settled: HostNetwork) -> list[Step]:
    """What changes in how interfaces work; of those that serve no bridge any more, that they are as found again."""
    before = {link.name: link.values for link in observed.links}
    after = {link.name: link.values for link in settled.links}
    serves = _serving(observed, settled)
    return [
        SetLink(name=name, bridge=serves.get(name, ""), old=before.get(name, ()), new=after.get(name, ()))
        for name in sorted(before.keys() | after.keys())
        if before.get(name, ()) != after.get(name, ())
    ]


def _serving(observed: HostNetwork, settled: HostNetwork) -> dict[str, str]:
    """Which bridge a NIC, or a bridge's own interface, serves."""
    return {
        name: bridge.name
        for state in (observed, settled)
        for bridge in state.bridges
        for name in (bridge.name, *(bridge.uplink.members if bridge.uplink is not None else ()))
    }


def _port_steps(
    observed: tuple[GuestPort, ...], settled: tuple[GuestPort, ...], destroyed: frozenset[str]
) -> tuple[list[Step], list[Step]]:
    """The steps of ports before the bridges change (removals, then locks), and those after it.

    `destroyed` are the bridges that are destroyed first, even if they are made again: no port can stay on
    them.
    """
    if observed == settled and not destroyed:
        return [], []
    before = {port.device: port for port in observed}
    after = {port.device: port for port in settled}
    stays = {device for device in before if device in after and before[device].bridge not in destroyed}
    leaving: list[Step] = [RemovePort(port=port) for device, port in before.items() if device not in stays]
    arriving: list[Step] = []
    for device, new in after.items():
        if device not in stays:
            arriving.append(AddPort(port=new))
            continue
        old = before[device]
        if old.bridge != new.bridge:
            arriving.append(MovePort(old=old, new=new))
            continue
        if old.lock != new.lock:
            leaving.append(ReplaceLock(device=device, bridge=new.bridge, old=old.lock, new=new.lock))
            old = replace(old, lock=new.lock)
        if old != new:
            arriving.append(ReplacePort(old=old, new=new))
    return leaving, arriving


class _BridgeChanges:
    """What becomes of each bridge of two states.

    `early` are destroyed first: those that are made again, and those that are not in the way of anything. The
    others that go are destroyed last, because a guest port moves from them, or from one of their VLANs, and
    needs both its bridges; they let go of their NICs and addresses before.
    """

    def __init__(self, observed: HostNetwork, settled: HostNetwork, desired: HostNetwork) -> None:
        self._seen = _parents_first(observed.bridges)
        self._settled = _parents_first(settled.bridges)
        self._desired = _parents_first(desired.bridges)
        again = self._made_again()
        late = self._destroyed_last(_left(observed.ports, desired.ports), again)
        self.early = frozenset((self._seen.keys() - self._desired.keys() - late) | again)
        self._late = late
        self._kept = self._seen.keys() & self._settled.keys() - again
        self._changed = [
            (self._seen[name], bridge)
            for name, bridge in self._settled.items()
            if (seen := self._seen.get(name)) is not bridge and name in self._kept and seen != bridge
        ]

    @cached_property
    def _claimed(self) -> frozenset[Claim]:
        """What the bridges have that are to be."""
        return frozenset(claim for bridge in self._desired.values() for claim in bridge_claims(bridge))

    def _made_again(self) -> frozenset[str]:
        """The bridges of both states that cannot change in place, and the VLANs on them."""
        again: set[str] = set()
        for name, seen in self._seen.items():  # parents come first
            wanted = self._desired.get(name)
            if wanted is None:
                continue
            orphan = bool(seen.parent) and (seen.parent in again or seen.parent not in self._seen)
            if orphan or (seen is not wanted and not same_kind(seen, wanted)):
                again.add(name)
        return frozenset(again)

    def _destroyed_last(self, left: set[str], again: frozenset[str]) -> frozenset[str]:
        """The bridges that go but must outlive the moves away from those that are in `left`."""
        gone = [bridge for name, bridge in self._seen.items() if name not in self._desired]
        if not gone:
            return frozenset()
        tags = {(bridge.parent, bridge.vlan_tag) for bridge in self._desired.values() if bridge.parent}
        late = {
            bridge.name
            for bridge in gone
            if bridge.name in left
            and (
                not bridge.parent
                or (
                    (bridge.parent, bridge.vlan_tag) not in tags
                    and bridge.parent in self._seen
                    and bridge.parent not in again
                )
            )
        }
        late |= {
            bridge.parent for bridge in gone if bridge.name in late and bridge.parent not in self._desired
        }
        return frozenset(late - {""})

    def first_steps(self) -> list[BridgeStep]:
        """The changes before ports arrive, in the preferred order; `schedule` makes them possible."""
        steps: list[BridgeStep] = [
            DestroyBridge(bridge=self._seen[name]) for name in self._in_reverse(self.early)
        ]
        for seen, wanted in self._changed:
            target = replace(wanted, uplink=seen.uplink, ip=seen.ip)
            if seen != target and wanted.mtu_bytes >= seen.mtu_bytes:
                steps.append(ReplaceBridge(old=seen, new=target))
        for name in self._in_reverse(self._late):
            steps += self._letting_go(self._seen[name])
        steps += [
            ReplaceUplink(name=a.name, old=a.uplink, new=b.uplink)
            for a, b in self._changed
            if a.uplink != b.uplink
        ]
        steps += [
            CreateBridge(bridge=bridge) for name, bridge in self._desired.items() if name not in self._kept
        ]
        steps += [SetAddresses(name=a.name, old=a.ip, new=b.ip) for a, b in self._changed if a.ip != b.ip]
        return steps

    def last_steps(self) -> list[Step]:
        """Destroy what nothing needs any more, then lower MTUs, VLANs' before their parents'."""
        steps: list[Step] = []
        for name in self._in_reverse(self._late):
            bridge = self._seen[name]
            for step in self._letting_go(bridge):
                bridge = (
                    replace(bridge, uplink=None)
                    if isinstance(step, ReplaceUplink)
                    else replace(bridge, ip=NO_IP)
                )
            steps.append(DestroyBridge(bridge=bridge))
        for seen, wanted in reversed(self._changed):
            if wanted.mtu_bytes < seen.mtu_bytes:
                steps.append(ReplaceBridge(old=replace(seen, uplink=wanted.uplink, ip=wanted.ip), new=wanted))
        return steps

    def _letting_go(self, bridge: Bridge) -> list[ReplaceUplink | SetAddresses]:
        """What a bridge gives up before it is destroyed last, because another bridge gets it."""
        steps: list[ReplaceUplink | SetAddresses] = []
        if self._claimed & uplink_claims(bridge.uplink):
            steps.append(ReplaceUplink(name=bridge.name, old=bridge.uplink, new=None))
        if self._claimed & address_claims(bridge.ip):
            steps.append(SetAddresses(name=bridge.name, old=bridge.ip, new=NO_IP))
        return steps

    def _in_reverse(self, names: Iterable[str]) -> list[str]:
        chosen = set(names)
        return [name for name in reversed(self._seen) if name in chosen]


def _parents_first(bridges: Iterable[Bridge]) -> dict[str, Bridge]:
    """By name, in an order in which each comes after its parent."""
    ordered = sorted(bridges, key=_BY_NAME)
    parents, vlans = [one for one in ordered if not one.parent], [one for one in ordered if one.parent]
    return {bridge.name: bridge for bridge in (*parents, *vlans)}


def _left(observed: tuple[GuestPort, ...], desired: tuple[GuestPort, ...]) -> set[str]:
    """The bridges from which ports move to another one."""
    if observed == desired:
        return set()
    wanted = {port.device: port.bridge for port in desired}
    return {port.bridge for port in observed if wanted.get(port.device, port.bridge) != port.bridge}
