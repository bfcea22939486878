"""Which steps lead to a state that is mostly the state before? What `diff` says, found among the few bridges that count.

Simulated hosts ask: their states are values that were planned to, and most parts of the next one are the same objects. A
host daemon sees what is really there, each time anew, and uses `diff`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import is_
from typing import TypeVar

from poolnet.hostnet.diff import diff
from poolnet.hostnet.state import NO_IP, Bridge, HostNetwork
from poolnet.hostnet.steps import Plan

T = TypeVar("T")


def diff_of_few(sound: HostNetwork, desired: HostNetwork) -> Plan:
    """The plan of `diff(sound, desired)`, for a state without contradictions.

    VLANs that are the same object in both have no steps. They are left out together with their ports, but those that could
    matter to what differs: by their name, their tag, as its parent or its VLAN, or because management passes there.

    Raises ImpossibleStateError like `diff`.
    """
    same = sound.ports, sound.links, sound.sriov, sound.nbd_bridges
    if same != (desired.ports, desired.links, desired.sriov, desired.nbd_bridges) or sound.sriov:
        return diff(sound, desired)
    old, new = _unlike(sound.bridges, desired.bridges)
    differing = {bridge.name for bridge in (*old, *new)}
    named = {
        *differing,
        *(bridge.parent for bridge in new),
        *sound.nbd_bridges,
        sound.management_bridge,
        desired.management_bridge,
    }
    tags = {(bridge.parent, bridge.vlan_tag) for bridge in new}
    skipped = set(map(id, old))
    kept = [
        bridge
        for bridge in sound.bridges
        if id(bridge) not in skipped
        and (
            not bridge.parent
            or bridge.ip is not NO_IP
            or bridge.parent in differing
            or bridge.name in named
            or (bridge.parent, bridge.vlan_tag) in tags
        )
    ]
    names = differing.union(bridge.name for bridge in kept) if old else frozenset()
    ports = tuple(port for port in sound.ports if port.bridge in names) if names else ()
    return diff(
        replace(sound, bridges=(*kept, *old), ports=ports),
        replace(desired, bridges=(*kept, *new), ports=ports),
    )


def _unlike(old: Sequence[Bridge], new: Sequence[Bridge]) -> tuple[Sequence[Bridge], Sequence[Bridge]]:
    """Both without what they begin with, and what they end with, that is the same object in both."""
    first = _alike(old, new)
    last = min(_alike(old[::-1], new[::-1]), min(len(old), len(new)) - first)
    return old[first : len(old) - last], new[first : len(new) - last]


def _alike(old: Sequence[T], new: Sequence[T]) -> int:
    """How many both have in common at their beginnings."""
    return next(
        (number for number, same in enumerate(map(is_, old, new)) if not same), min(len(old), len(new))
    )
