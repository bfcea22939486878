"""Which values does poolnet choose when nobody gives one? MACs, device numbers, names of bridges and networks."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from typing import Final

from poolnet.rules.context import BRIDGE_PREFIX, CallContext

BRIDGE_NAME_MAX: Final = 15  # the kernel's limit for names of interfaces
VIF_DEVICES: Final = tuple(str(number) for number in range(16))  # spec §17.2
_POSITION: Final = re.compile(r"eth([0-9]+)")
_BRIDGE_POSITION: Final = re.compile(r"xenbr([0-9]{1,9})")


def generated_mac(device: int, seed: str) -> str:
    """The MAC of a VM's VIF with this device number (spec §15.9): unicast, locally administered, always the same."""
    digest = seed.encode()
    for _ in range(2 * device + 1):
        digest = hashlib.md5(digest, usedforsecurity=False).digest()
    second = hashlib.md5(digest, usedforsecurity=False).digest()
    octets = bytearray((*digest[:4], second[1], second[2]))
    octets[0] = (octets[0] | 0x02) & 0xFE
    return octets.hex(":")


def position_of_device(device: str) -> int | None:
    """The position of a NIC among the host's: eth0 has 0. None for NICs of other names."""
    match = _POSITION.fullmatch(device)
    return int(match[1]) if match else None


def bridge_of_device(device: str, position: int = -1) -> str:
    """The name of a NIC's bridge (spec §8.5): by its position, else by its name, cut to what the kernel takes."""
    place = position if position >= 0 else position_of_device(device)
    return f"xenbr{place}" if place is not None else f"br{device[2 - BRIDGE_NAME_MAX :]}"


def position_of_bridge(bridge: str) -> int:
    """The position of the NIC whose bridge has that name; -1 for bridges of other names."""
    match = _BRIDGE_POSITION.fullmatch(bridge)
    return int(match[1]) if match else -1


def network_label(device: str) -> str:
    """The name of the network made for a NIC."""
    return f"Pool-wide network associated with {device}"


def free_bridge(ctx: CallContext, taken: Collection[str]) -> str:
    """A name for a bridge that no network has (spec §7.2). Numbers only grow while the server runs."""
    while True:
        name = f"{BRIDGE_PREFIX}{ctx.counters.take_bridge()}"
        if name not in taken:
            return name


def lowest_free(prefix: str, taken: Collection[str]) -> str:
    """The first of prefix0, prefix1 … that is not taken: the devices of bonds and tunnels (spec §8.2)."""
    number = 0
    while f"{prefix}{number}" in taken:
        number += 1
    return f"{prefix}{number}"
