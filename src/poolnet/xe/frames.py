"""What goes over the connection of one `xe`? The header, the frames, and who has the connection (spec xe-cli §11).

`session` holds the conversation and `transfer` moves files in it; both send frames with a `Link`. Every integer is
little-endian and four bytes long; a frame is its length and its payload, written at once.
"""

from __future__ import annotations

import sys

from poolnet.xe.connect import Connection
from poolnet.xe.words import Options

TYPE_CHECKING = False  # typing costs the client its start
if TYPE_CHECKING:
    from typing import TextIO

HEADER = b"XenSource thin CLI protocol" + b"\0\0\0\0" + b"\2\0\0\0"
MAGIC_LENGTH = 27
COMMAND, RESPONSE, BLOB = 9, 10, 11
PRINT, LOAD, PROMPT, EXIT, HTTP_GET, HTTP_PUT, ERROR, DEBUG, PRINT_STDERR, HTTP_CONNECT = (
    0,
    1,
    3,
    4,
    12,
    13,
    14,
    15,
    16,
    17,
)
OK, FAILED, CHUNK, END, WAIT = 5, 6, 7, 8, 18
MAX_LOAD = 0x7FFFFFFF


class Ended(Exception):
    """The session is over: exit code, text for stderr as it is, and whether the usage text follows."""

    def __init__(self, code: int, text: str = "", *, usage: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.usage = usage


def shown(text: bytes, stream: TextIO) -> bytes:
    """What is written to stdout or stderr of a text that came: on a terminal, nothing that commands it.

    Names come from whoever may give them. What is no terminal gets every byte as it is.
    """
    if not stream.isatty():
        return text
    came = text.decode("utf-8", "backslashreplace")
    if came.isprintable():
        return text
    return "".join(c if _is_harmless(c) else ascii(c)[1:-1] for c in came).encode("utf-8", "backslashreplace")


def _is_harmless(c: str) -> bool:
    """Whether a terminal only shows a character; spaces other than ASCII's are shown, separators of lines are not."""
    return c.isprintable() or c in "\n\t" or (c.isspace() and c >= "\xa0" and c not in "\u2028\u2029")


def integer(value: int) -> bytes:
    """Encode an integer."""
    return value.to_bytes(4, "little", signed=True)


class Link:
    """The connection of one command, what the user asked for, and the trace of what was said."""

    def __init__(self, options: Options, trace: list[str]) -> None:
        self.options = options
        self.trace = trace
        self.connection: Connection | None = None

    def send(self, kind: int, tag: int, body: bytes = b"", raw: bytes = b"") -> None:
        """Send one frame, and the raw bytes that follow a chunk's."""
        connection = self.connection
        if connection is not None:
            payload = integer(kind) + integer(tag) + body
            connection.send(integer(len(payload)) + payload + raw)

    def debug(self, line: str) -> None:
        """Note a line for those who debug."""
        if sys.stderr.isatty():
            line = shown(line.encode("utf-8", "replace"), sys.stderr).decode()
        if self.options.debug:
            sys.stderr.write(f"{line}\n")
        if self.options.debug_on_fail:
            self.trace.append(line)


class Reader:
    """Takes the values out of one payload."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._position = 0

    def integer(self) -> int:
        """Take an integer; EOFError if the payload is too short."""
        return int.from_bytes(self._take(4), "little", signed=True)

    def text(self) -> bytes:
        """Take a string; EOFError if the payload is too short."""
        return self._take(self.integer())

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if count < 0 or end > len(self._payload):
            raise EOFError
        data = self._payload[self._position : end]
        self._position = end
        return data
