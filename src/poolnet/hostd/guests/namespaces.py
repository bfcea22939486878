"""How is a process started as the init of its own namespaces, found again, frozen and ended? For the netns runtime.

The process is no child of its maker: it belongs to the machine's init, so it lives on when the maker dies. Killing it
kills everything in its PID namespace, and with the last process go the network namespace and the NICs in it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from poolnet.hostd.process_stat import started_at, stat_of

UNSHARE = ("unshare", "--net", "--mount", "--uts", "--ipc", "--pid")

# `unshare` without --fork runs the outer shell in the old PID namespace: the shell's first child is the new init, and
# `$!` is its PID as seen from outside.
_WAKE_S = 0.1  # those who wait for a process may stop themselves a moment after it was stopped
_LAUNCH = 'setsid -- "$@" </dev/null & echo pid $!'


class LaunchError(Exception):
    """The process did not start, or did not say that it is ready."""


async def launch(command: Sequence[str], *, pass_fds: Sequence[int] = (), wait_s: float = 20.0) -> int:
    """Start the command as the init of new namespaces and return its PID here.

    The command writes `ready` to its standard output and closes that and its standard error once it has set itself up;
    it inherits `pass_fds`. Raises LaunchError with what it wrote to standard error.
    """
    process = await asyncio.create_subprocess_exec(
        *(*UNSHARE, "sh", "-c", _LAUNCH, "launch", *command),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=tuple(pass_fds),
    )
    try:
        async with asyncio.timeout(wait_s):
            out, err = await process.communicate()
    except TimeoutError as error:
        raise LaunchError(f"{command[0]} was not ready after {wait_s:g} s") from error
    words = out.decode().split()
    pid = int(words[words.index("pid") + 1]) if "pid" in words else 0
    if "ready" not in words or pid == 0:
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        raise LaunchError(err.decode().strip() or f"{command[0]} ended before it was ready")
    return pid


def freeze(pid: int) -> None:
    """Stop every process of this init's PID namespace, also those that appear meanwhile."""
    frozen: set[int] = set()
    while new := set(_members(pid)) - frozen:
        for member in new:
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGSTOP)
        frozen |= new


def thaw(pid: int) -> None:
    """Let every process of this init's PID namespace go on, and those outside that wait for one."""
    for member in _members(pid):
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGCONT)
    wake(waiters(pid))


def waiters(pid: int) -> frozenset[int]:
    """The processes outside that have a child in this init's PID namespace: somebody works in it by `nsenter`.

    Such a process stops itself when its child is stopped, and a namespace does not end before its processes have been
    waited for.
    """
    members = frozenset(_members(pid))
    return frozenset(
        parent for member in members if (parent := _parent(member)) > 1 and parent not in members
    )


def wake(stopped: Iterable[int]) -> None:
    """Let those of them go on that are stopped."""
    for pid in stopped:
        stat = stat_of(pid)
        if stat is not None and stat.state == "T":
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _parent(pid: int) -> int:
    stat = stat_of(pid)
    return stat.parent if stat is not None else 0


async def wait_gone(pid: int, started: int, wait_s: float, waiting: Collection[int] = ()) -> bool:
    """Wait until this process has ended, at most so long; whether it has.

    `waiting` are those who have to take notice of it first, see `waiters`.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        if started_at(pid) != started:
            return True
        loop.add_reader(descriptor, ended.set)
        deadline = loop.time() + wait_s
        while not ended.is_set() and (left_s := deadline - loop.time()) > 0:
            wake(waiting)
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _WAKE_S) if waiting else left_s):
                    await ended.wait()
        return ended.is_set()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _members(pid: int) -> list[int]:
    """The processes in this init's PID namespace (as seen from outside), the init first."""
    try:
        namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return []
    found = [pid]
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and int(entry.name) != pid:
            with suppress(OSError):
                if Path(f"/proc/{entry.name}/ns/pid").stat().st_ino == namespace:
                    found.append(int(entry.name))
    return found
