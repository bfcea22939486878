"""Which host of the pool has a lease, and what happens to it? Operations on a table of the cluster, and what is read there.

A host renews its lease by a transaction of its own: that it was carried out proves that the host saw the majority when it began.
Whoever coordinates may take a lease away by a transaction too, so that what both do has an order (docs/decisions/0025). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from poolnet.db import ovsdb_schema as kept
from poolnet.db.ovsdb_transactions import LOCK
from poolnet.ovsdb import operations
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.values import Json, Value


class State(StrEnum):
    """What a lease is."""

    NEW = "new"
    """The host is to take it."""
    HELD = "held"
    """The host has it, or had it a moment ago: it stops its guests when it cannot renew it in time."""
    LOST = "lost"
    """The coordinator has taken it away: the host cannot renew it, and stops its guests."""
    STOPPED = "stopped"
    """As lost; and a coordinator has waited until the host had stopped its guests for certain."""
    LAID_DOWN = "laid down"
    """An administrator has disarmed the host: nobody knows that it stops anything."""
    OFF = "off"
    """High availability was turned off; the host has yet to hear it, or has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A host's lease: of which time of high availability (`generation`), for how long, and its last renewal (`beat`)."""

    host: str
    generation: str
    seconds: int
    state: State
    beat: str


READ: Sequence[Operation] = (operations.select_all(kept.LEASE),)
"""Reads all leases, as the leader has them: it may have been cut off a moment ago."""


def read_one(host: str) -> list[Operation]:
    """Reads one host's lease."""
    return [{"op": "select", "table": kept.LEASE, "where": [["host", "==", host]]}]


def leases_in(results: Sequence[Json]) -> tuple[Lease, ...]:
    """The leases that `READ` or `read_one` has found; rows of another version are passed over."""
    found: Any = results[0]
    rows = found.get("rows", ()) if isinstance(found, dict) else ()
    states = {state.value for state in State}
    return tuple(
        Lease(
            host=str(row["host"]),
            generation=str(row["generation"]),
            seconds=int(row["seconds"]),
            state=State(row["state"]),
            beat=str(row["beat"]),
        )
        for row in rows
        if row.get("state") in states
    )


def _guarded(term: int, work: Iterable[Operation]) -> list[Operation]:
    """What only the coordinator of this term may do. It does not count as one of its commits."""
    term_row = {"ready": True, "term": term}
    return [operations.hold(LOCK), operations.require(kept.STATE, kept.STATE_ROW, term_row), *work]


def offer(term: int, hosts: Iterable[str], generation: str, seconds: int, beat: str) -> list[Operation]:
    """Offers leases to these hosts, and to no others."""
    work = [operations.delete_where(kept.LEASE)]
    for host in hosts:
        row: dict[str, Value] = {
            "host": host,
            "generation": generation,
            "seconds": seconds,
            "state": State.NEW.value,
            "beat": beat,
        }
        work.append(operations.insert_as(kept.LEASE, row))
    return _guarded(term, work)


def end(term: int, beat: str) -> list[Operation]:
    """Ends all leases."""
    update: Operation = {
        "op": "update",
        "table": kept.LEASE,
        "where": [],
        "row": {"state": State.OFF.value, "beat": beat},
    }
    return _guarded(term, [update])


def take_away(term: int, lease: Lease, beat: str) -> list[Operation]:
    """Takes a lease away that has not been renewed since it was read."""
    return _guarded(term, [_require(lease), _update(lease, State.LOST, beat)])


def note_stopped(term: int, lease: Lease, beat: str) -> list[Operation]:
    """Writes that the host runs no guest, if it has not come back since the lease was read."""
    return _guarded(term, [_require(lease), _update(lease, State.STOPPED, beat)])


def renew(lease: Lease, state: State, beat: str) -> list[Operation]:
    """The host's own: changes the state that it has read, or none, and proves that it sees the majority."""
    return [_require_state(lease), _update(lease, state, beat)]


def _where(lease: Lease) -> list[Json]:
    return [["host", "==", lease.host], ["generation", "==", lease.generation]]


def _update(lease: Lease, state: State, beat: str) -> Operation:
    row: dict[str, Json] = {"state": state.value, "beat": beat}
    where: list[Json] = _where(lease)
    return {"op": "update", "table": kept.LEASE, "where": where, "row": row}


def _require(lease: Lease) -> Operation:
    return _wait(lease, {"state": lease.state.value, "beat": lease.beat})


def _require_state(lease: Lease) -> Operation:
    return _wait(lease, {"state": lease.state.value})


def _wait(lease: Lease, row: dict[str, Json]) -> Operation:
    where: list[Json] = _where(lease)
    columns: list[Json] = list(row)
    rows: list[Json] = [row]
    return {
        "op": "wait",
        "table": kept.LEASE,
        "timeout": 0,
        "where": where,
        "columns": columns,
        "until": "==",
        "rows": rows,
    }
