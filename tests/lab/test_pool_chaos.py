"""A sample of what `make chaos` does: whatever is changed and whatever breaks meanwhile, the pool comes together again."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.lab import accidents, pool_chaos
from tests.lab.running import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SEED = int(os.environ.get("POOLNET_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
CHANGES = int(os.environ.get("POOLNET_CHAOS_CHANGES") or 60)
POOLS = 3
CLUSTERED = 12


@pytest.fixture(scope="module")
def labs() -> Iterator[list[RunningLab]]:
    """Pools side by side, as most of the time everybody waits for somebody, and one whose database is on a cluster."""
    with pool_chaos.running_labs(POOLS + 1) as some:
        yield some


def test_all_hosts_agree_with_the_database_after_each_change(labs: list[RunningLab]) -> None:
    """Other changes each time; the seed is printed, and POOLNET_CHAOS_SEED tries the same ones again."""
    print(f"POOLNET_CHAOS_SEED={SEED}")
    shares = pool_chaos.shares(SEED, CHANGES, POOLS) + pool_chaos.shares(SEED, CLUSTERED, 1, cluster=True)
    outcomes = pool_chaos.run(labs, shares, print)
    assert [(SEED, str(one)) for one in outcomes if one.wrong] == []
    assert len(outcomes) == CHANGES + CLUSTERED
    assert any(one.code == 0 for one in outcomes)


def test_every_change_meets_every_accident_and_those_at_the_same_time_can_be_told_apart() -> None:
    number = len(pool_chaos.CHANGES) * len(accidents.ACCIDENTS)
    groups = [group for share in pool_chaos.shares(SEED, number, POOLS) for group in share.groups()]
    tried = [trial for group in groups for trial in group]
    assert len({(one.change, one.accident) for one in tried}) == number == len(tried) == 60
    for group in groups:
        changes = [trial.change for trial in group]
        assert all(changes.count(change) == 1 for change in pool_chaos.ALONE & {*changes})
        assert not {*changes} >= pool_chaos.ROLE
