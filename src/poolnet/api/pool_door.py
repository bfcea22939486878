"""Where do the other hosts of the pool knock? A TCP port of its own, behind TLS that lets nobody in without a certificate.

Connections count from the moment they are accepted, as at the other doors, so that strangers who never finish their
handshake cannot take the file descriptors that this host needs.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

import structlog

from poolnet.api import limits
from poolnet.api.listener import Budget, Listener, Slot, bind_tcp
from poolnet.pool import pki, trusted
from poolnet.pool.authority import PoolFiles
from poolnet.pool.door import Answering, serve
from poolnet.pool.peer import notice_loss

log = structlog.get_logger("poolnet.api.door")

CONNECTIONS_MAX: Final = 256
CONNECTIONS_OF_MACHINE_MAX: Final = 64  # a member's console may be busy; a stranger takes no more than that
STREAM_BYTES: Final = 256 * 1024


class PoolDoor:
    """The listener of the door between hosts; closed until it is opened, and while the host has no management.

    Args:
        answering: What this host answers in its role.
        files: What it proves itself with, and checks others by.
        listen: The address to listen on, "" for all.
        port: The port, the same on all hosts.
        allowed: Whether it may be open now; see `allow`.
    """

    def __init__(
        self, answering: Answering, files: PoolFiles, listen: str, port: int, *, allowed: bool = True
    ) -> None:
        self._answering = answering
        self._files = files
        self._listen = listen
        self._port = port
        self._budget = Budget(CONNECTIONS_MAX, 0, CONNECTIONS_OF_MACHINE_MAX)
        self._listener: Listener | None = None
        self._context: ssl.SSLContext | None = None
        self._loop = asyncio.get_running_loop()
        self._wanted = False
        self._allowed = allowed
        self._serving: dict[asyncio.Task[None], Any] = {}

    def open(self) -> None:
        """Listens as soon as it may; nothing to do if it does. Raises OSError, of which ssl.SSLError is one."""
        self._wanted = True
        if self._listener is not None or not self._allowed:
            return
        context = pki.server_context(self._files)
        self._context = context
        context.sni_callback = self._hand_over
        self._listener = Listener(
            bind_tcp(self._listen, self._port),
            self._connection,
            self._budget,
            tls=context,
            handshake_timeout_s=limits.HANDSHAKE_TIMEOUT_S,
        )
        log.info("pool-door-open", port=self._port)

    def renew(self) -> None:
        """Shows the certificate that is in the files now, from the next connection on. Raises OSError."""
        self._context = pki.server_context(self._files)

    def drop_revoked(self) -> None:
        """Ends the connections of those whose certificate has been revoked. Any thread may call it."""
        if self._listener is not None:
            self._loop.call_soon_threadsafe(self._drop_revoked)

    def _drop_revoked(self) -> None:
        for task, shown in tuple(self._serving.items()):
            if trusted.refused_at_door(self._files, shown):
                log.warning("door-closed", reason="the certificate is revoked")
                task.cancel()

    def _hand_over(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        if self._context is not None:
            connection.context = self._context

    async def allow(self, allowed: bool) -> None:
        """Lets it be open, or closes it with all its connections until it may be open again. Raises OSError."""
        self._allowed = allowed
        if not allowed:
            await self.close()
        elif self._wanted:
            self.open()

    async def close(self) -> None:
        """Listens no more, and ends all connections."""
        if self._listener is not None:
            await self._listener.close()
            self._listener = None
        for task in tuple(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _connection(self, slot: Slot) -> asyncio.BaseProtocol:
        return _Connection(self, slot)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        if self._listener is None:  # closed since the connection was accepted: nobody would end it any more
            writer.close()
            return
        task = asyncio.current_task()
        shown = writer.get_extra_info("ssl_object")
        if trusted.refused_at_door(self._files, shown):
            log.warning("door-refused", reason="the certificate is revoked")
            writer.close()
            return
        if task is not None:
            self._serving[task] = shown
        try:
            await serve(self._answering, reader, writer)
        finally:
            if task is not None:
                self._serving.pop(task, None)


class _Connection(asyncio.StreamReaderProtocol):
    """A connection that counts until it is lost."""

    def __init__(self, door: PoolDoor, slot: Slot) -> None:
        reader = asyncio.StreamReader(limit=STREAM_BYTES, loop=asyncio.get_running_loop())
        super().__init__(reader, door.serve, loop=asyncio.get_running_loop())
        self._slot = slot

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        notice_loss(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gives its place back."""
        super().connection_lost(exc)
        self._slot.release()
