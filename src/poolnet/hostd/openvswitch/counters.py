"""How many frames has each lock dropped, and why? Read from the switch's own flow counters.

Only the tables of the reasons are asked, over the bridge's management socket and without a process; and nothing but their
sums, if these are what they were: so looking every other second costs a switch with a thousand locks next to nothing.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from poolnet.hostnet.facts import PortFacts
from poolnet.lock.openflow import COUNTED, FIRST_REASON_TABLE, ofport_of, reason_at

_VERSION = 0x01
_HEADER = struct.Struct("!BBHI")
_HELLO, _ERROR, _ECHO_REQUEST, _ECHO_REPLY = 0, 1, 2, 3
_STATS_REQUEST, _STATS_REPLY = 16, 17
_MORE = 1  # of a reply: another one follows
_VENDOR, _NICIRA, _FLOWS, _AGGREGATE = 0xFFFF, 0x00002320, 0, 1
_REQUEST = struct.Struct(
    "!HHII4xHHB3x"
)  # kind, flags, vendor, subtype; output port, length of the match, table
_REPLY = struct.Struct("!HHII4x")
_SUM = struct.Struct("!QQI4x")  # packets, bytes, flows
_FLOW = struct.Struct("!HBxIIHHHHHHQQQ")
_NO_PORT = 0xFFFF
_TIMEOUT_S = 10.0
_TABLES = range(FIRST_REASON_TABLE, FIRST_REASON_TABLE + len(COUNTED))

Counts = Mapping[tuple[int, str], int]  # by port number and reason
_Sums = tuple[tuple[int, ...], ...]  # the ports that are asked for; then packets and flows of each table


class CountsFailed(Exception):
    """The switch does not tell."""


class FlowCounts:
    """The counters of the bridges of one switch, and what they were the last time."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Sums, Counts]] = {}

    async def of(self, socket: Path, ports: Mapping[int, str]) -> tuple[PortFacts, ...]:
        """The counters of these ports (device by port number) of the bridge with this management socket.

        Every reason that a port's lock can have is there, also with zero frames. Raises CountsFailed.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                counts = await self._counts(socket, tuple(sorted(ports)))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, struct.error) as error:
            raise CountsFailed(f"{socket}: {error}") from error
        by_port: dict[int, list[tuple[str, int]]] = {ofport: [] for ofport in ports}
        for (ofport, reason), packets in counts.items():
            if ofport in by_port:
                by_port[ofport].append((reason, packets))
        return tuple(
            PortFacts(device=device, dropped=tuple(sorted(by_port[ofport])))
            for ofport, device in ports.items()
        )

    async def _counts(self, socket: Path, ports: tuple[int, ...]) -> Counts:
        reader, writer = await asyncio.open_unix_connection(str(socket))
        try:
            connection = _Connection(reader, writer)
            replies = await connection.ask(_AGGREGATE)
            sums: _Sums = (ports, *(_SUM.unpack_from(reply)[::2] for reply in replies))
            known = self._known.get(socket)
            if known is not None and known[0] == sums:
                return known[1]
            counts: dict[tuple[int, str], int] = {}
            for reply in await connection.ask(_FLOWS):
                for table, cookie, packets in flows_in(reply):
                    reason, ofport = reason_at(table), ofport_of(cookie)
                    if reason is not None and ofport is not None:
                        key = (ofport, reason.value)
                        counts[key] = counts.get(key, 0) + packets
            self._known[socket] = (sums, counts)
            return counts
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


def flows_in(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Table, cookie and packet count of each flow in the body of a reply. Raises struct.error."""
    at = 0
    while at < len(data):
        length, table, *_, cookie, packets, _ = _FLOW.unpack_from(data, at)
        if length < _FLOW.size:
            raise struct.error("a flow shorter than its head")
        yield table, cookie, packets
        at += length


class _Connection:
    """Just enough OpenFlow 1.0, with Nicira's requests, to read counters."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._send(_HELLO, 0, b"")

    async def ask(self, subtype: int) -> list[bytes]:
        """The answers for all tables, in their order. Raises OSError or IncompleteReadError."""
        for table in _TABLES:
            body = _REQUEST.pack(_VENDOR, 0, _NICIRA, subtype, _NO_PORT, 0, table)
            self._send(_STATS_REQUEST, subtype << 16 | table, body)
        await self._writer.drain()
        found = {table: bytearray() for table in _TABLES}
        open_tables = set(_TABLES)
        while open_tables:
            kind, xid, body = await self._receive()
            if kind == _ECHO_REQUEST:
                self._send(_ECHO_REPLY, xid, body)
            elif kind == _ERROR:
                raise ConnectionError(f"the switch refused: error {body[:4].hex()}")
            elif kind == _STATS_REPLY and xid >> 16 == subtype and xid & 0xFFFF in open_tables:
                _, flags, _, _ = _REPLY.unpack_from(body)
                found[xid & 0xFFFF] += body[_REPLY.size :]
                if not flags & _MORE:
                    open_tables.discard(xid & 0xFFFF)
        return [bytes(data) for data in found.values()]

    def _send(self, kind: int, xid: int, body: bytes) -> None:
        self._writer.write(_HEADER.pack(_VERSION, kind, _HEADER.size + len(body), xid) + body)

    async def _receive(self) -> tuple[int, int, bytes]:
        _, kind, length, xid = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
        if length < _HEADER.size:
            raise ConnectionError("not an OpenFlow message")
        return kind, xid, await self._reader.readexactly(length - _HEADER.size)
