"""Clients that hang up while their call changes a host: the call ends all the same, and nobody complains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
import structlog

from poolnet.api.logs import configure_logs
from poolnet.model.classes.network import Network
from poolnet.model.classes.task import Task
from poolnet.model.classes.vlan import VLAN
from tests.in_process import InProcess, with_server
from tests.unit.api.toy import serving, until_connections
from tests.unit.pool.test_coordinator import bridges, eth1, network_call, networks


@pytest.fixture
def logs() -> Iterator[StringIO]:
    stream = StringIO()
    configure_logs(stream)
    yield stream
    structlog.reset_defaults()


def xml_call(method: str, *params: str) -> bytes:
    texts = "".join(f"<param><value>{text}</value></param>" for text in params)
    body = f"<methodCall><methodName>{method}</methodName><params>{texts}</params></methodCall>".encode()
    return b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def send(port: int, request: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    return writer


async def until(server: InProcess, done: Callable[[], object]) -> None:
    """Waits for something that commits bring about."""
    while not done():
        await server.database.feed.wait(server.database.feed.number)


@pytest.mark.parametrize("abort", [False, True])
def test_a_call_in_a_rollout_ends_without_its_client(tmp_path: Path, logs: StringIO, abort: bool) -> None:
    async def body(server: InProcess) -> None:
        session = await server.sessions.login_with_password("root", "", "", local_root=True)
        (network,) = await networks(server, 1)
        server.host.gate = asyncio.Event()
        async with serving(server.dispatcher) as (http, port):
            writer = await send(port, xml_call("VLAN.create", session, eth1(server), "5", network))
            await server.host.at_gate.wait()
            if abort:
                writer.transport.abort()
            else:
                writer.close()
            await until_connections(http, 0)
            server.host.gate.set()
            await until(server, lambda: server.database.view.count(VLAN))
            await until(server, lambda: not server.database.view.count(Task))
        assert bridges(server.host.network) == {5}
        assert logs.getvalue() == ""

    with_server(tmp_path, body)


def test_a_call_whose_turn_has_not_come_is_withdrawn(tmp_path: Path, logs: StringIO) -> None:
    async def body(server: InProcess) -> None:
        session = await server.sessions.login_with_password("root", "", "", local_root=True)
        one, two = await networks(server, 2)
        server.host.gate = asyncio.Event()
        async with serving(server.dispatcher) as (http, port):
            first = await send(port, xml_call("VLAN.create", session, eth1(server), "5", one))
            await server.host.at_gate.wait()
            second = await send(port, xml_call("VLAN.create", session, eth1(server), "6", two))
            await until(server, lambda: server.database.view.count(Task) == 2)
            second.close()
            await until_connections(http, 1)
            server.host.gate.set()
            await server.coordinator.run(network_call("after it"))
            first.close()
        assert {vlan.tag for vlan in server.database.view.all(VLAN)} == {5}
        assert server.database.view.where(Network, name_label="after it")
        assert logs.getvalue() == ""

    with_server(tmp_path, body)
