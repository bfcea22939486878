"""Who tells the neighbours that an address of this host is somewhere else now?

Switches send what is for the host to where they heard it last. After its addresses or their uplinks have changed, or a
bond in a switch that was started anew has chosen another member, that is the wrong cable, until the host says something.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from poolnet.hostd.netlink import NO_ADDRESSES, Netlink
from poolnet.hostd.solicit import announce
from poolnet.hostnet.state import NO_IP, HostNetwork

AFTER_S: Final = (
    0.0,
    0.5,
    1.0,
    2.0,
    4.0,
)  # one after the other: a link that has just come up loses the first ones


class Announcer:
    """Announces this host's addresses."""

    def __init__(self, netlink: Netlink) -> None:
        self._netlink = netlink
        self._task: asyncio.Task[None] | None = None

    def announce(self, network: HostNetwork) -> None:
        """Begins to announce the addresses of the bridges of `network`, in place of what was being announced."""
        if self._task is not None:
            self._task.cancel()
        bridges = [bridge.name for bridge in network.bridges if bridge.ip != NO_IP]
        self._task = asyncio.create_task(self._announce(bridges), name="announce") if bridges else None

    async def close(self) -> None:
        """Announces no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _announce(self, bridges: list[str]) -> None:
        for wait_s in AFTER_S:
            await asyncio.sleep(wait_s)
            there = await self._netlink.addresses()
            for bridge in bridges:
                has = there.get(bridge, NO_ADDRESSES)
                with suppress(OSError):  # it is down, or gone: the next time, perhaps
                    await announce(bridge, [a.partition("/")[0] for a in (*has.ipv4, *has.ipv6)])
