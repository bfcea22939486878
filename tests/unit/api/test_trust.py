"""CA certificates and revocation lists that somebody installs: their calls, and what they let in and keep out."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from poolnet.api import certificate_checks, trust_calls
from poolnet.api.certificate_checks import fingerprints
from poolnet.api.client_certificates import ClientCertificates
from poolnet.api.dispatch import Call, Dispatcher, Result
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.http import HttpServer
from poolnet.api.permissions import permission_of, require_certified_permission
from poolnet.api.pool_door import PoolDoor
from poolnet.api.trust_calls import TrustCalls
from poolnet.api.trust_library import TrustLibrary, valid_certificate
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.message import Message
from poolnet.model.classes.pool import Pool
from poolnet.model.classes.session import Session
from poolnet.model.enums import CertificateType
from poolnet.model.failure import Failure
from poolnet.model.registry import MESSAGES
from poolnet.model.types import NULL
from poolnet.pool import authority, pki, trusted, wire
from poolnet.pool.authority import Authority, PoolFiles, new_authority, own_authority, pem_of, pem_of_key
from poolnet.pool.coordinator import RuleCall
from poolnet.pool.peer import Peer, PeerGone
from poolnet.rules import certificate as rules
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session as Superuser
from tests.in_process import InProcess, with_server
from tests.unit.api.test_certificates import CA, issued, key
from tests.unit.api.test_permissions import EMPTY
from tests.unit.api.toy import no_cli, post, xml_call
from tests.unit.db.rows import a_uuid
from tests.unit.pool.test_pki import POOL, a_member, meet

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)
FIRST, SECOND = a_uuid(), a_uuid()


def revocation_list(ca: Authority, *serials: int) -> str:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca[0].subject)
        .last_update(NOW - 2 * DAY)
        .next_update(NOW - DAY)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(ca[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Trust:
    """The calls, on a server in this process."""

    server: InProcess
    files: PoolFiles
    changes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.messages = TrustCalls(
            database=self.server.database,
            coordinator=self.server.coordinator,
            members=None,  # type: ignore[arg-type]  # there is no other host
            host=next(iter(self.server.database.view.refs(Host))),
            library=TrustLibrary(self.server.coordinator, self.files, lambda: self.changes.append("changed")),
        ).messages()

    async def call(self, message: str, /, **arguments: Any) -> Result:
        if message not in self.messages:
            rule = RuleCall(method=message, rule=RULES[message], arguments=arguments, session=Superuser())
            return await self.server.coordinator.run(rule)
        call = Call(message=MESSAGES[message], arguments=arguments, live=None, origin=None)  # type: ignore[arg-type]  # nobody asks
        return await self.messages[message](call)

    async def refused(self, message: str, /, **arguments: Any) -> list[str]:
        with pytest.raises(Failure) as refused:
            await self.call(message, **arguments)
        return [refused.value.code, *refused.value.params]


def with_trust(tmp_path: Path, body: Callable[[Trust], Awaitable[None]]) -> None:
    with_server(tmp_path, lambda server: body(Trust(server, pki.pool_files(tmp_path))))


def test_a_ca_is_installed_listed_recorded_and_removed(tmp_path: Path) -> None:
    async def body(trust: Trust) -> None:
        install, remove = "pool.install_ca_certificate", "pool.uninstall_ca_certificate"
        good = issued("ca", CA[1], CA, start=NOW - DAY, end=NOW + DAY)
        for name in ("", "../up", "a/b", ".hidden", "a b", "x" * 65, "a\n"):
            assert await trust.refused(install, name=name, cert=good) == ["CERTIFICATE_NAME_INVALID", name]
            assert await trust.refused(remove, name=name) == ["CERTIFICATE_NAME_INVALID", name]
        for text in ("", "nonsense", "x" * 40_000, pem_of_key(new_authority(POOL, NOW)[1]).decode()):
            assert await trust.refused(install, name="one.pem", cert=text) == ["CA_CERTIFICATE_INVALID"]
        early = issued("ca", CA[1], CA, start=NOW + DAY, end=NOW + 2 * DAY)
        late = issued("ca", CA[1], CA, start=NOW - 2 * DAY, end=NOW - DAY)
        assert (await trust.refused(install, name="one.pem", cert=early))[0] == "CA_CERTIFICATE_NOT_VALID_YET"
        assert (await trust.refused(install, name="one.pem", cert=late))[0] == "CA_CERTIFICATE_EXPIRED"
        assert await trust.call("pool.certificate_list") == ()
        assert trust.changes == []
        await trust.call(install, name="one.pem", cert=good)
        await trust.call("pool.certificate_install", name="another", cert=good)
        assert await trust.refused(install, name="one.pem", cert="") == [
            "CERTIFICATE_ALREADY_EXISTS",
            "one.pem",
        ]
        assert await trust.call("pool.certificate_list") == ("another", "one.pem")
        rows = [row for row in trust.server.database.view.all(Certificate) if row.type is CertificateType.CA]
        assert sorted((row.name, row.host) for row in rows) == [("another", NULL), ("one.pem", NULL)]
        assert {row.not_after for row in rows} == {(NOW + DAY).replace(microsecond=0)}
        await trust.call("pool.certificate_uninstall", name="another")
        await trust.call(remove, name="one.pem", force=False)
        assert not any(row.type is CertificateType.CA for row in trust.server.database.view.all(Certificate))
        assert await trust.refused(remove, name="one.pem", force=False) == [
            "CERTIFICATE_DOES_NOT_EXIST",
            "one.pem",
        ]
        await trust.call(remove, name="one.pem", force=True)
        assert trust.files.trusted.stat().st_mode & 0o777 == 0o600

    with_trust(tmp_path, body)


def test_revocation_lists_have_codes_of_their_own(tmp_path: Path) -> None:
    async def body(trust: Trust) -> None:
        text = revocation_list(new_authority(POOL, NOW), 5)
        assert await trust.refused("pool.crl_install", name="a/b", cert=text) == ["CRL_NAME_INVALID", "a/b"]
        assert await trust.refused("pool.crl_install", name="c", cert="nonsense") == ["CRL_CORRUPT", "c"]
        await trust.call("pool.crl_install", name="c", cert=text)
        assert await trust.refused("pool.crl_install", name="c", cert=text) == ["CRL_ALREADY_EXISTS", "c"]
        assert await trust.call("pool.crl_list") == ("c",)
        assert await trust.call("pool.certificate_list") == ()
        assert await trust.refused("pool.crl_uninstall", name="..") == ["CRL_NAME_INVALID", ".."]
        assert await trust.refused("pool.crl_uninstall", name="d") == ["CRL_DOES_NOT_EXIST", "d"]
        await trust.call("pool.certificate_sync")
        await trust.call("pool.crl_uninstall", name="c")
        assert await trust.call("pool.crl_list") == ()

    with_trust(tmp_path, body)


def test_what_cannot_be_recorded_or_read_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(trust: Trust) -> None:
        good = issued("ca", CA[1], CA, start=NOW - DAY, end=NOW + DAY)

        async def fails(_: object) -> None:
            raise Failure("INTERNAL_ERROR", "told to fail")

        with monkeypatch.context() as broken:
            broken.setattr(trust.server.coordinator, "write", fails)
            refusal = await trust.refused("pool.install_ca_certificate", name="one", cert=good)
            assert refusal[0] == "INTERNAL_ERROR"
        assert await trust.call("pool.certificate_list") == ()
        trust.files.trusted.write_text("{")
        calls: tuple[tuple[str, dict[str, str]], ...] = (
            ("pool.certificate_list", {}),
            ("pool.crl_list", {}),
            ("pool.install_ca_certificate", {"name": "one", "cert": good}),
        )
        for name, arguments in calls:
            assert await trust.refused(name, **arguments) == ["CERTIFICATE_LIBRARY_CORRUPT"]

    with_trust(tmp_path, body)


class Hello:
    """A host that answers everybody who comes in, and keeps the connection."""

    def knows(self, uuid: str) -> bool:
        return True

    async def answer(
        self, uuid: str, opening: wire.Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await wire.write(writer, wire.Pong(role="member"))
        await reader.read()


async def hears(door_port: int, files: PoolFiles) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection of a host that has been answered at a door. Raises PeerGone."""
    peer = Peer(
        lambda: pki.client_context(files),
        door_port,
        lambda: "",
        revoked=lambda shown: trusted.refused_at_door(files, shown),
    )
    reader, writer = await peer.connect("127.0.0.1")
    try:
        await wire.write(writer, wire.Ping())
        await wire.read(reader, wire.Pong)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise PeerGone("refused") from error
    return reader, writer


def test_a_revoked_certificate_opens_no_door_and_is_not_believed(tmp_path: Path, free_port: int) -> None:
    async def body() -> None:
        coordinator = PoolFiles(tmp_path / "a")
        pki.make_pool(coordinator, POOL, FIRST, NOW)
        member = a_member(coordinator, tmp_path / "b", SECOND)
        door = PoolDoor(Hello(), coordinator, "127.0.0.1", free_port)
        door.open()
        try:
            reader, _ = await hears(free_port, member)
            ca = own_authority(coordinator)
            serial = x509.load_pem_x509_certificate(member.certificate.read_bytes()).serial_number
            forged = (ca[0], new_authority(POOL, NOW)[1])  # its name, and another key
            trusted.save(coordinator, trusted.Trusted(revoked={"forged": revocation_list(forged, serial)}))
            door.drop_revoked()
            _, writer = await hears(free_port, member)
            writer.close()
            trusted.save(coordinator, trusted.Trusted(revoked={"real": revocation_list(ca, serial, 99)}))
            door.drop_revoked()
            assert await asyncio.wait_for(reader.read(), 10) == b"", "the connection that there was has ended"
            with pytest.raises(PeerGone):
                await hears(free_port, member)
            trusted.take_over(coordinator, trusted.packed(coordinator))
            trusted.save(coordinator, trusted.Trusted())
            reader, writer = await hears(free_port, member)
            writer.close()
            own = x509.load_pem_x509_certificate(coordinator.certificate.read_bytes()).serial_number
            trusted.save(member, trusted.Trusted(revoked={"real": revocation_list(ca, own)}))
            with pytest.raises(PeerGone, match="revoked"):
                await hears(free_port, member)
        finally:
            await door.close()

    asyncio.run(body())


def test_a_closed_door_serves_nobody_whose_connection_it_had_just_accepted(
    tmp_path: Path, free_port: int
) -> None:
    """The next one to serve would be a server that has ended; nobody would end that connection."""

    async def body() -> None:
        files = PoolFiles(tmp_path / "a")
        pki.make_pool(files, POOL, FIRST, NOW)
        door = PoolDoor(Hello(), files, "127.0.0.1", free_port)
        door.open()
        await door.close()
        one, other = socket.socketpair()
        with one:
            reader, writer = await asyncio.open_connection(sock=other)
            await asyncio.wait_for(door.serve(reader, writer), 10)
            one.settimeout(10)
            assert one.recv(1) == b""

    asyncio.run(body())


def test_in_an_emergency_a_host_believes_others_but_lets_no_stranger_in(tmp_path: Path) -> None:
    long_ago = NOW - 4000 * DAY
    old = PoolFiles(tmp_path / "old")
    pki.make_pool(old, POOL, FIRST, long_ago)  # all its certificates have ended
    member = PoolFiles(tmp_path / "member")
    request = pki.request_certificate(member, SECOND)
    member.certificate.write_text(pki.grant_certificate(old, request, SECOND, long_ago))
    member.ca.write_bytes(old.ca.read_bytes())
    stranger = PoolFiles(tmp_path / "stranger")
    pki.make_pool(stranger, POOL, FIRST, NOW)

    def reaches(server: PoolFiles, client: PoolFiles) -> bool:
        try:
            asyncio.run(meet(pki.server_context(server), pki.client_context(client)))
        except (ssl.SSLError, ConnectionError):
            return False
        return True

    assert not reaches(old, member)
    pki.set_verifying(member, verifying=False)
    assert not reaches(old, member), "the other host still checks"
    pki.set_verifying(old, verifying=False)
    assert reaches(old, member)
    assert not reaches(old, stranger), "only time does not count"
    stranger.ca.write_bytes(stranger.ca.read_bytes() + old.ca.read_bytes())
    assert not reaches(old, stranger)
    pki.set_verifying(member, verifying=True)
    assert not reaches(old, member)
    assert pki.verifies(member)


def test_that_a_host_checks_no_certificates_is_recorded_and_an_alert_until_it_does(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        host, pool = next(iter(server.database.view.all(Host))), next(iter(server.database.view.all(Pool)))
        txn = server.database.begin()
        for verifies, recorded, alerts in (
            (True, False, 0),
            (False, False, 1),
            (False, False, 1),
            (True, False, 1),
        ):
            rules.verifying(txn, host.ref, NOW, a_uuid, verifies=verifies)
            assert txn.get(Host, host.ref).tls_verification_enabled is recorded
            assert txn.count(Message) == alerts
        txn.update(Pool, pool.ref, tls_verification_enabled=True)
        rules.verifying(txn, host.ref, NOW, a_uuid, verifies=True)
        assert txn.get(Host, host.ref).tls_verification_enabled
        assert txn.count(Message) == 0
        rules.verifying(txn, host.ref, NOW, a_uuid, verifies=False)
        assert not txn.get(Host, host.ref).tls_verification_enabled
        (alert,) = txn.all(Message)
        assert (alert.name, alert.obj_uuid) == ("TLS_VERIFICATION_EMERGENCY_DISABLED", host.uuid)

    with_server(tmp_path, body)


@dataclass
class Clients:
    """A server that asks for certificates."""

    trust: Trust
    port: int
    directory: Path

    async def call(self, method: str, *params: str, certificate: Path | None = None) -> bytes:
        """Raises OSError when the server does not want to talk."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate is not None:
            context.load_cert_chain(certificate)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        values = "".join(f"<param><value>{param}</value></param>" for param in params)
        writer.write(post("/", xml_call(method, values)))
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        if not answer:
            raise ConnectionError("hung up")
        return answer

    async def login(self, certificate: Path | None) -> str:
        """A session, or "" for none; with a password that is wrong."""
        answer = await self.call("session.login_with_password", "any", "wrong", certificate=certificate)
        found = answer.partition(b"OpaqueRef:")[2][:36]
        return f"OpaqueRef:{found.decode()}" if b"Success" in answer else ""

    def certificate(self, ca: Authority, name: str, serial: int) -> Path:
        """A file with a client's certificate and key."""
        private = ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(ca[0].subject)
            .public_key(private.public_key())
            .serial_number(serial)
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(ca[1], hashes.SHA256())
        )
        path = self.directory / f"{name}-{serial}.pem"
        path.write_bytes(pem_of(made) + pem_of_key(private))
        return path


def with_clients(tmp_path: Path, body: Callable[[Clients], Awaitable[None]]) -> None:
    async def run(trust: Trust) -> None:
        server = trust.server
        own = server.own_messages()
        clients = ClientCertificates(
            database=server.database,
            files=trust.files,
            sessions=server.sessions,
            login=own["session.login_with_password"],
        )
        certificates = HostCertificates(
            tmp_path / "tls",
            trust.files,
            names=["host1"],
            addresses=[],
            host_uuid=lambda: FIRST,
            clock=lambda: NOW,
        )
        dispatcher = Dispatcher(
            database=server.database,
            coordinator=server.coordinator,
            sessions=server.sessions,
            tasks=server.tasks,
            own={**own, "session.login_with_password": clients.login},
            auditor=server.auditor,
            budgets=server.budgets,
        )

        def changed() -> None:
            certificates.ask_clients(clients.authorities())
            server.sessions.end_certified()

        clients.follow(changed)
        trust.messages = TrustCalls(
            database=server.database,
            coordinator=server.coordinator,
            members=None,  # type: ignore[arg-type]  # there is no other host
            host=next(iter(server.database.view.refs(Host))),
            library=TrustLibrary(server.coordinator, trust.files, changed),
        ).messages()
        http = HttpServer(dispatcher, no_cli)
        try:
            port = http.listen_tcp("127.0.0.1", 0, tls=certificates.tls)
            await body(Clients(trust, port, tmp_path))
        finally:
            await http.close()

    with_trust(tmp_path, run)


def test_a_client_logs_in_with_a_certificate_of_an_installed_ca_under_the_name_of_the_pool(
    tmp_path: Path,
) -> None:
    async def body(clients: Clients) -> None:
        trust, ca, other = clients.trust, new_authority("a", NOW), new_authority("b", NOW)
        view = trust.server.database.view
        good, wrong = clients.certificate(ca, "reporter", 1), clients.certificate(ca, "somebody", 2)
        foreign = clients.certificate(other, "reporter", 3)
        pool = next(iter(view.refs(Pool)))
        await trust.call("pool.install_ca_certificate", name="ca.pem", cert=pem_of(ca[0]).decode())
        assert await clients.login(good) == "", "nobody has said that there are such logins"
        for name in ("", " ", "x" * 65, "a\nb"):
            refusal = await trust.refused("pool.enable_client_certificate_auth", self=pool, name=name)
            assert refusal == ["INVALID_VALUE", "name", name]
        await trust.call("pool.enable_client_certificate_auth", self=pool, name="reporter")
        assert view.get(Pool, pool).client_certificate_auth_name == "reporter"
        session = await clients.login(good)
        row = next(row for row in view.all(Session) if row.ref == session)
        assert (row.client_certificate, row.is_local_superuser, row.auth_user_name) == (
            True,
            False,
            "reporter",
        )
        assert b"Success" in await clients.call("network.get_all", session, certificate=good)
        refused = await clients.call("host.set_name_label", session, "OpaqueRef:NULL", "x", certificate=good)
        assert b"RBAC_PERMISSION_DENIED" in refused
        assert await clients.login(wrong) == "", "another name"
        assert await clients.login(None) == "", "no certificate, and a wrong password"
        password = await clients.call("session.login_with_password", "root", "secret")
        assert b"Success" in password, "nobody needs a certificate"
        with pytest.raises(OSError, match=r"."):
            await clients.login(foreign)
        await trust.call("pool.crl_install", name="list", cert=revocation_list(ca, 1))
        assert b"SESSION_INVALID" in await clients.call("network.get_all", session)
        assert await clients.login(good) == "", "revoked"
        await trust.call("pool.crl_uninstall", name="list")
        session = await clients.login(good)
        assert session
        await trust.call("pool.uninstall_ca_certificate", name="ca.pem", force=False)
        assert b"SESSION_INVALID" in await clients.call("network.get_all", session)
        assert await clients.login(good) == ""
        await trust.call("pool.disable_client_certificate_auth", self=pool)
        assert not view.get(Pool, pool).client_certificate_auth_enabled

    with_clients(tmp_path, body)


def test_a_client_with_a_certificate_may_do_exactly_what_the_model_declares() -> None:
    def may(name: str, key: str) -> bool:
        try:
            require_certified_permission(MESSAGES[name], {"self": NULL, "key": key, "value": {}}, EMPTY)
        except Failure as failure:
            return failure.params[0] != permission_of(MESSAGES[name])
        return True

    allowed = [name for name in MESSAGES if may(name, "no protected one")]
    assert allowed == [name for name, message in MESSAGES.items() if message.client_cert_allowed]
    assert "VIF.get_record" in allowed
    protected: Sequence[str] = [name for name, message in MESSAGES.items() if message.map_key_roles]
    for name in protected:
        for key_ in MESSAGES[name].map_key_roles:
            assert not may(name, key_.replace("*", "anything"))


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_member_takes_over_what_is_installed_and_no_nonsense(tmp_path: Path) -> None:
    files, there = PoolFiles(tmp_path / "a"), PoolFiles(tmp_path / "b")
    trusted.save(there, trusted.Trusted(revoked={"list": "text"}))
    assert trusted.digest(files) != trusted.digest(there)
    for content in (trusted.packed(there), b"nonsense", b""):
        trusted.take_over(files, content)
        assert trusted.load(files).revoked == {"list": "text"}
        assert trusted.digest(files) == trusted.digest(there)


def mutated(der: bytes, random: Random) -> bytes:
    """The bytes with a few of them changed, put in, or left out."""
    made = bytearray(der)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(made))
        match random.randrange(5):
            case 0:
                del made[at]
            case 1:
                made.insert(at, random.randrange(256))
            case _:
                made[at] = random.randrange(256)
    return bytes(made)


def armoured(der: bytes, what: str) -> str:
    return f"-----BEGIN {what}-----\n{base64.encodebytes(der).decode()}-----END {what}-----\n"


@pytest.mark.filterwarnings("ignore")
def test_certificates_and_lists_with_wrong_bytes_are_refused_or_harmless(tmp_path: Path) -> None:
    random = Random(7)
    files = PoolFiles(tmp_path)
    pki.make_pool(files, POOL, FIRST, NOW)
    ca = own_authority(files)
    der = ca[0].public_bytes(serialization.Encoding.DER)
    shown = x509.load_pem_x509_certificate(files.certificate.read_bytes()).public_bytes(
        serialization.Encoding.DER
    )
    listed = x509.load_pem_x509_crl(revocation_list(ca, 1, 2).encode()).public_bytes(
        serialization.Encoding.DER
    )
    taken = 0
    for _ in range(3000):
        with suppress(Failure):
            found = valid_certificate(armoured(mutated(der, random), "CERTIFICATE"), NOW, "CA_CERTIFICATE")
            taken += 1
            fingerprints(found)
            authority.is_issued_by(ca[0], found)
            authority.has_issued(files, found.public_bytes(serialization.Encoding.PEM).decode())
        text = armoured(mutated(listed, random), "X509 CRL")
        if trust_calls.is_list(text):
            parsed = x509.load_pem_x509_crl(text.encode())
            trusted._signed(parsed, [ca[0]])
            parsed.get_revoked_certificate_by_serial_number(1)
        with suppress(Failure):
            certificate_checks._leaf(armoured(mutated(der, random), "CERTIFICATE"), key(), NOW)
    assert taken > 100
    assert not trusted.is_revoked(files, shown, [ca[0]])
