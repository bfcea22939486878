"""How fast is the database beside what the disk and Python themselves need? `make bench` prints it.

Every result is a dict with name, value, unit, floor (the same, measured on the bare tool) and ratio (how many times
more time than the floor it takes; below 1 is faster).
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypedDict

from poolnet.db.body import encode_body
from poolnet.db.changes import Changes
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.types import NULL, Ref
from poolnet.pool.audit_entry import SUCCESS, Audited, Decided, entry_of
from poolnet.pool.audit_log import AuditLog

COMMITS: Final = 1_000
ROWS: Final = 10_000
ROUNDS: Final = 3
"""Ours and the floor take turns; the medians are compared, since the disk has moods."""


class Result(TypedDict):
    """One line of the benchmark."""

    name: str
    value: float
    unit: str
    floor: float
    ratio: float


def bench_commit_rate() -> list[Result]:
    """Measures durable commits of one new row each: one after the other, and 100 callers at a time.

    The floor of both is one sqlite transaction after the other, of the same rows, in the same mode.
    """
    floors, sequential, concurrent = [], [], []
    logged_alone, logged = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as directory:
            floors.append(COMMITS / _raw_sqlite(Path(directory)))
        sequential.append(COMMITS / _with_database(lambda database: _commit_all(database, callers=1)))
        concurrent.append(COMMITS / _with_database(lambda database: _commit_all(database, callers=100)))
        logged_alone.append(COMMITS / _with_log(callers=1))
        logged.append(COMMITS / _with_log(callers=100))
    floor = statistics.median(floors)
    return [
        _rate("commits, one caller", statistics.median(sequential), floor),
        _rate("commits, one caller, each in the audit log", statistics.median(logged_alone), floor),
        _rate("commits, 100 callers", statistics.median(concurrent), floor),
        _rate("commits, 100 callers, each in the audit log", statistics.median(logged), floor),
    ]


def bench_audit() -> Result:
    """Measures the processor time of a commit that is in the audit log, of 100 callers at a time, against one that is not.

    The disk does not count, and the least of several rounds is taken: what else the machine does is not in it.
    """
    plain, logged = [], []
    for _ in range(2 * ROUNDS):
        plain.append(
            _with_database(lambda database: _commit_all(database, callers=100, clock=time.process_time))
        )
        logged.append(_with_log(callers=100, clock=time.process_time))
    value, floor = (min(seconds) / COMMITS * 1e6 for seconds in (logged, plain))
    name = "processor time of a commit, 100 callers, each in the audit log"
    return Result(name=name, value=value, unit="µs", floor=floor, ratio=value / floor)


def bench_fragments() -> list[Result]:
    """Measures joining 10,000 kept fragments against joining the same bytes from a list."""
    database = Database.open(MemoryEngine())
    txn = database.begin()
    network = txn.create(Network(ref=_ref(), uuid=str(uuid.uuid4())))
    for number in range(ROWS):
        txn.create(_vif(network, number))
    database.commit_now(txn.changes())
    listing = [fragment for _, fragment in database.fragments(VIF, "bench", encode_body)]
    ours = _best(lambda: b"".join([each for _, each in database.fragments(VIF, "bench", encode_body)]))
    floor = _best(lambda: b"".join(listing))
    looked_up = _best(lambda: database.view.where(VIF, network=network))
    walked = _best(lambda: [database.view.find(VIF, ref) for ref in database.view.refs(VIF)])
    database.close()
    return [
        _time("10,000 kept fragments, joined", ours, floor),
        _time("10,000 rows by reference", looked_up, walked),
    ]


def _raw_sqlite(directory: Path) -> float:
    """Gives the seconds that the bare engine needs for all rows."""
    connection = sqlite3.connect(directory / "floor.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE object (id INTEGER PRIMARY KEY, class TEXT, ref TEXT UNIQUE, body TEXT)")
    rows = [_vif(NULL, number) for number in range(COMMITS)]
    values = [("VIF", row.ref, encode_body(row).decode()) for row in rows]
    start = time.perf_counter()
    for each in values:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO object (class, ref, body) VALUES (?, ?, ?)", each)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def _with_database(body: Callable[[Database], float]) -> float:
    """Runs a measurement on a fresh database."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(SqliteEngine(Path(directory) / "bench.db"))
        try:
            return body(database)
        finally:
            database.close()


def _with_log(callers: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The same with a note for each commit, and with who writes the log beside it, as in the server."""
    with tempfile.TemporaryDirectory() as directory:
        database = Database.open(SqliteEngine(Path(directory) / "bench.db"))
        try:
            return _commit_all(database, callers, Path(directory) / "audit", clock)
        finally:
            database.close()


def _commit_all(
    database: Database,
    callers: int,
    log_directory: Path | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Gives the seconds that some callers together need for all rows, each waiting for its commits in turn."""
    audited = Audited(method="VIF.create", arguments={}, subject="root", address="192.0.2.1")
    writes: list[Changes] = []
    for number in range(COMMITS):
        txn = database.begin()
        txn.create(_vif(NULL, number))
        writes.append(txn.changes())

    async def caller(share: list[Changes]) -> None:
        for changes in share:
            if log_directory is None:
                await database.commit(changes)
                continue
            decided = Decided(changes=changes)
            note = entry_of(audited, SUCCESS, decided=decided, view=database.view)
            await database.commit(changes, [note])

    async def everybody() -> float:
        if log_directory is not None:
            log = AuditLog(log_directory, database)
            log.open()
            writing.append(asyncio.create_task(log.follow()))
        start = clock()
        await asyncio.gather(*(caller(writes[first::callers]) for first in range(callers)))
        return clock() - start

    writing: list[asyncio.Task[None]] = []
    return asyncio.run(everybody())


def _vif(network: Ref[Network], number: int) -> VIF:
    return VIF(
        ref=_ref(),
        uuid=str(uuid.uuid4()),
        network=network,
        device=str(number),
        MAC="02:00:00:00:00:01",
        MTU=1500,
    )


def _ref() -> Ref[object]:
    return Ref(f"OpaqueRef:{uuid.uuid4()}")


def _best(body: Callable[[], object]) -> float:
    """Gives the least milliseconds of ten runs."""
    times = []
    for _ in range(10):
        start = time.perf_counter()
        body()
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def _rate(name: str, value: float, floor: float) -> Result:
    return Result(name=name, value=value, unit="commits/s", floor=floor, ratio=floor / value)


def _time(name: str, value: float, floor: float) -> Result:
    return Result(name=name, value=value, unit="ms", floor=floor, ratio=value / floor)


if __name__ == "__main__":
    for result in (*bench_commit_rate(), *bench_fragments()):
        print(result)
