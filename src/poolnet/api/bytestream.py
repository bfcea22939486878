"""How is a client's connection passed on to another host, byte by byte? The protocol that replaces aiohttp's on it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from poolnet.pool.pipes import CHUNK_BYTES

BUFFER_BYTES_MAX: Final = 256 * 1024  # received and not passed on: reading pauses above


class ByteStream(asyncio.Protocol):
    """A connection that was taken over; `former` is told when it is lost, so that the HTTP server forgets it."""

    def __init__(self, transport: asyncio.Transport, former: asyncio.Protocol) -> None:
        self._transport = transport
        self._former = former
        self._received: deque[bytes] = deque()
        self._size = 0
        self._over = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    def take_over(cls, transport: asyncio.Transport, former: asyncio.Protocol) -> ByteStream:
        """Takes a connection from the protocol that served it."""
        stream = cls(transport, former)
        transport.set_protocol(stream)
        transport.resume_reading()
        return stream

    def data_received(self, data: bytes) -> None:
        """Keeps what the client sent."""
        self._received.append(data)
        self._size += len(data)
        if self._size > BUFFER_BYTES_MAX:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> None:
        """The client closed its side: it is gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Wakes whoever waits, and lets the HTTP server forget the connection."""
        self._over = True
        self._news.set()
        self._writable.set()
        self._former.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def abort(self) -> None:
        """Hangs up."""
        self._transport.abort()

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes everything on, both ways, until either side is done; closes both."""
        ways = [asyncio.create_task(self._up(writer)), asyncio.create_task(self._down(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            self._transport.close()

    async def _up(self, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while True:
                while self._received:
                    data = self._received.popleft()
                    self._size -= len(data)
                    writer.write(data)
                    await writer.drain()
                if self._over:
                    return
                self._transport.resume_reading()
                self._news.clear()
                await self._news.wait()

    async def _down(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while (data := await reader.read(CHUNK_BYTES)) and not self._over:
                self._transport.write(data)
                await self._writable.wait()
