"""Which IPv6 addresses and default routes does the kernel have? Read from its text files below /proc/net.

Every interface of a switch has link-local addresses and routes of its own: asking for them over netlink means decoding
several messages for each of hundreds of VLANs whenever anything changes. These files say the same in one read.
`netlink` alone calls this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

_IF_INET6: Final = Path("/proc/net/if_inet6")
_ROUTE: Final = Path("/proc/net/route")
_IPV6_ROUTE: Final = Path("/proc/net/ipv6_route")
_SCOPE_LINK: Final = 0x20
_FLAG_GATEWAY: Final = 0x2
_NO_PREFIX: Final = "00"


def ipv6_addresses() -> dict[str, list[str]]:
    """The IPv6 addresses (`ADDRESS/len`) by interface, without link-local ones."""
    found: dict[str, list[str]] = {}
    for fields in _rows(_IF_INET6):
        address, _, length, scope, _, name = fields
        if int(scope, 16) & 0xF0 != _SCOPE_LINK:
            found.setdefault(name, []).append(f"{IPv6Address(bytes.fromhex(address))}/{int(length, 16)}")
    return found


def ipv4_gateways() -> dict[str, str]:
    """The gateway of the IPv4 default route by interface."""
    found: dict[str, str] = {}
    for fields in _rows(_ROUTE):
        name, destination, gateway, flags, mask = *fields[:4], fields[7]
        if flags.isalnum() and destination == mask == "00000000" and int(flags, 16) & _FLAG_GATEWAY:
            found.setdefault(name, str(IPv4Address(bytes.fromhex(gateway)[::-1])))
    return found


def ipv6_gateways() -> dict[str, str]:
    """The gateway of the IPv6 default route by interface."""
    found: dict[str, str] = {}
    for fields in _rows(_IPV6_ROUTE):
        length, gateway, flags, name = fields[1], fields[4], fields[8], fields[9]
        if length == _NO_PREFIX and int(flags, 16) & _FLAG_GATEWAY:
            found.setdefault(name, str(IPv6Address(bytes.fromhex(gateway))))
    return found


def _rows(path: Path) -> Iterator[list[str]]:
    """The fields of each line; nothing where the kernel has no such protocol."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return
    for line in text.splitlines():
        yield line.split()
