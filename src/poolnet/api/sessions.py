"""Who is logged in? Sessions: made by a login, checked by every call, ended by logout, age or number (spec §3).

A session is a row of the database like any other object, in memory only; what a row cannot say (the role, the time of
the last use) is kept beside it. The dispatcher asks here before anything else happens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from poolnet.api.credentials import Credentials, Identity, UsersFileBroken
from poolnet.api.permissions import permissions_of
from poolnet.db.database import Database
from poolnet.db.errors import Conflict
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.session import Session as SessionRow
from poolnet.model.roles import Role
from poolnet.model.types import Ref

log = structlog.get_logger("poolnet.api.sessions")

ROOT = "root"
REFUSAL_DELAY_S = 5.0  # spec §3.2: guessing passwords is slow
IDLE_MAX = timedelta(hours=24)  # spec §3.5
SWEEP_S = 30.0
TOUCH_AFTER = timedelta(seconds=600)  # spec §3.4: last_active is refreshed at most this often
PER_ORIGINATOR_MAX = 500
PER_USER_MAX = 500
ROOT_MAX = 400
POOL_MAX = 400
LOGINS_AT_ONCE_MAX = 16  # each takes 64 MiB and a core for its hash


@dataclass(slots=True)
class LiveSession:
    """A session and what its row does not say. `role` is None for a superuser."""

    ref: Ref[SessionRow]
    user: str
    role: Role | None
    originator: str
    is_pool: bool
    is_local: bool
    last_used: datetime
    noted: datetime
    """What its row says of its last use."""

    @property
    def is_superuser(self) -> bool:
        """Whether role checks do not apply."""
        return self.role is None


class Sessions:
    """The sessions of this server.

    Args:
        database: Where the rows are kept.
        credentials: Who checks passwords.
        this_host: The host that serves the logins.
        clock: The current time in UTC.
        has_work: Whether a session has unfinished tasks, and so is kept (spec §3.5).
        refusal_delay_s: How long a refused login waits for its answer.
    """

    def __init__(
        self,
        *,
        database: Database,
        credentials: Credentials,
        this_host: Ref[Host],
        clock: Callable[[], datetime],
        has_work: Callable[[Ref[SessionRow]], bool] = lambda _: False,
        refusal_delay_s: float = REFUSAL_DELAY_S,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._this_host = this_host
        self._clock = clock
        self._has_work = has_work
        self._refusal_delay_s = refusal_delay_s
        self._live: dict[str, LiveSession] = {}
        self._on_end: list[Callable[[str], None]] = []
        self._logins = asyncio.Semaphore(LOGINS_AT_ONCE_MAX)

    def on_end(self, hear: Callable[[str], None]) -> None:
        """Calls `hear(session ref)` whenever a session ends, so that its blocked calls can be woken."""
        self._on_end.append(hear)

    async def login_with_password(
        self, user: str, password: str, originator: str, local_root: bool
    ) -> Ref[SessionRow]:
        """Makes a session (spec §3.2).

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, when user name and password do not fit.
        """
        identity = await self._identify(user, password, local_root)
        if identity is None:
            raise await self._refusal(user)
        return await self._create(identity, originator=originator)

    async def local_login(self, user: str, password: str, local_root: bool) -> Ref[SessionRow]:
        """Makes a session that lives on this host alone and needs no database (spec §3.3).

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, to anybody but superusers.
        """
        identity = await self._identify(user, password, local_root)
        if identity is None or identity.role is not None:
            raise await self._refusal(user)
        return await self._admit_locally(user)

    async def local_pool_login(self, accepted: bool) -> Ref[SessionRow]:
        """Makes such a session for another host of the pool, which has shown the pool secret.

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, when it has not.
        """
        if not accepted:
            await asyncio.sleep(self._refusal_delay_s)
            raise errors.session_authentication_failed("localhost", "Pool credentials invalid")
        return await self._admit_locally("")

    async def _admit_locally(self, user: str) -> Ref[SessionRow]:
        ref: Ref[SessionRow] = Ref(f"OpaqueRef:{uuid4()}")
        await self._admit(
            LiveSession(
                ref=ref,
                user=user,
                role=None,
                originator="",
                is_pool=False,
                is_local=True,
                last_used=self._clock(),
                noted=self._clock(),
            )
        )
        return ref

    async def pool_login(self, accepted: bool, target: str) -> Ref[SessionRow]:
        """Makes a session for another host of the pool, which has shown the pool secret (spec §3.3).

        Raises:
            SESSION_AUTHENTICATION_FAILED: After a delay, when it has not.
        """
        if not accepted:
            await asyncio.sleep(self._refusal_delay_s)
            raise errors.session_authentication_failed(target, "Pool credentials invalid")
        return await self._create(Identity("", None), originator="", is_pool=True)

    async def _identify(self, user: str, password: str, local_root: bool) -> Identity | None:
        if local_root:
            return Identity(user, None)
        async with self._logins:
            return await self._credentials.verify(user, password)

    async def _refusal(self, user: str) -> errors.Failure:
        log.warning("login-refused", user=user[:64])
        await asyncio.sleep(self._refusal_delay_s)
        return errors.session_authentication_failed(user, "Authentication failure")

    async def _create(self, identity: Identity, *, originator: str, is_pool: bool = False) -> Ref[SessionRow]:
        now = self._clock()
        ref: Ref[SessionRow] = Ref(f"OpaqueRef:{uuid4()}")
        row = SessionRow(
            ref=ref,
            uuid=str(uuid4()),
            this_host=self._this_host,
            last_active=now,
            validation_time=now,
            pool=is_pool,
            is_local_superuser=identity.role is None,
            auth_user_name=identity.user,
            auth_user_sid="" if identity.role is None else identity.user,
            rbac_permissions=() if identity.role is None else permissions_of(identity.role),
            originator=originator,
        )
        txn = self._database.begin()
        txn.create(row)
        await self._database.commit(txn.changes())
        await self._admit(
            LiveSession(
                ref=ref,
                user=identity.user,
                role=identity.role,
                originator=originator,
                is_pool=is_pool,
                is_local=False,
                last_used=now,
                noted=now,
            )
        )
        return ref

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
        live = self._live.pop(ref, None)
        if live is None:
            return
        for hear in self._on_end:
            hear(ref)
        if not live.is_local:
            txn = self._database.begin()
            if txn.find(SessionRow, live.ref) is not None:
                txn.destroy(SessionRow, live.ref)
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
            if live.user == subject and not live.is_superuser and live.ref != keep.ref:
                await self.logout(live.ref)

    def subjects(self) -> tuple[str, ...]:
        """The subjects that have a session: users who are no superusers."""
        return tuple(sorted({live.user for live in self._live.values() if not live.is_superuser}))

    async def sweep(self) -> None:
        """Ends sessions that were idle too long; called every `SWEEP_S` seconds."""
        oldest = self._clock() - IDLE_MAX
        for live in list(self._live.values()):
            if live.last_used < oldest and not self._has_work(live.ref):
                await self.logout(live.ref)

    async def _admit(self, newest: LiveSession) -> None:
        """Adds a session; ends the least recently used ones of its group while there are too many (spec §3.5)."""
        self._live[newest.ref] = newest
        group, limit = _group(newest)
        members = [live for live in self._live.values() if _group(live)[0] == group]
        idle = sorted(
            (live for live in members if live is not newest and not self._has_work(live.ref)),
            key=lambda live: live.last_used,
        )
        for live in idle[: max(0, len(members) - limit)]:
            await self.logout(live.ref)


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
