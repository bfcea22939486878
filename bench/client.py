"""The other end of the wire: a process of its own that posts bodies and throws the answers away.

`python -m bench.client`, started by `server.py`: what it is to do comes as JSON on stdin, the times that it took leave as
JSON on stdout. Standard library only, so that it costs as little as a client can.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Self

_TOKEN = re.compile(rb"<name>token</name><value>([0-9,]+)</value>")
_PIECE = 1 << 20


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_PIECE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def discard(self, request: bytes) -> None:
        """Send a request, and read the answer to its end."""
        left = self._begin(request)[0]
        while left:
            left -= self._connection.recv_into(self._buffer, min(left, _PIECE))

    def fetch(self, request: bytes) -> bytes:
        """Send a request, and give the answer's body."""
        left, body = self._begin(request)
        while left:
            piece = self._connection.recv(left)
            left -= len(piece)
            body += piece
        return body

    def _begin(self, request: bytes) -> tuple[int, bytes]:
        self._connection.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._connection.recv(65536)
        head, _, body = head.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        return length - len(body), body


def request_of(body: str) -> bytes:
    """A POST of an XML-RPC body."""
    data = body.encode()
    return f"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def alternate(port: int, bodies: list[str], rounds: int, calls: int) -> list[list[float]]:
    """Post each body in turn, that many calls at a time; the seconds of every single call, by body."""
    taken: list[list[float]] = [[] for _ in bodies]
    requests = [request_of(body) for body in bodies]
    with Client(port) as client:
        for request in requests:
            client.discard(request)
        for _ in range(rounds):
            for samples, request in zip(taken, requests, strict=True):
                for _ in range(calls):
                    began = time.perf_counter()
                    client.discard(request)
                    samples.append(time.perf_counter() - began)
    return taken


def follow(port: int, body: str, rounds: int) -> list[float]:
    """Call event.from again and again, each time from the last answer's token; when each answer was complete."""
    arrived: list[float] = []
    with Client(port) as client:
        token = _token(client.fetch(request_of(body.replace("TOKEN", ""))))
        for _ in range(rounds):
            answer = client.fetch(request_of(body.replace("TOKEN", token)))
            arrived.append(time.monotonic())
            token = _token(answer)
    return arrived


def _token(answer: bytes) -> str:
    found = _TOKEN.search(answer)
    if found is None:
        raise ValueError(f"no token in {answer[:500]!r}")
    return found[1].decode()


if __name__ == "__main__":
    work = json.load(sys.stdin)
    functions: dict[str, Callable[..., Any]] = {"alternate": alternate, "follow": follow}
    json.dump(functions[work.pop("do")](**work), sys.stdout)
