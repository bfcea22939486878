"""What does the host know that nobody told it, and who is told when it changes?

Gathered from the kernel, the switch and the guests' runtime. Changes come as notifications, not by polling; those that
come together are gathered once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import structlog

from poolnet.hostd.backend import Backend, BackendGone
from poolnet.hostd.guests.runtime import GuestRuntime
from poolnet.hostd.netlink import NO_ADDRESSES, LinkError, Netlink, link_local_addresses
from poolnet.hostd.proc_net import interface_names
from poolnet.hostnet.facts import AddressFacts, HostFacts, NicFacts
from poolnet.hostnet.state import Bridge, HostNetwork, Ipv4Mode, Ipv6Mode

LOG = structlog.stdlib.get_logger("poolnet.hostd.facts")
TOGETHER_S = 0.05
AGAIN_S, AGAIN_MAX_S = 1.0, 32.0  # between looks at a bond whose members are not in use yet
_MEMORY = Path("/proc/meminfo")


class FactsSource:
    """The facts of this host, and the word that they changed."""

    def __init__(
        self,
        backend: Backend,
        guests: GuestRuntime,
        netlink: Netlink,
        nics: Callable[[], tuple[NicFacts, ...]],
        resolv_conf: Path,
        storage: Callable[[], tuple[str, ...]],
        fenced: Callable[[], bool] = lambda: False,
    ) -> None:
        """`nics` says which there are now, in their order; `storage` which SRs are mounted; `fenced` that guests were stopped."""
        self._fenced = fenced
        self._backend = backend
        self._guests = guests
        self._netlink = netlink
        self._nics = nics
        self._resolv_conf = resolv_conf
        self._storage = storage
        self._dirty = asyncio.Event()
        self._gathered = asyncio.Condition()
        self._latest = HostFacts()
        self._version = 0
        self._watchers = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._again_s = AGAIN_S

    def start(self) -> None:
        """Begins to gather after every change."""
        self._task = asyncio.create_task(self._gather_after_changes(), name="facts")

    async def close(self) -> None:
        """Stops gathering; whoever watches gets no more."""
        if self._again is not None:
            self._again.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def note_change(self) -> None:
        """Something changed: gather soon."""
        self._dirty.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Gathers nothing while the host is being changed: a plan of 100 bridges is a thousand notifications."""
        self._quiet.clear()
        try:
            yield
        finally:
            self._quiet.set()

    async def gather(self, network: HostNetwork | None = None) -> HostFacts:
        """The facts as they are now; whoever watches is told. Raises BackendGone.

        `network` was found a moment ago, by whoever has changed it: what has changed since then is gathered soon, and
        whoever watches waits for that.
        """
        if network is None:
            self._dirty.clear()
            network = await self._backend.observe()
        facts = await self._gather(network)
        async with self._gathered:
            self._latest = facts
            if not self._dirty.is_set():
                self._version += 1
                self._gathered.notify_all()
        self._look_again_at_bonds(facts)
        return facts

    async def _gather(self, network: HostNetwork) -> HostFacts:
        total, free = _memory()
        present = frozenset(interface_names())
        return HostFacts(
            hostname=socket.gethostname(),
            backend=self._backend.name,
            nics=self._nics(),
            bonds=await self._backend.bonds(),
            addresses=await self._addresses(network),
            guests=self._guests.guests(),
            bridges_up=tuple(bridge.name for bridge in network.bridges if bridge.name in present),
            storage=self._storage(),
            memory_total_bytes=total,
            memory_free_bytes=free,
            cpu_count=os.cpu_count() or 1,
            software=(("linux", os.uname().release), *self._backend.software()),
            fenced=self._fenced(),
        )

    async def changes(self) -> AsyncIterator[HostFacts]:
        """The facts now, and again whenever they have changed; some may be left out, never the last ones."""
        self._watchers += 1
        try:
            seen = self._version
            said = await self.gather()
            yield said
            while True:
                async with self._gathered:
                    while self._version == seen:
                        await self._gathered.wait()
                    seen, latest = self._version, self._latest
                if not _same(latest, said):
                    said = latest
                    yield said
        finally:
            self._watchers -= 1

    async def _gather_after_changes(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(TOGETHER_S)
            await self._quiet.wait()
            if not self._dirty.is_set():  # gathered meanwhile, for whoever changed the host
                continue
            if not self._watchers:
                self._dirty.clear()
                continue
            try:
                await self.gather()
            except BackendGone as error:
                LOG.warning("the facts cannot be gathered", error=str(error))
            except Exception as error:  # the outermost loop: else nobody would hear of anything any more
                LOG.exception("the facts cannot be gathered", error=str(error))

    def _look_again_at_bonds(self, facts: HostFacts) -> None:
        """Gathers again soon, less and less soon, while a bond has a member in waiting: nothing tells when it joins."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not any(bond.is_settling for bond in facts.bonds):
            self._again_s = AGAIN_S
            return
        self._again = asyncio.get_running_loop().call_later(self._again_s, self.note_change)
        self._again_s = min(2 * self._again_s, AGAIN_MAX_S)

    async def _addresses(self, network: HostNetwork) -> tuple[AddressFacts, ...]:
        """Of the bridges that have addresses, and of those that may lose them without being told to."""
        try:
            there = await self._netlink.addresses(ipv6_gateways=False)
        except LinkError as error:
            raise BackendGone(str(error)) from error
        return tuple(
            AddressFacts(
                bridge=bridge.name,
                ipv4=addresses.ipv4,
                ipv6=(*addresses.ipv6, *(link_local_addresses(bridge.name) if _finds_itself(bridge) else ())),
                gateway=addresses.gateway,
                dns_servers=self._dns_servers() if bridge.ip.dns_servers or bridge.ip.dhcp_dns else (),
            )
            for bridge in network.bridges
            if (addresses := there.get(bridge.name, NO_ADDRESSES)) != NO_ADDRESSES
            or bridge.ip.ipv4_mode is Ipv4Mode.DHCP
            or _finds_itself(bridge)
        )

    def _dns_servers(self) -> tuple[str, ...]:
        try:
            lines = self._resolv_conf.read_text().splitlines()
        except OSError:
            return ()
        fields = (line.split() for line in lines)
        return tuple(words[1] for words in fields if len(words) > 1 and words[0] == "nameserver")


def _finds_itself(bridge: Bridge) -> bool:
    """Does it have IPv6 addresses that nobody wrote down?"""
    return bridge.ip.ipv6_mode in (Ipv6Mode.DHCP, Ipv6Mode.AUTOCONF)


def _same(one: HostFacts, other: HostFacts) -> bool:
    """Equal but for the free memory, which always changes."""
    return replace(one, memory_free_bytes=0) == replace(other, memory_free_bytes=0)


def _memory() -> tuple[int, int]:
    """Total and available memory in bytes."""
    fields = (line.split() for line in _MEMORY.read_text().splitlines())
    kilobytes = {
        words[0].rstrip(":"): int(words[1]) for words in fields if len(words) > 1 and words[1].isdecimal()
    }
    return kilobytes.get("MemTotal", 0) * 1024, kilobytes.get("MemAvailable", 0) * 1024
