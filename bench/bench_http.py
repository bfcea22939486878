"""How much does an answer put together from cached fragments cost, beside the same bytes from memory?

The floor is one block of bytes sent through the same server, so that only the putting together differs. The client is a
process of its own that throws the bytes away; the best of several runs counts.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import TypedDict

from poolnet.api.answer import Answer, Codec, Encoded, Origin, Refusal, Success
from poolnet.api.budgets import Budgets
from poolnet.api.fragments import encode_record, member, struct
from poolnet.api.http import HttpServer
from poolnet.api.wire import Wire
from poolnet.model.classes.vif import VIF
from poolnet.model.registry import CLASSES
from poolnet.model.types import MapT, RecordT, Ref, RefT, StringT
from poolnet.xe.client import Client

RECORDS = 10_000
RUNS = 15
CALLS = 2_000

_CLIENT = """
import socket, sys, time
port, path, method, runs, calls = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
if path == "/jsonrpc":
    body = ('{"method":"%s","params":[],"id":1}' % method).encode()
else:
    body = ("<methodCall><methodName>%s</methodName></methodCall>" % method).encode()
request = ("POST %s HTTP/1.1\\r\\nHost: h\\r\\nContent-Length: %d\\r\\n\\r\\n" % (path, len(body))).encode() + body
connection = socket.create_connection(("127.0.0.1", port))
best = None
buffer = bytearray(1 << 20)
for _ in range(runs):
    begin = time.perf_counter()
    for _ in range(calls):
        connection.sendall(request)
        head = b""
        while b"\\r\\n\\r\\n" not in head:
            head += connection.recv(65536)
        head, _, rest = head.partition(b"\\r\\n\\r\\n")
        length = next(int(line[15:]) for line in head.split(b"\\r\\n") if line.lower().startswith(b"content-length:"))
        length -= len(rest)
        while length:
            length -= connection.recv_into(buffer, min(length, 1 << 20))
    took = (time.perf_counter() - begin) / calls
    best = took if best is None else min(best, took)
print(best)
"""


class Measured(TypedDict):
    """One line of the report: what it took, what it would take at best, and how they compare."""

    name: str
    value: float
    unit: str
    floor: float
    ratio: float


class _Shelf:
    """Answers from memory: `fragments` joins cached records, `block` has the bytes ready, `small` is a short text."""

    def __init__(self, records: int) -> None:
        decl = CLASSES["VIF"]
        rows = [
            VIF(ref=Ref(f"OpaqueRef:{n:036d}"), uuid=f"{n:036d}", device=str(n % 7)) for n in range(records)
        ]
        self._members = {
            codec: [member(codec, row.ref, encode_record(codec, decl, row)) for row in rows]
            for codec in Codec
        }
        self._blocks = {codec: b"".join(struct(codec, self._members[codec])) for codec in Codec}
        self._type = MapT(RefT("VIF"), RecordT("VIF"))

    def size(self, codec: Codec) -> int:
        """How many bytes the answer has."""
        return len(self._blocks[codec])

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        """Answers one of the three."""
        match method:
            case "fragments":
                return Success(self._type, Encoded(lambda codec: struct(codec, self._members[codec])))
            case "block":
                return Success(self._type, Encoded(lambda codec: (self._blocks[codec],)))
            case "small":
                return Success(StringT(), "x")
        return Refusal("MESSAGE_METHOD_UNKNOWN", (method,))


async def _no_cli(words: Sequence[str], client: Client, origin: Origin) -> None:
    """Nobody asks for the command line here."""


async def _best_seconds(port: int, path: str, method: str, *, runs: int, calls: int) -> float:
    """Lets a client process measure one method; seconds for one call."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", _CLIENT, str(port), path, method, str(runs), str(calls)),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    return float(output)


async def _measure_fragments(records: int, runs: int) -> list[Measured]:
    shelf = _Shelf(records)
    server = HttpServer(shelf, _no_cli, budgets=Budgets(rates=False))
    port = server.listen_tcp("127.0.0.1", 0)
    lines: list[Measured] = []
    try:
        for codec, path in ((Codec.XML, "/"), (Codec.JSON, "/jsonrpc")):
            floor = await _best_seconds(port, path, "block", runs=runs, calls=1)
            value = await _best_seconds(port, path, "fragments", runs=runs, calls=1)
            lines.append(
                Measured(
                    name=f"{records} cached VIF records over {codec} ({shelf.size(codec) / 1e6:.1f} MB)",
                    value=value * 1000,
                    unit="ms",
                    floor=floor * 1000,
                    ratio=value / floor,
                )
            )
    finally:
        await server.close()
    return lines


def bench_fragments(records: int = RECORDS, runs: int = RUNS) -> list[Measured]:
    """Sending that many cached records against one block of the same bytes, for both codecs."""
    return asyncio.run(_measure_fragments(records, runs))


async def _measure_calls(calls: int, runs: int) -> Measured:
    server = HttpServer(_Shelf(1), _no_cli, budgets=Budgets(rates=False))
    port = server.listen_tcp("127.0.0.1", 0)
    try:
        json_s = await _best_seconds(port, "/jsonrpc", "small", runs=runs, calls=calls)
        xml_s = await _best_seconds(port, "/", "small", runs=runs, calls=calls)
    finally:
        await server.close()
    return Measured(
        name="smallest XML-RPC call on one connection, beside JSON-RPC",
        value=xml_s * 1e6,
        unit="µs",
        floor=json_s * 1e6,
        ratio=xml_s / json_s,
    )


def bench_small_calls(calls: int = CALLS, runs: int = 3) -> Measured:
    """What the wire half alone costs per call: HTTP, parsing, envelope."""
    return asyncio.run(_measure_calls(calls, runs))


if __name__ == "__main__":
    for line in [*bench_fragments(), bench_small_calls()]:
        print(
            f"{line['name']}: {line['value']:.1f} {line['unit']} (floor {line['floor']:.1f}, × {line['ratio']:.2f})"
        )
