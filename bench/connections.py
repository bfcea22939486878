"""Many calls at the same time to a host's API, over its Unix socket, for the benchmarks that need a real host."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from bench.server import Param, call_body

CONNECTIONS_MAX = 400  # more calls at once wait for one of these; the server has a limit, and so have clients
_VALUE = re.compile(r"<value>Success</value></member><member><name>Value</name><value>([^<]*)</value>")


class Connections:
    """Calls over a Unix socket. Connections are kept, as clients keep them; calls at once have one each."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._idle: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.LifoQueue()
        self.session = ""

    async def connect(self, count: int) -> None:
        """Opens that many connections."""
        for _ in range(count):
            self._idle.put_nowait(await asyncio.open_unix_connection(self._socket))

    async def call(self, method: str, *params: Param) -> str:
        """The answer's value. Raises RuntimeError for a failure."""
        reader, writer = await self._idle.get()
        if reader.at_eof():  # the server has closed it: it was idle for too long
            writer.close()
            reader, writer = await asyncio.open_unix_connection(self._socket)
        body = call_body(method, *params).encode()
        writer.write(f"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        answer = (await reader.readexactly(length)).decode()
        self._idle.put_nowait((reader, writer))
        found = _VALUE.search(answer)
        if found is None:
            raise RuntimeError(f"{method}: {answer}")
        return found[1]

    async def new_network(self, name: str) -> str:
        """Creates a network."""
        return await self.call("network.create", self.session, {"name_label": name, "other_config": {}})

    async def close(self) -> None:
        """Closes all connections."""
        while not self._idle.empty():
            _, writer = self._idle.get_nowait()
            writer.close()
            await writer.wait_closed()
