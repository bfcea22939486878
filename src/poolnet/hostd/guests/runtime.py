"""What must a runtime of guests be able to do? The interface that `hostd` drives; one module per runtime beside it.

Made for what libvirt (KVM, Xen) offers as well as for the lab's namespaces: a guest is made before it runs, so that its
NICs' host ends exist and can be connected and locked first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from poolnet.hostnet.facts import GuestFacts
from poolnet.hostnet.protocol import GuestAction, GuestImage


class GuestError(Exception):
    """A guest action could not be carried out. `vm_uuid` is the guest at fault; the text is for the caller."""

    def __init__(self, vm_uuid: str, message: str) -> None:
        super().__init__(message)
        self.vm_uuid = vm_uuid


class GuestRuntime(Protocol):
    """Guests of one host. All methods are called from one event loop."""

    async def open(self, changed: Callable[[], None]) -> None:
        """Find the guests that are there already and begin to watch; `changed` is called after every change.

        A change is whatever makes `guests()` answer differently: a guest that ended by itself, an address seen.
        """

    async def close(self) -> None:
        """Stop watching. The guests go on."""

    async def set_offloads(self, *, allowed: bool) -> None:
        """Says whether guests may send frames with neither checksum nor an end of their segment (`Backend.takes_offloads`).

        For those that are there and those that come. Nothing is raised: a guest that cannot be told is logged.
        """

    async def ask_to_end(self, vm_uuid: str, timeout_s: float) -> None:
        """Ask a guest to end, beside other actions, and wait for it. Raises GuestError when it has not ended by then.

        Nothing to do where guests end at once: `ShutDownGuest` asks them.
        """

    async def carry_out(self, action: GuestAction) -> None:
        """Do one action, whole or not at all. Raises GuestError; `changed` is called for it too."""

    async def read(self, vm_uuid: str) -> GuestImage:
        """What goes with a guest that has departed. Raises GuestError."""

    async def load(self, loaded: GuestImage) -> None:
        """Give a guest that was received, and does not run yet, what comes with it. Raises GuestError."""

    def guests(self) -> tuple[GuestFacts, ...]:
        """The guests as observed, in the order of their domid.

        A guest that was made and does not run yet is `paused`; one that ended stays as `stopped` until `DestroyGuest`;
        a suspended one has no domid and is not listed.
        """
