"""The forward from the real machine to a lab host's API."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

PATIENCE_S = 20.0
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s


@contextmanager
def forwarded() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A client's connection through a forward, and the host's end of it."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as near,
        closing(socket.create_server(("127.0.0.1", 0))) as far,
    ):
        far.settimeout(PATIENCE_S)
        target = f"{near.fileno()}=127.0.0.1:{far.getsockname()[1]}"
        command = (sys.executable, "-m", "poolnet.lab.forward", target)
        forward = subprocess.Popen(command, pass_fds=(near.fileno(),))
        try:
            with (
                closing(socket.create_connection(near.getsockname(), PATIENCE_S)) as client,
                closing(far.accept()[0]) as host,
            ):
                host.settimeout(PATIENCE_S)
                yield client, host
        finally:
            forward.kill()
            forward.wait()


def test_what_is_sent_after_the_other_side_has_ended_arrives() -> None:
    with forwarded() as (client, host):
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert host.makefile("rb").read() == b"question"
        host.sendall(b"answer")
        host.close()
        assert client.makefile("rb").read() == b"answer"


def test_a_client_hears_at_once_when_the_host_breaks_the_connection() -> None:
    with forwarded() as (client, host):
        client.sendall(b"question")
        assert host.recv(100) == b"question"
        host.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        host.close()
        with suppress(ConnectionResetError):
            assert client.recv(100) == b""
