"""Which NIC is the host's first, second, third, whatever the kernel calls it today?

Positions, not names, connect NICs to networks (spec §8.5: position 1 is on `xenbr1`). A NIC keeps its position when its
name changes, and one that replaces another in its slot takes over. `facts` reports positions, and the daemon has the
confirmed state follow the names. Rules: dataplane.md A13, user documentation "Which NIC is which".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import structlog

from poolnet.hostd.checkpoint import read_state, write_durably
from poolnet.hostnet.facts import NicFacts

LOG = structlog.stdlib.get_logger("poolnet.hostd.nic_order")
_NUMBERED: Final = re.compile(r"eth([0-9]{1,4})")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A position, and the NIC that has or last had it. `pci` is "" for a NIC on no PCI bus."""

    position: int
    name: str
    mac: str
    pci: str = ""
    present: bool = True


class NicOrder:
    """The positions of this host's NICs, kept on disk."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "nic-order.json"
        self._places: tuple[Place, ...] = read_state(self._path, tuple[Place, ...], ())

    def place(self, nics: Sequence[NicFacts]) -> tuple[tuple[NicFacts, ...], dict[str, str]]:
        """The NICs with their positions, and the new name of each that had another when it was last seen."""
        places = arrange(self._places, nics)
        before = {place.position: place.name for place in self._places}
        renamed = {
            before[place.position]: place.name
            for place in places
            if place.present and before.get(place.position, place.name) != place.name
        }
        if places != self._places:
            self._places = places
            try:
                write_durably(self._path, msgspec.json.encode(places))
            except OSError as error:
                LOG.warning("which NIC is which cannot be written down", error=str(error))
        if renamed:
            LOG.warning("NICs have other names than before", renamed=renamed)
        by_name = {place.name: place.position for place in places if place.present}
        return tuple(replace(nic, position=by_name[nic.name]) for nic in nics), renamed


def arrange(known: Sequence[Place], nics: Sequence[NicFacts]) -> tuple[Place, ...]:
    """Who has which position now, in the order of positions.

    A NIC has the position that its MAC address had; where several have the same address, as members of a bond may, their
    names decide. Else it replaces the NIC that was in its PCI slot (of a card with several NICs, each by the order of
    the addresses), or without a slot had its name, if that is gone. Else it is new: ethN gets position N if nobody ever
    had that, any other the position after the last.
    """
    arrangement = _Arrangement(known, nics)
    for same in (_same_name_and_mac, _same_mac, _same_slot, _same_name):
        for place, nic in tuple(same(arrangement)):
            arrangement.take(place, nic)
    return arrangement.finish()


class _Arrangement:
    """What is decided so far: `places` and `nics` are those that still wait."""

    def __init__(self, known: Sequence[Place], nics: Sequence[NicFacts]) -> None:
        self.places = {place.position: place for place in known}
        self.nics = {nic.name: nic for nic in nics}
        self.macs = Counter(nic.mac for nic in nics)
        self._done: dict[int, Place] = {}

    def take(self, place: Place, nic: NicFacts) -> None:
        """Gives a NIC that place, unless one of them has been given away already."""
        if place.position in self.places and nic.name in self.nics:
            del self.places[place.position], self.nics[nic.name]
            self._put(place.position, nic)

    def finish(self) -> tuple[Place, ...]:
        """Gives new NICs new positions, and keeps those of NICs that are gone."""
        self._done |= {
            position: msgspec.structs.replace(place, present=False) for position, place in self.places.items()
        }
        for nic in tuple(self.nics.values()):
            match = _NUMBERED.fullmatch(nic.name)
            wished = int(match[1]) if match else -1
            self._put(wished if wished >= 0 and wished not in self._done else self._next(), nic)
        return tuple(self._done[position] for position in sorted(self._done))

    def _next(self) -> int:
        wished = (match for nic in self.nics.values() if (match := _NUMBERED.fullmatch(nic.name)))
        return max([*self._done, *(int(match[1]) for match in wished)], default=-1) + 1

    def _put(self, position: int, nic: NicFacts) -> None:
        self._done[position] = Place(position=position, name=nic.name, mac=nic.mac, pci=nic.pci_bus_path)


_Pairs = Iterator[tuple[Place, NicFacts]]


def _same_name_and_mac(waiting: _Arrangement) -> _Pairs:
    for place in waiting.places.values():
        nic = waiting.nics.get(place.name)
        if nic is not None and nic.mac == place.mac:
            yield place, nic


def _same_mac(waiting: _Arrangement) -> _Pairs:
    by_mac = {nic.mac: nic for nic in waiting.nics.values() if waiting.macs[nic.mac] == 1}
    return ((place, by_mac[place.mac]) for place in waiting.places.values() if place.mac in by_mac)


def _same_slot(waiting: _Arrangement) -> _Pairs:
    slots: dict[str, tuple[list[Place], list[NicFacts]]] = {}
    for place in waiting.places.values():
        slots.setdefault(place.pci, ([], []))[0].append(place)
    for nic in waiting.nics.values():
        slots.setdefault(nic.pci_bus_path, ([], []))[1].append(nic)
    for slot, (places, nics) in slots.items():
        if slot and len(places) == len(nics):
            yield from zip(
                sorted(places, key=lambda place: place.mac),
                sorted(nics, key=lambda nic: nic.mac),
                strict=True,
            )


def _same_name(waiting: _Arrangement) -> _Pairs:
    for place in waiting.places.values():
        nic = waiting.nics.get(place.name)
        if nic is not None and (waiting.macs[nic.mac] > 1 or not (nic.pci_bus_path and place.pci)):
            yield place, nic
