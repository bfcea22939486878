"""What happens to a call? Declaration, session, role, then whoever carries it out, and the answer (spec §1.5).

The HTTP server calls `dispatch` with what it parsed; commands of `xe` call `perform` in this process. The order of the
checks is the reference's: parameters, session, pool-internal messages, role, then the call itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard, cast

import structlog

from poolnet.api import implicit
from poolnet.api.answer import Answer, Origin, Refusal, Success
from poolnet.api.auditing import READING, Auditor
from poolnet.api.binding import bind
from poolnet.api.budgets import Budgets
from poolnet.api.events import EventBatch
from poolnet.api.permissions import require_certified_permission, require_permission
from poolnet.api.results import encoded_class, encoded_events, encoded_rows, result_xml
from poolnet.api.sessions import LiveSession, Sessions
from poolnet.api.tasks import Tasks
from poolnet.api.wire import Wire
from poolnet.db.database import Database
from poolnet.model import errors
from poolnet.model.classes.session import Session as SessionRow
from poolnet.model.declare import REMOVED, MessageDecl
from poolnet.model.registry import CLASSES, CLASSES_WITHOUT_TASK_RECORDS, MESSAGES
from poolnet.model.types import NULL, Ref, RefT, Row, SetT, StringT, Value
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.guard import Guard
from poolnet.rules.catalog import RULES
from poolnet.rules.context import Session

log = structlog.get_logger("poolnet.api")

Result: TypeAlias = "Value | Row | Mapping[Any, Row] | EventBatch"
Own: TypeAlias = Callable[["Call"], Awaitable[Result]]

_ALIASES = {name.replace(".", "_", 1): message for name, message in MESSAGES.items()}
_CALL_EXTENSION = MESSAGES["host.call_extension"]
HEADERS_KEPT = ("user-agent", "originator", "traceparent")  # in a task's other_config, as http:NAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call on its way: bound, and allowed."""

    message: MessageDecl
    arguments: Mapping[str, Any]
    live: LiveSession | None
    origin: Origin
    task: Ref[Any] = NULL


class Dispatcher:
    """Carries calls out.

    Args:
        database: The pool database.
        coordinator: Who carries out what rules decide.
        sessions: Who is logged in.
        tasks: The tasks around calls.
        budgets: Whose turn it is.
        own: Messages that the API itself carries out, by full name: sessions, events, cancelling.
        auditor: Who keeps the audit log.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        sessions: Sessions,
        tasks: Tasks,
        own: Mapping[str, Own],
        auditor: Auditor,
        budgets: Budgets,
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._sessions = sessions
        self._tasks = tasks
        self._own = own
        self._auditor = auditor
        self._budgets = budgets

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        """Answers a call that came over the wire; nothing that a client sends raises."""
        try:
            return await self._answer(method, params, origin)
        except errors.Failure as failure:
            return Refusal(failure.code, failure.params)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a bug is this call's failure, and the server goes on
            if _has_secrets(method):  # the text of an error may quote what was wrong
                log.error("call-failed", method=method, error=type(error).__name__)  # noqa: TRY400 - no traceback: it may quote a secret
                return Refusal("INTERNAL_ERROR", (type(error).__name__,))
            log.exception("call-failed", method=method[:128])
            return Refusal("INTERNAL_ERROR", (f"{type(error).__name__}: {error}",))

    async def _answer(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        of_server = system_answer(method, params)
        if of_server is not None:
            return of_server
        name, is_async = _split(method)
        message = MESSAGES.get(name) or (None if is_async else _ALIASES.get(name))
        if message is None:
            return await self._unknown(method, params)
        if is_async and not message.is_async:
            return Refusal("Fault", (f"No async mode for this operation (rpc: {message.full_name})",))
        call = await self._admit(message, method, params, origin)
        if is_async:
            return Success(RefT("task"), await self._in_background(call))
        if message.kind == "implicit:obj_get_all_records":
            return Success(message.result, encoded_class(self._database, CLASSES[message.cls]))
        value = await self._with_task(call)
        if isinstance(value, EventBatch):
            return Success(message.result, encoded_events(self._database, value))
        if isinstance(value, Row) or _is_rows(value):
            return Success(message.result, encoded_rows(self._database, value))
        return Success(message.result, cast("Value", value))

    async def perform(self, session: str, method: str, params: Sequence[Wire], origin: Origin) -> Result:
        """Carries out a call made in this process, for a session that is logged in.

        Raises:
            Failure: What a client would get instead of a value.
        """
        name, is_async = _split(method)
        message = MESSAGES.get(name)
        if message is None:
            raise errors.message_method_unknown(method)
        await self._budgets.turn(origin.peer)
        call = await self._admit(
            message, method, [session, *params] if message.session_arg else params, origin
        )
        if is_async:
            return await self._in_background(call)
        return await self._with_task(call)

    async def _unknown(self, method: str, params: Sequence[Wire]) -> Answer:
        if params:
            live = await self._sessions.check(params[0] if isinstance(params[0], str) else "")
            if not live.is_local:
                require_permission(live.role, _CALL_EXTENSION, {}, self._database.view)
        raise errors.message_method_unknown(method)

    async def _admit(self, message: MessageDecl, method: str, params: Sequence[Wire], origin: Origin) -> Call:
        """Checks parameters, session, and role, in this order."""
        live: LiveSession | None = None
        arguments: Mapping[str, Any] = {}
        try:
            session, arguments = bind(message, method, params)
            live = await self._sessions.check(session) if message.session_arg else None
            self._require_allowed(message, arguments, live)
        except errors.Failure as failure:
            self._auditor.refused(message, arguments, live, origin, failure)
            raise
        return Call(message=message, arguments=arguments, live=live, origin=origin)

    def _require_allowed(
        self, message: MessageDecl, arguments: Mapping[str, Any], live: LiveSession | None
    ) -> None:
        if live is not None:
            if "pool_internal_session_only" in message.flags and not (live.is_pool or live.is_local):
                raise errors.internal_error(
                    f'Internal API "{message.full_name}" call attempted with non-pool (external) session'
                )
            if REMOVED in message.flags:
                raise errors.message_removed()
            if live.certified:
                require_certified_permission(message, arguments, self._database.view)
            elif not live.is_local:
                require_permission(live.role, message, arguments, self._database.view)

    async def _with_task(self, call: Call) -> Result:
        """Carries a call out under a task that exists while it lasts, if its message has one (spec §4)."""
        message = call.message
        if not message.is_async or message.cls in CLASSES_WITHOUT_TASK_RECORDS or call.live is None:
            return await self._carry_out(call)
        task = self._tasks.begin(message.full_name, row_of(call.live), _kept(call.origin))
        try:
            return await self._carry_out(_under(call, task))
        finally:
            self._tasks.end(task)

    async def _in_background(self, call: Call) -> Ref[Any]:
        if call.live is None:
            raise errors.session_invalid(NULL)
        task = await self._tasks.create(
            f"Async.{call.message.full_name}", row_of(call.live), _kept(call.origin)
        )

        async def work() -> str:
            return result_xml(call.message.result, await self._carry_out(_under(call, task)))

        self._tasks.run(task, work)
        return task

    async def _carry_out(self, call: Call) -> Result:
        return await self._auditor.carry_out(
            call.message, call.arguments, call.live, call.origin, lambda: self._do(call)
        )

    async def _do(self, call: Call) -> Result:
        message = call.message
        own = self._own.get(message.full_name)
        if own is not None:
            return await own(call)
        rule = RULES.get(message.full_name)
        if rule is not None:
            rule_call = RuleCall(
                method=message.full_name,
                rule=rule,
                arguments=call.arguments,
                session=session_of(call.live),
                task=call.task,
                guard=Guard(confirm_within_s=call.origin.confirm_within_s, caller=call.origin.path),
            )
            if f"{message.name}_".startswith(READING):  # message.get reads as well
                return self._coordinator.ask(rule_call)
            return await self._coordinator.run(rule_call)
        if message.kind in implicit.READS:
            result: Result = implicit.read(message, self._database.view, call.arguments)
            return result
        if message.kind in implicit.WRITES:
            return await self._coordinator.write(lambda txn: implicit.change(message, txn, call.arguments))
        raise errors.not_implemented(message.full_name)


def system_answer(method: str, params: Sequence[Wire]) -> Success | None:
    """The answer to a call about the server itself, which needs neither session nor pool; None for other calls."""
    if method == "system.listMethods":
        return Success(SetT(StringT()), tuple(sorted(MESSAGES)), bare=True)
    if method.startswith("system.isAlive:"):
        return Success(StringT(), str(params[0]) if params else "")
    return None


def session_of(live: LiveSession | None) -> Session:
    """What rules may know of a session."""
    if live is None:
        return Session(user="", is_superuser=False, is_pool_session=False, role=None)
    return Session(
        user=live.user,
        sid=live.identity.identifier,
        is_superuser=live.is_superuser,
        is_pool_session=live.is_pool,
        role=live.role,
        ref=row_of(live),
    )


def row_of(live: LiveSession) -> Ref[SessionRow]:
    """The session's row for others to refer to; local sessions have none."""
    return NULL if live.is_local else live.ref


def _has_secrets(method: str) -> bool:
    """Whether a message takes a password or another secret."""
    name, _ = _split(method)
    message = MESSAGES.get(name) or _ALIASES.get(name)
    if message is None:
        return False
    return "secret_args" in message.flags or any(
        "pwd" in p.name or "secret" in p.name for p in message.params
    )


def _split(method: str) -> tuple[str, bool]:
    for prefix in ("Async.", "InternalAsync."):
        if method.startswith(prefix):
            return method.removeprefix(prefix), True
    return method, False


def _under(call: Call, task: Ref[Any]) -> Call:
    return Call(message=call.message, arguments=call.arguments, live=call.live, origin=call.origin, task=task)


def _kept(origin: Origin) -> dict[str, str]:
    return {name: origin.headers[name] for name in HEADERS_KEPT if name in origin.headers}


def _is_rows(value: object) -> TypeGuard[Mapping[Any, Row]]:
    return isinstance(value, dict) and bool(value) and isinstance(next(iter(value.values())), Row)
