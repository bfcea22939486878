"""A sample of what `make chaos` does: whatever is changed and whatever breaks meanwhile, the pool comes together again."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.lab import pool_chaos
from tests.lab.running import RunningLab, running_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]

SEED = int(os.environ.get("POOLNET_CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))
CHANGES = int(os.environ.get("POOLNET_CHAOS_CHANGES") or 16)


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Three hosts in one pool."""
    hosts = len(pool_chaos.HOSTS)
    with running_lab(hosts=hosts, nics=4, pool=True, silence_s=pool_chaos.SILENCE_S) as one:
        yield one


def test_all_hosts_agree_with_the_database_after_each_change(lab: RunningLab) -> None:
    """Other changes each time; the seed is printed, and POOLNET_CHAOS_SEED tries the same ones again."""
    print(f"POOLNET_CHAOS_SEED={SEED}")
    outcomes = pool_chaos.run(lab, SEED, CHANGES, print)
    assert [(SEED, str(one.trial), one.said, one.wrong) for one in outcomes if one.wrong] == []
    assert len(outcomes) == CHANGES
    assert any(one.code == 0 for one in outcomes)


def test_every_change_meets_every_accident() -> None:
    tried = pool_chaos.trials(SEED, len(pool_chaos.CHANGES) * len(pool_chaos.ACCIDENTS))
    assert len({(one.change, one.accident) for one in tried}) == len(tried)
