"""What does `xe help` say? (spec xe-cli §9) `run` asks, before any login."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from poolnet.xe.commands.command import Command, Selects
from poolnet.xe.params import Params
from poolnet.xe.printers import Printer

USAGE: Final = """Usage:
  xe COMMAND [-s SERVER] [-p PORT] [-u USERNAME] [-pw PASSWORD | -pwf PASSWORD-FILE] [NAME=VALUE ...]

A list of all commands:   xe help --all
What one command does:    xe help COMMAND
What a command would do:  add --dry-run to any command that changes something
Longer to confirm it:     add --confirm-within=SECONDS; 0 keeps the change without a check

"""
INDENT: Final = "    "
LINE: Final = 74
_NOT_COMMANDS: Final = frozenset(("server", "username", "password", "port", "minimal", "all"))
_SELECTORS: Final[Mapping[Selects, str]] = {
    Selects.VM: "<vm-selectors>",
    Selects.HOST: "<host-selectors>",
    Selects.SR: "<sr-selectors>",
}
_SELECTING: Final[Mapping[Selects, str]] = {
    Selects.VM: "The VMs are those that match every FIELD=VALUE of vm-list, or vm=UUID-OR-NAME.",
    Selects.HOST: "The hosts are those that match every FIELD=VALUE of host-list, or host=UUID-OR-NAME.",
    Selects.SR: "The SRs are those that match every FIELD=VALUE of sr-list, or sr=UUID-OR-NAME.",
}
DRY_RUN: Final = " With --dry-run it says what it would do."
_SEVERAL: Final = " More than one needs --multiple."


async def show_help(
    params: Params, printer: Printer, commands: Mapping[str, Command], *, minimal: bool
) -> None:
    """Print what the words after `help` ask for: some commands, all, or the common ones."""
    wanted = [name for name, _ in params if name not in _NOT_COMMANDS]
    visible = sorted(command.name for command in commands.values() if not command.hidden)
    if wanted:
        for name in wanted:
            await _show_command(name, printer, commands, minimal=minimal)
    elif "all" not in params:
        common = sorted(command.name for command in commands.values() if command.common)
        if minimal:
            await printer.list(common)
        else:
            await printer.list([USAGE + _headline("Common command list"), *wrapped(common)])
    elif minimal:
        await printer.list(visible)
    else:
        groups = (
            [name for name in visible if name.startswith("host-")],
            [name for name in visible if name.startswith("vm-")],
            [name for name in visible if not name.startswith(("host-", "vm-"))],
        )
        paragraphs = f"\n{INDENT}\n".join("\n".join(wrapped(group)) for group in groups)
        await printer.list([USAGE + _headline("Full command list"), paragraphs])


async def _show_command(
    name: str, printer: Printer, commands: Mapping[str, Command], *, minimal: bool
) -> None:
    command = commands.get(name)
    if command is None:
        await printer.message(f"Unknown command '{name}'")
    elif minimal:
        await printer.list([name])
    else:
        optional = [*command.optional]
        summary = command.summary
        if command.selects is not Selects.NOTHING:
            optional.append(_SELECTORS[command.selects])
            summary = f"{summary} {_SELECTING[command.selects]}{_SEVERAL}"
        if command.changes:
            summary += DRY_RUN
        await printer.table(
            [
                [
                    ("command name        ", command.name),
                    ("reqd params     ", ", ".join(command.required)),
                    ("optional params ", ", ".join(optional)),
                    ("description     ", summary),
                ]
            ]
        )


def wrapped(names: Iterable[str]) -> list[str]:
    """Lay out names as help does: the line break takes the place of the comma."""
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) <= LINE:
            lines[-1] += f", {name}"
        else:
            lines.append(INDENT + name)
    return lines


def _headline(text: str) -> str:
    return f"{text}\n{'-' * len(text)}\n"
