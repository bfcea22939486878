"""How is a failed API call told to a person? Its description, then its parameters (spec xe-cli §4.1).

`commands.run` and the commands for several objects ask.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Final

from poolnet.model.errors import ERRORS, Failure
from poolnet.model.registry import CLASSES
from poolnet.xe.caller import Caller

REFERENCE: Final = "OpaqueRef:"


async def failure_text(failure: Failure, caller: Caller | None) -> str | None:
    """Describe a failure in lines; None if the model does not document its code.

    References among the parameters become `uuid (name-label)`, as far as a session is there to look them up.
    """
    decl = ERRORS.get(failure.code)
    if decl is None:
        return None
    lines = [decl.description]
    for number, (name, value) in enumerate(zip_longest(decl.params, failure.params)):
        if number >= len(decl.params):
            lines.append(f"<extra>: {await _named(str(value), caller)}")
        elif value is None:
            lines.append(f"{name}: <unknown>")
        else:
            lines.append(f"{name}: {await _named(value, caller)}")
    return "\n".join(lines)


async def _named(value: str, caller: Caller | None) -> str:
    """Give the uuid and name-label of the object behind a reference, or the value as it is."""
    if caller is None or not value.startswith(REFERENCE):
        return value
    for name, decl in CLASSES.items():
        if "get_uuid" not in decl.messages:
            continue
        try:
            uuid = str(await caller.call(f"{name}.get_uuid", value))
            if "get_name_label" in decl.messages:
                return f"{uuid} ({await caller.call(f'{name}.get_name_label', value)})"
        except Failure:
            continue
        return uuid
    return value
