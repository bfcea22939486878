"""What must another host be told so that its copy of the database is this one? The pool sends it, `Database.follow` takes it.

A copy knows the last commit number that it has. What changed since is found from the feed; if deletions that old may have been
forgotten, or the copy has something else altogether, it gets everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from poolnet.db.body import encode_body
from poolnet.db.engine import Deletion, StoredRow
from poolnet.db.shape import BY_NAME, SHAPES
from poolnet.model.types import Ref

if TYPE_CHECKING:
    from poolnet.db.database import Database

_DURABLE: Final = frozenset(shape.name for shape in SHAPES.values() if shape.durable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicated:
    """Rows as they are at a commit, and deletions. If it is the `whole` database, what is not in `puts` is gone."""

    number: int
    puts: tuple[StoredRow, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    whole: bool = False


def since(database: Database, number: int | None) -> Replicated:
    """What changed since a commit, as far as it outlives a restart; everything for None, or for what is forgotten."""
    delta = database.feed.changes_since(number, _DURABLE) if number is not None else None
    if delta is None or not delta.complete or delta.number < (number or 0):
        return Replicated(number=database.feed.number, puts=tuple(_everything(database)), whole=True)
    changed = (
        _stored(database, change.class_name, change.ref) for change in (*delta.created, *delta.modified)
    )
    deletions = tuple(
        Deletion(class_name=change.class_name, ref=change.ref, created=0, number=change.number)
        for change in delta.deleted
    )
    return Replicated(number=delta.number, puts=tuple(changed), deletions=deletions)


def _everything(database: Database) -> Iterator[StoredRow]:
    for cls, shape in SHAPES.items():
        if shape.durable:
            for ref in database.view.refs(cls):
                yield _stored(database, shape.name, ref)


def _stored(database: Database, class_name: str, ref: str) -> StoredRow:
    cls = BY_NAME[class_name].row_type
    row = database.view.find(cls, Ref(ref))
    assert row is not None, f"{ref} is in the feed and not in its table"  # noqa: S101 - for the type checker; nothing from outside is asserted
    created = database.feed.created_at(cls, ref)
    modified = database.feed.modified_at(cls, ref)
    return StoredRow(
        class_name=class_name, ref=ref, created=created or 0, modified=modified or 0, body=encode_body(row)
    )
