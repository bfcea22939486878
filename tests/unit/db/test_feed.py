from __future__ import annotations

import asyncio

from poolnet.db.database import Database
from poolnet.db.engine import DELETIONS_KEPT, DELETIONS_MAX
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.feed import Change, Published
from poolnet.db.txn import Txn
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.types import NULL
from tests.unit.db.rows import a_network, a_pif, a_task, a_vif, a_vm, commit, create, destroy


def names(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(each.class_name, each.ref) for each in changes]


def test_per_object_there_is_at_most_one_entry() -> None:
    database = Database.open(MemoryEngine())
    old, doomed = a_network(), a_network()
    start = create(database, old, doomed)
    new, brief = a_network(), a_network()
    create(database, new, brief)

    def modify(txn: Txn) -> None:
        for each in (old, new, doomed):
            txn.update(Network, each.ref, MTU=1)

    commit(database, modify)
    destroy(database, doomed, brief)
    delta = database.feed.changes_since(start)
    assert names(delta.created) == [("network", new.ref)]
    assert names(delta.modified) == [("network", old.ref)]
    assert names(delta.deleted) == [("network", doomed.ref)]
    assert (delta.number, delta.complete) == (database.feed.number, True)
    assert [each.number for each in (*delta.created, *delta.modified, *delta.deleted)] == [2, 3, 4]
    assert len(database.feed.changes_since(0).created) == 2
    assert not database.feed.changes_since(database.feed.number)
    assert not database.feed.changes_since(10**20)


def test_the_object_at_the_other_end_of_a_relation_is_modified_too() -> None:
    database = Database.open(MemoryEngine())
    first, second, vm, pif = a_network(), a_network(), a_vm(), a_pif()
    create(database, first, second, vm, pif)
    vif = a_vif(first.ref, vm.ref)
    at = create(database, vif)
    assert set(names(database.feed.changes_since(at - 1).modified)) == {
        ("network", first.ref),
        ("VM", vm.ref),
    }
    at = commit(database, lambda txn: txn.update(VIF, vif.ref, network=second.ref))
    moved = {("network", first.ref), ("network", second.ref), ("VIF", vif.ref)}
    assert set(names(database.feed.changes_since(at - 1).modified)) == moved
    at = commit(database, lambda txn: txn.update(VIF, vif.ref, device="8"))
    assert names(database.feed.changes_since(at - 1).modified) == [("VIF", vif.ref)]
    at = destroy(database, vif)
    assert set(names(database.feed.changes_since(at - 1).modified)) == {
        ("network", second.ref),
        ("VM", vm.ref),
    }


def test_only_the_classes_asked_for_are_told() -> None:
    database = Database.open(MemoryEngine())
    commit(database, lambda txn: [txn.create(a_network()), txn.create(a_task())])
    assert [each.class_name for each in database.feed.changes_since(0, ["task", "nonsense"]).created] == [
        "task"
    ]


def test_deletions_are_remembered_up_to_a_limit() -> None:
    database = Database.open(MemoryEngine())
    rows = [a_task() for _ in range(DELETIONS_MAX)]
    start = create(database, *rows)
    for row in rows[:-1]:
        destroy(database, row)
    delta = database.feed.changes_since(start)
    assert (len(delta.deleted), delta.complete) == (DELETIONS_MAX - 1, True)
    destroy(database, rows[-1])
    delta = database.feed.changes_since(start)
    assert (len(delta.deleted), delta.complete) == (DELETIONS_KEPT, False)
    assert database.feed.changes_since(delta.deleted[0].number - 1).complete
    assert database.feed.changes_since(start, ["network"]).complete


def test_a_waiter_wakes_when_something_is_committed() -> None:
    database = Database.open(MemoryEngine())

    async def run() -> None:
        waiting = [asyncio.create_task(database.feed.wait(0)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        txn = database.begin()
        txn.create(a_network())
        await database.commit(txn.changes())
        await asyncio.gather(*waiting[1:])
        await database.feed.wait(0)
        assert waiting[0].cancelled()

    asyncio.run(run())
    database.close()


def test_a_subscriber_is_told_of_every_commit_with_the_rows_of_that_moment() -> None:
    database = Database.open(MemoryEngine())
    told: list[Published] = []
    end = database.feed.subscribe(told.append)
    network, vif = a_network(), a_vif(NULL)
    create(database, network, vif)
    commit(database, lambda txn: txn.update(VIF, vif.ref, network=network.ref))
    destroy(database, network)
    end()
    create(database, a_task())
    assert [each.number for each in told] == [1, 2, 3]
    assert [row.ref for row in told[0].created] == [network.ref, vif.ref]
    modified = {type(row): row for row in told[1].modified}
    assert isinstance(moved := modified[Network], Network)
    assert moved.VIFs == (vif.ref,)
    assert told[2].deleted == (moved,)
