"""How are two connections made one? Bytes go over from each to the other until both are done or one breaks."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from poolnet.pool.peer import GOODBYE_S, Streams

CHUNK_BYTES = 256 * 1024


async def join(one: Streams, other: Streams) -> None:
    """Passes bytes on in both directions; returns when a side has gone, with both connections closed."""
    ways = [
        asyncio.create_task(_pass_on(one[0], other[1])),
        asyncio.create_task(_pass_on(other[0], one[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for _, writer in (one, other):
            writer.close()
        for _, writer in (one, other):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await writer.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
