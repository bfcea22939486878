"""The hosts of the pool and how each is reached: for now this host alone, over its daemon's socket.

The coordinator stages and switches through it; start-up and the facts loop feed it what the hosts report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool.hostlink import A, HostLink


class LocalHosts:
    """A pool of one host."""

    def __init__(self, host: Ref[Host], link: HostLink, facts: HostFacts) -> None:
        self._host = host
        self._link = link
        self._facts = facts

    def reachable(self) -> Sequence[Ref[Host]]:
        """This host."""
        return (self._host,)

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        """Stages on the daemon."""
        return await self._link.request(command, protocol.Staged)

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        """Switches on the daemon."""
        done = await self._link.request(command, protocol.Done)
        self._facts = done.facts
        return done

    async def settle(self, host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        """Confirms or reverts on the daemon."""
        done = await self._link.request(command, protocol.Done)
        self._facts = done.facts
        return done

    async def set_hostname(self, host: Ref[Host], hostname: str) -> None:
        """Renames the host."""
        await self._link.request(protocol.SetHostname(hostname=hostname), protocol.Done)

    async def look(self, host: Ref[Host]) -> None:
        """Asks the daemon for its facts."""
        self._facts = (await self._link.request(protocol.Observe(), protocol.Observation)).facts

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        """Asks the daemon for something that changes nothing."""
        return await self._link.request(command, expect, timeout_s)

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        """What the daemon reported last."""
        return {self._host: self._facts}

    def remember(self, facts: HostFacts) -> None:
        """Takes new facts from the daemon."""
        self._facts = facts
