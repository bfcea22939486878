"""Comparing passwords in other processes: the answers, what others see of them, and what follows when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from poolnet.api import hashing
from poolnet.hostd.process_stat import stat_of
from tests.waiting import eventually

STORED = PasswordHasher(time_cost=1, memory_cost=64).hash("sécret\n'")


def _processes(asking: int) -> list[int]:
    """The processes that compare passwords for that one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        stat = stat_of(int(path.name))
        if stat is not None and stat.parent == asking and b"poolnet.api.hashing" in words:
            found.append(int(path.name))
    return found


@pytest.mark.parametrize(
    ("stored", "password", "same"),
    [(STORED, "sécret\n'", True), (STORED, "secret", False), ("no hash", "secret", False)],
    ids=("the password", "another", "no hash"),
)
def test_the_answer_is_that_of_the_hash(stored: str, password: str, same: bool) -> None:
    assert hashing.matching(stored, password).result() is same
    assert hashing.matches(stored, password) is same


def test_others_see_no_password_and_come_first() -> None:
    assert hashing.matching(STORED, "sécret\n'").result()
    for pid in _processes(os.getpid()):
        assert b"cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert os.getpriority(os.PRIO_PROCESS, pid) == hashing.NICENESS


def test_a_process_that_was_killed_is_replaced() -> None:
    asked = [hashing.matching(STORED, "sécret\n'") for _ in range(2 * hashing.AT_ONCE)]
    assert all(one.result() for one in asked)
    killed = _processes(os.getpid())
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    asked = [hashing.matching(STORED, "sécret\n'") for _ in range(2 * hashing.AT_ONCE)]
    assert all(one.result() for one in asked)
    assert not set(killed) & set(_processes(os.getpid()))


def test_when_none_answers_nothing_is_said_of_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_own", hashing._Own())
    monkeypatch.setattr(hashing, "_threads", hashing._threads.__wrapped__)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(hashing.HashingFailed):
        hashing.matching(STORED, "sécret\n'").result()


def test_the_processes_end_with_whoever_asked_however_it_ended() -> None:
    program = (
        "import sys, time; from poolnet.api import hashing;"
        f"hashing.matching({STORED!r}, 'x').result(); print(hashing._own, flush=True); time.sleep(600)"
    )
    with subprocess.Popen((sys.executable, "-c", program), stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()
        pids = _processes(asking.pid)
        assert pids
        asking.kill()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "they stay")
