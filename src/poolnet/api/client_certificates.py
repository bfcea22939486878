"""May a client log in with a certificate? If the pool says so, of a CA that is installed, under the name that the pool says.

TLS has checked the certificate when a call arrives (`HostCertificates.ask_clients`). One that does not fit counts as none: then
user name and password decide. Whoever logs in so has the rights of the internal role `client-cert` (spec §3.2, §3.6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from poolnet.api.credentials import Identity
from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.sessions import Sessions
from poolnet.db.database import Database
from poolnet.db.feed import Published
from poolnet.model.classes.pool import Pool
from poolnet.model.roles import Role
from poolnet.pool import trusted
from poolnet.pool.authority import MALFORMED, PoolFiles, is_issued_by
from poolnet.pool.trusted import TrustedBroken

log = structlog.get_logger("poolnet.api.certificates")


class ClientCertificates:
    """Logins with certificates.

    Args:
        database: Which says whether there are any, and the name.
        files: What is installed.
        sessions: Where they are admitted.
        login: What is done about all others.
    """

    def __init__(self, *, database: Database, files: PoolFiles, sessions: Sessions, login: Own) -> None:
        self._database = database
        self._files = files
        self._sessions = sessions
        self._login = login

    def follow(self, changed: Callable[[], None]) -> None:
        """Calls `changed` whenever the pool lets other clients log in so than before. It may raise OSError."""
        known = self._logins()

        def hear(published: Published) -> None:
            nonlocal known
            if any(isinstance(row, Pool) for row in published.modified) and known != self._logins():
                known = self._logins()
                try:
                    changed()
                except OSError as error:
                    log.error("clients-not-asked", reason=str(error))  # noqa: TRY400 - the reason says it all

        self._database.feed.subscribe(hear)

    def _logins(self) -> tuple[bool, str]:
        pool = self._pool()
        return pool.client_certificate_auth_enabled, pool.client_certificate_auth_name

    def authorities(self) -> Sequence[str]:
        """The CAs whose certificates clients are asked for, PEM; none if there are no such logins."""
        pool = self._pool()
        if not pool.client_certificate_auth_enabled:
            return ()
        try:
            return tuple(trusted.load(self._files).authorities.values())
        except TrustedBroken as error:
            log.error("no-logins-with-certificates", reason=str(error))  # noqa: TRY400 - the reason says it all
            return ()

    async def login(self, call: Call) -> Result:
        """`session.login_with_password`. Raises Failure: of a login with a password."""
        shown = call.origin.certificate
        if shown is None or not self._accepts(shown):
            return await self._login(call)
        name = self._pool().client_certificate_auth_name
        identity = Identity(user=name, role=Role.READ_ONLY)
        return await self._sessions.admit(identity, originator=call.arguments["originator"], certified=True)

    def _accepts(self, shown: bytes) -> bool:
        pool = self._pool()
        if not pool.client_certificate_auth_enabled:
            return False
        try:
            certificate = x509.load_der_x509_certificate(shown)
            names = {each.value for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)}
            issuers = [x509.load_pem_x509_certificate(text.encode()) for text in self.authorities()]
            return (
                pool.client_certificate_auth_name in names
                and any(
                    is_issued_by(certificate, issuer) for issuer in issuers
                )  # others may have been installed when TLS checked it
                and not trusted.is_revoked(self._files, shown, issuers)
            )
        except MALFORMED as error:
            log.warning("client-certificate-not-read", reason=str(error))
            return False

    def _pool(self) -> Pool:
        return next(iter(self._database.view.all(Pool)))
