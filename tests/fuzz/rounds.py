"""Rounds of fuzzing: each has a seed and a world of its own, so that what fails can be made to fail again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS
from tests.fuzz.world import open_world

EXAMPLES: Final = 100
_NOT_CHECKED: Final = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)


def play_round(names: Sequence[str], number: int, examples: int = EXAMPLES) -> None:
    """Plays so many examples to each target, of the seed `number`.

    Raises:
        BugFound: Something failed, hung, or was left; hypothesis has shrunk what led to it.
    """
    with asyncio.Runner() as runner:
        world_of_round = open_world()
        world = runner.run(world_of_round.__aenter__())
        try:
            for name in names:
                _play(runner, world, name, number, examples)
                runner.run(world.require_answering())
        except BaseException:
            with suppress(AssertionError):  # what a bug has left there is not the news
                runner.run(world_of_round.__aexit__(None, None, None))
            raise
        runner.run(world_of_round.__aexit__(None, None, None))


def _play(runner: asyncio.Runner, world: object, name: str, number: int, examples: int) -> None:
    target = TARGETS[name]

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=_NOT_CHECKED,
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
    )
    @given(target.sent)
    def play(sent: object) -> None:
        runner.run(target.play(world, sent))  # type: ignore[arg-type]

    play()
