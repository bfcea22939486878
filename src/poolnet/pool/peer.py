"""How does a host reach another of its pool? Connections to its door, checked by the certificate that it presents.

The coordinator and members call it. Every connection says first what it is for; see `wire`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import structlog
from msgspec import Struct

from poolnet.pool import pki, wire

log = structlog.get_logger("poolnet.pool.peer")

CONNECT_S = 4.0  # to a host that is there and busy; a host that is not costs a caller that much
ANSWER_S = 10.0
KEEPALIVE_S = 3
KEEPALIVES = (
    4  # a host that does not answer as many is gone; one that is merely busy answers, for its kernel does
)
SHUTDOWN_S = 1.0  # for the goodbye of a connection; the other side may be gone
GOODBYE_S = 0.2  # how long somebody who goes on to something else waits for that
A = TypeVar("A", bound=Struct)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def notice_loss(transport: asyncio.BaseTransport) -> None:
    """Has the kernel end a connection whose other side is not there any more, also while nobody has anything to send."""
    own: socket.socket | None = transport.get_extra_info("socket")
    if own is None or own.family not in (socket.AF_INET, socket.AF_INET6):
        return
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVES)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * KEEPALIVE_S * KEEPALIVES)


class PeerGone(Exception):
    """The other host does not answer at its address, or is not who it should be."""


class PeerDenied(Exception):
    """The other host answered that it does not do that."""

    def __init__(self, denied: wire.Denied) -> None:
        super().__init__(denied.reason)
        self.denied = denied


class Peer:
    """Another host.

    Args:
        context: What this host proves itself with, and checks others by.
        port: The port of all hosts' doors.
        uuid: Whose certificate is expected, asked at each connection; "" for any host that `known` accepts.
        known: Whether a uuid is that of a host of the pool.
        revoked: Whether a TLS connection's other side shows a certificate that is revoked.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        port: int,
        uuid: Callable[[], str],
        known: Callable[[str], bool] = lambda _: True,
        *,
        revoked: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        self._context = context
        self._port = port
        self._uuid = uuid
        self._known = known
        self._revoked = revoked

    async def connect(self, address: str) -> Streams:
        """A connection to the host at that address; nothing is said yet. Raises PeerGone."""
        if not address:
            raise PeerGone("the host has no address")
        try:
            context = self._context()
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(
                    address, self._port, ssl=context, ssl_shutdown_timeout=SHUTDOWN_S
                )
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: the address is none
            raise PeerGone(f"{address}: {type(error).__name__} {error}".strip()) from error
        notice_loss(writer.transport)
        if context.verify_mode is ssl.CERT_NONE:  # this host is not to check certificates
            log.warning("certificate-not-checked", address=address)
            return reader, writer
        uuid = pki.peer_uuid(writer.get_extra_info("ssl_object"))
        expected = self._uuid()
        if self._revoked(writer.get_extra_info("ssl_object")):
            writer.close()
            raise PeerGone(f"{address} shows a certificate that is revoked")
        if (expected and uuid != expected) or not uuid or not self._known(uuid):
            writer.close()
            raise PeerGone(f"{address} is host {uuid or 'unknown'}, and not the one that was expected")
        return reader, writer

    async def open(self, address: str, opening: Struct) -> Streams:
        """A connection that the other side has granted what it is for. Raises PeerGone or PeerDenied."""
        reader, writer = await self.connect(address)
        try:
            async with asyncio.timeout(ANSWER_S):
                await wire.write(writer, opening)
                answer: wire.Granted | wire.Denied = await wire.read(reader, wire.Granted | wire.Denied)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, wire.BadFrame) as error:
            writer.close()
            raise PeerGone(f"{address}: {type(error).__name__} {error}".strip()) from error
        except BaseException:
            writer.close()
            raise
        if isinstance(answer, wire.Denied):
            writer.close()
            raise PeerDenied(answer)
        return reader, writer

    async def ask(self, address: str, question: Struct, expect: type[A], within_s: float = ANSWER_S) -> A:
        """Asks one question on a connection of its own. Raises PeerGone or PeerDenied."""
        async with self.connected(address) as (reader, writer):
            try:
                async with asyncio.timeout(within_s):
                    await wire.write(writer, question)
                    answer: wire.Reply = await wire.read(reader, wire.Reply)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, wire.BadFrame) as error:
                raise PeerGone(f"{address}: {type(error).__name__} {error}".strip()) from error
        if isinstance(answer, wire.Denied):
            raise PeerDenied(answer)
        if not isinstance(answer, expect):
            raise PeerGone(f"{address}: expected {expect.__name__}, got {type(answer).__name__}")
        return answer

    @asynccontextmanager
    async def connected(self, address: str) -> AsyncIterator[Streams]:
        """A connection that ends with the block. Raises PeerGone."""
        reader, writer = await self.connect(address)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await writer.wait_closed()
