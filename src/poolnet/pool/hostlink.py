"""How the pool talks to one host's daemon: numbered requests over its Unix socket, and the facts it reports.

The coordinator and start-up call it. It knows frames and nothing of what they mean; a link that breaks fails the
requests in flight with `HostGone` and is made anew by the next one.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.types import NULL, Ref

REQUEST_TIMEOUT_S = 300.0  # longer than any switch needs, shorter than a client's patience
RETRY_S = 0.5
RESTARTS_WITHIN_S = 5.0
"""A host that was lost is waited for so long; calls meanwhile are late instead of failed."""
STARTS_WITHIN_S = 20.0
"""A daemon, as long as its host is there: it reads all of the host's network before it serves, perhaps on a busy machine."""
RECONNECT_S = 0.05

A = TypeVar("A", bound=protocol.Answer)
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Makes a connection to a daemon. Raises OSError when it cannot be reached; see also `DaemonStarting`."""


class DaemonStarting(OSError):
    """The host was reached, and its daemon does not run, or does not serve yet."""


class HostGone(Exception):
    """The host's daemon cannot be reached, or went away before it answered; `host` is which, where that is known."""

    def __init__(self, reason: str = "", host: Ref[Host] = NULL) -> None:
        super().__init__(reason)
        self.host = host


class HostCutOff(HostGone):
    """A change has cut the host off: it goes back by itself, and is there again."""


class HostRefused(Exception):
    """The host's daemon refused or failed; nothing changed there."""

    def __init__(self, refused: protocol.Refused) -> None:
        super().__init__(f"{refused.fault}: {refused.message}")
        self.refused = refused


class HostLink:
    """A connection to one host daemon. Requests may be made at the same time; each gets its own answer."""

    def __init__(self, place: Path | Connect, *, waits: bool = True) -> None:
        """`place` is the daemon's socket, or what connects to it; `waits` is for one that was there a moment ago."""
        self.connect_to = place if not isinstance(place, Path) else partial(_open_unix, place)
        self._waits = waits
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[protocol.Answer]] = {}
        self._ids = count(1)
        self._connecting = asyncio.Lock()
        self._lost_at = -math.inf  # on the loop's clock

    async def request(
        self, command: protocol.Command, expect: type[A], timeout_s: float = REQUEST_TIMEOUT_S
    ) -> A:
        """Sends a command and returns its answer.

        A daemon that was there a moment ago is waited for before the command is sent; it may be starting again.

        Raises:
            HostGone: The daemon is not there, or did not answer in time.
            HostRefused: The daemon answered `Refused`.
        """
        await self._connect()
        request_id = next(self._ids)
        future: asyncio.Future[protocol.Answer] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            writer = self._writer
            if writer is None:
                raise HostGone("the link broke")
            frame = msgspec.json.encode(protocol.Request(id=request_id, command=command))
            writer.write(len(frame).to_bytes(4, "big") + frame)
            await writer.drain()
            async with asyncio.timeout(timeout_s):
                answer = await future
        except (ConnectionError, TimeoutError) as error:
            raise HostGone(f"{type(error).__name__}: {error}") from error
        finally:
            self._waiting.pop(request_id, None)
        if isinstance(answer, protocol.Refused):
            raise HostRefused(answer)
        if not isinstance(answer, expect):
            raise HostGone(f"expected {expect.__name__}, got {type(answer).__name__}")
        return answer

    async def watch(self, on_loss: Callable[[], None] | None = None) -> AsyncIterator[HostFacts]:
        """Yields the host's facts now and at every change, over a connection of its own, forever.

        When the daemon goes away it is asked again until it is back; `on_loss` is called each time it is lost.
        """
        async for news in self._news(protocol.Watch(), protocol.FactsChanged, on_loss):
            yield news.facts

    async def watch_locks(self) -> AsyncIterator[protocol.LocksSeen]:
        """Yields what the host's locks stop, and that somebody else has changed them; as `watch`."""
        async for news in self._news(protocol.WatchLocks(), protocol.LocksSeen, None):
            yield news

    async def _news(
        self, command: protocol.Command, expect: type[A], on_loss: Callable[[], None] | None
    ) -> AsyncIterator[A]:
        while True:
            try:
                async for news in self._news_once(command, expect):
                    yield news
            except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
                pass
            if on_loss is not None:
                on_loss()
            await asyncio.sleep(RETRY_S)

    async def _news_once(self, command: protocol.Command, expect: type[A]) -> AsyncIterator[A]:
        reader, writer = await self.connect_to()
        try:
            frame = msgspec.json.encode(protocol.Request(id=0, command=command))
            writer.write(len(frame).to_bytes(4, "big") + frame)
            await writer.drain()
            while True:
                answer = (await _read_frame(reader)).answer
                if isinstance(answer, expect):
                    yield answer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    @property
    def peer_address(self) -> str:
        """The IP address that it leads to; "" while it is broken, or leads over a Unix socket."""
        name = self._writer.get_extra_info("peername") if self._writer is not None else None
        return str(name[0]) if isinstance(name, tuple) else ""

    async def close(self) -> None:
        """Ends the connection; requests in flight fail."""
        task, self._reader_task = self._reader_task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        async with self._connecting:
            if self._reader is not None and self._reader.at_eof() and self._reader_task is not None:
                await asyncio.wait((self._reader_task,))  # it has yet to fail what was under way
            while self._writer is None:
                try:
                    reader, writer = await self.connect_to()
                except OSError as error:
                    within_s = STARTS_WITHIN_S if isinstance(error, DaemonStarting) else RESTARTS_WITHIN_S
                    if not self._waits or loop.time() - self._lost_at >= within_s:
                        raise HostGone(str(error)) from error
                    await asyncio.sleep(RECONNECT_S)
                else:
                    self._begin(reader, writer)

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._reader_task = asyncio.create_task(self._read(reader, writer), name="hostlink-reader")

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                reply = await _read_frame(reader)
                future = self._waiting.get(reply.id)
                if future is not None and not future.done():
                    future.set_result(reply.answer)
        except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            self._fail_all(HostGone(str(error)))
        finally:
            self._writer = None
            self._lost_at = asyncio.get_running_loop().time()
            self._fail_all(HostGone("the link was closed"))
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _fail_all(self, error: HostGone) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)


async def _open_unix(socket: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(str(socket))
    except OSError as error:
        raise DaemonStarting(f"{socket}: {error.strerror}") from error


async def _read_frame(reader: asyncio.StreamReader) -> protocol.Reply:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > protocol.FRAME_BYTES_MAX:
        raise msgspec.ValidationError(f"a frame of {length} bytes")
    return msgspec.json.decode(await reader.readexactly(length), type=protocol.Reply)
