"""Trains of pings, and frames counted where they pass: what traffic notices of a change."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from poolnet.lab import console, machine
from poolnet.lab.state import Lab

SPACING_S = 0.01
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?")
_ECHO = re.compile(r"ICMP echo (request|reply), id (\d+), seq (\d+)")


def on_machine(lab: Lab, name: str) -> tuple[str, ...]:
    """The words before a command that is to run on a host or on the switch."""
    pid = lab.switch_pid if name == "switch" else lab.host(name).pid
    return machine.entering(pid)


def in_guest(lab: Lab, vm: str) -> tuple[str, ...]:
    """The words before a command that is to run inside a guest."""
    return tuple(console.entering_guest(lab, vm))


class _Watching:
    """A command that runs while a block does, from a line that says so on; then it is interrupted, and its output read."""

    def __init__(self, words: Sequence[str], ready: str) -> None:
        self._words = tuple(words)
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None
        self.output = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if not self._ready:
            return self
        for line in self._process.stdout:
            self.output += line
            if re.search(self._ready, line):
                return self
        raise AssertionError(f"{' '.join(self._words)} did not begin: {self.output}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)  # nsenter, and what it runs in another PID namespace
        rest, _ = self._process.communicate(timeout=30)
        self.output += rest


class Train(_Watching):
    """Echo requests every 10 ms, or as said, from the first answer on; nobody answers one to a broadcast address."""

    def __init__(
        self, where: Sequence[str], address: str, *, broadcast: bool = False, spacing_s: float = SPACING_S
    ) -> None:
        ping = ("ping", "-n", "-i", str(spacing_s), "-W", "1", *(["-b"] if broadcast else []), address)
        super().__init__((*where, *ping), "" if broadcast else r"bytes from")

    def _numbers(self) -> tuple[int, int, int]:
        found = _SUMMARY.search(self.output)
        assert found is not None, self.output
        return int(found[1]), int(found[2]), int(found[3] or 0)

    @property
    def sent(self) -> int:
        """How many requests."""
        return self._numbers()[0]

    @property
    def lost(self) -> int:
        """How many had no answer; not the last, which had no time for one."""
        sent, received, _ = self._numbers()
        return max(0, sent - received - 1)

    @property
    def duplicates(self) -> int:
        """How many answers too many."""
        return self._numbers()[2]


class Capture(_Watching):
    """tcpdump on a device, with a filter; counts echo requests and replies by their number."""

    def __init__(self, where: Sequence[str], device: str, *words: str) -> None:
        dump = ("tcpdump", "-l", "-n", "-e", "-i", device, *words)
        super().__init__((*where, *dump), r"listening on")

    def times(self, kind: str) -> Counter[tuple[str, str]]:
        """How often each echo `request` or `reply` passed, by id and sequence number."""
        return Counter((found[2], found[3]) for found in _ECHO.finditer(self.output) if found[1] == kind)
