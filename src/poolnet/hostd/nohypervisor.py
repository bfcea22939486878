"""What does a host do about guests that has nothing to run them? It refuses them (`guest_runtime = "none"`)."""

from __future__ import annotations

from collections.abc import Callable

from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostnet.facts import GuestFacts
from poolnet.hostnet.protocol import CreateGuest, GuestAction, ResumeGuest


class NoHypervisor:
    """Implements `GuestRuntime` without guests."""

    async def open(self, changed: Callable[[], None]) -> None:
        """See `GuestRuntime.open`."""

    async def close(self) -> None:
        """See `GuestRuntime.close`."""

    async def carry_out(self, action: GuestAction) -> None:
        """See `GuestRuntime.carry_out`."""
        vm_uuid = action.guest.vm_uuid if isinstance(action, CreateGuest | ResumeGuest) else action.vm_uuid
        raise GuestError(vm_uuid, "this host has no hypervisor")

    def guests(self) -> tuple[GuestFacts, ...]:
        """See `GuestRuntime.guests`."""
        return ()
