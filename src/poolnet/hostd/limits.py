"""How does the kernel hold a guest's frames to a rate? Both backends ask; they differ in where its queue is.

What a guest sends waits in a token bucket (`netlink_limit`). The kernel forms queues only for what a link sends, so
frames that come in are taken to another link's queue first:

- BEFORE_BRIDGE: what comes in from the guest goes through an `ifb` link, and comes in again after it.
- BESIDE_SWITCH: the switch sends them into one end of a cable, and the other end sends them back. A switch in user space
  reads a guest's frames before the kernel would queue them, and Open vSwitch removes what others set at the ingress of
  its ports; this works for both of its datapaths.

The links are in our group, are called after the guest's interface, and end with the limit. Docs: decisions/0011.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from hashlib import sha256
from types import TracebackType
from typing import Final, Self

from poolnet.hostd import neighbours, netlink_codec
from poolnet.hostd.netlink_codec import Link
from poolnet.hostd.netlink_limit import Queue, queue_for
from poolnet.hostd.netlink_links import (
    OUR_GROUP,
    Change,
    DeleteLinks,
    Links,
    NewLink,
    Redirect,
    SetLink,
    SetQueue,
)
from poolnet.hostnet.state import GuestPort

KILOBYTE: Final = 1024
TAGS_BYTES: Final = 4
_NAME_LENGTH_MAX: Final = 15
_DIGEST_LENGTH: Final = 8
_EMPTY_AFTER_S: Final = 0.02  # what a switch in user space has not read yet when the queue is empty
_EMPTYING_S: Final = 2.0
_LOOK_S: Final = 0.005
_FREE: Final = Queue(rate=1 << 33, burst=64 << 20, limit=64 << 20)


class Place(StrEnum):
    """Where the queue is; the value is the kind of link."""

    BEFORE_BRIDGE = "ifb"
    BESIDE_SWITCH = "veth"


def limiter_of(device: str) -> str:
    """The link that limits a guest's interface: `lim1.0` for `vif1.0`."""
    return _named("lim", device)


def _return_of(device: str) -> str:
    """The other end of the cable that limits a guest's interface."""
    return _named("ret", device)


def _named(prefix: str, device: str) -> str:
    name = prefix + device.removeprefix("vif")
    if device.startswith("vif") and len(name) <= _NAME_LENGTH_MAX:
        return name
    return f"{prefix}-{sha256(device.encode()).hexdigest()[:_DIGEST_LENGTH]}"


class Limits:
    """The limits that are in force in this network namespace. Use it as a context."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._links = Links()
        self._are_some = True  # perhaps: an earlier daemon's

    def __enter__(self) -> Self:
        """Begins to listen to the kernel. Raises OSError."""
        self._links.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops listening; the limits stay."""
        self._links.__exit__(kind, error, trace)

    def rates(self, devices: Iterable[str]) -> dict[str, int]:
        """The rates, in kilobytes per second, of those of these guests' interfaces that are limited. Raises LinkError."""
        links = self._seen()
        limited = [device for device in devices if self._is_made(links, device)]
        if not limited:
            return {}
        queues = self._links.queues()
        found: dict[str, int] = {}
        for device in limited:
            queued = links[self._queued_at(device)]
            heard = links.get(self._heard_at(device))
            if queued.index not in queues or heard is None or not (queued.is_up and heard.is_up):
                continue
            if self._links.redirected(heard.index) == queued.index:
                found[device] = queues[queued.index].rate // KILOBYTE
        return found

    async def limit(self, ports: Iterable[GuestPort]) -> set[str]:
        """Holds these ports to their rates, those that are limited already without a lost frame.

        Returns the devices whose limiter was made. With BESIDE_SWITCH the frames have to be sent there. Raises LinkError
        or OSError.
        """
        wanted = tuple(ports)
        links = self._links.all()
        rates = self.rates(port.device for port in wanted)
        made: set[str] = set()
        changes: list[Change] = []
        for port in wanted:
            device, queued, heard = port.device, self._queued_at(port.device), self._heard_at(port.device)
            mtu = port.mtu_bytes + TAGS_BYTES
            if not self._is_made(links, device):
                await self._make(device, mtu)
                made.add(device)
            elif links[queued].mtu_bytes != mtu:
                changes += [SetLink(name=name, mtu_bytes=mtu) for name in self._links_of(device)]
            elif rates.get(device) == port.rate_kbytes_per_s:
                continue
            queue = queue_for(port.rate_kbytes_per_s * KILOBYTE, mtu)
            changes.append(SetQueue(name=queued, queue=queue))
            if device not in rates:
                changes += [SetLink(name=name, up=True) for name in self._links_of(device)]
                changes.append(Redirect(name=heard, to=queued))
        await self._links.change(changes)
        return made

    async def release(self, devices: Iterable[str]) -> None:
        """Lets all go that waits, and what comes later not wait. The limiters stay until `end`. Raises LinkError."""
        links = self._seen()
        there = [device for device in devices if self._is_made(links, device)]
        if not there:
            return
        await self._links.change([SetQueue(name=self._queued_at(device), queue=_FREE) for device in there])
        if self._place is Place.BEFORE_BRIDGE:
            links = self._links.all()
            heard = [self._heard_at(device) for device in there]
            await self._links.change([Redirect(name=name, to="") for name in heard if name in links])

    async def emptied(self, devices: Collection[str]) -> None:
        """Returns when nothing waits in the queues of these devices; not later than after two seconds."""
        links = self._seen()
        indexes = {links[self._queued_at(d)].index for d in devices if self._queued_at(d) in links}
        if not indexes:
            return
        deadline = asyncio.get_running_loop().time() + _EMPTYING_S
        while asyncio.get_running_loop().time() < deadline:
            waiting = self._links.queues()
            if not any(waiting[index].waiting for index in indexes & waiting.keys()):
                break
            await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(_EMPTY_AFTER_S)

    async def end(self, kept: Collection[str]) -> None:
        """Removes all limiters of this place but those of these devices. Raises LinkError."""
        names = {name for device in kept for name in self._links_of(device)}
        ours = (link for link in self._seen().values() if _is_limiter(link) and link.kind == self._place)
        gone = [link.name for link in ours if link.name not in names]
        if gone:
            await self._links.change([DeleteLinks(names=tuple(sorted(gone)))])
        self._are_some = bool(names)

    def _seen(self) -> Mapping[str, Link]:
        """The links, if there may be limiters: reading hundreds takes longer than all else that is looked at."""
        return self._links.all() if self._are_some else {}

    async def _make(self, device: str, mtu_bytes: int) -> None:
        self._are_some = True
        links = self._links.all()
        names = (limiter_of(device), _return_of(device))
        old = tuple(name for name in names if name in links and _is_limiter(links[name]))
        await self._links.change([DeleteLinks(names=old)])
        first, *other = self._links_of(device)
        peer = tuple(netlink_codec.peer_data(name, OUR_GROUP, mtu_bytes) for name in other)
        made = NewLink(name=first, kind=self._place.value, group=OUR_GROUP, mtu_bytes=mtu_bytes, data=peer)
        await self._links.change([made])
        for name in (first, *other):
            neighbours.silence_uplink(name)

    def _links_of(self, device: str) -> tuple[str, ...]:
        if self._place is Place.BEFORE_BRIDGE:
            return (limiter_of(device),)
        return limiter_of(device), _return_of(device)

    def _queued_at(self, device: str) -> str:
        return self._links_of(device)[-1]

    def _heard_at(self, device: str) -> str:
        return device if self._place is Place.BEFORE_BRIDGE else _return_of(device)

    def _is_made(self, links: Mapping[str, Link], device: str) -> bool:
        found = [links.get(name) for name in self._links_of(device)]
        return all(link is not None and _is_limiter(link) and link.kind == self._place for link in found)


def _is_limiter(link: Link) -> bool:
    return link.group == OUR_GROUP and link.name.startswith(("lim", "ret")) and link.kind in tuple(Place)
