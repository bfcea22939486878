"""What is a command? Its name, its parameters, its flags, and the function that carries it out.

The modules of this package declare commands; `catalog` collects them; `run` and `help` use them.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from poolnet.model.types import Value
from poolnet.xe.caller import Caller
from poolnet.xe.client import Client
from poolnet.xe.params import Params
from poolnet.xe.printers import Printer
from poolnet.xe.records import Reader


class Selects(enum.StrEnum):
    """The class whose objects a command picks by selectors (spec xe-cli §2.3)."""

    NOTHING = ""
    VM = "vm"
    HOST = "host"
    SR = "sr"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One run of a command: what it was told, whom it asks, and where it writes."""

    params: Params
    caller: Caller
    client: Client
    printer: Printer
    dry: bool = False
    reader: Reader = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", Reader(self.caller))

    async def api(self, method: str, *args: Value) -> Value:
        """Call the API."""
        return await self.caller.call(method, *args)

    async def find(self, cls: str, parameter: str = "uuid") -> str:
        """Give the reference of the object whose uuid is in a parameter.

        Raises:
            Failure: UUID_INVALID.
            MissingParameter: the parameter is not there.
        """
        return cast(str, await self.api(f"{cls}.get_by_uuid", self.params.required(parameter)))


Action: TypeAlias = Callable[[Call], Awaitable[None]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command of `xe`.

    `summary` is the description that help shows. `common`: listed by a bare `xe help`. `hidden`: in no list. `local`:
    takes a session that works without the coordinator. `never_forward`: runs on the host that was addressed. `changes`:
    can be tried with `dry-run`. Parameters that end in `:` are maps. `instead`: parameters any of which makes the
    required ones superfluous.
    """

    name: str
    action: Action
    summary: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    instead: tuple[str, ...] = ()
    selects: Selects = Selects.NOTHING
    common: bool = False
    hidden: bool = False
    deprecated: bool = False
    local: bool = False
    never_forward: bool = False
    changes: bool = True

    def require(self, params: Params) -> None:
        """Look that the required parameters are there, but for the uuid not if others stand in for them.

        Raises:
            MissingParameter: one is missing.
        """
        replaced = any(name in params for name in self.instead)
        for parameter in self.required:
            if parameter == "uuid" or not replaced:
                params.required(parameter.removesuffix(":"))
