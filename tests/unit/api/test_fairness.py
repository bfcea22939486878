"""Rates, gates and turns: who gets how much, and in which order."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from poolnet.api.fairness import FairGate, Full, Rates, Turns


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_free_and_then_each_waits_for_its_share() -> None:
    clock = Clock()
    rates = Rates(3, 2.0, clock)
    assert [rates.take("a") for _ in range(5)] == [0.0, 0.0, 0.0, 0.5, 1.0]
    assert rates.take("b") == 0.0, "others have their own"
    clock.now += 1.0
    assert rates.wait_s("a") == pytest.approx(0.5)
    clock.now += 10.0
    assert [rates.take("a") for _ in range(4)] == [0.0, 0.0, 0.0, 0.5], "no more than a burst is saved up"


def test_asking_takes_nothing() -> None:
    clock = Clock()
    rates = Rates(1, 1.0, clock)
    assert [rates.wait_s("a") for _ in range(3)] == [0.0] * 3
    rates.take("a")
    assert rates.wait_s("a") == 1.0


def test_keys_that_are_full_again_are_forgotten_and_never_too_many_kept() -> None:
    clock = Clock()
    rates = Rates(1, 1.0, clock, keys_max=5)
    for at in range(20):
        rates.take(f"k{at}")
    assert len(rates) == 5
    clock.now += 10
    rates.take("new")
    assert len(rates) == 1


def test_a_gate_lets_keys_in_by_turns() -> None:
    async def body() -> None:
        gate, order = FairGate(1, of_key=1, waiting_max=10), []

        async def work(key: str) -> None:
            async with gate.entered(key):
                order.append(key)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(key) for key in ("loud", "loud", "loud", "loud", "quiet", "other")))
        assert order == ["loud", "loud", "quiet", "other", "loud", "loud"]

    asyncio.run(body())


def test_a_gate_bounds_each_key_and_those_that_wait() -> None:
    async def body() -> None:
        gate, inside, most = FairGate(3, of_key=2, waiting_max=1), 0, 0
        hold = asyncio.Event()

        async def work() -> None:
            nonlocal inside, most
            async with gate.entered("a"):
                inside += 1
                most = max(most, inside)
                await hold.wait()
                inside -= 1

        tasks = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await work()
        hold.set()
        await asyncio.gather(*tasks)
        assert (most, inside) == (2, 0)

    asyncio.run(body())


@pytest.mark.parametrize("when", range(6))
def test_who_gives_up_waiting_leaves_its_place(when: int) -> None:
    async def body() -> None:
        gate = FairGate(1, of_key=1, waiting_max=10)
        hold = asyncio.Event()

        async def holder() -> None:
            async with gate.entered("a"):
                await hold.wait()

        async def waiter() -> None:
            async with gate.entered("b"):
                pass

        first, second = asyncio.create_task(holder()), asyncio.create_task(waiter())
        for step in range(6):
            if step == 2:
                hold.set()
            if step == when:
                second.cancel()
            await asyncio.sleep(0)
        await first
        with suppress(asyncio.CancelledError):
            await second
        async with asyncio.timeout(5), gate.entered("c"):
            pass

    asyncio.run(body())


def test_a_key_with_one_call_waits_for_one_of_another_key() -> None:
    async def body() -> None:
        turns, order = Turns(), []

        async def work(key: str) -> None:
            await turns.take(key)
            order.append(key)

        loud = [asyncio.create_task(work("loud")) for _ in range(50)]
        await asyncio.sleep(0)
        quiet = asyncio.create_task(work("quiet"))
        await asyncio.gather(*loud, quiet)
        assert order.index("quiet") <= 3

    asyncio.run(body())


def test_turns_are_handed_on_by_those_who_hang_up() -> None:
    async def body() -> None:
        turns = Turns()
        tasks = [asyncio.create_task(turns.take("a")) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[1:9]:
            task.cancel()
        async with asyncio.timeout(5):
            await asyncio.gather(tasks[0], tasks[9])
            await turns.take("b")

    asyncio.run(body())


def test_a_key_that_has_begun_nothing_does_not_wait() -> None:
    async def body() -> None:
        turns = Turns()
        loud = [asyncio.create_task(turns.take("loud")) for _ in range(50)]
        await asyncio.sleep(0)
        quiet = turns.take("quiet")
        with pytest.raises(StopIteration):  # it ends without having waited for anything
            quiet.send(None)
        await asyncio.gather(*loud)

    asyncio.run(body())


def test_a_key_begins_one_piece_in_each_round() -> None:
    async def body() -> None:
        turns, rounds = Turns(), Counter[int]()
        here = 0

        async def work() -> None:
            await turns.take("loud")
            rounds[here] += 1

        tasks = [asyncio.create_task(work()) for _ in range(10)]
        while not all(task.done() for task in tasks):
            here += 1
            await asyncio.sleep(0)
        assert set(rounds.values()) == {1}

    asyncio.run(body())


def test_those_whom_a_change_wakes_take_turns_like_calls() -> None:
    async def body() -> None:
        turns = Turns()
        places = [asyncio.get_running_loop().create_future() for _ in range(5)]
        places[1].cancel()
        for place in places:
            turns.wake("a", place)
        for most in (1, 2, 3, 4):
            await asyncio.sleep(0)
            assert sum(place.done() for place in places if not place.cancelled()) <= most
        async with asyncio.timeout(5):
            await asyncio.gather(*(place for place in places if not place.cancelled()))

    asyncio.run(body())
