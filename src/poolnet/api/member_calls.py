"""How does a member answer? Next to nothing by itself: its console's calls go to the coordinator, others are told where it is.

While the coordinator is not there (emergency mode, spec §6.4) only the calls that lead out of it are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import structlog
from msgspec.structs import replace

from poolnet.api.answer import (
    CONFIRM_HEADER,
    Answer,
    DownloadRefused,
    Origin,
    Refusal,
    Relayed,
    Request,
    Success,
)
from poolnet.api.auditing import Auditor
from poolnet.api.binding import as_wire, bind
from poolnet.api.bytestream import ByteStream
from poolnet.api.cluster_calls import describe, keeping_files
from poolnet.api.dispatch import system_answer
from poolnet.api.ha_calls import disarm, is_armed
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.member_caller import ForwardingCaller, runs_here
from poolnet.api.office import Office
from poolnet.api.parts import Background
from poolnet.api.place import Place
from poolnet.api.pool_calls import CLUSTER_DECIDES, is_secret, resolved
from poolnet.api.results import plain_value
from poolnet.api.sessions import Sessions
from poolnet.api.wire import Wire
from poolnet.db.database import Database
from poolnet.model import errors
from poolnet.model.classes.pool import Pool
from poolnet.model.registry import MESSAGES
from poolnet.model.types import NULL, Value
from poolnet.pool.authority import PoolFiles
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.member import Member
from poolnet.pool.membership import EMERGENCY_TERMS
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.start import host_uuid
from poolnet.xe.caller import Caller
from poolnet.xe.commands.catalog import COMMANDS
from poolnet.xe.commands.run import SESSION

log = structlog.get_logger("poolnet.api.member")

HEAD_BYTES_MAX: Final = 64 * 1024
_LOGINS: Final = frozenset(("session.login_with_password", "session.slave_login"))

Handler = Callable[[Mapping[str, Any], Origin, str], Awaitable[Value]]


class MemberCalls:
    """The calls of a member.

    Args:
        database: Its copy of the pool database.
        member: Its connection to the coordinator.
        sessions: Sessions of this host alone.
        files: Where the pool secret is.
        auditor: Who keeps this host's audit log.
        certificates: This host's certificates.
        place: What this host has of the cluster that the database may be on.
        office: What this host is, and how that changes.
        daemon: Its host daemon.
    """

    def __init__(
        self,
        *,
        database: Database,
        member: Member,
        sessions: Sessions,
        files: PoolFiles,
        auditor: Auditor,
        certificates: HostCertificates,
        place: Place,
        office: Office,
        daemon: HostLink,
    ) -> None:
        self._daemon = daemon
        self._place = place
        self._office = office
        self._certificates = certificates
        self.auditor = self._auditor = auditor
        self._database = database
        self._member = member
        self._sessions = sessions
        self._files = files
        self._own: Mapping[str, Handler] = {
            "pool.emergency_transition_to_master": self._transition,
            "pool.emergency_reset_master": self._reset_master,
            "pool.is_slave": self._is_slave,
            "pool.cluster_status": self._cluster_status,
            "host.emergency_ha_disable": self._emergency_disable_ha,
            "host.ha_xapi_healthcheck": self._is_healthy,
            "host.is_in_emergency_mode": self._is_in_emergency_mode,
            "host.emergency_reset_server_certificate": self._reset_certificate,
            "host.emergency_disable_tls_verification": self._stop_verifying,
            "host.emergency_reenable_tls_verification": self._verify_again,
            "host.local_assert_healthy": self._assert_healthy,
            "host.management_disable": self._disable_management,
            "host.signal_networking_change": self._nothing_to_do,
            "session.slave_local_login": self._secret_login,
            "session.slave_local_login_with_password": self._local_login,
            "session.local_logout": self._local_logout,
        }

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        """Answers a call; nothing that a client sends raises."""
        try:
            if method in self._own:
                message = MESSAGES[method]
                return Success(message.result, await self._answer(method, params, origin))
            of_server = system_answer(method, params)
            if of_server is not None:
                return of_server
            emergency = self._member.emergency
            if emergency is not None:
                return Refusal(emergency.code, emergency.params, before_dispatch=True)
            if origin.local_root and origin.request is not None:
                return await self.pass_on(origin.request)
            return await self._redirect(method, params)
        except errors.Failure as failure:
            return Refusal(failure.code, failure.params)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a bug is this call's failure, and the server goes on
            log.error("call-failed", method=method[:128], error=type(error).__name__)  # noqa: TRY400 - no traceback: it may quote a secret
            return Refusal("INTERNAL_ERROR", (type(error).__name__,))

    async def perform(self, session: str, method: str, params: Sequence[Wire], origin: Origin) -> Value:
        """Carries out a call made in this process. Raises Failure."""
        if method not in self._own:
            emergency = self._member.emergency
            raise emergency or errors.host_is_slave(self._member.coordinator_address)
        given = [session, *params] if MESSAGES[method].session_arg else params
        return await self._answer(method, given, origin)

    async def _answer(self, method: str, params: Sequence[Wire], origin: Origin) -> Value:
        message = MESSAGES[method]
        session, arguments = bind(message, method, params)
        live = None
        if message.session_arg and not origin.local_root:
            try:
                live = await self._sessions.check(session)
            except errors.Failure as failure:
                self._auditor.refused(message, arguments, None, origin, failure)
                raise
        return await self._auditor.carry_out(
            message, arguments, live, origin, lambda: self._own[method](arguments, origin, session)
        )

    async def audit_log(self, query: Mapping[str, str], origin: Origin) -> AsyncIterator[bytes]:
        """Tells who asks for the audit log where the coordinator's is. Raises DownloadRefused."""
        emergency = self._member.emergency
        if emergency is not None:
            raise DownloadRefused(503, "Service Unavailable")
        address = self._member.coordinator_address
        there = f"[{address}]" if ":" in address else address
        raise DownloadRefused(302, "Found", f"https://{there}/audit_log?{urlencode(query)}")

    async def _redirect(self, method: str, params: Sequence[Wire]) -> Answer:
        """Tells a client from elsewhere where to go (spec §3.2, §3.4)."""
        if method not in _LOGINS and method.removeprefix("Async.") in MESSAGES:
            session = params[0] if params and isinstance(params[0], str) else ""
            if not await self._is_session(session):
                raise errors.session_invalid(session or NULL)
        raise errors.host_is_slave(self._member.coordinator_address)

    async def _is_session(self, session: str) -> bool:
        """Whether the coordinator knows a session."""
        body = _xml_call("pool.get_all", session)
        relayed = await self.pass_on(Request("/", body))
        return b"SESSION_INVALID" not in relayed.body

    async def pass_on(self, request: Request) -> Relayed:
        """Has the coordinator answer a call. Raises CANNOT_CONTACT_HOST."""
        try:
            reader, writer = await self._member.open_client()
        except (PeerGone, PeerDenied, OSError) as error:
            raise self._unreachable() from error
        try:
            writer.write(_head(request, close=True) + request.body)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            content = await reader.read()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise self._unreachable() from error
        finally:
            writer.close()
        return _relayed(head, content, self._unreachable)

    def _unreachable(self) -> errors.Failure:
        pool = next(iter(self._database.view.all(Pool)), None)
        return errors.cannot_contact_host(pool.master if pool is not None else NULL)

    # --- command lines -----------------------------------------------------------------------------------------

    def relay(self, words: Sequence[str], origin: Origin) -> Callable[[ByteStream], Awaitable[None]] | None:
        """Who passes a command line of this host's console on to the coordinator; None for those that stay here."""
        if not origin.local_root or origin.request is None or self._member.emergency is not None:
            return None
        name = next((word for word in words if not word.startswith(SESSION)), "")
        command = COMMANDS.get(name)
        if (command is not None and command.never_forward) or runs_here(name, tuple(words)):
            return None
        request = origin.request

        async def pass_on(stream: ByteStream) -> None:
            try:
                reader, writer = await self._member.open_client()
            except (PeerGone, PeerDenied, OSError) as error:
                log.warning("command-not-passed-on", reason=str(error))
                stream.abort()
                return
            writer.write(_head(request, close=False) + request.body)
            await stream.join(reader, writer)

        return pass_on

    # --- what is answered here ---------------------------------------------------------------------------------

    async def _transition(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        await self._require_no_ha()
        cluster = self._place.cluster
        if cluster is None:
            self._member.promote(self._member.term + EMERGENCY_TERMS)
            return None
        if self._place.seat is not None and self._place.seat.connected:
            raise errors.operation_not_allowed(CLUSTER_DECIDES)
        with keeping_files():
            self._place.files.save(replace(cluster, step="salvage"))
        self._office.start_anew(self._office.role)
        return None

    async def _cluster_status(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        own = host_uuid(self._office.state_dir)
        return await describe(self._place, self._database.view, own, self._files)

    async def _reset_master(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        await self._require_no_ha()
        if self._place.cluster is not None:
            self._leave_cluster()
        self._member.follow_other("", await resolved(arguments["master_address"]), 0)
        return None

    def _leave_cluster(self) -> None:
        """Has nothing to do with the cluster any more, which is lost. Raises OPERATION_NOT_ALLOWED, INTERNAL_ERROR."""
        if self._place.seat is not None and self._place.seat.connected:
            raise errors.operation_not_allowed(CLUSTER_DECIDES)
        with keeping_files():
            self._place.files.leave()

    async def _require_no_ha(self) -> None:
        """Raises HA_IS_ENABLED on a host that is armed; one that an administrator has disarmed is not (spec §6.4)."""
        try:
            armed = bool(await is_armed(self._daemon))
        except (HostGone, HostRefused):
            armed = any(pool.ha_enabled for pool in self._database.view.all(Pool))
        if armed:
            raise errors.ha_is_enabled()

    async def _emergency_disable_ha(
        self, arguments: Mapping[str, Any], origin: Origin, session: str
    ) -> Value:
        await disarm(self._daemon, self._place, soft=arguments["soft"])
        return None

    async def _is_healthy(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        return True

    async def _is_slave(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        return True

    async def _is_in_emergency_mode(
        self, arguments: Mapping[str, Any], origin: Origin, session: str
    ) -> Value:
        return self._member.emergency is not None

    async def _assert_healthy(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        emergency = self._member.emergency
        if emergency is not None:
            raise emergency
        return None

    async def _disable_management(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        await self._require_no_ha()
        raise errors.slave_requires_management_interface()

    async def _reset_certificate(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        try:
            await asyncio.to_thread(self._certificates.reset)
        except OSError as error:
            raise errors.internal_error(f"the host's certificates: {error.strerror}") from error
        return None

    async def _stop_verifying(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        return await self._set_verifying(verifying=False)

    async def _verify_again(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        if not any(pool.tls_verification_enabled for pool in self._database.view.all(Pool)):
            raise errors.Failure("TLS_VERIFICATION_NOT_ENABLED_IN_POOL")
        return await self._set_verifying(verifying=True)

    async def _set_verifying(self, *, verifying: bool) -> Value:
        """Has this host check certificates or not; the coordinator hears of it with the next heartbeat."""
        try:
            await asyncio.to_thread(self._certificates.set_verifying, verifying=verifying)
        except OSError as error:
            raise errors.internal_error(f"the host's certificates: {error.strerror}") from error
        return None

    async def _nothing_to_do(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        return None

    async def _secret_login(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        accepted = is_secret(self._files, arguments["psecret"])
        return await self._sessions.local_pool_login(accepted)

    async def _local_login(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        return await self._sessions.local_login(
            arguments["uname"], arguments["pwd"], origin.local_root, origin.peer
        )

    async def _local_logout(self, arguments: Mapping[str, Any], origin: Origin, session: str) -> Value:
        await self._sessions.logout(session)
        return None


class MemberCaller:
    """A session of this host alone, in this process."""

    def __init__(self, calls: MemberCalls, session: str, origin: Origin) -> None:
        self._calls = calls
        self._origin = origin
        self.session = session

    async def call(self, method: str, *args: Value) -> Value:
        """Calls a message and gives its result as plain values."""
        params = [as_wire(arg) for arg in args]
        return plain_value(await self._calls.perform(self.session, method, params, self._origin))


class MemberLogin:
    """Logs command lines in that a member carries out itself, and refuses all others."""

    def __init__(
        self, calls: MemberCalls, sessions: Sessions, member: Member, background: Background, origin: Origin
    ) -> None:
        self._background = background
        self._calls = calls
        self._sessions = sessions
        self._member = member
        self._origin = origin

    async def login(self, user: str, password: str, *, local: bool) -> Caller:
        """Opens a session of this host alone, or for its console at the coordinator."""
        if not local and self._origin.local_root and self._member.emergency is None:
            caller = ForwardingCaller(self._calls.pass_on)
            await caller.login(user)
            return caller
        if not local:
            raise self._member.emergency or errors.host_is_slave(self._member.coordinator_address)
        origin = self._origin
        try:
            session = await self._sessions.local_login(user, password, origin.local_root, origin.peer)
        except errors.Failure as failure:
            self._calls.auditor.login(user, origin, failure)
            raise
        self._calls.auditor.login(user, origin, None)
        return MemberCaller(self._calls, session, self._origin)

    async def resume(self, session: str) -> Caller:
        """Uses a session of this host that exists already, or the coordinator's."""
        if self._origin.local_root and self._member.emergency is None:
            return ForwardingCaller(self._calls.pass_on, session)
        await self._sessions.check(session)
        return MemberCaller(self._calls, session, self._origin)

    def logout(self, caller: Caller) -> None:
        """Closes a session that `login` opened; the coordinator hears of its own when it can."""
        if isinstance(caller, MemberCaller):
            self._sessions.end(caller.session)
        elif isinstance(caller, ForwardingCaller):
            self._background.start(caller.logout(), "logout")

    def confirming(self, caller: Caller, within_s: float) -> Caller:
        """The same; a call that goes to the coordinator says so there. What a member does by itself is not confirmed."""
        return caller.confirming(within_s) if isinstance(caller, ForwardingCaller) else caller

    async def dry_run(self, caller: Caller, body: Callable[[Caller], Awaitable[None]]) -> str:
        """Refuses: what a member does by itself concerns no host's network."""
        raise errors.not_implemented("dry-run")


def _head(request: Request, *, close: bool) -> bytes:
    kind = "application/json" if request.path == "/jsonrpc" else "text/xml"
    lines = [f"POST {request.path} HTTP/1.1" if close else f"POST {request.path} HTTP/1.0", "Host: localhost"]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(request.body)}"]
    if request.confirm_within_s is not None:
        lines.append(f"{CONFIRM_HEADER}: {request.confirm_within_s}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode()


def _relayed(head: str, content: bytes, failure: Callable[[], errors.Failure]) -> Relayed:
    """The coordinator's answer. Raises `failure` when it is none."""
    status, *lines = head.split("\r\n")
    headers = dict(line.lower().partition(": ")[::2] for line in lines if ":" in line)
    length = headers.get("content-length", "")
    if status.split(" ")[1:2] != ["200"] or not length.isdecimal() or int(length) != len(content):
        raise failure()
    return Relayed(headers.get("content-type", "text/xml"), content)


def _xml_call(method: str, param: str) -> bytes:
    text = param.replace("&", "&amp;").replace("<", "&lt;")
    call = f"<methodCall><methodName>{method}</methodName><params><param><value>{text}</value></param></params></methodCall>"
    return f"<?xml version='1.0'?>{call}".encode(errors="replace")
