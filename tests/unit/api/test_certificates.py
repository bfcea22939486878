"""A host's own certificates: which may be installed, that clients get the new one at once, alerts before the end."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from poolnet.api.certificate_calls import certify
from poolnet.api.certificate_checks import checked, stamp
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.http import HttpServer
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.message import Message
from poolnet.model.enums import CertificateType
from poolnet.model.failure import Failure
from poolnet.pool import pki, wire
from poolnet.rules import certificate as rules
from tests.unit.api.toy import Toy, no_cli, post, xml_call
from tests.unit.db.rows import a_host, a_uuid, create

NOW = dt.datetime(2026, 11, 29, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
HOST = "9f0d2a0e-8f0a-4f7e-a3ab-000000000001"


@cache
def key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def pem_of(private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def issued(
    name: str,
    private: rsa.RSAPrivateKey,
    issuer: tuple[str, rsa.RSAPrivateKey],
    *,
    start: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 90 * DAY,
    algorithm: hashes.SHA256 | hashes.SHA384 | None = None,
) -> str:
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer[0])]))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(issuer[1], algorithm or hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


CA = ("ca", key(number=1))


def refusal(certificate: str, private_key: str, chain: str = "") -> list[str]:
    with pytest.raises(Failure) as refused:
        checked(certificate, private_key, chain, NOW)
    return [refused.value.code.removeprefix("SERVER_CERTIFICATE_"), *refused.value.params]


def test_each_flaw_has_its_code_in_the_order_of_the_reference() -> None:
    good, private = issued("host", key(), CA), pem_of(key())
    assert checked(good, private, issued("ca", CA[1], CA), NOW).count(b"BEGIN CERTIFICATE") == 2
    assert refusal("nonsense", "nonsense") == ["KEY_INVALID"]
    curve = pem_of(ec.generate_private_key(ec.SECP256R1()))
    assert refusal("nonsense", curve) == ["KEY_ALGORITHM_NOT_SUPPORTED", "1.2.840.10045.2.1"]
    assert refusal("nonsense", pem_of(key(1024))) == ["KEY_RSA_LENGTH_NOT_SUPPORTED", "1024"]
    assert refusal("nonsense", private) == ["INVALID"]
    assert refusal(good + private, private) == ["INVALID"]
    early, late = NOW + DAY, NOW - DAY / 2
    assert refusal(issued("host", key(), CA, start=early), private) == [
        "NOT_VALID_YET",
        stamp(NOW),
        stamp(early),
    ]
    assert refusal(issued("host", key(), CA, end=late), private) == ["EXPIRED", stamp(NOW), stamp(late)]
    assert refusal(good, pem_of(CA[1])) == ["KEY_MISMATCH"]
    weak = issued("host", key(), CA, algorithm=hashes.SHA384())
    assert refusal(weak, private) == ["SIGNATURE_NOT_SUPPORTED"]
    assert refusal(good, private, "nonsense") == ["CHAIN_INVALID"]
    assert refusal(good, private, issued("other", CA[1], CA)) == ["CHAIN_INVALID"]


def own_of(state_dir: Path, now: dt.datetime = NOW) -> HostCertificates:
    return HostCertificates(
        state_dir / "tls",
        pki.pool_files(state_dir),
        names=["host1"],
        addresses=[],
        host_uuid=lambda: HOST,
        clock=lambda: now,
    )


async def shown(
    port: int, name: str | None = None
) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """The certificate that a client of RSA gets, and its connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    return writer.get_extra_info("ssl_object").getpeercert(binary_form=True), reader, writer


def der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(serialization.Encoding.DER)


def test_a_new_certificate_is_served_at_once_and_connections_go_on(tmp_path: Path) -> None:
    own = own_of(tmp_path)

    async def body() -> None:
        server = HttpServer(Toy(), no_cli)
        port = server.listen_tcp("127.0.0.1", 0, tls=own.tls)
        first, reader, writer = await shown(port)
        assert first == der(own.server_pem())
        certificate = issued("host", key(), CA)
        own.install(certificate, pem_of(key()), issued("ca", CA[1], CA))
        for name in (None, "host1"):  # with and without a name in the client's first message
            now, _, other = await shown(port, name)
            assert now == der(certificate) == der(own.server_pem())
            other.close()
        writer.write(post("/", xml_call("toy.void")))
        assert b"Success" in await asyncio.wait_for(reader.readuntil(b"</methodResponse>"), 5)
        own.reset()
        last, _, other = await shown(port)
        assert last not in (first, der(certificate))
        for each in (writer, other):
            each.close()
        await server.close()

    asyncio.run(body())


def test_what_is_installed_is_kept_over_a_restart_and_its_key_is_for_the_server_alone(tmp_path: Path) -> None:
    own_of(tmp_path).install(issued("host", key(), CA), pem_of(key()), "")
    again = own_of(tmp_path)
    assert der(again.server_pem()) == der(issued_pem(tmp_path))
    assert (tmp_path / "tls/installed.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "tls/installed.pem").write_text("broken")
    own_of(tmp_path)  # serves with its own


def issued_pem(state_dir: Path) -> str:
    text = (state_dir / "tls/installed.pem").read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :]


def test_certificates_are_renewed_before_they_end(tmp_path: Path) -> None:
    files = pki.pool_files(tmp_path)
    pki.make_pool(files, a_uuid(), HOST, NOW)
    own = own_of(tmp_path)
    before = (own.server_pem(), own.internal_pem())
    own.renew_due()
    assert (own.server_pem(), own.internal_pem()) == before
    heard: list[str] = []
    later = own_of(tmp_path, NOW + 3640 * DAY)
    later.on_refresh(lambda: heard.append("door"))
    later.renew_due()
    assert later.server_pem() != before[0]
    assert later.internal_pem() != before[1]
    assert heard == ["door"]
    certificate = x509.load_pem_x509_certificate(later.internal_pem().encode())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(files.ca.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"urn:uuid:{HOST}"]


def test_a_renewal_that_a_crash_cut_short_is_finished(tmp_path: Path) -> None:
    files = pki.pool_files(tmp_path)
    pki.make_pool(files, a_uuid(), HOST, NOW)
    old = (files.key.read_bytes(), files.certificate.read_bytes())
    pki.renew_certificate(files, HOST, NOW)
    new = (files.key.read_bytes(), files.certificate.read_bytes())
    files.certificate.write_bytes(old[1])
    (files.directory / "host.new").write_bytes(new[0] + new[1])
    own_of(tmp_path)
    assert (files.key.read_bytes(), files.certificate.read_bytes()) == new
    pki.server_context(files)


def test_a_host_says_what_it_has_after_what_it_was_asked_for(tmp_path: Path) -> None:
    own = own_of(tmp_path)
    certificate = issued("host", key(), CA)
    done = certify(own, wire.Certify(action="install", certificate=certificate, key=pem_of(key())))
    assert (der(done.server), done.internal) == (der(certificate), "")
    assert certify(own, wire.Certify(action="show")) == done
    assert certify(own, wire.Certify(action="reset")).server != done.server


def test_alerts_come_30_14_and_7_days_before_the_end_and_at_it_once_each() -> None:
    database = Database.open(MemoryEngine())
    host = a_host("host1")
    create(database, host)
    seen = rules.Seen(
        type=CertificateType.HOST, not_before=NOW - DAY, not_after=NOW, sha256="AA:BB", sha1="CC"
    )
    txn = database.begin()
    rules.record(txn, host.ref, (seen,), a_uuid)
    rules.record(txn, host.ref, (seen,), a_uuid)
    assert txn.count(Certificate) == 1
    names = []
    for left in (40, 30, 29, 14, 10, 7, 1, 0, -1):
        rules.warn(txn, NOW - left * DAY, a_uuid)
        names.append([alert.name.removeprefix("HOST_SERVER_CERTIFICATE_") for alert in txn.all(Message)])
    assert names[0] == []
    assert names[2] == ["EXPIRING_30"]
    assert names[-1] == ["EXPIRING_30", "EXPIRING_14", "EXPIRING_07", "EXPIRED"]
    assert all(alert.obj_uuid == host.uuid for alert in txn.all(Message))
    rules.record(txn, host.ref, (), a_uuid)
    assert txn.count(Certificate) == 0
