"""Is a caller still there, at the other end of its connection? Asked after a change of the management interface.

The caller waits for its answer and says nothing meanwhile, so its system is asked: a keep-alive probe of TCP, which every
system acknowledges, through whatever routers are between.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from poolnet.pool.peer_address import plain_address

_LAST_ACK_RECEIVED: Final = struct.Struct(
    "=56xI"
)  # `tcpi_last_ack_recv` of `struct tcp_info`, milliseconds ago
_TCP_INFO_BYTES: Final = 104
_PROBE_EVERY_S: Final = 1  # TCP knows no shorter time
_PROBES_MAX: Final = 127  # the connection is not given up here, whatever comes
_LOOK_EVERY_S: Final = 0.02
_CLOCK_S: Final = 0.015  # the kernel counts in ticks


class CallerConnection:
    """The TCP connection that a call came over."""

    def __init__(self, connection: TransportSocket) -> None:
        self._connection = connection
        self.own_address = plain_address(str(connection.getsockname()[0]))

    async def answers(self, within_s: float) -> bool:
        """Whether the caller's system acknowledges anything from now on.

        A connection that has ended says nothing about the way, and counts as answered.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            with self._probing():
                while loop.time() < began + within_s:
                    if self._acknowledged_s() < loop.time() - began - _CLOCK_S:
                        return True
                    await asyncio.sleep(_LOOK_EVERY_S)
        except OSError:
            return True
        return False

    def _acknowledged_s(self) -> float:
        """How long ago the caller's system acknowledged anything. Raises OSError."""
        info = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        return float(_LAST_ACK_RECEIVED.unpack_from(info)[0]) / 1000

    @contextmanager
    def _probing(self) -> Iterator[None]:
        """Lets the kernel probe meanwhile. Raises OSError."""
        options = {
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE): 1,
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT): _PROBES_MAX,
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL): _PROBE_EVERY_S,
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): _PROBE_EVERY_S,
        }
        before = {option: self._connection.getsockopt(*option) for option in options}
        for option, value in options.items():
            self._connection.setsockopt(*option, value)
        try:
            yield
        finally:
            for option, value in before.items():
                self._connection.setsockopt(*option, value)
