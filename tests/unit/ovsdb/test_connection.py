"""The client against a real ovsdb-server; ovsdb-client is the second opinion."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from poolnet.ovsdb import operations
from poolnet.ovsdb.connection import Connection, ConnectionLost, OvsdbError, TransactionFailed
from poolnet.ovsdb.values import NewRow, RowId
from tests.waiting import listens, until

SCHEMA = """{"name": "Toy", "version": "1.0.0", "tables": {"Thing": {"isRoot": true, "indexes": [["name"]],
"columns": {"name": {"type": "string"},
  "size": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 100}, "min": 0, "max": 1}},
  "tags": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
  "notes": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}}}}"""
COLUMNS = {"Thing": ("name", "size", "tags", "notes")}


class Server:
    """One ovsdb-server with the toy database."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "db.sock"
        self._database = directory / "toy.db"
        self._directory = directory
        schema = directory / "toy.schema"
        schema.write_text(SCHEMA)
        subprocess.run(("ovsdb-tool", "create", str(self._database), str(schema)), check=True)
        self.process: asyncio.subprocess.Process

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            "ovsdb-server",
            str(self._database),
            f"--remote=punix:{self.socket}",
            f"--unixctl={self._directory}/ctl",
            stderr=subprocess.DEVNULL,
        )
        await until(lambda: listens(self.socket))

    async def stop(self) -> None:
        if self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()

    def dump(self) -> str:
        argv = ("ovsdb-client", "dump", f"unix:{self.socket}", "Toy", "Thing", "name", "size", "tags")
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Server]:
    server = Server(directory)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def with_server(directory: Path, body: Callable[[Server, Connection], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving(directory) as server:
            connection = await Connection.open(server.socket)
            try:
                await body(server, connection)
            finally:
                await connection.close()

    asyncio.run(run())


def thing(name: str, **columns: object) -> operations.Operation:
    return operations.insert("Thing", {"name": name, **columns}, NewRow(f"new_{name}"))  # type: ignore[dict-item]


def test_what_is_written_is_what_ovsdb_client_reads(tmp_path: Path) -> None:
    async def body(server: Server, connection: Connection) -> None:
        await connection.transact("Toy", [thing("a", size=7, tags=("x", "y")), thing("b")])
        table = server.dump()
        assert "a    7    [x, y]" in table
        assert "b    []   []" in table

    with_server(tmp_path, body)


def test_the_replica_has_an_update_before_the_transaction_answers(tmp_path: Path) -> None:
    async def body(_server: Server, connection: Connection) -> None:
        await connection.transact("Toy", [thing("old", size=1)])
        heard: list[int] = []
        replica = await connection.monitor(
            "Toy", COLUMNS, lambda touched: heard.append(len(touched["Thing"]))
        )
        (row_id, row), *_ = replica.rows("Thing").items()
        assert row["name"] == "old"
        assert heard == []
        for size in range(20):
            await connection.transact("Toy", [operations.update("Thing", row_id, {"size": size})])
            assert replica.rows("Thing")[row_id].get("size") == size
        await connection.transact(
            "Toy",
            [
                operations.add_to_set("Thing", row_id, "tags", ["x", "y"]),
                operations.remove_from_set("Thing", row_id, "tags", ["x"]),
                operations.update("Thing", row_id, {"notes": {"k": "v"}}),
            ],
        )
        assert replica.rows("Thing")[row_id]["tags"] == ("y",)
        assert replica.rows("Thing")[row_id]["notes"] == {"k": "v"}
        await connection.transact("Toy", [operations.delete("Thing", row_id)])
        assert not replica.rows("Thing")
        assert heard[0] == 1

    with_server(tmp_path, body)


def test_a_refused_operation_changes_nothing_and_is_named(tmp_path: Path) -> None:
    async def body(server: Server, connection: Connection) -> None:
        with pytest.raises(TransactionFailed) as failed:
            await connection.transact("Toy", [thing("a"), thing("b", size=1000)])
        assert failed.value.index == 1
        with pytest.raises(TransactionFailed) as duplicate:
            await connection.transact(
                "Toy", [thing("a"), operations.insert("Thing", {"name": "a"}, NewRow("x"))]
            )
        assert duplicate.value.code == "constraint violation"
        assert "a" not in server.dump().splitlines()[-1]

    with_server(tmp_path, body)


def test_a_requirement_that_does_not_hold_stops_the_transaction(tmp_path: Path) -> None:
    async def body(_server: Server, connection: Connection) -> None:
        await connection.transact("Toy", [thing("a", size=1)])
        replica = await connection.monitor("Toy", COLUMNS, lambda _: None)
        row_id = next(iter(replica.rows("Thing")))
        change = operations.update("Thing", row_id, {"size": 2})
        with pytest.raises(TransactionFailed):
            await connection.transact("Toy", [operations.require("Thing", row_id, {"size": 9}), change])
        await connection.transact("Toy", [operations.require("Thing", row_id, {"size": 1}), change])
        assert replica.rows("Thing")[row_id]["size"] == 2

    with_server(tmp_path, body)


def test_many_calls_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    async def body(_server: Server, connection: Connection) -> None:
        results = await asyncio.gather(
            *(connection.transact("Toy", [thing(f"t{i}", size=i % 100)]) for i in range(200)),
            connection.schema("Toy"),
        )
        assert len({str(result) for result in results}) == 201

    with_server(tmp_path, body)


def test_a_lock_goes_to_the_next_when_its_holder_leaves(tmp_path: Path) -> None:
    async def body(server: Server, connection: Connection) -> None:
        other = await Connection.open(server.socket)
        ours = asyncio.Event()
        assert await other.lock("leader", lambda _: None)
        assert not await connection.lock("leader", lambda held: ours.set() if held else None)
        await other.close()
        await asyncio.wait_for(ours.wait(), 5)
        await connection.unlock("leader")

    with_server(tmp_path, body)


def test_an_unknown_database_is_an_error_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def body(_server: Server, connection: Connection) -> None:
        with pytest.raises(OvsdbError):
            await connection.schema("Nothing")
        with pytest.raises(OvsdbError):
            await connection.monitor("Toy", {"Nothing": ("name",)}, lambda _: None)
        await connection.schema("Toy")

    with_server(tmp_path, body)


def test_a_server_that_dies_fails_every_call(tmp_path: Path) -> None:
    async def body(server: Server, connection: Connection) -> None:
        wait_forever = {
            "op": "wait",
            "table": "Thing",
            "timeout": 60000,
            "where": operations.where_row(RowId("00000000-0000-0000-0000-000000000000")),
            "columns": ["name"],
            "until": "!=",
            "rows": [],
        }
        waiting = asyncio.create_task(connection.transact("Toy", [wait_forever]))  # type: ignore[list-item]
        await connection.schema("Toy")  # so the other call has been sent
        await server.stop()
        with pytest.raises(ConnectionLost):
            await waiting
        await asyncio.wait_for(connection.wait_closed(), 5)
        with pytest.raises(ConnectionLost):
            await connection.schema("Toy")

    with_server(tmp_path, body)


def test_waiting_for_the_end_can_be_cancelled(tmp_path: Path) -> None:
    async def body(_server: Server, connection: Connection) -> None:
        waiting = asyncio.create_task(connection.wait_closed())
        await connection.schema("Toy")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await connection.schema("Toy")  # the connection did not notice

    with_server(tmp_path, body)
