"""Commands beside each other: how they end, and that nothing of them is left, however they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BESIDE = (sys.executable, "-m", "tests.beside")
ORPHAN = "setsid sleep {} </dev/null >/dev/null 2>&1 &"  # what tests start that live on
WITHIN_S = 30.0


def beside(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run((*BESIDE, *words), capture_output=True, text=True, check=False, timeout=120)


def runs(seconds: str) -> bool:
    """Whether that sleep runs."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\0" + seconds.encode() + b"\0":
                return True
        except OSError:
            continue
    return False


def odd_seconds() -> str:
    """A time that nobody else sleeps."""
    return f"1000.{os.getpid()}{time.monotonic_ns()}"


@pytest.mark.parametrize(
    ("other", "command", "result"),
    [
        ("true", ["true"], 0),
        ("true", ["sh", "-c", "exit 3"], 3),
        ("sh -c 'exit 7'", ["true"], 1),
        ("sh -c 'kill -9 $$'", ["true"], 1),
        ("sleep 0.2", ["sh", "-c", "kill -15 $$"], 128 + 15),
    ],
)
def test_all_must_succeed(other: str, command: list[str], result: int) -> None:
    assert beside("--beside", other, *command).returncode == result


def test_what_is_beside_is_shown_as_a_line_or_if_it_failed_whole() -> None:
    said = beside("--beside", "sh -c 'echo first; echo second'", "echo", "mine").stdout
    assert said.splitlines() == ["mine", "second"]
    said = beside("--beside", "sh -c 'echo first; echo second; exit 1'", "echo", "mine").stdout
    assert said.splitlines() == ["mine", "first", "second"]


def test_who_leaves_a_process_behind_fails_and_the_process_is_ended() -> None:
    seconds = odd_seconds()
    done = beside("--out-within", "0.5", "sh", "-c", ORPHAN.format(seconds))
    assert done.returncode == 1
    assert f"left: sleep {seconds}" in done.stdout
    assert not runs(seconds)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_nothing_is_left_of_a_run_that_is_interrupted(number: int) -> None:
    seconds = odd_seconds()
    command = ("sh", "-c", ORPHAN.format(seconds) + "exec sleep 1000")
    with subprocess.Popen(
        (*BESIDE, "--beside", "sleep 1000", *command), stdout=subprocess.DEVNULL
    ) as running:
        deadline = time.monotonic() + WITHIN_S
        while not runs(seconds):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(number)
        assert running.wait(60) == 128 + number
    assert not runs(seconds)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts and labs need root")
def test_a_lab_a_mount_and_a_named_namespace_go_with_a_run_that_is_interrupted(tmp_path: Path) -> None:
    makes = (
        f"mkdir -p /run/poolnet-lab/x$$-1; mount -t tmpfs none {tmp_path}; ip netns add beside-$$; "
        f"touch {tmp_path}/inside; echo $$; exec sleep 1000"
    )
    with subprocess.Popen((*BESIDE, "sh", "-c", makes), stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pid = running.stdout.readline().strip()
        lab, namespace = Path(f"/run/poolnet-lab/x{pid}-1"), Path(f"/run/netns/beside-{pid}")
        assert lab.exists()
        assert namespace.exists()
        running.send_signal(signal.SIGTERM)
        running.wait(60)
    assert not lab.exists()
    assert not namespace.exists()
    assert list(tmp_path.iterdir()) == []


def test_what_is_behind_has_a_nice_session_of_its_own_and_must_succeed_too() -> None:
    said = beside("--behind", "sh -c 'sleep 0.2; ps -o sid=,nice= $$'", "echo", "mine").stdout
    mine, told = said.splitlines()
    session, niceness = map(int, told.split())
    assert mine == "mine"
    assert session != os.getsid(0)
    assert niceness == 19
    groups = Path("/proc/self/autogroup")
    if groups.exists():  # else the kernel does not share by sessions
        said = beside("--behind", "sh -c 'sleep 0.2; cat /proc/self/autogroup'", "true").stdout
        assert said.split()[-1] == "19"
    assert beside("--behind", "false", "true").returncode == 1
