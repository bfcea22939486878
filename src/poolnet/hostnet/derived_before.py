"""What of a host's state still holds since it was derived last? `derive` asks, and makes only the rest anew.

A part holds while no row that it was made from has changed; the database says which have. A pool of 64 hosts has some
hundred thousand rows, and a call changes a few of them on each host, or on one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from poolnet.db.txn import View
from poolnet.hostnet.derive_bridge import Lower, Sources
from poolnet.hostnet.derive_port import PortSources
from poolnet.hostnet.state import Bridge, GuestPort, HostNetwork
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.types import Ref, Row

_ROW_BY_ROW: Final[tuple[type[Row], ...]] = (PIF, VLAN, Network, VIF, VM)
_AS_A_WHOLE: Final[tuple[type[Row], ...]] = (Bond, Tunnel, NetworkSriov, PCI)  # few, and seldom


class VlanPart(NamedTuple):
    """A VLAN's bridge, and what it was made from, besides the PIF."""

    network: Ref[Network]
    vlan: Ref[VLAN]
    tagged: Ref[PIF]
    lower: str
    tag: int
    name: str


@dataclass(slots=True)
class Vlans:
    """The VLANs of a host, as they are taken over all together: each is its PIF's, and none is in the way of another."""

    parts: dict[Ref[PIF], VlanPart] = field(default_factory=dict)
    bridges: dict[str, Bridge] = field(default_factory=dict)
    tags: set[tuple[str, int]] = field(default_factory=set)
    of_networks: dict[Ref[Network], Ref[PIF]] = field(default_factory=dict)
    of_rows: dict[Ref[VLAN], Ref[PIF]] = field(default_factory=dict)
    lowers: dict[Ref[PIF], Lower] = field(default_factory=dict)
    gives: tuple[Ref[PIF] | None, Ref[PIF] | None] = (None, None)
    """The PIFs of the default route and the name servers."""
    is_whole: bool = False
    """Whether all VLANs that are attached are among them."""

    def add(self, pif: Ref[PIF], part: VlanPart, bridge: Bridge) -> None:
        """One more."""
        self.parts[pif] = part
        self.bridges[part.name] = bridge
        self.tags.add((part.lower, part.tag))
        self.of_networks[part.network] = self.of_rows[part.vlan] = pif

    def without(self, pifs: Iterable[Ref[PIF]]) -> Vlans:
        """A copy without these."""
        rest = replace(
            self,
            parts=dict(self.parts),
            bridges=dict(self.bridges),
            tags=set(self.tags),
            of_networks=dict(self.of_networks),
            of_rows=dict(self.of_rows),
        )
        for pif in pifs:
            rest.remove(pif)
        return rest

    def remove(self, pif: Ref[PIF]) -> None:
        """One less."""
        part = self.parts.pop(pif)
        del self.bridges[part.name], self.of_networks[part.network], self.of_rows[part.vlan]
        self.tags.discard((part.lower, part.tag))

    def touched(self, since: Changed) -> set[Ref[PIF]]:
        """The PIFs of which a row has changed."""
        found: set[Ref[PIF]] = {Ref(ref) for ref in since.pifs if ref in self.parts}
        found |= {self.of_networks[Ref(ref)] for ref in since.networks if ref in self.of_networks}
        return found | {self.of_rows[Ref(ref)] for ref in since.vlans if ref in self.of_rows}


@dataclass(slots=True)
class Parts:
    """What a host's state was put together from. Rows never change, so parts of the same rows are the same."""

    state: HostNetwork | None = None
    bridges: dict[Ref[PIF], tuple[Sources, Bridge]] = field(default_factory=dict)
    ports: dict[Ref[VIF], tuple[PortSources, GuestPort]] = field(default_factory=dict)
    pifs: dict[Ref[PIF], PIF] = field(default_factory=dict)
    others: Mapping[Ref[PIF], PIF] = field(default_factory=dict)
    """The PIFs that are attached and no VLANs, without their computed sets."""
    vlans: Vlans = field(default_factory=Vlans)
    has_tunnels: bool = False
    networks: set[Ref[Network]] = field(default_factory=set)
    """Those that have a say here; some of PIFs that are gone may be among them."""
    guests: Guests | None = None
    bridges_of_guests: frozenset[str] = frozenset()
    """Of the bridges that guests' networks would have, those that are there."""
    names_of_others: frozenset[str] = frozenset()
    """The bridges that networks would have for the sake of guests, or because they are to persist."""


@dataclass(frozen=True, slots=True)
class Guests:
    """The VMs that are live on a host, and their VIFs that are attached."""

    pairs: Sequence[tuple[VM, VIF]]
    vms: frozenset[Ref[VM]]
    vifs: frozenset[Ref[VIF]]
    networks: frozenset[Ref[Network]]


@dataclass(frozen=True, slots=True)
class Shared:
    """What is the same for all hosts. Networks are without their computed sets."""

    pool: Pool | None
    networks: Mapping[Ref[Network], Network]
    persistent: tuple[Ref[Network], ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """What the database showed at a time: its commits, and what a transaction had changed that may not be committed.

    Of rows, what is stored: what their computed sets are made from is followed itself.
    """

    commits: Mapping[type[Row], int]
    pending: Mapping[type[Row], Mapping[str, Row | None]]
    shared: Shared


@dataclass(frozen=True, slots=True)
class Changed:
    """The rows that a view shows other than they were at a mark."""

    pifs: frozenset[str]
    vlans: frozenset[str]
    networks: frozenset[str]
    vifs: frozenset[str]
    vms: frozenset[str]
    pifs_of: Mapping[Ref[Host], Sequence[Ref[PIF]]]
    """Those PIFs that are there now, by their host."""
    pifs_gone: Sequence[Ref[PIF]]
    guests_of: frozenset[Ref[Host]]
    """Where those VMs and VIFs are now."""

    def pifs_here(self, host: Ref[Host], parts: Parts) -> Sequence[Ref[PIF]]:
        """Those PIFs that are on a host, or were there."""
        return [*self.pifs_of.get(host, ()), *(ref for ref in self.pifs_gone if ref in parts.pifs)]

    def is_guest_of(self, host: Ref[Host], guests: Guests) -> bool:
        """Has a VM or VIF come, changed or gone there?"""
        return (
            host in self.guests_of
            or not self.vms.isdisjoint(guests.vms)
            or not self.vifs.isdisjoint(guests.vifs)
        )

    def touches(self, host: Ref[Host], parts: Parts) -> bool:
        """May any part of this host's state be another one now? What is not followed row by row is not asked."""
        return (
            parts.guests is None
            or (not parts.vlans.is_whole and bool(self.vlans))  # one may fit now
            or any(ref in parts.vlans.of_rows for ref in self.vlans)
            or host in self.pifs_of
            or (parts.has_tunnels and bool(self.pifs))  # they lead to the addresses of others
            or any(ref in parts.pifs for ref in self.pifs_gone)
            or not self.networks.isdisjoint(parts.networks)
            or self.is_guest_of(host, parts.guests)
        )


def mark(view: View, shared: Shared) -> Mark:
    """Remembers what a view shows."""
    commits = {cls: view.mark(cls) for cls in (*_ROW_BY_ROW, *_AS_A_WHOLE)}
    pending = {
        cls: {ref: view.stored(cls, Ref(ref)) for ref in view.changed_since(cls, number) or ()}
        for cls, number in commits.items()
    }
    return Mark(commits, pending, shared)


def changed(view: View, before: Mark, now: Shared) -> Changed | None:
    """What has changed since; None where that concerns all hosts, or nobody knows."""
    if now.pool != before.shared.pool or now.persistent != before.shared.persistent:
        return None
    rows: dict[type[Row], frozenset[str]] = {}
    for cls, number in before.commits.items():
        since = view.changed_since(cls, number)
        if since is None:
            return None
        pending = before.pending[cls]
        # What was pending then and is committed now has changed nothing.
        same = {ref for ref, row in pending.items() if view.stored(cls, Ref(ref)) == row}
        rows[cls] = (since | pending.keys()) - same
    if any(rows[cls] for cls in _AS_A_WHOLE):
        return None
    pifs_of: dict[Ref[Host], list[Ref[PIF]]] = {}
    pifs_gone: list[Ref[PIF]] = []
    for ref in rows[PIF]:
        pif = view.stored(PIF, Ref(ref))
        (pifs_of.setdefault(pif.host, []) if pif is not None else pifs_gone).append(Ref(ref))
    vifs = (view.find(VIF, Ref(ref)) for ref in rows[VIF])
    of_vms = {*rows[VM], *(vif.VM for vif in vifs if vif is not None)}
    vms = (view.find(VM, Ref(ref)) for ref in of_vms)
    return Changed(
        pifs=rows[PIF],
        vlans=rows[VLAN],
        networks=frozenset(
            ref for ref in rows[Network] if now.networks.get(Ref(ref)) != before.shared.networks.get(Ref(ref))
        ),
        vifs=rows[VIF],
        vms=rows[VM],
        pifs_of=pifs_of,
        pifs_gone=pifs_gone,
        guests_of=frozenset(vm.resident_on for vm in vms if vm is not None),
    )
