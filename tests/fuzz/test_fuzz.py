"""A short run of the fuzzer with fixed seeds; `make fuzz` goes on from there."""

from __future__ import annotations

import asyncio
import subprocess
import sys

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


@pytest.mark.parametrize(("command", "result"), [(["sh", "-c", "exit 3"], 3), (["true"], 0)])
def test_fuzzing_beside_a_command_ends_with_it_or_after_it(command: list[str], result: int) -> None:
    beside = [sys.executable, "-m", "tests.fuzz.beside", "--minutes", "0", *command]
    done = subprocess.run(beside, capture_output=True, text=True, check=False)
    assert done.returncode == result, done.stdout + done.stderr
    if result == 0:
        assert "0 bugs" in done.stdout


def test_a_call_that_waits_by_itself_is_no_hang() -> None:
    async def body() -> None:
        async with open_world() as world:
            for method, *params in (("event.register", ["host"]), ("event.next",)):
                answer = await world.post("/jsonrpc", json_body(method, ["@session", *params], None, 1))
            assert b"SESSION_INVALID" in answer

    asyncio.run(body())
