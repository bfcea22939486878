"""Who tells the neighbours that an address of this host, or a guest, is somewhere else now?

Switches send what is for the host to where they heard it last. After its addresses or their uplinks have changed, or a
bond in a switch that was started anew has chosen another member, that is the wrong cable, until the host says something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import structlog

from poolnet.hostd.backend import Backend
from poolnet.hostd.netlink import NO_ADDRESSES, Addresses, LinkError, Netlink
from poolnet.hostd.solicit import announce, holder_of
from poolnet.hostnet.state import NO_IP, HostNetwork
from poolnet.hostnet.steps import CreateBridge, ReplaceBridge, ReplaceUplink, SetAddresses, Step

LOG = structlog.stdlib.get_logger("poolnet.hostd.announce")
AFTER_S: Final = (
    0.0,
    0.5,
    1.0,
    2.0,
    4.0,
)  # one after the other: a link that has just come up loses the first ones

CLAIM_S: Final = 0.3  # within which somebody who has an address says so


def moves_addresses(step: Step) -> bool:
    """Whether addresses of the host are behind another cable or MAC address after this step, and are to be announced."""
    match step:
        case CreateBridge(bridge=bridge):
            return bridge.ip != NO_IP
        case ReplaceUplink() | ReplaceBridge() | SetAddresses():
            return True
        case _:
            return False


class Announcer:
    """Announces this host's addresses, and its guests' in their names."""

    def __init__(self, netlink: Netlink, backend: Backend, conflict: Callable[[str], None]) -> None:
        """`conflict` is told in words, once, that another machine has an address of this host."""
        self._netlink = netlink
        self._backend = backend
        self._conflict = conflict
        self._contested: set[tuple[str, str]] = set()  # what somebody else has, and what was said of it
        self._guests: tuple[str, ...] = ()
        self._ours: set[tuple[str, str]] = (
            set()
        )  # what was announced, or asked for in vain: nobody else has it
        self._task: asyncio.Task[None] | None = None

    def announce(self, network: HostNetwork, guests: Iterable[str] = ()) -> None:
        """Begins to announce the addresses of the bridges of `network`, in place of what was being announced.

        `guests` are devices of guest ports; those that were being announced still are while they are there.
        """
        if self._task is not None:
            self._task.cancel()
        self._guests = tuple(d for d in {*self._guests, *guests} if network.port(d) is not None)
        bridges = [bridge.name for bridge in network.bridges if bridge.ip != NO_IP]
        wanted = bool(bridges or self._guests)
        self._task = asyncio.create_task(self._announce(bridges), name="announce") if wanted else None

    async def close(self) -> None:
        """Announces no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _announce(self, bridges: list[str]) -> None:
        for wait_s in AFTER_S:
            await asyncio.sleep(wait_s)
            try:
                there = await self._netlink.addresses()
            except LinkError:
                continue
            for bridge in bridges:
                has = there.get(bridge, NO_ADDRESSES)
                with suppress(OSError):  # it is down, or gone: the next time, perhaps
                    await announce(bridge, await self._unclaimed(bridge, has))
            if self._guests:
                await self._backend.announce(self._guests)
        self._guests = ()

    async def _unclaimed(self, bridge: str, has: Addresses) -> list[str]:
        """The addresses that nobody else has. A new one is asked for first (RFC 5227): all neighbours would believe us.

        Raises OSError.
        """
        found = [address.partition("/")[0] for address in has.ipv6]
        for text in has.ipv4:
            address = text.partition("/")[0]
            if (bridge, address) not in self._ours:
                holder = await holder_of(bridge, "", (address,), CLAIM_S)
                if holder is not None:
                    self._say(bridge, address, holder[1].hex(":"))
                    continue
                self._ours.add((bridge, address))
            self._contested.discard((bridge, address))
            found.append(address)
        self._ours &= {(name, address) for name, address in self._ours if name != bridge or address in found}
        return found

    def _say(self, bridge: str, address: str, mac: str) -> None:
        if (bridge, address) in self._contested:
            return
        self._contested.add((bridge, address))
        LOG.warning("another machine has an address of this host", bridge=bridge, address=address, mac=mac)
        self._conflict(f"another machine ({mac}) has the address {address} of {bridge}")
