"""What is one host to become in a rollout, what do its guests have to do for it, and how is that taken back?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from poolnet.db.txn import View
from poolnet.hostnet import protocol
from poolnet.hostnet.state import HostNetwork
from poolnet.model.classes.host import Host
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext, Phase

ALIVE: Final = (VmPowerState.RUNNING, VmPowerState.PAUSED)
"""The states of a VM that has a guest."""


@dataclass(slots=True)
class HostWork:
    """What one rollout does on one host; `begun` is its id once the host may have changed.

    `refused` when the host said that it did not change.
    """

    desired: HostNetwork
    before: list[protocol.GuestAction] = field(default_factory=list)
    after: list[protocol.GuestAction] = field(default_factory=list)
    begun: str = ""
    refused: bool = False
    plan_hash: str = ""


def work_of(desired: HostNetwork, host: Ref[Host], contexts: Sequence[CallContext]) -> HostWork:
    """What these decided calls want of a host, beside the network that it is to have."""
    work = HostWork(desired)
    for context in contexts:
        for target, phase, action in context.guest_actions:
            if target == host:
                (work.before if phase is Phase.BEFORE else work.after).append(action)
    return work


def undoing(view: View, work: HostWork) -> tuple[protocol.GuestAction, ...]:
    """What takes back the guest actions of a rollout that came to nothing, as far as they can be.

    A guest that the committed database takes to be alive is not touched: it may have refused to end. A guest that did
    end is noticed by itself, from the facts.
    """
    states = {row.uuid: row.power_state for row in view.all(VM)}
    undo: list[protocol.GuestAction] = []
    for action in reversed((*work.before, *work.after)):
        match action:
            case protocol.CreateGuest(guest=guest) if states.get(guest.vm_uuid) not in ALIVE:
                undo.append(protocol.DestroyGuest(vm_uuid=guest.vm_uuid))
            case protocol.ResumeGuest(guest=guest) if states.get(guest.vm_uuid) not in ALIVE:
                undo.append(protocol.SuspendGuest(vm_uuid=guest.vm_uuid))
            case protocol.PlugNic(vm_uuid=vm_uuid, nic=nic):
                undo.append(protocol.UnplugNic(vm_uuid=vm_uuid, device=nic.device))
            case protocol.PauseGuest(vm_uuid=vm_uuid) if states.get(vm_uuid) is VmPowerState.RUNNING:
                undo.append(protocol.RunGuest(vm_uuid=vm_uuid))
            case _:
                pass
    return tuple(undo)


def guests_take_s(work: HostWork) -> float:
    """How long guests may take to end, in seconds, before the host's own time begins to count."""
    actions = (*work.before, *work.after)
    return sum(action.timeout_s for action in actions if isinstance(action, protocol.ShutDownGuest))


def address_to_come(view: View, committed: View, host: Ref[Host]) -> str:
    """The management address that a host will have if it is another than it has."""
    after, before = view.stored(Host, host), committed.stored(Host, host)
    if after is None or (before is not None and before.address == after.address):
        return ""
    return after.address
