"""Which calls are about CA certificates and revocation lists that somebody installs? The coordinator's, for all hosts.

What is installed is trusted for logins with certificates (`client_certificates`); a revocation list counts there, and at
the door between hosts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final, TypeVar

import structlog
from cryptography import x509
from msgspec.structs import replace

from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.trust_library import INSTALLED_MAX, TrustLibrary, forget, record, valid_certificate
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.failure import Failure
from poolnet.model.types import Ref
from poolnet.pool import trusted, wire
from poolnet.pool.authority import MALFORMED, pem_of
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.members import Members
from poolnet.pool.peer import PeerDenied, PeerGone

T = TypeVar("T")

log = structlog.get_logger("poolnet.api.certificates")

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
        library: What is installed.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        members: Members,
        host: Ref[Host],
        library: TrustLibrary,
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._members = members
        self._host = host
        self._library = library

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
            "host.certificate_list": self._list_of_host,
            "host.crl_list": self._list_crls_of_host,
            "host.certificate_sync": self._sync_host,
            "host.copy_primary_host_certs": self._sync_host,
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
        require_name(name, "CERTIFICATE_NAME_INVALID")
        async with self._library.lock:
            now = self._library.load()
            if name in now.authorities:
                raise Failure("CERTIFICATE_ALREADY_EXISTS", name)
            certificate = valid_certificate(text, datetime.now(UTC), "CA_CERTIFICATE")
            if len(now.authorities) >= INSTALLED_MAX:
                raise errors.internal_error(f"more than {INSTALLED_MAX} CA certificates")
            new = replace(now, authorities={**now.authorities, name: pem_of(certificate).decode()})
            await self._library.change(now, new, lambda txn: _recorded(txn, name, certificate))
        return None

    async def _uninstall(self, call: Call) -> Result:
        """Trusts a CA no longer.

        Raises:
            CERTIFICATE_NAME_INVALID: The name is no file name.
            CERTIFICATE_DOES_NOT_EXIST: None of that name is installed, and it is not forced.
            CERTIFICATE_LIBRARY_CORRUPT: What is installed cannot be read.
        """
        name = call.arguments["name"]
        require_name(name, "CERTIFICATE_NAME_INVALID")
        async with self._library.lock:
            now = self._library.load()
            if name not in now.authorities and not call.arguments.get("force"):
                raise Failure("CERTIFICATE_DOES_NOT_EXIST", name)
            new = replace(now, authorities=without(now.authorities, name))
            await self._library.change(now, new, lambda txn: forget(txn, name))
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
        require_name(name, "CRL_NAME_INVALID")
        async with self._library.lock:
            now = self._library.load()
            if name in now.revoked:
                raise Failure("CRL_ALREADY_EXISTS", name)
            if not is_list(text):
                raise Failure("CRL_CORRUPT", name)
            if len(now.revoked) >= INSTALLED_MAX:
                raise errors.internal_error(f"more than {INSTALLED_MAX} revocation lists")
            await self._library.change(now, replace(now, revoked={**now.revoked, name: text}))
        return None

    async def _uninstall_crl(self, call: Call) -> Result:
        """Has the certificates on a list accepted again.

        Raises:
            CRL_NAME_INVALID: The name is no file name.
            CRL_DOES_NOT_EXIST: None of that name is installed.
            CERTIFICATE_LIBRARY_CORRUPT: What is installed cannot be read.
        """
        name = call.arguments["name"]
        require_name(name, "CRL_NAME_INVALID")
        async with self._library.lock:
            now = self._library.load()
            if name not in now.revoked:
                raise Failure("CRL_DOES_NOT_EXIST", name)
            await self._library.change(now, replace(now, revoked=without(now.revoked, name)))
        return None

    async def _list(self, _: Call) -> Result:
        return tuple(sorted(self._library.load().authorities))

    async def _list_crls(self, _: Call) -> Result:
        return tuple(sorted(self._library.load().revoked))

    async def _sync(self, _: Call) -> Result:
        """Waits until all hosts have what is installed, which they get by themselves.

        Raises:
            CANNOT_CONTACT_HOST: A host cannot be reached; it gets it when it comes back.
        """
        for host in self._database.view.refs(Host):
            await self._require_told(host)
        return None

    async def _sync_host(self, call: Call) -> Result:
        """Waits until one host has what is installed. Raises HANDLE_INVALID, CANNOT_CONTACT_HOST."""
        await self._require_told(call.arguments["host"])
        return None

    async def _list_of_host(self, call: Call) -> Result:
        await self._require_told(call.arguments["host"])
        return await self._list(call)

    async def _list_crls_of_host(self, call: Call) -> Result:
        await self._require_told(call.arguments["host"])
        return await self._list_crls(call)

    async def _require_told(self, host: Ref[Host]) -> None:
        self._database.view.get(Host, host)
        if host != self._host and not await self._is_told(host):
            raise errors.cannot_contact_host(host)

    async def _is_told(self, host: Ref[Host]) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(SYNC_S):
                while True:
                    try:
                        shown = await self._members.ask(host, wire.Certify(action="show"), wire.Certified)
                    except (PeerGone, PeerDenied) as error:
                        log.warning("host-not-told", host=host, reason=str(error))
                        return False
                    if shown.installed == trusted.digest(self._library.files):
                        return True
                    await asyncio.sleep(SYNC_POLL_S)
        return False


def _recorded(txn: Txn, name: str, certificate: x509.Certificate) -> None:
    record(txn, certificate, name=name)


def require_name(name: str, code: str) -> None:
    """Raises the code unless it is a file name."""
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise Failure(code, name)


def is_list(text: str) -> bool:
    """Whether a text is a revocation list (PEM)."""
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


def without(texts: Mapping[str, T], name: str) -> dict[str, T]:
    """All of them but that one."""
    return {each: text for each, text in texts.items() if each != name}
