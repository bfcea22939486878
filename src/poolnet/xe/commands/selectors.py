"""Which objects does a command mean that takes selectors instead of a uuid? (spec xe-cli §2.3).

The commands of VMs, hosts and SRs use it; it also carries out what is to be done with each object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from poolnet.model.errors import Failure
from poolnet.xe.caller import Record
from poolnet.xe.commands.command import Call
from poolnet.xe.failures import failure_text
from poolnet.xe.fields.catalog import TABLES
from poolnet.xe.filters import narrow
from poolnet.xe.params import STANDARD
from poolnet.xe.refusals import Finished, Refused


@dataclass(frozen=True, kw_only=True, slots=True)
class Selector:
    """How objects of one class are picked, and what is said when that fails.

    `pseudo` is the parameter that matches a uuid or a name; `names` are the internal fields that it is compared with.
    """

    table: str
    pseudo: str
    names: tuple[str, ...]
    none: str
    many: str
    one: str


VM: Final = Selector(
    table="vm",
    pseudo="vm",
    names=("uuid", "name__label"),
    none="No matching VMs found",
    many="Multiple matches VMs found. --multiple required to complete the operation",
    one="Multiple matches VMs found. Operation can only be performed on one VM at a time",
)
HOST: Final = Selector(
    table="host",
    pseudo="host",
    names=("uuid", "name__label", "hostname"),
    none="No matching hosts found",
    many="Multiple matching hosts found. --multiple required to complete the operation",
    one="Multiple matching hosts found. Operation can only be performed on one host at a time",
)
SR: Final = Selector(
    table="sr",
    pseudo="sr",
    names=("uuid", "name__label"),
    none="No matching hosts found",
    many="Multiple matching SRs found. --multiple required to complete the operation",
    one="Multiple matching SRs found. Operation can only be performed on one SR at a time",
)
NO_TEMPLATES: Final = ("is-a-template", "false")
NO_CONTROL_DOMAINS: Final = ("is-control-domain", "false")


async def matching(
    call: Call, selector: Selector, arguments: tuple[str, ...], defaults: tuple[tuple[str, str], ...] = ()
) -> dict[str, Record]:
    """Find the objects that the parameters pick; `arguments` are the command's own, which do not pick.

    Raises:
        Refused: a parameter is no field.
    """
    table = TABLES[selector.table]
    wanted = [value for key, value in call.params if key == selector.pseudo]
    expression = _expression(selector, wanted[0]) if wanted else "true"
    own = {argument.partition(":")[0] for argument in arguments} | {selector.pseudo} | STANDARD
    given = [(key, value) for key, value in call.params if key.partition(":")[0] not in own]
    records = await call.reader.query(table.api, expression)
    return await narrow(table, call.reader, records, [*defaults, *given])


async def for_each(
    call: Call,
    selector: Selector,
    arguments: tuple[str, ...],
    action: Callable[[str, Record], Awaitable[None]],
    *,
    defaults: tuple[tuple[str, str], ...] = (),
    only_one: bool = False,
) -> None:
    """Do something with the objects that the parameters pick: one, or all of them with `--multiple`.

    Raises:
        Refused: none matches, or more than one without `--multiple`.
        Finished: some of several failed; which ones has been printed.
    """
    found = await matching(call, selector, arguments, defaults)
    if not found:
        raise Refused(selector.none)
    if len(found) == 1:
        for ref, record in found.items():
            await action(ref, record)
        return
    if only_one:
        raise Refused(selector.one)
    if not call.params.flag("multiple"):
        raise Refused(selector.many)
    await _try_all(call, found, action)


async def _try_all(
    call: Call, found: Mapping[str, Record], action: Callable[[str, Record], Awaitable[None]]
) -> None:
    """Try every object, then report those that failed on stdout, the last one first."""
    failed: list[str] = []
    for ref, record in found.items():
        try:
            await action(ref, record)
        except Failure as failure:
            text = await failure_text(failure, call.caller)
            failed.append(f"operation failed on {record['uuid']}: {text or failure.code}")
    for text in reversed(failed):
        await call.client.print(text)
    if failed:
        raise Finished(1)


def _expression(selector: Selector, wanted: str) -> str:
    """Write the API query for the pseudo-field."""
    literal = wanted.replace("\\", "\\\\").replace('"', '\\"')
    return " or ".join(f'(field "{name}"="{literal}")' for name in selector.names)
