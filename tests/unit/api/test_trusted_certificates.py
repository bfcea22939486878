"""Certificates that are trusted for a purpose: installed, removed, asked of another pool, and brought by a joining host."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.dispatch import Dispatcher
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.http import HttpServer
from poolnet.api.joining_trust import TrustGiven
from poolnet.api.pool_client import PoolClient
from poolnet.api.trust_calls import TrustCalls
from poolnet.api.trust_library import TrustLibrary, read_certificate
from poolnet.api.trusted_calls import TrustedCalls
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.pool import pki, trusted
from poolnet.pool.authority import PoolFiles, new_authority
from poolnet.pool.trusted import Trusted, TrustedCertificate
from tests.in_process import InProcess, in_process, login_as
from tests.unit.api.test_certificates import CA, issued, key
from tests.unit.api.test_trust import DAY, NOW, revocation_list
from tests.unit.api.toy import no_cli, post, xml_call
from tests.unit.db.rows import a_uuid
from tests.unit.pool.test_pki import POOL

GOOD = issued("ca", CA[1], CA, start=NOW - DAY, end=NOW + DAY)
LEAF = issued("leaf", key(), CA, start=NOW - DAY, end=NOW + DAY)


@dataclass
class Served:
    """A pool of one host that answers on a port, and a session of a superuser there."""

    server: InProcess
    files: PoolFiles
    certificates: HostCertificates
    port: int
    session: str
    pool: Ref[Pool]
    client: PoolClient

    async def call(self, message: str, /, *params: Any) -> Any:
        """By JSON-RPC."""
        return await self.client.call(message, *params)

    async def refused(self, message: str, /, *params: Any) -> list[str]:
        with pytest.raises(Failure) as refused:
            await self.client.call(message, *params)
        return [refused.value.code, *refused.value.params]

    async def call_xml(self, method: str, *params: str) -> str:
        """The body of an answer by XML-RPC; the parameters are values in XML."""
        values = "".join(f"<param><value>{each}</value></param>" for each in (self.session, *params))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        writer.write(post("/", xml_call(method, values)))
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer.decode().partition("\r\n\r\n")[2]

    def kinds(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """The trusted certificates: kind, name and purposes, as the records have them."""
        rows = self.server.database.view.all(Certificate)
        return sorted((row.type.value, row.name, tuple(row.purpose)) for row in rows)


@asynccontextmanager
async def served(directory: Path, other_port: int = 0) -> AsyncIterator[Served]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(in_process(directory))
        files = pki.pool_files(directory)
        library = TrustLibrary(server.coordinator, files, lambda: None)
        host = next(iter(server.database.view.refs(Host)))
        own = server.own_messages()
        trust = TrustCalls(
            database=server.database,
            coordinator=server.coordinator,
            members=None,  # type: ignore[arg-type]  # there is no other host
            host=host,
            library=library,
        )
        purposes = TrustedCalls(database=server.database, library=library, https_port=other_port)
        dispatcher = Dispatcher(
            database=server.database,
            coordinator=server.coordinator,
            sessions=server.sessions,
            tasks=server.tasks,
            own={**own, **trust.messages(), **purposes.messages()},
            auditor=server.auditor,
            budgets=server.budgets,
        )
        certificates = HostCertificates(
            directory / "tls",
            files,
            names=["host1"],
            addresses=[],
            host_uuid=a_uuid,
            clock=lambda: NOW,
        )
        http = HttpServer(dispatcher, no_cli)
        stack.push_async_callback(http.close)
        port = http.listen_tcp("127.0.0.1", 0, tls=certificates.tls)
        session = await login_as(server, None)
        client = PoolClient("127.0.0.1", port, session=session)
        await stack.enter_async_context(client)
        pool = next(iter(server.database.view.refs(Pool)))
        yield Served(server, files, certificates, port, session, pool, client)


def with_pool(tmp_path: Path, body: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with served(tmp_path) as one:
            await body(one)

    asyncio.run(run())


INSTALL, REMOVE = "pool.install_trusted_certificate", "pool.uninstall_trusted_certificate"


def test_a_certificate_is_trusted_for_its_purposes_until_it_is_removed(tmp_path: Path) -> None:
    async def body(one: Served) -> None:
        pool, late = one.pool, issued("ca", CA[1], CA, start=NOW - 2 * DAY, end=NOW - DAY)
        early = issued("ca", CA[1], CA, start=NOW + DAY, end=NOW + 2 * DAY)
        for text, code in (
            ("", "INVALID"),
            ("x" * 40_000, "INVALID"),
            (late, "EXPIRED"),
            (early, "NOT_VALID_YET"),
        ):
            refusal = await one.refused(INSTALL, pool, False, text, [])
            assert refusal[0] == f"TRUSTED_CERTIFICATE_{code}"
        assert await one.refused(INSTALL, pool, False, LEAF, []) == ["CERTIFICATE_LACKS_PURPOSE"]
        assert (await one.refused(INSTALL, "OpaqueRef:none", True, GOOD, []))[0] == "HANDLE_INVALID"
        await one.call(INSTALL, pool, True, GOOD, [])
        await one.call(INSTALL, pool, True, GOOD, ["ldaps"])
        await one.call(INSTALL, pool, False, LEAF, ["licensing"])
        fingerprint = one.server.database.view.where(Certificate, purpose=("ldaps",))[0].fingerprint_sha256
        for purposes in ([], ["ldaps"], ["licensing", "ldaps"]):
            taken = await one.refused(INSTALL, pool, True, GOOD, purposes)
            assert taken == ["TRUSTED_CERTIFICATE_ALREADY_EXISTS", fingerprint]
        assert one.kinds() == [("ca", "", ()), ("ca", "", ("ldaps",)), ("pinned", "", ("licensing",))]
        kept = trusted.load(one.files).certificates
        rows = tuple(one.server.database.view.all(Certificate))
        assert set(kept) == {row.uuid for row in rows}
        assert await one.call("pool.certificate_list") == [], "those have names"
        for row in rows:
            await one.call(REMOVE, pool, row.ref)
            assert (await one.refused(REMOVE, pool, row.ref))[0] == "HANDLE_INVALID"
        assert trusted.load(one.files) == Trusted()
        await one.call("pool.install_ca_certificate", "named.pem", GOOD)
        (row,) = one.server.database.view.all(Certificate)
        await one.call(REMOVE, pool, row.ref)
        assert await one.call("pool.certificate_list") == []

    with_pool(tmp_path, body)


def test_it_is_the_same_by_xml_rpc_and_who_may_not_changes_nothing(tmp_path: Path) -> None:
    async def body(one: Served) -> None:
        purposes = "<array><data><value>licensing</value></data></array>"
        words = (one.pool, "<boolean>0</boolean>", LEAF, purposes)
        assert "Success" in await one.call_xml(INSTALL, *words)
        assert "TRUSTED_CERTIFICATE_ALREADY_EXISTS" in await one.call_xml(INSTALL, *words)
        wrong = purposes.replace("licensing", "nothing")
        assert "Failure" in await one.call_xml(INSTALL, one.pool, "<boolean>1</boolean>", GOOD, wrong)
        assert one.kinds() == [("pinned", "", ("licensing",))]
        (row,) = one.server.database.view.all(Certificate)
        one.session = await login_as(one.server, Role.VM_POWER_ADMIN)
        assert "RBAC_PERMISSION_DENIED" in await one.call_xml(REMOVE, one.pool, row.ref)
        one.session = await login_as(one.server, Role.POOL_OPERATOR)
        assert "Success" in await one.call_xml(REMOVE, one.pool, row.ref)
        assert one.kinds() == []

    with_pool(tmp_path, body)


def test_what_hosts_have_themselves_is_not_removed_so(tmp_path: Path) -> None:
    async def body(one: Served) -> None:
        own = Certificate(ref=Ref("OpaqueRef:own"), uuid=a_uuid(), type="host")  # type: ignore[arg-type]
        await one.server.coordinator.write(lambda txn: txn.create(own))
        assert await one.refused(REMOVE, one.pool, own.ref) == ["NOT_TRUSTED_CERTIFICATE", own.ref]
        for ca in (True, False):
            exchange = await one.refused(
                "pool.exchange_trusted_certificates_on_join", one.pool, ca, {GOOD: []}, [own.ref]
            )
            assert exchange == ["NOT_TRUSTED_CERTIFICATE", own.ref]
        assert one.server.database.view.count(Certificate) == 1

    with_pool(tmp_path, body)


def test_another_pool_is_asked_for_what_it_trusts_if_it_is_the_one_that_was_meant(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    async def run() -> None:
        async with served(tmp_path / "a") as other, served(tmp_path / "b", other.port) as one:
            await other.call(INSTALL, other.pool, True, GOOD, [])
            await other.call(INSTALL, other.pool, True, GOOD, ["ldaps", "licensing"])
            await other.call(INSTALL, other.pool, False, LEAF, ["ldaps"])
            await other.call("pool.install_ca_certificate", "named", GOOD)
            await one.call(INSTALL, one.pool, True, GOOD, [])
            pem = other.certificates.server_pem()
            sync = "pool.sync_trusted_certificates_from"

            def words(certificate: str = pem, session: str = other.session) -> tuple[Any, ...]:
                return (one.pool, "127.0.0.1", session, certificate)

            wrong = await one.refused(sync, *words(one.certificates.server_pem()), True)
            assert wrong == ["TLS_CONNECTION_FAILED", "127.0.0.1", str(other.port)]
            assert await one.refused(sync, *words("x"), True) == ["TRUSTED_CERTIFICATE_INVALID"]
            stranger = await one.refused(sync, *words(session="OpaqueRef:none"), True)
            assert stranger == ["SESSION_INVALID", "OpaqueRef:none"]
            assert one.kinds() == [("ca", "", ())]
            (made,) = await one.call(sync, *words(), True)
            assert one.server.database.view.get(Certificate, Ref[Certificate](made)).type.value == "ca"
            assert await one.call(sync, *words(), True) == []
            assert len(await one.call(sync, *words(), False)) == 1
            assert one.kinds() == [
                ("ca", "", ()),
                ("ca", "", ("ldaps", "licensing")),
                ("pinned", "", ("ldaps",)),
            ]
            assert await other.call("pool.get_all") == [other.pool], "its session is still there"

    asyncio.run(run())


def test_a_joining_host_brings_what_it_trusts_and_takes_it_back_if_it_does_not_come(tmp_path: Path) -> None:
    certificates = {
        "1": TrustedCertificate(GOOD, ca=True),
        "2": TrustedCertificate(LEAF, ca=False, purpose=("ldaps",)),
    }
    ca = new_authority(POOL, NOW)
    lists = {"list": revocation_list(ca, 1), "more": revocation_list(ca, 2)}
    own = Trusted(authorities={"a": GOOD, "b": GOOD}, revoked=lists, certificates=certificates)

    async def body(one: Served) -> None:
        await one.call("pool.install_ca_certificate", "b", GOOD)
        await one.call("pool.crl_install", "list", lists["list"])
        before = (one.kinds(), trusted.load(one.files))
        target = await one.client.target()
        given = TrustGiven(one.client, target)
        await given.give(own)
        assert one.kinds() == [("ca", "", ()), ("ca", "a", ()), ("ca", "b", ()), ("pinned", "", ("ldaps",))]
        assert trusted.load(one.files).revoked == lists
        await given.take_back()
        assert (one.kinds(), trusted.load(one.files)) == before
        other = {"list": revocation_list(ca, 9), "third": lists["more"]}
        given = TrustGiven(one.client, target)
        with pytest.raises(Failure, match="CRL_ALREADY_EXISTS"):
            await given.give(Trusted(authorities={"c": GOOD}, revoked=other))
        await given.take_back()
        assert (one.kinds(), trusted.load(one.files)) == before

    with_pool(tmp_path, body)


def test_what_is_exchanged_is_checked_and_shown(tmp_path: Path) -> None:
    authorities, lists = "pool.exchange_ca_certificates_on_join", "pool.exchange_crls_on_join"
    good = revocation_list(new_authority(POOL, NOW), 1)

    async def body(one: Served) -> None:
        assert await one.call(authorities, {"a": GOOD}, []) == {}
        (row,) = one.server.database.view.all(Certificate)
        shown = await one.call(authorities, {"a": LEAF}, [row.ref])
        assert read_certificate(shown["a"]) == read_certificate(GOOD), "as it was before"
        assert one.kinds() == [("ca", "a", ())]
        assert await one.refused(authorities, {"../a": GOOD}, []) == ["CERTIFICATE_NAME_INVALID", "../a"]
        refusal = await one.refused(authorities, {"b": GOOD, "c": "x"}, [])
        assert refusal == ["INVALID_VALUE", "certificate", "<omitted>"]
        assert (await one.refused(authorities, {"b": GOOD}, ["OpaqueRef:none"]))[0] == "HANDLE_INVALID"
        assert await one.call(lists, one.pool, {"l": good}, []) == {}
        assert await one.call(lists, one.pool, {"l": good}, ["l"]) == {"l": good}
        assert await one.refused(lists, one.pool, {"/": good}, []) == ["CRL_NAME_INVALID", "/"]
        assert await one.refused(lists, one.pool, {"m": "x"}, []) == ["CRL_CORRUPT", "m"]
        assert await one.refused(lists, one.pool, {"l": "x"}, []) == ["CRL_ALREADY_EXISTS", "l"]
        assert await one.refused(lists, one.pool, {"m": good}, ["n"]) == ["CRL_DOES_NOT_EXIST", "n"]
        assert one.kinds() == [("ca", "a", ())]
        assert await one.call("pool.crl_list") == ["l"]
        host = next(iter(one.server.database.view.refs(Host)))
        assert "non-pool" in await one.call_xml("host.certificate_list", host), "that is for other hosts"
        session = await one.server.sessions.pool_login(accepted=True, target="")
        for message, expected in (
            ("host.certificate_list", ["a"]),
            ("host.crl_list", ["l"]),
            ("host.certificate_sync", ""),
            ("host.copy_primary_host_certs", ""),
        ):
            async with PoolClient("127.0.0.1", one.port, session=session) as pool:
                assert await pool.call(message, host) == expected, message
                with pytest.raises(Failure, match="HANDLE_INVALID"):
                    await pool.call(message, "OpaqueRef:none")

    with_pool(tmp_path, body)
