"""How far is a change of several hosts? A fraction and a word for each host, for whoever watches the tasks of its calls."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Final

from poolnet.db.txn import Txn
from poolnet.model.classes.host import Host
from poolnet.model.classes.task import Task
from poolnet.model.enums import TaskStatusType
from poolnet.model.types import Ref, is_null

HOST_KEY: Final = "host:"
"""The keys of a task's other_config with how far each host is: this and the host's uuid."""

DETAILED_TASKS_MAX: Final = 16
"""Of more calls that are carried out together, tasks have the fraction only: each would have a word for each host."""

WHEN_ALL_ARE_THROUGH: Final = 0.95  # the task itself ends after that


class Step(enum.StrEnum):
    """How far a host is in a rollout."""

    PLANNING = "planning"
    PLANNED = "planned"
    CHANGED = "changed"
    KEPT = "kept"
    FAILED = "failed"
    TAKEN_BACK = "taken back"


_DONE: Final = {Step.PLANNED: 0.3, Step.CHANGED: 0.8, Step.KEPT: 1.0, Step.TAKEN_BACK: 1.0}


class Progress:
    """One rollout's.

    Args:
        tasks: Of the calls that it carries out.
        hosts: The hosts that it changes.
        write: Has a change of the database carried out, some time later.
    """

    def __init__(
        self,
        tasks: Iterable[Ref[Task]],
        hosts: Iterable[Ref[Host]],
        write: Callable[[Callable[[Txn], None]], object],
    ) -> None:
        self._tasks = tuple(dict.fromkeys(task for task in tasks if not is_null(task)))
        self._hosts = dict.fromkeys(hosts, Step.PLANNING)
        self._write = write
        self._waits_to_be_written = False

    def note(self, host: Ref[Host], step: Step) -> None:
        """Says how far a host is now."""
        self._hosts[host] = step
        if self._tasks and not self._waits_to_be_written:
            self._waits_to_be_written = True
            self._write(self._record)

    def _record(self, txn: Txn) -> None:
        """Writes how far all hosts are at this moment to the tasks that are still pending.

        Nothing stays of a rollout before, from which a call was split off because another one failed.
        """
        self._waits_to_be_written = False
        done = sum(_DONE.get(step, 0.0) for step in self._hosts.values()) / len(self._hosts)
        steps = {}
        if len(self._tasks) <= DETAILED_TASKS_MAX:
            steps = {
                f"{HOST_KEY}{row.uuid}": step.value
                for host, step in self._hosts.items()
                if (row := txn.find(Host, host)) is not None
            }
        for ref in self._tasks:
            task = txn.find(Task, ref)
            if task is not None and task.status is TaskStatusType.PENDING:
                progress = max(task.progress, done * WHEN_ALL_ARE_THROUGH)
                others = {k: v for k, v in task.other_config.items() if not k.startswith(HOST_KEY)}
                txn.update(Task, ref, progress=progress, other_config={**others, **steps})
