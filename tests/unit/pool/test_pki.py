"""Who comes through the door between hosts: those with a certificate of the pool, under the uuid that it was made for."""

from __future__ import annotations

import asyncio
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from poolnet.pool import pki
from poolnet.pool.authority import PoolFiles

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POOL, FIRST, SECOND = (str(uuid4()) for _ in range(3))


def a_pool(directory: Path) -> PoolFiles:
    files = PoolFiles(directory)
    pki.make_pool(files, POOL, FIRST, datetime.now(UTC))
    return files


def a_member(coordinator: PoolFiles, directory: Path, uuid: str) -> PoolFiles:
    files = PoolFiles(directory)
    request = pki.request_certificate(files, uuid)
    certificate = pki.grant_certificate(coordinator, request, uuid, datetime.now(UTC))
    files.certificate.write_text(certificate)
    files.ca.write_bytes(coordinator.ca.read_bytes())
    return files


async def meet(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[str, str]:
    """Whom the two sides take each other for: the server's view of the client, and the client's of the server."""
    seen: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(pki.peer_uuid(writer.get_extra_info("ssl_object")))
        writer.write(b"!")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        if await reader.read(1) != b"!":
            raise ssl.SSLError("the server hung up")
        theirs = pki.peer_uuid(writer.get_extra_info("ssl_object"))
        writer.close()
        return await seen, theirs


def test_hosts_of_a_pool_know_each_other_by_uuid(tmp_path: Path) -> None:
    coordinator = a_pool(tmp_path / "a")
    member = a_member(coordinator, tmp_path / "b", SECOND)
    met = asyncio.run(meet(pki.server_context(coordinator), pki.client_context(member)))
    assert met == (SECOND, FIRST)


def test_a_host_of_another_pool_is_kept_out(tmp_path: Path) -> None:
    ours, theirs = a_pool(tmp_path / "a"), a_pool(tmp_path / "b")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(pki.server_context(ours), pki.client_context(theirs)))


def test_a_client_without_a_certificate_is_kept_out(tmp_path: Path) -> None:
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(meet(pki.server_context(a_pool(tmp_path)), nobody))


def test_a_certificate_is_for_the_uuid_that_was_admitted_whatever_was_asked_for(tmp_path: Path) -> None:
    coordinator = a_pool(tmp_path / "a")
    files = PoolFiles(tmp_path / "b")
    request = pki.request_certificate(files, FIRST)  # it would be the coordinator
    files.certificate.write_text(pki.grant_certificate(coordinator, request, SECOND, datetime.now(UTC)))
    files.ca.write_bytes(coordinator.ca.read_bytes())
    met = asyncio.run(meet(pki.server_context(coordinator), pki.client_context(files)))
    assert met[0] == SECOND


@pytest.mark.parametrize(
    "request_text", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\n", "x" * 20000]
)
def test_nonsense_gets_no_certificate(tmp_path: Path, request_text: str) -> None:
    with pytest.raises(pki.BadRequest):
        pki.grant_certificate(a_pool(tmp_path), request_text, SECOND, NOW)


def test_keys_and_the_secret_are_the_owners_alone(tmp_path: Path) -> None:
    files = a_pool(tmp_path)
    for path in (files.key, files.ca_key, files.secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
