"""What does the HTTP side hand to the dispatcher, and what does it get back? Both code against these types.

The HTTP side parses a body, calls `Dispatch.dispatch`, and puts the answer in the envelope of the caller's codec. An
answer carries its value as Python values, or, where the bytes are at hand (cached record fragments), as `Encoded`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from poolnet.api.wire import Wire
from poolnet.model.types import Row, Value, WireType
from poolnet.pool.guard import CallerPath

CONFIRM_HEADER: Final = "x-poolnet-confirm-within"
"""How a member passes on that a change is to be confirmed within so many seconds."""


class Codec(StrEnum):
    """The two encodings of values. Also the name under which the database caches fragments."""

    XML = "xml"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: the path, and the body; and how what it changes is to be confirmed, if it says so."""

    path: str
    body: bytes
    confirm_within_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a call comes from.

    `local_root`: over the Unix socket, where whoever connects is root (spec §3.2); `member` is the uuid of the host whose
    console it is, if it is another one's. `peer` is the client's IP address,
    empty on the Unix socket. `headers` have lower-case names; a repeated one keeps its first value. `path` is the
    connection itself, if it came over a network; `confirm_within_s` is how the caller wants changes confirmed. `request`
    is the request as it came, for who passes it on. `certificate` is that of the client, DER, which TLS has checked.
    """

    local_root: bool
    tls: bool = False
    peer: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    path: CallerPath | None = None
    confirm_within_s: float | None = None
    request: Request | None = None
    member: str = ""
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value that is already encoded, or cheaply put together from encoded pieces (see `fragments`).

    `pieces` is called once, with the caller's codec, in the same turn of the event loop in which the answer arrives; what
    it gives may be read bit by bit, with pauses.
    """

    pieces: Callable[[Codec], Iterable[bytes]]
    shared: Shared | None = None
    """Where the encoded value is kept for others who get the same answer."""


class Shared:
    """One value for many clients: the first of them has it encoded, in small steps, and the others wait for it."""

    def __init__(self) -> None:
        self._locks: dict[Codec, asyncio.Lock] = {}
        self._kept: dict[Codec, Sequence[bytes]] = {}

    async def get(self, codec: Codec, make: Callable[[], Awaitable[Sequence[bytes]]]) -> Sequence[bytes]:
        """The pieces of the encoded value; `make` is called unless somebody has made it."""
        async with self._locks.setdefault(codec, asyncio.Lock()):
            kept = self._kept.get(codec)
            if kept is None:
                kept = self._kept[codec] = await make()
            return kept


@dataclass(frozen=True, slots=True)
class Success:
    """The call's result. A record may be given as its Row or as a mapping of wire field names.

    `bare` leaves out the Status/Value struct in XML-RPC; only system.listMethods answers so (spec §1.2).
    """

    wire_type: WireType
    value: Value | Row | Encoded
    bare: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The call failed: an API error code and its parameters.

    `before_dispatch` marks the errors of emergency mode, which JSON-RPC formats in its own way (spec §1.4).
    """

    code: str
    params: tuple[str, ...] = ()
    before_dispatch: bool = False


@dataclass(frozen=True, slots=True)
class Relayed:
    """Another host's answer, in the codec that the client asked in; it goes out as it is."""

    content_type: str
    body: bytes


Answer: TypeAlias = Success | Refusal | Relayed


class DownloadRefused(Exception):
    """A download is refused on the level of HTTP; `location` is where to ask instead."""

    def __init__(self, status: int, reason: str, location: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.location = location


Download: TypeAlias = Callable[[Mapping[str, str], Origin], Awaitable[AsyncIterator[bytes]]]
"""Gives what a `GET` asks for, by its query, in pieces. Raises DownloadRefused."""


class Dispatch(Protocol):
    """Carries out calls; `api.dispatch.Dispatcher` is the real one, tests have toys."""

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        """Answers a call. Raises nothing but CancelledError, when the client has gone."""
        ...
