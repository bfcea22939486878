"""How does a guest get from one host to another within a rollout? See docs/decisions/0016.

`rollout` has both hosts switched, the guest waiting at both, and then what belongs to the guest sent from one to the other.
After the commit it goes on where the database says, and is removed where it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import WAITING, GuestFacts, HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref

A = TypeVar("A", bound=protocol.Answer)
ASK_S: Final = 30.0


class Asked(Protocol):
    """The hosts, as far as they are asked here."""

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        """A host's answer; raises `HostRefused` or `HostGone`."""


class Acting(Protocol):
    """What is done on one host."""

    before: list[protocol.GuestAction]


@dataclass(frozen=True, slots=True)
class Move:
    """One guest on its way."""

    vm_uuid: str
    source: Ref[Host]
    destination: Ref[Host]


def moves(works: Mapping[Ref[Host], Acting]) -> tuple[Move, ...]:
    """The guests that go from one of these hosts to another."""
    departing = {
        action.vm_uuid: host
        for host, work in works.items()
        for action in work.before
        if isinstance(action, protocol.DepartGuest)
    }
    return tuple(
        Move(action.guest.vm_uuid, departing[action.guest.vm_uuid], host)
        for host, work in works.items()
        for action in work.before
        if isinstance(action, protocol.ReceiveGuest)
    )


def takes_part(work: Acting) -> bool:
    """Whether a guest leaves the host, or comes to it from another."""
    return any(isinstance(action, protocol.DepartGuest | protocol.ReceiveGuest) for action in work.before)


async def send(hosts: Asked, moving: Iterable[Move]) -> None:
    """Sends what belongs to guests that wait at both hosts. Raises HostRefused, HostGone."""
    for move in moving:
        image = await hosts.ask(
            move.source, protocol.ReadGuest(vm_uuid=move.vm_uuid), protocol.GuestImage, ASK_S
        )
        await hosts.ask(move.destination, protocol.LoadGuest(image=image), protocol.Done, ASK_S)


async def settle(hosts: Asked, host: Ref[Host], action: protocol.RunGuest | protocol.DestroyGuest) -> None:
    """Has a host let a guest go on, or end it. Raises HostRefused, HostGone."""
    await hosts.ask(host, protocol.SettleGuest(action=action), protocol.Done, ASK_S)


def waiting(facts: HostFacts) -> Iterator[GuestFacts]:
    """The guests that wait on a host."""
    return (guest for guest in facts.guests if guest.state in WAITING)
