"""What lab tests share: a lab for each module, and a check at the end of the session that nothing is left behind."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.lab import daemons_said
from tests.lab.running import MADE, SHARED, RunningLab, running_lab
from tests.waiting import PATIENCE

DEFAULT_TIMEOUT_S = 300.0
_LOGS_BEFORE = pytest.StashKey[dict[Path, int]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A slow machine may take longer for each test."""
    for item in items if PATIENCE != 1 else ():
        marker = item.get_closest_marker("timeout")
        limit_s = marker.args[0] if marker else DEFAULT_TIMEOUT_S
        item.add_marker(pytest.mark.timeout(limit_s * PATIENCE), append=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Remembers where the daemons' logs end."""
    item.stash[_LOGS_BEFORE] = daemons_said.so_far(MADE.names)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows with a failure what the daemons wrote."""
    report = yield
    if report.failed and call.when == "call":
        before = item.stash[_LOGS_BEFORE]
        if said := daemons_said.since(MADE.names, before):
            report.sections.append(("What the daemons of the labs wrote", said))
    return report


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No process, namespace, link, mount or file of a lab outlives the session."""
    before = _links()
    yield
    SHARED.close()
    left = MADE.left()
    MADE.forget()
    assert left == []
    assert {link for link in _links() - before if link.startswith(("vif", "host", "xen", "xapi"))} == set()


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Two independent hosts with two NICs each; all tests of a module share them."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    with running_lab(hosts=2) as one:
        yield one


def _links() -> set[str]:
    listed = subprocess.run(("ip", "-br", "link"), check=True, capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines()}
