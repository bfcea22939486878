"""How does a command make sure that a dangerous thing is meant? (spec xe-cli §8.1, §8.2)."""

from __future__ import annotations

from poolnet.xe.commands.command import Call
from poolnet.xe.refusals import Refused


async def confirmed(call: Call) -> bool:
    """Ask for a typed "yes"; whatever else is typed ends the command well, with nothing done."""
    await call.client.print("Type 'yes' to continue")
    answer = await call.client.prompt()
    if answer.strip().lower() == "yes":
        return True
    await call.client.print(f"Aborted (you typed: '{answer}')")
    return False


def must_be_forced(call: Call) -> None:
    """Refuse to go on without `--force`."""
    if not call.params.flag("force"):
        raise Refused(
            "This operation is dangerous and may cause data loss. This operation must be forced (use --force)."
        )
