"""Who may ask the host daemon for what, and in which frames? The Unix socket that the API server talks to.

Requests of one connection are carried out at the same time and answered as they are done; changes of the network take
their turn in `rollout`. A frame that breaks the schema is refused, and the connection goes on.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from poolnet.hostnet.protocol import (
    FRAME_BYTES_MAX,
    Answer,
    FactsChanged,
    Fault,
    LocksSeen,
    Refused,
    Reply,
    Request,
    Watch,
    WatchLocks,
)

LOG = structlog.stdlib.get_logger("poolnet.hostd.server")
REQUESTS_MAX = 128  # of one connection at the same time; more wait in the socket
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid
_LENGTH_BYTES = 4
_SOCKET_MODE = 0o660

Dispatch = Callable[[Request], Awaitable[Answer]]
News = FactsChanged | LocksSeen
Send = Callable[[News], Awaitable[None]]


class _Numbered(msgspec.Struct):
    """What can be read of a request that is otherwise wrong."""

    id: int = 0


class Server:
    """Serves connections."""

    def __init__(
        self,
        dispatch: Dispatch,
        watch: Callable[[Watch | WatchLocks, Send], Awaitable[None]],
        allowed_uids: frozenset[int],
    ) -> None:
        """`dispatch` answers a request and raises nothing but bugs; `watch` sends what is new until it is cancelled."""
        self._dispatch = dispatch
        self._watch = watch
        self._allowed_uids = allowed_uids
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._requests: set[asyncio.Task[None]] = set()

    async def start(self, path: Path, group: int) -> None:
        """Listens on a socket of mode 0660 that belongs to the group. Raises OSError."""
        self._server = await asyncio.start_unix_server(self._connected, sock=_listener(path, group))

    async def close(self) -> None:
        """Stops listening, lets requests end that change something, and closes the connections."""
        if self._server is not None:
            self._server.close()
        if self._requests:
            await asyncio.gather(*self._requests, return_exceptions=True)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio runs this in a task"  # noqa: S101 - for the type checker; nothing from outside is asserted
        self._connections.add(task)
        try:
            if self._is_allowed(writer.get_extra_info("socket")):
                await _Connection(self, reader, writer).serve()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the daemon does
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _is_allowed(self, peer: socket.socket) -> bool:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid in self._allowed_uids:
            return True
        LOG.warning("a connection is refused", uid=uid)
        return False

    def run(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Runs a request to its end, also when its client goes away."""
        task = asyncio.ensure_future(work)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    async def answer(self, request: Request) -> Answer:
        """The answer to a request; a bug in the daemon is one, too."""
        try:
            return await self._dispatch(request)
        except Exception as error:  # the outermost loop: a bug must not end the daemon
            LOG.exception("a request failed", command=type(request.command).__name__)
            return Refused(fault=Fault.SWITCH_FAILED, message=f"{type(error).__name__}: {error}")

    async def watch(self, command: Watch | WatchLocks, send: Send) -> None:
        """Sends what is new until cancelled."""
        await self._watch(command, send)


class _Connection:
    """One client."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()
        self._room = asyncio.Semaphore(REQUESTS_MAX)
        self._watches: list[asyncio.Task[None]] = []

    async def serve(self) -> None:
        """Reads frames until the client closes. Raises OSError or IncompleteReadError then."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
                if length > FRAME_BYTES_MAX:
                    message = f"a frame of {length} bytes is longer than {FRAME_BYTES_MAX}"
                    await self._send(Reply(id=0, answer=Refused(fault=Fault.MALFORMED, message=message)))
                    return  # where the next frame begins is unknown now
                await self._receive(await self._reader.readexactly(length))
        finally:
            for task in self._watches:
                task.cancel()
            await asyncio.gather(*self._watches, return_exceptions=True)

    async def _receive(self, frame: bytes) -> None:
        try:
            request = msgspec.json.decode(frame, type=Request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            refused = Refused(fault=Fault.MALFORMED, message=str(error))
            await self._send(Reply(id=_number_of(frame), answer=refused))
            return
        if isinstance(request.command, Watch | WatchLocks):
            self._watches.append(asyncio.create_task(self._send_news(request.id, request.command)))
            return
        await self._room.acquire()
        self._server.run(self._carry_out(request))

    async def _carry_out(self, request: Request) -> None:
        try:
            answer = await self._server.answer(request)
            with suppress(OSError):
                await self._send(Reply(id=request.id, answer=answer))
        finally:
            self._room.release()

    async def _send_news(self, request_id: int, command: Watch | WatchLocks) -> None:
        async def send(news: News) -> None:
            await self._send(Reply(id=request_id, answer=news))

        with suppress(OSError):
            await self._server.watch(command, send)

    async def _send(self, reply: Reply) -> None:
        frame = msgspec.json.encode(reply)
        async with self._sending:
            self._writer.write(len(frame).to_bytes(_LENGTH_BYTES) + frame)
            await self._writer.drain()


def _number_of(frame: bytes) -> int:
    """The id of a malformed request, if that much can be read; else 0."""
    try:
        return msgspec.json.decode(frame, type=_Numbered).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0


def _listener(path: Path, group: int) -> socket.socket:
    """A socket of mode 0660 at the path, in place of whatever was there. Raises OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    old_mask = os.umask(0o177)  # nobody else may connect before the owner is set
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(old_mask)
    os.chown(path, 0 if os.geteuid() == 0 else -1, group)
    path.chmod(_SOCKET_MODE)
    return listener
