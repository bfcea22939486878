"""The genuine XenAPI package from PyPI talks to the server over HTTP, HTTPS and the Unix socket."""

from __future__ import annotations

import asyncio
import datetime as dt
import xmlrpc.client
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import XenAPI

from poolnet.api import tls
from poolnet.api.answer import Answer, Origin, Refusal, Success
from poolnet.api.decode import decode_value
from poolnet.api.http import HttpServer
from poolnet.api.wire import Wire
from poolnet.model.classes.vlan import VLAN
from poolnet.model.types import IntT, MapT, RecordT, Ref, RefT, SetT, StringT, VoidT
from tests.unit.api.toy import SESSION, no_cli

NOON = dt.datetime(2024, 1, 31, 12, 34, 56, tzinfo=dt.UTC)
ROW = VLAN(ref=Ref("OpaqueRef:v"), uuid="u", tag=7, other_config={"a<": "日本"})


class Host:
    """Enough of a host for a session."""

    def __init__(self) -> None:
        self.origins: list[Origin] = []

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        self.origins.append(origin)
        if method == "session.login_with_password":
            if params[1] != "secret" and not origin.local_root:
                return Refusal("SESSION_AUTHENTICATION_FAILED", (str(params[0]), "no"))
            return Success(RefT("session"), SESSION)
        if not params or params[0] != SESSION:
            return Refusal("SESSION_INVALID", (str(params[0]),))
        match method:
            case "session.logout":
                return Success(VoidT(), None)
            case "VLAN.get_record":
                return Success(RecordT("VLAN"), ROW)
            case "VLAN.get_all_records":
                return Success(MapT(RefT("VLAN"), RecordT("VLAN")), {"OpaqueRef:v": {"tag": 7}})
            case "VLAN.get_all":
                return Success(SetT(RefT("VLAN")), ())
            case "toy.sum":
                return Success(IntT(), sum(decode_value(SetT(IntT()), params[1])))  # type: ignore[arg-type]
            case "toy.echo":
                return Success(StringT(), decode_value(MapT(StringT(), StringT()), params[1])["k"])  # type: ignore[index,call-overload]
        return Refusal("MESSAGE_METHOD_UNKNOWN", (method,))


def converse(connect: Callable[[int, Path], Any], tmp_path: Path) -> Host:
    """Runs a client's session in a thread, against a server on all three kinds of listener."""
    host = Host()

    def talk(plain: int, secure: int) -> None:
        session = connect(secure if "https" in connect.__name__ else plain, tmp_path)
        session.xenapi.login_with_password("root", "secret", "1.0", "tests")
        assert session.handle == SESSION
        record = session.xenapi.VLAN.get_record("OpaqueRef:v")
        assert record["tag"] == "7"
        assert record["other_config"] == {"a<": "日本"}
        assert session.xenapi.VLAN.get_all_records() == {"OpaqueRef:v": {"tag": "7"}}
        assert session.xenapi.VLAN.get_all() == []
        assert session.xenapi.toy.sum(["1", 2, "39"]) == "42"
        assert session.xenapi.toy.echo({"k": " <&>\"'\n\t日本 "}) == " <&>\"'\n\t日本 "
        with pytest.raises(XenAPI.Failure) as caught:
            session.xenapi.no.such("x")
        assert caught.value.details == ["MESSAGE_METHOD_UNKNOWN", "no.such"]
        with pytest.raises(xmlrpc.client.ProtocolError) as refused:
            session.xenapi.toy.echo(xmlrpc.client.Binary(b"x"))
        assert refused.value.errcode == 500
        session.xenapi.session.logout()
        session("close")()

    async def playing() -> None:
        server = HttpServer(host, no_cli)
        identities = tls.ensure_identities(
            tmp_path / "tls", names=["localhost"], addresses=["127.0.0.1"], now=NOON
        )
        plain = server.listen_tcp("127.0.0.1", 0)
        secure = server.listen_tcp("127.0.0.1", 0, tls=tls.server_context(identities))
        server.listen_unix(tmp_path / "xapi", mode=0o600)
        await asyncio.to_thread(talk, plain, secure)
        await server.close()

    asyncio.run(playing())
    return host


def over_http(port: int, _: Path) -> Any:
    return XenAPI.Session(f"http://127.0.0.1:{port}/")


def over_https(port: int, _: Path) -> Any:
    return XenAPI.Session(f"https://127.0.0.1:{port}/", ignore_ssl=True)


def over_the_socket(_: int, tmp_path: Path) -> Any:
    # Its transport turns underscores into slashes, so the path must have none of its own.
    assert "_" not in str(tmp_path)
    return XenAPI.Session(f"http://{str(tmp_path).replace('/', '_')}_xapi/", transport=XenAPI.UDSTransport())


def test_a_session_over_http(tmp_path: Path) -> None:
    host = converse(over_http, tmp_path)
    assert not any(origin.tls or origin.local_root for origin in host.origins)


def test_a_session_over_https(tmp_path: Path) -> None:
    host = converse(over_https, tmp_path)
    assert all(origin.tls for origin in host.origins)


def test_a_session_over_the_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    host = converse(over_the_socket, tmp_path_factory.mktemp("uds"))
    assert all(origin.local_root for origin in host.origins)


def test_a_wrong_password_is_a_failure(tmp_path: Path) -> None:
    host = Host()

    def talk(port: int) -> None:
        session = over_http(port, tmp_path)
        with pytest.raises(XenAPI.Failure) as caught:
            session.xenapi.login_with_password("root", "wrong", "1.0", "tests")
        assert caught.value.details == ["SESSION_AUTHENTICATION_FAILED", "root", "no"]
        session("close")()

    async def playing() -> None:
        server = HttpServer(host, no_cli)
        await asyncio.to_thread(talk, server.listen_tcp("127.0.0.1", 0))
        await server.close()

    asyncio.run(playing())
