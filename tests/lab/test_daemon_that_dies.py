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
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

WAITS_S = (0.5, 1.0, 2.0, 3.0)
"""How long its daemon is given for its answer, while the coordinator stands still and cannot hear it: longer each time."""
LOOKS = 10


def test_a_vm_that_a_caller_was_told_is_started_runs() -> None:
    with running_lab(hosts=2, pool=True) as lab:
        vm = lab.xe("host1", "vm-create", "name-label=web")
        network = lab.xe("host1", "network-list", "bridge=xenbr1", "--minimal")
        lab.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        for wait_s in WAITS_S:
            if started_while_the_daemon_dies(lab, vm, wait_s * PATIENCE):
                for _ in range(LOOKS):  # it is taken to have ended only when the member is brought in step
                    state = lab.xe("host1", "vm-list", f"uuid={vm}", "params=power-state", "--minimal")
                    assert state == "running", wait_s
                    time.sleep(0.2)
                assert lab.guest("web", "hostname")
            if survival.log_of(lab, "host1", "poolnet-api").count("event=carried-out-again"):
                return
            pools.answer(lab, "host1", "vm-shutdown", f"uuid={vm}", "--force")
    pytest.fail("it never died at that moment")


def started_while_the_daemon_dies(lab: RunningLab, vm: str, wait_s: float) -> bool:
    """Whether a start on the member succeeded whose daemon is killed when it has answered and before its answer is heard."""
    guest = lab.lab.directory / f"host2/run/poolnet/guests/{vm}.json"
    coordinator = survival.pid_of(lab, "host1", "poolnet-api")
    daemon = survival.pid_of(lab, "host2", "poolnet-hostd")
    words = (*machine.entering(lab.lab.host("host1").pid), "xe", "vm-start", f"uuid={vm}", "on=host2")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as starting:
        eventually(lambda: guest.exists() or starting.poll() is not None, "the guest is not there")
        os.kill(coordinator, signal.SIGSTOP)
        try:
            time.sleep(wait_s)
            os.kill(daemon, signal.SIGKILL)
        finally:
            os.kill(coordinator, signal.SIGCONT)
        code = starting.wait(60)
    return code == 0
