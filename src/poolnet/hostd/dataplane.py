"""Which of the backends carries out this host's network, and how does another one take over while it runs?

A `Backend` for everybody else in the daemon. The administrator chooses one in the configuration file; the choice is
written there again once a change to another one is confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import structlog

from poolnet.hostd.backend import ApplyFailed, Backend, BackendGone, Trace
from poolnet.hostnet.diff import diff
from poolnet.hostnet.facts import BondFacts, PortFacts
from poolnet.hostnet.protocol import Fault, LocksVerified
from poolnet.hostnet.state import EMPTY, GuestPort, HostNetwork
from poolnet.hostnet.steps import Step

LOG = structlog.stdlib.get_logger("poolnet.hostd.dataplane")


class DataPlane:
    """Implements `Backend` with the one that is chosen."""

    def __init__(self, make: Callable[[str], Backend], chosen: str, keep: Callable[[str], None]) -> None:
        """`make` makes the backend of a name, `keep` writes a choice into the configuration and may raise OSError."""
        self._make = make
        self._keep = keep
        self._backend = make(chosen)
        self._changed: Callable[[], None] = lambda: None

    @property
    def name(self) -> str:
        """The name of the one that is chosen."""
        return self._backend.name

    @property
    def takes_offloads(self) -> bool:
        """See `Backend.takes_offloads`."""
        return self._backend.takes_offloads

    def keep_choice(self) -> None:
        """Writes into the configuration file which one it is. Raises OSError."""
        self._keep(self.name)

    async def clear(self, name: str) -> None:
        """Takes away what another backend has of this host's network, left there by a change that was interrupted.

        Nothing to do for the one that is chosen. Raises nothing: what cannot be asked is not in the way either.
        """
        if name == self.name:
            return
        other = self._make(name)
        try:
            await other.open(lambda: None)
            await other.apply(diff(await other.observe(), EMPTY).steps, strict=False)
            await other.retire()
        except (ApplyFailed, BackendGone) as error:
            LOG.warning("what another backend has left cannot be taken away", backend=name, error=str(error))
        finally:
            await other.close()

    async def opened(self, name: str, network: HostNetwork) -> Backend:
        """Another backend, which can be asked, and can do what this network needs.

        Raises ApplyFailed: SWITCH_FAILED; then nothing has changed.
        """
        other = self._make(name)
        try:
            await other.open(self._changed)
        except BackendGone as error:
            await other.close()
            raise ApplyFailed(
                Fault.SWITCH_FAILED, f"{name} cannot be used on this host: {error}", name
            ) from error
        for bridge, reason in other.unsupported(network):
            await other.close()
            raise ApplyFailed(Fault.SWITCH_FAILED, reason, bridge)
        return other

    async def hand_over(self, other: Backend) -> None:
        """Lets another one take over from this one, whose network is empty by now. Raises ApplyFailed or BackendGone."""
        try:
            await self._backend.retire()
        finally:
            await self._backend.close()
            self._backend = other
        LOG.warning("another backend carries out the network", backend=other.name)

    async def open(self, changed: Callable[[], None]) -> None:
        """See `Backend.open`."""
        self._changed = changed
        await self._backend.open(changed)

    async def close(self) -> None:
        """See `Backend.close`."""
        await self._backend.close()

    async def retire(self) -> None:
        """See `Backend.retire`."""
        await self._backend.retire()

    def unsupported(self, network: HostNetwork) -> Iterable[tuple[str, str]]:
        """See `Backend.unsupported`."""
        return self._backend.unsupported(network)

    async def observe(self) -> HostNetwork:
        """See `Backend.observe`."""
        return await self._backend.observe()

    async def apply(self, steps: Sequence[Step], *, strict: bool = True) -> None:
        """See `Backend.apply`."""
        await self._backend.apply(steps, strict=strict)

    async def announce(self, devices: Collection[str]) -> None:
        """See `Backend.announce`."""
        await self._backend.announce(devices)

    async def reopen_nics(self) -> None:
        """See `Backend.reopen_nics`."""
        await self._backend.reopen_nics()

    async def bonds(self) -> tuple[BondFacts, ...]:
        """See `Backend.bonds`."""
        return await self._backend.bonds()

    def software(self) -> tuple[tuple[str, str], ...]:
        """See `Backend.software`."""
        return self._backend.software()

    async def trace(self, device: str, frame: bytes) -> Trace:
        """See `Backend.trace`."""
        return await self._backend.trace(device, frame)

    async def verify(self, ports: Sequence[GuestPort], *, rules: bool) -> LocksVerified:
        """See `Backend.verify`."""
        return await self._backend.verify(ports, rules=rules)

    async def counters(self, devices: Collection[str]) -> tuple[PortFacts, ...]:
        """See `Backend.counters`."""
        return await self._backend.counters(devices)
