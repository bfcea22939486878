"""A lab that tests use: brings it up, runs commands in it, and knows afterwards whether anything of it is left."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from poolnet.lab import console, life, machine
from poolnet.lab.state import LABS, Lab, load
from poolnet.pool.pace import USUAL_SILENCE_S
from tests.lab import xe_here
from tests.waiting import PATIENCE

BACKEND = os.environ.get("POOLNET_LAB_BACKEND", "openvswitch")
_NUMBERS = count(1)
_NAMESPACES = ("pid", "uts")  # every process of a machine and of its guests is in these


@dataclass
class Made:
    """What this test session has made, for the check at its end.

    Its namespaces are held open: else the kernel would give their numbers to those of somebody else's lab.
    """

    names: set[str] = field(default_factory=set)
    namespaces: dict[tuple[str, int], int] = field(default_factory=dict)

    def note(self, lab: Lab) -> None:
        """Remember the namespaces of the lab's machines."""
        self.names.add(lab.name)
        for pid in (lab.switch_pid, *(host.pid for host in lab.hosts)):
            for kind in _NAMESPACES:
                with suppress(OSError):
                    held = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                    if self.namespaces.setdefault((kind, os.fstat(held).st_ino), held) != held:
                        os.close(held)

    def forget(self) -> None:
        """Let the namespaces go."""
        for held in self.namespaces.values():
            os.close(held)
        self.namespaces.clear()

    def left(self) -> list[str]:
        """What is still there: files, mounts, processes by command line or by namespace."""
        left = [str(LABS / name) for name in self.names if (LABS / name).exists()]
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8")
        left += [f"mount of {name}" for name in self.names if f"{LABS}/{name}/" in mounts]
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                with suppress(OSError):
                    words = Path(f"/proc/{entry.name}/cmdline").read_bytes().decode(errors="replace")
                    inside = {
                        (kind, Path(f"/proc/{entry.name}/ns/{kind}").stat().st_ino) for kind in _NAMESPACES
                    }
                    if (
                        any(f"{LABS}/{name}/" in words for name in self.names)
                        or inside & self.namespaces.keys()
                    ):
                        left.append(f"process {entry.name}: {words}")
        return left


MADE = Made()


class RunningLab:
    """A lab by its name; read anew for each use, because reboots change it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def lab(self) -> Lab:
        """As it is now."""
        return load(self.name)

    def run(self, host: str, *words: str, check: bool = True) -> str:
        """The output of a command on a host's (or the switch's) console. Raises AssertionError with what it wrote."""
        lab = self.lab
        pid = lab.switch_pid if host == "switch" else lab.host(host).pid
        return _output((*machine.entering(pid), *words), check=check)

    def xe(self, host: str, *words: str) -> str:
        """What an `xe` command on that host prints, without the last newline."""
        code, said, complaints = xe_here.xe(self.lab.directory / host, *words)
        assert code == 0, f"xe {' '.join(words)}: {said}{complaints}"
        return said.strip()

    def guest(self, vm: str, *words: str, check: bool = True) -> str:
        """The output of a command inside a guest."""
        return _output((*console.entering_guest(self.lab, vm), *words), check=check)

    def start_vm(self, host: str, name: str, network: str, address: str) -> str:
        """A running VM with one VIF on that network (uuid) and that address (with prefix length); its uuid."""
        vm = self.xe(host, "vm-create", f"name-label={name}")
        self.xe(host, "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        self.xe(host, "vm-start", f"uuid={vm}")
        self.guest(name, "ip", "address", "add", address, "dev", "eth0")
        return vm

    def pings(self, vm: str, address: str) -> bool:
        """Whether an address answers a guest."""
        said = self.guest(vm, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address, check=False)
        return " 0% packet loss" in said


@contextmanager
def running_lab(
    hosts: int,
    nics: int | Sequence[int] = 2,
    backend: str = BACKEND,
    *,
    pool: bool = False,
    silence_s: float = USUAL_SILENCE_S,
    datapath_type: str = "",
) -> Iterator[RunningLab]:
    """A lab with a name of its own, its hosts in one pool if asked for; gone afterwards.

    `nics` is the number of NICs of every host, or of each of them. `silence_s` is the time after which hosts of the pool take
    each other to be cut off; tests that wait for that need not wait as long as usual.
    """
    name = f"t{os.getpid() % 1_000_000}-{next(_NUMBERS)}"
    up = life.up(
        name,
        hosts=hosts,
        nics=nics,
        backend=backend,
        pool=pool,
        silence_s=silence_s,
        datapath_type=datapath_type,
    )
    lab = asyncio.run(up)
    MADE.note(lab)
    try:
        yield RunningLab(name)
    finally:
        with suppress(Exception):
            MADE.note(load(name))
        asyncio.run(life.down(name))


class _Shared:
    """The lab that several modules have, one after the other."""

    def __init__(self) -> None:
        self._hosts = 0
        self._stack = ExitStack()
        self._lab: RunningLab | None = None

    def of(self, hosts: int) -> RunningLab:
        """The one with so many hosts; another one goes first."""
        if self._lab is None or hosts != self._hosts:
            self.close()
            self._lab, self._hosts = self._stack.enter_context(running_lab(hosts, _SHARED_NICS)), hosts
        return self._lab

    def close(self) -> None:
        """It goes."""
        self._lab = None
        self._stack.close()


SHARED = _Shared()
_SHARED_NICS = 4


@contextmanager
def lab_to_share(hosts: int, nics: int = 2) -> Iterator[RunningLab]:
    """A lab for a module that leaves it as it has found it, or is the last of `tests/kernel/suite.py` that has it.

    Where labs take long to start, such modules have the same one, with as many NICs as any of them needs.
    """
    if PATIENCE == 1:
        with running_lab(hosts, nics) as one:
            yield one
    else:
        assert nics <= _SHARED_NICS
        yield SHARED.of(hosts)


def _output(words: tuple[str, ...], *, check: bool) -> str:
    done = subprocess.run(
        words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60 * PATIENCE
    )
    assert not check or done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout
