from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

import pytest

from poolnet.db.changes import Changes, merged
from poolnet.db.database import Database
from poolnet.db.engine import CommitRecord
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.errors import BadRow, Conflict, DatabaseInUse, Duplicate, StorageFailed
from poolnet.db.txn import Txn
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.task import Task
from poolnet.model.classes.vif import VIF
from poolnet.model.enums import VifOperations
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from tests.unit.db.rows import a_network, a_pif, a_ref, a_session, a_task, a_vif, commit, create, destroy


class GatedEngine(MemoryEngine):
    """A disk that waits until it is told to go on, and that can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.full = False
        self.records: list[CommitRecord] = []

    def append(self, record: CommitRecord) -> None:
        assert self.gate.wait(10)
        if self.full:
            raise StorageFailed("no space left")
        super().append(record)
        self.records.append(record)


def creating(database: Database, row: Network | VIF | Task) -> Changes:
    txn = database.begin()
    txn.create(row)
    return txn.changes()


def test_commits_that_arrive_during_an_append_share_the_next_one() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    networks = [a_network(str(number)) for number in range(10)]

    async def run() -> list[int]:
        engine.gate.clear()
        tasks = [asyncio.create_task(database.commit(creating(database, each))) for each in networks]
        await asyncio.sleep(0)
        assert database.view.count(Network) == 0, "nothing is visible before it is durable"
        engine.gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(run()) == list(range(1, 11))
    assert [len(record.puts) for record in engine.records] == [1, 9]
    assert [row.name_label for row in database.view.all(Network)] == [str(number) for number in range(10)]
    database.close()


def test_what_was_foreseen_is_committed_as_if_it_had_not_been() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    networks = [a_network(str(number)) for number in range(3)]
    changes = [creating(database, each) for each in networks]
    database.foresee(changes)
    assert database.view.count(Network) == 0
    assert asyncio.run(database.commit(changes)) == 3
    assert [row.name_label for row in database.view.all(Network)] == ["0", "1", "2"]
    assert [len(record.puts) for record in engine.records] == [3]
    database.close()


def test_what_was_foreseen_gets_the_numbers_after_those_that_came_before_it() -> None:
    database = Database.open(MemoryEngine())
    create(database, session := a_session())
    mine = [creating(database, a_network("a")), creating(database, a_network("b"))]
    database.foresee(mine)
    assert create(database, a_task(session.ref)) == 2
    assert asyncio.run(database.commit(mine)) == 4
    numbers = [database.feed.modified_at(Network, row.ref) for row in database.view.all(Network)]
    assert numbers == [3, 4]
    database.close()


def test_what_was_foreseen_holds_no_more_when_others_commit() -> None:
    database = Database.open(MemoryEngine())
    network = a_network()
    create(database, network)
    txn = database.begin()
    txn.update(Network, network.ref, MTU=1400)
    mine = [txn.changes()]
    database.foresee(mine)
    commit(database, lambda other: other.update(Network, network.ref, name_label="theirs"))
    asyncio.run(database.commit(mine))
    row = database.view.get(Network, network.ref)
    assert (row.MTU, row.name_label) == (1400, "theirs")
    txn = database.begin()
    txn.update(Network, network.ref, MTU=1300)
    mine = [txn.changes()]
    database.foresee(mine)
    destroy(database, network)
    with pytest.raises(Conflict):
        asyncio.run(database.commit(mine))
    database.close()


def test_a_conflict_in_a_batch_is_its_callers_alone() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    network = a_network()
    create(database, network)

    async def run() -> list[int | BaseException]:
        engine.gate.clear()
        destroy, update = database.begin(), database.begin()
        destroy.destroy(Network, network.ref)
        update.update(Network, network.ref, MTU=1)
        dangling = creating(database, a_vif(network.ref))
        bad = creating(database, Network(ref=a_ref(), uuid="x", MTU="text"))  # type: ignore[arg-type]
        work = [creating(database, a_network()), destroy.changes(), update.changes(), dangling, bad]
        work.append(creating(database, a_network()))
        tasks = [asyncio.create_task(database.commit(each)) for each in work]
        await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third, fourth, fifth, sixth = asyncio.run(run())
    assert (first, second, sixth) == (2, 3, 4)
    assert isinstance(third, Conflict)
    assert isinstance(fourth, Conflict)
    assert isinstance(fifth, BadRow)
    assert database.view.count(Network) == 2
    database.close()


def test_a_full_disk_fails_the_callers_and_changes_nothing() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    engine.full = True

    async def run() -> None:
        with pytest.raises(StorageFailed):
            await database.commit(creating(database, a_network()))

    asyncio.run(run())
    with pytest.raises(StorageFailed):
        database.commit_now(creating(database, a_network()))
    assert database.view.count(Network) == 0
    engine.full = False
    number = database.commit_now(creating(database, a_network()))
    assert (database.view.count(Network), database.feed.number) == (1, number)
    database.close()


def test_a_commit_that_cannot_be_stored_fails_no_other_that_shares_its_append() -> None:
    class PickyEngine(GatedEngine):
        def append(self, record: CommitRecord) -> None:
            assert self.gate.wait(10)
            if any(b"large" in put.body for put in record.puts):
                raise StorageFailed("too large")
            super().append(record)

    engine = PickyEngine()
    database = Database.open(engine)
    session = a_session()
    create(database, session)
    large = a_network("large")
    after = a_network("after")
    same_uuid = Network(ref=a_ref(), uuid=large.uuid, name_label="the same uuid")

    async def run() -> list[int | BaseException]:
        engine.gate.clear()
        rows: list[Network | Task] = [a_network("before"), large, same_uuid, a_task(session.ref), after]
        tasks = [asyncio.create_task(database.commit(creating(database, each))) for each in rows]
        await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [int, StorageFailed, int, int, int]
    numbers = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert numbers == sorted(numbers)
    assert {row.name_label for row in database.view.all(Network)} == {
        "before",
        "the same uuid",
        "after",
    }
    assert database.view.count(Task) == 1
    database.close()


def test_what_needs_no_disk_is_committed_while_the_disk_is_full() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    session = a_session()
    create(database, session)
    engine.full = True

    async def run() -> list[int | BaseException]:
        engine.gate.clear()
        rows: list[Network | Task] = [a_network("first"), a_network("second"), a_task(session.ref)]
        tasks = [asyncio.create_task(database.commit(creating(database, each))) for each in rows]
        await asyncio.sleep(0)
        engine.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in asyncio.run(run())] == [StorageFailed, StorageFailed, int]
    assert (database.view.count(Network), database.view.count(Task)) == (0, 1)
    database.close()


def test_a_cancelled_caller_does_not_undo_its_commit() -> None:
    engine = GatedEngine()
    database = Database.open(engine)

    async def run() -> None:
        engine.gate.clear()
        task = asyncio.create_task(database.commit(creating(database, a_network())))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        engine.gate.set()

    asyncio.run(run())
    database.close()
    assert database.view.count(Network) == 1


def test_a_blocking_commit_finishes_what_came_before_it() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    rows = [a_network(str(number)) for number in range(3)]

    async def run() -> list[int]:
        tasks = [asyncio.create_task(database.commit(creating(database, row))) for row in rows[:2]]
        await asyncio.sleep(0)
        last = database.commit_now(creating(database, rows[2]))
        return [*await asyncio.gather(*tasks), last]

    assert asyncio.run(run()) == [1, 2, 3]
    assert [row.name_label for row in database.view.all(Network)] == ["0", "1", "2"]
    database.close()


def test_a_new_loop_goes_on_where_a_closed_one_left_off() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    engine.gate.clear()

    async def abandon() -> None:
        task = asyncio.create_task(database.commit(creating(database, a_network())))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(abandon())
    engine.gate.set()
    assert asyncio.run(database.commit(creating(database, a_network()))) == 2
    database.close()


def test_what_does_not_outlive_a_restart_needs_no_append() -> None:
    engine = GatedEngine()
    database = Database.open(engine)
    create(database, a_network())
    vif = a_vif()
    create(database, vif)
    appends = len(engine.records)
    create(database, a_task())
    create(database, a_session())
    commit(database, lambda txn: txn.update(VIF, vif.ref, allowed_operations=(VifOperations.PLUG,)))
    assert len(engine.records) == appends
    number = database.feed.number
    assert number == 5
    database._engine.close()  # as if killed: no orderly close
    again = Database.open(engine)
    assert again.feed.number > number, "numbers never go back"
    assert again.view.count(Task) == 0
    assert again.view.get(VIF, vif.ref).allowed_operations == ()
    again.close()
    database.close()


def test_an_orderly_close_leaves_no_gap_in_the_numbers() -> None:
    engine = MemoryEngine()
    database = Database.open(engine)
    create(database, a_network())
    database.close()
    again = Database.open(engine)
    assert create(again, a_network()) == 2
    again.close()


def test_one_process_has_it_open() -> None:
    engine = MemoryEngine()
    database = Database.open(engine)
    with pytest.raises(DatabaseInUse):
        Database.open(engine)
    database.close()
    database.close()


def test_a_sequence_is_applied_whole_or_not_at_all() -> None:
    database = Database.open(MemoryEngine())
    network = a_network()
    first = creating(database, network)
    vif = creating(database, a_vif(network.ref))
    wrong = creating(database, a_vif(Ref("OpaqueRef:nothing")))
    with pytest.raises(Conflict):
        database.commit_now([first, vif, wrong])
    assert database.view.count(Network) == 0
    assert database.commit_now([first, vif]) == 2
    assert len(database.view.get(Network, network.ref).VIFs) == 1
    assert database.commit_now([]) == database.feed.number


def test_references_of_relations_must_lead_somewhere_when_they_are_written() -> None:
    database = Database.open(MemoryEngine())
    nowhere: Ref[Network] = Ref("OpaqueRef:nothing")
    pif = a_pif()
    create(database, pif)
    for body in (
        lambda txn: txn.create(a_vif(nowhere)),
        lambda txn: txn.update(PIF, pif.ref, network=nowhere),
    ):
        with pytest.raises(Conflict):
            commit(database, body)
    network = a_network()
    commit(database, lambda txn: [txn.create(a_vif(network.ref)), txn.create(network)])
    destroy(database, network)
    vif = next(database.view.all(VIF))
    commit(database, lambda txn: txn.update(VIF, vif.ref, device="7"))
    assert database.view.get(VIF, vif.ref).network == network.ref, "stale references stay (spec §2.3)"
    commit(database, lambda txn: txn.update(VIF, vif.ref, network=Ref("")))


def test_two_transactions_may_not_take_one_uuid() -> None:
    database = Database.open(MemoryEngine())
    first = creating(database, Network(ref=a_ref(), uuid="same"))
    second = creating(database, Network(ref=a_ref(), uuid="same"))
    database.commit_now(first)
    with pytest.raises(Duplicate):
        database.commit_now(second)


def test_fields_of_an_older_transaction_merge() -> None:
    database = Database.open(MemoryEngine())
    vif = a_vif()
    create(database, vif)
    older, newer = database.begin(), database.begin()
    older.update(VIF, vif.ref, device="5", other_config={"a": "1"}, ipv4_allowed=("1.1.1.1",))
    newer.update(VIF, vif.ref, MAC="mac", other_config={"b": "2"}, ipv4_allowed=("2.2.2.2",))
    database.commit_now(newer.changes())
    database.commit_now(older.changes())
    row = database.view.get(VIF, vif.ref)
    assert (row.device, row.MAC) == ("5", "mac")
    assert row.other_config == {"a": "1", "b": "2"}
    assert set(row.ipv4_allowed) == {"1.1.1.1", "2.2.2.2"}


@pytest.mark.parametrize(
    ("seen", "written", "present", "result"),
    [
        ("a", "b", "c", "b"),
        ({"k": "1"}, {}, {"k": "1", "x": "2"}, {"x": "2"}),
        ({"k": "1"}, {"k": "2"}, {"k": "3"}, {"k": "2"}),
        ({"k": "1", "l": "1"}, {"k": "1", "l": "2"}, {"l": "1"}, {"l": "2"}),
        (("a", "b"), ("b", "c"), ("a", "b", "d"), ("b", "d", "c")),
        ((), ("a",), ("a",), ("a",)),
    ],
)
def test_maps_and_sets_merge_by_member(
    seen: object, written: object, present: object, result: object
) -> None:
    assert merged(seen, written, present) == result


def test_fragments_are_kept_until_the_row_or_one_of_its_sets_changes() -> None:
    database = Database.open(MemoryEngine())
    network, other = a_network("n"), a_network("o")
    create(database, network, other)
    made: list[str] = []

    def encode(row: Network) -> bytes:
        made.append(row.name_label)
        return f"{row.name_label}{len(row.VIFs)}".encode()

    assert [fragment for _, fragment in database.fragments(Network, "test", encode)] == [b"n0", b"o0"]
    assert database.fragment(Network, network.ref, "test", encode) == b"n0"
    assert made == ["n", "o"]
    create(database, a_vif(network.ref))
    assert dict(database.fragments(Network, "test", encode)) == {network.ref: b"n1", other.ref: b"o0"}
    assert made == ["n", "o", "n"]
    destroy(database, other)
    assert database.fragments(Network, "test", encode) == ((network.ref, b"n1"),)
    assert database.fragment(Network, network.ref, "another", lambda row: b"x") == b"x"
    with pytest.raises(Failure):
        database.fragment(Network, other.ref, "test", encode)


def test_a_touch_changes_only_the_number() -> None:
    database = Database.open(MemoryEngine())
    network = a_network()
    create(database, network)
    number = asyncio.run(database.touch(Network, network.ref))
    assert database.feed.modified_at(Network, network.ref) == number == 2
    assert database.feed.created_at(Network, network.ref) == 1
    with pytest.raises(Failure):
        asyncio.run(database.touch(Network, Ref("OpaqueRef:nothing")))
    database.close()


def test_values_are_those_that_were_written() -> None:
    config: Mapping[str, str] = {"k": "v"}
    database = Database.open(MemoryEngine())
    vif = a_vif()

    def make(txn: Txn) -> None:
        txn.create(vif)
        txn.update(VIF, vif.ref, other_config=config)

    commit(database, make)
    assert database.view.get(VIF, vif.ref).other_config == {"k": "v"}
