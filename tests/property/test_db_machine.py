"""The database against a naive model: dicts of fields, whole snapshots, no indexes, no caches."""

from __future__ import annotations

import atexit
import copy
import functools
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from poolnet.db.database import Database
from poolnet.db.engine import Engine
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.errors import Conflict, Duplicate
from poolnet.db.filter import parse, select
from poolnet.db.txn import Txn, View
from poolnet.model.classes.network import Network
from poolnet.model.classes.task import Task
from poolnet.model.classes.vif import VIF
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref, Row
from tests.unit.db.clusters import Cluster, engine_on

Table = dict[str, dict[str, Any]]
Naive = dict[type[Row], Table]
CLASSES: tuple[type[Row], ...] = (Network, VIF, Task)
REFS = [Ref[Any](f"OpaqueRef:{number}") for number in range(4)]
NETWORKS, VIFS, TASKS = ([Ref[Any](f"{ref}-{kind}") for ref in REFS] for kind in "nvt")
TEXTS = ("a", "b", "")


def empty() -> Naive:
    return {cls: {} for cls in CLASSES}


def visible(naive: Naive, cls: type[Row]) -> dict[str, dict[str, Any]]:
    """The rows with their computed sets, as sets."""
    rows = {ref: dict(fields) for ref, fields in naive[cls].items()}
    for ref, fields in rows.items():
        if cls is Network:
            fields["VIFs"] = {each for each, vif in naive[VIF].items() if vif["network"] == ref}
        if cls is Task:
            fields["subtasks"] = {each for each, task in naive[Task].items() if task["subtask_of"] == ref}
    return rows


def shown(view: View, cls: type[Row], names: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The same, as a view shows it."""
    rows: dict[str, dict[str, Any]] = {
        row.ref: {name: getattr(row, name) for name in names} for row in view.all(cls)
    }
    for fields in rows.values():
        for name in ("VIFs", "subtasks"):
            if name in fields:
                assert len(set(fields[name])) == len(fields[name])
                fields[name] = set(fields[name])
    return rows


FIELDS: Mapping[type[Row], Mapping[str, Any]] = {
    Network: {"name_label": "", "other_config": {}, "VIFs": ()},
    VIF: {"network": NULL, "device": ""},
    Task: {"name_label": "", "subtask_of": NULL, "subtasks": ()},
}
NEW: Mapping[type[Row], Mapping[str, Any]] = {
    Network: {"name_label": "", "other_config": {}},
    VIF: {"network": NULL, "device": ""},
    Task: {"name_label": "", "subtask_of": NULL},
}


Snapshot = dict[tuple[str, str], Row]


def snapshot(view: View) -> Snapshot:
    return {(cls.wire_name, row.ref): row for cls in CLASSES for row in view.all(cls)}


class DatabaseMachine(RuleBasedStateMachine):
    """One transaction at a time is open, now and then with others nested in it; a client follows the feed."""

    def new_engine(self) -> Engine:
        return MemoryEngine()

    @initialize()
    def start(self) -> None:
        self.engine = self.new_engine()
        self.database = Database.open(self.engine)
        self.naive = empty()
        self.txns = [self.database.begin()]
        self.pending = [empty()]
        self.client: Snapshot = {}
        self.token = 0
        self.remember()

    @property
    def txn(self) -> Txn:
        return self.txns[-1]

    @property
    def mine(self) -> Naive:
        return self.pending[-1]

    def create(self, row: Row, fields: Mapping[str, Any]) -> None:
        taken = row.ref in self.mine[type(row)]
        try:
            self.txn.create(row)
        except Duplicate:
            # In use, or was so when the transaction began: a reference is used once.
            assert taken or row.ref in self.naive[type(row)] or len(self.pending) > 1
            return
        assert not taken
        self.mine[type(row)][row.ref] = dict(fields)

    @rule(ref=st.sampled_from(NETWORKS), label=st.sampled_from(TEXTS))
    def create_network(self, ref: Ref[Network], label: str) -> None:
        self.create(Network(ref=ref, uuid=ref, name_label=label), {**NEW[Network], "name_label": label})

    @rule(ref=st.sampled_from(VIFS), network=st.sampled_from([NULL, *NETWORKS]))
    def create_vif(self, ref: Ref[VIF], network: Ref[Network]) -> None:
        self.create(VIF(ref=ref, uuid=ref, network=network), {**NEW[VIF], "network": network})

    @rule(ref=st.sampled_from(TASKS), parent=st.sampled_from([NULL, *TASKS]))
    def create_task(self, ref: Ref[Task], parent: Ref[Task]) -> None:
        self.create(Task(ref=ref, uuid=ref, subtask_of=parent), {**NEW[Task], "subtask_of": parent})

    def update(self, cls: type[Row], ref: Ref[Any], fields: Mapping[str, Any]) -> None:
        if ref in self.mine[cls]:
            self.txn.update(cls, ref, **fields)
            self.mine[cls][ref].update(fields)
        else:
            with pytest.raises(Failure):
                self.txn.update(cls, ref, **fields)

    @rule(ref=st.sampled_from(NETWORKS), label=st.sampled_from(TEXTS), key=st.sampled_from(TEXTS))
    def update_network(self, ref: Ref[Network], label: str, key: str) -> None:
        self.update(Network, ref, {"name_label": label, "other_config": {key: "1"}})

    @rule(
        ref=st.sampled_from(VIFS), network=st.sampled_from([NULL, *NETWORKS]), device=st.sampled_from(TEXTS)
    )
    def update_vif(self, ref: Ref[VIF], network: Ref[Network], device: str) -> None:
        self.update(VIF, ref, {"network": network, "device": device})

    @rule(ref=st.sampled_from(TASKS), parent=st.sampled_from([NULL, *TASKS]))
    def update_task(self, ref: Ref[Task], parent: Ref[Task]) -> None:
        self.update(Task, ref, {"subtask_of": parent})

    @rule(ref=st.sampled_from([*NETWORKS, *VIFS, *TASKS]))
    def destroy(self, ref: Ref[Any]) -> None:
        cls = {"n": Network, "v": VIF, "t": Task}[ref[-1]]
        if ref in self.mine[cls]:
            self.txn.destroy(cls, ref)
            del self.mine[cls][ref]
        else:
            with pytest.raises(Failure):
                self.txn.destroy(cls, ref)

    @rule()
    def nest(self) -> None:
        if len(self.txns) < 4:
            self.txns.append(self.txn.nested())
            self.pending.append(copy.deepcopy(self.mine))

    @rule()
    def merge(self) -> None:
        if len(self.txns) > 1:
            self.txns.pop().merge()
            self.pending[-2:] = [self.pending[-1]]

    @rule()
    def drop(self) -> None:
        if len(self.txns) > 1:
            self.txns.pop()
            self.pending.pop()

    @rule()
    def give_up(self) -> None:
        self.begin()

    @rule()
    def commit(self) -> None:
        dangling = self.dangling()
        while len(self.txns) > 1:
            self.merge()
        try:
            self.database.commit_now(self.txn.changes())
        except Conflict:
            assert dangling
        else:
            self.naive = self.pending[0]
        self.begin()

    @rule()
    def restart(self) -> None:
        self.database.close()
        self.database = Database.open(self.engine)
        self.naive[Task] = {}
        self.client = {key: row for key, row in self.client.items() if key[0] != "task"}
        self.begin()
        self.remember()

    @rule()
    def follow(self) -> None:
        """What a client knew, and what changed since, make what is there (spec §5.2)."""
        delta = self.database.feed.changes_since(self.token)
        created, modified, deleted = (
            {(each.class_name, each.ref) for each in group}
            for group in (delta.created, delta.modified, delta.deleted)
        )
        now = snapshot(self.database.view)
        assert not created & self.client.keys()
        assert modified | deleted <= self.client.keys()
        kept = {key: row for key, row in self.client.items() if key not in deleted}
        assert kept | {key: now[key] for key in created | modified} == now
        self.client, self.token = now, delta.number

    @rule()
    def remember(self) -> None:
        """What is committed now; later everybody is to be told what differs from it."""
        self.marks = {cls: self.database.view.mark(cls) for cls in CLASSES}
        self.remembered = snapshot(self.database.view)

    @invariant()
    def whoever_remembers_is_told_what_changed(self) -> None:
        for view in (self.database.view, *self.txns):
            now = snapshot(view)
            keys = now.keys() | self.remembered.keys()
            differ = {key for key in keys if now.get(key) != self.remembered.get(key)}
            told = {cls: view.changed_since(cls, mark) for cls, mark in self.marks.items()}
            assert differ <= {(cls.wire_name, ref) for cls, refs in told.items() for ref in refs or ()}

    @invariant()
    def views_agree(self) -> None:
        for view, naive in ((self.database.view, self.naive), *zip(self.txns, self.pending, strict=True)):
            for cls in CLASSES:
                assert shown(view, cls, FIELDS[cls]) == visible(naive, cls)
                assert view.count(cls) == len(naive[cls])

    @invariant()
    def searches_agree(self) -> None:
        for view, naive in ((self.database.view, self.naive), (self.txn, self.mine)):
            for network in (NULL, *NETWORKS):
                expected = {ref for ref, vif in naive[VIF].items() if vif["network"] == network}
                found = view.where(VIF, network=network)
                assert {row.ref for row in found} == expected
                assert view.first(VIF, network=network) == next(iter(found), None)
                assert view.layer.at_most(VIF, "network", network) >= len(found)
                chosen = parse(f'field "network"="{network}"')
                assert {row.ref for row in select(view, VIF, chosen)} == expected
            for label in TEXTS:
                expected = {ref for ref, fields in naive[Network].items() if fields["name_label"] == label}
                assert {row.ref for row in view.by_name_label(Network, label)} == expected
            for ref in NETWORKS:
                assert len(view.where(Network, uuid=ref)) == (ref in naive[Network])

    def begin(self) -> None:
        self.txns = [self.database.begin()]
        self.pending = [copy.deepcopy(self.naive)]

    def dangling(self) -> bool:
        """Whether any reference of the pending state leads nowhere."""
        naive = self.mine
        return any(
            target not in (NULL, *naive[other])
            for cls, name, other in ((VIF, "network", Network), (Task, "subtask_of", Task))
            for target in (fields[name] for fields in naive[cls].values())
        )

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()


class OvsdbMachine(DatabaseMachine):
    """The same on a server."""

    def new_engine(self) -> Engine:
        self.ended = ExitStack()
        return self.ended.enter_context(engine_on(server()))

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "ended"):
            self.ended.close()


@functools.cache
def server() -> Cluster:
    directory = tempfile.TemporaryDirectory()
    made = Cluster(Path(directory.name) / "c", 1)
    atexit.register(directory.cleanup)
    atexit.register(made.close)
    return made


TestOvsdbMachine = OvsdbMachine.TestCase
TestOvsdbMachine.settings = settings(max_examples=8, stateful_step_count=30, deadline=None)
TestDatabaseMachine = DatabaseMachine.TestCase
TestDatabaseMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
