"""How does one speak to an OVSDB server? (RFC 7047 §4, with the monitor_cond_since extension of Open vSwitch).

One connection, over a Unix socket or TLS, for any number of concurrent callers. It does not reconnect: when it is lost, every
waiting call raises ConnectionLost, `wait_closed` returns, and whoever owns it opens another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import TypeAlias

import msgspec

from poolnet.ovsdb.framing import MessageStream
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.replica import Replica
from poolnet.ovsdb.values import Json, MalformedError, RowId

READ_BYTES = 1024 * 1024
CALL_TIMEOUT_S = 30.0
NO_TRANSACTION = "00000000-0000-0000-0000-000000000000"  # monitor from the beginning

Touched: TypeAlias = "Mapping[str, set[RowId]]"


class OvsdbError(Exception):
    """The server answered a call with an error. `code` is its error word, as in RFC 7047 §3.1."""

    def __init__(self, code: str, details: str) -> None:
        super().__init__(f"{code}: {details}" if details else code)
        self.code = code
        self.details = details


class TransactionFailed(OvsdbError):
    """The transaction was not carried out; `index` is the operation at fault (their number for a failed commit)."""

    def __init__(self, code: str, details: str, index: int) -> None:
        super().__init__(code, details)
        self.index = index


class ConnectionLost(ConnectionError):
    """The connection to the server ended before the call was answered; a transaction may have been carried out."""


class Connection:
    """A connection to one OVSDB server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ids = count(1)
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._filling: dict[int, Replica] = {}  # by the id of the call whose answer is the first content
        self._monitors: dict[str, tuple[Replica, Callable[[Touched], None]]] = {}
        self._locked: dict[str, Callable[[bool], None]] = {}
        self._lost: str | None = None
        self._task = asyncio.create_task(self._read(), name="ovsdb-connection")

    @classmethod
    async def open(cls, socket: Path) -> Connection:
        """Connects to the server's Unix socket. Raises OSError."""
        reader, writer = await asyncio.open_unix_connection(str(socket))
        return cls(reader, writer)

    @classmethod
    async def open_tls(
        cls, address: str, port: int, context: ssl.SSLContext, accepts: Callable[[asyncio.StreamWriter], bool]
    ) -> Connection:
        """Connects by TLS to a server whose side of the connection `accepts` agrees with. Raises OSError."""
        reader, writer = await asyncio.open_connection(address, port, ssl=context, ssl_shutdown_timeout=1.0)
        if not accepts(writer):
            writer.close()
            raise ConnectionRefusedError(f"{address} port {port} is not the server that was expected")
        return cls(reader, writer)

    @property
    def alive(self) -> bool:
        """Whether the connection has not ended yet."""
        return self._lost is None

    async def close(self) -> None:
        """Ends the connection; calls that wait raise ConnectionLost."""
        self._task.cancel()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Returns when the connection has ended, for whatever reason."""
        await asyncio.wait((self._task,))

    async def call(self, method: str, params: Sequence[Json], timeout_s: float = CALL_TIMEOUT_S) -> Json:
        """Sends a request and returns its result.

        Raises ConnectionLost, TimeoutError, or OvsdbError with the server's error.
        """
        return await self._call(next(self._ids), method, params, timeout_s)

    async def _call(self, call_id: int, method: str, params: Sequence[Json], timeout_s: float) -> Json:
        if self._lost is not None:
            raise ConnectionLost(self._lost)
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        try:
            self._writer.write(msgspec.json.encode({"method": method, "params": params, "id": call_id}))
            async with asyncio.timeout(timeout_s):
                await self._writer.drain()
                return await future
        except ConnectionError as error:
            raise ConnectionLost(str(error)) from error
        finally:
            self._waiting.pop(call_id, None)
            if not future.cancel() and not future.cancelled():
                future.exception()  # else one that came together with another failure is complained about

    async def schema(self, database: str) -> Json:
        """The schema of a database. Raises as `call`."""
        return await self.call("get_schema", [database])

    async def transact(
        self, database: str, operations: Sequence[Operation], timeout_s: float = CALL_TIMEOUT_S
    ) -> list[Json]:
        """Carries out the operations, all or none, and returns their results.

        Raises TransactionFailed when one is refused or the commit is, else as `call`.
        """
        results = await self.call("transact", [database, *operations], timeout_s)
        if not isinstance(results, list):
            raise OvsdbError("protocol", "the result of a transaction is no list")
        for index, result in enumerate(results):
            if isinstance(result, dict) and "error" in result:
                raise TransactionFailed(str(result["error"]), str(result.get("details", "")), index)
        return results

    async def monitor(
        self, database: str, columns: Mapping[str, Sequence[str]], changed: Callable[[Touched], None]
    ) -> Replica:
        """Keeps a replica of these columns of these tables; returns it filled.

        `changed` is called after every update with the rows that it touched, and not for the first content.
        An update caused by a transaction arrives before the transaction's own answer. Raises as `call`.
        """
        replica = Replica(await self.schema(database))
        call_id = next(self._ids)
        name = f"monitor{call_id}"
        requests: dict[str, Json] = {table: [{"columns": list(names)}] for table, names in columns.items()}
        self._monitors[name] = (replica, changed)
        self._filling[call_id] = replica
        try:
            await self._call(
                call_id, "monitor_cond_since", [database, name, requests, NO_TRANSACTION], CALL_TIMEOUT_S
            )
        except BaseException:
            del self._monitors[name]
            raise
        finally:
            del self._filling[call_id]
        return replica

    async def lock(self, name: str, changed: Callable[[bool], None]) -> bool:
        """Asks for the server's lock of that name; True when it is ours at once.

        `changed(True)` is called when it becomes ours later, `changed(False)` when another client steals it.
        """
        self._locked[name] = changed
        result = await self.call("lock", [name])
        return isinstance(result, dict) and result.get("locked") is True

    async def unlock(self, name: str) -> None:
        """Gives the lock back, or stops waiting for it."""
        await self.call("unlock", [name])
        self._locked.pop(name, None)

    async def _read(self) -> None:
        stream = MessageStream()
        reason = "the server closed the connection"
        try:
            while chunk := await self._reader.read(READ_BYTES):
                for message in stream.feed(chunk):
                    self._receive(msgspec.json.decode(message, type=dict))
        except asyncio.CancelledError:
            reason = "the connection was closed"
            raise
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            reason = f"the connection broke: {error}"
        finally:
            self._lost = reason
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionLost(reason))
            self._writer.close()

    def _receive(self, message: dict[str, Json]) -> None:
        method = message.get("method")
        if method is None:
            self._receive_answer(message)
            return
        params = message.get("params")
        if not isinstance(params, list):
            raise MalformedError("a request without parameters")
        match method:
            case "echo":
                self._writer.write(
                    msgspec.json.encode({"result": params, "error": None, "id": message.get("id")})
                )
            case "update3" if len(params) == 3 and str(params[0]) in self._monitors:
                replica, changed = self._monitors[str(params[0])]
                changed(replica.apply(params[2]))
            case "locked" | "stolen" if params and str(params[0]) in self._locked:
                self._locked[str(params[0])](method == "locked")

    def _receive_answer(self, message: dict[str, Json]) -> None:
        call_id = message.get("id")
        future = self._waiting.get(call_id) if isinstance(call_id, int) else None
        error = message.get("error")
        result = message.get("result")
        if error is None and isinstance(call_id, int) and (replica := self._filling.get(call_id)) is not None:
            # Now, and not when the caller runs again: the next message may already change it.
            replica.apply(result[2] if isinstance(result, list) and len(result) == 3 else None)
        if future is None or future.done():
            return
        if isinstance(error, dict):
            future.set_exception(OvsdbError(str(error.get("error")), str(error.get("details", ""))))
        elif error is not None:
            future.set_exception(OvsdbError(str(error), ""))
        else:
            future.set_result(result)
