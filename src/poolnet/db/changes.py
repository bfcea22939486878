"""What did a transaction write? Made by transactions, merged over a newer state by the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from poolnet.model.types import Row

Key: TypeAlias = tuple[type[Row], str]
"""One object: its class and its reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The write set of a transaction, field by field, so that it merges with what others committed meanwhile.

    `updated` has the new values, by attribute; `seen` the values that the transaction found there when it wrote
    first, which tell what it meant for a map or a set: the keys and members that it added and removed. `touched` are
    objects that count as modified though nothing was written (event.inject).
    """

    created: tuple[Row, ...] = ()
    updated: Mapping[Key, Mapping[str, object]] = field(default_factory=dict)
    seen: Mapping[Key, Mapping[str, object]] = field(default_factory=dict)
    destroyed: tuple[Key, ...] = ()
    touched: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to commit."""
        return bool(self.created or self.updated or self.destroyed or self.touched)


def merged(seen: object, written: object, present: object) -> object:
    """Gives the value that a field gets when the transaction found `seen`, wrote `written`, and now stands `present`.

    Plain values are overwritten. Maps and sets get the keys and members that the transaction added or changed, and
    lose those that it removed: of two clients that add a key each, neither loses its own.
    """
    if present == seen:
        return written
    if isinstance(written, Mapping) and isinstance(seen, Mapping) and isinstance(present, Mapping):
        kept = {key: value for key, value in present.items() if key in written or key not in seen}
        added = {key: value for key, value in written.items() if key not in seen or seen[key] != value}
        return {**kept, **added}
    if isinstance(written, tuple) and isinstance(seen, tuple) and isinstance(present, tuple):
        kept_members = tuple(each for each in present if each in written or each not in seen)
        return (*kept_members, *(each for each in written if each not in seen and each not in present))
    return written
