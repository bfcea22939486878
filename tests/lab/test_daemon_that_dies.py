"""A host's daemon dies after it has started a VM, and before it hears that this is decided: the VM runs all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from poolnet.lab import machine
from tests.lab import pools, survival
from tests.lab.running import RunningLab, running_lab
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

TRIES = 25
LOOKS = 10


def test_a_vm_that_a_caller_was_told_is_started_runs() -> None:
    with running_lab(hosts=2, pool=True) as lab:
        vm = lab.xe("host1", "vm-create", "name-label=web")
        network = lab.xe("host1", "network-list", "bridge=xenbr1", "--minimal")
        lab.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        again = 0
        for number in range(TRIES):
            if started_while_the_daemon_dies(lab, vm, 0.02 * (number % 5)):
                for _ in range(LOOKS):  # it is taken to have ended only when the member is brought in step
                    state = lab.xe("host1", "vm-list", f"uuid={vm}", "params=power-state", "--minimal")
                    assert state == "running", number
                    time.sleep(0.2)
                assert lab.guest("web", "hostname")
            again = survival.log_of(lab, "host1", "poolnet-api").count("event=carried-out-again")
            if again:
                break
            pools.answer(lab, "host1", "vm-shutdown", f"uuid={vm}", "--force")
        assert again, "it never died at that moment"


def started_while_the_daemon_dies(lab: RunningLab, vm: str, later_s: float) -> bool:
    """Whether a start on the member succeeded whose daemon is killed when the guest is there, or that much later."""
    guest = lab.lab.directory / f"host2/run/poolnet/guests/{vm}.json"
    words = (*machine.entering(lab.lab.host("host1").pid), "xe", "vm-start", f"uuid={vm}", "on=host2")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as starting:
        eventually(lambda: guest.exists() or starting.poll() is not None, "the guest is not there")
        pid = survival.pid_of(lab, "host2", "poolnet-hostd")
        time.sleep(later_s)
        os.kill(pid, signal.SIGKILL)
        code = starting.wait(60)
    return code == 0
