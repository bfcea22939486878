"""A short run of the fuzzer with fixed seeds; `make fuzz` goes on from there."""

from __future__ import annotations

import pytest

from tests.fuzz.rounds import play_round
from tests.fuzz.targets import TARGETS

SEEDS = range(2)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_is_sent_makes_the_server_fail_or_hang(target: str) -> None:
    for seed in SEEDS:
        play_round([target], seed)
