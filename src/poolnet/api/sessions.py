"""Who is logged in? Sessions: made by a login, checked by every call, ended by logout, age or number (spec §3).

A session is a row of the database like any other object, in memory only; what a row cannot say (the role, the time of
the last use) is kept beside it. The dispatcher asks here before anything else happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from poolnet.api.credentials import ROOT, Credentials, Identity, UsersFileBroken
from poolnet.api.directory import Directory, DirectoryGone
from poolnet.api.logins import REFUSAL_DELAY_S, Logins, role_of, subjects_of
from poolnet.api.permissions import certified_permissions, permissions_of
from poolnet.db.database import Database
from poolnet.db.errors import Conflict
from poolnet.db.feed import Published
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.session import Session as SessionRow
from poolnet.model.classes.subject import Subject
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.rules.external_auth import uses_directory

log = structlog.get_logger("poolnet.api.sessions")

IDLE_MAX = timedelta(hours=24)  # spec §3.5
SWEEP_S = 30.0
TOUCH_AFTER = timedelta(seconds=600)  # spec §3.4: last_active is refreshed at most this often
PER_ORIGINATOR_MAX = 500
PER_USER_MAX = 500
ROOT_MAX = 400
POOL_MAX = 400
SUPERUSERS_MAX = 4000  # with originators of any number, each of which may be a new one
REVALIDATE_S = (
    300.0  # how soon a change of the directory's groups is noticed; the pool's own changes count at once
)


@dataclass(slots=True)
class LiveSession:
    """A session and what its row does not say."""

    ref: Ref[SessionRow]
    identity: Identity
    originator: str
    is_pool: bool
    is_local: bool
    last_used: datetime
    noted: datetime
    """What its row says of its last use."""
    member: str = ""
    """The uuid of the host whose console it was opened on, if that is another one's."""
    certified: bool = False
    """Whether a certificate has opened it, which gives rights of its own."""

    @property
    def user(self) -> str:
        """The name that logged in."""
        return self.identity.user

    @property
    def role(self) -> Role | None:
        """What it may do; None for a superuser, to whom role checks do not apply."""
        return self.identity.role

    @property
    def is_superuser(self) -> bool:
        """Whether role checks do not apply."""
        return self.role is None


class Sessions:
    """The sessions of this server.

    Args:
        database: Where the rows are kept.
        credentials: Who has the passwords of local users.
        directory: Who knows the groups of the directory's users.
        this_host: The host that serves the logins.
        clock: The current time in UTC.
        has_work: Whether a session has unfinished tasks, and so is kept (spec §3.5).
        refusal_delay_s: When a refused login is answered.
    """

    def __init__(
        self,
        *,
        database: Database,
        credentials: Credentials,
        this_host: Ref[Host],
        clock: Callable[[], datetime],
        directory: Directory,
        has_work: Callable[[Ref[SessionRow]], bool] = lambda _: False,
        refusal_delay_s: float = REFUSAL_DELAY_S,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._this_host = this_host
        self._clock = clock
        self._has_work = has_work
        self._directory = directory
        self._logins = Logins(
            database=database, credentials=credentials, directory=directory, refusal_delay_s=refusal_delay_s
        )
        self._live: dict[str, LiveSession] = {}
        self._on_end: list[Callable[[str], None]] = []
        self._removals: set[asyncio.Task[None]] = set()
        database.feed.subscribe(self._hear)

    def on_end(self, hear: Callable[[str], None]) -> None:
        """Calls `hear(session ref)` whenever a session ends, so that its blocked calls can be woken."""
        self._on_end.append(hear)

    async def login_with_password(
        self, user: str, password: str, originator: str, local_root: bool, peer: str = "", member: str = ""
    ) -> Ref[SessionRow]:
        """Makes a session (spec §3.2) for a client at the address `peer`, or for whoever may use the Unix socket.

        `member` is the uuid of the host whose console that socket stands for, if it is another one's.

        Raises:
            SESSION_AUTHENTICATION_FAILED, SESSION_AUTHORIZATION_FAILED, RBAC_PERMISSION_DENIED, TOO_BUSY: See `Logins`.
        """
        identity = await self._identify(user, password, local_root, peer)
        return await self.admit(identity, originator=originator, member=member)

    async def local_login(
        self, user: str, password: str, local_root: bool, peer: str = ""
    ) -> Ref[SessionRow]:
        """Makes a session that lives on this host alone and needs no database (spec §3.3).

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, to anybody but superusers; and others of `Logins`.
        """
        identity = await self._identify(user, password, local_root, peer)
        if identity.role is not None:
            raise await self._logins.refuse(
                errors.session_authentication_failed(user, "Authentication failure")
            )
        return await self._admit_locally(user)

    async def local_pool_login(self, accepted: bool) -> Ref[SessionRow]:
        """Makes such a session for another host of the pool, which has shown the pool secret.

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, when it has not.
        """
        await self._require_secret(accepted, "localhost")
        return await self._admit_locally("")

    async def _admit_locally(self, user: str) -> Ref[SessionRow]:
        live = self._new(Identity(user, None), originator="", is_pool=False, is_local=True)
        await self._admit(live)
        return live.ref

    async def pool_login(self, accepted: bool, target: str) -> Ref[SessionRow]:
        """Makes a session for another host of the pool, which has shown the pool secret (spec §3.3).

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, when it has not.
        """
        await self._require_secret(accepted, target)
        return await self.admit(Identity("", None), originator="", is_pool=True)

    async def _require_secret(self, accepted: bool, target: str) -> None:
        if not accepted:
            refused = errors.session_authentication_failed(target, "Pool credentials invalid")
            raise await self._logins.refuse(refused)

    async def _identify(self, user: str, password: str, local_root: bool, peer: str) -> Identity:
        if local_root:
            return Identity(user, None)
        return await self._logins.identify(user, password, peer)

    async def admit(
        self,
        identity: Identity,
        *,
        originator: str,
        is_pool: bool = False,
        member: str = "",
        certified: bool = False,
    ) -> Ref[SessionRow]:
        """Makes a session for whoever has been identified; `certified` by a certificate of its own."""
        live = self._new(identity, originator=originator, is_pool=is_pool, is_local=False)
        live.member, live.certified = member, certified
        row = SessionRow(
            ref=live.ref,
            uuid=str(uuid4()),
            this_host=self._this_host,
            last_active=live.noted,
            validation_time=live.noted,
            pool=is_pool,
            is_local_superuser=identity.role is None,
            subject=identity.subject,
            auth_user_name=identity.user,
            auth_user_sid=identity.identifier,
            rbac_permissions=_permissions(identity, certified=certified),
            client_certificate=certified,
            originator=originator,
        )
        txn = self._database.begin()
        txn.create(row)
        await self._database.commit(txn.changes())
        await self._admit(live)
        return live.ref

    def _new(self, identity: Identity, *, originator: str, is_pool: bool, is_local: bool) -> LiveSession:
        now = self._clock()
        return LiveSession(
            ref=Ref(f"OpaqueRef:{uuid4()}"),
            identity=identity,
            originator=originator,
            is_pool=is_pool,
            is_local=is_local,
            last_used=now,
            noted=now,
        )

    async def check(self, ref: str) -> LiveSession:
        """The session of that reference, refreshed (spec §3.4).

        Raises:
            SESSION_INVALID: There is none.
        """
        live = self._live.get(ref)
        if live is None:
            raise errors.session_invalid(Ref(ref))
        now = live.last_used = self._clock()
        if now - live.noted >= TOUCH_AFTER and not live.is_local:
            live.noted = now
            txn = self._database.begin()
            txn.update(SessionRow, live.ref, last_active=now)
            with suppress(Conflict):  # it ended meanwhile
                await self._database.commit(txn.changes())
            if ref not in self._live:
                raise errors.session_invalid(Ref(ref))
        return live

    async def logout(self, ref: str) -> None:
        """Ends a session and wakes its blocked calls."""
        live = self._forget(ref)
        if live is not None and not live.is_local:
            await self._remove(live.ref)

    def end(self, ref: str) -> None:
        """Ends a session like `logout`, without waiting until its row is gone, which takes a commit."""
        live = self._forget(ref)
        if live is not None and not live.is_local:
            self._remove_soon(live.ref)

    def _remove_soon(self, ref: Ref[SessionRow]) -> None:
        removal = asyncio.get_running_loop().create_task(self._remove(ref))
        self._removals.add(removal)
        removal.add_done_callback(self._removed)

    def _removed(self, removal: asyncio.Task[None]) -> None:
        self._removals.discard(removal)
        if not removal.cancelled() and (error := removal.exception()) is not None:
            log.warning("session-row-left", reason=str(error))

    async def stop(self) -> None:
        """Waits for no removal of rows any more, at the server's end."""
        for removal in self._removals:
            removal.cancel()
        if self._removals:
            await asyncio.wait(self._removals)

    def _forget(self, ref: str) -> LiveSession | None:
        """Ends a session at once; its row is still to be removed."""
        live = self._live.pop(ref, None)
        if live is not None:
            for hear in self._on_end:
                hear(ref)
        return live

    async def _remove(self, ref: Ref[SessionRow]) -> None:
        txn = self._database.begin()
        if txn.find(SessionRow, ref) is not None:
            txn.destroy(SessionRow, ref)
            await self._database.commit(txn.changes())

    async def change_password(self, live: LiveSession, new: str) -> None:
        """Gives the local superuser a new password: the caller, or root if the caller is no local user (spec §3.3).

        Raises:
            USER_IS_NOT_LOCAL_SUPERUSER: Anybody else asks.
            CHANGE_PASSWORD_REJECTED: The new password is empty, or the file of local users cannot be written.
        """
        if not live.is_superuser:
            raise errors.user_is_not_local_superuser("Only the local superuser can change the password")
        if not new:
            raise errors.change_password_rejected("The new password is empty")
        try:
            user = live.user if self._credentials.is_local(live.user) else ROOT
            await asyncio.to_thread(self._credentials.set_password, user, new)
        except (UsersFileBroken, OSError) as error:
            log.warning("password-not-changed", user=live.user, reason=str(error))
            raise errors.change_password_rejected("The file of local users cannot be written") from error

    async def logout_subject(self, keep: LiveSession, subject: str) -> None:
        """Ends all sessions of a subject but the caller's own and superusers' (spec §3.3)."""
        for live in list(self._live.values()):
            if live.identity.identifier == subject and not live.is_superuser and live.ref != keep.ref:
                await self.logout(live.ref)

    def subjects(self) -> tuple[str, ...]:
        """The identifiers of the users that have a session, without superusers."""
        return tuple(
            sorted({live.identity.identifier for live in self._live.values() if not live.is_superuser})
        )

    def _hear(self, published: Published) -> None:
        """Ends, at once, the sessions whose rights a commit has changed: the next call of theirs is refused."""
        rows = (*published.created, *published.modified, *published.deleted)
        if any(isinstance(row, Subject | Host) for row in rows):
            self._end_if(lambda live: not self._still_valid(live.identity))
        left = {row.uuid for row in published.deleted if isinstance(row, Host)}
        if left:  # whoever was root there has what the pool secret and its console gave
            self._end_if(lambda live: live.is_pool or live.member in left)

    def _still_valid(self, identity: Identity) -> bool:
        """Whether a user of the directory would get the same rights now; others' do not depend on the database."""
        if not identity.sid:
            return True
        view = self._database.view
        subjects = subjects_of(view, identity.groups)
        return uses_directory(view) and role_of(view, subjects) is identity.role

    def end_certified(self) -> None:
        """Ends the sessions that certificates have opened: which ones are good has changed."""
        self._end_if(lambda live: live.certified)

    def _end_if(self, unfit: Callable[[LiveSession], bool]) -> None:
        for live in [each for each in self._live.values() if unfit(each)]:
            log.info("session-ended", user=live.user[:64], reason="its rights have changed")
            self.end(live.ref)

    async def revalidate(self) -> None:
        """Ends the sessions of users who have left the directory, or groups there that mattered (spec §3.2)."""
        now: dict[str, frozenset[str]] = {}
        for sid in {live.identity.sid for live in self._live.values() if live.identity.sid}:
            try:
                known = await self._directory.identified(sid) is not None
                groups = await self._directory.memberships(sid)
            except DirectoryGone:
                return  # nobody has left because the way there is cut
            now[sid] = frozenset((sid, *groups)) if known else frozenset()
        for live in self._live.values():
            if live.identity.sid in now:
                live.identity = replace(live.identity, groups=now[live.identity.sid])
        self._end_if(lambda live: not self._still_valid(live.identity))

    def sweep(self) -> None:
        """Ends sessions that were idle too long; called every `SWEEP_S` seconds."""
        oldest = self._clock() - IDLE_MAX
        for live in list(self._live.values()):
            if live.last_used < oldest and not self._has_work(live.ref):
                self._forget(live.ref)
        for row in tuple(self._database.view.all(SessionRow)):
            if row.ref not in self._live and row.last_active < oldest:
                self._remove_soon(row.ref)  # also one that was left when its session ended

    async def _admit(self, newest: LiveSession) -> None:
        """Adds a session; ends the least recently used ones of its group while there are too many (spec §3.5)."""
        self._live[newest.ref] = newest
        group, limit = _group(newest)
        await self._keep([live for live in self._live.values() if _group(live)[0] == group], limit, newest)
        if newest.is_superuser:
            await self._keep(
                [live for live in self._live.values() if live.is_superuser], SUPERUSERS_MAX, newest
            )

    async def _keep(self, members: list[LiveSession], limit: int, newest: LiveSession) -> None:
        if len(members) <= limit:
            return
        idle = sorted(
            (live for live in members if live is not newest and not self._has_work(live.ref)),
            key=lambda live: live.last_used,
        )
        for live in idle[: len(members) - limit]:
            await self.logout(live.ref)


def _permissions(identity: Identity, *, certified: bool) -> tuple[str, ...]:
    if certified:
        return certified_permissions()
    return () if identity.role is None else permissions_of(identity.role)


def _group(live: LiveSession) -> tuple[tuple[str, str], int]:
    if live.is_pool:
        return ("pool", ""), POOL_MAX
    if live.is_local:
        return ("local", ""), ROOT_MAX
    if not live.is_superuser:
        return ("user", live.user), PER_USER_MAX
    if live.originator:
        return ("originator", live.originator), PER_ORIGINATOR_MAX
    return ("root", ""), ROOT_MAX
