"""`python -m tests.beside [--beside COMMAND]… [--behind COMMAND]… COMMAND …`: runs a command, and others beside or behind it.

Tests that wait much leave others processors. What is beside them writes into a file that is shown at the end: all of it when
it failed, else its last line. All are waited for; it fails if one of them does, or leaves a process behind.

What is behind them has only the time that nobody else wants. Niceness alone does not say so: the kernel shares processors among
sessions first (`sched_autogroup` in sched(7)), and each service of a lab is a session. So it has a session too, which is nice.

However it ends, nothing outlives it: orphans become its children and are ended, each command has mounts of its own, and the labs
and namespaces that its processes have named after themselves are removed.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Final

from poolnet.lab import life
from poolnet.lab.state import LABS

STOPPED: Final = 128
ENDS_WITHIN_S: Final = 30.0  # a command that is interrupted: tests take down what they have made
WAITS_S: Final = 0.1
NICEST: Final = 19
LOOKS_EVERY_S: Final = 2.0  # a signal may end all at once, and then nobody could say whose a lab is
_PR_SET_CHILD_SUBREAPER: Final = 36  # <linux/prctl.h>
_NAMESPACES: Final = Path("/run/netns")
_OF_A_LAB: Final = re.compile(r"[a-z]+([0-9]+)(-[0-9]+)?")  # such names have the labs of tests
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class _Stopped(Exception):
    """A signal says that it is enough."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class _Children:
    """The processes below this one: those that it started, how they ended, and all that were ever seen."""

    started: list[int] = field(default_factory=list)
    ended: dict[int, int] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)

    def start(self, words: Sequence[str], out: IO[str] | None = None, *, behind: bool = False) -> int:
        """Starts a command that dies with this process; its pid."""
        apart = ("unshare", "--mount") if os.geteuid() == 0 else ()
        nice = ("nice", "-n", str(NICEST)) if behind else ()
        words = ("setpriv", "--pdeathsig", "KILL", *apart, *nice, *words)
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), number) for number in (1, 2)] if out else []
        pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions, setsid=behind)
        self.started.append(pid)
        if behind:
            with suppress(OSError):  # a kernel without such groups, or it has ended
                Path(f"/proc/{pid}/autogroup").write_text(str(NICEST), encoding="ascii")
        return pid

    def wait(self, pid: int) -> int:
        """Waits until that command has ended, and notes meanwhile who there is; its exit code."""
        look_at = 0.0
        while pid in self.running():
            if time.monotonic() >= look_at:
                self.left()
                look_at = time.monotonic() + LOOKS_EVERY_S
            time.sleep(WAITS_S)
        return self.ended[pid]

    def running(self) -> list[int]:
        """The commands that have not ended."""
        with suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
                died = 0 if found.si_code == os.CLD_EXITED else STOPPED
                self.ended.setdefault(found.si_pid, died + found.si_status)  # the number may be used again
        return [pid for pid in self.started if pid not in self.ended]

    def left(self) -> dict[int, str]:
        """Everything that runs below this process, by its command line."""
        self.running()
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(stat.parent.name)] = int(parent)
        below = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in below} - below:
            below |= more
        below.discard(os.getpid())
        self.seen |= below
        return {pid: _command_line(pid) for pid in sorted(below)}


def main() -> int:
    """Runs all of them; the first one's exit code, or 1 if something else went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.beside", description=__doc__)
    parser.add_argument("--beside", action="append", default=[], help="a command, as a shell reads it")
    parser.add_argument("--behind", action="append", default=[], help="likewise")
    parser.add_argument(
        "--out-within", type=float, default=10.0, help="seconds for processes on their way out"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in _SIGNALS:
        signal.signal(number, _stop)
    children = _Children()
    try:
        others = [(shlex.split(command), False) for command in options.beside]
        others += [(shlex.split(command), True) for command in options.behind]
        result = _run(children, options.command, others)
        left = _left_after(children, options.out_within)
    except _Stopped as stopped:
        result, left = STOPPED + stopped.number, {}
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        _end(children)
    if left:
        print("processes are left: " + "; ".join(left.values()), flush=True)
    return result or (1 if left else 0)


def _run(children: _Children, command: Sequence[str], others: Sequence[tuple[Sequence[str], bool]]) -> int:
    with ExitStack() as logs:
        beside = []
        for words, behind in others:
            log = logs.enter_context(tempfile.TemporaryFile("w+"))
            beside.append((children.start(words, log, behind=behind), log))
        result = children.wait(children.start(command))
        for pid, log in beside:
            failed = children.wait(pid)
            log.seek(0)
            lines = log.read().splitlines()
            print("\n".join(lines if failed else lines[-1:]), flush=True)
            result = result or (1 if failed else 0)
    return result


def _left_after(children: _Children, limit_s: float) -> dict[int, str]:
    """What still runs after a while."""
    deadline = time.monotonic() + limit_s
    while (left := children.left()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _end(children: _Children) -> None:
    """Lets the commands come to their end, and ends what is left of them."""
    children.left()
    for pid in children.running():
        os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + ENDS_WITHIN_S
    while children.running() and time.monotonic() < deadline:
        time.sleep(0.05)
    while left := children.left():
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for directory in LABS.glob("*"):
        if (found := _OF_A_LAB.fullmatch(directory.name)) and int(found[1]) in children.seen:
            asyncio.run(life.down(directory.name))
    for place in _NAMESPACES.glob("*-*"):  # they themselves have gone with the mounts
        maker = place.name.rpartition("-")[2]
        if maker.isdecimal() and int(maker) in children.seen:
            place.unlink(missing_ok=True)


def _command_line(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _stop(number: int, _: FrameType | None) -> None:
    raise _Stopped(number)


if __name__ == "__main__":
    sys.exit(main())
