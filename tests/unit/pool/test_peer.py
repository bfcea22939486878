"""Connections between hosts end when the other side is gone, also while nobody has anything to say."""

from __future__ import annotations

import asyncio
import socket

from poolnet.pool.peer import KEEPALIVE_S, KEEPALIVES, notice_loss


def options(transport: asyncio.BaseTransport) -> tuple[int, int]:
    own: socket.socket = transport.get_extra_info("socket")
    return (
        own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        own.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )


def test_the_kernel_watches_a_connection_to_another_host() -> None:
    async def run() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert options(writer.transport) == (0, 0)
        notice_loss(writer.transport)
        assert options(writer.transport) == (1, 1000 * KEEPALIVE_S * KEEPALIVES)
        writer.close()
        server.close()

    asyncio.run(run())


def test_a_connection_that_leaves_no_machine_needs_no_watch() -> None:
    async def run() -> None:
        one, other = socket.socketpair()
        _, writer = await asyncio.open_connection(sock=one)
        notice_loss(writer.transport)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        writer.close()
        other.close()

    asyncio.run(run())
