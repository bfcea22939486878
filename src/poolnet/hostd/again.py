"""Which part of a change that this host went back from by itself is done once more, when it turns out to be decided?

The network of it, and the guests of VMs that the database still has alive here: what has become of another one, somebody
has decided since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec.structs import replace

from poolnet.hostnet.protocol import (
    CreateGuest,
    DepartGuest,
    GuestAction,
    ReceiveGuest,
    ResumeGuest,
    ShutDownGuest,
    Stage,
)
from poolnet.hostnet.steps import Disturbance, Plan


def may_be_done_again(staged: Stage, plan: Plan) -> bool:
    """Whether nobody else is needed for it.

    Not so where a guest migrates, which two hosts have to agree on, nor where it disturbs the management, which is to be tried
    with a way back. Whoever decided it brings the host in step then.
    """
    migrates = any(isinstance(action, DepartGuest | ReceiveGuest) for action in staged.guests_before)
    return not migrates and plan.disturbance < Disturbance.MANAGEMENT


def with_guests_of(staged: Stage, alive: Collection[str]) -> Stage:
    """The same change, with the actions on the guests of these VMs alone. Who was asked to end has ended."""

    def still_to_do(actions: Iterable[GuestAction]) -> tuple[GuestAction, ...]:
        return tuple(a for a in actions if _vm_of(a) in alive and not isinstance(a, ShutDownGuest))

    return replace(
        staged,
        guests_before=still_to_do(staged.guests_before),
        guests_after=still_to_do(staged.guests_after),
    )


def _vm_of(action: GuestAction) -> str:
    match action:
        case CreateGuest(guest=guest) | ResumeGuest(guest=guest) | ReceiveGuest(guest=guest):
            return guest.vm_uuid
        case _:
            return action.vm_uuid
