"""Did somebody change the flows of a bridge, or did the switch forget them?

A connection to a bridge's management socket that speaks just enough OpenFlow 1.0 (with Nicira's flow monitor) to hear
of changes, and to let the switch show the ports of first IPv6 fragments to the flows (`nx-match`), which it forgets
at every restart. Flows themselves go through `ovs-ofctl` (`flows`).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

_VERSION = 0x01
_HEADER = struct.Struct("!BBHI")
_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY, _VENDOR = 0, 1, 2, 3, 4
_GET_CONFIG_REQUEST, _GET_CONFIG_REPLY = 7, 8
_SET_CONFIG, _STATS_REQUEST, _STATS_REPLY, _BARRIER_REQUEST, _BARRIER_REPLY = 9, 16, 17, 18, 19
_FRAGMENTS_NX_MATCH = _FRAGMENTS_MASK = 3
_STATS_VENDOR = 0xFFFF
_NICIRA = 0x00002320
_FLOW_MONITOR = 2
_MONITOR_ADD_DELETE_MODIFY = 0x2 | 0x4 | 0x8
_NO_PORT = 0xFFFF
_ALL_TABLES = 0xFF
_EMPTY_UPDATE_BYTES = 16  # the first answer, which lists nothing
_ANSWER_TIMEOUT_S = 10.0


class SwitchConnection:
    """A connection to one bridge. It ends when the switch or the bridge does."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        changed: Callable[[], None],
        hidden: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._changed = changed
        self._hidden = hidden
        self._ids = count(1)

    @classmethod
    async def open(
        cls, socket: Path, changed: Callable[[], None], hidden: Callable[[], None]
    ) -> SwitchConnection:
        """Connects, sets the treatment of fragments and begins to watch; `changed` is called for every change.

        `hidden` is called when `look_at_fragments` finds that somebody else has set another treatment.

        Raises OSError when the switch is not there, refuses or does not answer.
        """
        reader, writer = await asyncio.open_unix_connection(str(socket))
        connection = cls(reader, writer, changed, hidden)
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await connection._begin()
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            await connection.close()
            raise ConnectionError(f"{socket}: {error}") from error
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self) -> None:
        """Ends the connection."""
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def watch(self) -> None:
        """Listens until the connection ends."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                kind, xid, body = await self._receive()
                self._answer(kind, xid, body)

    def look_at_fragments(self) -> None:
        """Asks how fragments are treated, which no flow monitor tells; if not as they should be, sets it again."""
        self._send(_GET_CONFIG_REQUEST, b"")

    def _show_fragments(self) -> None:
        self._send(_SET_CONFIG, struct.pack("!HH", _FRAGMENTS_NX_MATCH, 0))

    async def _begin(self) -> None:
        self._send(_HELLO, b"")
        self._show_fragments()
        monitor = struct.pack("!IHHHB5x", 1, _MONITOR_ADD_DELETE_MODIFY, _NO_PORT, 0, _ALL_TABLES)
        request = struct.pack("!HHII4x", _STATS_VENDOR, 0, _NICIRA, _FLOW_MONITOR)
        self._send(_STATS_REQUEST, request + monitor)
        barrier = self._send(_BARRIER_REQUEST, b"")
        while True:
            kind, xid, body = await self._receive()
            if kind == _BARRIER_REPLY and xid == barrier:
                return
            self._answer(kind, xid, body)

    def _answer(self, kind: int, xid: int, body: bytes) -> None:
        if kind == _ECHO_REQUEST:
            self._send(_ECHO_REPLY, body, xid)
        elif kind == _ERROR:
            raise ConnectionError(f"the switch refused: error {body[:4].hex()}")
        elif kind == _GET_CONFIG_REPLY:
            if int.from_bytes(body[:2]) & _FRAGMENTS_MASK != _FRAGMENTS_NX_MATCH:
                self._show_fragments()
                self._hidden()
        elif kind == _VENDOR or (kind == _STATS_REPLY and len(body) > _EMPTY_UPDATE_BYTES):
            self._changed()

    def _send(self, kind: int, body: bytes, xid: int | None = None) -> int:
        number = next(self._ids) if xid is None else xid
        self._writer.write(_HEADER.pack(_VERSION, kind, _HEADER.size + len(body), number) + body)
        return number

    async def _receive(self) -> tuple[int, int, bytes]:
        version, kind, length, xid = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        if length < _HEADER.size or (version != _VERSION and kind != _HELLO):
            raise ConnectionError("not an OpenFlow 1.0 message")
        return kind, xid, await self._reader.readexactly(length - _HEADER.size)
