"""A host's daemon dies after it has started a VM, and before it hears that this is decided: the VM runs all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poolnet.lab import machine
from tests.lab import pools, survival
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

WAITS_S = (0.5, 1.0, 2.0, 3.0)
"""How long the daemon is given for its answer, while the coordinator stands still and cannot hear it: longer each time."""
ANSWERED_WITHIN_S = 90.0
LOOKS = 10


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A pool of two hosts, with a VM that is to run on the second."""
    with running_lab(hosts=2, pool=True) as one:
        vm = one.xe("host1", "vm-create", "name-label=web")
        network = one.xe("host1", "network-list", "bridge=xenbr1", "--minimal")
        one.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        yield one


def test_a_daemon_that_is_back_at_once(lab: RunningLab) -> None:
    def decided(wait_s: float) -> bool:
        with starting(lab, wait_s) as call:
            return call.wait(ANSWERED_WITHIN_S * PATIENCE) == 0

    dies_at_its_moment(lab, decided)


def test_a_daemon_that_is_away_for_longer_than_anybody_waits(lab: RunningLab) -> None:
    def decided(wait_s: float) -> bool:
        with starting(lab, wait_s) as call, nobody_after_it(lab):
            return call.wait(ANSWERED_WITHIN_S * PATIENCE) == 0

    dies_at_its_moment(lab, decided)


def test_a_coordinator_that_dies_too_before_it_can_tell(lab: RunningLab) -> None:
    def decided(wait_s: float) -> bool:
        with starting(lab, wait_s) as call, nobody_after_it(lab):
            eventually(lambda: power_state(lab) == "running" or call.poll() is not None, "no end of it")
            if call.poll() is None:
                survival.kill(lab, "host1", "poolnet-api")
                return True
            return False

    dies_at_its_moment(lab, decided)


def dies_at_its_moment(lab: RunningLab, decided: Callable[[float], bool]) -> None:
    """Tries it until a start was decided that the daemon had gone back from."""
    for wait_s in WAITS_S:
        if decided(wait_s) and stays(lab):
            return
    pytest.fail("it never died at that moment")


def power_state(lab: RunningLab) -> str:
    """The VM's, as the coordinator's console has it; "" while that says nothing."""
    return pools.answer(lab, "host1", "vm-list", "name-label=web", "params=power-state", "--minimal")


def guest_of(lab: RunningLab) -> Path:
    """What the member knows of the VM's guest while it has one."""
    uuid = lab.xe("host1", "vm-list", "name-label=web", "--minimal")
    return lab.lab.directory / f"host2/run/poolnet/guests/{uuid}.json"


def stays(lab: RunningLab) -> bool:
    """Whether the daemon had to carry it out again; the VM runs then, and is not found to have ended later. It ends here."""
    eventually(lambda: power_state(lab) == "running" and guest_of(lab).exists(), "it does not run")
    for _ in range(LOOKS):
        assert power_state(lab) == "running"
        time.sleep(0.2)
    assert lab.guest("web", "hostname")
    lab.xe("host1", "vm-shutdown", "vm=web", "--force")
    return "carried out again" in survival.log_of(lab, "host2", "poolnet-hostd").rpartition("interrupted")[2]


@contextmanager
def starting(lab: RunningLab, wait_s: float) -> Iterator[subprocess.Popen[bytes]]:
    """A start on the member, whose daemon dies when it has answered and before its answer is heard."""
    guest = guest_of(lab)
    words = (*machine.entering(lab.lab.host("host1").pid), "xe", "vm-start", f"uuid={guest.stem}", "on=host2")
    daemon = survival.service_pid(lab, "host2", "poolnet-hostd")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as call:
        eventually(lambda: guest.exists() or call.poll() is not None, "the guest is not there")
        survival.stop(lab, "host1", "poolnet-api")
        try:
            time.sleep(wait_s * PATIENCE)
            os.kill(daemon, signal.SIGKILL)
            eventually(lambda: survival.pid_of(lab, "host2", "poolnet-hostd") != daemon, "it does not die")
        finally:
            survival.resume(lab, "host1", "poolnet-api")
        yield call
        call.wait(ANSWERED_WITHIN_S * PATIENCE)
    if call.returncode != 0:  # it did not hear of the answer, or nobody answered it
        eventually(lambda: power_state(lab) != "", "nobody answers any more")


@contextmanager
def nobody_after_it(lab: RunningLab) -> Iterator[None]:
    """The daemon that comes after the one that has died stands still meanwhile, before it listens."""
    eventually(lambda: survival.pid_of(lab, "host2", "poolnet-hostd"), "no daemon is started")
    survival.stop(lab, "host2", "poolnet-hostd")
    try:
        yield
    finally:
        survival.resume(lab, "host2", "poolnet-hostd")
