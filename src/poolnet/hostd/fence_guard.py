"""What stops a host's guests when its lease runs out? A program of the standard library alone, beside the host daemon.

`python -m poolnet.hostd.fence_guard STATE_DIR RUN_DIR`. It looks at two files: `fence.json` in the state directory says that
guests are to be stopped, `lease.json` in the run directory until when there is a lease, as CLOCK_BOOTTIME has it, which goes
on while the machine sleeps. When that time has come it takes the host's ends of all guests' NICs down, kills the guests, and
goes on doing so until the daemon has a lease again. It is a program of its own so that a daemon that hangs or is dead, a
switch that does not answer and a hypervisor that is stuck keep it from nothing: it asks the kernel only.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from poolnet.hostd.link_requests import set_up
from poolnet.hostd.process_stat import started_at
from poolnet.hostd.watchdog import Watchdog

ARMED_FILE: Final = "fence.json"
LEASE_FILE: Final = "lease.json"
FENCED_FILE: Final = "fenced"
LOCK_FILE: Final = "fence.lock"
GUESTS: Final = "guests"
LOOK_S: Final = 0.5
"""How late it may notice, at most, that the machine has slept, or that it is not needed any more."""

AGAIN_S: Final = 0.1
ASLEEP: Final = ("suspended", "stopped")
_PROCESSES: Final = Path("/proc")
_VIF: Final = re.compile(r"vif[0-9]+\.[0-9]+")
_MCL_CURRENT: Final = 1  # <sys/mman.h>


def now_ns() -> int:
    """The time since the machine booted, asleep or awake."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Lease(NamedTuple):
    """Until when there is a lease (0: none), for how long one is, and the watchdog that ends a host which hangs ("": none)."""

    until_ns: int = 0
    seconds: float = 0.0
    watchdog: str = ""


def lease_in(run_dir: Path) -> Lease:
    """The lease of this host; none if it cannot be read."""
    found = _read(run_dir / LEASE_FILE)
    until, seconds, watchdog = (found.get(name) for name in Lease._fields)
    return Lease(
        until if isinstance(until, int) else 0,
        float(seconds) if isinstance(seconds, int | float) else 0.0,
        watchdog if isinstance(watchdog, str) else "",
    )


def is_armed(state_dir: Path) -> bool:
    """Whether guests are to be stopped at all. A disk that cannot be read disarms nothing."""
    try:
        return (state_dir / ARMED_FILE).exists()
    except OSError:
        return True


def look(state_dir: Path, run_dir: Path) -> float | None:
    """Does what is to be done now; the seconds until the next look, None when the guard is not needed any more."""
    if not is_armed(state_dir):
        return None
    left_s = (lease_in(run_dir).until_ns - now_ns()) / 1e9
    if left_s > 0 and not (run_dir / FENCED_FILE).exists():
        return min(left_s, LOOK_S)
    if left_s <= 0:
        silence()  # first, and whatever fails after it
        with suppress(OSError):
            if not (run_dir / FENCED_FILE).exists():
                say("the lease has run out: guests are stopped")
                (run_dir / FENCED_FILE).touch()
    silence()
    for pid in running(run_dir):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return AGAIN_S


def tell(watchdog: Watchdog, state_dir: Path, run_dir: Path) -> bool:
    """Tells the watchdog that the host does what it must: it has a lease, or runs no guest. False if it is not needed any more."""
    if not is_armed(state_dir):
        if watchdog.close():
            return False
        watchdog.keep()
        return True
    lease = lease_in(run_dir)
    if lease.until_ns > now_ns() and not (run_dir / FENCED_FILE).exists():
        watchdog.tell(lease.watchdog, lease.seconds, lease.until_ns)
    elif not any(True for _ in running(run_dir)):
        watchdog.tell(lease.watchdog, lease.seconds, None)
    return True


def silence() -> None:
    """Lets no frame of a guest through any more."""
    for _, name in socket.if_nameindex():
        if _VIF.fullmatch(name):
            with suppress(OSError):  # it goes just now
                set_up(name, up=False)


def running(run_dir: Path) -> Iterator[int]:
    """The processes that are guests which run, or could."""
    domains: set[bytes] = set()
    with suppress(OSError):
        for path in (run_dir / GUESTS).glob("*.json"):
            record = _read(path)
            if record.get("state") in ASLEEP:
                continue
            pid = record.get("pid")
            if isinstance(pid, int) and pid > 1 and started_at(pid) == record.get("started"):
                yield pid
            if domain := record.get("domain"):
                domains.add(str(domain).encode())
    if domains:
        yield from _hypervisors(domains)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _hypervisors(domains: set[bytes]) -> Iterator[int]:
    """The processes of QEMU that run these domains."""
    for entry in os.scandir(_PROCESSES):
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            words = (_PROCESSES / entry.name / "cmdline").read_bytes().split(b"\0")
            if b"-uuid" in words[:-1] and words[words.index(b"-uuid") + 1] in domains:
                yield int(entry.name)


def _stay_awake() -> None:
    """Waits for nobody: neither for memory from the disk, nor, as far as that is allowed, for other processes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mlockall(_MCL_CURRENT)
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)


def say(text: str) -> None:
    """Writes a line to the daemon's log."""
    with suppress(OSError):
        os.write(2, f"event='{text}' logger=poolnet.hostd.fence_guard\n".encode())


def main() -> int:
    """Guards until it is not needed any more; at once when another guard does."""
    state_dir, run_dir = Path(sys.argv[1]), Path(sys.argv[2])
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what ends the daemon must not end it
    lock = os.open(run_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    _stay_awake()
    watchdog = Watchdog(say, now_ns)
    while True:
        try:
            wait_s = look(state_dir, run_dir)
            if not tell(watchdog, state_dir, run_dir) and wait_s is None:
                return 0
        except Exception as error:  # nobody else would stop the guests
            say(f"{type(error).__name__}: {error}")
            wait_s = AGAIN_S
        time.sleep(LOOK_S if wait_s is None else wait_s)


if __name__ == "__main__":
    sys.exit(main())
