"""How do commands read many objects with few calls? A reader keeps every record that it has seen.

References are looked up one by one as long as there are few; from `BULK` unknown ones on, the whole class is read
with one call, so that a list of thousands costs as many calls as it shows classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, cast

from poolnet.model.errors import Failure
from poolnet.model.registry import CLASSES
from poolnet.model.types import is_null
from poolnet.xe.caller import Caller, Record
from poolnet.xe.texts import NOT_IN_DATABASE

BULK: Final = 8


class Reader:
    """Reads records through one session; one reader serves one command, so it never sees a change of its own."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self._records: dict[str, dict[str, Record | None]] = {}

    async def query(self, cls: str, expression: str) -> dict[str, Record]:
        """Read the objects of a class that an API query selects, by reference, in the database's order."""
        answer = await self.caller.call(f"{cls}.get_all_records_where", expression)
        found = cast("dict[str, Record]", answer)
        self._known(cls).update(found)
        return found

    async def by_uuid(self, cls: str, uuid: str) -> tuple[str, Record]:
        """Read the object with this uuid.

        Raises:
            Failure: UUID_INVALID.
        """
        ref = cast(str, await self.caller.call(f"{cls}.get_by_uuid", uuid))
        record = cast("Record", await self.caller.call(f"{cls}.get_record", ref))
        self._known(cls)[ref] = record
        return ref, record

    async def record(self, cls: str, ref: str) -> Record | None:
        """Read an object; None for a null or dangling reference, and for the classes that poolnet has none of."""
        if is_null(ref) or cls not in CLASSES:
            return None
        known = self._known(cls)
        if ref not in known:
            try:
                known[ref] = cast("Record", await self.caller.call(f"{cls}.get_record", ref))
            except Failure as failure:
                if failure.code != "HANDLE_INVALID":
                    raise
                known[ref] = None
        return known[ref]

    async def prefetch(self, cls: str, refs: Iterable[str]) -> None:
        """Read what these references will need, with one call if they are many."""
        if cls not in CLASSES:
            return
        known = self._known(cls)
        wanted = {ref for ref in refs if ref not in known and not is_null(ref)}
        if len(wanted) >= BULK:
            known.update(await self.all(cls))
            known.update(dict.fromkeys(wanted - known.keys()))

    async def all(self, cls: str) -> Mapping[str, Record]:
        """Read every object of a class."""
        found = cast("dict[str, Record]", await self.caller.call(f"{cls}.get_all_records"))
        self._known(cls).update(found)
        return found

    async def text(self, cls: str, ref: str, field: str = "uuid") -> str:
        """Give a text field, the uuid unless another is named, of the object behind a reference."""
        record = await self.record(cls, ref)
        return NOT_IN_DATABASE if record is None else str(record[field])

    def forget(self) -> None:
        """Read everything anew from now on."""
        self._records.clear()

    def _known(self, cls: str) -> dict[str, Record | None]:
        return self._records.setdefault(cls, {})
