"""Which records does `K=V` keep? Lists and selectors filter with this (spec xe-cli §5.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from poolnet.xe.caller import Record
from poolnet.xe.fields.declare import Field, Shape, Table
from poolnet.xe.fields.read import prefetch, read, text
from poolnet.xe.records import Reader
from poolnet.xe.refusals import Refused, UnknownParamName

SET_WORD: Final = "contains"


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A field that a parameter names, and what follows its name: None if the parameter is the name itself."""

    field: Field
    key: str | None


def find_named(table: Table, name: str) -> Field:
    """Give the field that `param-name=` means, hidden ones included.

    Raises:
        UnknownParamName: there is none.
    """
    if name not in table.by_name:
        raise UnknownParamName(name)
    return table.by_name[name]


def find_key(table: Table, name: str) -> Key:
    """Say which field a parameter means: by its name, as NAME:KEY, or in the old style NAME-KEY.

    Raises:
        Refused: there is no such field, or it is neither set nor map where a key follows.
    """
    if name in table.by_name:
        return Key(field=table.by_name[name], key=None)
    before, colon, key = name.partition(":")
    if colon:
        if before not in table.by_name:
            raise Refused(f"Unknown field '{name}'")
        field = table.by_name[before]
        if field.shape is Shape.PLAIN:
            raise Refused(f"Field '{before}' is not a set or map")
        return Key(field=field, key=key)
    for shape in (Shape.MAP, Shape.SET):
        fits = [each for each in table.fields if each.shape is shape and name.startswith(f"{each.name}-")]
        if fits:
            longest = max(fits, key=lambda each: len(each.name))
            return Key(field=longest, key=name[len(longest.name) + 1 :])
    raise Refused(f"Unknown field '{name}'")


async def narrow(
    table: Table, reader: Reader, records: Mapping[str, Record], pairs: Iterable[tuple[str, str]]
) -> dict[str, Record]:
    """Keep the records that match all the pairs; once none is left, what follows is not even checked.

    Raises:
        Refused: see `find_key`; or a set is asked for something else than `contains`.
    """
    left = dict(records)
    for name, value in pairs:
        if not left:
            break
        key = find_key(table, name)
        if key.field.shape is Shape.SET and key.key not in (None, SET_WORD):
            raise Refused("Invalid syntax for set filtering (should be set-param:contains=key)")
        await prefetch([key.field], reader, left)
        left = {
            ref: record for ref, record in left.items() if await _matches(key, value, reader, ref, record)
        }
    return left


async def _matches(key: Key, wanted: str, reader: Reader, ref: str, record: Record) -> bool:
    """Say whether one record matches."""
    if key.key is None:
        shown = await text(key.field, reader, ref, record)
        return shown.lower() == wanted.lower() if key.field.column.any_case else shown == wanted
    texts = await read(key.field, reader, ref, record)
    if isinstance(texts, Mapping):
        return texts.get(key.key) == wanted
    return not isinstance(texts, str) and wanted in texts
