"""The link to a host's daemon: what a call sees when the daemon goes away, comes back, or never was there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from poolnet.hostnet import protocol
from poolnet.pool import hostlink
from poolnet.pool.hostlink import DaemonStarting, HostGone, HostLink

GREETING = protocol.Greeting(
    version=protocol.PROTOCOL_VERSION, backend="none", hostname="h", boot_id="b", confirmed="c"
)


@asynccontextmanager
async def daemon(socket: Path, *, answering: bool = True) -> AsyncIterator[None]:
    """Greets whoever asks; gone with all its connections afterwards, as a process that is killed."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while answering:
                length = int.from_bytes(await reader.readexactly(4))
                request = msgspec.json.decode(await reader.readexactly(length), type=protocol.Request)
                frame = msgspec.json.encode(protocol.Reply(id=request.id, answer=GREETING))
                writer.write(len(frame).to_bytes(4) + frame)
            await reader.readexactly(4)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, socket)
    try:
        yield
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()
        await asyncio.to_thread(socket.unlink)


async def greeting(link: HostLink) -> protocol.Greeting:
    return await link.request(protocol.Hello(), protocol.Greeting)


@asynccontextmanager
async def link_to(socket: Path) -> AsyncIterator[HostLink]:
    link = HostLink(socket)
    try:
        yield link
    finally:
        await link.close()


def test_a_call_waits_for_a_daemon_that_is_starting_again(tmp_path: Path) -> None:
    socket = tmp_path / "s"

    async def body() -> None:
        async with link_to(socket) as link:
            async with daemon(socket):
                await greeting(link)
            await asyncio.sleep(0.02)  # the loop looks at its sockets
            late = asyncio.create_task(greeting(link))
            await asyncio.sleep(3 * hostlink.RECONNECT_S)  # nothing tells that it has tried
            assert not late.done()
            async with daemon(socket):
                assert await late == GREETING

    asyncio.run(body())


def test_a_call_under_way_fails_with_its_daemon(tmp_path: Path) -> None:
    socket = tmp_path / "s"

    async def body() -> None:
        async with link_to(socket) as link:
            async with daemon(socket, answering=False):
                call = asyncio.create_task(greeting(link))
                await asyncio.sleep(0.05)
            with pytest.raises(HostGone):
                await call

    asyncio.run(body())


def test_calls_fail_when_the_daemon_does_not_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    socket = tmp_path / "s"
    monkeypatch.setattr(hostlink, "STARTS_WITHIN_S", 0.1)

    async def body() -> None:
        async with link_to(socket) as link:
            with pytest.raises(HostGone):
                await greeting(link)
            async with daemon(socket):
                await greeting(link)
            for _ in range(2):
                with pytest.raises(HostGone):
                    await greeting(link)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("error", "waits"),
    [(OSError("no route"), False), (DaemonStarting("refused"), True)],
    ids=["the host is not there", "its daemon is not there"],
)
def test_a_daemon_is_waited_for_longer_than_a_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, *, waits: bool
) -> None:
    socket = tmp_path / "s"
    monkeypatch.setattr(hostlink, "RESTARTS_WITHIN_S", 0.1)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(socket)
        except OSError:
            raise error from None

    async def body() -> None:
        link = HostLink(connect)
        async with daemon(socket):
            await greeting(link)
        await asyncio.sleep(0.02)  # the loop looks at its sockets
        late = asyncio.create_task(greeting(link))
        await asyncio.wait((late,), timeout=5 * hostlink.RESTARTS_WITHIN_S)
        assert late.done() != waits
        async with daemon(socket):
            if waits:
                assert await late == GREETING
            else:
                with pytest.raises(HostGone, match="no route"):
                    await late
        await link.close()

    asyncio.run(body())


def test_whoever_is_cancelled_while_a_link_closes_ends(tmp_path: Path) -> None:
    """Who looks for a host by one link after another must not go on for ever, because its end came at that moment."""

    async def body() -> None:
        async with daemon(tmp_path / "s"), link_to(tmp_path / "s") as link:
            await greeting(link)
            closing = asyncio.create_task(link.close())
            await asyncio.sleep(0)  # it waits for what reads to end
            assert not closing.done()
            closing.cancel()
            await asyncio.wait((closing,))
            assert closing.cancelled()

    asyncio.run(body())
