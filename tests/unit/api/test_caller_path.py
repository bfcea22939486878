"""Whether a caller is still there, asked of real connections."""

from __future__ import annotations

import asyncio
import socket

from poolnet.api.caller_path import CallerConnection


def test_a_caller_that_waits_silently_is_still_there_and_its_connection_is_as_before() -> None:
    async def body() -> None:
        served: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            options = ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
            before = [connection.getsockopt(*option) for option in options]
            path = CallerConnection(connection)
            assert path.own_address == "127.0.0.1"
            there = await path.answers(10.0)
            assert [connection.getsockopt(*option) for option in options] == before
            served.set_result(there)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await served
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run(body())


def test_a_connection_that_has_ended_says_nothing_about_the_way() -> None:
    async def body() -> None:
        ended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = CallerConnection(writer.get_extra_info("socket"))
            writer.close()
            await writer.wait_closed()
            ended.set_result(await path.answers(10.0))

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await ended
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    asyncio.run(body())
