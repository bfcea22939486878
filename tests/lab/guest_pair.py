"""Two VMs of a rig, behind `vif1.0` and `vif2.0`, each in a network namespace of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.lab.hostd_rig import Rig
from tests.lab.hostd_states import ipv4, mac


@dataclass(frozen=True)
class GuestPair:
    """The guests with the numbers 1 and 2, which have the MAC and the address of their number."""

    rig: Rig

    def name(self, number: int) -> str:
        """The namespace of a guest; no other test has one of that name."""
        return f"vm{number}-{os.getpid()}"

    def hears(self, target: str) -> bool:
        """Does guest 1 get an answer from that address?"""
        words = ("ip", "netns", "exec", self.name(1), "ping", "-n", "-c", "1", "-W", "1", target)
        return " 1 received" in self.rig.sh(*words, check=False)

    def takes(self, address: str) -> None:
        """Guest 1 has another address from now on."""
        device = ("dev", "guest1")
        self.rig.sh("ip", "-n", self.name(1), "addr", "flush", *device)
        self.rig.sh("ip", "-n", self.name(1), "addr", "add", f"{address}/24", *device)


@contextmanager
def guest_pair(rig: Rig) -> Iterator[GuestPair]:
    """Makes them, with the host's ends of their cables up, and removes them."""
    pair = GuestPair(rig)
    made: list[str] = []
    try:
        for number in (1, 2):
            name, inside = pair.name(number), f"guest{number}"
            rig.sh("ip", "netns", "add", name)
            made.append(name)
            rig.cable(f"vif{number}.0", inside)
            rig.sh("ip", "link", "set", f"vif{number}.0", "up")
            rig.sh("ip", "link", "set", inside, "netns", name, "address", mac(number))
            rig.sh("ip", "-n", name, "link", "set", inside, "up")
            rig.sh("ip", "-n", name, "addr", "add", f"{ipv4(number)}/24", "dev", inside)
        yield pair
    finally:
        for name in made:
            rig.sh("ip", "netns", "del", name)
