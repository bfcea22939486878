"""With which certificates does this host serve, and how do they change? Installed, made anew, renewed in time.

The server's own pair is made at the first start (see `tls`) and renewed by itself; one that was installed takes its place
until it is reset, and is its installer's to renew. Clients get the new one from their next connection on; connections that
exist go on. The certificate of the door between hosts is the pool's (see `pki`), and is renewed with the pool's CA.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from poolnet.api import tls
from poolnet.api.certificate_checks import checked
from poolnet.pool import authority, pki, trusted
from poolnet.pool.authority import PoolFiles
from poolnet.pool.cluster import ClusterFiles
from poolnet.pool.membership import write_durably

log = structlog.get_logger("poolnet.api.certificates")

RENEW_BEFORE: Final = timedelta(days=14)
CHECK_S: Final = 3600.0
INSTALLED: Final = "installed.pem"


class HostCertificates:
    """The certificates of this host. Any thread may use it.

    Args:
        directory: Where the server's certificates are.
        pool: Where those of the door between hosts are, if it is in a pool of several.
        names: The host's names.
        addresses: Its addresses that a certificate names.
        host_uuid: Gives its uuid in the pool.
        clock: The current time in UTC.
        server: What this host keeps of its server of the database, which serves with the same certificate.
    """

    def __init__(
        self,
        directory: Path,
        pool: PoolFiles,
        *,
        names: Sequence[str],
        addresses: Sequence[str],
        host_uuid: Callable[[], str],
        clock: Callable[[], datetime],
        server: ClusterFiles | None = None,
    ) -> None:
        self._server = server
        self._directory = directory
        self._pool = pool
        self._names = names
        self._addresses = addresses
        self._host_uuid = host_uuid
        self._clock = clock
        self._changing = threading.Lock()
        self._on_refresh: Callable[[], None] = lambda: None
        self._clients: Sequence[str] = ()
        pki.finish_renewal(pool)
        self._context = self._loaded()
        self.tls = self._loaded()
        """The context for listeners; it always hands over to the newest certificate."""
        self.tls.sni_callback = self._hand_over

    def on_refresh(self, hear: Callable[[], None]) -> None:
        """Calls `hear` when the certificate of the door between hosts is another one."""
        self._on_refresh = hear

    @property
    def pool(self) -> PoolFiles:
        """Where those of the door between hosts are."""
        return self._pool

    def server_pem(self) -> str:
        """The certificate that the genuine `xe` and other clients of RSA get, PEM. Raises OSError."""
        path = (
            self._installed
            if self._installed.is_file()
            else tls.identities_in(self._directory).rsa.certificate
        )
        first = x509.load_pem_x509_certificates(path.read_bytes())[0]
        return first.public_bytes(serialization.Encoding.PEM).decode()

    def internal_pem(self) -> str:
        """The certificate of the door between hosts, PEM; "" on a host that never was in a pool of several."""
        return self._pool.certificate.read_text() if self._pool.complete() else ""

    def ask_clients(self, authorities: Sequence[str]) -> None:
        """Asks clients for certificates of these CAs (PEM), from their next connection on; of none, asks nobody.

        A client need not have one; one that shows one of another CA is not let in. Raises OSError.
        """
        with self._changing:
            self._clients = tuple(authorities)
            self._context = self._loaded()
            self.tls.verify_mode = self._context.verify_mode  # the only thing that is not handed over

    def install(self, certificate: str, private_key: str, chain: str) -> None:
        """Serves with another certificate from now on.

        Raises:
            Failure: SERVER_CERTIFICATE_…: It cannot be used (see `checked`); nothing has changed.
            OSError: It cannot be written.
        """
        content = checked(certificate, private_key, chain, self._clock())
        with self._changing:
            write_durably(self._installed, content)
            self._context = self._loaded()
        log.info("server-certificate-installed")

    def reset(self) -> None:
        """Serves with certificates made anew, whatever was installed. Raises OSError."""
        identities = tls.identities_in(self._directory)
        with self._changing:
            self._installed.unlink(missing_ok=True)
            for identity in (identities.rsa, identities.ec):
                identity.certificate.unlink(missing_ok=True)
            self._context = self._loaded()
        log.info("server-certificate-reset")

    def refresh_internal(self) -> None:
        """Makes the key and the certificate of the door between hosts anew, if this host has a CA. Raises OSError."""
        if self._pool.complete() and authority.has_authority(self._pool):
            with self._changing:
                pki.renew_certificate(self._pool, self._host_uuid(), self._clock())
                self._on_refresh()
            log.info("internal-certificate-refreshed")

    def request_internal(self) -> str:
        """Asks the coordinator for another certificate of the door between hosts, PEM. Raises OSError."""
        with self._changing:
            return pki.request_renewal(self._pool, self._host_uuid())

    def adopt_internal(self, certificate: str) -> None:
        """Uses the certificate that was asked for. Raises OSError, BadRequest."""
        with self._changing:
            pki.adopt(self._pool, certificate)
            self._on_refresh()
        log.info("internal-certificate-adopted")

    def authorities_pem(self) -> str:
        """The CAs whose signature counts at the door between hosts, PEM; "" if there is none. Raises OSError."""
        return self._pool.ca.read_text() if self._pool.complete() else ""

    def authority_pem(self) -> str:
        """This host's own CA, PEM; "" if it has none."""
        if not (self._pool.complete() and authority.has_authority(self._pool)):
            return ""
        return authority.pem_of(authority.own_authority(self._pool)[0]).decode()

    def grant(self, request: str, host_uuid: str) -> str:
        """Grants another host a certificate of this host's own CA, PEM. Raises OSError, BadRequest."""
        return pki.grant_certificate(self._pool, request, host_uuid, self._clock())

    def has_issued(self, certificate: str) -> bool:
        """Whether a certificate is of this host's own CA. Raises OSError."""
        return authority.has_issued(self._pool, certificate)

    @property
    def verifies(self) -> bool:
        """Whether this host checks the certificates of others."""
        return pki.verifies(self._pool)

    def set_verifying(self, *, verifying: bool) -> None:
        """Has this host check the certificates of others, or not. Raises OSError."""
        with self._changing:
            pki.set_verifying(self._pool, verifying=verifying)
            if self._pool.complete():
                self._on_refresh()
        log.warning("tls-verification", verifying=verifying)

    def installed_digest(self) -> str:
        """A hash of the CA certificates and revocation lists that are installed."""
        return trusted.digest(self._pool)

    @property
    def server_outdated(self) -> bool:
        """Whether this host's server of the database trusts a CA that this host does not trust any more."""
        return self._server is not None and self._server.trusts_former()

    def renew_server(self) -> None:
        """Has such a server start anew."""
        if self._server is not None:
            self._server.forget_former()

    def certified(self) -> frozenset[str]:
        """The uuids of the other hosts that have, or had, a certificate of this host's own CA."""
        return authority.issued(self._pool) if self.authority_pem() else frozenset()

    def begin_authority(self, pool_uuid: str) -> None:
        """Makes another CA of this host's own, besides the one that it has. Raises OSError."""
        with self._changing:
            authority.begin_authority(self._pool, pool_uuid, self._clock())
            self._on_refresh()
        if self._server is not None:
            self._server.authorities_changed()
        log.info("authority-begun")

    def trust_own_alone(self) -> None:
        """Lets no signature count at the door between hosts but those of this host's CA. Raises OSError."""
        with self._changing:
            authority.trust_own_alone(self._pool)
            self._on_refresh()
        log.info("former-authorities-dropped")

    def renew_due(self) -> None:
        """Renews what this host has made itself and what ends soon. Raises OSError."""
        soon = self._clock() + RENEW_BEFORE
        if not self._installed.is_file():
            identities = tls.identities_in(self._directory)
            if any(
                _end(identity.certificate.read_bytes()) < soon for identity in (identities.rsa, identities.ec)
            ):
                self.reset()
        internal = self.internal_pem()
        if internal and self.is_due(internal):
            self.refresh_internal()

    def is_due(self, certificate: str) -> bool:
        """Whether a certificate ends soon."""
        return _end(certificate.encode()) < self._clock() + RENEW_BEFORE

    @property
    def _installed(self) -> Path:
        return self._directory / INSTALLED

    def _loaded(self) -> ssl.SSLContext:
        """A context with what is there. Raises OSError."""
        context = self._serving()
        if self._clients:
            context.load_verify_locations(cadata="\n".join(self._clients))
            context.verify_mode = ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what is installed need not be a root
        return context

    def _serving(self) -> ssl.SSLContext:
        if self._installed.is_file():
            with suppress(ssl.SSLError):
                return tls.installed_context(self._installed)
            log.error("installed-certificate-broken", path=str(self._installed))
        identities = tls.ensure_identities(
            self._directory, names=self._names, addresses=self._addresses, now=self._clock()
        )
        return tls.server_context(identities)

    def _hand_over(self, connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._context


async def renew_certificates(own: HostCertificates) -> None:
    """Renews what is due, forever; for members, whose coordinator looks at what they have."""
    while True:
        try:
            await asyncio.to_thread(own.renew_due)
        except OSError as error:
            log.error("certificates-not-renewed", reason=str(error))  # noqa: TRY400
        await asyncio.sleep(CHECK_S)


def _end(pem: bytes) -> datetime:
    return x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
