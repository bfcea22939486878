"""How does the server talk to the thin client `xe` after its POST /cli (xe-cli §11)? `http` asks.

The client's request gets no HTTP answer: the connection is taken over, and both sides speak frames. Here are the frames,
the protocol that replaces aiohttp's on the connection, and `ThinClient`, which the commands see as their `Client`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from poolnet.api.limits import (
    CLI_BUFFER_BYTES,
    CLI_CHUNKS_MAX,
    CLI_FRAME_BYTES_MAX,
    CLI_HELLO_TIMEOUT_S,
    CLI_LOAD_BYTES_MAX,
    CLI_PROMPT_BYTES_MAX,
    CLI_TRANSFER_QUIET_S,
    CLI_WAITS_MAX,
    LINGER_S,
)
from poolnet.xe.client import LoadRefused
from poolnet.xe.refusals import Refused

MAGIC: Final = b"XenSource thin CLI protocol"
MAJOR: Final = 0
MINOR: Final = 2
_VERSION: Final = struct.Struct("<ii")
HELLO: Final = MAGIC + _VERSION.pack(MAJOR, MINOR)

_COMMAND, _RESPONSE, _BLOB = 9, 10, 11
_PRINT, _LOAD, _PROMPT, _EXIT, _HTTP_GET, _ERROR, _PRINT_STDERR = 0, 1, 3, 4, 12, 14, 16
_OK, _FAILED, _WAIT = 5, 6, 18
_CHUNK, _END = 7, 8
_INT: Final = struct.Struct("<i")
_PRINT_BYTES: Final = (
    16_000  # the C# client loses data of strings that come in more than two TLS records (§11.5)
)

_MAJOR_REFUSED: Final = (
    b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
)


class ClientGone(ConnectionError):
    """The client hung up, broke the protocol, or reads nothing any more."""


def words_of(body: bytes) -> tuple[str, ...]:
    """Cuts the body of a request into words: one a line, a trailing carriage return dropped (xe-cli §1).

    Bytes that are no UTF-8 stay in the words as surrogates, so that the call that gets them refuses them.
    """
    return tuple(line.removesuffix("\r") for line in body.decode(errors="surrogateescape").split("\n"))


class CliConnection(asyncio.Protocol):
    """The connection's protocol from the take-over on: a byte stream with bounds.

    Nothing may be sent to the server but what it asked for: more than a frame's worth of unread bytes while nobody
    reads ends the connection. `former` is the HTTP protocol, which is told when the connection is lost so that it
    forgets it, and cancels the handler.
    """

    def __init__(self, transport: asyncio.Transport, former: asyncio.Protocol, *, stall_s: float) -> None:
        self._transport = transport
        self._former = former
        self._stall_s = stall_s
        self._received = bytearray()
        self._lost = False
        self._reading: asyncio.Future[None] | None = None
        self._wanted = 0
        self._discarding = False
        self._sending: asyncio.Future[None] | None = None

    @classmethod
    def take_over(
        cls, transport: asyncio.Transport, former: asyncio.Protocol, *, stall_s: float
    ) -> CliConnection:
        """Takes a connection from the protocol that served it; a client may read nothing for `stall_s` seconds."""
        connection = cls(transport, former, stall_s=stall_s)
        transport.set_protocol(connection)
        # Only an empty buffer is sent: otherwise the last bytes for a client that does not read would keep it open.
        transport.set_write_buffer_limits(high=1, low=0)
        transport.resume_reading()
        return connection

    def data_received(self, data: bytes) -> None:
        """Keeps what the client sent, for `read`."""
        if self._discarding:
            return
        self._received += data
        if self._wanted == 0 and len(self._received) > CLI_FRAME_BYTES_MAX:
            self._transport.abort()
        elif len(self._received) >= self._wanted:
            self._wake_reader()
            if len(self._received) > CLI_BUFFER_BYTES:
                self._transport.pause_reading()

    def eof_received(self) -> None:
        """The client closed its side: it is gone, so asyncio may close ours."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Wakes whoever waits, and lets the HTTP server forget the connection."""
        self._lost = True
        self._wake_reader()
        self._wake_sender()
        self._former.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self._sending = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """All is sent."""
        self._wake_sender()

    def _wake_reader(self) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(None)

    def _wake_sender(self) -> None:
        if self._sending is not None and not self._sending.done():
            self._sending.set_result(None)
        self._sending = None

    async def read(self, size: int) -> bytes:
        """Waits for this many bytes.

        Raises:
            ClientGone: the connection ended first.
        """
        self._wanted = size
        try:
            while len(self._received) < size:
                if self._lost:
                    raise ClientGone("the client hung up")
                self._reading = asyncio.get_running_loop().create_future()
                self._transport.resume_reading()
                await self._reading
        finally:
            self._wanted = 0
            self._reading = None
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def discard_input(self) -> None:
        """Throws away what the client still sends, so that it comes to read why."""
        self._discarding = True
        self._received.clear()
        self._transport.resume_reading()

    async def linger(self) -> None:
        """Gives a client that still sends a little time to read the end: closing at once would reset its connection."""
        if self._discarding:
            with contextlib.suppress(TimeoutError, ClientGone):
                async with asyncio.timeout(LINGER_S):
                    await self.read(1)

    async def write(self, data: bytes) -> None:
        """Sends bytes, and waits until the system has taken them all.

        Raises:
            ClientGone: the connection has ended, or the client does not read.
        """
        if self._lost or self._transport.is_closing():
            raise ClientGone("the client hung up")
        self._transport.write(data)
        if self._sending is None:
            return
        try:
            async with asyncio.timeout(self._stall_s):
                await self._sending
        except TimeoutError:
            self._transport.abort()
            raise ClientGone("the client does not read") from None
        if self._lost:
            raise ClientGone("the client hung up")


class ThinClient:
    """The thin client at the other end, as the commands see it (`xe.client.Client`)."""

    def __init__(self, connection: CliConnection) -> None:
        self._connection = connection

    async def greet(self) -> bool:
        """Exchanges the headers; False if the client speaks another major version, which has been told so.

        Raises:
            ClientGone: it hung up, sent something else, or nothing for too long.
        """
        await self._connection.write(HELLO)
        try:
            async with asyncio.timeout(CLI_HELLO_TIMEOUT_S):
                hello = await self._connection.read(len(HELLO))
        except TimeoutError:
            raise ClientGone("the client does not greet") from None
        if not hello.startswith(MAGIC):
            raise ClientGone("not a thin client")
        major, _ = _VERSION.unpack(hello[len(MAGIC) :])
        if major != MAJOR:
            await self._connection.write(_MAJOR_REFUSED)
            return False
        return True

    async def print(self, text: str) -> None:
        """Lets the client write a text and a newline to stdout."""
        for part in _printable_parts(text):
            await self._command(_PRINT, _string(part))

    async def print_error(self, text: str) -> None:
        """Lets the client write a text to stderr as it is."""
        await self._command(_PRINT_STDERR, _string(text.encode(errors="replace")))

    async def error(self, code: str, params: Sequence[str]) -> None:
        """Lets the client write "Error code: …" and "Error parameters: …" to stderr."""
        strings = b"".join(_string(param.encode(errors="replace")) for param in params)
        await self._command(_ERROR, _string(code.encode(errors="replace")) + _INT.pack(len(params)) + strings)

    async def prompt(self) -> str:
        """Asks for one line of stdin.

        Raises:
            ClientGone: the client hung up, or answered something else.
        """
        await self._command(_PROMPT)
        return (await self._blob(CLI_PROMPT_BYTES_MAX)).decode(errors="replace")

    async def load(self, name: str) -> bytes:
        """Reads a file of the client.

        Raises:
            LoadRefused: the client cannot or may not read it.
            Refused: the file is larger than the limit; the rest of it makes the connection useless.
            ClientGone: the client hung up, or answered something else.
        """
        await self._command(_LOAD, _string(name.encode(errors="replace")))
        kind, tag, _ = await self._frame()
        if (kind, tag) == (_RESPONSE, _FAILED):
            raise LoadRefused(name)
        if (kind, tag) != (_RESPONSE, _OK):
            raise ClientGone("neither OK nor Failed")
        return await self._blob(CLI_LOAD_BYTES_MAX)

    async def download(self, name: str, url: str) -> bool:
        """Lets the client fetch a URL into a file; says whether it could.

        Raises:
            ClientGone: the client hung up, answered something else, or does not say for too long that it goes on.
        """
        frame = _string(name.encode(errors="replace")) + _string(url.encode(errors="replace"))
        await self._command(_HTTP_GET, frame)
        for _ in range(CLI_WAITS_MAX):
            try:
                async with asyncio.timeout(CLI_TRANSFER_QUIET_S):
                    kind, tag, _ = await self._frame()
            except TimeoutError:
                raise ClientGone("the client does not say what becomes of its transfer") from None
            if kind != _RESPONSE or tag not in (_OK, _FAILED, _WAIT):
                raise ClientGone("neither OK nor Failed")
            if tag != _WAIT:
                return tag == _OK
            await asyncio.sleep(0)  # others have their turns
        raise ClientGone("the client only says that it goes on")

    async def exit(self, code: int) -> None:
        """Ends the session; the client obeys the first exit code that it gets."""
        await self._command(_EXIT, _INT.pack(code))

    async def _command(self, tag: int, body: bytes = b"") -> None:
        """Sends a frame in one write."""
        payload = _INT.pack(_COMMAND) + _INT.pack(tag) + body
        await self._connection.write(_INT.pack(len(payload)) + payload)

    async def _frame(self) -> tuple[int, int, bytes]:
        """Reads a frame: class, tag, and the rest."""
        (size,) = _INT.unpack(await self._connection.read(_INT.size))
        if not 2 * _INT.size <= size <= CLI_FRAME_BYTES_MAX:
            raise ClientGone("a frame of an impossible size")
        payload = await self._connection.read(size)
        return (*_VERSION.unpack(payload[: _VERSION.size]), payload[_VERSION.size :])

    async def _blob(self, limit: int) -> bytes:
        """Reads chunks until the end of a blob; the data follow each chunk's frame, outside of it."""
        blob = bytearray()
        for _ in range(CLI_CHUNKS_MAX):
            kind, tag, rest = await self._frame()
            if (kind, tag) == (_BLOB, _END):
                return bytes(blob)
            if (kind, tag) != (_BLOB, _CHUNK) or len(rest) != _INT.size:
                raise ClientGone("not a blob")
            (size,) = _INT.unpack(rest)
            if size < 0 or len(blob) + size > limit:
                self._connection.discard_input()
                raise Refused(
                    f"Fatal error: A CLI client tried to transfer more than the maximum allowed of {limit}B, aborting."
                )
            blob += await self._connection.read(size)
        raise ClientGone("a file in too many pieces")


def _string(content: bytes) -> bytes:
    return _INT.pack(len(content)) + content


def _printable_parts(text: str) -> Iterator[bytes]:
    """Cuts a long text at newlines; the client adds the one after each part again."""
    rest = text.encode(errors="replace")
    while len(rest) > _PRINT_BYTES:
        end = rest.rfind(b"\n", 0, _PRINT_BYTES)
        if end < 0:
            end = rest.find(b"\n", _PRINT_BYTES)
        if end < 0:
            break
        yield rest[:end]
        rest = rest[end + 1 :]
    yield rest
