"""How does one ask a running Open vSwitch daemon for something? (its control socket, JSON-RPC).

`backend` traces packets with it; `ovs-appctl` is the same for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from poolnet.ovsdb.framing import FramingError, MessageStream

_TIMEOUT_S = 10.0
_READ_BYTES = 65536
_CONNECTIONS = 16  # the daemon takes up to ten requests of each before it looks at the next
_WINDOW = 16  # requests of a connection that wait for an answer


class ControlError(Exception):
    """The daemon is not there, or refused the command with this text."""


class _Answer(msgspec.Struct):
    id: int | None = None
    result: str | None = None
    error: str | None = None


def control_socket(run_dir: Path, daemon: str) -> Path:
    """The control socket of a daemon by its pid file. Raises ControlError when there is none."""
    try:
        pid = (run_dir / f"{daemon}.pid").read_text().strip()
    except OSError as error:
        raise ControlError(f"{daemon} has no pid file: {error.strerror}") from error
    return run_dir / f"{daemon}.{pid}.ctl"


async def ask(socket: Path, command: str, arguments: Sequence[str]) -> str:
    """Sends one command and returns its text. Raises ControlError."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(str(socket))
            try:
                writer.write(msgspec.json.encode({"id": 0, "method": command, "params": list(arguments)}))
                message = await _message(reader)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
        answer = msgspec.json.decode(message, type=_Answer)
    except (OSError, TimeoutError, FramingError, msgspec.MsgspecError) as error:
        raise ControlError(f"{socket}: {error}") from error
    if answer.error is not None:
        raise ControlError(answer.error.strip())
    return answer.result or ""


async def ask_all(socket: Path, command: str, calls: Sequence[Sequence[str]]) -> list[str]:
    """Sends a command many times, with these arguments, and returns the texts in the same order.

    No call waits for the answer of the one before. Raises ControlError: the daemon is not there, or refused one.
    """
    texts = [""] * len(calls)
    left = iter(range(len(calls)))
    work = [
        asyncio.create_task(_work_off(socket, command, calls, left, texts))
        for _ in range(min(_CONNECTIONS, len(calls)))
    ]
    try:
        async with asyncio.timeout(_TIMEOUT_S + len(calls) / 100):
            await asyncio.gather(*work)
    except (OSError, TimeoutError, FramingError, msgspec.MsgspecError) as error:
        raise ControlError(f"{socket}: {error}") from error
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return texts


async def _work_off(
    socket: Path, command: str, calls: Sequence[Sequence[str]], left: Iterator[int], texts: list[str]
) -> None:
    """One connection's share: takes a call whenever it has room for one."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        stream = MessageStream()
        waiting = 0
        while True:
            while waiting < _WINDOW and (number := next(left, None)) is not None:
                request = {"id": number, "method": command, "params": list(calls[number])}
                writer.write(msgspec.json.encode(request))
                waiting += 1
            if not waiting:
                return
            chunk = await reader.read(_READ_BYTES)
            if not chunk:
                raise ConnectionError("the daemon closed the connection")
            for message in stream.feed(chunk):
                answer = msgspec.json.decode(message, type=_Answer)
                if answer.error is not None:
                    raise ControlError(answer.error.strip())
                if answer.id is not None and 0 <= answer.id < len(texts):
                    texts[answer.id] = answer.result or ""
                waiting -= 1
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _message(reader: asyncio.StreamReader) -> bytes:
    stream = MessageStream()
    while chunk := await reader.read(_READ_BYTES):
        messages = stream.feed(chunk)
        if messages:
            return messages[0]
    raise ConnectionError("the daemon closed the connection")
