"""A short run of the fuzzer with fixed seeds; `make fuzz` goes on from there."""

from __future__ import annotations

import asyncio

import pytest

from tests.fuzz.grammar import json_body
from tests.fuzz.rounds import play_round
from tests.fuzz.targets import TARGETS
from tests.fuzz.world import open_world

SEEDS = range(1)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_is_sent_makes_the_server_fail_or_hang(target: str) -> None:
    for seed in SEEDS:
        play_round([target], seed)


def test_a_call_that_waits_by_itself_is_no_hang() -> None:
    async def body() -> None:
        async with open_world() as world:
            for method, *params in (("event.register", ["host"]), ("event.next",)):
                answer = await world.post("/jsonrpc", json_body(method, ["@session", *params], None, 1))
            assert b"SESSION_INVALID" in answer

    asyncio.run(body())
