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
_FROM_WHERE_IT_WOULD_GO = "1"  # of rp_filter: who would not be answered by this interface is not heard
_ADDRESSES_BY_MAC, _NO_ADDRESSES = "0", "1"  # of addr_gen_mode
_BEST_OF_SUBNET = "2"  # of arp_announce: an address of another interface is never the sender


def speak_for_bridge(bridge: str, *, ipv6: bool) -> None:
    """A bridge's own interface answers for the addresses that it has itself, and is silent in IPv6 without any."""
    _set(_IPV4 / bridge / "arp_ignore", _OWN_ADDRESSES)
    _set(_IPV4 / bridge / "arp_announce", _BEST_OF_SUBNET)
    if ipv6 and _read(_IPV6 / bridge / "addr_gen_mode") == _NO_ADDRESSES:
        # dhcpcd sets it, and leaves it behind
        _set(_IPV6 / bridge / "addr_gen_mode", _ADDRESSES_BY_MAC)
    _set(_IPV6 / bridge / "disable_ipv6", "0" if ipv6 else "1")


def hear_routers(bridge: str, *, prefixes: bool, addresses: bool, default_route: bool) -> None:
    """What a bridge's own interface takes from router advertisements; set it before it begins to speak IPv6.

    Routers are only asked when an interface begins to speak: one that does already stops for a moment, and its IPv6
    addresses are lost.
    """
    wanted = {"autoconf": addresses, "accept_ra_defrtr": default_route, "accept_ra": prefixes}
    begins = [
        name for name, value in wanted.items() if value and _read(_IPV6 / bridge / name) not in ("", "1", "2")
    ]
    if begins:
        _set(_IPV6 / bridge / "disable_ipv6", "1")
    for name, value in wanted.items():
        _set(_IPV6 / bridge / name, "1" if value else "0")


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


def _read(setting: Path) -> str:
    try:
        return setting.read_text().strip()
    except FileNotFoundError:
        return ""


def _set(setting: Path, value: str) -> None:
    with suppress(FileNotFoundError):  # the interface has just gone, or the kernel has no IPv6
        if setting.read_text().strip() != value.strip():
            setting.write_text(value)
