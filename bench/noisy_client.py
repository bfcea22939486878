"""Two clients of one server: one that makes as much noise as it can, and one that counts how long it waits meanwhile.

`python -m bench.noisy_client`, started by `noisy`: what it is to do comes as JSON on stdin, what it saw leaves as JSON on
stdout. The noisy one runs only when nobody else wants the processor, because it stands for another machine: its processor is
not the server's. A low priority would not do, for the kernel lets whoever runs end its turn of some milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final
from xml.sax.saxutils import escape

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TOKEN: Final = re.compile(rb"<name>token</name><value>([0-9,]+)</value>")
_AGAIN_S: Final = 1.0
_HEAD_START_S: Final = 1.0


def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Connection:
    """One HTTPS connection, from an address of this machine's loopback."""

    def __init__(self, port: int, source: str, tls: ssl.SSLContext) -> None:
        self._port, self._source, self._tls = port, source, tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> bytes:
        """One call; raises OSError or EOFError (IncompleteReadError) when the server hangs up."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._tls, local_addr=(self._source, 0)
            )
        reader, writer = self._streams
        try:
            writer.write(b"POST /RPC2 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            return await reader.readexactly(int(found[1]) if found else 0)
        except (OSError, EOFError):
            self._streams = None
            writer.close()
            raise


def call(method: str, *params: object) -> bytes:
    """The body of a call; parameters are texts, numbers, or lists of texts."""
    inner = "".join(f"<param>{_value(param)}</param>" for param in params)
    return f"<methodCall><methodName>{method}</methodName><params>{inner}</params></methodCall>".encode()


def _value(param: object) -> str:
    match param:
        case list():
            return f"<value><array><data>{''.join(map(_value, param))}</data></array></value>"
        case float():
            return f"<value><double>{param}</double></value>"
        case _:
            return f"<value>{escape(str(param))}</value>"


async def quiet(work: dict[str, Any]) -> list[float]:
    """One call every few milliseconds for a time; how long each took."""
    connection = Connection(work["port"], work["source"], _tls())
    body = call(work["method"], work["session"], work["vif"])
    taken = []
    end = time.perf_counter() + work["seconds"]
    while time.perf_counter() < end:
        began = time.perf_counter()
        await connection.post(body)
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(work["every_s"])
    return taken


class Noise:
    """All that one client can do at once."""

    def __init__(self, work: dict[str, Any]) -> None:
        self._work = work
        self._tls = _tls()
        self._seen: Counter[str] = Counter()

    async def make(self) -> dict[str, int]:
        """Makes noise for a time; what came of it."""
        work = self._work
        jobs = [self._calls(at, work["callers"]) for at in range(work["callers"])]
        jobs += [self._logins(at) for at in range(work["logins"])]
        jobs += [self._changes()]
        tasks = [asyncio.create_task(job) for job in jobs]
        await asyncio.sleep(_HEAD_START_S)  # else the polls would have all connections
        tasks += [asyncio.create_task(self._polls(self._session(at))) for at in range(work["polls"])]
        await asyncio.sleep(work["seconds"] - _HEAD_START_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return dict(self._seen)

    def _open(self) -> Connection:
        return Connection(self._work["port"], self._work["source"], self._tls)

    async def _post(self, what: str, connection: Connection, body: bytes) -> bytes:
        try:
            answer = await connection.post(body)
        except (OSError, EOFError):
            self._seen[f"{what}: hung up"] += 1
            await asyncio.sleep(_AGAIN_S)
            return b""
        outcome = "answered" if b"Success" in answer else "TOO_BUSY" if b"TOO_BUSY" in answer else "refused"
        self._seen[f"{what}: {outcome}"] += 1
        if outcome == "TOO_BUSY":
            await asyncio.sleep(_AGAIN_S)
        return answer

    async def _calls(self, at: int, callers: int) -> None:
        """Its part of the calls of each second, whether or not the ones before were answered in time."""
        connection = self._open()
        body = call("VIF.get_record", self._session(at), self._work["vif"])
        every_s = callers / self._work["calls_per_s"]
        due = time.perf_counter() + every_s * at / callers
        while True:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            due = max(due + every_s, time.perf_counter() - 1)
            await self._post("calls", connection, body)

    async def _logins(self, at: int) -> None:
        """Logins without end, every second of them with a wrong password."""
        connection = self._open()
        password = "wrong" if at % 2 else self._work["password"]
        while True:
            await self._post(
                "logins", connection, call("session.login_with_password", "root", password, "1.0", f"n{at}")
            )

    def _session(self, at: int) -> str:
        sessions: list[str] = self._work["sessions"]
        return sessions[at % len(sessions)]

    async def _polls(self, session: str) -> None:
        connection = self._open()
        token = ""
        while True:
            body = call("event.from", session, ["*"], token, 60.0)
            answer = await self._post("polls", connection, body)
            found = _TOKEN.search(answer[-300:])
            token = found[1].decode() if found else token

    async def _changes(self) -> None:
        """Changes an object twenty times a second, so that every poll has something to answer."""
        connection, added = self._open(), False
        while True:
            verb = "remove_tags" if added else "add_tags"
            await self._post(
                "changes",
                connection,
                call(f"network.{verb}", self._work["session"], self._work["network"], "noise"),
            )
            added = not added
            await asyncio.sleep(0.05)


def main() -> None:
    """Does what stdin says."""
    work = json.load(sys.stdin)
    if work["do"] == "noise":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        result: object = asyncio.run(Noise(work).make())
    else:
        result = asyncio.run(quiet(work))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
