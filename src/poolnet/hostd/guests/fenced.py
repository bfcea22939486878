"""May a guest be started here? A runtime in front of the real one, which starts nothing on a host that has lost its lease."""

from __future__ import annotations

from collections.abc import Callable

from poolnet.hostd.guests.runtime import GuestRuntime
from poolnet.hostnet.facts import GuestFacts
from poolnet.hostnet.protocol import (
    CreateGuest,
    GuestAction,
    GuestImage,
    PlugNic,
    RaiseNic,
    ReceiveGuest,
    ResumeGuest,
    RunGuest,
)


class FencedRuntime:
    """Implements `GuestRuntime` by another one. `require` raises GuestError where no guest may be started."""

    def __init__(self, runtime: GuestRuntime, require: Callable[[str], None]) -> None:
        self._runtime = runtime
        self._require = require

    async def open(self, changed: Callable[[], None]) -> None:
        """See `GuestRuntime.open`."""
        await self._runtime.open(changed)

    async def close(self) -> None:
        """See `GuestRuntime.close`."""
        await self._runtime.close()

    async def set_offloads(self, *, allowed: bool) -> None:
        """See `GuestRuntime.set_offloads`."""
        await self._runtime.set_offloads(allowed=allowed)

    async def ask_to_end(self, vm_uuid: str, timeout_s: float) -> None:
        """See `GuestRuntime.ask_to_end`."""
        await self._runtime.ask_to_end(vm_uuid, timeout_s)

    async def carry_out(self, action: GuestAction) -> None:
        """See `GuestRuntime.carry_out`. Raises GuestError also for want of a lease."""
        match action:
            case CreateGuest(guest=guest) | ResumeGuest(guest=guest) | ReceiveGuest(guest=guest):
                self._require(guest.vm_uuid)
            case RunGuest(vm_uuid=vm_uuid) | PlugNic(vm_uuid=vm_uuid) | RaiseNic(vm_uuid=vm_uuid):
                self._require(vm_uuid)
            case _:
                pass  # what stops a guest is always allowed
        await self._runtime.carry_out(action)

    async def read(self, vm_uuid: str) -> GuestImage:
        """See `GuestRuntime.read`."""
        return await self._runtime.read(vm_uuid)

    async def load(self, loaded: GuestImage) -> None:
        """See `GuestRuntime.load`."""
        await self._runtime.load(loaded)

    def guests(self) -> tuple[GuestFacts, ...]:
        """See `GuestRuntime.guests`."""
        return self._runtime.guests()
