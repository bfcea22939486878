"""A small sample of what `make soak-locks` does: locks change and the switch dies under traffic."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.lab import lock_soak
from tests.lab.stage import BACKENDS, Stage, staged

pytestmark = pytest.mark.lab

SEED = 20261129
CHANGES, RESTARTS = 150, 5


@pytest.fixture(scope="module", params=BACKENDS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with staged(request.param) as one:
        yield one


def test_no_frame_is_lost_or_leaked_while_locks_change(stage: Stage) -> None:
    traffic = lock_soak.changes(stage, random.Random(SEED), CHANGES)
    print(f"{stage.backend}, seed {SEED}: {CHANGES} changes: {traffic.text()}")
    assert traffic.leaked == Counter()
    assert (traffic.lost, traffic.twice) == (0, 0)
    assert min(traffic.good, traffic.bad) > CHANGES


def test_no_frame_is_leaked_while_the_switch_dies(stage: Stage) -> None:
    if stage.backend != "openvswitch":
        return  # the kernel's bridge dies with the kernel
    traffic, outages = lock_soak.restarts(stage, random.Random(SEED), RESTARTS)
    print(f"seed {SEED}: killed {RESTARTS} times, away at most {max(outages):.2f} s: {traffic.text()}")
    assert traffic.leaked == Counter()
    assert traffic.bad > 100
