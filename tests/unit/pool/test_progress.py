"""What the tasks of a change over several hosts say while it is on its way."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.txn import Txn
from poolnet.model.classes.task import Task
from poolnet.model.enums import TaskStatusType
from poolnet.pool.progress import DETAILED_TASKS_MAX, HOST_KEY, Progress, Step
from tests.unit.db.rows import a_host, a_task, create

Change = Callable[[Txn], None]


class Written:
    """A database, and the changes that wait to be carried out on it."""

    def __init__(self, tasks: int) -> None:
        self.database = Database.open(MemoryEngine())
        self.hosts = [a_host("one"), a_host("two")]
        self.tasks = [a_task() for _ in range(tasks)]
        create(self.database, *self.hosts, *self.tasks)
        for task in self.tasks:
            self.set(task, status=TaskStatusType.PENDING)
        self.waiting: list[Change] = []
        self.progress = Progress(
            [task.ref for task in self.tasks], [host.ref for host in self.hosts], self.waiting.append
        )

    def set(self, task: Task, **fields: object) -> None:
        txn = self.database.begin()
        txn.update(Task, task.ref, **fields)
        self.database.commit_now(txn.changes())

    def carry_out(self) -> int:
        """Carries the changes out; how many there were."""
        waiting, self.waiting[:] = list(self.waiting), []
        for change in waiting:
            txn = self.database.begin()
            change(txn)
            self.database.commit_now(txn.changes())
        return len(waiting)

    def said(self, number: int = 0) -> tuple[float, dict[str, str]]:
        task = self.database.view.get(Task, self.tasks[number].ref)
        names = {f"{HOST_KEY}{host.uuid}": host.name_label for host in self.hosts}
        return task.progress, {names[k]: text for k, text in task.other_config.items() if k in names}


def test_what_comes_together_is_written_once_and_is_the_last_word() -> None:
    world = Written(1)
    world.progress.note(world.hosts[0].ref, Step.PLANNED)
    world.progress.note(world.hosts[0].ref, Step.CHANGED)
    assert world.carry_out() == 1
    progress, steps = world.said()
    assert progress == pytest.approx(0.4 * 0.95)
    assert steps == {"one": "changed", "two": "planning"}


def test_it_never_goes_backwards_and_ends_with_the_call() -> None:
    world = Written(1)
    for host in world.hosts:
        world.progress.note(host.ref, Step.CHANGED)
    world.carry_out()
    before, _ = world.said()
    world.progress.note(world.hosts[1].ref, Step.FAILED)
    world.carry_out()
    assert world.said() == (before, {"one": "changed", "two": "failed"})
    world.set(world.tasks[0], status=TaskStatusType.FAILURE, progress=1.0)
    world.progress.note(world.hosts[0].ref, Step.TAKEN_BACK)
    world.carry_out()
    assert world.said() == (1.0, {"one": "changed", "two": "failed"})


def test_many_calls_at_once_have_the_fraction_only() -> None:
    world = Written(DETAILED_TASKS_MAX + 1)
    world.progress.note(world.hosts[0].ref, Step.KEPT)
    world.carry_out()
    progress, steps = world.said(DETAILED_TASKS_MAX)
    assert progress == pytest.approx(0.5 * 0.95)
    assert steps == {}


def test_a_call_without_a_task_writes_nothing() -> None:
    world = Written(0)
    world.progress.note(world.hosts[0].ref, Step.KEPT)
    assert world.carry_out() == 0
