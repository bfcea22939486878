"""How do the host's ends of guests' NICs look? The same for every runtime: silent, and not what a bridge takes its MAC from."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from poolnet.hostd.run import CommandFailed, run

MAC: Final = "fe:ff:ff:ff:ff:ff"  # never chosen as a bridge's address, being the highest
SILENT: Final = ("arp", "off", "address", MAC)
"""Words of `ip link set`: the host itself must not speak through a guest's NIC."""
_IPV6 = Path("/proc/sys/net/ipv6/conf")


def vif_name(domid: int, device: int) -> str:
    """The name of a host end."""
    return f"vif{domid}.{device}"


def disable_ipv6(vif: str) -> None:
    """No IPv6 from the host through this interface, and none of its addresses."""
    switch = _IPV6 / vif / "disable_ipv6"
    if switch.exists():
        switch.write_text("1", encoding="ascii")


async def make_tap(vif: str, mtu_bytes: int, *, several_queues: bool) -> None:
    """Makes a host end for a hypervisor to open: down, and there until it is removed. Raises CommandFailed."""
    await remove(vif)  # left by a guest that ended together with its record
    queues = ("multi_queue",) if several_queues else ()
    await run(("ip", "tuntap", "add", "dev", vif, "mode", "tap", "vnet_hdr", *queues))
    try:
        disable_ipv6(vif)
        await run(("ip", "link", "set", vif, "mtu", str(mtu_bytes), *SILENT))
    except CommandFailed:
        await remove(vif)
        raise


async def raise_end(vif: str) -> None:
    """Lets frames through. Raises CommandFailed."""
    await run(("ip", "link", "set", vif, "up"))


async def remove(vif: str) -> None:
    """Removes a host end, also one that a hypervisor still holds. Nothing to do when it is gone."""
    with suppress(OSError, CommandFailed):  # it may go just now
        socket.if_nametoindex(vif)
        await run(("ip", "link", "del", vif))
