"""A small sample of what `make soak` does: no host is lost, whatever is changed and whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import no_host_lost
from tests.lab.running import RunningLab, running_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

SEED = 20261124
CHANGES = 24


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Hosts that changes are tried on at the same time."""
    with running_lab(hosts=3, nics=no_host_lost.NICS) as one:
        yield one


def test_no_host_is_lost(lab: RunningLab) -> None:
    report = no_host_lost.run(lab, no_host_lost.trials(SEED, CHANGES))
    assert not report.wrong(), "\n".join(report.wrong())  # whole, with what could be seen of the host
    assert len(report.outcomes) == CHANGES
    assert {one.succeeded for one in report.outcomes} == {True, False}


def test_every_change_and_accident_is_in_the_sample() -> None:
    tried = list(no_host_lost.trials(SEED, CHANGES))
    assert {trial.change for trial in tried} == set(no_host_lost.CHANGES)
    assert {trial.accident for trial in tried} == set(no_host_lost.ACCIDENTS)
