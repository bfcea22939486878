"""Which interfaces of bridges has a switch in user space left behind? They are found and deleted here.

Open vSwitch makes the interface of a bridge whose datapath is in user space persistent. A switch that is killed, and whose database
has lost the bridge before it starts again, does not look for the interface then: it stays for good, with the bridge's addresses, and
what goes to the hosts behind them leaves by it and is lost. So interfaces that get addresses are put into this daemon's group of links,
which they keep as long as they exist. Sources: TUNSETPERSIST in tun(4) of the kernel's documentation, and what Open vSwitch 3.1 does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import structlog

from poolnet.hostd.netlink import index_of
from poolnet.hostd.netlink_codec import Link
from poolnet.hostd.netlink_links import OUR_GROUP, DeleteLinks, Links, SetLink

LOG = structlog.stdlib.get_logger("poolnet.hostd.openvswitch.left_behind")
_TAP: Final = "tun"


async def mark(names: Iterable[str]) -> None:
    """Puts the interfaces of bridges, as far as they are there, into the group. Raises LinkError, OSError."""
    there = [name for name in names if index_of(name) is not None]
    if there:
        with Links() as links:
            await links.change([SetLink(name=name, group=OUR_GROUP) for name in there])


async def delete(in_switch: Collection[str]) -> None:
    """Deletes the interfaces that were left behind; `in_switch` are the names of its ports. Raises LinkError, OSError."""
    with Links() as links:
        found = left_behind(links.all().values(), in_switch)
        if found:
            LOG.warning("interfaces that the switch has left behind are deleted", names=found)
            await links.change([DeleteLinks(names=found)])


def left_behind(links: Iterable[Link], in_switch: Collection[str]) -> tuple[str, ...]:
    """The names of the interfaces in the group that no program has open, and that are no ports of the switch."""
    return tuple(
        sorted(
            link.name
            for link in links
            if link.kind == _TAP
            and link.group == OUR_GROUP
            and not link.has_carrier
            and link.name not in in_switch
        )
    )
