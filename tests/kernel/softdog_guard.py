"""What the guard does with a watchdog of the kernel. Runs in the machine of `test_watchdog.py`, whose watchdog only says that it fires.

When it fired is what the kernel says, by the clock by which leases end.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from poolnet.hostd import fence_guard
from poolnet.hostd.fence_guard import ARMED_FILE, LEASE_FILE, now_ns
from poolnet.hostd.process_stat import started_at
from poolnet.hostd.watchdog import timeout_for
from poolnet.pool.lease_watch import MARGIN_S

pytestmark = pytest.mark.lab

LEASE_S, TIMEOUT_S = 5, 2
DEVICE = "/dev/watchdog1"  # User Mode Linux has another, which is a program on the machine that runs it
FIRED = re.compile(r"^\d+,\d+,(\d+),.*softdog: Triggered")


class Host:
    """An armed host, as its guard sees it, and the guard."""

    def __init__(self, root: Path) -> None:
        self.state, self.run = root / "state", root / "run"
        self.state.mkdir()
        (self.run / "guests").mkdir(parents=True)
        self._kernel = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self._kernel, 0, os.SEEK_END)
        self.fired_s: list[float] = []
        (self.state / ARMED_FILE).write_text('{"generation": "g"}')
        self.until_ns = 0
        self.renew()
        words = (sys.executable, "-m", fence_guard.__name__, str(self.state), str(self.run))
        self.guard = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert self.guard.stderr is not None
        assert f"goes off after {TIMEOUT_S} s" in self.guard.stderr.readline()

    def renew(self) -> None:
        """Has the lease begin now."""
        self.until_ns = now_ns() + LEASE_S * 10**9
        lease = {"until_ns": self.until_ns, "seconds": LEASE_S, "watchdog": DEVICE}
        new = self.run / "lease.new"
        new.write_text(json.dumps(lease))
        new.rename(self.run / LEASE_FILE)

    def guest(self) -> subprocess.Popen[bytes]:
        """A process that is a guest."""
        process = subprocess.Popen(("sleep", "600"))
        record = {"state": "running", "pid": process.pid, "started": started_at(process.pid)}
        (self.run / "guests/vm.json").write_text(json.dumps(record))
        return process

    def look(self) -> list[float]:
        """When the watchdog has fired so far, in seconds since the machine's start."""
        with suppress(BlockingIOError):
            while True:
                found = FIRED.match(os.read(self._kernel, 8192).decode(errors="replace"))
                if found is not None:
                    self.fired_s.append(int(found[1]) / 1e6)
        return self.fired_s

    def pass_leases(self, count: float, each: Callable[[], None] = lambda: None) -> None:
        """Lets the time of so many leases pass; `each` is done five times in one."""
        for _ in range(int(count * 5)):
            each()
            time.sleep(LEASE_S / 5)

    def fires_in_time(self) -> None:
        """Waits until the watchdog fires, and holds that it was before the others restart VMs."""
        while not self.look() and now_ns() < self.until_ns + 30 * 10**9:
            time.sleep(0.1)
        (fired_s,) = self.fired_s
        assert fired_s < self.until_ns / 1e9 + MARGIN_S

    def close(self) -> None:
        (self.state / ARMED_FILE).unlink(missing_ok=True)
        self.guard.kill()
        self.guard.communicate()
        os.close(self._kernel)
        descriptor = os.open(DEVICE, os.O_WRONLY)
        os.write(descriptor, b"V")  # whoever closes it so stops it
        os.close(descriptor)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.close()


def test_it_is_told_while_there_is_a_lease_and_stopped_when_the_host_is_disarmed(host: Host) -> None:
    assert timeout_for(LEASE_S) == TIMEOUT_S
    host.pass_leases(0.8, host.renew)
    assert host.look() == []
    (host.state / ARMED_FILE).unlink()
    assert host.guard.wait(30) == 0
    host.pass_leases(0.6)
    assert host.look() == []


def test_a_host_that_has_ended_its_guests_in_time_is_left_alone(host: Host) -> None:
    guest = host.guest()
    assert guest.wait(30) == -signal.SIGKILL
    host.pass_leases(0.6)
    assert host.look() == []
    host.renew()
    (host.run / fence_guard.FENCED_FILE).unlink()
    host.pass_leases(0.6, host.renew)
    assert host.look() == []


def test_a_host_whose_guard_hangs_is_reset_before_its_vms_run_elsewhere(host: Host) -> None:
    host.pass_leases(0.6, host.renew)
    host.guard.send_signal(signal.SIGSTOP)
    host.fires_in_time()


def test_so_is_one_whose_guard_is_killed(host: Host) -> None:
    host.pass_leases(0.6, host.renew)
    host.guard.kill()
    host.fires_in_time()


def test_a_watchdog_that_cannot_be_stopped_is_told_on_by_a_guard_that_stays(tmp_path: Path) -> None:
    """As Debian's kernel has them unless it is told otherwise. It is the last test: this one goes on."""
    for words in (("-r", "softdog"), ("softdog", "soft_noboot=1", "nowayout=1")):
        subprocess.run(("modprobe", *words), check=True)
    host = Host(tmp_path)
    try:
        (host.state / ARMED_FILE).unlink()
        host.pass_leases(0.6)
        assert host.guard.poll() is None
        assert host.look() == []
        (host.state / ARMED_FILE).write_text('{"generation": "h"}')
        host.renew()
        host.pass_leases(0.6, host.renew)
        assert host.look() == []
        host.guard.send_signal(signal.SIGSTOP)
        host.fires_in_time()
    finally:
        host.close()
