"""Which calls are about CA certificates and revocation lists that somebody installs? The coordinator's, for all hosts.

What is installed is trusted for logins with certificates (`client_certificates`); a revocation list counts there, and at
the door between hosts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from cryptography import x509
from msgspec.structs import replace

from poolnet.api.certificate_checks import TEXT_MAX, fingerprints, require_valid_at
from poolnet.api.dispatch import Call, Own, Result
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.enums import CertificateType
from poolnet.model.failure import Failure
from poolnet.model.types import NULL, Ref
from poolnet.pool import trusted, wire
from poolnet.pool.authority import MALFORMED, PoolFiles, pem_of
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.members import Members
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.trusted import Trusted, TrustedBroken

log = structlog.get_logger("poolnet.api.certificates")

INSTALLED_MAX: Final = 100  # of each kind
CRL_TEXT_MAX: Final = 256 * 1024
NAME_MAX: Final = 64
SYNC_S: Final = 10.0
SYNC_POLL_S: Final = 0.1
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class TrustCalls:
    """The calls.

    Args:
        database: The pool database.
        coordinator: Who writes it.
        members: The other hosts.
        host: This host.
        files: Where what is installed is kept.
        changed: Called when something else is trusted. It may raise OSError.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        members: Members,
        host: Ref[Host],
        files: PoolFiles,
        changed: Callable[[], None],
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._members = members
        self._host = host
        self._files = files
        self._changed = changed
        self._lock = asyncio.Lock()

    def messages(self) -> Mapping[str, Own]:
        """The messages, by full name."""
        return {
            "pool.install_ca_certificate": self._install,
            "pool.certificate_install": self._install,
            "pool.uninstall_ca_certificate": self._uninstall,
            "pool.certificate_uninstall": self._uninstall,
            "pool.certificate_list": self._list,
            "pool.certificate_sync": self._sync,
            "pool.crl_install": self._install_crl,
            "pool.crl_uninstall": self._uninstall_crl,
            "pool.crl_list": self._list_crls,
            "pool.enable_client_certificate_auth": self._enable_logins,
            "pool.disable_client_certificate_auth": self._disable_logins,
        }

    async def _install(self, call: Call) -> Result:
        """Trusts a CA on all hosts.

        Raises:
            CERTIFICATE_NAME_INVALID: The name is no file name.
            CERTIFICATE_ALREADY_EXISTS: One of that name is installed.
            CA_CERTIFICATE_INVALID, CA_CERTIFICATE_NOT_VALID_YET, CA_CERTIFICATE_EXPIRED: About the certificate.
            CERTIFICATE_LIBRARY_CORRUPT: What is installed cannot be read.
        """
        name, text = call.arguments["name"], call.arguments["cert"]
        _require_name(name, "CERTIFICATE_NAME_INVALID")
        async with self._lock:
            now = self._load()
            if name in now.authorities:
                raise Failure("CERTIFICATE_ALREADY_EXISTS", name)
            certificate = _ca(text, datetime.now(UTC))
            if len(now.authorities) >= INSTALLED_MAX:
                raise errors.internal_error(f"more than {INSTALLED_MAX} CA certificates")
            new = replace(now, authorities={**now.authorities, name: pem_of(certificate).decode()})
            await self._change(now, new, lambda txn: _record(txn, name, certificate))
        return None

    async def _uninstall(self, call: Call) -> Result:
        """Trusts a CA no longer.

        Raises:
            CERTIFICATE_NAME_INVALID: The name is no file name.
            CERTIFICATE_DOES_NOT_EXIST: None of that name is installed, and it is not forced.
            CERTIFICATE_LIBRARY_CORRUPT: What is installed cannot be read.
        """
        name = call.arguments["name"]
        _require_name(name, "CERTIFICATE_NAME_INVALID")
        async with self._lock:
            now = self._load()
            if name not in now.authorities and not call.arguments.get("force"):
                raise Failure("CERTIFICATE_DOES_NOT_EXIST", name)
            new = replace(now, authorities=_without(now.authorities, name))
            await self._change(now, new, lambda txn: _forget(txn, name))
        return None

    async def _install_crl(self, call: Call) -> Result:
        """Has all hosts refuse the certificates on a list.

        Raises:
            CRL_NAME_INVALID: The name is no file name.
            CRL_ALREADY_EXISTS: One of that name is installed.
            CRL_CORRUPT: It is no list.
            CERTIFICATE_LIBRARY_CORRUPT: What is installed cannot be read.
        """
        name, text = call.arguments["name"], call.arguments["cert"]
        _require_name(name, "CRL_NAME_INVALID")
        async with self._lock:
            now = self._load()
            if name in now.revoked:
                raise Failure("CRL_ALREADY_EXISTS", name)
            if not _is_list(text):
                raise Failure("CRL_CORRUPT", name)
            if len(now.revoked) >= INSTALLED_MAX:
                raise errors.internal_error(f"more than {INSTALLED_MAX} revocation lists")
            await self._change(now, replace(now, revoked={**now.revoked, name: text}))
        return None

    async def _uninstall_crl(self, call: Call) -> Result:
        """Has the certificates on a list accepted again.

        Raises:
            CRL_NAME_INVALID: The name is no file name.
            CRL_DOES_NOT_EXIST: None of that name is installed.
            CERTIFICATE_LIBRARY_CORRUPT: What is installed cannot be read.
        """
        name = call.arguments["name"]
        _require_name(name, "CRL_NAME_INVALID")
        async with self._lock:
            now = self._load()
            if name not in now.revoked:
                raise Failure("CRL_DOES_NOT_EXIST", name)
            await self._change(now, replace(now, revoked=_without(now.revoked, name)))
        return None

    async def _list(self, _: Call) -> Result:
        return tuple(sorted(self._load().authorities))

    async def _list_crls(self, _: Call) -> Result:
        return tuple(sorted(self._load().revoked))

    async def _sync(self, _: Call) -> Result:
        """Waits until all hosts have what is installed, which they get by themselves.

        Raises:
            CANNOT_CONTACT_HOST: A host cannot be reached; it gets it when it comes back.
        """
        for host in self._database.view.refs(Host):
            if host != self._host and not await self._is_told(host):
                raise errors.cannot_contact_host(host)
        return None

    async def _is_told(self, host: Ref[Host]) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_S):
                while True:
                    try:
                        shown = await self._members.ask(host, wire.Certify(action="show"), wire.Certified)
                    except (PeerGone, PeerDenied) as error:
                        log.warning("host-not-told", host=host, reason=str(error))
                        return False
                    if shown.installed == trusted.digest(self._files):
                        return True
                    await asyncio.sleep(SYNC_POLL_S)
        return False

    async def _enable_logins(self, call: Call) -> Result:
        """Lets clients log in with a certificate of that name, by one of the CAs that are installed.

        Raises:
            HANDLE_INVALID: There is no such pool.
            INVALID_VALUE: No certificate can have that name.
        """
        name = call.arguments["name"]
        if not name.strip() or len(name) > NAME_MAX or not name.isprintable():
            raise errors.invalid_value("name", name)
        await self._set_logins(call, name)
        return None

    async def _disable_logins(self, call: Call) -> Result:
        await self._set_logins(call, "")
        return None

    async def _set_logins(self, call: Call, name: str) -> None:
        pool = call.arguments["self"]

        def change(txn: Txn) -> None:
            txn.get(Pool, pool)
            txn.update(
                Pool, pool, client_certificate_auth_enabled=bool(name), client_certificate_auth_name=name
            )

        await self._coordinator.write(change)
        self._use()

    def _load(self) -> Trusted:
        try:
            return trusted.load(self._files)
        except TrustedBroken as error:
            raise Failure("CERTIFICATE_LIBRARY_CORRUPT") from error

    async def _change(
        self, old: Trusted, new: Trusted, record: Callable[[Txn], None] = lambda _: None
    ) -> None:
        """Keeps something else, and records it; if that fails, it is as before."""
        try:
            await asyncio.to_thread(trusted.save, self._files, new)
        except OSError as error:
            raise errors.internal_error(f"the certificates: {error.strerror}") from error
        try:
            await self._coordinator.write(record)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(trusted.save, self._files, old))
            raise
        self._use()

    def _use(self) -> None:
        try:
            self._changed()
        except OSError as error:
            raise errors.internal_error(f"the certificates: {error}") from error


def _require_name(name: str, code: str) -> None:
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise Failure(code, name)


def _ca(text: str, now: datetime) -> x509.Certificate:
    if len(text) > TEXT_MAX:
        raise Failure("CA_CERTIFICATE_INVALID")
    try:
        certificate = x509.load_pem_x509_certificate(text.encode())
        _ = certificate.public_key(), certificate.subject, certificate.issuer  # read when they are asked for
    except MALFORMED as error:
        raise Failure("CA_CERTIFICATE_INVALID") from error
    require_valid_at(now, certificate, "CA_CERTIFICATE")
    return certificate


def _is_list(text: str) -> bool:
    if len(text) > CRL_TEXT_MAX:
        return False
    try:
        found = x509.load_pem_x509_crl(text.encode())
        _ = (
            found.issuer,
            found.signature_algorithm_oid,
            [each.serial_number for each in found],
        )  # read when asked for
    except MALFORMED:
        return False
    return True


def _without(texts: Mapping[str, str], name: str) -> dict[str, str]:
    return {each: text for each, text in texts.items() if each != name}


def _record(txn: Txn, name: str, certificate: x509.Certificate) -> None:
    _forget(txn, name)
    sha256, sha1 = fingerprints(certificate)
    txn.create(
        Certificate(
            ref=Ref(f"OpaqueRef:{uuid4()}"),
            uuid=str(uuid4()),
            name=name,
            type=CertificateType.CA,
            host=NULL,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            fingerprint=sha256,
            fingerprint_sha256=sha256,
            fingerprint_sha1=sha1,
        )
    )


def _forget(txn: Txn, name: str) -> None:
    for row in txn.where(Certificate, name=name):
        if row.type is CertificateType.CA:
            txn.destroy(Certificate, row.ref)
