"""How do results leave this server? As cached fragments over the wire, as XML in tasks, as plain values in this process.

The dispatcher calls it for what is not a plain value: rows, maps of rows, and batches of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from poolnet.api.answer import Codec, Encoded
from poolnet.api.events import ChangeEvent, EventBatch
from poolnet.api.fragments import encode_record, encode_value, items, member, struct
from poolnet.api.implicit import record_of
from poolnet.db.database import Database
from poolnet.model.declare import ClassDecl
from poolnet.model.registry import CLASSES
from poolnet.model.types import Int32T, Row, StringT, Value, WireType

_TEXT = StringT()
_COUNT = Int32T()


def encoded_rows(database: Database, rows: Row | Mapping[Any, Row]) -> Encoded:
    """A committed record, or a map from references to records, of cached fragments."""
    if isinstance(rows, Row):
        row = rows
        return Encoded(lambda codec: [_record(database, codec, row)])
    return Encoded(
        lambda codec: struct(codec, [_named_record(database, codec, row) for row in rows.values()])
    )


def encoded_class(database: Database, decl: ClassDecl) -> Encoded:
    """All committed records of a class: nothing but kept bytes, if nothing has changed."""
    return Encoded(lambda codec: struct(codec, _named_records(database, codec, decl)))


def encoded_events(database: Database, batch: EventBatch) -> Encoded:
    """The answer of `event.from`, or of `event.next` when there is no token."""
    return Encoded(
        lambda codec: _batch(codec, batch, lambda c, row: _record(database, c, row)),
        batch.shared if batch.token is not None else None,
    )


def result_xml(wire_type: WireType, value: object) -> str:
    """A result as a task keeps it: its XML-RPC rendering, whoever asked (spec §4)."""
    if isinstance(value, Mapping) and value and isinstance(next(iter(value.values())), Row):
        value = {ref: record_of(row) for ref, row in value.items()}
    if isinstance(value, EventBatch):
        return b"".join(_batch(Codec.XML, value, _encode)).decode()
    return encode_value(Codec.XML, wire_type, value).decode()  # type: ignore[arg-type]


def plain_value(value: object) -> Value:
    """A result for callers in this process: rows become records, batches become mappings."""
    if isinstance(value, Row):
        return record_of(value)
    if isinstance(value, EventBatch):
        events = tuple(_plain_event(event) for event in value.events)
        return events if value.token is None else _plain_batch(value, events)
    if isinstance(value, Mapping) and value and isinstance(next(iter(value.values())), Row):
        return {ref: record_of(row) for ref, row in value.items()}
    return value  # type: ignore[return-value]


def _plain_batch(batch: EventBatch, events: tuple[Value, ...]) -> Value:
    return {"events": events, "valid_ref_counts": batch.counts, "token": batch.token}


def _plain_event(event: ChangeEvent) -> Value:
    plain: dict[str, Value] = {
        "id": event.id,
        "timestamp": event.timestamp,
        "class": event.cls,
        "operation": event.operation,
        "ref": event.ref,
    }
    if event.row is not None:
        plain["snapshot"] = record_of(event.row)
    return plain


def _record(database: Database, codec: Codec, row: Row) -> bytes:
    if database.view.find(type(row), row.ref) is not row:  # changed or gone since it was read
        return _encode(codec, row)
    return database.fragment(type(row), row.ref, codec, lambda current: _encode(codec, current))


def _named_record(database: Database, codec: Codec, row: Row) -> bytes:
    if database.view.find(type(row), row.ref) is not row:
        return _encode_named(codec, row)
    return database.fragment(
        type(row), row.ref, f"{codec}-member", lambda current: _encode_named(codec, current)
    )


def _named_records(database: Database, codec: Codec, decl: ClassDecl) -> list[bytes]:
    kept = database.fragments(decl.python_type, f"{codec}-member", lambda row: _encode_named(codec, row))
    return [fragment for _, fragment in kept]


def _encode(codec: Codec, row: Row) -> bytes:
    return encode_record(codec, CLASSES[row.wire_name], row)


def _encode_named(codec: Codec, row: Row) -> bytes:
    return member(codec, row.ref, _encode(codec, row))


def _batch(codec: Codec, batch: EventBatch, snapshot: Callable[[Codec, Row], bytes]) -> Iterator[bytes]:
    """The pieces of a batch, each made when it is asked for: all of the database is too much for one turn."""
    events = items(codec, (b"".join(_event(codec, event, snapshot)) for event in batch.events))
    if batch.token is None:
        yield from events
        return
    counts = struct(
        codec, [member(codec, name, encode_value(codec, _COUNT, n)) for name, n in batch.counts.items()]
    )
    rest = [
        member(codec, "valid_ref_counts", b"".join(counts)),
        member(codec, "token", encode_value(codec, _TEXT, batch.token)),
    ]
    if codec is Codec.XML:
        yield b"<value><struct><member><name>events</name>"
        yield from events
        yield b"</member>"
        yield from rest
        yield b"</struct></value>"
    else:
        yield b'{"events":'
        yield from events
        for each in rest:
            yield b"," + each
        yield b"}"


def _event(codec: Codec, event: ChangeEvent, snapshot: Callable[[Codec, Row], bytes]) -> Iterable[bytes]:
    texts = {
        "id": event.id,
        "timestamp": event.timestamp,
        "class": event.cls,
        "operation": event.operation,
        "ref": event.ref,
    }
    members = [member(codec, name, encode_value(codec, _TEXT, text)) for name, text in texts.items()]
    if event.row is not None:
        members.append(member(codec, "snapshot", snapshot(codec, event.row)))
    return struct(codec, members)
