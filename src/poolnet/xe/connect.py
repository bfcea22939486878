"""How does `xe` reach its server? The local socket first, plain TCP, or TLS (spec xe-cli §2.1); `session` asks.

`ssl` is imported only for TLS and `socket` only for TCP: the local socket needs no more than the class beneath it,
which takes a fifth of the time to import. As the reference's client does, certificates are not checked.
"""

from __future__ import annotations

import _socket
import os

LOCAL = "127.0.0.1"
SOCKETS = ("/var/lib/xcp/xapi", "/run/poolnet/xapi.sock")
UNREACHABLE = "Unable to contact server. Please check server and port settings.\n"
PIECE = 1 << 16
FRAME_MAX = 1 << 28  # more is no text: a server that says so wants this machine's memory
LINE_MAX = 1 << 16


class ConnectRefused(Exception):
    """The server cannot be reached; `text` is for stderr as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Connection:
    """A stream of bytes to a server, with a buffer for what has arrived."""

    def __init__(self, stream: _socket.socket, open_again: Opener) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self.open_again = open_again

    def send(self, data: bytes) -> None:
        """Send all of it at once."""
        self._stream.sendall(data)

    def receive(self, count: int) -> bytes:
        """Wait for exactly this many bytes.

        Raises:
            EOFError: the stream ended before, or the count is negative or too large.
        """
        if not 0 <= count <= FRAME_MAX:
            raise EOFError
        while len(self._buffer) < count:
            self._fill()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def line(self) -> bytes:
        """Wait for a line of an HTTP head; returns it without its end. Raises EOFError, also for one that is too long."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_MAX:
                raise EOFError
            self._fill()
        data = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return data.removesuffix(b"\r")

    def some(self) -> bytes:
        """Wait for any bytes; returns none at the end of the stream."""
        if not self._buffer:
            return self._stream.recv(PIECE)
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def pending(self) -> bool:
        """Whether bytes can be had that `select` on the stream would not report."""
        waiting = getattr(self._stream, "pending", None)
        return bool(self._buffer) or bool(waiting and waiting())

    def fileno(self) -> int:
        """For select."""
        return self._stream.fileno()

    def close(self) -> None:
        """End the stream."""
        self._stream.close()

    def _fill(self) -> None:
        data = self._stream.recv(PIECE)
        if not data:
            raise EOFError
        self._buffer += data


class Opener:
    """Opens a connection to one server; a transfer opens further ones to the same.

    Without `local`, this machine's address does not mean its local socket, where this user may be root.
    """

    def __init__(self, server: str, port: int | None, *, nossl: bool, local: bool = True) -> None:
        self.local = local
        self.server = server[1:-1] if server.startswith("[") and server.endswith("]") else server
        self.port = port
        self.nossl = nossl

    @property
    def is_local(self) -> bool:
        """Whether this is the server of this machine."""
        return self.server == LOCAL and self.local

    def open(self) -> Connection:
        """Connect.

        Raises:
            ConnectRefused: the server cannot be reached.
        """
        stream: _socket.socket | None = None
        if self.is_local:
            stream = _local() or self._plain()
        elif self.nossl:
            stream = self._plain()
        else:
            stream = self._tls()
        return Connection(stream, self)

    def _plain(self) -> _socket.socket:
        import socket

        port = 80 if self.port is None else self.port
        try:
            return socket.create_connection((self.server, port))
        except socket.gaierror:
            text = f"No addrinfo found for host: {self.server}, port: {port}Host '{self.server}' not found.\n"
            raise ConnectRefused(text) from None
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise ConnectRefused(f"Error: {reason} (calling connect )\n") from None

    def _tls(self) -> _socket.socket:
        import socket
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            stream = socket.create_connection((self.server, 443 if self.port is None else self.port))
        except OSError:
            raise ConnectRefused(UNREACHABLE) from None
        try:
            return context.wrap_socket(stream, server_hostname=self.server)
        except (OSError, ValueError):
            stream.close()
            raise ConnectRefused(UNREACHABLE) from None


def open_connection(server: str, port: int | None, *, nossl: bool) -> Connection:
    """Connect to the server that the command line names.

    Raises:
        ConnectRefused: it cannot be reached.
    """
    return Opener(server, port, nossl=nossl).open()


def _local() -> _socket.socket | None:
    """Connect to the server of this machine; None if it is not there or this user may not."""
    root = os.environ.get("POOLNET_ROOT", "")
    for path in SOCKETS:
        stream = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            stream.connect(root + path)
        except OSError:
            stream.close()
        else:
            return stream
    return None
