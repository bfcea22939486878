"""Requests and answers on the level of HTTP: spec §1.1, and what a client must not be able to do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from pathlib import Path

import pytest

from poolnet.api.answer import CONFIRM_HEADER, Codec, Encoded
from poolnet.api.http import HttpServer, Timeouts
from poolnet.api.limits import RPC_BODY_BYTES_MAX, SEND_SLICE_BYTES
from tests.unit.api.toy import (
    Toy,
    big_value,
    exchange,
    head_and_body,
    no_cli,
    post,
    serving,
    until_connections,
    xml_call,
)

COUNT = b'{"method":"toy.count","params":[1,2],"id":1}'


def ask(request: bytes, toy: Toy | None = None) -> tuple[str, dict[str, str], bytes]:
    """One request to a fresh server."""

    async def asking() -> bytes:
        async with serving(toy or Toy()) as (_, port):
            return await exchange(port, request)

    return head_and_body(asyncio.run(asking()))


@pytest.mark.parametrize("path", ["/", "/RPC2", "/json"])
def test_xml_rpc_is_answered_with_xml(path: str) -> None:
    status, headers, body = ask(post(path, xml_call("toy.map")))
    assert status.endswith("200 OK")
    assert headers["content-type"] == "text/xml"
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "X-Requested-With"
    assert body == (
        b'<?xml version="1.0"?><methodResponse><params><param><value><struct>'
        b"<member><name>Status</name><value>Success</value></member><member><name>Value</name><value><struct>"
        b"<member><name>a</name><value>1</value></member><member><name>b&lt;</name><value>2</value></member>"
        b"</struct></value></member></struct></value></param></params></methodResponse>"
    )


def test_json_rpc_is_answered_with_json() -> None:
    status, headers, body = ask(post("/jsonrpc", COUNT))
    assert status.endswith("200 OK")
    assert headers["content-type"] == "application/json"
    assert headers["access-control-allow-origin"] == "*"
    assert body == b'{"result":2,"error":null,"id":1}'


def test_failures_have_the_status_200() -> None:
    status, _, body = ask(post("/", xml_call("no.such")))
    assert status.endswith("200 OK")
    assert b"<value>MESSAGE_METHOD_UNKNOWN</value><value>no.such</value>" in body


def test_errors_before_dispatch_have_their_own_form_in_json_only() -> None:
    _, _, body = ask(post("/jsonrpc", b'{"method":"toy.booting","params":[],"id":5}'))
    assert json.loads(body) == {"jsonrpc": "2.0", "error": ["HOST_STILL_BOOTING"], "id": 0}
    _, _, body = ask(post("/", xml_call("toy.booting")))
    assert b"<value>Failure</value>" in body


def test_the_list_of_methods_is_bare_in_xml_and_enveloped_in_json() -> None:
    _, _, body = ask(post("/", xml_call("system.listMethods")))
    assert body == (
        b'<?xml version="1.0"?><methodResponse><params><param><value><array><data><value>a.b</value>'
        b"<value>c.d</value></data></array></value></param></params></methodResponse>"
    )
    _, _, body = ask(post("/jsonrpc", b'{"jsonrpc":"2.0","method":"system.listMethods","id":1}'))
    assert json.loads(body)["result"] == ["a.b", "c.d"]


def test_void_and_nil_in_both_codecs() -> None:
    assert b"<name>Value</name><value></value>" in ask(post("/", xml_call("toy.void")))[2]
    assert b"<name>Value</name><value><nil/></value>" in ask(post("/", xml_call("toy.nothing")))[2]
    assert b'"result":""' in ask(post("/jsonrpc", b'{"method":"toy.void","params":[],"id":1}'))[2]
    assert b'"result":null' in ask(post("/jsonrpc", b'{"method":"toy.nothing","params":[],"id":1}'))[2]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post("/", b"hello"), 500),
        (post("/", b""), 500),
        (post("/jsonrpc", xml_call("toy.count")), 500),
        (post("/json", COUNT), 500),
        (post("/", xml_call("toy.broken")), 500),
        (b"POST / HTTP/1.0\r\n\r\n", 411),
        (b"POST / HTTP/1.0\r\nContent-Length: 307201\r\n\r\n", 413),
        (b"POST /cli HTTP/1.0\r\n\r\n", 500),
        (b"POST /cli HTTP/1.0\r\nContent-Length: 204801\r\n\r\n", 500),
        (b"GET / HTTP/1.0\r\n\r\n", 405),
        (b"GET /elsewhere HTTP/1.0\r\n\r\n", 404),
        (post("/RPC2/x", b""), 404),
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.0\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n" + b"X: x\r\n" * 200 + b"\r\n", 400),
    ],
)
def test_what_cannot_be_answered_gets_an_html_page(request_bytes: bytes, status: int) -> None:
    line, headers, body = ask(request_bytes)
    assert line.split(" ")[1] == str(status)
    assert headers["content-type"].startswith("text/html")
    assert body.startswith(b"<html>")
    assert b"hello" not in body


def test_a_body_of_the_limit_is_read() -> None:
    body = xml_call("toy.count")
    status, _, _ = ask(post("/", body + b" " * (RPC_BODY_BYTES_MAX - len(body))))
    assert status.endswith("200 OK")


def test_chunks_are_counted_too() -> None:
    request = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    assert ask(request + chunk * 10 + b"0\r\n\r\n")[0].split(" ")[1] == "413"


def test_a_compressed_body_is_not_unpacked() -> None:
    assert ask(post("/", xml_call("toy.count"), "Content-Encoding: gzip"))[0].endswith("200 OK")


def test_a_browser_may_ask_first() -> None:
    toy = Toy()
    status, headers, body = ask(
        b"OPTIONS /jsonrpc HTTP/1.0\r\nOrigin: https://elsewhere\r\nAccess-Control-Request-Headers: content-type\r\n\r\n",
        toy,
    )
    assert status.endswith("200 OK")
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-headers"] == "content-type, X-Requested-With"
    assert body == b""
    assert not toy.calls


def test_a_connection_serves_several_requests_and_100_continue() -> None:
    async def asking() -> None:
        async with serving(Toy()) as (server, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            body = xml_call("toy.count")
            head = (
                f"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            for _ in range(3):
                writer.write(head.encode())
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                writer.write(body)
                _, headers, _ = head_and_body(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(int(headers["content-length"]))
            assert server.connections == 1
            writer.close()
            await writer.wait_closed()
            await until_connections(server, 0)

    asyncio.run(asking())


def test_the_origin_says_who_asks(tmp_path: Path) -> None:
    toy = Toy()

    async def asking() -> None:
        async with serving(toy) as (server, port):
            await exchange(port, post("/", xml_call("toy.count"), "X-Word: first", "X-Word: second"))
            server.listen_unix(tmp_path / "socket", mode=0o660)
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(post("/", xml_call("toy.count")))
            assert b"Success" in await reader.read()
            writer.close()
            await writer.wait_closed()

    asyncio.run(asking())
    (_, _, remote), (_, _, local) = toy.calls
    assert (remote.local_root, remote.tls, remote.peer) == (False, False, "127.0.0.1")
    assert remote.headers["x-word"] == "first"
    assert (local.local_root, local.peer) == (True, "")
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize(
    ("text", "within_s"),
    [("7", 7.0), ("2.5", 2.5), ("-1", None), ("nan", None), ("1e9", None), ("soon", None)],
)
def test_a_member_passes_on_how_a_change_is_to_be_confirmed_and_nobody_else_says_so(
    tmp_path: Path, text: str, within_s: float | None
) -> None:
    toy = Toy()
    request = post("/", xml_call("toy.count"), f"{CONFIRM_HEADER}: {text}")

    async def asking() -> None:
        async with serving(toy) as (server, port):
            await exchange(port, request)
            server.listen_unix(tmp_path / "socket", mode=0o660)
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(request)
            await reader.read()
            writer.close()
            await writer.wait_closed()

    asyncio.run(asking())
    assert [origin.confirm_within_s for _, _, origin in toy.calls] == [None, within_s]


def test_a_dead_servers_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(os.fspath(path))

    async def starting() -> None:
        server = HttpServer(Toy(), no_cli)
        server.listen_unix(path, mode=0o600)
        (tmp_path / "file").write_text("precious")
        with pytest.raises(OSError, match="in use"):
            server.listen_unix(tmp_path / "file", mode=0o600)
        await server.close()

    asyncio.run(starting())
    assert (tmp_path / "file").read_text() == "precious"


def test_a_client_that_hangs_up_cancels_its_call() -> None:
    toy = Toy()

    async def asking() -> None:
        async with serving(toy) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post("/", xml_call("toy.wait")))
            await asyncio.wait_for(toy.waiting.wait(), 10)
            writer.close()
            await writer.wait_closed()
            await asyncio.wait_for(toy.cancelled.wait(), 10)
            await until_connections(server, 0)

    asyncio.run(asking())


@pytest.mark.parametrize(
    "beginning",
    [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost:", b"POST / HTTP/1.0\r\nContent-Length: 10\r\n\r\nabc"],
)
def test_a_client_that_never_finishes_is_put_out(beginning: bytes) -> None:
    async def asking() -> bytes:
        async with serving(Toy(), timeouts=Timeouts(body_s=0.2, keepalive_s=0.2)) as (server, port):
            answer = await asyncio.wait_for(exchange(port, beginning), 10)
            await until_connections(server, 0)
            return answer

    answer = asyncio.run(asking())
    assert answer == b"" or answer.split(b" ")[1] == b"408"


def test_a_client_that_reads_nothing_is_put_out() -> None:
    toy = Toy(big=big_value(40, SEND_SLICE_BYTES))

    async def asking() -> None:
        async with serving(toy, timeouts=Timeouts(send_stall_s=0.3)) as (server, port):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(post("/", xml_call("toy.big")))
                await until_connections(server, 1)
                await until_connections(server, 0)

    asyncio.run(asking())


def test_big_answers_come_whole() -> None:
    toy = Toy(big=big_value(1000, 3000))
    assert toy.big is not None
    expected = b"".join(toy.big.pieces(Codec.JSON))
    status, headers, body = ask(post("/jsonrpc", b'{"jsonrpc":"2.0","method":"toy.big","id":1}'), toy)
    assert status.endswith("200 OK")
    assert len(body) == int(headers["content-length"]) > 3_000_000
    assert body == b'{"jsonrpc":"2.0","result":' + expected + b',"id":1}'


@pytest.mark.parametrize(
    "sizes",
    [
        (),
        (0,),
        (1,),
        (SEND_SLICE_BYTES,),
        (SEND_SLICE_BYTES + 1,),
        (5, 3 * SEND_SLICE_BYTES + 1, 7),
        (SEND_SLICE_BYTES - 1, 1, 1, SEND_SLICE_BYTES * 2, SEND_SLICE_BYTES * 2, 0, 3),
        (1000,) * 2000,
    ],
)
def test_pieces_of_every_size_come_whole(sizes: tuple[int, ...]) -> None:
    pieces = [bytes([97 + number % 26]) * size for number, size in enumerate(sizes)]
    toy = Toy(big=Encoded(lambda _: pieces))
    _, headers, body = ask(post("/jsonrpc", b'{"jsonrpc":"2.0","method":"toy.big","id":1}'), toy)
    assert body == b'{"jsonrpc":"2.0","result":' + b"".join(pieces) + b',"id":1}'
    assert len(body) == int(headers["content-length"])


def test_too_many_connections_are_turned_away_and_local_root_still_gets_in(tmp_path: Path) -> None:
    async def asking() -> None:
        async with serving(Toy(), connections_max=5) as (server, port):
            server.listen_unix(tmp_path / "socket", mode=0o600)
            held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
            await until_connections(server, 3)
            with contextlib.suppress(ConnectionError):
                assert await exchange(port, b"") == b""
            assert server.connections == 3
            reader, writer = await asyncio.open_unix_connection(tmp_path / "socket")
            writer.write(post("/", xml_call("toy.count")))
            assert b"Success" in await reader.read()
            for _, each in [*held, (reader, writer)]:
                each.close()
                await each.wait_closed()
            await until_connections(server, 0)
            assert b"Success" in await exchange(port, post("/", xml_call("toy.count")))

    asyncio.run(asking())


def test_closing_lets_a_running_call_finish_only_for_a_while() -> None:
    toy = Toy()

    async def asking() -> None:
        async with serving(toy, timeouts=Timeouts(shutdown_s=0.2)) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post("/", xml_call("toy.wait")))
            await asyncio.wait_for(toy.waiting.wait(), 10)
        assert toy.cancelled.is_set()
        writer.close()
        await writer.wait_closed()

    asyncio.run(asking())
