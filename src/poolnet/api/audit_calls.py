"""How is the audit log read, and a change of it undone? `GET /audit_log`, and the message `pool.audit_undo`.

Both look at the files of the coordinator's log. `xe audit-log-get` and `xe audit-undo` stand on them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any, Final

import msgspec

from poolnet.api.answer import DownloadRefused, Origin
from poolnet.api.auditing import UNDO
from poolnet.api.dispatch import Call, Own, Result, session_of
from poolnet.api.sessions import LiveSession, Sessions
from poolnet.api.tasks import Tasks
from poolnet.model import errors
from poolnet.model.roles import Role, allows
from poolnet.model.types import Ref
from poolnet.pool.audit_chain import Record
from poolnet.pool.audit_log import AuditLog, records_of
from poolnet.pool.coordinator import Coordinator, Rule, RuleCall
from poolnet.pool.guard import Guard
from poolnet.rules.undo import Change, Entry, undo

PIECE_BYTES: Final = 256 * 1024


class _Timed(msgspec.Struct, frozen=True):
    time: datetime | None = None


def undo_messages(log: AuditLog, coordinator: Coordinator) -> Mapping[str, Own]:
    """The messages, by full name."""

    async def audit_undo(call: Call) -> Result:
        """Takes back what a record says (see `rules.undo`), as a planned change of its own.

        Raises:
            OPERATION_NOT_ALLOWED: It cannot be taken back; with the reason.
        """
        return await coordinator.run(
            RuleCall(
                method=UNDO,
                rule=await undo_rule(log, call.arguments),
                arguments={},
                session=session_of(call.live),
                task=call.task,
                guard=Guard(confirm_within_s=call.origin.confirm_within_s, caller=call.origin.path),
            )
        )

    async def append(_: Call) -> Result:
        """Takes a line of another host of the pool: that of this call, which has the line, is in the log by itself."""
        return None

    return {UNDO: audit_undo, "pool.audit_log_append": append}


async def undo_rule(log: AuditLog, arguments: Mapping[str, Any]) -> Rule:
    """The rule that takes a record back: a function of a call's context.

    Raises:
        OPERATION_NOT_ALLOWED: There is no such record.
    """
    await log.flush()
    number = arguments["entry"]
    entry, later = await asyncio.to_thread(_find, log.files(), number)
    return partial(undo, number=number, entry=entry, later=later)


def _find(files: Sequence[Path], number: int) -> tuple[Entry, dict[str, list[tuple[int, Change]]]]:
    """A record, and what later ones say of the objects that it changed."""
    start = max((n for n, path in enumerate(files) if _first_of(path) <= number), default=0)
    entry: Entry | None = None
    refs: set[str] = set()
    later: dict[str, list[tuple[int, Change]]] = {}
    for record in records_of(files[start:]):
        if record.seq == number:
            entry = _decoded(record)
            refs = {change.ref for change in entry.changes}
        elif record.seq > number and any(ref.encode() in record.entry for ref in refs):
            for change in _decoded(record).changes:
                if change.ref in refs:
                    later.setdefault(change.ref, []).append((record.seq, change))
    if entry is None:
        raise errors.operation_not_allowed(f"The audit log has no record {number}")
    return entry, later


def _first_of(path: Path) -> int:
    digits = path.stem.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _decoded(record: Record) -> Entry:
    try:
        return msgspec.json.decode(record.entry, type=Entry)
    except msgspec.MsgspecError as error:
        raise errors.operation_not_allowed(
            f"Record {record.seq} of the audit log cannot be read: {error}"
        ) from error


class AuditDownload:
    """Answers `GET /audit_log` (spec §1.1): who asks is known by a session, or by user name and password.

    Args:
        log: The log.
        sessions: Who is logged in.
        tasks: The tasks that downloads end.
    """

    def __init__(self, log: AuditLog, sessions: Sessions, tasks: Tasks) -> None:
        self._log = log
        self._sessions = sessions
        self._tasks = tasks

    async def __call__(self, query: Mapping[str, str], origin: Origin) -> AsyncIterator[bytes]:
        """The lines, in pieces.

        Raises:
            DownloadRefused: Nobody is logged in (401), the role is too low (403), or `since` is no time (400).
        """
        task: Ref[Any] = Ref(query.get("task_id", ""))
        live, logout = await self._who(query, origin)
        try:
            since = _asked(live, query)
            await self._log.flush()
        except DownloadRefused:
            await self._tasks.fail(task, errors.internal_error("The audit log was refused"))
            raise
        finally:
            await logout()
        return self._pieces(since, task)

    async def _pieces(self, since: datetime | None, task: Ref[Any]) -> AsyncIterator[bytes]:
        lines = _lines(self._log.files(), since)
        while piece := await asyncio.to_thread(_piece, lines):
            yield piece
        await self._tasks.succeed(task, "")

    async def _who(self, query: Mapping[str, str], origin: Origin) -> tuple[LiveSession, Callable[[], Any]]:
        """The session of whoever asks, and what ends it if it is only for this."""
        session = query.get("session_id") or _cookie(origin, "session_id")
        try:
            if session:
                return await self._sessions.check(session), _nothing
            name, password = _basic(origin)
            if name:
                made = await self._sessions.login_with_password(
                    name, password, "", local_root=False, peer=origin.peer
                )
                return await self._sessions.check(made), lambda: self._sessions.logout(made)
        except errors.Failure as failure:
            raise DownloadRefused(401, "Unauthorized") from failure
        raise DownloadRefused(401, "Unauthorized")


def _asked(live: LiveSession, query: Mapping[str, str]) -> datetime | None:
    """Since when. Raises DownloadRefused."""
    if live.role is not None and not allows(live.role, Role.READ_ONLY):
        raise DownloadRefused(403, "Forbidden")
    return _time(query.get("since", ""))


async def _nothing() -> None:
    pass


def _cookie(origin: Origin, name: str) -> str:
    try:
        cookie = SimpleCookie(origin.headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookie[name].value if name in cookie else ""


def _basic(origin: Origin) -> tuple[str, str]:
    scheme, _, text = origin.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


def _time(text: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise DownloadRefused(400, "Bad Request") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _lines(files: Sequence[Path], since: datetime | None) -> Iterator[bytes]:
    started = since is None
    for record in records_of(files):
        if not started and since is not None:
            try:
                time = msgspec.json.decode(record.entry, type=_Timed).time
            except msgspec.MsgspecError:
                time = None
            started = time is not None and time >= since
        if started:
            yield b'{"seq":%d,"hash":"%s","entry":%s}\n' % (record.seq, record.hash.encode(), record.entry)


def _piece(lines: Iterator[bytes]) -> bytes:
    taken: list[bytes] = []
    size = 0
    for text in lines:
        taken.append(text)
        size += len(text)
        if size >= PIECE_BYTES:
            break
    return b"".join(taken)
