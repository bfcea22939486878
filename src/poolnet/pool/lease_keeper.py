"""How does a host keep its lease? It renews it at the database's cluster, and tells its daemon for how long.

The keeper works in the thread of the host's seat, so that it goes on while the API server starts anew in another role, or is busy.
It knows nothing of the pool's database: whether the host has a lease, and what has become of it, is asked of the cluster, and
nothing is believed of that which a transaction has not proved.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime_ns
from typing import Final
from uuid import uuid4

import msgspec
import structlog

from poolnet.db import leases
from poolnet.db.leases import Lease, State
from poolnet.db.seat import BROKEN, NoMajority, Seat
from poolnet.hostnet import protocol
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.membership import write_durably

log = structlog.get_logger("poolnet.pool.lease_keeper")

BEATS: Final = 5  # renewals within the length of a lease
BEAT_S_MIN: Final = 0.5
AGAIN_S: Final = 0.3
IDLE_S: Final = 1.0
DAEMON_S: Final = 5.0
LAID_DOWN_FILE: Final = "laid-down.json"


class LaidDown:
    """For which time of high availability an administrator has disarmed this host; on the disk.

    Args:
        state_dir: The API server's.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / LAID_DOWN_FILE

    def has(self, generation: str) -> bool:
        """Whether it is this one."""
        try:
            return bool(msgspec.json.decode(self._path.read_bytes(), type=str) == generation)
        except (OSError, msgspec.MsgspecError):
            return False

    def note(self, generation: str) -> None:
        """It is this one from now on. Raises OSError."""
        write_durably(self._path, msgspec.json.encode(generation))

    def forget(self) -> None:
        """It is none any more."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class LeaseKeeper:
    """This host's lease.

    Args:
        seat: This host's place at the cluster.
        daemon: The socket of the host daemon.
        laid_down: Whether an administrator has disarmed this host.
    """

    def __init__(self, seat: Seat, daemon: Path, laid_down: LaidDown) -> None:
        self._seat = seat
        self._daemon = daemon
        self._laid_down = laid_down
        self._wanted = False
        self._wake = asyncio.Event()
        self._said = ""

    def start(self) -> None:
        """Begins to keep it, in the seat's thread, as long as that lives."""
        asyncio.run_coroutine_threadsafe(self._keep(), self._seat.loop)

    def want(self, *, wanted: bool) -> None:
        """Says whether the pool has high availability, as far as its database tells; from another thread."""
        with suppress(RuntimeError):  # the seat has ended
            self._seat.loop.call_soon_threadsafe(self._want, wanted)

    def look(self) -> None:
        """Has it look at once; from another thread."""
        with suppress(RuntimeError):
            self._seat.loop.call_soon_threadsafe(self._wake.set)

    def _want(self, wanted: bool) -> None:
        if wanted != self._wanted:
            self._wanted = wanted
            self._wake.set()

    async def _keep(self) -> None:
        link = HostLink(self._daemon, waits=False)
        try:
            while True:
                self._wake.clear()
                try:
                    wait_s = await self._step(link)
                    self._say("")
                except (HostGone, HostRefused, NoMajority, *BROKEN) as error:
                    self._say(f"{type(error).__name__} {error}".strip())
                    wait_s = AGAIN_S
                except Exception:  # the outermost loop: nobody else would renew the lease
                    log.exception("lease-not-kept")
                    wait_s = IDLE_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
        finally:
            await link.close()

    def _say(self, reason: str) -> None:
        if reason and not self._said:
            log.warning("lease-not-renewed", reason=reason)
        elif self._said and not reason:
            log.info("lease-renewed-again")
        self._said = reason

    async def _step(self, link: HostLink) -> float | None:
        """Does what is to be done now; how long until the next time, None for not before something changes.

        Raises HostGone, HostRefused, NoMajority, BROKEN.
        """
        fence = await link.request(protocol.ReadFence(), protocol.FenceState, DAEMON_S)
        if not self._wanted and not fence.generation:
            return None
        found = leases.leases_in(await self._seat.transact_anywhere(leases.read_one(self._seat.host)))
        if not found:
            return IDLE_S
        lease = found[0]
        if lease.state is State.OFF:
            return await self._lay_off(link, lease, fence)
        if self._laid_down.has(lease.generation):
            if lease.state is State.HELD:
                await self._write(lease, State.LAID_DOWN)
            return IDLE_S
        match lease.state:
            case State.NEW:  # first the daemon, so that nobody takes a host for armed that is not
                await self._hold(link, lease, clock_gettime_ns(CLOCK_BOOTTIME))
                await self._write(lease, State.HELD)
            case State.LOST | State.STOPPED if not fence.fenced or fence.generation != lease.generation:
                await self._hold(link, lease, None)
                return AGAIN_S
            case State.LOST | State.STOPPED | State.HELD if fence.fenced and not fence.clean:
                return AGAIN_S
            case State.LOST | State.STOPPED | State.HELD:
                began_ns = clock_gettime_ns(CLOCK_BOOTTIME)
                await self._write(lease, State.HELD)
                await self._hold(link, lease, began_ns)
            case _:
                return IDLE_S
        return max(lease.seconds / BEATS, BEAT_S_MIN)

    async def _lay_off(self, link: HostLink, lease: Lease, fence: protocol.FenceState) -> float | None:
        """Disarms this host, because high availability is off: a majority says so, not only the server that was asked."""
        if fence.generation:
            await self._write(lease, State.OFF)
            await link.request(protocol.DropLease(), protocol.FenceState, DAEMON_S)
            log.info("lease-ended")
        self._laid_down.forget()
        return IDLE_S if self._wanted else None

    async def _write(self, lease: Lease, state: State) -> None:
        """Makes a lease of that state out of the one that was read. Raises NoMajority, BROKEN."""
        await self._seat.transact_anywhere(leases.renew(lease, state, str(uuid4())))

    async def _hold(self, link: HostLink, lease: Lease, began_ns: int | None) -> None:
        """Gives the daemon a lease from a moment on, or none: it is to stop its guests. Raises HostGone, HostRefused."""
        until_ns = 1 if began_ns is None else began_ns + lease.seconds * 1_000_000_000
        command = protocol.HoldLease(
            generation=lease.generation, seconds=float(lease.seconds), until_ns=until_ns
        )
        await link.request(command, protocol.FenceState, DAEMON_S)
