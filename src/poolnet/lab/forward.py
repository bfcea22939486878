"""How does the real machine reach a lab host's API? `python -m poolnet.lab.forward FD=ADDRESS:PORT …`, in the switch.

The listening sockets are inherited from the real machine's network, on 127.0.0.1; the connections are made from the
physical switch's, so that a host that is cut off the management network cannot be reached here either.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import suppress

_CONNECT_WITHIN_S = 10.0
_CHUNK_BYTES = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry one direction to its end, and pass the end on. Raises OSError when either side breaks."""
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def _carry(address: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Connect one client to the host, until both have ended or one breaks; then the other hears of it at once.

    Without an answer in time the client's connection is reset. Raises ExceptionGroup when one breaks.
    """
    try:
        async with asyncio.timeout(_CONNECT_WITHIN_S):
            far_reader, far_writer = await asyncio.open_connection(address, port)
    except OSError:
        writer.transport.abort()
        return
    try:
        async with asyncio.TaskGroup() as both:
            both.create_task(_pump(reader, far_writer))
            both.create_task(_pump(far_reader, writer))
    except ExceptionGroup:
        far_writer.transport.abort()
        writer.transport.abort()
        raise
    finally:
        far_writer.close()
        writer.close()


async def _serve(forwards: list[str]) -> None:
    servers = []
    for forward in forwards:
        fd, _, target = forward.partition("=")
        address, _, port = target.rpartition(":")

        async def accept(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            address: str = address,
            port: int = int(port),
        ) -> None:
            with suppress(OSError, ExceptionGroup):
                await _carry(address, port, reader, writer)

        servers.append(await asyncio.start_server(accept, sock=socket.socket(fileno=int(fd))))
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
