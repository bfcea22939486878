"""The kernel's links, as the host daemon changes them: by a real netlink socket, in a network of the test's own."""

from __future__ import annotations

import asyncio

import pytest

from poolnet.hostd.linuxbridge.names import BRIDGE
from poolnet.hostd.netlink_links import Links, NewLink, SetLink
from tests.lab.own_network import run_in_own_network

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


def test_changes_at_the_same_time_hear_their_own_answers() -> None:
    """Also of those that nobody waits for any more: one thread that hears another's answers leaves that waiting for ever."""

    async def body() -> None:
        names = [f"many{number}" for number in range(8)]
        with Links() as links:
            await links.change([NewLink(name=name, kind=BRIDGE) for name in names])
            for mtu_bytes in range(1000, 1060):
                changes = [
                    asyncio.create_task(links.change([SetLink(name=name, mtu_bytes=mtu_bytes)]))
                    for name in names
                ]
                await asyncio.sleep(0)
                changes[0].cancel()
                await asyncio.gather(*changes, return_exceptions=True)
            there = links.all()
            assert [there[name].mtu_bytes for name in names[1:]] == [1059] * 7

    run_in_own_network(body)
