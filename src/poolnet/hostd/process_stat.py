"""What does the kernel say of a process, and since when is it there? With the PID that identifies it: PIDs are used again.

The standard library alone: the guard of a lease (`fence_guard`) asks, which runs without anything else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

_GONE: Final = ("Z", "X")  # nothing of it runs any more


class ProcessStat(NamedTuple):
    """A process: its program's name, its state by the kernel's letter, and when it started, in clock ticks since boot."""

    name: str
    state: str
    parent: int
    session: int
    started: int


def stat_of(pid: int) -> ProcessStat | None:
    """What there is to say of a process; nothing if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    before, _, after = stat.rpartition(")")  # the name may have one, too
    fields = after.split()
    return ProcessStat(
        name=before.partition("(")[2],
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
    )


def started_at(pid: int) -> int:
    """When the process started, in clock ticks since boot; 0 when there is none or it is a zombie."""
    stat = stat_of(pid)
    return 0 if stat is None or stat.state in _GONE else stat.started
