"""How does `xe` move files for its server? Load, HttpGet, HttpPut and the raw terminal (spec xe-cli §8.6, §11.3).

A server may only touch files that a `key=value` word on the command line names, and is not led to this machine's local
socket, unless it is what listens there. Only `session` imports this, and only when a server asks for a transfer.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from poolnet.xe.connect import Connection, ConnectRefused, Opener
from poolnet.xe.frames import (
    BLOB,
    CHUNK,
    END,
    FAILED,
    MAX_LOAD,
    OK,
    RESPONSE,
    WAIT,
    Ended,
    Link,
    integer,
    shown,
)

HEARTBEAT_SECONDS = 300
PIECE = 1 << 16
MAX_REDIRECTS = 10
MAX_HEADERS = 256
CTRL_BRACKET = b"\x1d"


class TransferFailed(Exception):
    """The server at the other end of a transfer did not want it."""


def load(link: Link, name: str) -> None:
    """Send a file's bytes, or Failed if it cannot be read."""
    _permit(link, name, download=False)
    try:
        with open(name, "rb") as file:  # noqa: PTH123 - pathlib costs the client its start
            data = file.read(MAX_LOAD)
    except OSError:
        link.send(RESPONSE, FAILED)
        return
    link.send(RESPONSE, OK)
    link.send(BLOB, CHUNK, integer(len(data)), data)
    link.send(BLOB, END)


def get(link: Link, name: str, url: str) -> None:
    """Download a URL into a new file, or to stdout if the name is empty."""
    _permit(link, name, download=True)

    def fetch() -> None:
        connection = _request(link, "GET", url, "")
        with contextlib.closing(connection), _target(link, name) as write:
            while data := connection.some():
                write(data)

    _carry_out(link, fetch)


def put(link: Link, name: str, url: str) -> None:
    """Upload a file to a URL; the server answers before the body, as the reference's does."""
    _permit(link, name, download=False)
    try:
        file = open(name, "rb")  # noqa: PTH123, SIM115 - pathlib costs the client its start; closed below
    except OSError:
        raise _given_up(link, f"file '{name}' does not exist") from None

    def send() -> None:
        length = os.fstat(file.fileno()).st_size
        with contextlib.closing(_request(link, "PUT", url, f"Content-length: {length}\r\n")) as connection:
            while data := file.read(PIECE):
                connection.send(data)

    with file:
        _carry_out(link, send)


def terminal(link: Link, url: str) -> None:
    """Join this terminal to a URL until Ctrl-] or the end of either."""

    def join() -> None:
        with (
            contextlib.closing(_request(link, "CONNECT", url, "content-length: 0\r\n")) as connection,
            _raw_terminal(),
        ):
            while True:
                here = connection.fileno()
                waiting = [here] if connection.pending() else select.select([here, 0], [], [])[0]
                if here in waiting:
                    data = connection.some()
                    if not data:
                        return
                    sys.stdout.buffer.write(data)
                    sys.stdout.flush()
                if 0 in waiting:
                    typed = os.read(0, PIECE)
                    if not typed or CTRL_BRACKET in typed:
                        return
                    connection.send(typed)

    _carry_out(link, join)


def _permit(link: Link, name: str, *, download: bool) -> None:
    """End the session if the command line does not name this file."""
    words = link.options.command_line
    allowed = {os.path.realpath(word.partition("=")[2]) for word in words if "=" in word}
    if download:
        allowed.add(os.path.realpath(""))
    if "\0" in name or os.path.realpath(name) not in allowed:
        raise Ended(
            1,
            f"File not permitted: Blocked upload/download of the file {name}, which was requested by the server. "
            "The file name was not present on the command line\n.\n",
        )


def _given_up(link: Link, reason: str) -> Ended:
    """Tell the server that a transfer failed here; gives the exception that ends the link."""
    link.send(RESPONSE, FAILED)
    return Ended(1, f"Operation failed. Error: {reason}\n")


def _carry_out(link: Link, action: Callable[[], None]) -> None:
    """Do a transfer while telling the server every 300 seconds that it goes on, then how it ended."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            link.send(RESPONSE, WAIT)

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        action()
        answer = OK
    except (TransferFailed, ConnectRefused, OSError, EOFError, ValueError):  # of an address that is none, too
        answer = FAILED
    finally:
        done.set()
        heart.join()
    link.send(RESPONSE, answer)


@contextlib.contextmanager
def _target(link: Link, name: str) -> Iterator[Callable[[bytes], object]]:
    """Open what a download is written to; an existing file is never touched."""
    if not name:
        yield lambda data: sys.stdout.buffer.write(shown(data, sys.stdout))
        sys.stdout.flush()
        return
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _given_up(link, f'Sys_error("{name}: {os.strerror(error.errno or 0)}")') from None
    with os.fdopen(descriptor, "wb") as file:
        yield file.write


def _request(link: Link, method: str, url: str, headers: str) -> Connection:
    """Send an HTTP request and follow redirections; returns the connection at the start of the body.

    Raises:
        TransferFailed: the answer is neither 200 nor 302.
        ConnectRefused: the server cannot be reached.
    """
    for _ in range(MAX_REDIRECTS):
        opener, path = _opener(link, url)
        connection = opener.open()
        connection.send(f"{method} {path} HTTP/1.0\r\n{headers}\r\n".encode("utf-8", "surrogateescape"))
        status = connection.line().split()
        location = url
        for _ in range(MAX_HEADERS):
            name, _, value = connection.line().partition(b":")
            if not name:
                break
            if name.lower() == b"location":
                location = value.strip().decode()
        else:
            raise TransferFailed(url)
        if status[1:2] == [b"200"]:
            return connection
        connection.close()
        if status[1:2] != [b"302"]:
            break
        url = location
    raise TransferFailed(url)


def _opener(link: Link, url: str) -> tuple[Opener, str]:
    """Say which server a URL means: a bare path the one that this session talks to, over the same kind of stream."""
    if link.connection is None:
        raise TransferFailed(url)
    same = link.connection.open_again
    parts = urlsplit(url)
    if not parts.scheme:
        return same, url
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    if parts.scheme not in ("http", "https"):
        raise TransferFailed(url)
    opener = Opener(parts.hostname or "", parts.port, nossl=parts.scheme == "http", local=same.is_local)
    return opener, path or "/"


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    """Hand every key through while the terminal is joined; a stdin that is no terminal stays as it is."""
    if not os.isatty(0):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
