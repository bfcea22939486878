"""Which calls does the audit log get, and how? The dispatcher and logins tell it of what they do.

Calls that only read are not logged, unless they are denied. What fails before there is a session is bounded: of each
address some are listed, and the others counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from poolnet.api import implicit
from poolnet.api.answer import Origin
from poolnet.api.sessions import LiveSession
from poolnet.model.declare import MessageDecl
from poolnet.model.failure import Failure
from poolnet.pool import audit_entry
from poolnet.pool.audit_entry import Audited
from poolnet.rules.catalog import RULES

R = TypeVar("R")

READING: Final = ("get_", "assert_", "is_", "compute_", "explain_", "ha_compute_", "ha_failover_plan_")
"""Messages of rules that change nothing, by how their names begin."""

_QUIET: Final = frozenset(
    {
        "VIF.verify_locks",
        "VIF.count_dropped",
        "VM.query_data_source",
        "host.query_data_source",
        "host.local_assert_healthy",
        "host.get_server_certificate",
        "session.get_all_subject_identifiers",
    }
)
UNDO: Final = "pool.audit_undo"
STRANGERS_LISTED: Final = 20  # of one address in each period; the others are counted
STRANGERS_PERIOD_S: Final = 60.0
ADDRESSES_MAX: Final = 1000
CLIENT_CHARS_MAX: Final = 200


def reads(message: MessageDecl) -> bool:
    """Whether a message changes nothing."""
    if message.cls == "event" or message.full_name in _QUIET:
        return True
    if message.cls == "task" and message.name != "cancel":  # how a client follows its own calls
        return True
    return message.kind not in implicit.WRITES and f"{message.name}_".startswith(READING)


class Auditor:
    """Tells the log of calls.

    Args:
        add: Takes a record that belongs to no commit.
        clock: Seconds that only grow.
    """

    def __init__(self, add: Callable[[bytes], None], clock: Callable[[], float] | None = None) -> None:
        self._add = add
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._since = 0.0
        self._strangers: dict[str, int] = {}

    async def carry_out(
        self,
        message: MessageDecl,
        arguments: Mapping[str, Any],
        live: LiveSession | None,
        origin: Origin,
        work: Callable[[], Awaitable[R]],
    ) -> R:
        """Does the work of a call that has been admitted, and has the log say what came of it."""
        if reads(message):
            return await work()
        audited = _audited(message, arguments, live, origin)
        token = audit_entry.CURRENT.set(audited)
        try:
            result = await work()
        except Failure as failure:
            if live is not None or origin.local_root or not self._is_too_many(origin.peer):
                self._end(audited, (failure.code, *failure.params))
            raise
        except asyncio.CancelledError:
            self._end(audited, ("TASK_CANCELLED",))
            raise
        except Exception as error:
            self._end(audited, ("INTERNAL_ERROR", type(error).__name__))
            raise
        else:
            if not audited.records:
                self._end(audited, audit_entry.SUCCESS)
            return result
        finally:
            audited.ended = True
            audit_entry.CURRENT.reset(token)

    def refused(
        self,
        message: MessageDecl,
        arguments: Mapping[str, Any],
        live: LiveSession | None,
        origin: Origin,
        failure: Failure,
    ) -> None:
        """Has the log say that a call was not admitted; of calls that only read, those that were denied."""
        if live is None:
            self._stranger(message.full_name, origin, failure)
        elif failure.code == "RBAC_PERMISSION_DENIED" or not reads(message):
            self._end(_audited(message, arguments, live, origin), (failure.code, *failure.params))

    def login(self, user: str, origin: Origin, failure: Failure | None) -> None:
        """Has the log say who logged in with the command line, or tried to; the console's root does so all the time."""
        if failure is None and origin.local_root:
            return
        audited = _who(None, origin)
        audited.method, audited.kind = "session.login_with_password", "own"
        audited.arguments = {"uname": user[:CLIENT_CHARS_MAX]}
        if failure is not None and self._is_too_many(origin.peer):
            return
        self._end(audited, audit_entry.SUCCESS if failure is None else (failure.code, *failure.params))

    def _stranger(self, method: str, origin: Origin, failure: Failure) -> None:
        if failure.code == "SESSION_INVALID" and not self._is_too_many(origin.peer):
            audited = _who(None, origin)
            audited.method = method
            self._end(audited, (failure.code,))  # its parameter is what was given for a session

    def _is_too_many(self, peer: str) -> bool:
        now = self._clock()
        if now - self._since >= STRANGERS_PERIOD_S:
            left_out = sum(max(0, count - STRANGERS_LISTED) for count in self._strangers.values())
            if left_out:
                counted = {"method": "audit", "result": ["LeftOut"], "refusals": left_out}
                self._add(msgspec.json.encode(counted))
            self._since, self._strangers = now, {}
        if peer not in self._strangers and len(self._strangers) >= ADDRESSES_MAX:
            peer = ""
        self._strangers[peer] = self._strangers.get(peer, 0) + 1
        return self._strangers[peer] > STRANGERS_LISTED

    def _end(self, audited: Audited, result: tuple[str, ...]) -> None:
        audited.records += 1
        self._add(audit_entry.entry_of(audited, result))


def _audited(
    message: MessageDecl, arguments: Mapping[str, Any], live: LiveSession | None, origin: Origin
) -> Audited:
    audited = _who(live, origin)
    audited.method = message.full_name
    audited.kind = _kind(message)
    audited.arguments = audit_entry.clean_arguments(message, arguments)
    return audited


def _who(live: LiveSession | None, origin: Origin) -> Audited:
    client = [origin.headers.get(name, "") for name in ("user-agent", "originator")]
    audited = Audited(
        method="",
        arguments={},
        address=origin.peer or _console(origin),
        client=" ".join(filter(None, client))[:CLIENT_CHARS_MAX],
    )
    if live is not None:
        audited.session = audit_entry.track_id(live.ref)
        audited.subject = live.user
        audited.role = live.role.value if live.role is not None else "superuser"
    return audited


def _console(origin: Origin) -> str:
    if not origin.local_root:
        return ""
    return f"console of {origin.member}" if origin.member else "console"


def _kind(message: MessageDecl) -> str:
    if message.full_name in RULES or message.full_name == UNDO:
        return "rule"
    return "field" if message.kind in implicit.WRITES else "own"
