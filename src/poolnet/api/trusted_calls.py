"""Which calls are about certificates that are trusted for a purpose, and how do pools hand over what they trust?

They are kept on all hosts, and handed to other pools that ask. None counts for logins with certificates: who has logged in with
one may install these (spec §3.6), and would outlast the CA that let them in; those go by the CAs that `trust_calls` is about.
A joining host hands over what it trusts (`joining`), and gets what the pool does as any member.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from msgspec.structs import replace

from poolnet.api.certificate_checks import fingerprints
from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.pool_client import PoolClient
from poolnet.api.trust_calls import is_list, require_name, without
from poolnet.api.trust_library import (
    INSTALLED_MAX,
    TrustLibrary,
    read_certificate,
    record,
    valid_certificate,
)
from poolnet.db.database import Database
from poolnet.db.txn import Txn, View
from poolnet.model import errors
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.pool import Pool
from poolnet.model.enums import CertificatePurpose, CertificateType
from poolnet.model.failure import Failure
from poolnet.model.types import Ref
from poolnet.pool.authority import MALFORMED, pem_of
from poolnet.pool.trusted import Trusted, TrustedCertificate

log = structlog.get_logger("poolnet.api.certificates")

Purposes = tuple[CertificatePurpose, ...]
_LOST: Final = errors.joining_host_connection_failed().code
_STRANGE: Final = errors.joining_host_service_failed().code


class _Addition:
    """Certificates that come to those that are installed, in a transaction of their own.

    Args:
        view: The records of those that are there.
        library: What is installed.
    """

    def __init__(self, view: View, library: Trusted) -> None:
        self.library = library
        self._there = [
            (row.type, row.fingerprint_sha256, frozenset(row.purpose))
            for row in view.all(Certificate)
            if not row.name
        ]
        self._records: list[tuple[x509.Certificate, str, CertificateType, Purposes]] = []

    def add(self, text: str, *, ca: bool, purpose: Purposes) -> None:
        """Adds one.

        Raises:
            TRUSTED_CERTIFICATE_INVALID, TRUSTED_CERTIFICATE_NOT_VALID_YET, TRUSTED_CERTIFICATE_EXPIRED: About it.
            CERTIFICATE_LACKS_PURPOSE: It is no CA's, and for nothing.
            TRUSTED_CERTIFICATE_ALREADY_EXISTS: It is there for these purposes, or for some of them.
        """
        certificate = valid_certificate(text, datetime.now(UTC), "TRUSTED_CERTIFICATE")
        purpose = tuple(dict.fromkeys(purpose))
        if not ca and not purpose:
            raise Failure("CERTIFICATE_LACKS_PURPOSE")
        kind = CertificateType.CA if ca else CertificateType.PINNED
        fingerprint, _ = fingerprints(certificate)
        for known, print_, purposes in self._there:
            if (known, print_) == (kind, fingerprint) and overlap(purposes, purpose):
                raise Failure("TRUSTED_CERTIFICATE_ALREADY_EXISTS", fingerprint)
        if len(self.library.certificates) >= INSTALLED_MAX:
            raise errors.internal_error(f"more than {INSTALLED_MAX} trusted certificates")
        uuid = str(uuid4())
        entry = TrustedCertificate(pem=pem_of(certificate).decode(), ca=ca, purpose=tuple(purpose))
        self.library = replace(self.library, certificates={**self.library.certificates, uuid: entry})
        self._records.append((certificate, uuid, kind, purpose))
        self._there.append((kind, fingerprint, frozenset(purpose)))

    def add_unless_there(self, texts: Mapping[str, Sequence[str]], *, ca: bool) -> None:
        """Adds those that are not there yet, with the purposes that are named. Raises INVALID_VALUE, and as `add`."""
        for text, names in texts.items():
            try:
                self.add(text, ca=ca, purpose=tuple(map(_purpose, names)))
            except Failure as failure:
                if failure.code != "TRUSTED_CERTIFICATE_ALREADY_EXISTS":
                    raise

    def record(self, txn: Txn) -> list[Ref[Certificate]]:
        """Makes their records."""
        return [
            record(txn, certificate, uuid=uuid, type_=kind, purpose=purpose)
            for certificate, uuid, kind, purpose in self._records
        ]


def overlap(some: Iterable[str], others: Iterable[str]) -> bool:
    """Whether a certificate that is there for these purposes is in the way of the same one for those."""
    one, other = frozenset(some), frozenset(others)
    return one == other or bool(one & other)


class TrustedCalls:
    """The calls.

    Args:
        database: The pool database.
        library: What is installed.
        https_port: The port of other pools' API servers.
    """

    def __init__(self, *, database: Database, library: TrustLibrary, https_port: int) -> None:
        self._database = database
        self._library = library
        self._https_port = https_port

    def messages(self) -> Mapping[str, Own]:
        """The messages, by full name."""
        return {
            "pool.install_trusted_certificate": self._install,
            "pool.uninstall_trusted_certificate": self._uninstall,
            "pool.sync_trusted_certificates_from": self._sync_from,
            "pool.exchange_trusted_certificates_on_join": self._exchange,
            "pool.exchange_ca_certificates_on_join": self._exchange_authorities,
            "pool.exchange_crls_on_join": self._exchange_lists,
        }

    async def _install(self, call: Call) -> Result:
        """Trusts a certificate on all hosts. Raises HANDLE_INVALID, CERTIFICATE_LIBRARY_CORRUPT, and as `_Addition.add`."""
        a = call.arguments
        self._database.view.get(Pool, a["self"])
        async with self._library.lock:
            now = self._library.load()
            addition = _Addition(self._database.view, now)
            addition.add(a["cert"], ca=a["ca"], purpose=tuple(a["purpose"]))
            await self._library.change(now, addition.library, lambda txn: void(addition.record(txn)))
        return None

    async def _uninstall(self, call: Call) -> Result:
        """Trusts a certificate no longer, also a CA's that was installed under a name.

        Raises:
            HANDLE_INVALID: There is no such certificate.
            NOT_TRUSTED_CERTIFICATE: It is one that a host has itself.
        """
        self._database.view.get(Pool, call.arguments["self"])
        await self._forget([call.arguments["certificate"]])
        return None

    async def _forget(self, refs: Sequence[Ref[Certificate]]) -> None:
        async with self._library.lock:
            now = new = self._library.load()
            rows = [self._database.view.get(Certificate, ref) for ref in refs]
            for row in rows:
                if row.type not in (CertificateType.CA, CertificateType.PINNED):
                    raise Failure("NOT_TRUSTED_CERTIFICATE", row.ref)
                if row.name:
                    new = replace(new, authorities=without(new.authorities, row.name))
                else:
                    new = replace(new, certificates=without(new.certificates, row.uuid))

            def remove(txn: Txn) -> None:
                for row in rows:
                    txn.destroy(Certificate, row.ref)

            await self._library.change(now, new, remove)

    async def _exchange(self, call: Call) -> Result:
        """Trusts what a joining host does, and shows what it asks for.

        Raises:
            NOT_TRUSTED_CERTIFICATE: What it asks for is no certificate of that kind.
            INVALID_VALUE: A purpose is none. And as `_Addition.add`, but those that are there already are left out.
        """
        a = call.arguments
        self._database.view.get(Pool, a["self"])
        async with self._library.lock:
            now = self._library.load()
            kind = CertificateType.CA if a["ca"] else CertificateType.PINNED
            shown = dict(self._shown(now, ref, kind) for ref in a["export"])
            await self._add(now, a["import"], ca=a["ca"])
        return shown

    def _shown(
        self, now: Trusted, ref: Ref[Certificate], kind: CertificateType
    ) -> tuple[str, tuple[str, ...]]:
        row = self._database.view.find(Certificate, ref)
        found = now.certificates.get(row.uuid) if row is not None and row.type is kind else None
        if found is None:
            raise Failure("NOT_TRUSTED_CERTIFICATE", ref)
        return found.pem, found.purpose

    async def _add(
        self, now: Trusted, texts: Mapping[str, Sequence[str]], *, ca: bool
    ) -> tuple[Ref[Certificate], ...]:
        """Adds those that are not there yet, all or none, and gives their records. The library is locked."""
        addition = _Addition(self._database.view, now)
        addition.add_unless_there(texts, ca=ca)
        made: list[Ref[Certificate]] = []
        if addition.library != now:
            await self._library.change(now, addition.library, lambda txn: made.extend(addition.record(txn)))
        return tuple(made)

    async def _sync_from(self, call: Call) -> Result:
        """Trusts what another pool does; gives the records of those that came.

        Raises:
            TRUSTED_CERTIFICATE_INVALID: That of the other pool's coordinator is none.
            TLS_CONNECTION_FAILED: Nobody answers there who has it, or the answer makes no sense.
            And what the other pool refuses, or as `_Addition.add`; then nothing has changed.
        """
        a = call.arguments
        self._database.view.get(Pool, a["self"])
        try:
            tls = _believing(read_certificate(a["remote_certificate"]))
        except (*MALFORMED, ssl.SSLError) as error:
            raise Failure("TRUSTED_CERTIFICATE_INVALID") from error
        texts = await self._asked(a["remote_pool"], a["remote_session"], tls, ca=a["ca"])
        async with self._library.lock:
            return await self._add(self._library.load(), texts, ca=a["ca"])

    async def _asked(
        self, address: str, session: str, tls: ssl.SSLContext, *, ca: bool
    ) -> Mapping[str, Sequence[str]]:
        """What another pool trusts. Raises Failure."""
        try:
            async with PoolClient(address, self._https_port, tls=tls, session=session) as other:
                records = await other.call("Certificate.get_all_records")
                kind = CertificateType.CA if ca else CertificateType.PINNED
                wanted = [
                    ref for ref, row in records.items() if row["type"] == kind.value and not row["name"]
                ]
                (pool,) = await other.call("pool.get_all")
                answer = await other.call("pool.exchange_trusted_certificates_on_join", pool, ca, {}, wanted)
                return {str(text): tuple(map(str, names)) for text, names in answer.items()}
        except Failure as failure:
            if failure.code in (_LOST, _STRANGE):
                raise errors.tls_connection_failed(address, self._https_port) from failure
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise errors.tls_connection_failed(address, self._https_port) from error

    async def _exchange_authorities(self, call: Call) -> Result:
        """Trusts the CAs that a joining host does, under their names, and shows those that it asks for.

        Raises:
            CERTIFICATE_NAME_INVALID: A name is no file name.
            INVALID_VALUE: A certificate is none.
            HANDLE_INVALID, CERTIFICATE_DOES_NOT_EXIST: What it asks for is none that is installed under a name.
        """
        a = call.arguments
        read: dict[str, x509.Certificate] = {}
        for name, text in a["import"].items():
            require_name(name, "CERTIFICATE_NAME_INVALID")
            try:
                read[name] = read_certificate(text)
            except MALFORMED as error:
                raise errors.invalid_value("certificate", "<omitted>") from error
        async with self._library.lock:
            now = self._library.load()
            shown = {}
            for ref in a["export"]:
                name = self._database.view.get(Certificate, ref).name
                if name not in now.authorities:
                    raise Failure("CERTIFICATE_DOES_NOT_EXIST", name)
                shown[name] = now.authorities[name]
            texts = {**now.authorities, **{name: pem_of(each).decode() for name, each in read.items()}}
            if len(texts) > INSTALLED_MAX:
                raise errors.internal_error(f"more than {INSTALLED_MAX} CA certificates")

            def change(txn: Txn) -> None:
                for name, certificate in read.items():
                    record(txn, certificate, name=name)

            if texts != now.authorities:
                await self._library.change(now, replace(now, authorities=texts), change)
        return shown

    async def _exchange_lists(self, call: Call) -> Result:
        """Refuses the certificates on the lists of a joining host, and shows those that it asks for.

        Raises:
            CRL_NAME_INVALID, CRL_CORRUPT: About a list that it has.
            CRL_ALREADY_EXISTS: Another one of that name is installed.
            CRL_DOES_NOT_EXIST: What it asks for is not installed.
        """
        a = call.arguments
        self._database.view.get(Pool, a["self"])
        async with self._library.lock:
            now = self._library.load()
            for name in a["export"]:
                if name not in now.revoked:
                    raise Failure("CRL_DOES_NOT_EXIST", name)
            for name, text in a["import"].items():
                require_name(name, "CRL_NAME_INVALID")
                if now.revoked.get(name, text) != text:
                    raise Failure("CRL_ALREADY_EXISTS", name)
                if not is_list(text):
                    raise Failure("CRL_CORRUPT", name)
            lists = {**now.revoked, **a["import"]}
            if len(lists) > INSTALLED_MAX:
                raise errors.internal_error(f"more than {INSTALLED_MAX} revocation lists")
            if lists != now.revoked:
                await self._library.change(now, replace(now, revoked=lists))
        return {name: now.revoked[name] for name in a["export"]}


def _purpose(name: str) -> CertificatePurpose:
    try:
        return CertificatePurpose(name)
    except ValueError as error:
        raise errors.invalid_value("purpose", name) from error


def _believing(certificate: x509.Certificate) -> ssl.SSLContext:
    """A context that believes whoever has that certificate, or one of it, whatever name it has. Raises ssl.SSLError.

    A server that has certificates of several kinds, as poolnet's, is asked for the one of that kind.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if isinstance(certificate.public_key(), rsa.RSAPublicKey):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM+aRSA")
    context.load_verify_locations(cadata=pem_of(certificate).decode())
    return context


def void(_: object) -> None:
    """Takes a result that nobody wants."""
