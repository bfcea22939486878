"""Where does one JSON-RPC message end in the byte stream of an OVSDB server?

RFC 7047 sends JSON objects one after another without a length or a separator. `Connection` feeds what it reads.
"""

from __future__ import annotations

import re

MESSAGE_BYTES_MAX = 256 * 1024 * 1024  # a dump of 20,000 interfaces is about 30 MB

# A whole string, a brace, or (last alternative) a string that has not ended yet.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}]|"', re.DOTALL)


class FramingError(ValueError):
    """The stream is no sequence of JSON objects, or one is too long."""


class MessageStream:
    """Cuts a stream of JSON objects into messages; each byte is looked at once, however it is cut into reads."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._depth = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Takes the next bytes and returns the objects that are complete now.

        Raises FramingError when something other than white space stands between objects, or an object is longer
        than MESSAGE_BYTES_MAX.
        """
        self._buffer += chunk
        complete: list[bytes] = []
        start = 0
        for token in _TOKEN.finditer(self._buffer, self._scanned):
            first = self._buffer[token.start()]
            self._scanned = token.end()
            if first == 0x22:  # a quotation mark
                if token.end() - token.start() == 1:  # its end has not arrived: look again from its beginning
                    self._scanned = token.start()
                    break
            elif first == 0x7B:  # {
                if self._depth == 0 and self._buffer[start : token.start()].strip():
                    raise FramingError("bytes between messages")
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth < 0:
                    raise FramingError("a brace without its partner")
                if self._depth == 0:
                    complete.append(bytes(self._buffer[start : token.end()]))
                    start = token.end()
        else:
            self._scanned = len(self._buffer)
        if start:
            del self._buffer[:start]
            self._scanned -= start
        if len(self._buffer) > MESSAGE_BYTES_MAX:
            raise FramingError(f"a message of more than {MESSAGE_BYTES_MAX} bytes")
        return complete
