"""Whose addresses does an interface of ours tell by ARP?

`addressing` calls it. A Linux host answers on every interface for all its addresses: with several NICs in one segment,
its management address would move to whichever answered first, and go when that NIC does (dataplane.md §F).
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_SETTINGS = Path("/proc/sys/net/ipv4/conf")
_OWN_ADDRESSES, _NO_ADDRESS = "1", "8"  # values of arp_ignore
_BEST_OF_SUBNET = "2"  # of arp_announce: an address of another interface is never the sender


def tell_own_addresses(bridge: str) -> None:
    """A bridge's own interface answers for the addresses that it has itself."""
    _set(bridge, "arp_ignore", _OWN_ADDRESSES)
    _set(bridge, "arp_announce", _BEST_OF_SUBNET)


def tell_nothing(nic: str) -> None:
    """An uplink answers nothing: what comes in is the bridge's."""
    _set(nic, "arp_ignore", _NO_ADDRESS)


def tell_as_others(nic: str) -> None:
    """A NIC that is no uplink any more answers as the host's new interfaces do."""
    _set(nic, "arp_ignore", (_SETTINGS / "default/arp_ignore").read_text())


def _set(name: str, setting: str, value: str) -> None:
    with suppress(FileNotFoundError):  # the interface has just gone
        path = _SETTINGS / name / setting
        if path.read_text().strip() != value.strip():
            path.write_text(value)
