"""What can happen to a host of a pool at any moment, and to its end: deaths, cuts, cables, slowness, a full disk.

Each accident is over when its function returns; several may happen to one host at the same time.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from poolnet.lab import life
from poolnet.lab.state import switch_port
from poolnet.lab.switch import BRIDGE
from tests.lab import cluster_load, survival
from tests.lab.running import RunningLab

ACCIDENTS: Final = (
    "nothing",
    "api",
    "hostd",
    "switch",
    "partition",
    "cable",
    "port",
    "frozen",
    "slow",
    "disk",
)
"""Killed API server, host daemon or switch; cut off; management cable without link, or on a dead port of the switch, with link;
standing still, or a tenth as fast; a full disk."""

CLUSTERED: Final = (*(name for name in ACCIDENTS if name != "disk"), "database")
"""With the pool's database on a cluster: a server of that is killed, too. Full disks have tests of their own (`test_cluster_disk`)."""

LASTS_S: Final[Mapping[str, tuple[float, float]]] = {
    "partition": (0.3, 5.0),
    "cable": (0.3, 5.0),
    "port": (0.3, 5.0),
    "frozen": (0.3, 6.0),
    "slow": (0.5, 4.0),
    "disk": (0.3, 3.0),
}
_KILLED: Final = {"api": "poolnet-api", "hostd": "poolnet-hostd", "switch": "ovs-vswitchd"}
_OWN: Final = ("poolnet-api", "poolnet-hostd")
_RUNS_S, _STANDS_S = 0.01, 0.09
DISK_MB: Final = 16


def duration(draw: random.Random, accident: str) -> float:
    """How long one lasts, in seconds: mostly shortly, as half of what matters happens within the first second."""
    if accident not in LASTS_S:
        return 0.0
    shortest, longest = LASTS_S[accident]
    return min(longest, shortest + draw.expovariate(1 / (0.3 * longest)))


def give_a_disk(lab: RunningLab, host: str) -> None:
    """Puts what the host keeps on a small disk of its own, which can be filled without harm to anybody else."""
    init = lab.lab.host(host).pid
    os.kill(init, signal.SIGSTOP)  # else it starts the programs again meanwhile
    try:
        for program in _OWN:
            survival.kill(lab, host, program)
        copy = (
            "until ! pgrep -f '(bin/|^)poolnet-(api|hostd)' -r S,R,D >/dev/null; do sleep 0.1; done; "
            f"mkdir -p /var/tmp/disk && mount -t tmpfs -o size={DISK_MB}m disk /var/tmp/disk && "
            "cp -a /var/lib/poolnet/. /var/tmp/disk/ && chmod --reference=/var/lib/poolnet /var/tmp/disk && "
            "mount --bind /var/tmp/disk /var/lib/poolnet && umount /var/tmp/disk"
        )
        lab.run(host, "sh", "-c", copy)
    finally:
        os.kill(init, signal.SIGCONT)


def happen(lab: RunningLab, accident: str, host: str, lasts_s: float) -> None:
    """The accident, to its end."""
    match accident:
        case "api" | "hostd" | "switch" as which:
            _signal(lab, host, signal.SIGKILL, _KILLED[which])
        case "database":
            cluster_load.kill(lab, host, database=True, server=False)
        case "partition":
            asyncio.run(life.partition(lab.name, host))
            time.sleep(lasts_s)
            asyncio.run(life.heal(lab.name, host))
        case "cable":
            asyncio.run(life.set_link(lab.name, host, "eth0", plugged=False))
            time.sleep(lasts_s)
            asyncio.run(life.set_link(lab.name, host, "eth0", plugged=True))
        case "port":
            _set_port(lab, host, "no-receive", "no-forward")
            time.sleep(lasts_s)
            _set_port(lab, host, "receive", "forward")
        case "frozen":
            with _standing(lab, host):
                time.sleep(lasts_s)
        case "slow":
            until = time.monotonic() + lasts_s
            while time.monotonic() < until:
                with _standing(lab, host):
                    time.sleep(_STANDS_S)
                time.sleep(_RUNS_S)
        case "disk":
            filler = fill(lab, host)
            time.sleep(lasts_s)
            lab.run(host, "rm", "-f", filler)


def fill(lab: RunningLab, host: str) -> str:
    """Fills the host's small disk to its end; the file that does."""
    filler = f"/var/lib/poolnet/filler{time.monotonic_ns()}"
    words = f"for size in 64k 1k; do dd if=/dev/zero bs=$size >>{filler}; done"
    lab.run(host, "sh", "-c", words, check=False)
    return filler


def _set_port(lab: RunningLab, host: str, *words: str) -> None:
    """What the physical switch does with frames of its port for the host's management; the link stays up."""
    for word in words:
        lab.run("switch", "ovs-ofctl", "mod-port", BRIDGE, switch_port(host, "eth0"), word)


@contextmanager
def _standing(lab: RunningLab, host: str) -> Iterator[None]:
    pids = _signal(lab, host, signal.SIGSTOP, *_OWN)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _signal(lab: RunningLab, host: str, number: int, *programs: str) -> Sequence[int]:
    """Sends a signal to programs of a host, as far as they run; a dead one is started again by the host's init."""
    sent = []
    for program in programs:
        pid = survival.pid_of(lab, host, program)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                sent.append(pid)
    return sent
