"""When is a change kept? How long hosts wait for the confirmation, and whether the caller is still there to see it.

The API gives each call its `Guard`; `rollout` asks it before and after it switches hosts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

CONFIRM_WITHIN_S: Final = 30.0
"""The revert timer of a plan that touches the way to the coordinator (dataplane.md F1)."""

AT_ONCE_S: Final = 0.0
"""What a caller asks for whose change is to be kept without a check."""


class CallerPath(Protocol):
    """The connection that a call came over."""

    own_address: str
    """The address of this host that the caller is connected to, without prefix length."""

    async def answers(self, within_s: float) -> bool:
        """Whether the caller's machine answers on the connection, from now on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What one call asks for: seconds for the confirmation, None for the usual, `AT_ONCE_S` for none."""

    confirm_within_s: float | None = None
    caller: CallerPath | None = None


USUAL: Final = Guard()


def within_s(guards: Sequence[Guard], *, management: bool) -> float | None:
    """How long hosts wait for the confirmation of these calls together; None for not at all.

    A call that asks for a time gets it, or a shorter one that another asks for; the usual time is for plans that may
    cut the `management` off, unless all calls want to be confirmed at once.
    """
    asked = [guard.confirm_within_s for guard in guards if guard.confirm_within_s is not None]
    times = [time for time in asked if time > AT_ONCE_S]
    if times:
        return min(times)
    if guards and len(asked) == len(guards):
        return None
    return CONFIRM_WITHIN_S if management else None


def callers_to_ask(guards: Sequence[Guard], addresses: Collection[str]) -> tuple[CallerPath, ...]:
    """The callers who are connected to one of the management addresses that the host has after the change.

    Whoever came another way may have given it up on purpose: management can be moved to another network.
    """
    callers = (guard.caller for guard in guards if guard.confirm_within_s != AT_ONCE_S)
    return tuple(c for c in callers if c is not None and c.own_address in addresses)
