"""The tour, as `make run` gives it: it passes, leaves the lab running, and can be given again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolnet.lab import life
from poolnet.lab.state import load
from tests.lab.running import MADE, RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

POOLNET = str(Path(sys.executable).with_name("poolnet"))


@pytest.fixture
def name() -> Iterator[str]:
    """A lab's name; the lab is gone afterwards."""
    one = f"tour{os.getpid() % 1_000_000}"
    yield one
    asyncio.run(life.down(one))


def tour(name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (POOLNET, "tour", "--name", name),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_the_tour_passes_and_passes_again(name: str) -> None:
    for _time in range(2):
        done = tour(name)
        assert done.returncode == 0, done.stdout + done.stderr
        MADE.note(load(name))
        assert "tour passed" in done.stdout
        assert "vlan 100" in done.stdout
        assert "Received 0 response(s)" in done.stdout
        assert "actions=drop" in done.stdout
    assert RunningLab(name).guest("web1", "hostname") == "web1\n"
