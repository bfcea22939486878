"""Which calls are about hosts' certificates? A coordinator carries them out, on this host or at a member's door.

It keeps the objects of the class Certificate in step with what the hosts have, and raises the alerts before they end.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Hashable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final
from uuid import uuid4

import structlog
from cryptography import x509

from poolnet.api.certificate_checks import fingerprints
from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.place import Place
from poolnet.api.server_trust import renew_servers
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.certificate import Certificate
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pool import Pool
from poolnet.model.enums import CertificateType
from poolnet.model.failure import Failure
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.cluster import look
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.members import Members
from poolnet.pool.pace import USUAL_SILENCE_S
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.pki import BadRequest
from poolnet.rules import certificate as rules
from poolnet.rules import ha
from poolnet.rules.certificate import Seen

log = structlog.get_logger("poolnet.api.certificates")

LOOK_S: Final = 5.0
CHECK_S: Final = 3600.0
HA_TIMEOUT_S_MIN: Final = 15


class CertificateCalls:
    """The calls of a coordinator.

    Args:
        database: The pool database.
        coordinator: Who writes it.
        members: The other hosts.
        host: This host.
        own: This host's certificates.
        place: What this host has of the cluster that the database may be on.
        quiet_s: How long coordinator, servers and CAs must have stayed the same before servers start anew: long enough to
            notice a host that is gone.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        members: Members,
        host: Ref[Host],
        own: HostCertificates,
        place: Place | None = None,
        quiet_s: float = USUAL_SILENCE_S,
    ) -> None:
        self._place = place
        self._quiet_s = quiet_s
        self._trusting: Hashable = None
        self._trusting_since = 0.0
        self._renewed: Hashable = None
        self._gone: frozenset[str] = frozenset()
        self._database = database
        self._coordinator = coordinator
        self._members = members
        self._host = host
        self._own = own
        self._looked: dict[Ref[Host], float] = {}

    def messages(self) -> Mapping[str, Own]:
        """The messages, by full name."""
        return {
            "host.install_server_certificate": self._install,
            "host.reset_server_certificate": self._reset,
            "host.emergency_reset_server_certificate": self._emergency_reset,
            "host.refresh_server_certificate": self._refresh,
            "host.get_server_certificate": self._show,
            "pool.enable_tls_verification": self._enable_verification,
            "host.emergency_disable_tls_verification": self._stop_verifying,
            "host.emergency_reenable_tls_verification": self._verify_again,
        }

    async def watch(self) -> None:
        """Keeps the records in step, renews what is this host's to renew, and raises alerts, forever."""
        loop = asyncio.get_running_loop()
        while True:
            for host in self._database.view.refs(Host):
                if loop.time() - self._looked.get(host, -CHECK_S) >= CHECK_S and self._is_live(host):
                    self._looked[host] = loop.time()
                    with suppress(Failure, OSError):
                        if host == self._host:
                            await asyncio.to_thread(self._own.renew_due)
                        shown = await self._ask(host, wire.Certify(action="show"))
                        if shown.internal and self._own.is_due(shown.internal):
                            await self._certify_anew(host)
                    await self._coordinator.write(lambda txn: rules.warn(txn, self._now(), _new_uuid))
            await self._leave_behind()
            if await self._settle():
                await self._renew_servers()
            await asyncio.sleep(LOOK_S)

    async def _settle(self) -> bool:
        """Has all hosts use this coordinator's CA, and then trust no other; whether that is so.

        A host that is away, and trusts a former CA alone, finds its coordinator by that one's signature when it comes back.
        So nobody gets a new certificate before all trust this CA, and none is distrusted before all have one.
        """
        own = self._own.authority_pem()
        if not own or self._own.authorities_pem() == own:
            return True
        if not all(map(self._is_live, self._database.view.refs(Host))):
            return False
        try:
            shown = await self._shown_by_all()
            if not all(own in answer.authorities for answer in shown.values()):
                return False
            for host, answer in shown.items():
                if not self._own.has_issued(answer.internal):
                    await self._certify_anew(host)
            await asyncio.to_thread(self._own.trust_own_alone)
        except (Failure, OSError) as error:
            log.info("former-authority-kept", reason=str(error))
            return False
        return True

    async def _leave_behind(self) -> None:
        """Begins another CA when a host has left that has a certificate of this one, if the database is on a cluster.

        The doors between hosts ask the database who is a host of the pool; the database's own servers cannot. One that is on
        its way in has a certificate before it has a record, and so is given the time between two looks.
        """
        hosts = {row.uuid for row in self._database.view.all(Host)}
        gone = self._own.certified() - hosts
        if self._place is not None and self._place.cluster is not None and gone & self._gone:
            try:
                await asyncio.to_thread(self._own.begin_authority, self._pool().uuid)
            except OSError as error:
                log.error("no-authority", reason=str(error))  # noqa: TRY400 - the reason says it all
        self._gone = gone

    async def _renew_servers(self) -> None:
        """Has the servers of the database trust what the hosts trust, and no more; once, for each set of them."""
        place, cluster = self._place, self._place.cluster if self._place is not None else None
        if place is None or cluster is None or place.servers.locked():
            return
        now = (cluster.servers, self._own.authorities_pem())
        if now != self._trusting:
            self._trusting, self._trusting_since = now, asyncio.get_running_loop().time()
        if now == self._renewed or asyncio.get_running_loop().time() - self._trusting_since < self._quiet_s:
            return
        if self._pool().ha_enabled and ha.timeout_s(self._pool().ha_configuration) < HA_TIMEOUT_S_MIN:
            return  # a host could fence itself while the one that leads starts anew
        own = self._database.view.get(Host, self._host)
        openers = place.files.openers(cluster, own.uuid, self._own.pool)
        async with place.servers:
            if await renew_servers(partial(look, cluster, openers), self._ask_by_uuid):
                self._renewed = now

    async def _ask_by_uuid(self, uuid: str, what: wire.Certify) -> wire.Certified:
        row = self._database.view.first(Host, uuid=uuid)
        if row is None:
            raise errors.uuid_invalid("host", uuid)
        return await self._ask(row.ref, what)

    async def _shown_by_all(self) -> Mapping[Ref[Host], wire.Certified]:
        """What each host has. Raises Failure for one that cannot be asked."""
        hosts = self._database.view.refs(Host)
        return {host: await self._ask(host, wire.Certify(action="show")) for host in hosts}

    async def _install(self, call: Call) -> Result:
        """Gives a host another certificate.

        Raises:
            HANDLE_INVALID: There is no such host.
            SERVER_CERTIFICATE_…: It cannot be used (see `certificate_checks`).
            CANNOT_CONTACT_HOST: The host cannot be reached.
        """
        a = call.arguments
        await self._ask(
            a["host"],
            wire.Certify(
                action="install",
                certificate=a["certificate"],
                key=a["private_key"],
                chain=a["certificate_chain"],
            ),
        )
        return None

    async def _reset(self, call: Call) -> Result:
        await self._ask(call.arguments["host"], wire.Certify(action="reset"))
        return None

    async def _emergency_reset(self, call: Call) -> Result:
        await self._ask(self._host, wire.Certify(action="reset"))
        return None

    async def _refresh(self, call: Call) -> Result:
        await self._certify_anew(call.arguments["host"])
        return None

    async def _certify_anew(self, host: Ref[Host]) -> None:
        """Gives a host another key and certificate of the door between hosts. Raises Failure."""
        row = self._database.view.get(Host, host)
        try:
            if host == self._host:
                await asyncio.to_thread(self._own.refresh_internal)
                await self._ask(host, wire.Certify(action="show"))
            else:
                asked = await self._ask(host, wire.Certify(action="request"))
                granted = await asyncio.to_thread(self._own.grant, asked.request, row.uuid)
                await self._ask(host, wire.Certify(action="adopt", certificate=granted))
        except (OSError, BadRequest) as error:
            raise errors.internal_error(f"the host's certificates: {error}") from error

    async def _show(self, call: Call) -> Result:
        return (await self._ask(call.arguments["host"], wire.Certify(action="show"))).server

    async def _enable_verification(self, call: Call) -> Result:
        """Says what is so but in an emergency: hosts of a pool verify each other. Those that do not do so again.

        Raises:
            CANNOT_CONTACT_HOST: A host that does not cannot be reached.
        """
        if self._pool().tls_verification_enabled:
            for row in self._database.view.all(Host):
                if not row.tls_verification_enabled:
                    await self._ask(row.ref, wire.Certify(action="verify"))
        elif not self._own.verifies:
            await self._ask(self._host, wire.Certify(action="verify"))

        def change(txn: Txn) -> None:
            for pool in txn.all(Pool):
                txn.update(Pool, pool.ref, tls_verification_enabled=True)
            for host in txn.all(Host):
                txn.update(Host, host.ref, tls_verification_enabled=True)

        await self._coordinator.write(change)
        return None

    async def _stop_verifying(self, _: Call) -> Result:
        """Has this host check no certificates of others, until it is told to again; an alert says so."""
        await self._set_verifying(verifying=False)
        return None

    async def _verify_again(self, _: Call) -> Result:
        """Has this host check certificates again.

        Raises:
            TLS_VERIFICATION_NOT_ENABLED_IN_POOL: The pool does not say that its hosts do.
        """
        if not self._pool().tls_verification_enabled:
            raise Failure("TLS_VERIFICATION_NOT_ENABLED_IN_POOL")
        await self._set_verifying(verifying=True)
        return None

    async def _set_verifying(self, *, verifying: bool) -> None:
        try:
            await asyncio.to_thread(self._own.set_verifying, verifying=verifying)
        except OSError as error:
            raise errors.internal_error(f"the host's certificates: {error.strerror}") from error

        def change(txn: Txn) -> None:
            rules.verifying(txn, self._host, self._now(), _new_uuid, verifies=verifying)

        await self._coordinator.write(change)

    def _pool(self) -> Pool:
        return next(iter(self._database.view.all(Pool)))

    async def _ask(self, host: Ref[Host], what: wire.Certify) -> wire.Certified:
        """Has a host do something with its certificates, and records which it has then. Raises Failure."""
        self._database.view.get(Host, host)
        if host == self._host:
            answer = await asyncio.to_thread(certify, self._own, what)
        else:
            try:
                answer = await self._members.ask(host, what, wire.Certified)
            except PeerDenied as error:
                if error.denied.code:
                    raise Failure(error.denied.code, *error.denied.params) from error
                raise errors.cannot_contact_host(host) from error
            except PeerGone as error:
                raise errors.cannot_contact_host(host) from error
        seen = _seen(answer)
        if seen != self._known(host):
            await self._coordinator.write(partial(_record, host, seen, self._now()))
        return answer

    def _known(self, host: Ref[Host]) -> tuple[Seen, ...]:
        rows = self._database.view.where(Certificate, host=host)
        return tuple(
            Seen(
                type=row.type,
                not_before=row.not_before,
                not_after=row.not_after,
                sha256=row.fingerprint_sha256,
                sha1=row.fingerprint_sha1,
            )
            for row in rows
        )

    def _is_live(self, host: Ref[Host]) -> bool:
        view = self._database.view
        row = view.find(Host, host)
        metrics = view.find(HostMetrics, row.metrics) if row is not None else None
        return host == self._host or (metrics is not None and metrics.live)

    def _now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC)


def certify(own: HostCertificates, what: wire.Certify) -> wire.Certified:
    """Does what is asked with a host's own certificates.

    Raises:
        SERVER_CERTIFICATE_…: One that was to be installed cannot be used.
        INTERNAL_ERROR: They cannot be written.
    """
    try:
        if what.action == "install":
            own.install(what.certificate, what.key, what.chain)
        elif what.action == "reset":
            own.reset()
        elif what.action == "adopt":
            own.adopt_internal(what.certificate)
        elif what.action == "verify":
            own.set_verifying(verifying=True)
        elif what.action == "forget":
            own.renew_server()
        return wire.Certified(
            server=own.server_pem(),
            internal=own.internal_pem(),
            authorities=own.authorities_pem(),
            request=own.request_internal() if what.action == "request" else "",
            installed=own.installed_digest(),
            outdated=own.server_outdated,
        )
    except BadRequest as error:
        raise errors.internal_error(str(error)) from error
    except OSError as error:
        raise errors.internal_error(f"the host's certificates: {error.strerror}") from error


def _record(host: Ref[Host], seen: tuple[Seen, ...], now: dt.datetime, txn: Txn) -> None:
    rules.record(txn, host, seen, _new_uuid)
    rules.warn(txn, now, _new_uuid)


def _seen(answer: wire.Certified) -> tuple[Seen, ...]:
    kinds = ((CertificateType.HOST, answer.server), (CertificateType.HOST_INTERNAL, answer.internal))
    return tuple(_seen_one(kind, pem) for kind, pem in kinds if pem)


def _seen_one(kind: CertificateType, pem: str) -> Seen:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    sha256, sha1 = fingerprints(certificate)
    return Seen(
        type=kind,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        sha256=sha256,
        sha1=sha1,
    )


def _new_uuid() -> str:
    return str(uuid4())
