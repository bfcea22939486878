"""What a task says of its call, and how long it stays (spec §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from poolnet.api import tasks as module
from poolnet.api.answer import Answer, Origin, Refusal, Success
from poolnet.api.tasks import Tasks
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.network import Network
from poolnet.model.classes.session import Session
from poolnet.model.classes.task import Task
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import TaskAllowedOperations, TaskStatusType
from poolnet.model.errors import Failure
from poolnet.model.roles import Role
from poolnet.model.types import EPOCH, NULL, Ref
from tests.in_process import InProcess, with_server
from tests.unit.pool.test_coordinator import eth1, networks

START = datetime(2026, 1, 1, tzinfo=UTC)
ORIGIN = Origin(local_root=True, headers={"user-agent": "tests/1", "cookie": "secret", "originator": "o"})


class World:
    """Tasks with a clock that tests set."""

    def __init__(self) -> None:
        self.now = START
        self.database = Database.open(MemoryEngine())
        self.tasks = Tasks(database=self.database, this_host=Ref("OpaqueRef:host"), clock=lambda: self.now)

    async def done(self, **ago: float) -> Ref[Task]:
        self.now = START - timedelta(**ago)
        ref = await self.tasks.create("x", NULL, {})
        await self.tasks.succeed(ref, "")
        self.now = START
        return ref

    def left(self) -> set[str]:
        return set(self.database.view.refs(Task))


def in_world(body: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World()
        await body(world)
        await world.tasks.stop()
        world.database.close()

    asyncio.run(run())


def test_a_new_task_is_as_the_reference_makes_it() -> None:
    async def body(world: World) -> None:
        txn = world.database.begin()
        session = txn.create(Session(ref=Ref("OpaqueRef:s"), uuid="s"))
        await world.database.commit(txn.changes())
        ref = await world.tasks.create("Async.VIF.plug", session, {"user-agent": "curl"})
        row = world.database.view.get(Task, ref)
        assert (row.name_label, row.name_description) == ("Async.VIF.plug", "")
        assert (row.created, row.finished) == (START, EPOCH)
        assert (row.status, row.progress, row.type) == (TaskStatusType.PENDING, 0.0, "<none/>")
        assert (row.result, row.error_info, row.backtrace, row.subtask_of) == ("", (), "()", NULL)
        assert (row.resident_on, row.session) == ("OpaqueRef:host", session)
        assert (row.allowed_operations, row.current_operations) == ((), {})
        assert row.other_config == {"http:user-agent": "curl"}

    in_world(body)


def test_the_server_ends_while_no_commit_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body(world: World) -> None:
        background = await world.tasks.create("x", NULL, {})
        stuck: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(module, "STOP_GRACE_S", 0.01)
        monkeypatch.setattr(world.database, "commit", lambda *_: stuck)
        world.tasks.begin("y", NULL, {})

        async def work() -> str:
            await asyncio.Event().wait()
            return ""

        world.tasks.run(background, work)
        await asyncio.wait_for(world.tasks.stop(), 20)

    in_world(body)


def test_no_task_is_made_for_a_session_that_has_just_ended() -> None:
    async def body(world: World) -> None:
        with pytest.raises(Failure, match="SESSION_INVALID"):
            await world.tasks.create("x", Ref("OpaqueRef:gone"), {})

    in_world(body)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure("HANDLE_INVALID", "VM", "r"), TaskStatusType.FAILURE),
        (Failure("TASK_CANCELLED", "r"), TaskStatusType.CANCELLED),
    ],
)
def test_how_a_task_ended_is_never_overwritten(failure: Failure, status: TaskStatusType) -> None:
    async def body(world: World) -> None:
        ref = await world.tasks.create("x", NULL, {})
        world.now += timedelta(seconds=3)
        await world.tasks.fail(ref, failure)
        ended = world.database.view.get(Task, ref)
        assert (ended.status, ended.progress, ended.finished) == (status, 1.0, world.now)
        assert ended.error_info == (failure.code, *failure.params)
        await world.tasks.succeed(ref, "<value></value>")
        assert world.database.view.get(Task, ref) is ended

    in_world(body)


def test_completed_tasks_go_after_65_minutes_and_pending_ones_after_a_day() -> None:
    async def body(world: World) -> None:
        await world.done(minutes=66)
        young = await world.done(minutes=64)
        world.now = START - timedelta(hours=25)
        await world.tasks.create("nobody drives it", NULL, {})
        world.now = START - timedelta(hours=23)
        pending = await world.tasks.create("x", NULL, {})
        world.now = START
        await world.tasks.sweep()
        assert world.left() == {young, pending}

    in_world(body)


def test_the_oldest_completed_tasks_above_the_limit_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TASKS_MAX", 3)

    async def body(world: World) -> None:
        made = [await world.done(minutes=minutes) for minutes in (10, 40, 20, 30)]
        pending = await world.tasks.create("x", NULL, {})
        await world.tasks.sweep()
        assert world.left() == {made[0], made[2], pending}

    in_world(body)


def test_a_task_destroyed_while_it_runs_goes_when_it_has_ended() -> None:
    async def body(world: World) -> None:
        ref = await world.tasks.create("x", NULL, {})
        txn = world.database.begin()
        txn.update(Task, ref, current_operations={"task": TaskAllowedOperations.DESTROY})
        await world.database.commit(txn.changes())
        await world.tasks.sweep()
        assert world.left() == {ref}
        await world.tasks.succeed(ref, "")
        await world.tasks.sweep()
        assert world.left() == set()

    in_world(body)


async def login(server: InProcess) -> str:
    return await server.sessions.login_with_password("root", "", "", local_root=True)


async def call(server: InProcess, method: str, *params: Any) -> Answer:
    return await server.dispatcher.dispatch(method, list(params), ORIGIN)


async def value(server: InProcess, method: str, *params: Any) -> Any:
    answer = await call(server, method, *params)
    assert isinstance(answer, Success), answer
    return answer.value


async def ended(server: InProcess, task: str) -> Task:
    """The task, once it has."""
    while (row := server.database.view.get(Task, Ref(task))).status is TaskStatusType.PENDING:
        await server.database.feed.wait(server.database.feed.number)
    return row


async def vlan_at_the_gate(server: InProcess, session: str) -> str:
    """An asynchronous call whose host is being switched."""
    (network,) = await networks(server, 1)
    server.host.gate = asyncio.Event()
    task = await value(server, "Async.VLAN.create", session, eth1(server), "5", network)
    await server.host.at_gate.wait()
    return str(task)


def test_a_task_keeps_some_headers_and_no_others(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        task = await value(server, "Async.network.create", await login(server), {"other_config": {}})
        row = await ended(server, task)
        assert row.other_config == {"http:user-agent": "tests/1", "http:originator": "o"}
        assert row.name_label == "Async.network.create"

    with_server(tmp_path, body)


def test_the_task_of_a_synchronous_call_is_there_only_while_it_lasts(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        (network,) = await networks(server, 1)
        server.host.gate = asyncio.Event()
        calling = asyncio.create_task(call(server, "VLAN.create", session, eth1(server), "5", network))
        while not server.database.view.count(Task):
            await server.database.feed.wait(server.database.feed.number)
        (row,) = server.database.view.all(Task)
        assert row.name_label == "VLAN.create"
        assert server.tasks.has_work(session)
        server.host.gate.set()
        assert isinstance(await calling, Success)
        while server.database.view.count(Task):
            await server.database.feed.wait(server.database.feed.number)
        assert not server.tasks.has_work(session)

    with_server(tmp_path, body)


def test_a_call_that_waits_its_turn_can_be_cancelled_and_one_that_has_begun_ends(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        begun = await vlan_at_the_gate(server, session)
        waiting = await value(server, "Async.network.create", session, {"other_config": {}})
        for task in (begun, waiting):
            assert await value(server, "task.cancel", session, task) is None
        row = await ended(server, waiting)
        assert (row.status, row.error_info) == (TaskStatusType.CANCELLED, ("TASK_CANCELLED", waiting))
        assert TaskAllowedOperations.CANCEL in row.current_operations.values()
        assert server.host.gate is not None
        server.host.gate.set()
        assert (await ended(server, begun)).status is TaskStatusType.SUCCESS
        assert server.database.view.count(VLAN) == 1
        before = server.database.view.get(Task, Ref(begun))
        assert await value(server, "task.cancel", session, begun) is None
        assert server.database.view.get(Task, Ref(begun)) is before, "it has ended"

    with_server(tmp_path, body)


def test_a_session_with_unfinished_tasks_is_kept(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        task = await value(server, "task.create", session, "mine", "")
        assert server.tasks.has_work(session)
        await value(server, "task.set_status", session, task, "success")
        assert not server.tasks.has_work(session)

    with_server(tmp_path, body)


@pytest.mark.parametrize("method", ["task.cancel", "task.destroy"])
def test_a_task_belongs_to_its_user_and_to_pool_operators(tmp_path: Path, method: str) -> None:
    async def body(server: InProcess) -> None:
        names = [
            ("ann", Role.READ_ONLY),
            ("ann", Role.READ_ONLY),
            ("bob", Role.VM_ADMIN),
            ("eve", Role.POOL_OPERATOR),
        ]
        first, again, other, operator = [await session_of(server, *who) for who in names]
        for caller, allowed in ((other, False), (again, True), (operator, True)):
            task = await value(server, "task.create", first, "mine", "")
            answer = await call(server, method, caller, task)
            if allowed:
                assert isinstance(answer, Success)
            else:
                assert isinstance(answer, Refusal)
                assert answer.params[0] == "task.destroy_any"

    with_server(tmp_path, body)


async def session_of(server: InProcess, user: str, role: Role) -> str:
    credentials = server.sessions._credentials
    users = credentials._users_file
    hashed = users.read_text().split('"')[1]
    users.write_text(f'[users.{user}]\npassword_hash = "{hashed}"\nrole = "{role}"\n')
    return await server.sessions.login_with_password(user, "secret", "", local_root=False)


def test_local_sessions_make_background_calls_too(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await server.sessions.local_login("root", "", local_root=True)
        task = await value(server, "Async.network.create", session, {"other_config": {}})
        assert (await ended(server, task)).status is TaskStatusType.SUCCESS

    with_server(tmp_path, body)


def test_a_bug_in_a_call_is_its_task_s_failure(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        async def broken() -> str:
            raise KeyError("bug")

        ref = await server.tasks.create("x", NULL, {})
        server.tasks.run(ref, broken)
        row = await ended(server, ref)
        assert (row.status, row.error_info[0]) == (TaskStatusType.FAILURE, "INTERNAL_ERROR")

    with_server(tmp_path, body)


def test_stopping_ends_what_runs(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        task = await vlan_at_the_gate(server, await login(server))
        assert server.host.gate is not None
        stopping = asyncio.create_task(server.coordinator.stop())
        server.host.gate.set()
        await stopping
        await server.tasks.stop()
        assert server.database.view.get(Task, Ref(task)).status is TaskStatusType.CANCELLED
        assert server.database.view.count(Network) > 0

    with_server(tmp_path, body)
