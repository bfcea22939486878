"""A copy of a database becomes what the database is, from any number of commits before, and says so on its disk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.db.database import Database
from poolnet.db.engine import CommitRecord, StoredRow
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.db.errors import DatabaseDamaged, StorageFailed
from poolnet.db.feed import Published
from poolnet.db.replica import Replicated, since
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.session import Session
from tests.unit.db.rows import a_host, a_network, a_pif, a_session, create


def contents(database: Database) -> dict[str, object]:
    """What outlives a restart, with its computed sets."""
    return {row.ref: row for cls in (Host, Network, PIF) for row in database.view.all(cls)}


def follow(copy: Database, replicated: Replicated) -> None:
    asyncio.run(copy.follow(replicated))


def two() -> tuple[Database, Database]:
    return Database.open(MemoryEngine()), Database.open(MemoryEngine())


def test_a_copy_gets_everything_first_and_then_what_changed() -> None:
    database, copy = two()
    network, host = a_network(), a_host()
    create(database, network, host)
    follow(copy, since(database, None))
    assert contents(copy) == contents(database)
    assert copy.feed.number == database.feed.number
    pif = a_pif(network.ref, host.ref)
    create(database, pif)
    txn = database.begin()
    txn.update(Network, network.ref, name_label="other")
    database.commit_now(txn.changes())
    update = since(database, copy.feed.number)
    assert not update.whole
    assert {row.ref for row in update.puts} >= {network.ref, pif.ref}
    follow(copy, update)
    assert contents(copy) == contents(database)
    assert copy.view.get(Network, network.ref).PIFs == (pif.ref,), "what is computed is computed anew"


def test_what_is_destroyed_there_goes_here() -> None:
    database, copy = two()
    kept, gone = a_network("kept"), a_network("gone")
    create(database, kept, gone)
    follow(copy, since(database, None))
    txn = database.begin()
    txn.destroy(Network, gone.ref)
    database.commit_now(txn.changes())
    follow(copy, since(database, copy.feed.number))
    assert set(contents(copy)) == {kept.ref}


def test_everything_takes_the_place_of_whatever_was_there() -> None:
    database, copy = two()
    create(copy, a_network("another pool's"))
    create(database, a_network("ours"))
    follow(copy, since(database, None))
    assert contents(copy) == contents(database)


def test_sessions_stay_where_they_are() -> None:
    database, copy = two()
    create(database, a_session(), a_network())
    follow(copy, since(database, None))
    assert copy.view.count(Session) == 0
    assert copy.view.count(Network) == 1


def test_deletions_that_may_be_forgotten_make_it_send_everything() -> None:
    database, copy = two()
    first = a_network("first")
    create(database, first)
    follow(copy, since(database, None))
    number = copy.feed.number
    doomed = [a_network(str(index)) for index in range(600)]
    create(database, *doomed)
    for row in (first, *doomed):
        txn = database.begin()
        txn.destroy(Network, row.ref)
        database.commit_now(txn.changes())
    update = since(database, number)
    assert update.whole
    follow(copy, update)
    assert contents(copy) == {}


def test_a_copy_that_is_ahead_gets_everything() -> None:
    database, _ = two()
    create(database, a_network())
    assert since(database, database.feed.number + 5).whole


def test_it_is_on_the_disk_before_it_is_seen(tmp_path: Path) -> None:
    database = Database.open(MemoryEngine())
    create(database, a_network(), a_host())
    copy = Database.open(SqliteEngine(tmp_path / "pool.db"))
    follow(copy, since(database, None))
    copy.close()
    again = Database.open(SqliteEngine(tmp_path / "pool.db"))
    assert contents(again) == contents(database)
    assert again.feed.number == database.feed.number
    again.close()


class Full(MemoryEngine):
    """An engine whose disk is full."""

    def append(self, record: CommitRecord) -> None:
        """See `Engine`."""
        raise StorageFailed("the disk is full")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda row: replace(row, body=b"{}}"), DatabaseDamaged),
        (lambda row: replace(row, body=b'{"MTU": "many"}'), DatabaseDamaged),
        (lambda row: replace(row, class_name="unheard_of"), DatabaseDamaged),
    ],
)
def test_rows_that_are_none_change_nothing(
    spoil: Callable[[StoredRow], StoredRow], error: type[Exception]
) -> None:
    database, copy = two()
    create(database, a_network("good"), a_network("bad"))
    update = since(database, None)
    spoilt = replace(update, puts=(update.puts[0], spoil(update.puts[1])))
    with pytest.raises(error):
        follow(copy, spoilt)
    assert contents(copy) == {}
    assert copy.feed.number == 0


def test_a_full_disk_changes_nothing() -> None:
    database = Database.open(MemoryEngine())
    create(database, a_network())
    copy = Database.open(Full())
    with pytest.raises(StorageFailed):
        follow(copy, since(database, None))
    assert contents(copy) == {}


def test_who_listens_to_a_copy_hears_what_changed() -> None:
    database, copy = two()
    heard: list[Published] = []
    copy.feed.subscribe(heard.append)
    network = a_network()
    create(database, network)
    follow(copy, since(database, None))
    txn = database.begin()
    txn.destroy(Network, network.ref)
    database.commit_now(txn.changes())
    follow(copy, since(database, copy.feed.number))
    assert [(len(p.created), len(p.deleted)) for p in heard] == [(1, 0), (0, 1)]
