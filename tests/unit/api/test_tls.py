"""Certificates, and clients of two ages on one listener."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import ssl
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from poolnet.api import tls
from poolnet.api.answer import Origin
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.http import HttpServer, Timeouts
from poolnet.pool import pki
from poolnet.xe.client import Client
from tests.unit.api.test_thincli import EXIT_0, HELLO, REQUEST
from tests.unit.api.toy import Toy, head_and_body, no_cli, post, until_connections, xml_call

NOW = dt.datetime.now(tz=dt.UTC)


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> tls.Identities:
    directory = tmp_path_factory.mktemp("state") / "tls"
    return tls.ensure_identities(directory, names=["host1"], addresses=["192.0.2.1", "fd00::1"], now=NOW)


def certificates_of(state_dir: Path) -> HostCertificates:
    return HostCertificates(
        state_dir / "tls",
        pki.pool_files(state_dir),
        names=["host1"],
        addresses=[],
        host_uuid=lambda: "9f0d2a0e-8f0a-4f7e-a3ab-000000000001",
        clock=lambda: NOW,
    )


def certificate(identity: tls.Identity) -> x509.Certificate:
    return x509.load_pem_x509_certificate(identity.certificate.read_bytes())


def test_both_certificates_name_the_host(identities: tls.Identities) -> None:
    for identity in (identities.ec, identities.rsa):
        made = certificate(identity)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["host1"]
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [
            "192.0.2.1",
            "fd00::1",
        ]
        assert made.not_valid_before_utc < NOW < made.not_valid_after_utc
    rsa_key, ec_key = certificate(identities.rsa).public_key(), certificate(identities.ec).public_key()
    assert isinstance(rsa_key, rsa.RSAPublicKey)
    assert rsa_key.key_size == 2048
    assert isinstance(ec_key, ec.EllipticCurvePublicKey)
    assert ec_key.curve.name == "secp256r1"


def test_keys_are_for_the_server_alone(identities: tls.Identities) -> None:
    for identity in (identities.ec, identities.rsa):
        assert stat.S_IMODE(identity.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(identities.ec.key.parent.stat().st_mode) == 0o700


def test_a_later_start_keeps_them_and_mends_half_a_pair(tmp_path: Path) -> None:
    first = tls.ensure_identities(tmp_path / "tls", names=[], addresses=[], now=NOW)
    before = {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()}
    tls.ensure_identities(tmp_path / "tls", names=["other"], addresses=[], now=NOW)
    assert {path.name: path.read_bytes() for path in (tmp_path / "tls").iterdir()} == before
    first.ec.certificate.unlink()
    tls.server_context(tls.ensure_identities(tmp_path / "tls", names=["x"], addresses=[], now=NOW))
    assert first.rsa.key.read_bytes() == before["rsa.key"]


def legacy_context(ciphers: str) -> ssl.SSLContext:
    """A client like the genuine `xe`: TLS 1.2, one cipher, the curve P-384, no verification (xe-cli §11.1)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    context.set_ecdh_curve("secp384r1")
    return context


def modern_context(trusted: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.fspath(trusted))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


async def ask(server: HttpServer, port: int, context: ssl.SSLContext) -> tuple[str, str, bytes]:
    """One call; gives the version of TLS, the cipher, and the server's certificate."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="host1")
    session = writer.get_extra_info("ssl_object")
    version, (cipher, _, _), shown = (
        session.version(),
        session.cipher(),
        session.getpeercert(binary_form=True),
    )
    writer.write(post("/", xml_call("toy.count")))
    status, _, _ = head_and_body(await reader.read())
    assert status.endswith("200 OK")
    writer.close()
    await writer.wait_closed()
    await until_connections(server, 0)
    return version, cipher, shown


def test_clients_of_every_age_are_served(identities: tls.Identities) -> None:
    toy = Toy()

    async def asking() -> None:
        server = HttpServer(toy, no_cli)
        port = server.listen_tcp("127.0.0.1", 0, tls=tls.server_context(identities))
        rsa_der, ec_der = (
            ssl.PEM_cert_to_DER_cert(identity.certificate.read_text())
            for identity in (identities.rsa, identities.ec)
        )
        for cipher in ("ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"):
            assert await ask(server, port, legacy_context(cipher)) == ("TLSv1.2", cipher, rsa_der)
        ecdsa = "ECDHE-ECDSA-AES256-GCM-SHA384"
        context = legacy_context(ecdsa)
        context.set_ecdh_curve("prime256v1")
        assert await ask(server, port, context) == ("TLSv1.2", ecdsa, ec_der)
        version, _, shown = await ask(server, port, modern_context(identities.ec.certificate))
        assert (version, shown) == ("TLSv1.3", ec_der)
        await server.close()

    asyncio.run(asking())
    assert all(origin.tls and origin.peer == "127.0.0.1" for _, _, origin in toy.calls)


def test_openssl_agrees_with_the_genuine_clients_choice(identities: tls.Identities) -> None:
    async def asking() -> tuple[str, int | None]:
        server = HttpServer(Toy(), no_cli)
        port = server.listen_tcp("127.0.0.1", 0, tls=tls.server_context(identities))
        command = f"openssl s_client -connect 127.0.0.1:{port} -tls1_2 -curves secp384r1 -brief"
        process = await asyncio.create_subprocess_exec(
            *command.split(), "-cipher", "ECDHE-RSA-AES256-GCM-SHA384",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        await server.close()
        return output.decode(), process.returncode

    output, code = asyncio.run(asking())
    assert code == 0, output
    assert "ECDHE-RSA-AES256-GCM-SHA384" in output
    assert "P-384" in output or "secp384r1" in output


def test_old_versions_of_tls_are_refused(identities: tls.Identities) -> None:
    context = tls.server_context(identities)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert not [
        cipher["name"]
        for cipher in context.get_ciphers()
        if "CBC" in cipher["name"] or "SHA1" in cipher["name"]
    ]


def test_new_certificates_are_used_from_the_next_connection_on(tmp_path: Path) -> None:
    own = certificates_of(tmp_path)
    identities = tls.identities_in(tmp_path / "tls")

    async def asking() -> None:
        server = HttpServer(Toy(), no_cli)
        port = server.listen_tcp("127.0.0.1", 0, tls=own.tls)
        old = await ask(server, port, modern_context(identities.ec.certificate))
        own.reset()
        new = await ask(server, port, modern_context(identities.ec.certificate))
        assert old[2] != new[2]
        await server.close()

    asyncio.run(asking())


def test_the_thin_command_line_takes_over_tls_connections_too(identities: tls.Identities) -> None:
    async def run(words: Sequence[str], client: Client, origin: Origin) -> None:
        assert origin.tls
        await client.exit(0)

    async def playing() -> bytes:
        server = HttpServer(Toy(), run)
        port = server.listen_tcp("127.0.0.1", 0, tls=tls.server_context(identities))
        context = legacy_context("ECDHE-RSA-AES256-GCM-SHA384")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="host1"
        )
        writer.write(REQUEST)
        assert await asyncio.wait_for(reader.readexactly(len(HELLO)), 10) == HELLO
        writer.write(HELLO)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        await writer.wait_closed()
        await until_connections(server, 0)
        await server.close()
        return answer

    assert asyncio.run(playing()) == EXIT_0


def test_half_a_handshake_holds_a_connection_only_for_a_while(identities: tls.Identities) -> None:
    async def playing() -> None:
        server = HttpServer(Toy(), no_cli, timeouts=Timeouts(handshake_s=0.3))
        port = server.listen_tcp("127.0.0.1", 0, tls=tls.server_context(identities))
        for beginning in (b"", b"\x16\x03\x01", b"POST / HTTP/1.0\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until_connections(server, 1)
            writer.write(beginning)
            assert len(await asyncio.wait_for(reader.read(), 10)) < 100
            writer.close()
            await writer.wait_closed()
            await until_connections(server, 0)
        await server.close()

    asyncio.run(playing())
