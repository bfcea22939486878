"""The machine of the kernel lane: it runs a command, changes nothing here, and never outlives the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kernel import machine

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

LIMIT_S = 90.0
KERNEL = replace(machine.USER_MODE, switch=False)


def processes_of(directory: Path) -> list[str]:
    """The command lines that name the directory, but for those of tests."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                words = Path(f"/proc/{entry.name}/cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(directory) in words and "linux.uml" in words:
                found.append(words)
    return found


def test_a_command_runs_there_and_nothing_changes_here(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    there = tmp_path / "there"
    there.mkdir()
    script = f"uname -r; touch /etc/mine /usr/mine {here}/mine; touch {there}/written; ip -br link; exit 7"
    done = machine.run(("sh", "-c", script), {}, there, limit_s=LIMIT_S, kernel=KERNEL)
    assert done.code == 7
    assert os.uname().release not in done.console.splitlines()
    assert done.console.count("Read-only file system") == 2
    assert (there / "written").exists()
    assert list(here.iterdir()) == []
    assert not Path("/etc/mine").exists()
    assert "eth0" not in done.console
    assert processes_of(there) == []
    assert str(there) not in Path("/proc/self/mounts").read_text(encoding="utf-8")


def test_a_command_that_does_not_end_is_ended_and_the_console_is_shown(tmp_path: Path) -> None:
    with pytest.raises(machine.MachineFailed, match=r"not done after 20 s(.|\n)*still here"):
        machine.run(
            ("sh", "-c", "echo still here; exec sleep infinity"), {}, tmp_path, limit_s=20, kernel=KERNEL
        )
    assert processes_of(tmp_path) == []


def test_a_kernel_that_panics_is_no_success(tmp_path: Path) -> None:
    script = "echo c > /proc/sysrq-trigger"
    with pytest.raises(machine.MachineFailed, match="the kernel panicked"):
        machine.run(("sh", "-c", script), {}, tmp_path, limit_s=LIMIT_S, kernel=KERNEL)
    assert processes_of(tmp_path) == []


def test_the_machine_dies_with_a_test_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.kernel import machine, test_machine\n"
        "machine.run(('sh', '-c', 'touch $0/up; exec sleep infinity', sys.argv[1]), {}, Path(sys.argv[1]), limit_s=90,"
        "  kernel=test_machine.KERNEL)"
    )
    with subprocess.Popen(
        (sys.executable, "-c", program, str(tmp_path)), cwd=Path(__file__).parents[2]
    ) as test:
        deadline = time.monotonic() + LIMIT_S
        while not (tmp_path / "up").exists():
            assert test.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert processes_of(tmp_path) != []
        test.send_signal(signal.SIGKILL)
    while processes_of(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.05)
