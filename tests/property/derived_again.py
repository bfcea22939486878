"""Is what is derived again and again always what is derived from nothing?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.hostnet.derive import Deriver, derive
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref


def check_derived_again(
    database: Database,
    changes: Sequence[tuple[str, int, int, int]],
    change: Callable[[Txn, str, int, int, int], None],
    commit_every: int,
) -> None:
    """Makes changes, each chosen by a word and three numbers, and derives after each; some are looked at and given up before.

    Hosts are left out now and then. AssertionError where a state is another than that of `derive`.
    """
    txn, deriver = database.begin(), Deriver()

    def check(view: Txn, hosts: Sequence[Ref[Host]]) -> None:
        assert deriver.derive(view, hosts) == {host: derive(view, host) for host in hosts}

    check(txn, txn.refs(Host))
    for number, (what, a, b, c) in enumerate(changes):
        hosts = txn.refs(Host)
        if c % 4 == 0:
            given_up = txn.nested()
            change(given_up, what, b, c, a)
            check(given_up, hosts)
        change(txn, what, a, b, c)
        check(txn, hosts if b % 5 else hosts[:1])
        if number % commit_every == commit_every - 1:
            database.commit_now(txn.changes())
            txn = database.begin()
    check(txn, txn.refs(Host))
