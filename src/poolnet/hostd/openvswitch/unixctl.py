"""How does one ask a running Open vSwitch daemon for something? (its control socket, JSON-RPC).

`backend` traces packets with it; `ovs-appctl` is the same for people.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from poolnet.ovsdb.framing import FramingError, MessageStream

_TIMEOUT_S = 10.0
_READ_BYTES = 65536


class ControlError(Exception):
    """The daemon is not there, or refused the command with this text."""


class _Answer(msgspec.Struct):
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


async def _message(reader: asyncio.StreamReader) -> bytes:
    stream = MessageStream()
    while chunk := await reader.read(_READ_BYTES):
        messages = stream.feed(chunk)
        if messages:
            return messages[0]
    raise ConnectionError("the daemon closed the connection")
