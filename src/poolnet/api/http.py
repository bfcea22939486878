"""Who listens, and what becomes of a request? HTTP, HTTPS and the Unix socket of `poolnet-api` (spec §1.1).

The server's start makes one `HttpServer`, gives it a dispatcher and a runner of `xe` commands, and opens listeners. The
engine is aiohttp's low-level server: routes are few and fixed, and the thin command line takes its connection over.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import re
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from weakref import WeakSet

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from poolnet.api import jsonrpc, limits, xmlrpc
from poolnet.api.answer import (
    CONFIRM_HEADER,
    Answer,
    Codec,
    Dispatch,
    Download,
    DownloadRefused,
    Encoded,
    Origin,
    Refusal,
    Relayed,
    Request,
    Success,
)
from poolnet.api.budgets import Budgets
from poolnet.api.bytestream import ByteStream
from poolnet.api.caller_path import CallerConnection
from poolnet.api.fragments import encode_value
from poolnet.api.listener import Budget, Listener, Slot, bind_tcp, bind_unix
from poolnet.api.thincli import CliConnection, ClientGone, ThinClient, words_of
from poolnet.api.wire import Malformed, WireCall
from poolnet.pool.consoles import member_of
from poolnet.pool.peer_address import plain_address
from poolnet.xe.client import Client
from poolnet.xe.commands.run import CONFIRM_WITHIN_MAX_S

_log = structlog.get_logger("poolnet.api.http")

RunCli: TypeAlias = Callable[[Sequence[str], Client, Origin], Awaitable[None]]
"""Carries out the words of one `xe` command line, from parsing to Exit (xe-cli §1 steps 3 to 10)."""

PassOn: TypeAlias = Callable[[ByteStream], Awaitable[None]]
"""Has another host carry on a thin client's connection, from the greeting to the end."""

RelayCli: TypeAlias = Callable[[Sequence[str], Origin], PassOn | None]
"""Who carries out the words of a command line on another host; None for those that are for this one."""

_CORS: Final[Mapping[str, str]] = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "X-Requested-With",
    "Server": "poolnet",
}
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?: *, *[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_XML_PATHS: Final = frozenset(("/", "/RPC2", "/json"))  # /json too: spec §1.1, a quirk
_JSON_PATH: Final = "/jsonrpc"
_CLI_PATH: Final = "/cli"


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long a client may take, in seconds; see `limits` for the reasons. Tests take shorter ones."""

    body_s: float = limits.BODY_TIMEOUT_S
    keepalive_s: float = limits.KEEPALIVE_TIMEOUT_S
    handshake_s: float = limits.HANDSHAKE_TIMEOUT_S
    send_stall_s: float = limits.SEND_STALL_TIMEOUT_S
    shutdown_s: float = limits.SHUTDOWN_GRACE_S


class _Refused(Exception):
    """The request is refused on the level of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class HttpServer:
    """Answers calls and command lines on any number of listeners. Must be made inside a running event loop."""

    def __init__(
        self,
        dispatch: Dispatch,
        run_cli: RunCli,
        *,
        relay_cli: RelayCli | None = None,
        downloads: Mapping[str, Download] | None = None,
        budgets: Budgets | None = None,
        timeouts: Timeouts | None = None,
        connections_max: int = limits.CONNECTIONS_MAX,
        connections_reserved: int = limits.CONNECTIONS_RESERVED_LOCAL,
        connections_of_address: int = limits.CONNECTIONS_OF_ADDRESS_MAX,
    ) -> None:
        self._dispatch = dispatch
        self._run_cli = run_cli
        self._relay_cli = relay_cli
        self._downloads = downloads or {}
        self._budgets = budgets or Budgets()
        self._timeouts = timeouts or Timeouts()
        self._budget = Budget(connections_max, connections_reserved, connections_of_address)
        self._listeners: list[Listener] = []
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        self._closed = False
        # A client that hangs up cancels its call: `event.from` may wait for hours for nobody.
        self._engine = web.Server(self._answer, handler_cancellation=True)

    @property
    def connections(self) -> int:
        """How many connections there are, handshakes included."""
        return self._budget.used

    def listen_unix(self, path: Path, *, mode: int) -> None:
        """Serves local root on a Unix socket; `mode` of the file decides who may connect.

        Raises:
            OSError: the socket cannot be made.
        """
        self._listen(bind_unix(path, mode))

    def listen_tcp(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> int:
        """Serves HTTP, or HTTPS with a context of `tls`; gives the port, which matters if 0 was asked for.

        `host` is an address, or "" for all that this machine has.

        Raises:
            OSError: the port is taken or not allowed.
        """
        return self._listen(bind_tcp(host, port), tls=tls).port

    def _listen(self, listening: socket.socket, *, tls: ssl.SSLContext | None = None) -> Listener:
        listener = Listener(
            listening,
            self._connection,
            self._budget,
            tls=tls,
            handshake_timeout_s=self._timeouts.handshake_s,
            turn=self._budgets.turn_of,
        )
        self._listeners.append(listener)
        return listener

    async def close_tcp(self) -> None:
        """Listens on Unix sockets only; the connections that there are stay."""
        closing = [listener for listener in self._listeners if not listener.is_local]
        self._listeners = [listener for listener in self._listeners if listener.is_local]
        await asyncio.gather(*(listener.close() for listener in closing))

    def hang_up(self, allowed: Collection[str], *, after_s: float) -> None:
        """Ends connections to addresses that are not `allowed` ("" allows all); calls under way have that long."""
        if "" in allowed:
            return
        for transport in tuple(self._transports):
            own = transport.get_extra_info("sockname")
            if isinstance(own, tuple) and plain_address(str(own[0])) not in allowed:
                asyncio.get_running_loop().call_later(after_s, transport.abort)

    async def close(self, grace_s: float | None = None) -> None:
        """Accepts no more, lets running calls finish for a while, then drops what is left; closing twice is allowed.

        Args:
            grace_s: Another time than usual for the running calls, in seconds.
        """
        if self._closed:
            return
        self._closed = True
        await asyncio.gather(*(listener.close() for listener in self._listeners))
        self._engine.pre_shutdown()
        await self._engine.shutdown(self._timeouts.shutdown_s if grace_s is None else grace_s)

    def _connection(self, slot: Slot) -> _Connection:
        return _Connection(self._engine, slot, self._transports, keepalive_s=self._timeouts.keepalive_s)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request, whatever it is."""
        try:
            return await self._route(request)
        except _Refused as refused:
            return await self._send(
                request, (_page(refused.status, refused.reason),), "text/html", refused.status
            )

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path, method = request.path, request.method
        rpc = path in _XML_PATHS or path == _JSON_PATH
        if path in self._downloads:
            return await self._download(request, self._downloads[path])
        if not rpc and path != _CLI_PATH:
            raise _Refused(404, "Not Found")
        if method == "OPTIONS" and rpc:
            return _preflight(request)
        if method != "POST":
            raise _Refused(405, "Method Not Allowed")
        if path == _CLI_PATH:
            return await self._serve_cli(request)
        if path == _JSON_PATH:
            return await self._call_json(request)
        return await self._call_xml(request)

    async def _call_xml(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request, limits.RPC_BODY_BYTES_MAX)
        origin = _origin(request, body)
        await self._budgets.admit_request(origin.peer, len(body))
        try:
            call = xmlrpc.decode_call(body)
        except Malformed as error:
            raise _unparsable(error) from None
        answer = await self._carry_out(call, origin)
        if isinstance(answer, Relayed):
            return await self._send(request, (answer.body,), answer.content_type)
        if isinstance(answer, Refusal):
            pieces = [xmlrpc.encode_failure(answer.code, answer.params)]
        else:
            value = await self._value_pieces(Codec.XML, answer, origin)
            pieces = xmlrpc.success_pieces(value, bare=answer.bare)
        return await self._send(request, pieces, "text/xml", peer=origin.peer)

    async def _call_json(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await self._body(request, limits.RPC_BODY_BYTES_MAX)
        origin = _origin(request, body)
        await self._budgets.admit_request(origin.peer, len(body))
        try:
            call = jsonrpc.decode_call(body)
        except Malformed as error:
            raise _unparsable(error) from None
        answer = await self._carry_out(call.call, origin)
        if isinstance(answer, Relayed):
            return await self._send(request, (answer.body,), answer.content_type)
        if isinstance(answer, Success):
            value = await self._value_pieces(Codec.JSON, answer, origin)
            pieces: Iterable[bytes] = jsonrpc.success_pieces(call, value)
        elif answer.before_dispatch:
            pieces = (jsonrpc.encode_failure_before_dispatch(answer.code, answer.params),)
        else:
            pieces = (jsonrpc.encode_failure(call, answer.code, answer.params),)
        return await self._send(request, pieces, "application/json", peer=origin.peer)

    async def _carry_out(self, call: WireCall, origin: Origin) -> Answer:
        session = call.params[0] if call.params else ""
        await self._budgets.admit_call(origin.peer, session if isinstance(session, str) else "")
        return await self._dispatch.dispatch(call.method, call.params, origin)

    async def _value_pieces(self, codec: Codec, answer: Success, origin: Origin) -> Iterable[bytes]:
        """The pieces of an answer's value; a large one that is still to be encoded lets others have their turns."""
        value = answer.value
        if not isinstance(value, Encoded):
            return (encode_value(codec, answer.wire_type, value),)
        if value.shared is None:
            return value.pieces(codec)
        pieces = value.pieces(codec)

        async def make() -> Sequence[bytes]:
            return await self._in_slices(pieces, origin.peer)

        return await value.shared.get(codec, make)

    async def _in_slices(self, pieces: Iterable[bytes], peer: str) -> Sequence[bytes]:
        """Makes the pieces, a few in each turn, and joins them to larger ones; all in one would be copied in one go."""
        clock = asyncio.get_running_loop().time
        made: list[bytes] = []
        few: list[bytes] = []
        size, until = 0, clock() + limits.SLICE_S
        for piece in pieces:
            few.append(piece)
            size += len(piece)
            if size > limits.JOINED_BYTES:
                made.append(b"".join(few))
                few, size = [], 0
            if clock() > until:
                await self._budgets.turn(peer)
                until = clock() + limits.SLICE_S
        made.append(b"".join(few))
        return made

    async def _download(self, request: web.BaseRequest, download: Download) -> web.StreamResponse:
        """Answers a GET with what it asks for, as it comes."""
        if request.method != "GET":
            raise _Refused(405, "Method Not Allowed")
        origin = _origin(request, b"")
        await self._budgets.admit_request(origin.peer, 0)
        try:
            pieces = await download(request.query, origin)
        except DownloadRefused as refused:
            headers = {"Location": refused.location} if refused.location else {}
            if refused.status == 401:
                headers["WWW-Authenticate"] = 'Basic realm="poolnet"'
            response = web.Response(
                status=refused.status,
                body=_page(refused.status, refused.reason),
                content_type="text/html",
                headers={**_CORS, **headers},
            )
            response.force_close()
            return response
        stream = web.StreamResponse(headers=_CORS)
        stream.content_type = "application/octet-stream"
        stream.force_close()
        try:
            await self._before_stall(stream.prepare(request))
            async for piece in pieces:
                await self._before_stall(stream.write(piece))
            await self._before_stall(stream.write_eof())
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return stream

    async def _serve_cli(self, request: web.BaseRequest) -> web.StreamResponse:
        """Takes the connection over for the thin command line; it ends with the command."""
        body = await self._body(request, limits.CLI_BODY_BYTES_MAX, refusal=500)
        if request.headers.get("Transfer-Encoding"):
            raise _Refused(500, "Internal Server Error")
        transport, former = request.transport, request.protocol
        if transport is None:
            raise ConnectionResetError("the client hung up")
        origin = _origin(request, body)
        await self._budgets.admit_request(origin.peer, len(body))
        pass_on = self._relay_cli(words_of(body), origin) if self._relay_cli is not None else None
        if pass_on is not None:
            await pass_on(ByteStream.take_over(transport, former))
            return _TakenOver()
        connection = CliConnection.take_over(transport, former, stall_s=self._timeouts.send_stall_s)
        client = ThinClient(connection)
        try:
            if await client.greet():
                await self._run_cli(words_of(body), client, origin)
                await connection.linger()
        except ClientGone as gone:
            _log.debug("the thin client is gone", reason=str(gone))
        return _TakenOver()

    async def _body(self, request: web.BaseRequest, limit: int, *, refusal: int = 413) -> bytes:
        """Reads the body of a request.

        Raises:
            _Refused: there is none, it is longer than the limit, or it takes too long.
        """
        length = request.content_length
        if length is None and not request.headers.get("Transfer-Encoding"):
            raise _Refused(500 if refusal == 500 else 411, "Length Required")
        if length is not None and length > limit:
            raise _Refused(refusal, "Content Too Large")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        try:
            if length is not None and request.content.is_eof():  # most came together with their heads
                return request.content.read_nowait(length)
            async with asyncio.timeout(self._timeouts.body_s):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > limit:
                        raise _Refused(refusal, "Content Too Large")
        except TimeoutError:
            raise _Refused(408, "Request Timeout") from None
        except RequestPayloadError:
            raise _Refused(400, "Bad Request") from None
        return bytes(body)

    async def _send(
        self,
        request: web.BaseRequest,
        pieces: Iterable[bytes],
        content_type: str,
        status: int = 200,
        *,
        peer: str = "",
    ) -> web.StreamResponse:
        """Sends an answer: a big one in slices, so that it is never in memory twice, nor waits for ever."""
        pieces = list(pieces)
        ends = list(itertools.accumulate(map(len, pieces)))
        length = ends[-1] if ends else 0
        if length <= limits.SEND_SLICE_BYTES:
            return await self._send_whole(request, b"".join(pieces), content_type, status)
        response = web.StreamResponse(status=status, headers=_CORS)
        response.content_type = content_type
        response.content_length = length
        if status != 200:
            response.force_close()
        try:
            async with self._budgets.sending(peer, length):
                await self._before_stall(response.prepare(request))
                for number, slice_ in enumerate(_slices(pieces, ends)):
                    if number:
                        await self._budgets.turn(peer)
                    await self._before_stall(response.write(slice_))
                await self._before_stall(response.write_eof())
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _send_whole(
        self, request: web.BaseRequest, body: bytes, content_type: str, status: int
    ) -> web.StreamResponse:
        """Sends a small answer, its head and its body in one write."""
        response = web.Response(status=status, headers={**_CORS, "Content-Type": content_type}, body=body)
        if status != 200:
            response.force_close()
        try:
            async with asyncio.timeout(self._timeouts.send_stall_s):
                await response.prepare(request)
                await response.write_eof()
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _before_stall(self, sending: Awaitable[object]) -> None:
        async with asyncio.timeout(self._timeouts.send_stall_s):
            await sending


class _Connection(web.RequestHandler):
    """aiohttp's protocol, with our bounds, our pages, and quiet about what clients do wrong."""

    __slots__ = ("_slot", "_transports")

    def __init__(
        self, engine: web.Server, slot: Slot, transports: WeakSet[asyncio.Transport], *, keepalive_s: float
    ) -> None:
        super().__init__(
            engine,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=keepalive_s,
            access_log=None,  # type: ignore[arg-type]  # aiohttp says itself that None switches it off
            max_line_size=limits.HEADER_LINE_BYTES_MAX,
            max_field_size=limits.HEADER_LINE_BYTES_MAX,
            max_headers=limits.HEADERS_MAX,
            lingering_time=limits.LINGER_S,
            auto_decompress=False,  # no client compresses, and bombs do
        )
        self._slot = slot
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Starts serving; only what the system has taken counts as sent, so that every stall is seen."""
        if isinstance(transport, asyncio.WriteTransport):
            transport.set_write_buffer_limits(high=1, low=0)
        if isinstance(transport, asyncio.Transport):
            self._transports.add(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forgets the connection."""
        super().connection_lost(exc)
        self._slot.release()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Makes the answer to a request that aiohttp could not parse, or that failed by our fault."""
        if isinstance(exc, HttpProcessingError | RequestPayloadError):
            _log.debug("a request is not HTTP", reason=str(exc))
        elif isinstance(exc, ConnectionError):
            _log.debug("a client hung up before its answer", reason=str(exc))
        else:
            # As text: pretty tracebacks show local variables, and those hold passwords.
            _log.error("a request failed", traceback="".join(traceback.format_exception(exc)))
        if request.writer.output_size > 0:
            raise ConnectionError("half an answer is sent already")
        reason = "Bad Request" if status == 400 else "Internal Server Error"
        response = web.Response(
            status=status, body=_page(status, reason), content_type="text/html", headers=_CORS
        )
        response.force_close()
        return response


class _TakenOver(web.StreamResponse):
    """No answer: everything that there was to say went over the connection already."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Sends no head."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends no body."""


def _origin(request: web.BaseRequest, body: bytes) -> Origin:
    """Says where a request comes from, and keeps it for who passes it on."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client hung up")
    local = transport.get_extra_info("socket").family == socket.AF_UNIX
    headers: dict[str, str] = {}
    for name, text in request.headers.items():
        headers.setdefault(name.lower(), text)
    peer = "" if local else plain_address(str(transport.get_extra_info("peername")[0]))
    tls = transport.get_extra_info("sslcontext") is not None
    path = None if local else CallerConnection(transport.get_extra_info("socket"))
    within_s = _confirm_within(headers) if local else None
    return Origin(
        local_root=local,
        tls=tls,
        peer=peer,
        headers=headers,
        path=path,
        confirm_within_s=within_s,
        request=Request(request.path, body, within_s),
        member=member_of(transport.get_extra_info("socket")) if local else "",
        certificate=_shown(transport.get_extra_info("ssl_object")),
    )


def _shown(ssl_object: ssl.SSLObject | None) -> bytes | None:
    """The certificate that a client has shown; one that was not checked is none."""
    if ssl_object is None or ssl_object.context.verify_mode is ssl.CERT_NONE:
        return None
    return ssl_object.getpeercert(binary_form=True)


def _confirm_within(headers: Mapping[str, str]) -> float | None:
    """How long hosts are to wait for a confirmation, as a member passes it on; nonsense is nothing said."""
    with suppress(ValueError):
        seconds = float(headers.get(CONFIRM_HEADER, ""))
        if 0 <= seconds <= CONFIRM_WITHIN_MAX_S:
            return seconds
    return None


def _preflight(request: web.BaseRequest) -> web.StreamResponse:
    """Answers what a browser asks before it calls from another site's page."""
    response = web.Response(headers=_CORS)
    asked = request.headers.get("Access-Control-Request-Headers", "")
    if _HEADER_NAMES.fullmatch(asked):
        response.headers["Access-Control-Allow-Headers"] = f"{asked}, X-Requested-With"
    response.headers["Access-Control-Allow-Methods"] = "POST"
    return response


def _slices(pieces: Sequence[bytes], ends: Sequence[int]) -> Iterator[bytes | memoryview]:
    """Joins small pieces and cuts big ones into slices of a good size to write; `ends` says where each piece ends.

    Ten thousand pieces take as many steps of Python as there are slices, not pieces.
    """
    start = sent = 0
    while start < len(pieces):
        stop = bisect.bisect_left(ends, sent + limits.SEND_SLICE_BYTES, start) + 1
        if len(pieces[min(stop, len(pieces)) - 1]) > limits.SEND_SLICE_BYTES:
            stop = max(stop - 1, start + 1)
        group = pieces[start:stop]
        sent += sum(map(len, group))
        start = stop
        if len(group) == 1 and len(group[0]) > limits.SEND_SLICE_BYTES:
            view = memoryview(group[0])
            yield from (
                view[at : at + limits.SEND_SLICE_BYTES] for at in range(0, len(view), limits.SEND_SLICE_BYTES)
            )
        else:
            yield b"".join(group)


def _unparsable(error: Malformed) -> _Refused:
    _log.debug("a body cannot be parsed", reason=str(error))
    return _Refused(500, "Internal Server Error")


def _page(status: int, reason: str) -> bytes:
    """The HTML page of a refusal; it repeats nothing that the client sent."""
    return f"<html><body><h1>{status} {reason}</h1></body></html>\n".encode()
