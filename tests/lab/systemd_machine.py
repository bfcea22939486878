"""A machine that systemd runs: this one's files under a layer of its own, in a container with two NICs.

The services of the lab's hosts are started by the lab. Here they are started as on a real host, by their units, with all that
these forbid them. What the machine writes goes to memory and is gone with it; a cable leads from its NICs to a namespace that
stands for the rest of the world. The kernel is this one's, so Open vSwitch has its datapath in user space.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

from tests.waiting import eventually

CHECKOUT = Path(__file__).resolve().parents[2]
NICS = ("ens10", "ens11")
ADDRESS, GATEWAY = "192.0.2.10", "192.0.2.1"
patiently = partial(eventually, within_s=120.0)
_NEVER_SEEN = (
    "etc/poolnet",
    "var/lib/poolnet",
    "usr/local/lib/poolnet",
    "etc/machine-id",
    "var/lib/systemd/random-seed",
)
_LEFT_BY_NSPAWN = Path("/run/systemd/nspawn/propagate")
_CGROUPS = Path("/sys/fs/cgroup")
_CGROUPS_WITHIN_S = 10.0


class NoContainer(Exception):
    """This machine starts no containers; the text is what `systemd-nspawn` said."""


class SystemdMachine:
    """Use `systemd_machine` to make one."""

    def __init__(self, directory: Path, number: int = 0) -> None:
        self._number = number
        self._name = f"poolnet{number}-{os.getpid()}"
        self._root = directory / "root"
        self._layer = directory / "layer"
        self._console = directory / "console.txt"
        self._inner, self._outer = (f"{kind}{number}-{os.getpid()}" for kind in ("sdhost", "sdworld"))
        self._container: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def prepare(self) -> None:
        """Makes its files. Raises NoContainer."""
        for path in (self._root, self._layer):
            path.mkdir()
        _run("mount", "-t", "tmpfs", "none", str(self._layer))
        for name in ("upper", "work"):
            (self._layer / name).mkdir()
        layers = f"lowerdir=/,upperdir={self._layer}/upper,workdir={self._layer}/work"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self._root))
        for name in _NEVER_SEEN:
            path = self._root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (self._root / "etc/machine-id").touch()
        tried = subprocess.run((*self._words(), "--pipe", "/bin/true"), capture_output=True, text=True)
        if tried.returncode != 0:
            raise NoContainer(tried.stderr.strip())

    def boot(self) -> None:
        """Starts it, with the same NICs each time, and waits until its console could be used."""
        self._connect()
        self._output = self._console.open("wb")
        words = ("nsenter", f"--net=/run/netns/{self._inner}", *self._words(), "--boot", "--console=pipe")
        environment = {**os.environ, "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1"}
        self._container = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, env=environment
        )
        patiently(self._is_up, "the machine did not boot")

    def stop(self) -> None:
        """Takes its power away."""
        if self._container is not None:
            for pid in _children(self._container.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._container.kill()
            self._container.wait()
            self._container = None
        if self._output is not None:
            self._output.close()
        for name in (self._inner, self._outer):
            subprocess.run(("ip", "netns", "del", name), stderr=subprocess.DEVNULL)

    def remove(self) -> None:
        """Stops it and removes all that was made for it."""
        self.stop()
        for path in (self._root, self._layer):
            subprocess.run(("umount", "--recursive", str(path)), stderr=subprocess.DEVNULL)
        with suppress(OSError):
            (_LEFT_BY_NSPAWN / self._name).rmdir()
        end = time.monotonic() + _CGROUPS_WITHIN_S
        while not _without_cgroups() and time.monotonic() < end:  # another container's stay
            time.sleep(0.1)

    def run(self, *words: str) -> str:
        """What a command prints in it. Raises CalledProcessError."""
        return _run(*self._entering(), *words)

    def tries(self, *words: str) -> bool:
        """Whether a command succeeds in it."""
        entered = (*self._entering(), *words)
        return subprocess.run(entered, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def from_outside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A command of another machine on the management network."""
        entered = ("ip", "netns", "exec", self._outer, *words)
        return subprocess.run(entered, capture_output=True, text=True)

    def write(self, path: str, text: str) -> None:
        """Writes one of its files."""
        (self._root / path.lstrip("/")).write_text(text)

    def read(self, path: str) -> str:
        """Reads one of its files."""
        return (self._root / path.lstrip("/")).read_text()

    def _words(self) -> tuple[str, ...]:
        return (
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--capability=all"),
            *(
                f"--directory={self._root}",
                f"--machine={self._name}",
                "--kill-signal=SIGKILL",
            ),
            *("--bind=/dev/net/tun", f"--bind-ro={CHECKOUT}", "--link-journal=no"),
        )

    def _entering(self) -> tuple[str, ...]:
        assert self._container is not None
        (leader,) = _children(self._container.pid)
        return (
            "nsenter",
            f"--target={leader}",
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wdns=/",
        )

    def _is_up(self) -> bool:
        assert self._container is not None
        if self._container.poll() is not None:
            raise AssertionError(f"the machine has ended: {self._console.read_text(errors='replace')}")
        try:
            state = subprocess.run(
                (*self._entering(), "systemctl", "is-system-running"), capture_output=True, text=True
            )
        except ValueError:  # it has no first process yet
            return False
        return state.stdout.strip() in ("running", "degraded")

    def _connect(self) -> None:
        for name in (self._inner, self._outer):
            _run("ip", "netns", "add", name)
        world = ("ip", "-n", self._outer, "link")
        _run(*world, "add", "world", "type", "bridge")
        for number, nic in enumerate(NICS):
            there = (
                "address",
                f"02:00:00:00:1{self._number}:0{number}",
                "type",
                "veth",
                "peer",
                "name",
                f"to-{nic}",
            )
            _run("ip", "-n", self._inner, "link", "add", nic, *there, "netns", self._outer)
            _run(*world, "set", f"to-{nic}", "master", "world", "up")
            # A switch in user space computes no checksums.
            _run("ip", "netns", "exec", self._outer, "ethtool", "-K", f"to-{nic}", "tx", "off")
        _run(*world, "set", "world", "up")
        _run("ip", "netns", "exec", self._outer, "ethtool", "-K", "world", "tx", "off")
        _run("ip", "-n", self._outer, "address", "add", f"{GATEWAY}/24", "dev", "world")


@contextmanager
def systemd_machine(directory: Path, number: int = 0) -> Iterator[SystemdMachine]:
    """A machine that has booted once. Raises NoContainer."""
    machine = SystemdMachine(directory, number)
    try:
        machine.prepare()
        machine.boot()
        yield machine
    finally:
        machine.remove()


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}: {done.stderr}{done.stdout}"
    return done.stdout


def _children(pid: int) -> Sequence[int]:
    found = subprocess.run(("pgrep", "--parent", str(pid)), capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def _without_cgroups() -> bool:
    """Removes what containers leave of their groups, deepest first; whether nothing is left. Killed processes end in a while."""
    left = [*_CGROUPS.glob("*/payload"), *_CGROUPS.glob("*/supervisor")]
    for top in left:
        for path in (*sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True), top):
            with suppress(OSError):
                path.rmdir()
    return not any(top.exists() for top in left)
