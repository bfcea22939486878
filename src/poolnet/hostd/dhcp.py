"""Which DHCP clients run, and what have they been leased? One dhcpcd per bridge that asks for it.

`addressing` starts and stops them and sets what they lease: a client changes nothing on the host itself, it only reports.
A client outlives this daemon and is found again by its PID and the time it started; one that ended is started again. A
lease holds until its time is over or the server takes it back, whatever becomes of the client.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import structlog

from poolnet.hostd.checkpoint import write_durably, write_whole
from poolnet.hostd.dhcp_lease import (
    EVENTS,
    REPORT6_SUFFIX,
    REPORT_SUFFIX,
    Lease,
    Lease6,
    read_report,
    read_report6,
    reporter,
)
from poolnet.hostd.guests.namespaces import wait_gone
from poolnet.hostd.netlink import index_of
from poolnet.hostd.process_stat import started_at, stat_of
from poolnet.hostd.run import CommandFailed, spawn

LOG = structlog.stdlib.get_logger("poolnet.hostd.dhcp")
_PROGRAM: Final = "dhcpcd"
_LEASES: Final = Path("/var/lib/dhcpcd")  # where dhcpcd keeps them over a reboot; fixed when it is built
_OPTIONS: Final = {
    4: "routers,domain_name_servers,domain_name,domain_search,classless_static_routes",
    6: "dhcp6_name_servers,dhcp6_domain_search",
}
# The kernel hears routers itself; DHCPv6 is asked without waiting for one to say that there is such a server.
_CONFIGURATION6: Final = "duid ll\nnoipv6rs\nia_na\n"
_CONFIGURATION: Final = "v6.conf"
_CLIENT_SUFFIX: Final = "client"
_NAMELESS: Final = frozenset(("", "(none)", "localhost", "localhost.localdomain"))
RETRY_FIRST_S: Final = 0.5  # a client that ended is started again, ever more seldom
RETRY_MAX_S: Final = 30.0
STEADY_AFTER_S: Final = 60.0
STOP_WITHIN_S: Final = 3.0
# dhcpcd asks after 0, 4, 12, 28, 60 … seconds, and never hears that a cable was put in behind a bridge, or that the port
# of a physical switch forwards now. One without a lease is started anew when its fourth question would be due, and what
# the third may have begun (ARP probes take up to six seconds) has come to its end.
ASK_AGAIN_S = 22.0


class _Process(msgspec.Struct, frozen=True, kw_only=True):
    """A client's process, as it is in the run directory. `index` is the interface that it was started on."""

    pid: int
    started: int
    index: int
    hostname: str
    families: tuple[int, ...] = (4,)


@dataclass(slots=True)
class _Client:
    """What is wanted: a client on this bridge; and what there is of it."""

    name: str
    hostname: str
    families: tuple[int, ...] = ()
    process: _Process | None = None
    pidfd: int = -1
    since: float = 0.0
    retry_s: float = RETRY_FIRST_S
    retry: asyncio.TimerHandle | None = None
    lease: Lease | None = None
    lease6: Lease6 | None = None
    again: asyncio.TimerHandle | None = None
    asks_again: bool = False
    expiry: asyncio.TimerHandle | None = field(default=None)


def is_installed() -> bool:
    """Whether this host has the DHCP client."""
    return shutil.which(_PROGRAM) is not None


class DhcpClients:
    """The DHCP clients of this host. Open it before any other method is called."""

    def __init__(self, run_dir: Path, state_dir: Path) -> None:
        """`run_dir` is emptied when the host boots; the program that clients run is in `state_dir`: /run may be noexec."""
        self._run_dir = run_dir / "dhcp"
        self._reporter = state_dir / "dhcp-report"
        self._changed: Callable[[str], None] = lambda name: None
        self._clients: dict[str, _Client] = {}
        self._events = -1

    def open(self, changed: Callable[[str], None]) -> None:
        """Listens to what clients report; `changed` is called with the bridge whose lease changed. Raises OSError."""
        self._changed = changed
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._run_dir / _CONFIGURATION).write_text(_CONFIGURATION6, encoding="ascii")
        self._write_reporter(reporter(self._run_dir).encode())
        events = self._run_dir / EVENTS
        with suppress(FileExistsError):
            os.mkfifo(events, 0o600)
        self._events = os.open(events, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._events, self._hear)

    def _write_reporter(self, text: bytes) -> None:
        """Writes the program that clients run, unless it is there; on a disk that cannot be written, beside the reports."""
        try:
            if not self._reporter.is_file() or self._reporter.read_bytes() != text:
                write_durably(self._reporter, text, mode=0o700)
        except OSError as error:
            LOG.warning("the DHCP clients' program is written elsewhere", error=str(error))
            self._reporter = self._run_dir / self._reporter.name
            write_whole(self._reporter, text, mode=0o700)

    def close(self) -> None:
        """Listens no more. The clients go on."""
        for client in self._clients.values():
            _cancel(client)
            self._forget_process(client)
        self._clients.clear()
        if self._events >= 0:
            asyncio.get_running_loop().remove_reader(self._events)
            os.close(self._events)
            self._events = -1

    def known(self) -> frozenset[str]:
        """The bridges that have a client, or had one when the daemon ended."""
        left = {path.stem for path in self._run_dir.glob(f"*.{_CLIENT_SUFFIX}")}
        return frozenset(self._clients) | left

    def lease(self, name: str) -> Lease | None:
        """What a bridge has been leased, as long as it holds."""
        client = self._clients.get(name)
        return client.lease if client is not None else None

    def lease6(self, name: str) -> Lease6 | None:
        """What a bridge has been leased of IPv6, as far as it holds."""
        client = self._clients.get(name)
        return client.lease6 if client is not None else None

    async def start(self, name: str, hostname: str, families: tuple[int, ...] = (4,)) -> None:
        """Has a client on this bridge for IP versions 4, 6 or both, that sends the hostname; none new where it runs so.

        One that cannot be started is tried again: it is no failure of who asks.
        """
        client = self._clients.get(name)
        hostname = "" if hostname in _NAMELESS else hostname
        if client is None:
            client = self._clients[name] = _Client(name, hostname)
            client.families = families
            self._adopt(client)
            self._read(client)
        client.hostname, client.families = hostname, families
        self._forget_reports(client)
        process, index = client.process, index_of(name)
        as_wanted = (index, hostname, families)
        if process is not None and (process.index, process.hostname, process.families) != as_wanted:
            await self._end(client)
        elif process is None and client.retry is not None:
            return  # it has just ended, on the interface that is there
        if client.process is None:
            client.retry_s = RETRY_FIRST_S
            self._spawn(client)

    async def stop(self, name: str) -> None:
        """Has no client on this bridge, and forgets its lease, which the server is not told of."""
        client = self._clients.pop(name, None)
        if client is None:
            if not self._path(name, _CLIENT_SUFFIX).exists():
                return
            client = _Client(name, "")
            self._adopt(client)
        await self._end(client)
        _cancel(client)
        client.families = ()
        self._forget_reports(client)

    # --- processes ---------------------------------------------------------------------------------------------

    def _spawn(self, client: _Client) -> None:
        if client.retry is not None:
            client.retry.cancel()
            client.retry = None
        index = index_of(client.name)
        if index is None:
            self._retry_later(client)
            return
        try:
            _LEASES.mkdir(parents=True, exist_ok=True)
            pid = spawn(self._command(client))
        except (CommandFailed, OSError) as error:
            LOG.warning("the DHCP client cannot be started", bridge=client.name, error=str(error))
            self._retry_later(client)
            return
        process = _Process(
            pid=pid,
            started=started_at(pid),
            index=index,
            hostname=client.hostname,
            families=client.families,
        )
        try:
            write_whole(self._path(client.name, _CLIENT_SUFFIX), msgspec.json.encode(process))
        except OSError as error:  # another daemon would not find it
            LOG.warning("a DHCP client is not written down", bridge=client.name, error=str(error))
        log = LOG.debug if client.asks_again else LOG.info
        log("a DHCP client runs", bridge=client.name, pid=pid)
        client.asks_again = False
        self._watch(client, process)

    def _command(self, client: _Client) -> tuple[str, ...]:
        """In the foreground, with no file of the machine's; asks forever; known by the bridge's MAC."""
        hostname = ("-h", client.hostname) if client.hostname else ()
        only = [f"-{family}" for family in client.families] if len(client.families) == 1 else []
        configuration = str(self._run_dir / _CONFIGURATION) if 6 in client.families else "/dev/null"
        options = [word for family in client.families for word in ("--option", _OPTIONS[family])]
        return (
            *(_PROGRAM, *only, "--nobackground", "--config", configuration, "--quiet", "--noipv4ll"),
            "--nodelay",
            *("--noconfigure", "--script", str(self._reporter), "--timeout", "0", "-I", ""),
            *(*options, *hostname, client.name),
        )

    def _adopt(self, client: _Client) -> None:
        """Takes over the client that an earlier daemon started; what is left of one that was killed is ended."""
        try:
            content = self._path(client.name, _CLIENT_SUFFIX).read_bytes()
            process = msgspec.json.decode(content, type=_Process)
        except (OSError, msgspec.MsgspecError):
            return
        if process.started and started_at(process.pid) == process.started:
            self._watch(client, process)
        else:
            _kill_rest(process)

    def _watch(self, client: _Client, process: _Process) -> None:
        client.process, client.since = process, time.monotonic()
        try:
            client.pidfd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            self._ended(client)
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(client.pidfd, self._ended, client)
        client.again = loop.call_later(ASK_AGAIN_S, self._ask_again, client)

    def _ask_again(self, client: _Client) -> None:
        """Ends a client that has no lease, to be started anew at once: a new one asks at once, and more often."""
        if client.lease is not None or client.lease6 is not None or client.process is None:
            client.again = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._ask_again, client)
            return
        client.asks_again = True
        with suppress(ProcessLookupError):
            os.kill(client.process.pid, signal.SIGTERM)

    def _ended(self, client: _Client) -> None:
        """The client has ended by itself, or was killed."""
        process = client.process
        self._forget_process(client)
        if process is not None:
            _reap(process)
            _kill_rest(process)
        if client.asks_again:
            self._spawn(client)
            return
        if time.monotonic() - client.since > STEADY_AFTER_S:
            client.retry_s = RETRY_FIRST_S
        LOG.warning("a DHCP client ended and is started again", bridge=client.name, in_s=client.retry_s)
        self._retry_later(client)

    def _retry_later(self, client: _Client) -> None:
        loop = asyncio.get_running_loop()
        client.retry = loop.call_later(client.retry_s, self._spawn, client)
        client.retry_s = min(2 * client.retry_s, RETRY_MAX_S)

    async def _end(self, client: _Client) -> None:
        """Ends the client's processes, and waits for that."""
        process = client.process
        self._forget_process(client)
        if client.retry is not None:
            client.retry.cancel()
            client.retry = None
        if process is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
            if not await wait_gone(process.pid, process.started, STOP_WITHIN_S):
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                await wait_gone(process.pid, process.started, STOP_WITHIN_S)
            _reap(process)
            _kill_rest(process)
        self._path(client.name, _CLIENT_SUFFIX).unlink(missing_ok=True)

    def _forget_process(self, client: _Client) -> None:
        if client.pidfd >= 0:
            asyncio.get_running_loop().remove_reader(client.pidfd)
            os.close(client.pidfd)
        if client.again is not None:
            client.again.cancel()
        client.pidfd, client.process, client.again = -1, None, None

    # --- leases ------------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        """Clients have reported: their names are in the pipe, one a line."""
        said = b""
        with suppress(BlockingIOError):
            while chunk := os.read(self._events, 65536):
                said += chunk
        for name in dict.fromkeys(said.decode(errors="replace").split()):
            client = self._clients.get(name)
            if client is not None and self._read(client):
                self._changed(name)

    def _read(self, client: _Client) -> bool:
        """Reads the last reports; says whether a lease is another one now."""
        now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        before, before6 = client.lease, client.lease6
        lease = client.lease = read_report(self._report(client, REPORT_SUFFIX), now_s)
        lease6 = client.lease6 = read_report6(self._report(client, REPORT6_SUFFIX), now_s)
        if client.expiry is not None:
            client.expiry.cancel()
            client.expiry = None
        ends = [one.expires_s for one in (lease, lease6) if one is not None and one.expires_s is not None]
        if ends:
            left_s = min(ends) - now_s
            client.expiry = asyncio.get_running_loop().call_later(left_s, self._expired, client)
        old, new = (one.address if one is not None else "none" for one in (before, lease))
        old6, new6 = (one.addresses if one is not None else () for one in (before6, lease6))
        if (new, new6) != (old, old6):
            LOG.info("a bridge has another lease", bridge=client.name, address=new, ipv6=new6)
        return (lease, lease6) != (before, before6)

    def _report(self, client: _Client, suffix: str) -> bytes:
        try:
            return self._path(client.name, suffix).read_bytes()
        except OSError:
            return b""

    def _forget_reports(self, client: _Client) -> None:
        """Forgets the leases of families that are not asked for any more."""
        if 4 not in client.families:
            client.lease = None
            self._path(client.name, REPORT_SUFFIX).unlink(missing_ok=True)
        if 6 not in client.families:
            client.lease6 = None
            self._path(client.name, REPORT6_SUFFIX).unlink(missing_ok=True)

    def _expired(self, client: _Client) -> None:
        """The lease is over, unless the machine slept and the clock of the loop with it: then look again."""
        client.expiry = None
        if self._read(client):
            self._changed(client.name)

    def _path(self, name: str, suffix: str) -> Path:
        return self._run_dir / f"{name}.{suffix}"


def _cancel(client: _Client) -> None:
    for timer in (client.retry, client.expiry):
        if timer is not None:
            timer.cancel()
    client.retry = client.expiry = None


def _reap(process: _Process) -> None:
    """Takes note of its end if it was our child; else its new parent has."""
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _kill_rest(process: _Process) -> None:
    """Ends the helpers that a killed client leaves behind: they are in its session."""
    for pid in _session(process):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _session(process: _Process) -> Iterator[int]:
    """The processes of a client's session, which has its PID for a number; not those that took the number later."""
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        stat = stat_of(int(entry.name))
        if stat is None or stat.name != _PROGRAM or stat.session != process.pid:
            continue
        if stat.started >= process.started:
            yield int(entry.name)
