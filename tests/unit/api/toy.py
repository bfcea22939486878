"""A server with a toy behind it: what the tests of the wire half send their requests to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from poolnet.api.answer import Answer, Codec, Dispatch, Encoded, Origin, Refusal, Success
from poolnet.api.fragments import encode_value, member, struct
from poolnet.api.http import HttpServer, RunCli, Timeouts
from poolnet.api.wire import Wire
from poolnet.model.types import IntT, MapT, OptionT, RefT, SetT, StringT, VoidT
from poolnet.xe.client import Client
from tests.waiting import until

SESSION = "OpaqueRef:8e6f5a3c-1111-4c7e-9a1b-0123456789ab"


@dataclass
class Toy:
    """Answers a few methods, and remembers what it was asked."""

    calls: list[tuple[str, Sequence[Wire], Origin]] = field(default_factory=list)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    big: Encoded | None = None

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        self.calls.append((method, params, origin))
        match method:
            case "session.login_with_password":
                return Success(RefT("session"), SESSION)
            case "system.listMethods":
                return Success(SetT(StringT()), ("a.b", "c.d"), bare=True)
            case "toy.count":
                return Success(IntT(), len(params))
            case "toy.void":
                return Success(VoidT(), None)
            case "toy.nothing":
                return Success(OptionT(IntT()), None)
            case "toy.map":
                return Success(MapT(StringT(), IntT()), {"a": 1, "b<": 2})
            case "toy.booting":
                return Refusal("HOST_STILL_BOOTING", before_dispatch=True)
            case "toy.broken":
                raise RuntimeError("a bug")
            case "toy.wait":
                return await self._wait()
            case "toy.big" if self.big is not None:
                return Success(SetT(StringT()), self.big)
        return Refusal("MESSAGE_METHOD_UNKNOWN", (method,))

    async def _wait(self) -> Answer:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError("nothing ends the wait")


def big_value(members: int, size: int) -> Encoded:
    """A map of so many texts of that size, encoded beforehand."""
    fragments = {
        codec: struct(
            codec,
            [member(codec, f"k{n}", encode_value(codec, StringT(), "x" * size)) for n in range(members)],
        )
        for codec in Codec
    }
    return Encoded(lambda codec: fragments[codec])


async def no_cli(words: Sequence[str], client: Client, origin: Origin) -> None:
    """The command line of tests that have none."""
    raise AssertionError(f"{words} {client} {origin}")


@asynccontextmanager
async def serving(
    toy: Dispatch, run_cli: RunCli = no_cli, *, timeouts: Timeouts | None = None, connections_max: int = 100
) -> AsyncIterator[tuple[HttpServer, int]]:
    """A server on a port of loopback."""
    server = HttpServer(
        toy, run_cli, timeouts=timeouts, connections_max=connections_max, connections_reserved=2
    )
    port = server.listen_tcp("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.close()


async def exchange(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    """Sends bytes on a connection of its own, and gives all that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        if half_close:
            writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def post(path: str, body: bytes, *headers: str, version: str = "1.0") -> bytes:
    """A request with a body; HTTP/1.0, so that the server closes after it."""
    lines = (f"POST {path} HTTP/{version}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def xml_call(method: str, params: str = "") -> bytes:
    """A call as XML-RPC, with parameters as text of <param> elements."""
    return (
        f'<?xml version="1.0"?><methodCall><methodName>{method}</methodName>'
        f"<params>{params}</params></methodCall>"
    ).encode()


def head_and_body(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """Cuts an answer into status line, headers by lower-case name, and body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): text for name, _, text in (line.partition(": ") for line in lines)}
    return status, headers, body


async def until_connections(server: HttpServer, count: int) -> None:
    """Waits until the server has this many connections; the loop runs what is due in between."""
    await until(lambda: server.connections == count)
