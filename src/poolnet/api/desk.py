"""What stands between clients and the coordinator? Sessions, tasks and events, and the dispatcher that uses them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from poolnet.api.answer import Origin
from poolnet.api.audit_calls import undo_rule
from poolnet.api.auditing import Auditor
from poolnet.api.budgets import Budgets
from poolnet.api.cli_login import CliLogin
from poolnet.api.credentials import Credentials
from poolnet.api.directory import Directory
from poolnet.api.dispatch import Dispatcher, Own
from poolnet.api.events import Events
from poolnet.api.http import RunCli
from poolnet.api.locks import AskedHosts
from poolnet.api.logins import REFUSAL_DELAY_S
from poolnet.api.own import own_messages
from poolnet.api.sessions import Sessions
from poolnet.api.tasks import Tasks
from poolnet.db.database import Database
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool.audit_log import AuditLog
from poolnet.pool.coordinator import Coordinator
from poolnet.xe.client import Client
from poolnet.xe.commands.run import run as run_command


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The parts of a coordinator that clients meet."""

    database: Database
    coordinator: Coordinator
    sessions: Sessions
    tasks: Tasks
    events: Events
    own: Mapping[str, Own]
    budgets: Budgets

    def dispatcher(self, more: Mapping[str, Own], auditor: Auditor) -> Dispatcher:
        """Who answers calls; `more` are messages that are answered besides those of every coordinator."""
        return Dispatcher(
            database=self.database,
            coordinator=self.coordinator,
            sessions=self.sessions,
            tasks=self.tasks,
            own={**self.own, **more},
            auditor=auditor,
            budgets=self.budgets,
        )

    def console(self, dispatcher: Dispatcher, auditor: Auditor, audit_log: AuditLog) -> RunCli:
        """What carries out commands of `xe`, by the same dispatcher."""

        async def run_cli(words: Sequence[str], client: Client, origin: Origin) -> None:
            login = CliLogin(
                dispatcher=dispatcher,
                sessions=self.sessions,
                coordinator=self.coordinator,
                database=self.database,
                origin=origin,
                auditor=auditor,
                undo_rule=partial(undo_rule, audit_log),
            )
            await run_command(words, client, login)

        return run_cli


def open_desk(
    *,
    stack: AsyncExitStack,
    database: Database,
    coordinator: Coordinator,
    credentials: Credentials,
    directory: Directory,
    budgets: Budgets,
    hosts: AskedHosts,
    host: Ref[Host],
    clock: Callable[[], datetime],
    refusal_delay_s: float = REFUSAL_DELAY_S,
) -> Desk:
    """Makes the parts; `stack` ends them."""
    tasks = Tasks(database=database, this_host=host, clock=clock)
    stack.push_async_callback(tasks.stop)
    sessions = Sessions(
        database=database,
        credentials=credentials,
        directory=directory,
        this_host=host,
        clock=clock,
        has_work=tasks.has_work,
        refusal_delay_s=refusal_delay_s,
    )
    stack.push_async_callback(sessions.stop)
    events = Events(database=database, clock=clock)
    stack.push_async_callback(events.stop)
    sessions.on_end(events.session_ended)
    own = own_messages(
        database=database,
        sessions=sessions,
        tasks=tasks,
        events=events,
        coordinator=coordinator,
        hosts=hosts,
        directory=directory,
        budgets=budgets,
    )
    return Desk(
        database=database,
        coordinator=coordinator,
        sessions=sessions,
        tasks=tasks,
        events=events,
        own=own,
        budgets=budgets,
    )
