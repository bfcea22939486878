"""What must a data plane be able to do? The interface that `apply` and `server` drive; one package per backend."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from poolnet.hostnet.facts import BondFacts, PortFacts
from poolnet.hostnet.protocol import Fault, LocksVerified
from poolnet.hostnet.state import GuestPort, HostNetwork
from poolnet.hostnet.steps import Step
from poolnet.lock.reasons import DropReason


class ApplyFailed(Exception):
    """A state could not be reached. `subject` is the bridge, device or guest at fault; the text is for people."""

    def __init__(self, fault: Fault, message: str, subject: str = "") -> None:
        super().__init__(message)
        self.fault = fault
        self.subject = subject


class BackendGone(Exception):
    """The switch cannot be asked at the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What the switch would do with a frame: does it leave the port's lock, and the switch's own words.

    `counted` is the reason that it is counted under, if any; `path` are the rules that it met, in words.
    """

    forwarded: bool
    text: str
    counted: DropReason | None
    path: tuple[str, ...]


class Backend(Protocol):
    """A data plane of one host. All methods are called from one event loop."""

    @property
    def name(self) -> str:
        """What hosts call it in `software_version:network_backend`."""

    @property
    def takes_offloads(self) -> bool:
        """Whether guests may leave checksums, and the cutting of large segments, to whoever sends their frames on."""

    async def open(self, changed: Callable[[], None]) -> None:
        """Connect and begin to watch; `changed` is called after every change. Raises BackendGone."""

    async def close(self) -> None:
        """Stop watching. The network stays as it is."""

    async def retire(self) -> None:
        """Take away what is there beside the network, which is empty: another backend takes over. Raises as `apply`."""

    def unsupported(self, network: HostNetwork) -> Iterable[tuple[str, str]]:
        """The bridges that it cannot make, and why."""

    async def observe(self) -> HostNetwork:
        """The network as it is. Raises BackendGone."""

    async def apply(self, steps: Sequence[Step], *, strict: bool = True) -> None:
        """Carry out all steps; without `strict` a NIC that does not exist is no failure.

        Raises ApplyFailed or BackendGone; then any part may have been done, and `observe` tells which.
        """

    async def announce(self, devices: Collection[str]) -> None:
        """Tell the physical network, in the name of the guests on these ports, where their MACs are; see `moved_guests`.

        Nothing is raised: a guest that speaks makes up for it.
        """

    async def reopen_nics(self) -> None:
        """Let the switch take in NICs that were put in anew. Raises BackendGone."""

    async def bonds(self) -> tuple[BondFacts, ...]:
        """The links of the bonds, as far as the switch knows them. Raises BackendGone."""

    def software(self) -> tuple[tuple[str, str], ...]:
        """Names and versions of the switch's programs."""

    async def trace(self, device: str, frame: bytes) -> Trace:
        """What happens to a frame from a guest port. Raises ApplyFailed (NO_DEVICE) or BackendGone."""

    async def verify(self, ports: Sequence[GuestPort], *, rules: bool) -> LocksVerified:
        """Whether the locks of these ports hold; see `protocol.VerifyLocks`. Changes nothing.

        Raises BackendGone, and ValueError when a lock is impossible.
        """

    async def counters(self, devices: Collection[str]) -> tuple[PortFacts, ...]:
        """The lock counters of these guest ports, of all when empty. Raises BackendGone."""
