"""Which messages does the API server carry out itself? Those about sessions, events and running calls.

They concern the server's connections rather than the pool, so no rule decides them. The dispatcher gets them as a
mapping from full names.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from poolnet.api.auth import auth_messages
from poolnet.api.budgets import Budgets
from poolnet.api.data_sources import data_source_messages
from poolnet.api.directory import Directory
from poolnet.api.dispatch import Call, Own, Result, session_of
from poolnet.api.drift import drift_messages
from poolnet.api.evacuate import evacuate_message
from poolnet.api.events import Events
from poolnet.api.locks import AskedHosts, lock_messages
from poolnet.api.sessions import LiveSession, Sessions
from poolnet.api.tasks import Tasks
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.task import Task
from poolnet.model.enums import TaskAllowedOperations, TaskStatusType
from poolnet.model.types import NULL
from poolnet.pool.coordinator import Coordinator
from poolnet.rules.task import own_task


def own_messages(
    *,
    database: Database,
    sessions: Sessions,
    tasks: Tasks,
    events: Events,
    coordinator: Coordinator,
    hosts: AskedHosts,
    directory: Directory,
    budgets: Budgets,
) -> Mapping[str, Own]:
    """The API's own messages, by full name."""
    return {
        **_session_messages(sessions),
        **_event_messages(events, budgets),
        **auth_messages(database, directory),
        "task.cancel": _cancel(database, tasks, coordinator),
        **lock_messages(database, hosts),
        **data_source_messages(database, hosts),
        **drift_messages(database, hosts),
        "host.evacuate": evacuate_message(database, coordinator),
    }


def _session_messages(sessions: Sessions) -> Mapping[str, Own]:
    async def login_with_password(call: Call) -> Result:
        a = call.arguments
        return await sessions.login_with_password(
            a["uname"],
            a["pwd"],
            a["originator"],
            call.origin.local_root,
            call.origin.peer,
            call.origin.member,
        )

    async def local_login(call: Call) -> Result:
        a = call.arguments
        return await sessions.local_login(a["uname"], a["pwd"], call.origin.local_root, call.origin.peer)

    async def logout(call: Call) -> Result:
        await sessions.logout(_live(call).ref)
        return None

    async def change_password(call: Call) -> Result:
        await sessions.change_password(_live(call), call.arguments["new_pwd"])
        return None

    async def subjects(_: Call) -> Result:
        return sessions.subjects()

    async def logout_subject(call: Call) -> Result:
        await sessions.logout_subject(_live(call), call.arguments["subject_identifier"])
        return None

    return {
        "session.login_with_password": login_with_password,
        "session.slave_local_login_with_password": local_login,
        "session.logout": logout,
        "session.local_logout": logout,
        "session.change_password": change_password,
        "session.get_all_subject_identifiers": subjects,
        "session.logout_subject_identifier": logout_subject,
    }


def _event_messages(events: Events, budgets: Budgets) -> Mapping[str, Own]:
    async def from_(call: Call) -> Result:
        a = call.arguments
        peer, session = call.origin.peer, _live(call).ref
        with budgets.poll(peer, session):
            if a["token"] == "":
                await budgets.admit_full_poll(peer)
            return await events.from_(session, a["classes"], a["token"], a["timeout"], _turn(budgets, peer))

    async def register(call: Call) -> Result:
        events.register(_live(call).ref, call.arguments["classes"])
        return None

    async def unregister(call: Call) -> Result:
        events.unregister(_live(call).ref, call.arguments["classes"])
        return None

    async def next_(call: Call) -> Result:
        with budgets.poll(call.origin.peer, _live(call).ref):
            return await events.next(_live(call).ref, _turn(budgets, call.origin.peer))

    async def current_id(_: Call) -> Result:
        return events.current_id

    async def inject(call: Call) -> Result:
        return await events.inject(call.arguments["class"], call.arguments["ref"])

    return {
        "event.from": from_,
        "event.register": register,
        "event.unregister": unregister,
        "event.next": next_,
        "event.get_current_id": current_id,
        "event.inject": inject,
    }


def _turn(budgets: Budgets, peer: str) -> Callable[[asyncio.Future[None]], None]:
    """Has a future done at a client's turn."""
    return lambda place: budgets.wake(peer, place)


def _cancel(database: Database, tasks: Tasks, coordinator: Coordinator) -> Own:
    async def cancel(call: Call) -> Result:
        """Cancels a task that still runs (spec §4); a finished one is left as it is.

        Raises:
            HANDLE_INVALID: There is no such task.
            RBAC_PERMISSION_DENIED: It is somebody else's.
        """
        ref = call.arguments["task"]
        if own_task(database.view, session_of(call.live), ref).status is not TaskStatusType.PENDING:
            return None
        key = call.task if call.task != NULL else ref

        def mark(txn: Txn) -> None:
            operations = {**txn.get(Task, ref).current_operations, key: TaskAllowedOperations.CANCEL}
            txn.update(Task, ref, current_operations=operations)

        await coordinator.write(mark)
        tasks.cancel(ref)
        return None

    return cancel


def _live(call: Call) -> LiveSession:
    if call.live is None:
        raise errors.session_invalid(NULL)
    return call.live
