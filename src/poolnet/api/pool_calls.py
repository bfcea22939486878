"""Which calls about the pool itself does a coordinator carry out? Those that are more than a change of its database.

They make, use or end connections between hosts, or change what this host is. The dispatcher gets them as a mapping from
full names. What members answer by themselves is in `member_calls`.
"""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from poolnet.api.cluster_calls import require_no_server, require_server
from poolnet.api.dispatch import Call, Own, Result, session_of
from poolnet.api.joining import Admitting, Joining
from poolnet.api.office import Office
from poolnet.api.place import Place
from poolnet.api.sessions import Sessions
from poolnet.db.database import Database
from poolnet.db.seat import BROKEN, NoMajority
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.members import Members
from poolnet.pool.membership import DESIGNATED_TERMS, Cluster, Membership
from poolnet.pool.membership import Role as HostRole
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.pki import rotate_secret
from poolnet.rules import leave
from poolnet.rules.pool import management_reconfigure

log = structlog.get_logger("poolnet.api.pool")

SYNC_S: Final = 60.0
HAND_OVER_S: Final = 30.0
HEARD_S: Final = 10.0  # a member that lost the connection makes a new one after a second
PROMOTE_S: Final = 15.0  # for a host whose server is killed just then to start again
TELL_S: Final = 5.0  # likewise for members
TELL_AT_HAND_OVER_S: Final = 0.7  # they find out by themselves, and the caller waits for the answer
AGAIN_S: Final = 0.3
CLUSTER_DECIDES: Final = "The cluster that the pool's database is on decides which host is the coordinator"


class PoolCalls:
    """The calls of a coordinator.

    Args:
        database: The pool database.
        coordinator: Who carries out what rules decide.
        sessions: Who is logged in.
        members: The other hosts.
        joining: This host's way into another pool.
        admitting: Other hosts' way into this one.
        host: This host.
        files: What the hosts of the pool prove themselves with.
        office: What this host is, and how that changes.
        place: What it has of the cluster that the database may be on.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        sessions: Sessions,
        members: Members,
        joining: Joining,
        admitting: Admitting,
        host: Ref[Host],
        files: PoolFiles,
        office: Office,
        place: Place | None = None,
    ) -> None:
        self._place = place
        self._database = database
        self._coordinator = coordinator
        self._sessions = sessions
        self._members = members
        self._joining = joining
        self._admitting = admitting
        self._host = host
        self._files = files
        self._office = office
        self._changing_role = asyncio.Lock()

    def messages(self) -> Mapping[str, Own]:
        """The messages, by full name."""
        return {
            "pool.join": self._join,
            "pool.join_force": self._join_force,
            "pool.join_fixing": self._join_fixing,
            "pool.explain_join": self._explain_join,
            "pool.explain_admission": self._explain_admission,
            "pool.exchange_certificates_on_join": self._admit,
            "pool.eject": self._eject,
            "pool.recover_slaves": self._recover_slaves,
            "pool.designate_new_master": self._designate,
            "pool.emergency_transition_to_master": self._stay_coordinator,
            "pool.emergency_reset_master": self._reset_master,
            "pool.is_slave": self._is_slave,
            "pool.sync_database": self._sync_database,
            "pool.rotate_secret": self._rotate_secret,
            "pool.management_reconfigure": self._reconfigure_management,
            "session.slave_login": self._slave_login,
        }

    async def _join(self, call: Call) -> Result:
        return await self._join_pool(call, force=False)

    async def _join_force(self, call: Call) -> Result:
        return await self._join_pool(call, force=True)

    async def _join_fixing(self, call: Call) -> Result:
        return await self._join_pool(call, force=call.arguments["force"], fix=True)

    async def _explain_join(self, call: Call) -> Result:
        a = call.arguments
        return await self._joining.explain(
            a["master_address"], a["master_username"], a["master_password"], force=a["force"], fix=a["fix"]
        )

    async def _explain_admission(self, call: Call) -> Result:
        return self._admitting.explain(call.arguments["uuid"], call.arguments["records"])

    async def _join_pool(self, call: Call, *, force: bool, fix: bool = False) -> Result:
        a = call.arguments
        if self._changing_role.locked():
            raise errors.other_operation_in_progress("pool", self._pool().ref, ())
        async with self._changing_role:
            await self._joining.join(
                a["master_address"], a["master_username"], a["master_password"], force=force, fix=fix
            )
        return None

    async def _admit(self, call: Call) -> Result:
        """Whoever may admit a host gives away the pool's secret: superusers and pool administrators alone."""
        live = call.live
        if live is None or not (live.is_superuser or live.role is Role.POOL_ADMIN):
            raise errors.rbac_permission_denied(call.message.full_name, "No permission in user session")
        return await self._admitting.admit(call.arguments["uuid"], call.arguments["certificate"])

    async def _rotate_secret(self, call: Call) -> Result:
        """Makes another pool secret, which all hosts get with the next heartbeat; the old one is of no use from now on.

        Raises:
            HA_IS_ENABLED: Of the pool.
            CANNOT_CONTACT_HOST: A host is not heard; it would keep the old one.
            INTERNAL_ERROR: It cannot be written.
        """
        if self._pool().ha_enabled:
            raise errors.ha_is_enabled()
        if not self._files.complete():
            return None  # a host that never was in a pool of several has none
        view = self._database.view
        context = self._coordinator.context(self._database.begin(), session_of(call.live), call.task)
        silent = next((host for host in view.refs(Host) if not context.is_live(host)), None)
        if silent is not None:
            raise errors.cannot_contact_host(silent)
        try:
            await asyncio.to_thread(rotate_secret, self._files)
        except OSError as error:
            raise errors.internal_error(f"the pool secret: {error.strerror}") from error
        return None

    async def _eject(self, call: Call) -> Result:
        host = call.arguments["host"]
        arguments: dict[str, Any] = {"host": host}
        self._coordinator.ask(self._rule(call, leave.require_ejectable, arguments))
        require_no_server(self._cluster, self._database.view.get(Host, host))
        try:
            await self._members.ask(host, wire.Leave(), wire.Granted)
        except (PeerGone, PeerDenied) as error:
            log.warning("not-ejected", host=host, reason=str(error))
            raise errors.cannot_contact_host(host) from error
        self._members.drop(host)
        await self._coordinator.run(self._rule(call, leave.eject, arguments))
        return None

    async def _recover_slaves(self, call: Call) -> Result:
        """Tells all members where this host is; those that follow it now (spec §19.2)."""
        told = await self._announce()
        return tuple(dict.fromkeys((*told, *self._members.connected)))

    async def _announce(self) -> tuple[Ref[Host], ...]:
        others = [host for host in self._database.view.refs(Host) if host != self._host]
        follow = self._members.office
        heard = await asyncio.gather(*(self._tell(host, follow) for host in others))
        return tuple(host for host, has_heard in zip(others, heard, strict=True) if has_heard)

    async def _tell(self, host: Ref[Host], follow: wire.Follow) -> bool:
        try:
            await self._ask_again(host, follow, TELL_S)
        except (PeerGone, PeerDenied) as error:
            log.warning("member-not-told", host=host, reason=str(error))
            return False
        return True

    async def _ask_again(
        self, host: Ref[Host], question: wire.Follow | wire.Promote, within_s: float
    ) -> None:
        """Asks until the host answers: its server may be starting just then. Raises PeerGone, PeerDenied."""
        loop = asyncio.get_running_loop()
        until = loop.time() + within_s
        while True:
            try:
                await self._members.ask(host, question, wire.Granted)
            except PeerGone:
                if loop.time() > until:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                return

    async def _reconfigure_management(self, call: Call) -> Result:
        await self._coordinator.run(self._rule(call, management_reconfigure, call.arguments))
        await self._announce()
        return None

    async def _designate(self, call: Call) -> Result:
        """Hands the role over: nothing is written any more, and the other has everything (spec §19.3).

        Raises:
            HA_IS_ENABLED: The pool has high availability.
            OTHER_OPERATION_IN_PROGRESS: Somebody else changes this host's role.
            HOST_OFFLINE: The host is not heard.
            HA_ABORT_NEW_MASTER: It does not take the role, or a member that is up is not heard. Nothing has changed.
        """
        host = call.arguments["host"]
        row = self._database.view.get(Host, host)
        if host == self._host:
            return None
        if self._pool().ha_enabled:
            raise errors.ha_is_enabled()
        if self._changing_role.locked():
            raise errors.other_operation_in_progress("pool", self._pool().ref, ())
        async with self._changing_role:
            await self._members.heard(HEARD_S)
            connected = self._members.connected
            if host not in connected:
                raise errors.host_offline(host)
            absent = [
                other.name_label
                for other in self._database.view.all(Host)
                if other.ref not in (self._host, *connected) and self._is_live(other.ref)
            ]
            if absent:
                raise errors.ha_abort_new_master(f"not reached: {', '.join(absent)}")
            if self._cluster is not None:
                require_server(self._cluster, row)
            await self._coordinator.hold()
            hand_over = self._leave_turn if self._cluster is not None else self._hand_over
            await asyncio.shield(asyncio.ensure_future(hand_over(host, row)))
        return None  # and nothing is written here any more

    async def _hand_over(self, host: Ref[Host], row: Host) -> None:
        """Makes another host coordinator, while nothing is written. Raises HA_ABORT_NEW_MASTER if it does not take it.

        This host is none from the moment before the other one is asked: there are never two, whichever of them dies.
        """
        term = self._members.term + DESIGNATED_TERMS
        successor = Membership(
            role=HostRole.MEMBER,
            coordinator_uuid=row.uuid,
            coordinator_address=row.address,
            pool_uuid=self._pool().uuid,
            term=term,
        )
        stays = True
        try:
            if not await self._members.replicated((host,), self._database.feed.number, HAND_OVER_S):
                raise errors.ha_abort_new_master("the database did not reach the new coordinator")
            self._office.note(successor)
            stays = False
            try:
                await self._ask_again(host, wire.Promote(term=term), PROMOTE_S)
            except PeerDenied as error:
                self._office.note(self._office.role)
                stays = True
                raise errors.ha_abort_new_master(str(error)) from error
            except PeerGone as error:
                # It may have heard. If not, it hears as soon as this host greets it.
                log.warning("successor-not-heard", host=host, reason=str(error))
        finally:
            if stays:
                self._coordinator.release()
            else:
                self._office.start_anew(successor)
        follow = wire.Follow(coordinator_uuid=row.uuid, address=row.address, term=term)
        others = [other for other in self._database.view.refs(Host) if other not in (self._host, host)]
        telling = asyncio.gather(*(self._tell(other, follow) for other in others))
        with suppress(
            TimeoutError
        ):  # who has not heard is told when it greets this host, or by the new coordinator
            async with asyncio.timeout(TELL_AT_HAND_OVER_S):
                await telling

    @property
    def _cluster(self) -> Cluster | None:
        return self._place.cluster if self._place is not None else None

    async def _leave_turn(self, _: Ref[Host], row: Host) -> None:
        """Leaves the next turn at the database's cluster to that host. Raises HA_ABORT_NEW_MASTER if it does not take it."""
        seat = self._place.seat if self._place is not None else None
        assert seat is not None, "a cluster has one"  # noqa: S101 - for the type checker; nothing from outside is asserted
        term = self._members.term
        try:
            await asyncio.to_thread(seat.do, seat.resign(row.uuid), HAND_OVER_S)
        except (NoMajority, *BROKEN) as error:
            self._coordinator.release()
            raise errors.ha_abort_new_master(str(error)) from error
        for _tries in range(round(PROMOTE_S / AGAIN_S)):
            if seat.turn is not None and seat.turn.term != term:
                break
            await asyncio.sleep(AGAIN_S)
        if seat.turn is None or seat.turn.holder != row.uuid:
            raise errors.ha_abort_new_master("the host does not take its turn at the database's cluster")

    async def _stay_coordinator(self, _: Call) -> Result:
        return None

    async def _reset_master(self, call: Call) -> Result:
        """Makes this host, which was the pool's coordinator, a member of the one at that address (spec §6.4).

        Raises:
            HA_IS_ENABLED: The pool has high availability.
            OPERATION_NOT_ALLOWED: This host has never been in a pool, and no coordinator would let it in.
            INVALID_VALUE: There is no such address.
        """
        if self._pool().ha_enabled:
            raise errors.ha_is_enabled()
        if self._cluster is not None:
            raise errors.operation_not_allowed(CLUSTER_DECIDES)
        if not self._files.complete():
            raise errors.operation_not_allowed("This host has no certificate of a pool; it has to join one")
        address = await resolved(call.arguments["master_address"])
        if address == self._database.view.get(Host, self._host).address:
            return None
        self._office.become(
            Membership(role=HostRole.MEMBER, coordinator_address=address, pool_uuid=self._pool().uuid)
        )
        return None

    async def _is_slave(self, _: Call) -> Result:
        return False

    async def _sync_database(self, _: Call) -> Result:
        """Returns when all members have the database on their disks.

        Raises:
            CANNOT_CONTACT_HOST: One did not take it in time.
        """
        number = self._database.feed.number
        for host in self._members.connected:
            if not await self._members.replicated((host,), number, SYNC_S):
                raise errors.cannot_contact_host(host)
        return None

    async def _slave_login(self, call: Call) -> Result:
        accepted = is_secret(self._files, call.arguments["psecret"])
        return await self._sessions.pool_login(accepted, call.arguments["host"])

    def _pool(self) -> Pool:
        return next(iter(self._database.view.all(Pool)))

    def _is_live(self, host: Ref[Host]) -> bool:
        return self._coordinator.context(self._database.begin(), session_of(None)).is_live(host)

    def _rule(self, call: Call, rule: Any, arguments: Mapping[str, Any]) -> RuleCall:
        return RuleCall(
            method=call.message.full_name,
            rule=rule,
            arguments=arguments,
            session=session_of(call.live),
            task=call.task,
        )


def is_secret(files: PoolFiles, text: str) -> bool:
    """Whether that is the pool secret; nobody knows that of a host that has none."""
    secret = b""
    with suppress(OSError):
        secret = files.secret.read_bytes()
    return bool(secret) and hmac.compare_digest(secret, text.encode())


async def resolved(name: str) -> str:
    """The IP address of a host's name or address. Raises INVALID_VALUE."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise errors.invalid_value("master_address", name) from error
    return str(found[0][4][0])
