"""Who is asked to end before a rollout begins? Guests that take their time, so that nobody else's change waits for them.

The coordinator has the rule of such a call decide on a copy: what it refuses is refused before anything happens, and the
guests that it would have ended are asked. When they have ended the call is carried out like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from poolnet.hostnet import protocol
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool.migration import Asked
from poolnet.rules.context import CallContext

METHODS: Final = frozenset(("VM.clean_shutdown", "VM.shutdown", "VM.clean_reboot"))
_ANSWERS_WITHIN_S: Final = 10.0  # beyond what the guest may take


def to_ask(context: CallContext) -> Iterator[tuple[Ref[Host], protocol.AskToEnd]]:
    """Which guests are asked for a call that was decided, and where."""
    for host, _, action in context.guest_actions:
        if isinstance(action, protocol.ShutDownGuest):
            guests = {guest.vm_uuid: guest for guest in context.facts_of(host).guests}
            guest = guests.get(action.vm_uuid)
            if guest is not None and guest.asked_first:
                yield host, protocol.AskToEnd(vm_uuid=action.vm_uuid, timeout_s=action.timeout_s)


async def ask(hosts: Asked, asked: Iterable[tuple[Ref[Host], protocol.AskToEnd]]) -> None:
    """Asks them, and waits until they have ended. Raises HostRefused, HostGone."""
    for host, command in asked:  # a call ends one
        await hosts.ask(host, command, protocol.Done, command.timeout_s + _ANSWERS_WITHIN_S)
