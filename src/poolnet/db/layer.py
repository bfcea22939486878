"""How are rows looked up, whether committed or in a transaction? Views, overlays and filters ask through this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from poolnet.db.shape import SHAPES, with_values
from poolnet.model.types import Ref, Row

R = TypeVar("R", bound=Row)


class Layer(Protocol):
    """Committed tables, or the changes of a transaction over another layer.

    A row is stored without its computed sets; `row` fills them in. References are plain texts here.
    """

    @property
    def stamp(self) -> int:
        """A number that grows with every change of what this layer shows."""
        ...

    def mark(self, cls: type[Row]) -> int:
        """A number that stands for the committed rows of a class as they are now; see `changed_since`."""
        ...

    def changed_since(self, cls: type[Row], mark: int) -> frozenset[str] | None:
        """The rows that this layer shows other than they were committed at that mark: new ones and those gone, too.

        A few more may be among them. None if nobody remembers how it was.
        """
        ...

    def stored(self, cls: type[R], ref: str) -> R | None:
        """Gives the row with its computed sets empty."""
        ...

    def row(self, cls: type[R], ref: str) -> R | None:
        """Gives the row with its computed sets filled in."""
        ...

    def refs(self, cls: type[R]) -> Sequence[Ref[R]]:
        """Gives all references of the class in creation order, as they are now."""
        ...

    def count(self, cls: type[Row]) -> int:
        """Says how many rows the class has."""
        ...

    def lookup(self, cls: type[R], attribute: str, value: object) -> Sequence[Ref[R]]:
        """Gives the rows whose indexed attribute has this value."""
        ...

    def at_most(self, cls: type[Row], attribute: str, value: object) -> int:
        """Says how many rows `lookup` would give, or a few more: what it takes does not depend on how many."""
        ...

    def by_uuid(self, cls: type[R], uuid: str) -> Ref[R] | None:
        """Gives the row with this uuid."""
        ...

    def owner(self, ref: str) -> type[Row] | None:
        """Says of which class the object with this reference is; one that a transaction destroys still has it."""
        ...


def filled(layer: Layer, row: R) -> R:
    """Fills in a stored row's computed sets from the layer's indexes (spec §2.3)."""
    computed = {
        name: members
        for name, each in SHAPES[type(row)].computed.items()
        if (members := layer.lookup(each.other, each.other_attribute, row.ref))
    }
    return with_values(row, computed) if computed else row
