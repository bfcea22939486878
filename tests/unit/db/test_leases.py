"""Leases on a cluster of real servers: what a host and the coordinator do at the same time has an order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from poolnet.db import leases
from poolnet.db.leases import Lease, State
from poolnet.db.seat import Seat
from poolnet.ovsdb.connection import TransactionFailed
from poolnet.ovsdb.operations import Operation
from tests.unit.db.clusters import Cluster, cluster, seed_anew
from tests.waiting import eventually

HOSTS = ("one", "two")


class Table:
    """The leases, as the coordinator has them."""

    def __init__(self, of: Cluster) -> None:
        self.seat: Seat = of.seat("coordinator")
        seed_anew(self.seat)
        eventually(lambda: self.seat.is_ours, "nobody claims a term")
        self.term = self.seat.term

    def do(self, work: Sequence[Operation]) -> None:
        self.seat.do(self.seat.transact(work))

    def fails(self, work: Sequence[Operation]) -> bool:
        with pytest.raises(TransactionFailed):
            self.do(work)
        return True

    def lease(self, host: str) -> Lease:
        (found,) = leases.leases_in(self.seat.do(self.seat.transact(leases.read_one(host))))
        return found

    def states(self) -> dict[str, State]:
        found = leases.leases_in(self.seat.do(self.seat.transact(leases.READ)))
        return {lease.host: lease.state for lease in found}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(Path(tmp_path_factory.mktemp("leases")) / "c", 1) as made:
        yield made


@pytest.fixture
def table(servers: Cluster) -> Iterator[Table]:
    one = Table(servers)
    try:
        one.do(leases.offer(one.term, ("gone",), "before", 5, "0"))
        one.do(leases.offer(one.term, HOSTS, "g", 30, "0"))
        yield one
    finally:
        one.seat.close()


def test_leases_are_offered_taken_renewed_and_ended(table: Table) -> None:
    assert table.states() == dict.fromkeys(HOSTS, State.NEW)
    lease = table.lease("one")
    assert lease == Lease(host="one", generation="g", seconds=30, state=State.NEW, beat="0")
    table.do(leases.renew(lease, State.HELD, "1"))
    held = table.lease("one")
    assert (held.state, held.beat) == (State.HELD, "1")
    assert table.fails(leases.renew(lease, State.HELD, "2")), "it is new no more"
    table.do(leases.renew(held, State.HELD, "3"))
    table.do(leases.renew(held, State.HELD, "4"))  # of its own state a host needs no last beat
    assert table.lease("two").state is State.NEW
    table.do(leases.end(table.term, "5"))
    assert table.states() == dict.fromkeys(HOSTS, State.OFF)
    table.do(leases.renew(table.lease("one"), State.OFF, "6"))


def test_who_comes_first_decides(table: Table) -> None:
    table.do(leases.renew(table.lease("one"), State.HELD, "1"))
    seen = table.lease("one")
    table.do(leases.renew(seen, State.HELD, "2"))
    assert table.fails(leases.take_away(table.term, seen, "3")), "it has been renewed since"
    seen = table.lease("one")
    table.do(leases.take_away(table.term, seen, "4"))
    assert table.fails(leases.renew(seen, State.HELD, "5")), "it has been taken away since"
    lost = table.lease("one")
    table.do(leases.renew(lost, State.HELD, "6"))
    assert table.fails(leases.note_stopped(table.term, lost, "7")), "it has come back since"
    table.do(leases.take_away(table.term, table.lease("one"), "8"))
    table.do(leases.note_stopped(table.term, table.lease("one"), "9"))
    assert table.states() == {"one": State.STOPPED, "two": State.NEW}


def test_another_term_and_another_generation_change_nothing(table: Table) -> None:
    lease = table.lease("one")
    for work in (
        leases.offer(table.term - 1, ("one",), "h", 30, "1"),
        leases.end(table.term - 1, "1"),
        leases.take_away(table.term - 1, lease, "1"),
        leases.note_stopped(table.term - 1, lease, "1"),
    ):
        assert table.fails(work)
    table.do(leases.offer(table.term, ("one",), "h", 30, "0"))
    assert table.fails(leases.renew(lease, State.HELD, "1"))
    assert table.states() == {"one": State.NEW}
