"""What does a host do about guests that has nothing to run them? It refuses them (`guest_runtime = "none"`)."""

from __future__ import annotations

from collections.abc import Callable

from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostnet.facts import GuestFacts
from poolnet.hostnet.protocol import CreateGuest, GuestAction, GuestImage, ReceiveGuest, ResumeGuest


class NoHypervisor:
    """Implements `GuestRuntime` without guests."""

    async def open(self, changed: Callable[[], None]) -> None:
        """See `GuestRuntime.open`."""

    async def close(self) -> None:
        """See `GuestRuntime.close`."""

    async def set_offloads(self, *, allowed: bool) -> None:
        """See `GuestRuntime.set_offloads`."""

    async def ask_to_end(self, vm_uuid: str, timeout_s: float) -> None:
        """See `GuestRuntime.ask_to_end`."""
        raise _refused(vm_uuid)

    async def carry_out(self, action: GuestAction) -> None:
        """See `GuestRuntime.carry_out`."""
        if isinstance(action, CreateGuest | ResumeGuest | ReceiveGuest):
            raise _refused(action.guest.vm_uuid)
        raise _refused(action.vm_uuid)

    async def read(self, vm_uuid: str) -> GuestImage:
        """See `GuestRuntime.read`."""
        raise _refused(vm_uuid)

    async def load(self, loaded: GuestImage) -> None:
        """See `GuestRuntime.load`."""
        raise _refused(loaded.vm_uuid)

    def guests(self) -> tuple[GuestFacts, ...]:
        """See `GuestRuntime.guests`."""
        return ()


def _refused(vm_uuid: str) -> GuestError:
    return GuestError(vm_uuid, "this host has no hypervisor")
