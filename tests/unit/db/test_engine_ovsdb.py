"""The engine on clusters of real servers: whose turn it is, and what becomes of a commit when servers die."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from poolnet.db import ovsdb_transactions as words
from poolnet.db.database import Database
from poolnet.db.engine import CommitRecord, LogHead, Note, Stored, StoredRow
from poolnet.db.engine_ovsdb import OvsdbEngine, read_from, seed
from poolnet.db.errors import SchemaTooNew, StorageFailed
from poolnet.db.ovsdb_schema import DATABASE, NOTE, STATE, STATE_ROW, merged_schema, schema
from poolnet.db.ovsdb_transactions import Turn
from poolnet.db.seat import NoMajority, Seat
from poolnet.model.classes.network import Network
from poolnet.ovsdb.connection import ConnectionLost, TransactionFailed
from poolnet.ovsdb.operations import Operation, insert_as, require, select_all
from poolnet.ovsdb.values import Value
from tests.unit.db.clusters import Cluster, cluster, seed_anew
from tests.unit.db.rows import a_network, a_ref, create
from tests.waiting import eventually

EMPTY = Stored(rows=(), deletions=(), ceiling=0)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("three") / "c", 3) as made:
        yield made


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "c", 1) as made:
        yield made


class Rivals:
    """Two hosts that want to coordinate one cluster."""

    def __init__(self, of: Cluster) -> None:
        self.heard: list[Turn] = []
        self.first = of.seat("first")
        seed_anew(self.first)
        eventually(lambda: self.first.is_ours, "nobody claims a term")
        self.second = of.seat("second", self.heard.append)
        eventually(lambda: self.second.turn is not None, "the other does not hear")

    def close(self) -> None:
        self.first.close()
        self.second.close()


@pytest.fixture
def rivals(three: Cluster) -> Iterator[Rivals]:
    made = Rivals(three)
    yield made
    made.close()


def names(database: Database) -> list[str]:
    return [row.name_label for row in database.view.all(Network)]


def test_the_lock_decides_and_its_end_begins_the_next_term(rivals: Rivals) -> None:
    engine = OvsdbEngine(rivals.first)
    database = Database.open(engine)
    create(database, a_network("kept"))
    assert rivals.second.term == 0
    turn = rivals.second.turn
    assert turn is not None
    assert (turn.holder, turn.address, turn.term) == ("first", "at first", engine.term)
    rivals.first.close()
    eventually(lambda: rivals.second.term > 0, "nobody takes the place")
    again = Database.open(OvsdbEngine(rivals.second))
    assert names(again) == ["kept"]
    assert rivals.second.term > turn.term
    assert rivals.heard[-1].holder == "second"
    again.close()


def test_a_coordinator_whose_term_is_over_cannot_write(rivals: Rivals) -> None:
    """Also when it still has a lock: of two servers that both think that they lead, for example."""
    ended = threading.Event()
    database = Database.open(OvsdbEngine(rivals.first, ended.set))
    create(database, a_network("before"))
    seat = rivals.second
    turn = rivals.first.turn
    assert turn is not None
    usurped = [operation for operation in words.claim(turn, "second", "") if operation["op"] != "assert"]
    usurped[0]["rows"] = [{"ready": True, "term": turn.term, "number": 1}]
    seat.do(seat.transact(usurped))
    with pytest.raises(StorageFailed):
        create(database, a_network("after"))
    assert ended.wait(10)
    with pytest.raises(StorageFailed):
        create(database, a_network("later"))
    database.close()
    stored, _ = read_from(seat)
    assert [b'"before"' in row.body for row in stored.rows] == [True]


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_lost_answer_is_found_out(
    alone: Cluster, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    """The connection breaks after the server has the transaction, or before."""
    seat = alone.seat("first")
    seed(seat, EMPTY, "line", 0)
    database = Database.open(OvsdbEngine(seat))
    connection = seat.do(seat.leader(10))
    transact = connection.transact
    sent = []

    async def broken(name: str, work: list[Operation], timeout_s: float = 30) -> object:
        if any(operation["op"] == "insert" for operation in work):
            sent.append(work)
            if carried_out:
                await transact(name, work, timeout_s)
            monkeypatch.undo()
            await connection.close()
            raise ConnectionLost("the cable")
        return await transact(name, work, timeout_s)

    monkeypatch.setattr(connection, "transact", broken)
    create(database, a_network("once"))
    create(database, a_network("then"))
    assert len(sent) == 1
    database.close()
    again = Database.open(OvsdbEngine(seat))
    assert names(again) == ["once", "then"]
    again.close()
    seat.close()


@pytest.mark.parametrize("carried_out", [True, False])
def test_a_commit_that_another_overtook_is_neither_denied_nor_made_up(
    rivals: Rivals, monkeypatch: pytest.MonkeyPatch, carried_out: bool
) -> None:
    """The answer is lost, and before it can be asked for, another host has the next term and commits."""
    database = Database.open(OvsdbEngine(rivals.first))
    connection = rivals.first.do(rivals.first.leader(10))
    transact = connection.transact

    async def broken(name: str, work: list[Operation], timeout_s: float = 30) -> object:
        if any(operation["op"] == "insert" for operation in work):
            if carried_out:
                await transact(name, work, timeout_s)
            monkeypatch.undo()
            await connection.unlock(words.LOCK)  # the other one takes it
            await asyncio.to_thread(eventually, lambda: rivals.second.term > 0, "nobody takes it")
            raise ConnectionLost("the cable")
        return await transact(name, work, timeout_s)

    monkeypatch.setattr(connection, "transact", broken)
    if carried_out:
        create(database, a_network("old"))
    else:
        with pytest.raises(StorageFailed):
            create(database, a_network("old"))
    other = Database.open(OvsdbEngine(rivals.second))
    create(other, a_network("new"))
    assert names(other) == (["old", "new"] if carried_out else ["new"])
    other.close()


def test_commits_go_on_when_the_leader_dies(three: Cluster, rivals: Rivals) -> None:
    database = Database.open(OvsdbEngine(rivals.first))
    create(database, a_network("before"))
    leader = three.leader()
    leader.kill()
    try:
        create(database, a_network("after"))
    except StorageFailed:  # the other host was faster: then it is not there
        assert rivals.second.term > 0
        expected = ["before"]
    else:
        expected = ["before", "after"]
    finally:
        leader.start()
        leader.wait_joined()
    stored, _ = read_from(rivals.second)
    assert [f'"{name}"'.encode() in row.body for row, name in zip(stored.rows, expected, strict=True)] == [
        True for _ in expected
    ]
    database.close()


def test_a_leader_that_stands_still_is_left(three: Cluster, rivals: Rivals) -> None:
    leader = three.leader()
    leader.stop()
    try:
        eventually(
            lambda: any(each.leads for each in three.servers if each is not leader), "nobody else leads"
        )
        eventually(lambda: rivals.first.connected and rivals.second.connected, "nobody finds it")
    finally:
        leader.go_on()


def test_a_host_that_does_not_reach_the_leader_writes_by_another_server(
    three: Cluster, rivals: Rivals
) -> None:
    """What it requires must be so where the majority is."""
    leader = three.leader()
    apart = three.seat("apart", without=leader)
    try:

        def write(**required: Value) -> None:
            work = [require(STATE, STATE_ROW, required), insert_as(NOTE, {"number": 77, "body": "apart"})]
            apart.do(apart.transact_anywhere(work))

        def written() -> bool:
            with suppress(NoMajority):
                write(ready=True)
                return True
            return False

        eventually(written, "no server takes it there")
        assert not apart.connected
        notes = rivals.first.do(rivals.first.transact([select_all(NOTE)]))
        assert "apart" in str(notes)
        with pytest.raises(TransactionFailed):
            write(ready=False)
    finally:
        apart.close()


def test_a_successor_takes_the_turn_that_is_left_to_it(three: Cluster, rivals: Rivals) -> None:
    third = three.seat("third")
    eventually(lambda: third.connected, "it does not connect")
    rivals.first.do(rivals.first.resign("third"))
    eventually(lambda: third.term > 0, "it does not come")
    assert rivals.second.term == 0
    assert rivals.first.term == 0
    third.close()
    eventually(lambda: rivals.first.term + rivals.second.term > 0, "nobody follows")


def test_a_successor_that_does_not_come_is_not_waited_for(rivals: Rivals) -> None:
    rivals.first.do(rivals.first.resign("nobody"))
    eventually(lambda: rivals.first.term + rivals.second.term > 0, "nobody follows")


def test_a_lone_server_keeps_notes_and_heads_of_each_host(alone: Cluster) -> None:
    seat = alone.seat("first")
    stored = Stored(rows=(), deletions=(), ceiling=7, notes=(Note(number=3, body=b'{"id":"x\\u0000\\\\"}'),))
    seed(seat, stored, "line", 4)
    engine = OvsdbEngine(seat)
    found = engine.load()
    assert (found.notes, found.ceiling, engine.term) == (stored.notes, 7, 5)
    engine.append(
        CommitRecord(notes=(Note(number=4, body=b"{}"),), log_head=LogHead(records=9, hash="h", noted=3))
    )
    engine.close()
    assert engine.load().log_head == LogHead(records=9, hash="h", noted=3)
    engine.close()
    seat.close()
    other = alone.seat("second")
    engine = OvsdbEngine(other)
    found = engine.load()
    assert found.log_head == LogHead(noted=3), "the log of another host is not this one's"
    assert [note.number for note in found.notes] == [4]
    engine.close()
    other.close()


def test_a_replica_has_what_a_transaction_reads(alone: Cluster) -> None:
    """Servers without a majority carry out no transaction, and servers leave defaults out of what they send to replicas."""
    seat = alone.seat("first")
    seed(seat, EMPTY, "line", 0)
    database = Database.open(OvsdbEngine(seat))
    create(database, a_network("here"), Network(ref=a_ref()))
    database.close()
    connection = seat.do(seat.leader(10))
    replica = seat.do(connection.monitor(DATABASE, words.read_columns(), lambda _: None))
    stored, turn = words.read_replica(replica, "first")
    assert (stored, turn.number) == (read_from(seat)[0], seat.do(seat.state(10))[0].number)
    seat.close()


def test_a_database_is_written_once(alone: Cluster) -> None:
    """Its host may die before it notes that, and others may use it by then."""
    seat = alone.seat("first")
    seed(seat, EMPTY, "line", 0)
    database = Database.open(OvsdbEngine(seat))
    create(database, a_network("later"))
    database.close()
    seed(seat, EMPTY, "line", 0)
    assert len(read_from(seat)[0].rows) == 1
    seat.close()


def test_what_the_model_has_no_class_for_is_refused_and_nothing_written(alone: Cluster) -> None:
    seat = alone.seat("first")
    seed(seat, EMPTY, "line", 0)
    engine = OvsdbEngine(seat)
    engine.load()
    row = StoredRow(class_name="no_such_class", ref="OpaqueRef:1", created=1, modified=1, body=b"{}")
    with pytest.raises(StorageFailed):
        engine.append(CommitRecord(puts=(row,)))
    engine.append(CommitRecord(ceiling=9))
    engine.close()
    assert engine.load().ceiling == 9
    engine.close()
    seat.close()


def test_a_server_of_another_version_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    other = schema()
    tables: Any = other["tables"]
    tables["network"]["columns"].pop("MTU")
    tables.pop("subject")
    tables["later_class"] = {"columns": {"field": {"type": "string"}}, "isRoot": True}
    with cluster(tmp_path / "c", 1, other) as one:
        seat = one.seat("first")
        state: dict[str, Value] = {"ready": True, "line": "line", "ceiling": 5}
        seat.do(seat.transact([insert_as(STATE, state, STATE_ROW)]))
        database = Database.open(OvsdbEngine(seat))
        assert database.feed.number == 5
        create(database, a_network("kept"))
        database.close()
        connection = seat.do(seat.leader(10))
        now: Any = seat.do(connection.schema(DATABASE))
        assert {"subject", "later_class"} <= set(now["tables"])
        assert merged_schema(now) is None
        seat.close()


def test_a_column_of_another_type_is_of_a_later_version() -> None:
    later = schema()
    tables: Any = later["tables"]
    tables["network"]["columns"]["MTU"] = {"type": "string"}
    with pytest.raises(SchemaTooNew):
        merged_schema(later)


def test_a_large_database_is_written_in_pieces(alone: Cluster) -> None:
    seat: Seat = alone.seat("first")
    rows = tuple(
        StoredRow(
            class_name="network", ref=f"OpaqueRef:{n}", created=1, modified=1, body=b'{"name_label":"%d"}' % n
        )
        for n in range(words.SEED_ROWS + 5)
    )
    seed(seat, Stored(rows=rows, deletions=(), ceiling=1), "line", 0)
    assert OvsdbEngine(seat).load().rows == rows
    seat.close()
