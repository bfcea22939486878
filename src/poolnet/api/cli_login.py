"""How do commands of `xe` reach the dispatcher? In this process: sessions of the CLI, and dry runs.

The thin-CLI connection gives it to `xe.commands.run`. A dry run works on one transaction that is thrown away: its calls
see each other's changes, nobody else does, and what comes out is the plan of each host.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from poolnet.api import implicit
from poolnet.api.answer import Origin
from poolnet.api.auditing import UNDO, Auditor
from poolnet.api.binding import as_wire, bind
from poolnet.api.decode import decode_value
from poolnet.api.dispatch import Dispatcher, session_of
from poolnet.api.permissions import require_permission
from poolnet.api.results import plain_value, result_xml
from poolnet.api.sessions import LiveSession, Sessions
from poolnet.api.surface import OWN_MESSAGES
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.hostnet.show import show_guest_action, show_plan, show_storage_action
from poolnet.hostnet.state import GuestPort
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.task import Task
from poolnet.model.classes.vm import VM
from poolnet.model.declare import MessageDecl
from poolnet.model.enums import TaskStatusType
from poolnet.model.registry import CLASSES, MESSAGES
from poolnet.model.types import Ref, StringT
from poolnet.pool.coordinator import Coordinator, Rule
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.rules.catalog import RULES
from poolnet.rules.context import CallContext, Counters
from poolnet.rules.missing import missing
from poolnet.xe.caller import Caller, Value

EXPLAINING: Final = frozenset(("pool.explain_join",))
"""Messages that change nothing and say what another one would do; a dry run answers what they say."""

ONLY_DATABASE: Final = "nothing to do: only the database changes"
_NETWORK: Final = re.compile(r"\bnetwork ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$")


UndoRule = Callable[[Mapping[str, Any]], Awaitable[Rule]]


class SessionCaller:
    """A logged-in session, in this process."""

    def __init__(self, dispatcher: Dispatcher, session: str, origin: Origin) -> None:
        self._dispatcher = dispatcher
        self._origin = origin
        self.session = session

    async def call(self, method: str, *args: Value) -> Value:
        """Calls a message and gives its result as plain values."""
        params = [as_wire(arg) for arg in args]
        return plain_value(await self._dispatcher.perform(self.session, method, params, self._origin))


class CliLogin:
    """Logs the CLI in (spec xe-cli §1).

    Args:
        dispatcher: Who carries calls out.
        sessions: Who makes sessions.
        coordinator: Who plans dry runs.
        database: What dry runs start from.
        origin: Where the CLI's connection comes from.
        auditor: Who hears of logins.
        undo_rule: Gives the rule that `pool.audit_undo` is decided by, from its arguments.
    """

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        sessions: Sessions,
        coordinator: Coordinator,
        database: Database,
        origin: Origin,
        auditor: Auditor,
        undo_rule: UndoRule,
    ) -> None:
        self._auditor = auditor
        self._undo_rule = undo_rule
        self._dispatcher = dispatcher
        self._sessions = sessions
        self._coordinator = coordinator
        self._database = database
        self._origin = origin

    async def login(self, user: str, password: str, *, local: bool) -> Caller:
        """Opens a session of the CLI; `local` asks for one that needs no coordinator."""
        for text in (user, password):
            decode_value(StringT(), text)
        peer = self._origin.peer
        try:
            if local:
                ref = await self._sessions.local_login(user, password, self._origin.local_root, peer)
            else:
                ref = await self._sessions.login_with_password(
                    user, password, "cli", self._origin.local_root, peer, self._origin.member
                )
        except errors.Failure as failure:
            self._auditor.login(user, self._origin, failure)
            raise
        self._auditor.login(user, self._origin, None)
        return SessionCaller(self._dispatcher, ref, self._origin)

    async def resume(self, session: str) -> Caller:
        """Uses a session that exists already."""
        await self._sessions.check(session)
        return SessionCaller(self._dispatcher, session, self._origin)

    def logout(self, caller: Caller) -> None:
        """Closes a session that `login` opened, without waiting for a commit."""
        if isinstance(caller, SessionCaller):
            self._sessions.end(caller.session)

    def confirming(self, caller: Caller, within_s: float) -> Caller:
        """The same session, asking for a time of its own for confirmations."""
        if not isinstance(caller, SessionCaller):
            raise TypeError("a confirmation needs a session of this server")
        return SessionCaller(
            self._dispatcher, caller.session, replace(self._origin, confirm_within_s=within_s)
        )

    async def dry_run(self, caller: Caller, body: Callable[[Caller], Awaitable[None]]) -> str:
        """Runs `body` on a transaction that is thrown away; gives the plan of each host that would change."""
        if not isinstance(caller, SessionCaller):
            raise TypeError("a dry run needs a session of this server")
        live = await self._sessions.check(caller.session)
        trial = DryRunCaller(self._coordinator, self._database.begin(), live, caller, self._undo_rule)
        await body(trial)
        return await trial.plan()


class DryRunCaller:
    """Carries calls out on one transaction that nobody commits."""

    def __init__(
        self,
        coordinator: Coordinator,
        txn: Txn,
        live: LiveSession,
        real: SessionCaller,
        undo_rule: UndoRule | None = None,
    ) -> None:
        self._undo_rule = undo_rule
        self._coordinator = coordinator
        self._real = real
        self._told: list[str] = []
        self._txn = txn
        self._live = live
        self._contexts: list[CallContext] = []
        self._counters: Counters | None = None

    async def call(self, method: str, *args: Value) -> Value:
        """Calls a message on the transaction."""
        name = method.removeprefix("Async.")
        message = MESSAGES.get(name)
        if message is None:
            raise errors.message_method_unknown(method)
        params = [as_wire(arg) for arg in args]
        _, arguments = bind(message, method, [self._live.ref, *params] if message.session_arg else params)
        if not self._live.is_local:
            require_permission(self._live.role, message, arguments, self._txn)
        if message.full_name in OWN_MESSAGES and message.name.startswith("get_"):
            return await self._real.call(method, *args)  # of the server or the directory: nothing to rehearse
        if message.full_name in EXPLAINING:
            self._told.append(str(await self._real.call(method, *args)))
            return None
        if name == UNDO and self._undo_rule is not None:
            self._decide(await self._undo_rule(arguments), {})
            return None
        result = self._perform(message, arguments)
        return self._finished_task(message, result) if name != method else plain_value(result)

    def _perform(self, message: MessageDecl, arguments: Mapping[str, Any]) -> Any:
        if message.full_name == "event.from":
            return self._all_events(arguments["classes"])
        rule = RULES.get(message.full_name)
        if rule is not None:
            return self._decide(rule, arguments)
        if message.kind in implicit.READS:
            return implicit.read(message, self._txn, arguments)
        if message.kind in implicit.WRITES:
            implicit.change(message, self._txn, arguments)
            return None
        if message.full_name in OWN_MESSAGES:
            return None  # about connections and running calls: no host has anything to do for it
        raise errors.not_implemented(message.full_name)

    def _decide(self, rule: Rule, arguments: Mapping[str, Any]) -> Any:
        overlay = self._txn.nested()
        context = self._coordinator.context(overlay, session_of(self._live))
        self._counters = self._counters or context.counters.copy()
        context.counters = self._counters
        result = rule(context, **arguments)
        overlay.merge()
        self._contexts.append(context)
        return result

    def _finished_task(self, message: MessageDecl, result: Any) -> Value:
        """Stands for the task of an asynchronous call, which here is over before it is asked about."""
        context = self._coordinator.context(self._txn, session_of(self._live))
        task = Task(
            ref=context.new_ref(),
            uuid=context.new_uuid(),
            name_label=f"Async.{message.full_name}",
            status=TaskStatusType.SUCCESS,
            created=context.now,
            finished=context.now,
            progress=1.0,
            result=result_xml(message.result, result),
        )
        return self._txn.create(task)

    def _all_events(self, entries: Sequence[str]) -> Value:
        """All objects that match, as additions: nothing else can have happened in a dry run."""
        events: list[Value] = []
        for entry in entries:
            name, _, ref = entry.partition("/")
            decl = next((d for d in CLASSES.values() if d.name.lower() == name.lower() and d.has_table), None)
            if decl is None:
                continue
            for row in self._txn.all(decl.python_type):
                if ref in ("", row.ref):
                    record = implicit.record_of(row)
                    events.append({"class": name, "operation": "add", "ref": row.ref, "snapshot": record})
        return {"events": tuple(events), "token": "", "valid_ref_counts": {}}

    async def plan(self) -> str:
        """The plan of every host, as text; or what a message has told that only explains.

        Raises:
            INTERNAL_ERROR: A host cannot say what it would do.
        """
        if self._told:
            return "\n".join(self._told)
        try:
            staged = await self._coordinator.plan(self._txn, self._contexts)
        except (HostGone, HostRefused) as error:
            raise errors.internal_error(str(error)) from error
        plans = [self._host_plan(host, *work) for host, work in staged.items()]
        absent = [row for row in self._txn.all(Host) if row.ref not in staged]
        return "\n".join([*plans, *(self._when_it_is_back(row) for row in absent)])

    def _when_it_is_back(self, host: Host) -> str:
        """What is left for a host that is down."""
        found = missing(self._txn, host.ref)
        lines = [f"  is down; gets when it comes back: {what}" for what in found]
        return "\n".join([f"host {host.name_label} ({host.uuid}):", *(lines or ["  is down"])])

    def _host_plan(self, host: Ref[Host], work: Any, staged: Any) -> str:
        row = self._txn.get(Host, host)
        lines = [f"host {row.name_label} ({row.uuid}):"]
        lines += [f"  {show_guest_action(action)}" for action in work.before]
        if staged.plan.steps:
            plan = show_plan(staged.plan, work.desired, self._port)
            lines += [f"  {self._named(line)}" for line in plan.splitlines()]
        lines += [f"  {show_guest_action(action)}" for action in work.after]
        renamed = [name for context in self._contexts for at, name in context.hostname_changes if at == host]
        lines += [f"  set the host's name to {name}" for name in renamed]
        acts = [action for context in self._contexts for at, action in context.storage_actions if at == host]
        lines += [f"  {show_storage_action(action)}" for action in acts]
        if len(lines) == 1:
            lines.append("  " + (ONLY_DATABASE if self._txn.changes() else "nothing to do"))
        return "\n".join(lines)

    def _port(self, port: GuestPort) -> str:
        """A guest port by the name of its VM."""
        rows = self._txn.where(VM, uuid=port.vm_uuid)
        return f"{port.device} of VM {rows[0].name_label!r}" if rows else port.device

    def _named(self, line: str) -> str:
        """Adds the name of a network to a line that ends with its uuid: hosts know uuids alone."""
        found = _NETWORK.search(line)
        rows = self._txn.where(Network, uuid=found[1]) if found else ()
        return f"{line} ({rows[0].name_label!r})" if rows else line
