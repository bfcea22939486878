"""What do the host's own interfaces tell their neighbours by themselves?

`addressing` calls it. By default a Linux host answers ARP on every interface for all its addresses: with several NICs
in one segment its management address moves to whichever answered first, and goes when that NIC does. And it speaks
IPv6 on every interface, where guests hear it and can reach it. Spec: dataplane.md, "sysctl per bridge".
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_IPV4 = Path("/proc/sys/net/ipv4/conf")
_IPV6 = Path("/proc/sys/net/ipv6/conf")
_OWN_ADDRESSES, _NO_ADDRESS = "1", "8"  # values of arp_ignore
_FROM_WHERE_IT_WOULD_GO = (
    "1"  # of rp_filter: a sender that an answer would not go to by this interface is not heard
)
_BEST_OF_SUBNET = "2"  # of arp_announce: an address of another interface is never the sender


def speak_for_bridge(bridge: str, *, ipv6: bool) -> None:
    """A bridge's own interface answers for the addresses that it has itself, and is silent in IPv6 without any."""
    _set(_IPV4 / bridge / "arp_ignore", _OWN_ADDRESSES)
    _set(_IPV4 / bridge / "arp_announce", _BEST_OF_SUBNET)
    _set(_IPV6 / bridge / "disable_ipv6", "0" if ipv6 else "1")


def silence_uplink(nic: str) -> None:
    """An uplink says nothing: what comes in is the bridge's. Its IPv6 addresses are lost.

    A switch in user space reads what comes in, but does not take it from the kernel, which would answer a second time
    where the bridge has the NIC's MAC address.
    """
    _set(_IPV4 / nic / "arp_ignore", _NO_ADDRESS)
    _set(_IPV4 / nic / "rp_filter", _FROM_WHERE_IT_WOULD_GO)
    _set(_IPV6 / nic / "disable_ipv6", "1")


def speak_as_others(nic: str) -> None:
    """A NIC that is no uplink any more speaks as the host's new interfaces do."""
    for settings, name in ((_IPV4, "arp_ignore"), (_IPV4, "rp_filter"), (_IPV6, "disable_ipv6")):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            _set(settings / nic / name, (settings / "default" / name).read_text())


def _set(setting: Path, value: str) -> None:
    with suppress(FileNotFoundError):  # the interface has just gone, or the kernel has no IPv6
        if setting.read_text().strip() != value.strip():
            setting.write_text(value)
