"""How is a command declared that is one call of the API? Its arguments are read in order, the answer is printed.

Most commands are of this kind; the modules of the subjects declare them in tuples.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias, cast

from poolnet.model.types import NULL, Value
from poolnet.xe.commands import selectors
from poolnet.xe.commands.command import Call, Command, Selects
from poolnet.xe.params import byte_size, integer, items
from poolnet.xe.texts import enum_value

Argument: TypeAlias = Callable[[Call], Awaitable[Value]]
Prints: TypeAlias = Callable[[Call, Value], Awaitable[None]]

SELECTORS: Final[Mapping[Selects, selectors.Selector]] = {
    Selects.VM: selectors.VM,
    Selects.HOST: selectors.HOST,
    Selects.SR: selectors.SR,
}


def ref(cls: str, parameter: str = "uuid") -> Argument:
    """The object whose uuid is in a parameter."""

    async def read(call: Call) -> Value:
        return await call.find(cls, parameter)

    return read


def refs(cls: str, parameter: str) -> Argument:
    """The objects whose uuids are in a comma list."""

    async def read(call: Call) -> Value:
        uuids = items(call.params.get(parameter))
        return tuple([await call.api(f"{cls}.get_by_uuid", uuid) for uuid in uuids])

    return read


def maybe_ref(cls: str, parameter: str) -> Argument:
    """The object whose uuid is in a parameter, or the null reference."""

    async def read(call: Call) -> Value:
        return await call.find(cls, parameter) if parameter in call.params else NULL

    return read


def the_pool() -> Argument:
    """The pool."""

    async def read(call: Call) -> Value:
        return cast("tuple[str, ...]", await call.api("pool.get_all"))[0]

    return read


def host_or_master(parameter: str) -> Argument:
    """The host whose uuid is in a parameter, or the coordinator, which carries out every forwarded command."""

    async def read(call: Call) -> Value:
        if parameter in call.params:
            return await call.find("host", parameter)
        return await call.api("pool.get_master", await the_pool()(call))

    return read


def text(parameter: str, default: str = "") -> Argument:
    """The text of a parameter."""

    async def read(call: Call) -> Value:
        return call.params.get(parameter, default)

    return read


def any_case(parameter: str) -> Argument:
    """The text of a parameter whose name may be written in any case; "" if it is missing."""

    async def read(call: Call) -> Value:
        return call.params.find_any_case(parameter) or ""

    return read


def flag(parameter: str, *, default: bool = False) -> Argument:
    """A boolean."""

    async def read(call: Call) -> Value:
        return call.params.flag(parameter, default=default)

    return read


def number(parameter: str, default: int | None = None) -> Argument:
    """An integer; required unless there is a default."""

    async def read(call: Call) -> Value:
        if default is not None and parameter not in call.params:
            return default
        return integer(parameter, call.params.required(parameter))

    return read


def size(parameter: str) -> Argument:
    """A number of bytes, possibly with a suffix."""

    async def read(call: Call) -> Value:
        return byte_size(parameter, call.params.required(parameter))

    return read


def choice(parameter: str, enum: str, default: str | None = None) -> Argument:
    """A member of an enum, in any case."""

    async def read(call: Call) -> Value:
        given = call.params.find(parameter)
        if given is None and default is not None:
            given = default
        return enum_value(enum, call.params.required(parameter) if given is None else given)

    return read


def mapping(parameter: str) -> Argument:
    """The map of the `PARAMETER:KEY=VALUE` words."""

    async def read(call: Call) -> Value:
        return call.params.mapping(parameter)

    return read


def constant(value: Value) -> Argument:
    """Always the same."""

    async def read(call: Call) -> Value:
        return value

    return read


async def nothing(call: Call, answer: Value) -> None:
    """Print nothing."""


def uuid_of(cls: str) -> Prints:
    """Print the uuid of the object that was answered."""

    async def write(call: Call, answer: Value) -> None:
        await call.printer.list([str(await call.api(f"{cls}.get_uuid", answer))])

    return write


def uuids_of(cls: str) -> Prints:
    """Print the uuids of the objects that were answered, one a line."""

    async def write(call: Call, answer: Value) -> None:
        found = [str(await call.api(f"{cls}.get_uuid", each)) for each in cast("tuple[str, ...]", answer)]
        await call.printer.list(found)

    return write


async def lines(call: Call, answer: Value) -> None:
    """Print a text, a number, or the items of a set, one a line."""
    await call.printer.list([str(each) for each in answer] if isinstance(answer, tuple) else [str(answer)])


async def message(call: Call, answer: Value) -> None:
    """Print a text that minimal mode leaves out."""
    await call.printer.message(str(answer).lower() if isinstance(answer, bool) else str(answer))


async def block(call: Call, answer: Value) -> None:
    """Print a map as one record."""
    pairs = cast("Mapping[str, Value]", answer)
    await call.printer.table([[(str(key), str(value)) for key, value in pairs.items()]])


def say(line: str) -> Prints:
    """Print a fixed line."""

    async def write(call: Call, answer: Value) -> None:
        await call.printer.message(line)

    return write


def one_call(
    name: str, method: str, *arguments: Argument, summary: str, prints: Prints = nothing, **flags: Any
) -> Command:
    """Declare a command that calls `method` with these arguments; the flags are those of `Command`."""
    return Command(name=name, action=partial(_call, method, arguments, prints), summary=summary, **flags)


async def _call(method: str, arguments: tuple[Argument, ...], prints: Prints, call: Call) -> None:
    values = [await read(call) for read in arguments]
    await prints(call, await call.api(method, *values))


def on_each(
    name: str,
    method: str,
    *arguments: Argument,
    selects: Selects,
    summary: str,
    prints: Prints = nothing,
    defaults: tuple[tuple[str, str], ...] = (),
    only_one: bool = False,
    **flags: Any,
) -> Command:
    """Declare a command that calls `method` with each object that the selectors pick, then these arguments."""
    own = (*flags.get("required", ()), *flags.get("optional", ()))

    async def action(call: Call) -> None:
        values = [await read(call) for read in arguments]

        async def do(ref: str, record: Mapping[str, Value]) -> None:
            await prints(call, await call.api(method, ref, *values))

        await selectors.for_each(call, SELECTORS[selects], own, do, defaults=defaults, only_one=only_one)

    return Command(name=name, action=action, selects=selects, summary=summary, **flags)
