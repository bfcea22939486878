"""How does a connection come in, and how many may there be? `http` asks.

The accept loop is our own, so that a connection counts from the moment it is accepted, TLS handshake included: a flood of
half-made handshakes cannot take the file descriptors that the database and the host daemon's link need.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from ipaddress import IPv6Address, IPv6Network, ip_address
from pathlib import Path
from typing import Final

import structlog

from poolnet.api import limits
from poolnet.api.fairness import Rates
from poolnet.api.limits import BACKLOG

_log = structlog.get_logger("poolnet.api.listener")

_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_PAUSE_S: Final = 0.5
_NO_IPV6: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))
_IP_FREEBIND: Final = 15  # <linux/in.h>; the socket module does not name it


LOCAL: Final = ""  # the machine of whoever comes by a Unix socket


class Budget:
    """Counts the connections of all listeners of a server.

    `reserved` of the `total` are for local clients alone, and no other machine has more than `of_machine`.
    """

    def __init__(self, total: int, reserved: int, of_machine: int) -> None:
        self._total = total
        self._reserved = reserved
        self._of_machine = of_machine
        self._by_machine: Counter[str] = Counter()
        self._rates = Rates(
            limits.CONNECTS_OF_MACHINE_BURST, limits.CONNECTS_OF_MACHINE_PER_S, time.monotonic
        )

    def pause_s(self, machine: str) -> float:
        """How long a machine's new connection should wait for its TLS handshake."""
        return 0.0 if machine == LOCAL else self._rates.take(machine)

    @property
    def used(self) -> int:
        """How many connections there are."""
        return self._by_machine.total()

    def take(self, machine: str) -> Slot | None:
        """Counts one more connection, unless there are too many; `machine` as `machine_of` says, or LOCAL."""
        if machine == LOCAL:
            free = self.used < self._total
        else:
            free = self.used < self._total - self._reserved and self._by_machine[machine] < self._of_machine
        if not free:
            return None
        self._by_machine[machine] += 1
        return Slot(self, machine)

    def give_back(self, machine: str) -> None:
        """Counts one less."""
        self._by_machine[machine] -= 1
        if not self._by_machine[machine]:
            del self._by_machine[machine]


def machine_of(address: str) -> str:
    """Whose connection that is: an IPv4 address, or the /64 of an IPv6 one, in which one machine has any number.

    Raises:
        ValueError: It is no address.
    """
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)


class Slot:
    """One connection's place in the budget; given back once, however often it is asked."""

    def __init__(self, budget: Budget, machine: str) -> None:
        self._budget: Budget | None = budget
        self.machine = machine

    def release(self) -> None:
        """Gives the place back."""
        if self._budget is not None:
            self._budget.give_back(self.machine)
            self._budget = None


class Listener:
    """Accepts connections on one socket, and hands each to a protocol of its own."""

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[Slot], asyncio.BaseProtocol],
        budget: Budget,
        *,
        tls: ssl.SSLContext | None = None,
        handshake_timeout_s: float,
        turn: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        """`turn` waits for a machine's turn: a handshake is work for the event loop, like a call."""
        self._socket = listening
        self._make_protocol = make_protocol
        self._budget = budget
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._turn = turn
        self._local = listening.family == socket.AF_UNIX
        self._starting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._accepting = self._loop.create_task(self._accept())

    @property
    def is_local(self) -> bool:
        """Whether it is a Unix socket."""
        return self._local

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        port: int = self._socket.getsockname()[1]
        return port

    async def close(self) -> None:
        """Accepts no more, and drops the connections whose handshake is not done."""
        # A connection that arrives right now would be given to the cancelled task, which asyncio complains about.
        self._loop.remove_reader(self._socket)
        tasks = (self._accepting, *self._starting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        while True:
            await asyncio.sleep(
                0
            )  # one in each round of the loop: those that wait already are accepted without a pause
            try:
                client, peer = await self._loop.sock_accept(self._socket)
            except OSError as error:
                # Other errors are the client's: it hung up before it was accepted.
                if error.errno in _EXHAUSTED:
                    _log.warning("too many open files to accept a connection")
                    await asyncio.sleep(_EXHAUSTED_PAUSE_S)
                continue
            slot = self._budget.take(LOCAL if self._local else machine_of(peer[0]))
            if slot is None:
                client.close()
                continue
            task = self._loop.create_task(self._start(client, slot))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _before_handshake(self, machine: str) -> None:
        """Waits until a machine may have one more handshake, which is more work than most calls."""
        pause_s = self._budget.pause_s(machine)
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        if self._turn is not None:
            await self._turn(machine)

    async def _start(self, client: socket.socket, slot: Slot) -> None:
        """Gives a client its protocol, after the TLS handshake if there is one."""
        has_transport = False
        try:
            if self._tls is not None:
                await self._before_handshake(slot.machine)
            has_transport = True
            await self._loop.connect_accepted_socket(
                lambda: self._make_protocol(slot),
                client,
                ssl=self._tls,
                ssl_handshake_timeout=self._handshake_timeout_s if self._tls else None,
            )
        except OSError:  # ssl.SSLError is one: no handshake, no connection
            slot.release()
        except BaseException:
            slot.release()
            if has_transport:
                # It may begin its handshake in spite of that, and closes the socket when that fails. One that is closed under
                # it has a number that the next socket gets, which nobody hears any more when it gives up.
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            else:
                client.close()
            raise


def bind_tcp(host: str, port: int) -> socket.socket:
    """Opens a listening TCP socket; `host` is an address, IPv4 or IPv6, or "" for all of both.

    An address that this machine does not have yet will do: what comes to it later is accepted.

    Raises:
        OSError: the address is in use.
    """
    if not host:
        try:
            return bind_tcp("::", port)
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
            host = "0.0.0.0"  # noqa: S104 - all addresses are what was asked for
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listening.bind((host, port))
        return _listening(listening)
    except OSError:
        listening.close()
        raise


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Opens a listening Unix socket in place of one that a dead server left.

    The mode is set before anybody can connect.

    Raises:
        OSError: something that is no socket has the name, or the directory cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(os.fspath(path))
        path.chmod(mode)  # nobody connects before listen()
        return _listening(listening)
    except OSError:
        listening.close()
        raise


def _listening(bound: socket.socket) -> socket.socket:
    bound.listen(BACKLOG)
    bound.setblocking(False)
    return bound
