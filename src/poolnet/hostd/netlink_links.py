"""Which links does the kernel have, and how are many of them changed at once? The Linux bridge's backend asks.

All changes of a batch go to the kernel in few writes. What was read stays valid until the kernel tells of a change:
its word is in the socket before the change is seen by anybody else, so looking there first is enough.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count
from types import TracebackType
from typing import Final, NamedTuple, Self

from poolnet.hostd import netlink_codec as codec
from poolnet.hostd import netlink_deaf, netlink_heard, netlink_limit, netlink_vxlan
from poolnet.hostd.netlink import LinkError
from poolnet.hostd.netlink_codec import Attribute, Ifla, Info, Link

OUR_GROUP: Final = 0x706E6562  # that of the links which this daemon makes
_GROUP_LINK: Final = 0x1  # RTMGRP_LINK
_SOL_NETLINK, _CAP_ACK, _EXT_ACK, _SO_RCVBUFFORCE = 270, 10, 11, 33
_TOGETHER: Final = 128  # messages in one write: their answers fit into the socket's buffer
_BUFFER_BYTES: Final = 8 * 1024 * 1024
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_ATTR_MESSAGE: Final = 1  # NLMSGERR_ATTR_MSG
_DELETE_GROUP: Final = 0x706E6474  # a number that nobody else uses: its links are deleted together
_DELETED_TOGETHER: Final = (
    32  # the kernel takes long for a bridge, and nobody else can change a link meanwhile
)
_TRIES: Final = 5  # of a dump that changes interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class NewLink:
    """Makes a link; `data` are the attributes of its kind, `lower` the name of the link that it is on.

    It is in the group from its first moment on: nothing else can be said of a link while it is made.
    """

    name: str
    kind: str
    group: int = 0
    mac: str = ""
    mtu_bytes: int = 0
    lower: str = ""
    data: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLink:
    """Changes a link; None leaves as it is. `master` "" takes it from its master; `port_data` needs its `port_kind`."""

    name: str
    group: int | None = None
    mac: str | None = None
    mtu_bytes: int | None = None
    master: str | None = None
    up: bool | None = None
    kind: str = ""
    data: tuple[Attribute, ...] = ()
    port_kind: str = ""
    port_data: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLinks:
    """Deletes links, all at once: one by one the kernel waits for each."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetDeaf:
    """Lets a link drop all broadcasts and multicasts that come in, or take them in again."""

    name: str
    deaf: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFarEnd:
    """Lets a VXLAN device flood what has to be flooded to an address as well, or send nothing there any more."""

    name: str
    address: str
    there: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteHeard:
    """Has the bridge of a port take a MAC address to be behind it, as if it had just heard it there; not of a port that is gone."""

    name: str
    mac: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetQueue:
    """Gives a link a token bucket through which all passes that it sends, or changes the one it has."""

    name: str
    queue: netlink_limit.Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Takes all that comes in at a link to the queue of another; "" for no longer."""

    name: str
    to: str


Change = NewLink | SetLink | DeleteLinks | SetDeaf | SetFarEnd | NoteHeard | SetQueue | Redirect


_MODULES: Final = {
    "vlan": "8021q",
    "bond": "bonding",
    "gretap": "ip_gre",
    "ip6gretap": "ip6_gre",
    "vxlan": "vxlan",
}


class LinkRefused(LinkError):
    """The kernel refused to change a link; `link` is its name."""

    def __init__(self, link: str, number: int, text: str) -> None:
        self.reason = text or os.strerror(number)
        super().__init__(f"{link}: {self.reason}")
        self.link = link
        self.number = number


class _Message(NamedTuple):
    """A message about a link, and the errors that are none."""

    link: str
    kind: int
    flags: int
    body: bytes
    harmless: frozenset[int] = frozenset()
    makes: str = ""  # the kind of link that it asks for


class Links:
    """The links of this network namespace. Use it as a context."""

    def __init__(self, *, tables_of: int = 0) -> None:
        self._tables_of = tables_of
        self._known: Mapping[str, Link] | None = None
        self._numbers = count(1)
        self._one_tells = threading.Lock()

    def __enter__(self) -> Self:
        """Begins to listen. Raises OSError."""
        self._asking = _netlink_socket(0)
        self._telling = _netlink_socket(0)  # in a thread of its own
        self._hearing = _netlink_socket(_GROUP_LINK)
        self._hearing.setblocking(False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops listening."""
        self._asking.close()
        self._telling.close()
        self._hearing.close()

    def all(self) -> Mapping[str, Link]:
        """All links by name; of VXLAN devices in the group `tables_of` also where they flood to. Raises LinkError."""
        if self._has_heard() or self._known is None:
            self._known = {link.name: link for link in self._dump()}
        tunnels = [
            link for link in self._known.values() if link.kind == "vxlan" and link.group == self._tables_of
        ]
        if not tunnels:
            return self._known
        return {**self._known, **{link.name: self._with_far_ends(link) for link in tunnels}}

    async def change(self, changes: Sequence[Change]) -> None:
        """Carries out changes in their order. Raises LinkRefused for the first refused; later ones may be done.

        A link that is to be deleted and is not there is no failure.
        """
        encoded = [one for change in changes for one in self._encoded(change)]
        for start in range(0, len(encoded), _TOGETHER):
            await asyncio.to_thread(self._send, encoded[start : start + _TOGETHER])

    def _encoded(self, change: Change) -> list[_Message]:
        """The messages of a change: whom it is about, type, flags, body."""
        match change:
            case NewLink():
                flags = codec.NLM_F_CREATE | codec.NLM_F_EXCL
                body = codec.link_body(0, 0, 0, _new_attributes(change))
                return [_Message(change.name, codec.RTM_NEWLINK, flags, body, makes=change.kind)]
            case SetLink():
                known = 0 if change.up is None else codec.IFF_UP
                body = codec.link_body(0, known if change.up else 0, known, _set_attributes(change))
                return [_Message(change.name, codec.RTM_NEWLINK, 0, body)]
            case SetDeaf(name=name, deaf=deaf):
                found = netlink_deaf.messages(_index_of(name), deaf=deaf)
                return [_Message(name, *message) for message in found]
            case SetFarEnd(name=name, address=address, there=True):
                return [_Message(name, *netlink_vxlan.addition(_index_of(name), address))]
            case SetFarEnd(name=name, address=address):
                number = _index_of(name)
                entries = (entry for entry in self._table(number) if entry.address == address)
                return [_Message(name, *netlink_vxlan.deletion(number, entry)) for entry in entries]
            case NoteHeard(name=name, mac=mac):
                port = _index_of(name)
                return [_Message(name, *netlink_heard.message(port, mac))] if port else []
            case SetQueue(name=name, queue=queue):
                return [_Message(name, *netlink_limit.queue_message(_index_of(name), queue))]
            case Redirect(name=name, to=to):
                index = _index_of(name)
                told = (
                    netlink_limit.redirect_messages(index, _required(name, to))
                    if to
                    else netlink_limit.stop_messages(index)
                )
                return [_Message(name, *message) for message in told]
            case DeleteLinks(names=names):
                there = [name for name in names if _index_of(name)]
                parts = (
                    there[start : start + _DELETED_TOGETHER]
                    for start in range(0, len(there), _DELETED_TOGETHER)
                )
                return [one for part in parts for one in _deletion(part)]

    def _send(self, messages: Sequence[_Message]) -> None:
        # A thread that took another's answers would leave that waiting for ever; one whose caller was
        # cancelled runs on beside the next caller's.
        with self._one_tells:
            self._exchange(messages)

    def _exchange(self, messages: Sequence[_Message]) -> None:
        waiting = {next(self._numbers): message for message in messages}
        self._telling.send(
            b"".join(
                codec.message(one.kind, one.flags | codec.NLM_F_ACK, number, one.body)
                for number, one in waiting.items()
            )
        )
        refused: LinkRefused | None = None
        while waiting:
            for kind, _, number, body in codec.messages_in(self._telling.recv(1 << 16)):
                message = waiting.pop(number, None)
                if message is None or kind != _ERROR:
                    continue
                code = _error_in(body)
                if code and code not in message.harmless and refused is None:
                    text = _lacks(message.makes) if code == errno.EOPNOTSUPP else ""
                    refused = LinkRefused(message.link, code, text or _reason(body))
        if refused is not None:
            raise refused

    def queues(self) -> Mapping[int, netlink_limit.SeenQueue]:
        """The token buckets by the number of their link. Raises LinkError."""
        bodies = self._bodies(netlink_limit.queues_request, codec.RTM_NEWQDISC)
        return dict(found for body in bodies if (found := netlink_limit.queue_in(body)) is not None)

    def redirected(self, index: int) -> int:
        """The number of the link to whose queue everything is taken that comes in at this one; 0 if it is not."""
        try:
            bodies = self._bodies(
                lambda number: netlink_limit.filters_request(number, index), codec.RTM_NEWTFILTER
            )
        except LinkError:  # it has just gone, or nothing is asked of what comes in there
            return 0
        return max((netlink_limit.target_in(body) for body in bodies), default=0)

    def _bodies(self, request: Callable[[int], bytes], wanted: int) -> list[bytes]:
        """The answers of one type."""
        return [body for kind, body in self._answers(request) if kind == wanted]

    def _dump(self) -> list[Link]:
        answers = self._answers(codec.dump_request)
        return [codec.link_in(body) for kind, body in answers if kind == codec.RTM_NEWLINK]

    def _with_far_ends(self, link: Link) -> Link:
        """The kernel tells nobody that listens for links when these change, so they are read each time."""
        flooded = (one for one in self._table(link.index) if one.mac == netlink_vxlan.EVERYBODY)
        return replace(link, far_ends=frozenset(one.address for one in flooded))

    def _table(self, index: int) -> list[netlink_vxlan.Entry]:
        """The table of a VXLAN device."""
        answers = self._answers(lambda number: codec.neighbours_dump_request(index, number))
        bodies = (body for kind, body in answers if kind == codec.RTM_NEWNEIGH)
        return [entry for body in bodies if (entry := netlink_vxlan.entry_in(body, index)) is not None]

    def _answers(self, request: Callable[[int], bytes]) -> list[tuple[int, bytes]]:
        """What the kernel answers to a dump that is asked for under a number: types and bodies."""
        for _ in range(_TRIES):
            found: list[tuple[int, bytes]] = []
            wanted = next(self._numbers)
            self._asking.send(request(wanted))
            interrupted = done = False
            while not done:
                for kind, flags, number, body in codec.messages_in(self._asking.recv(1 << 18)):
                    if number != wanted:
                        continue
                    interrupted |= bool(flags & codec.NLM_F_DUMP_INTR)
                    if kind == _ERROR:
                        raise LinkError(f"the links cannot be read: {os.strerror(_error_in(body))}")
                    if kind != _DONE:
                        found.append((kind, body))
                    done |= kind == _DONE
            if not interrupted:
                return found
        raise LinkError("the links change too often to be read")

    def _has_heard(self) -> bool:
        heard = False
        while True:
            try:
                self._hearing.recv(65536)
            except BlockingIOError:
                return heard
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # what was lost is a change like any other
                    raise
            heard = True


def _deletion(names: Sequence[str]) -> list[_Message]:
    """Puts links into a group and deletes that."""
    group = codec.attribute(Ifla.GROUP, codec.u32(_DELETE_GROUP))
    marked = [
        _Message(name, codec.RTM_NEWLINK, 0, codec.link_body(0, 0, 0, _name(name) + group)) for name in names
    ]
    return [*marked, _Message(", ".join(names), codec.RTM_DELLINK, 0, codec.link_body(0, 0, 0, group))]


def _new_attributes(link: NewLink) -> bytes:
    info: list[Attribute] = [(Info.KIND, link.kind.encode() + b"\0")]
    parts = [_name(link.name), codec.attribute(Ifla.GROUP, codec.u32(link.group))]
    if link.mac:
        parts.append(codec.attribute(Ifla.ADDRESS, codec.mac_bytes(link.mac)))
    if link.mtu_bytes:
        parts.append(codec.attribute(Ifla.MTU, codec.u32(link.mtu_bytes)))
    if link.lower:
        parts.append(codec.attribute(Ifla.LINK, codec.u32(_required(link.name, link.lower))))
    if link.data:
        info.append((Info.DATA, b"".join(codec.attribute(*one) for one in link.data)))
    parts.append(codec.nested(Ifla.LINKINFO, info))
    return b"".join(parts)


def _set_attributes(link: SetLink) -> bytes:
    parts = [_name(link.name)]
    if link.group is not None:
        parts.append(codec.attribute(Ifla.GROUP, codec.u32(link.group)))
    if link.mac is not None:
        parts.append(codec.attribute(Ifla.ADDRESS, codec.mac_bytes(link.mac)))
    if link.mtu_bytes is not None:
        parts.append(codec.attribute(Ifla.MTU, codec.u32(link.mtu_bytes)))
    if link.master is not None:
        master = _required(link.name, link.master) if link.master else 0
        parts.append(codec.attribute(Ifla.MASTER, codec.u32(master)))
    info: list[Attribute] = []
    if link.data:
        info.append((Info.KIND, link.kind.encode() + b"\0"))
        info.append((Info.DATA, b"".join(codec.attribute(*one) for one in link.data)))
    if link.port_data:
        info.append((Info.SLAVE_KIND, link.port_kind.encode() + b"\0"))
        info.append((Info.SLAVE_DATA, b"".join(codec.attribute(*one) for one in link.port_data)))
    if info:
        parts.append(codec.nested(Ifla.LINKINFO, info))
    return b"".join(parts)


def _name(name: str) -> bytes:
    return codec.attribute(Ifla.IFNAME, name.encode() + b"\0")


def _required(link: str, other: str) -> int:
    """The number of the link that `link` is to be on. Raises LinkRefused."""
    index = _index_of(other)
    if not index:
        raise LinkRefused(link, errno.ENODEV, f"there is no {other}")
    return index


def _index_of(name: str) -> int:
    """The number of a link, 0 if there is none."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return 0


def _error_in(body: bytes) -> int:
    return -int.from_bytes(body[:4], "little", signed=True)


def _lacks(kind: str) -> str:
    """What is missing where the kernel does not know how to make a link of that kind; "" for none."""
    module = f" (module {_MODULES[kind]})" if kind in _MODULES else ""
    return f"it has no driver for links of the kind {kind}{module}" if kind else ""


def _reason(body: bytes) -> str:
    """What the kernel says about its refusal, beside the number."""
    header_bytes = 4 + 16  # the error, and the header of the message that it is about
    for kind, content in codec.attributes_in(body, header_bytes):
        if kind == _ATTR_MESSAGE:
            return content.rstrip(b"\0").decode(errors="replace")
    return ""


def _netlink_socket(groups: int) -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        with suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        for option in (_CAP_ACK, _EXT_ACK):
            made.setsockopt(_SOL_NETLINK, option, 1)
        made.bind((0, groups))
    except OSError:
        made.close()
        raise
    return made
