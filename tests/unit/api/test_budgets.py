"""What one client can have of the server at once, and what others notice of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from poolnet.api import events, limits
from poolnet.api.answer import Codec, Encoded, Origin, Refusal, Success
from poolnet.api.budgets import Budgets
from poolnet.api.events import EventBatch
from poolnet.api.tasks import Tasks
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.pool import Pool
from poolnet.model.errors import Failure
from poolnet.model.roles import Role
from poolnet.model.types import NULL
from poolnet.rules import task
from tests.in_process import InProcess, login_as, with_server
from tests.unit.api.test_sessions import Clock
from tests.waiting import until

HERE, THERE = "192.0.2.1", "192.0.2.2"


def test_blocked_calls_are_bounded_for_each_session_and_each_address() -> None:
    async def body() -> None:
        budgets = Budgets()
        with ExitStack() as stack:
            for at in range(limits.POLLS_OF_MACHINE_MAX):
                stack.enter_context(budgets.poll(HERE, f"s{at // limits.POLLS_OF_SESSION_MAX}"))
            with pytest.raises(Failure, match="TOO_BUSY"), budgets.poll(HERE, "new"):
                pass
            with pytest.raises(Failure, match="TOO_BUSY"), budgets.poll(THERE, "s0"):
                pass
            stack.enter_context(budgets.poll(THERE, "new"))
            stack.enter_context(budgets.poll("", "console"))
        with ExitStack() as stack:
            for _ in range(limits.POLLS_OF_SESSION_MAX):
                stack.enter_context(budgets.poll(HERE, "s0"))

    asyncio.run(body())


def test_too_many_event_calls_of_a_session_are_told_so(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login_as(server, Role.READ_ONLY)
        token = (await server.events.from_(session, ["pool"], "", 0.0)).token
        origin = Origin(local_root=False, peer=HERE)

        async def poll() -> object:
            return await server.dispatcher.dispatch(
                "event.from", [session, ["pool"], str(token), 60.0], origin
            )

        waiting = [asyncio.create_task(poll()) for _ in range(limits.POLLS_OF_SESSION_MAX)]
        await asyncio.sleep(0)
        assert await poll() == Refusal("TOO_BUSY", ())
        await server.sessions.logout(session)
        answers = await asyncio.gather(*waiting)
        assert {answer.code for answer in answers if isinstance(answer, Refusal)} == {"SESSION_INVALID"}
        assert len(answers) == limits.POLLS_OF_SESSION_MAX

    with_server(tmp_path, body)


def test_background_calls_are_bounded_and_their_places_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr(limits, "BACKGROUND_OF_SESSION_MAX", 3)
        tasks = Tasks(database=Database.open(MemoryEngine()), this_host=NULL, clock=Clock())
        hold = asyncio.Event()

        async def work() -> str:
            await hold.wait()
            return ""

        for _ in range(3):
            tasks.run(await tasks.create("x", NULL, {}), work)
        with pytest.raises(Failure, match="TOO_MANY_PENDING_TASKS"):
            await tasks.create("x", NULL, {})
        hold.set()
        await until(lambda: not tasks.has_work(NULL))
        tasks.run(await tasks.create("x", NULL, {}), work)
        await tasks.stop()

    asyncio.run(body())


def test_tasks_that_a_client_drives_itself_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(server: InProcess) -> None:
        monkeypatch.setattr(task, "PENDING_OF_SESSION_MAX", 2)
        session = await login_as(server, Role.READ_ONLY)

        async def create() -> object:
            answer = await server.dispatcher.dispatch(
                "task.create", [session, "l", ""], Origin(local_root=False, peer=HERE)
            )
            return answer.value if isinstance(answer, Success) else answer

        first, _ = await create(), await create()
        assert await create() == Refusal("TOO_MANY_PENDING_TASKS", ())
        await server.dispatcher.dispatch(
            "task.set_status", [session, str(first), "success"], Origin(local_root=False, peer=HERE)
        )
        assert isinstance(await create(), str)

    with_server(tmp_path, body)


def test_clients_that_want_the_same_events_get_the_same_answer(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        one, two = await login_as(server, None), await login_as(server, None)
        first = await server.events.from_(one, ["*"], "", 0.0)
        assert await server.events.from_(two, ["*"], "", 0.0) is first
        other = await server.events.from_(two, ["pool"], "", 0.0)
        assert {event.cls for event in other.events} == {"pool"}
        made = 0

        async def make() -> list[bytes]:
            nonlocal made
            made += 1
            await asyncio.sleep(0)
            return [b"x"]

        assert await asyncio.gather(*(first.shared.get(Codec.XML, make) for _ in range(5))) == [[b"x"]] * 5
        assert made == 1
        txn = server.database.begin()
        pool = next(iter(server.database.view.all(Pool)))
        txn.update(Pool, pool.ref, name_label="changed")
        await server.database.commit(txn.changes())
        again = await server.events.from_(one, ["*"], "", 0.0)
        assert again is not first
        assert any(getattr(event.row, "name_label", "") == "changed" for event in again.events)

    with_server(tmp_path, body)


def test_who_is_cancelled_while_encoding_leaves_it_to_the_next(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        batch = await server.events.from_(await login_as(server, None), ["*"], "", 0.0)

        async def hangs() -> list[bytes]:
            await asyncio.Event().wait()
            return []

        async def makes() -> list[bytes]:
            return [b"made"]

        first = asyncio.create_task(batch.shared.get(Codec.JSON, hangs))
        await asyncio.sleep(0)
        second = asyncio.create_task(batch.shared.get(Codec.JSON, makes))
        await asyncio.sleep(0)
        first.cancel()
        assert await asyncio.wait_for(second, 5) == [b"made"]

    with_server(tmp_path, body)


def test_an_answer_encoded_in_pieces_is_the_answer(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login_as(server, None)
        answer = await server.dispatcher.dispatch(
            "event.from", [session, ["*"], "", 0.0], Origin(local_root=True)
        )
        assert isinstance(answer, Success)
        assert isinstance(answer.value, Encoded)
        found = json.loads(b"".join(answer.value.pieces(Codec.JSON)))
        assert set(found) == {"events", "valid_ref_counts", "token"}
        assert {"pool", "host", "pif", "role"} <= {event["class"] for event in found["events"]}
        none = await server.dispatcher.dispatch(
            "event.from", [session, ["nothing"], "", 0.0], Origin(local_root=True)
        )
        assert isinstance(none, Success)
        assert isinstance(none.value, Encoded)
        assert json.loads(b"".join(none.value.pieces(Codec.JSON)))["events"] == []

    with_server(tmp_path, body)


def test_large_answers_to_one_address_wait_for_each_other_and_for_nobody_else() -> None:
    async def body() -> None:
        budgets, hold, inside = Budgets(), asyncio.Event(), []

        async def send(peer: str, size: int = limits.LARGE_ANSWER_BYTES) -> None:
            async with budgets.sending(peer, size):
                inside.append(peer)
                await hold.wait()

        tasks = [asyncio.create_task(send(HERE)) for _ in range(limits.LARGE_ANSWERS_OF_MACHINE + 3)]
        tasks += [asyncio.create_task(send(THERE)), asyncio.create_task(send(HERE, 10))]
        for _ in range(5):
            await asyncio.sleep(0)
        assert sorted(inside) == [HERE] * (limits.LARGE_ANSWERS_OF_MACHINE + 1) + [THERE]
        hold.set()
        await asyncio.gather(*tasks)

    asyncio.run(body())


def test_a_machine_that_asks_too_fast_waits_and_the_console_does_not() -> None:
    async def body() -> None:
        clock = 0.0
        budgets = Budgets(lambda: clock)
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            for _ in range(limits.CALLS_OF_MACHINE_BURST):
                await budgets.admit_request(HERE, 0)
            assert slept == []
            await budgets.admit_request(HERE, 0)
            assert slept == [pytest.approx(1 / limits.CALLS_OF_MACHINE_PER_S)]
            await budgets.admit_request(THERE, limits.BYTES_OF_MACHINE_BURST + limits.BYTES_OF_MACHINE_PER_S)
            assert slept[1:] == [pytest.approx(1.0)]
            for _ in range(limits.CALLS_OF_MACHINE_BURST * 2):
                await budgets.admit_request("", 10_000)
                await budgets.admit_call("", "s")
            assert len(slept) == 2

    asyncio.run(body())


def test_a_change_wakes_those_who_wait_one_in_each_turn_and_nobody_twice(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        woken: list[asyncio.Future[None]] = []
        sessions = [await login_as(server, None) for _ in range(10)]
        token = (await server.events.from_(sessions[0], ["pool"], "", 0.0)).token
        waiting = [
            asyncio.create_task(server.events.from_(session, ["pool"], str(token), 60.0, woken.append))
            for session in sessions
        ]
        await asyncio.sleep(0)
        waiting.pop().cancel()
        txn = server.database.begin()
        pool = next(iter(server.database.view.all(Pool)))
        txn.update(Pool, pool.ref, name_label="changed")
        await server.database.commit(txn.changes())
        await until(lambda: len(woken) == 9)
        assert not any(task.done() for task in waiting)
        for at, place in enumerate(woken, 1):
            place.set_result(None)
            await until(partial(_done, waiting, at))
        answers = [await task for task in waiting]
        assert all(answer is answers[0] for answer in answers)
        assert len(woken) == 9

    with_server(tmp_path, body)


def test_all_there_is_is_told_in_slices_between_which_others_have_their_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "EVENTS_AT_ONCE", 10)

    async def body(server: InProcess) -> None:
        places: list[asyncio.Future[None]] = []
        session = await login_as(server, None)
        calling = asyncio.create_task(server.events.from_(session, ["*"], "", 0.0, places.append))
        pool = next(iter(server.database.view.all(Pool)))
        await until(lambda: len(places) == 1)
        txn = server.database.begin()
        txn.update(Pool, pool.ref, name_label="changed meanwhile")
        await server.database.commit(txn.changes())
        for at in range(1, 1000):
            places[-1].set_result(None)
            await until(partial(_asked_again, calling, places, at))
            if calling.done():
                break
        batch = await calling
        assert len(places) > len(batch.events) / 10
        counted = {
            cls: sum(event.cls == cls for event in batch.events) for cls in ("pool", "host", "role", "pif")
        }
        assert counted == {cls: batch.counts[cls] for cls in counted}
        after = await server.events.from_(session, ["pool"], str(batch.token), 0.0)
        assert [event.ref for event in after.events] == [pool.ref], (
            "what changed meanwhile is told of once more"
        )

    with_server(tmp_path, body)


def _done(tasks: Sequence[asyncio.Task[object]], count: int) -> bool:
    return sum(task.done() for task in tasks) == count


def _asked_again(calling: asyncio.Task[EventBatch], places: Sequence[object], before: int) -> bool:
    return calling.done() or len(places) > before
