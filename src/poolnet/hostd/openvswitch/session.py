"""What is in the switch's database, and how do we change it? One connection, kept alive, with a replica in memory.

`backend` owns it. When the database server goes away the last replica stays readable, and the session connects again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from poolnet.hostd.openvswitch.tables import COLUMNS, Tables, tables_of
from poolnet.ovsdb import operations
from poolnet.ovsdb.connection import Connection, ConnectionLost, OvsdbError, Touched
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.replica import Replica
from poolnet.ovsdb.values import Json

LOG = structlog.stdlib.get_logger("poolnet.hostd.openvswitch.session")
DATABASE = "Open_vSwitch"
RETRY_S = 0.2
OPEN_TIMEOUT_S = 30.0
AGAIN_TIMEOUT_S = 5.0  # a database server that restarts is back in a second
CONFIGURED_TIMEOUT_S = 60.0


class SwitchGone(Exception):
    """The switch's database cannot be reached, or the switch does not carry out what is in it."""


class Session:
    """The connection to a host's `Open_vSwitch` database."""

    def __init__(self, socket: Path, changed: Callable[[], None]) -> None:
        """`changed` is called after every update, and after every new connection."""
        self._socket = socket
        self._changed = changed
        self._connection: Connection | None = None
        self._replica: Replica | None = None
        self._tables: Tables | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connects; returns when the replica is filled. Raises SwitchGone."""
        self._task = asyncio.create_task(self._keep(), name="ovsdb-session")
        await self.until(lambda: self._replica is not None, OPEN_TIMEOUT_S, f"no database at {self._socket}")

    async def close(self) -> None:
        """Ends the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            await self._connection.close()

    def tables(self) -> Tables:
        """The database as it is now. Raises SwitchGone when it has never been reached."""
        if self._tables is None:
            if self._replica is None or not self._replica.rows("Open_vSwitch"):
                raise SwitchGone(f"the database at {self._socket} cannot be reached")
            self._tables = tables_of(self._replica)
        return self._tables

    async def connected(self) -> None:
        """Returns when there is a connection, so that `tables` is no old picture. Raises SwitchGone."""
        await self.until(
            lambda: self._connection is not None,
            AGAIN_TIMEOUT_S,
            f"the connection to the switch's database at {self._socket} is lost",
        )

    async def transact(self, changes: Sequence[Operation]) -> None:
        """Carries out the changes in one transaction and waits until the switch has done what they say.

        Raises TransactionFailed when the database refuses them (then nothing changed), or SwitchGone.
        """
        root = self.tables().root
        if self._connection is None:
            raise SwitchGone("the connection to the switch's database is lost")
        program = [
            *changes,
            operations.mutate("Open_vSwitch", root, [("next_cfg", "+=", 1)]),
            operations.select("Open_vSwitch", root, ["next_cfg"]),
            operations.comment("poolnet-hostd"),
        ]
        try:
            results = await self._connection.transact(DATABASE, program)
        except (ConnectionLost, TimeoutError) as error:
            raise SwitchGone(f"the switch's database did not answer: {error}") from error
        number = _next_cfg(results[len(changes) + 1])
        await self.until(
            lambda: self.tables().cur_cfg >= number,
            CONFIGURED_TIMEOUT_S,
            "the switch does not carry out what is in its database; is ovs-vswitchd running?",
        )

    async def until(self, holds: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
        """Returns as soon as a condition on the replica holds. Raises SwitchGone with the text after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                while not holds():
                    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.add(future)
                    try:
                        await future
                    finally:
                        self._waiting.discard(future)
        except TimeoutError as error:
            raise SwitchGone(otherwise) from error

    async def _keep(self) -> None:
        while True:
            try:
                connection = await Connection.open(self._socket)
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            try:
                self._replica = await connection.monitor(DATABASE, COLUMNS, self._updated)
                self._connection = connection
                self._updated({})
                await connection.wait_closed()
            except (ConnectionLost, OvsdbError, TimeoutError) as error:
                LOG.warning("the switch's database failed", error=str(error))
                await asyncio.sleep(RETRY_S)
            finally:
                self._connection = None
                await connection.close()
            LOG.warning("the connection to the switch's database is lost", socket=str(self._socket))

    def _updated(self, _touched: Touched) -> None:
        self._tables = None
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._changed()


def _next_cfg(result: Json) -> int:
    rows = result.get("rows") if isinstance(result, dict) else None
    number = (
        rows[0].get("next_cfg") if isinstance(rows, list) and rows and isinstance(rows[0], dict) else None
    )
    if not isinstance(number, int):
        raise OvsdbError("protocol", "the database does not say which configuration is next")
    return number
