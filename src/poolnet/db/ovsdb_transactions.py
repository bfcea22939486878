"""Which operations carry out a commit in an OVSDB server, and whose turn is it there? Pure; the engine sends them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from poolnet.db import ovsdb_schema as kept
from poolnet.db.engine import (
    DELETIONS_KEPT,
    DELETIONS_MAX,
    CommitRecord,
    Deletion,
    LogHead,
    Note,
    Stored,
    StoredRow,
)
from poolnet.db.errors import DatabaseDamaged
from poolnet.ovsdb import operations
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.replica import Replica
from poolnet.ovsdb.values import Json, Value, decode

LOCK: Final = "poolnet_coordinator"
TERMS_KEPT: Final = 64
SEED_ROWS: Final = 2000
"""Rows in one transaction when a whole database is written: entries of a Raft log should not be large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Whose turn it is: the row of `db_state`.

    `holder` is the uuid of the host that coordinates in `term`, at `address`; whoever is `successor` should take the next one.
    `number` counts the transactions of all terms; `line` names the line of commits. Before it is `ready`, nobody's.
    """

    ready: bool = False
    line: str = ""
    term: int = 0
    holder: str = ""
    address: str = ""
    successor: str = ""
    number: int = 0


@dataclass(slots=True)
class Book:
    """What an engine remembers of what is stored: where each row is, and how many deletions of each class."""

    tables: dict[str, str] = field(default_factory=dict)
    positions: dict[str, int] = field(default_factory=dict)
    position: int = 0
    deletions: dict[str, list[int]] = field(default_factory=dict)

    def place(self, ref: str) -> int:
        """The position of a row, a new one for a new row."""
        if ref not in self.positions:
            self.position += 1
            self.positions[ref] = self.position
        return self.positions[ref]

    def remember(self, record: CommitRecord) -> None:
        """Takes note of a record that is stored; `operations_of` has given its rows their places."""
        put = {row.ref for row in record.puts}
        for deletion in record.deletions:
            self.tables.pop(deletion.ref, None)
            if deletion.ref not in put:
                self.positions.pop(deletion.ref, None)
        for name in dict.fromkeys(each.class_name for each in record.deletions):
            of_class = self.deletions.setdefault(name, [])
            count = sum(each.class_name == name for each in record.deletions)
            of_class += range(self.position + 1, self.position + 1 + count)
            self.position += count
            if len(of_class) >= DELETIONS_MAX:
                del of_class[:-DELETIONS_KEPT]
        for row in record.puts:
            self.tables[row.ref] = row.class_name


def turn_of(columns: Mapping[str, Value] | None) -> Turn:
    """Reads the row of `db_state`; there is none before a database is written."""
    if columns is None:
        return Turn()
    return Turn(
        ready=columns.get("ready") is True,
        line=str(columns.get("line", "")),
        term=_number(columns.get("term")),
        holder=str(columns.get("holder", "")),
        address=str(columns.get("address", "")),
        successor=str(columns.get("next", "")),
        number=_number(columns.get("number")),
    )


def claim(turn: Turn, host: str, address: str) -> list[Operation]:
    """Makes a host the coordinator of the next term, if nobody has become it and nothing was committed meanwhile."""
    term = turn.term + 1
    return [
        operations.hold(LOCK),
        operations.require(
            kept.STATE, kept.STATE_ROW, {"ready": True, "term": turn.term, "number": turn.number}
        ),
        operations.update(
            kept.STATE, kept.STATE_ROW, {"term": term, "holder": host, "address": address, "next": ""}
        ),
        operations.insert_as(kept.TERM, {"term": term, "holder": host, "number": turn.number}),
        operations.delete_where(kept.TERM, ("term", "<=", term - TERMS_KEPT)),
    ]


def hand_over(turn: Turn, successor: str) -> list[Operation]:
    """Says whose turn is next, as long as it is still this one's."""
    return [
        operations.hold(LOCK),
        operations.require(kept.STATE, kept.STATE_ROW, {"term": turn.term, "number": turn.number}),
        operations.update(kept.STATE, kept.STATE_ROW, {"next": successor}),
    ]


def retire(turn: Turn) -> list[Operation]:
    """Takes a database out of use, as long as it is still that one's turn."""
    return [
        operations.require(kept.STATE, kept.STATE_ROW, {"ready": True, "term": turn.term}),
        operations.update(kept.STATE, kept.STATE_ROW, {"ready": False}),
    ]


def guarded(work: Sequence[Operation], term: int, number: int) -> list[Operation]:
    """Carries out work as the next transaction of a term: not without the lock, not in another term, not twice."""
    return [
        operations.hold(LOCK),
        operations.require(kept.STATE, kept.STATE_ROW, {"ready": True, "term": term, "number": number}),
        *work,
        operations.update(kept.STATE, kept.STATE_ROW, {"number": number + 1}),
    ]


def is_committed(terms: Mapping[int, int], term: int, number: int) -> bool:
    """Whether the transaction that was to lead from `number` to the next in a term that is over has been carried out.

    `terms` has the number at which each term began. Within a term only its coordinator counts.
    """
    later = [began for each, began in sorted(terms.items()) if each > term]
    return bool(later) and later[0] > number


def operations_of(record: CommitRecord, book: Book, host: str) -> list[Operation]:
    """The operations that store a record. Raises DatabaseDamaged for rows that are none of the model's."""
    gone = {each.ref for each in record.deletions if each.ref in book.tables}
    # A server takes no new row with the uuid of one that the same transaction removes.
    again = {row.ref for row in record.puts if row.ref in gone and book.tables[row.ref] == row.class_name}
    work = [operations.delete(book.tables[ref], kept.row_id(ref)) for ref in gone - again]
    for row in record.puts:
        if row.ref in gone:
            book.positions.pop(row.ref, None)
        columns = kept.columns_of(row, book.place(row.ref))
        if row.ref in again:
            work.append(operations.update(row.class_name, kept.row_id(row.ref), columns))
        elif row.ref in book.tables and row.ref not in gone:
            del columns["row_created"]
            work.append(operations.update(row.class_name, kept.row_id(row.ref), columns))
        else:
            work.append(operations.insert_as(row.class_name, columns, kept.row_id(row.ref)))
    for touch in record.touches:
        if touch.ref in book.tables:
            columns = {"row_modified": touch.modified}
            work.append(operations.update(book.tables[touch.ref], kept.row_id(touch.ref), columns))
    work += _deletions(record.deletions, book)
    work += [
        operations.insert_as(kept.NOTE, {"number": note.number, "body": kept.text_in(note.body.decode())})
        for note in record.notes
    ]
    if record.log_head is not None:
        head = record.log_head
        work.append(operations.delete_where(kept.NOTE, ("number", "<=", head.noted)))
        work.append(operations.delete_where(kept.LOG_HEAD, ("host", "==", host)))
        columns = {"host": host, "records": head.records, "hash": head.hash, "noted": head.noted}
        work.append(operations.insert_as(kept.LOG_HEAD, columns))
    if record.ceiling is not None:
        work.append(operations.update(kept.STATE, kept.STATE_ROW, {"ceiling": record.ceiling}))
    return work


def _deletions(deletions: Sequence[Deletion], book: Book) -> Iterator[Operation]:
    """Remembers deletions, and forgets the oldest of a class that has too many; see `Book.remember` for the positions."""
    position = book.position
    for name in dict.fromkeys(each.class_name for each in deletions):
        places = list(book.deletions.get(name, ()))
        for deletion in deletions:
            if deletion.class_name != name:
                continue
            position += 1
            places.append(position)
            yield operations.insert_as(
                kept.DELETION,
                {
                    "class": name,
                    "ref": kept.text_in(deletion.ref),
                    "created": deletion.created,
                    "number": deletion.number,
                    "position": position,
                },
            )
        if len(places) >= DELETIONS_MAX:
            newest_gone = places[-DELETIONS_KEPT - 1]
            yield operations.delete_where(
                kept.DELETION, ("class", "==", name), ("position", "<=", newest_gone)
            )


_OWN: Final = (kept.STATE, kept.DELETION, kept.NOTE, kept.LOG_HEAD)
Table: TypeAlias = "Sequence[Mapping[str, Value]]"


def read_operations() -> list[Operation]:
    """Reads everything, as it is at one moment."""
    return [operations.select_all(name) for name in (*_OWN, *kept.classes())]


def read(results: Sequence[Json], host: str) -> tuple[Stored, Book]:
    """What `read_operations` has found. Raises DatabaseDamaged."""
    return _read([_rows(result) for result in results], host)


def read_columns() -> Mapping[str, Sequence[str]]:
    """What a replica has to have of each table for `read_replica`."""
    return {name: tuple(kept.defaults(name)) for name in (*_OWN, *kept.classes())}


def read_replica(replica: Replica, host: str) -> tuple[Stored, Turn]:
    """What a server has, also one without a majority, which carries out no transaction. Raises DatabaseDamaged."""
    tables = [
        [{**kept.defaults(name), **row} for row in replica.rows(name).values()]
        for name in (*_OWN, *kept.classes())
    ]
    stored, _ = _read(tables, host)
    return stored, turn_of(replica.row(kept.STATE, kept.STATE_ROW))


def _read(tables: Sequence[Table], host: str) -> tuple[Stored, Book]:
    state, deletions, notes, heads, *classes = tables
    found: list[tuple[int, StoredRow]] = []
    for name, rows in zip(kept.classes(), classes, strict=True):
        found += (kept.row_of(name, row) for row in rows)
    found.sort(key=lambda each: each[0])
    gone = sorted(
        ((_number(row["position"]), _deletion(row)) for row in deletions),
        key=lambda each: (each[1].number, each[0]),
    )
    book = Book(
        tables={row.ref: row.class_name for _, row in found},
        positions={row.ref: position for position, row in found},
        position=max((0, *(position for position, _ in found), *(position for position, _ in gone))),
    )
    for position, deletion in sorted(gone, key=lambda each: each[0]):
        book.deletions.setdefault(deletion.class_name, []).append(position)
    stored = Stored(
        rows=tuple(row for _, row in found),
        deletions=tuple(deletion for _, deletion in gone),
        ceiling=max((0, *(_number(row["ceiling"]) for row in state))),
        notes=tuple(
            sorted(
                (
                    Note(number=_number(row["number"]), body=kept.text_out(str(row["body"])).encode())
                    for row in notes
                ),
                key=lambda each: each.number,
            )
        ),
        log_head=_head(heads, host),
    )
    return stored, book


def _head(heads: Sequence[Mapping[str, Value]], host: str) -> LogHead:
    """The end of a host's own log. What another host has written into its log needs not be written once more."""
    own = next((row for row in heads if row["host"] == host), None)
    noted = max((0, *(_number(row["noted"]) for row in heads)))
    if own is None:
        return LogHead(noted=noted)
    return LogHead(records=_number(own["records"]), hash=str(own["hash"]), noted=noted)


def whole(stored: Stored, host: str) -> Iterator[list[Operation]]:
    """The work of writing a whole database into empty tables, cut into transactions of a good size."""
    book = Book()
    rows = stored.rows
    rest = CommitRecord(
        deletions=tuple(stored.deletions),
        ceiling=stored.ceiling,
        notes=tuple(stored.notes),
        log_head=stored.log_head if stored.log_head.records else None,
    )
    for at in range(0, len(rows), SEED_ROWS):
        record = CommitRecord(puts=tuple(rows[at : at + SEED_ROWS]))
        yield operations_of(record, book, host)
        book.remember(record)
    yield operations_of(rest, book, host)


def empty() -> list[Operation]:
    """Takes all tables' rows away."""
    return [operations.delete_where(table) for table in (*_OWN, kept.TERM, *kept.classes())]


def begin(line: str) -> list[Operation]:
    """Begins a database that is not ready yet."""
    return [operations.insert_as(kept.STATE, {"ready": False, "line": line}, kept.STATE_ROW)]


def open_for(line: str, host: str, term: int) -> list[Operation]:
    """Has a database that is complete be used, by that host first; its term is later than that one."""
    return [
        operations.require(kept.STATE, kept.STATE_ROW, {"ready": False, "line": line}),
        operations.update(kept.STATE, kept.STATE_ROW, {"ready": True, "next": host, "term": term}),
    ]


def _deletion(row: Mapping[str, Value]) -> Deletion:
    return Deletion(
        class_name=str(row["class"]),
        ref=kept.text_out(str(row["ref"])),
        created=_number(row["created"]),
        number=_number(row["number"]),
    )


def _rows(result: Json) -> list[dict[str, Value]]:
    rows: Any = result.get("rows") if isinstance(result, dict) else None
    if not isinstance(rows, list):
        raise DatabaseDamaged("the server's answer has no rows")
    return [{name: decode(value) for name, value in row.items() if not name.startswith("_")} for row in rows]


def _number(value: Value | None) -> int:
    return value if isinstance(value, int) else 0


def turn_in(results: Sequence[Json]) -> Turn:
    """Whose turn it is, as `STATE_QUESTION` or `read_operations` was answered."""
    states = _rows(results[0])
    return turn_of(states[0] if states else None)


def state_in(results: Sequence[Json]) -> tuple[Turn, dict[int, int]]:
    """Whose turn it is, and at which number each term began, as `STATE_QUESTION` was answered."""
    began = {_number(row["term"]): _number(row["number"]) for row in _rows(results[1])}
    return turn_in(results), began


STATE_QUESTION: Final = (operations.select_all(kept.STATE), operations.select_all(kept.TERM))
