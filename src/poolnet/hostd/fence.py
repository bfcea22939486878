"""Has this host a lease, and who sees to it that its guests stop when it has none any more?

With high availability a host may run guests only while it has a lease; what that is worth is said in docs/decisions/0025. Here
is the daemon's part: it keeps on the disk that the host is armed, writes down until when the lease is, has the guard run
(`fence_guard`), and starts no guest without a lease.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from poolnet.hostd import fence_guard
from poolnet.hostd.checkpoint import read_state, remove_durably, write_durably, write_whole
from poolnet.hostd.fence_guard import ARMED_FILE, FENCED_FILE, LEASE_FILE, LOCK_FILE, Lease
from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostd.run import CommandFailed, spawn
from poolnet.hostnet.protocol import FenceState, HoldLease

LOG = structlog.stdlib.get_logger("poolnet.hostd.fence")
GUARD_AGAIN_S: Final = 0.2


class Armed(msgspec.Struct, frozen=True, kw_only=True):
    """What is on the disk of a host that stops its guests without a lease: of which time of high availability."""

    generation: str


class Fence:
    """The lease of one host.

    Args:
        state_dir: Where it is kept that the host is armed.
        run_dir: Where the lease is, which a boot ends.
        changed: Called when the host is fenced, or is not any more.
        watchdog: The device of the watchdog that the guard drives, "" for none.
    """

    def __init__(
        self, state_dir: Path, run_dir: Path, changed: Callable[[], None], watchdog: str = ""
    ) -> None:
        self._watchdog = watchdog
        self._state_dir = state_dir
        self._run_dir = run_dir
        self._changed = changed
        self._armed: Armed | None = None
        self._guard: tuple[int, int] | None = None
        self._told = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Goes on as before a restart: an armed host is guarded before anything else is tried, and fenced without a lease.

        A file that cannot be read arms all the same: the guard goes by its being there.
        """
        path = self._state_dir / ARMED_FILE
        if path.exists():
            self._armed = read_state(path, Armed, Armed(generation="?"))
            if not path.exists():  # put aside, because it is damaged
                write_durably(path, msgspec.json.encode(self._armed))
            self._begin()

    async def close(self) -> None:
        """Watches no more. The guard goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._forget_guard()

    def _begin(self) -> None:
        self._ensure_guard()
        if self._task is None:
            self._task = asyncio.create_task(self._watch(), name="fence")

    @property
    def fenced(self) -> bool:
        """Whether the lease ran out, or there is none."""
        if self._armed is None:
            return False
        marked = (self._run_dir / FENCED_FILE).exists()
        return marked or fence_guard.lease_in(self._run_dir).until_ns <= fence_guard.now_ns()

    def state(self) -> FenceState:
        """As the protocol says it."""
        return FenceState(
            generation=self._armed.generation if self._armed is not None else "",
            fenced=self.fenced,
            clean=not any(True for _ in fence_guard.running(self._run_dir)),
        )

    def require(self, vm_uuid: str) -> None:
        """Lets a guest be started. Raises GuestError on a host without a lease."""
        if self.fenced:
            raise GuestError(
                vm_uuid,
                "this host has lost its lease, because it does not see the majority of the pool: it runs no VMs",
            )

    def hold(self, command: HoldLease) -> None:
        """Takes a lease, or renews it; see the command. Raises GuestError, OSError."""
        now = fence_guard.now_ns()
        until = min(command.until_ns, now + int(command.seconds * 1e9))
        fenced = self.fenced
        if fenced and until > now and not self.state().clean:
            raise GuestError("", "guests that had to stop are still there")
        lease = Lease(until, command.seconds, self._watchdog)
        write_whole(self._run_dir / LEASE_FILE, msgspec.json.encode(lease._asdict()))
        if self._armed is None or self._armed.generation != command.generation:
            armed = Armed(generation=command.generation)
            write_durably(self._state_dir / ARMED_FILE, msgspec.json.encode(armed))
            self._armed = armed
            LOG.info("the host is armed: it stops its guests without a lease", seconds=command.seconds)
        if fenced and until > now:
            (self._run_dir / FENCED_FILE).unlink(missing_ok=True)
            LOG.warning("the host has a lease again")
        self._begin()
        self._tell()

    def drop(self) -> None:
        """Stops guests for no lease any more, durably. Raises OSError."""
        if self._armed is None:
            return
        remove_durably(self._state_dir / ARMED_FILE)
        self._armed = None
        for name in (LEASE_FILE, FENCED_FILE):
            (self._run_dir / name).unlink(missing_ok=True)
        if self._task is not None:
            self._task.cancel()
            self._task = None
        LOG.info("the host is disarmed")
        self._tell()

    # --- the guard ---------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Has a guard run as long as the host is armed, and tells when that has fenced it."""
        while True:
            self._ensure_guard()
            self._tell()
            await asyncio.sleep(GUARD_AGAIN_S)

    def _tell(self) -> None:
        if self.fenced != self._told:
            self._told = self.fenced
            self._changed()

    def _ensure_guard(self) -> None:
        """Starts a guard if none runs: its lock says so, and its pidfd when it has ended."""
        if self._guard is not None and not self._guard_has_ended(self._guard[1]):
            return
        self._forget_guard()
        pid = self._guard_there()
        if pid == 0:
            words = (sys.executable, "-m", fence_guard.__name__, str(self._state_dir), str(self._run_dir))
            try:
                pid = spawn(words)
            except CommandFailed as error:
                LOG.error("no guard can be started", error=str(error))  # noqa: TRY400 - the reason says it all
                return
        with suppress(OSError):
            self._guard = pid, os.pidfd_open(pid)

    def _guard_has_ended(self, descriptor: int) -> bool:
        try:
            return os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # another daemon's child: its lock tells
            return self._guard_there() == 0

    def _guard_there(self) -> int:
        """The process that has the guard's lock; 0 if none has."""
        try:
            lock = os.open(self._run_dir / LOCK_FILE, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(lock, 16, 0).strip()
            return int(text) if text.isdigit() else -1
        finally:
            os.close(lock)
        return 0

    def _forget_guard(self) -> None:
        if self._guard is not None:
            pid, descriptor = self._guard
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            os.close(descriptor)
            self._guard = None
