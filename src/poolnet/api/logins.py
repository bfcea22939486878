"""Who is it that logs in? User name and password become an identity, at a rate, and refusals tell nothing.

Sessions ask. A refusal is answered when a fixed time since its request is over, whatever was looked at: an unknown user, a
wrong password and a source that has guessed too often cannot be told apart by a clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from poolnet.api.credentials import Credentials, Identity
from poolnet.api.directory import Directory, DirectoryGone
from poolnet.api.fairness import FairGate, Full, Rates
from poolnet.api.listener import machine_of
from poolnet.db.database import Database
from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.role import RoleRecord
from poolnet.model.classes.subject import Subject
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Ref
from poolnet.rules.external_auth import uses_directory

log = structlog.get_logger("poolnet.api.logins")

ROOT: Final = "root"
REFUSAL_DELAY_S: Final = 5.0  # spec §3.2: guessing passwords is slow

# Wrong passwords. Somebody who mistypes is far below; a guesser gets 600 an hour from one machine.
OF_SOURCE_BURST: Final = 20
OF_SOURCE_PER_S: Final = 1 / 6
OF_USER_BURST: Final = 50
OF_USER_PER_S: Final = 1 / 3
KNOWN_MAX: Final = (
    1000  # pairs of source and user that have logged in: guessers elsewhere cannot shut them out
)

# Passwords looked at. Each takes 64 MiB and a core for its hash, or a process for PAM.
AT_ONCE: Final = 4
OF_SOURCE_AT_ONCE: Final = 2
OF_SOURCE_WAITING: Final = 32

_REFUSED: Final = "Authentication failure"
_TOO_OFTEN: Final = "Too many failed logins; try again later"


class Logins:
    """Identifies whoever logs in over a network.

    Args:
        database: Which subjects there are, with which roles, and whether the directory is asked at all.
        credentials: Who checks passwords.
        directory: Who knows users and groups.
        refusal_delay_s: When a refused login is answered, counted from its request.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        *,
        database: Database,
        credentials: Credentials,
        directory: Directory,
        refusal_delay_s: float = REFUSAL_DELAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._credentials = credentials
        self._directory = directory
        self._refusal_delay_s = refusal_delay_s
        self._clock = clock
        self._of_source = Rates(OF_SOURCE_BURST, OF_SOURCE_PER_S, clock)
        self._of_user = Rates(OF_USER_BURST, OF_USER_PER_S, clock)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._gate = FairGate(AT_ONCE, of_key=OF_SOURCE_AT_ONCE, waiting_max=OF_SOURCE_WAITING)

    async def identify(self, user: str, password: str, peer: str) -> Identity:
        """The identity that user name and password give to a client at that address ("" for a Unix socket).

        Raises:
            SESSION_AUTHENTICATION_FAILED: They do not fit, or were guessed at too often. Late.
            SESSION_AUTHORIZATION_FAILED: They fit, but no subject admits the user. Late.
            RBAC_PERMISSION_DENIED: A subject admits the user, but has no role. Late.
            TOO_BUSY: Too many logins of this client wait already.
        """
        source = machine_of(peer) if peer else ""
        began = self._clock()
        known = (source, user) in self._known
        if self._of_source.wait_s(source) or (not known and self._of_user.wait_s(user)):
            raise await self.refuse(errors.session_authentication_failed(user, _TOO_OFTEN), began)
        try:
            async with self._gate.entered(source):
                identity = await self._identify(user, password)
        except Full:
            raise errors.too_busy() from None
        except errors.Failure as failure:
            raise await self.refuse(failure, began) from None
        if identity is None:
            self._of_source.take(source)
            self._of_user.take(user)
            raise await self.refuse(errors.session_authentication_failed(user, _REFUSED), began)
        self._remember(source, user)
        return identity

    async def refuse(self, failure: errors.Failure, began: float | None = None) -> errors.Failure:
        """Gives the failure back when it is time to answer it; `began` is when it was asked, by the clock."""
        spent = 0.0 if began is None else self._clock() - began
        await asyncio.sleep(max(0.0, self._refusal_delay_s - spent))
        log.warning("login-refused", code=failure.code, user=failure.params[0][:64])
        return failure

    def _remember(self, source: str, user: str) -> None:
        self._known[source, user] = None
        self._known.move_to_end((source, user))
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)

    async def _identify(self, user: str, password: str) -> Identity | None:
        """Local users first; then the system's accounts, or the directory's if that is on (spec §3.2)."""
        directory = uses_directory(self._database.view)
        identity = await self._credentials.verify(user, password, only_root=directory)
        if identity is not None or not directory or user == ROOT:
            return identity
        if self._credentials.is_local(user) or not await self._credentials.in_directory(user, password):
            return None
        try:
            return await self._admitted(user)
        except DirectoryGone as gone:
            log.warning("login-without-directory", reason=str(gone))
            return None

    async def _admitted(self, user: str) -> Identity:
        """What the subjects make of a user whose password was right. Raises DirectoryGone."""
        entry = await self._directory.named(user)
        if entry is None or not entry.identifier.startswith("u"):
            raise errors.session_authorization_failed(user, "The directory does not know this user")
        identifiers = frozenset((entry.identifier, *await self._directory.memberships(entry.identifier)))
        subjects = subjects_of(self._database.view, identifiers)
        if not subjects:
            text = f"No subject of the pool is user {user} or a group of theirs"
            raise errors.session_authorization_failed(user, text)
        role = role_of(self._database.view, subjects)
        if role is None:
            text = f"The subjects that user {user} belongs to have no role"
            raise errors.rbac_permission_denied("session.login_with_password", text)
        own = (each.ref for each in subjects if each.subject_identifier == entry.identifier)
        return Identity(
            user=entry.name,
            role=role,
            sid=entry.identifier,
            groups=identifiers,
            subject=next(own, subjects[0].ref),
        )


def subjects_of(view: View, identifiers: Iterable[str]) -> tuple[Subject, ...]:
    """The subjects that are one of these users and groups."""
    wanted = frozenset(identifiers)
    return tuple(row for row in view.all(Subject) if row.subject_identifier in wanted)


def role_of(view: View, subjects: Iterable[Subject]) -> Role | None:
    """The highest role of any of the subjects: each role may do what the ones below it may."""
    held = {_role_name(view, ref) for subject in subjects for ref in subject.roles}
    return next((role for role in Role if role.value in held), None)


def _role_name(view: View, ref: Ref[RoleRecord]) -> str:
    row = view.find(RoleRecord, ref) if ref != NULL else None
    return row.name_label if row is not None else ""
