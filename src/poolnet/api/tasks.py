"""What is being done for whom? Task objects around calls, and the calls that run in the background (spec §4).

The dispatcher makes a task for every call of an asynchronous-capable message; `Async.` calls return it at once and go
on here. Tasks live in memory only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog

from poolnet.api import limits
from poolnet.db.database import Database
from poolnet.db.errors import Conflict, DatabaseError
from poolnet.db.txn import Txn
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.session import Session
from poolnet.model.classes.task import Task
from poolnet.model.enums import TaskAllowedOperations, TaskStatusType
from poolnet.model.types import EPOCH, Ref

log = structlog.get_logger("poolnet.api.tasks")

KEPT_AFTER_END = timedelta(minutes=65)  # spec §4
KEPT_PENDING = timedelta(hours=24)
TASKS_MAX = 200
TOGETHER_S = 0.01  # tasks of calls that somebody waits for are written together
STOP_GRACE_S = 1.5  # for what is still to be written of them, at the server's end


class Tasks:
    """The tasks of this server.

    Args:
        database: Where the rows are kept.
        this_host: The host that executes calls.
        clock: The current time in UTC.
    """

    def __init__(self, *, database: Database, this_host: Ref[Host], clock: Callable[[], datetime]) -> None:
        self._database = database
        self._this_host = this_host
        self._clock = clock
        self._running: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, str] = {}
        self._background: Counter[str] = Counter()  # the sessions of tasks that `create` made
        self._pending: list[Callable[[Txn], object]] = []
        self._writer: asyncio.Task[None] | None = None

    async def create(self, label: str, session: Ref[Session], headers: Mapping[str, str]) -> Ref[Task]:
        """Makes a pending task for a background call of that session; it is there when this returns.

        Raises:
            TOO_MANY_PENDING_TASKS: The session has too many already, or all sessions together have.
            SESSION_INVALID: The session has just ended.
        """
        if (
            self._background.total() >= limits.BACKGROUND_MAX
            or self._background[session] >= limits.BACKGROUND_OF_SESSION_MAX
        ):
            raise errors.too_many_pending_tasks()
        self._background[session] += 1
        row = self._new(label, session, headers)
        try:
            await self._change(lambda txn: txn.create(row))
        except Conflict as error:
            self._uncount(session)
            raise errors.session_invalid(session) from error
        except BaseException:
            self._uncount(session)
            raise
        self._owners[row.ref] = session
        return row.ref

    def _uncount(self, session: str) -> None:
        self._background[session] -= 1
        if not self._background[session]:
            del self._background[session]

    async def remove(self, ref: Ref[Task]) -> None:
        """Removes a task, if it is still there."""
        self._owners.pop(ref, None)
        if self._database.view.find(Task, ref) is not None:
            await self._change(lambda txn: txn.destroy(Task, ref))

    def begin(self, label: str, session: Ref[Session], headers: Mapping[str, str]) -> Ref[Task]:
        """Makes a task for a call whose caller waits for it.

        It appears a moment later, together with those of other calls, so that a burst of calls is not a burst of
        commits; a call that is over by then has none that anybody sees.
        """
        row = self._new(label, session, headers)
        self._owners[row.ref] = session
        self._soon(lambda txn: txn.create(row))
        return row.ref

    def end(self, ref: Ref[Task]) -> None:
        """Removes what `begin` made, a moment later."""
        self._owners.pop(ref, None)
        self._soon(lambda txn: txn.destroy(Task, ref) if txn.exists(Task, ref) else None)

    def _new(self, label: str, session: Ref[Session], headers: Mapping[str, str]) -> Task:
        return Task(
            ref=Ref(f"OpaqueRef:{uuid4()}"),
            uuid=str(uuid4()),
            name_label=label,
            status=TaskStatusType.PENDING,
            created=self._clock(),
            finished=EPOCH,
            type="<none/>",
            resident_on=self._this_host,
            backtrace="()",
            session=session,
            other_config={f"http:{name}": value for name, value in headers.items()},
        )

    def _soon(self, change: Callable[[Txn], object]) -> None:
        self._pending.append(change)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_pending(), name="tasks-writer")

    async def _write_pending(self) -> None:
        while self._pending:
            await asyncio.sleep(TOGETHER_S)
            changes, self._pending = self._pending, []
            try:
                await self._change_all(changes)
            except (DatabaseError, errors.Failure):
                for change in changes:  # a session that ended takes only its own tasks along
                    with suppress(DatabaseError, errors.Failure):
                        await self._change(change)

    def run(self, ref: Ref[Task], work: Callable[[], Awaitable[str]]) -> None:
        """Runs a call in the background; its result (as XML) or failure becomes the task's."""
        session = self._owners.get(ref, "")
        self._running[ref] = asyncio.create_task(self._run(ref, session, work), name=f"task {ref}")

    async def _run(self, ref: Ref[Task], session: str, work: Callable[[], Awaitable[str]]) -> None:
        try:
            result = await work()
        except errors.Failure as failure:
            await self.fail(ref, failure)
        except asyncio.CancelledError:
            await self.fail(ref, errors.task_cancelled(ref))
        except Exception as error:  # a bug is the task's failure, and the server goes on
            log.exception("task-failed", task=ref)
            await self.fail(ref, errors.internal_error(f"{type(error).__name__}: {error}"))
        else:
            await self.succeed(ref, result)
        finally:
            self._running.pop(ref, None)
            self._owners.pop(ref, None)
            self._uncount(session)

    async def succeed(self, ref: Ref[Task], result: str) -> None:
        """Completes a pending task with its result."""
        await self._complete(ref, status=TaskStatusType.SUCCESS, result=result)

    async def fail(self, ref: Ref[Task], failure: errors.Failure) -> None:
        """Completes a pending task with a failure; a cancelled one when that is what it says."""
        cancelled = failure.code == "TASK_CANCELLED"
        status = TaskStatusType.CANCELLED if cancelled else TaskStatusType.FAILURE
        await self._complete(ref, status=status, error_info=(failure.code, *failure.params))

    async def _complete(self, ref: Ref[Task], **fields: Any) -> None:
        row = self._database.view.find(Task, ref)
        if row is None or not _pending(row):  # a status is never overwritten
            return
        await self._change(
            lambda txn: txn.update(
                Task,
                ref,
                allowed_operations=(),
                finished=self._clock(),
                progress=1.0,
                **fields,
            )
        )

    def cancel(self, ref: str) -> None:
        """Cancels a call that runs in the background, as far as it still can be."""
        running = self._running.get(ref)
        if running is not None:
            running.cancel()

    def has_work(self, session: str) -> bool:
        """Whether that session has unfinished tasks: calls under way, or its own that it drives."""
        rows = self._database.view.where(Task, session=Ref(session))
        return session in self._owners.values() or any(_pending(row) for row in rows)

    async def sweep(self) -> None:
        """Removes old tasks, those that were destroyed while they ran, and the oldest completed ones above the limit."""
        now = self._clock()
        rows = sorted(self._database.view.all(Task), key=lambda task: task.finished)
        done = [t for t in rows if not _pending(t)]
        doomed = [t for t in done if now - t.finished > KEPT_AFTER_END or _to_go(t)]
        doomed += [
            t for t in rows if _pending(t) and now - t.created > KEPT_PENDING and t.ref not in self._running
        ]
        surplus = len(rows) - len(doomed) - TASKS_MAX
        doomed += [t for t in done if t not in doomed][: max(0, surplus)]
        for task in doomed:
            await self.remove(task.ref)

    async def stop(self) -> None:
        """Cancels what still runs, at the server's end; nothing waits for a commit that does not end."""
        under_way = set(self._running.values())
        for running in under_way:
            running.cancel()
        if self._writer is not None:
            under_way.add(self._writer)
        if under_way:
            _, left = await asyncio.wait(under_way, timeout=STOP_GRACE_S)
            for each in left:
                each.cancel()

    async def written(self) -> None:
        """Waits until the tasks of calls that are over have gone, which takes a moment (see `begin`)."""
        if self._writer is not None:
            await self._writer

    async def _change(self, change: Callable[[Txn], object]) -> None:
        await self._change_all((change,))

    async def _change_all(self, changes: Iterable[Callable[[Txn], object]]) -> None:
        txn = self._database.begin()
        for change in changes:
            change(txn)
        await self._database.commit(txn.changes())


def _pending(task: Task) -> bool:
    return task.status is TaskStatusType.PENDING


def _to_go(task: Task) -> bool:
    return TaskAllowedOperations.DESTROY in task.current_operations.values()
