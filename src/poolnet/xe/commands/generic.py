"""Which commands does every class have? CLASS-list and CLASS-param-*, made from its field table (spec xe-cli §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from poolnet.xe.caller import Record
from poolnet.xe.commands import writing
from poolnet.xe.commands.command import Call, Command
from poolnet.xe.fields.catalog import TABLES
from poolnet.xe.fields.declare import Field, Shape, Table
from poolnet.xe.fields.read import prefetch, read, text
from poolnet.xe.filters import find_named, narrow
from poolnet.xe.params import STANDARD, items
from poolnet.xe.refusals import Refused
from poolnet.xe.texts import EXPENSIVE, joined

DATABASE: Final = "database:"
PAUSE_AFTER: Final = 200


def generic_commands() -> Iterator[Command]:
    """Make the commands of every table; which ones a class has follows from what can be written."""
    for table in TABLES.values():
        yield from _reading_commands(table)
        yield from _writing_commands(table)


def _reading_commands(table: Table) -> Iterator[Command]:
    contains = [f"{each.name}:contains" for each in table.visible if each.shape is Shape.SET]
    yield Command(
        name=f"{table.name}-list",
        action=partial(list_records, table),
        optional=("params", DATABASE, *(each.name for each in table.visible), *contains),
        summary=f"Lists the {table.name} objects. Parameters named after fields filter them, and params= names the "
        "fields to show (params=all shows every field).",
        common=table.name in ("network", "sr", "vm"),
        changes=False,
    )
    yield Command(
        name=f"{table.name}-param-list",
        action=partial(param_list, table),
        required=("uuid",),
        optional=(DATABASE,),
        summary=f"Shows every field of one {table.name} object.",
        changes=False,
    )
    yield Command(
        name=f"{table.name}-param-get",
        action=partial(param_get, table),
        required=("uuid", "param-name"),
        optional=("param-key", DATABASE),
        summary=f"Shows one field of a {table.name} object; for a map, param-key picks the value of one key.",
        changes=False,
    )


def _writing_commands(table: Table) -> Iterator[Command]:
    settable = [each for each in table.visible if each.setter]
    maps = [each for each in table.visible if each.key_writable]
    if settable or maps:
        yield Command(
            name=f"{table.name}-param-set",
            action=partial(writing.param_set, table),
            required=("uuid",),
            optional=(*(each.name for each in settable), *(f"{each.name}:" for each in maps)),
            summary=f"Sets fields of a {table.name} object; a key of a map is set with NAME:KEY=VALUE.",
        )
    if any(each.adder for each in table.visible):
        sets = tuple(each.name for each in table.visible if each.adder and each.shape is Shape.SET)
        yield Command(
            name=f"{table.name}-param-add",
            action=partial(writing.param_add, table),
            required=("uuid", "param-name"),
            optional=("param-key",),
            instead=sets,
            summary=f"Adds an item to a set (param-key=ITEM) or keys to a map (KEY=VALUE) of a {table.name} object.",
        )
        yield Command(
            name=f"{table.name}-param-remove",
            action=partial(writing.param_remove, table),
            required=("uuid", "param-name", "param-key"),
            instead=sets,
            summary=f"Removes an item from a set, or a key from a map, of a {table.name} object.",
        )
    clearable = [each.name for each in table.visible if each.setter or each.shape is not Shape.PLAIN]
    if clearable:
        yield Command(
            name=f"{table.name}-param-clear",
            action=partial(writing.param_clear, table),
            required=("uuid", "param-name"),
            summary=f"Clears a field of a {table.name} object ({','.join(clearable)}).",
        )


async def list_records(table: Table, call: Call) -> None:
    """Show the records that the filters leave, with the columns that `params=` names."""
    records = await call.reader.query(table.api, table.expression)
    given = [(key, value) for key, value in call.params if _filters(key)]
    left = await narrow(table, call.reader, records, [*table.filters, *given])
    wanted = call.params.find("params")
    if wanted == "all":
        fields = table.visible
    else:
        names = table.shown if wanted is None else items(wanted)
        fields = tuple(each for each in table.visible if each.name in names)
    unasked = tuple(each for each in table.visible if each.column.unasked) if wanted is None else ()
    shown = records if call.params.flag("all") else left
    await show(call, fields, shown, unasked)


async def show(
    call: Call, fields: tuple[Field, ...], records: Mapping[str, Record], unasked: tuple[Field, ...] = ()
) -> None:
    """Print these fields of these records; expensive ones are left out, and minimal mode reads the first alone.

    Those that are unasked follow where they are not empty.
    """
    if call.printer.minimal:
        fields, unasked = fields[:1], ()
    await prefetch([each for each in fields if not each.column.expensive], call.reader, records)
    blocks = []
    for number, (ref, record) in enumerate(records.items()):
        if number % PAUSE_AFTER == 0:
            # Long lists let the server's other clients have their turn.
            await asyncio.sleep(0)
        block = [(each.label, await _cheap_text(each, call, ref, record)) for each in fields]
        told = [(each.label, await text(each, call.reader, ref, record)) for each in unasked]
        blocks.append([*block, *(pair for pair in told if pair[1])])
    await call.printer.table(blocks)


async def _cheap_text(field: Field, call: Call, ref: str, record: Record) -> str:
    return EXPENSIVE if field.column.expensive else await text(field, call.reader, ref, record)


async def param_list(table: Table, call: Call) -> None:
    """Show every visible field of one object."""
    ref, record = await call.reader.by_uuid(table.api, call.params.required("uuid"))
    await call.printer.table(
        [[(each.label, await text(each, call.reader, ref, record)) for each in table.visible]]
    )


async def param_get(table: Table, call: Call) -> None:
    """Show one field of one object, or one value of a map."""
    ref, record = await call.reader.by_uuid(table.api, call.params.required("uuid"))
    field = find_named(table, call.params.required("param-name"))
    texts = await read(field, call.reader, ref, record)
    key = call.params.find("param-key")
    if key is not None and field.shape is Shape.MAP and not isinstance(texts, str | tuple):
        if key not in texts:
            raise Refused(f"Key {key} not found in map")
        texts = texts[key]
    await call.printer.list([joined(texts, field.separator)])


def _filters(key: str) -> bool:
    return key != "params" and key not in STANDARD and not key.startswith(DATABASE)
