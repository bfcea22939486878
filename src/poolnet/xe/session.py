"""How does `xe` talk to its server? It sends the request and obeys frame by frame until Exit (spec xe-cli §11).

`thin` starts it; `transfer` is imported only when the server asks for a file.
"""

from __future__ import annotations

import os
import sys

from poolnet.xe.connect import Connection, ConnectRefused, open_connection
from poolnet.xe.frames import (
    BLOB,
    CHUNK,
    COMMAND,
    DEBUG,
    END,
    ERROR,
    EXIT,
    HEADER,
    HTTP_CONNECT,
    HTTP_GET,
    HTTP_PUT,
    LOAD,
    MAGIC_LENGTH,
    PRINT,
    PRINT_STDERR,
    PROMPT,
    Ended,
    Link,
    Reader,
    integer,
    shown,
)

LOST = "Lost connection to the server.\n"
UNREACHABLE = "Unable to contact server. Please check server and port settings.\n"


class Session(Link):
    """One command, from the request to Exit."""

    def run(self) -> int:
        """Send the words and obey the server until its Exit; returns the exit code.

        Raises:
            Ended: the server cannot be reached or understood, or asks for what it must not have.
        """
        options = self.options
        try:
            connection = self.connection = open_connection(options.server, options.port, nossl=options.nossl)
        except ConnectRefused as refused:
            raise Ended(1, refused.text) from None
        try:
            return self._converse(connection)
        except (OSError, EOFError):
            raise Ended(1, LOST) from None
        finally:
            connection.close()

    def _converse(self, connection: Connection) -> int:
        body = self.options.body()
        headers = ["POST /cli HTTP/1.0", "User-agent: xe-cli/Unix/0.2", "originator: cli"]
        given = {"traceparent": self.options.traceparent, "baggage": self.options.baggage}
        headers += [f"{name}: {value}" for name, value in given.items() if value]
        headers.append(f"content-length: {len(body)}")
        try:
            connection.send("\r\n".join([*headers, "", ""]).encode("utf-8", "surrogateescape") + body)
            magic = connection.receive(MAGIC_LENGTH)
            version = (
                [self._integer(connection.receive(4)) for _ in "01"] if magic == HEADER[:MAGIC_LENGTH] else []
            )
        except (OSError, EOFError):
            raise Ended(1, UNREACHABLE) from None
        _check_header(magic, version)
        connection.send(HEADER)
        while True:
            payload = connection.receive(self._integer(connection.receive(4)))
            code = self._obey(Reader(payload))
            if code is not None:
                return code

    def _integer(self, data: bytes) -> int:
        return int.from_bytes(data, "little", signed=True)

    def _obey(self, frame: Reader) -> int | None:
        """Do what one frame says; returns the exit code if it is Exit."""
        kind, tag = frame.integer(), frame.integer()
        if kind != COMMAND:
            raise Ended(1, f'Unhandled exception\nUnknown_tag("message", {kind})\n')
        self.debug(f"command {tag}")
        if tag == PRINT:
            sys.stdout.buffer.write(shown(frame.text(), sys.stdout) + b"\n")
            sys.stdout.flush()
        elif tag == PRINT_STDERR:
            _complain(frame.text())
        elif tag == EXIT:
            return frame.integer()
        elif tag == ERROR:
            _complain(b"Error code: " + frame.text() + b"\n")
            params = [frame.text() for _ in range(frame.integer())]
            _complain(b"Error parameters: " + b", ".join(params) + b"\n")
        elif tag == PROMPT:
            self._prompt()
        elif tag == DEBUG:
            self.debug(frame.text().decode("utf-8", "replace"))
        else:
            self._transfer(tag, frame)
        return None

    def _transfer(self, tag: int, frame: Reader) -> None:
        if tag not in (LOAD, HTTP_GET, HTTP_PUT, HTTP_CONNECT):
            raise Ended(1, f'Unhandled exception\nUnknown_tag("command", {tag})\n')
        from poolnet.xe import transfer

        if tag == LOAD:
            transfer.load(self, os.fsdecode(frame.text()))
        elif tag == HTTP_GET:
            transfer.get(self, os.fsdecode(frame.text()), os.fsdecode(frame.text()))
        elif tag == HTTP_PUT:
            transfer.put(self, os.fsdecode(frame.text()), os.fsdecode(frame.text()))
        else:
            transfer.terminal(self, os.fsdecode(frame.text()))

    def _prompt(self) -> None:
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        answer = line.removesuffix(b"\n")
        self.send(BLOB, CHUNK, integer(len(answer)), answer)
        self.send(BLOB, END)


def _check_header(magic: bytes, version: list[int]) -> None:
    """Refuse a server that is none, or that speaks another major version."""
    if magic.startswith(b"HTTP"):
        raise Ended(1, "Server internal error.\n")
    if not version:
        text = "Failed to contact a running management agent.\nTry specifying a server name and port.\n"
        raise Ended(1, text, usage=True)
    major, minor = version
    if major != 0:
        text = (
            f"Protocol version mismatch: Server has protocol version {major}.{minor}. Client has 0.2.\n"
            "Try specifying a server name and port on the command-line.\n"
        )
        raise Ended(1, text, usage=True)


def _complain(text: bytes) -> None:
    sys.stderr.buffer.write(shown(text, sys.stderr))
    sys.stderr.flush()
