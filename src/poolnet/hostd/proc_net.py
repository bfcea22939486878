"""Which interfaces, IPv6 addresses, default routes and peers does the kernel have? Read from its text files below /proc/net.

Every interface of a switch has link-local addresses and routes of its own: asking for them over netlink means decoding
several messages for each of hundreds of VLANs whenever anything changes. These files say the same in one read.
`netlink` and `reach` call this module.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

_DEV: Final = Path("/proc/net/dev")
_IF_INET6: Final = Path("/proc/net/if_inet6")
_ROUTE: Final = Path("/proc/net/route")
_IPV6_ROUTE: Final = Path("/proc/net/ipv6_route")
_ARP: Final = Path("/proc/net/arp")
_TCP: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_SCOPE_LINK: Final = 0x20
_UNUSABLE: Final = 0x40 | 0x08  # tentative, and found to be somebody else's: <linux/if_addr.h>
_COMPLETE: Final = 0x2  # <linux/if_arp.h>
_ESTABLISHED: Final = "01"
_FLAG_GATEWAY: Final = 0x2
_DEFAULT_IPV6: Final = f"{'0' * 32} 00 "


def interface_names() -> tuple[str, ...]:
    """The names of all interfaces in this network namespace."""
    lines = _DEV.read_text().splitlines()[2:]  # below the two lines of its heading
    return tuple(line.partition(":")[0].strip() for line in lines)


def ipv6_addresses(*, link_local: bool = False) -> dict[str, list[str]]:
    """The IPv6 addresses (`ADDRESS/len`) by interface: only the link-local ones, or all others."""
    found: dict[str, list[str]] = {}
    for fields in _rows(_IF_INET6):
        address, _, length, scope, _, name = fields
        if (int(scope, 16) & 0xF0 == _SCOPE_LINK) is link_local:
            found.setdefault(name, []).append(f"{IPv6Address(bytes.fromhex(address))}/{int(length, 16)}")
    return found


def unusable_ipv6_addresses(device: str) -> tuple[str, ...]:
    """The IPv6 addresses of an interface that it may not use, or not yet: somebody else may have them."""
    rows = (fields for fields in _rows(_IF_INET6) if fields[5] == device and int(fields[4], 16) & _UNUSABLE)
    return tuple(str(IPv6Address(bytes.fromhex(fields[0]))) for fields in rows)


def arp_neighbours(device: str) -> tuple[str, ...]:
    """The IPv4 addresses on an interface that have answered ARP."""
    rows = (fields for fields in _rows(_ARP) if fields[-1] == device)
    return tuple(fields[0] for fields in rows if int(fields[2], 16) & _COMPLETE)


def tcp_peers(own: Collection[str]) -> tuple[str, ...]:
    """Whoever is connected to one of these addresses of ours over TCP; a peer that is ourselves does not count."""
    found: dict[str, None] = {}
    for path in _TCP:
        for fields in _rows(path):
            if fields[3] == _ESTABLISHED:
                local, remote = (_socket_address(field) for field in fields[1:3])
                if local in own and remote not in own:
                    found[remote] = None
    return tuple(found)


def _socket_address(field: str) -> str:
    """The address of `ADDRESS:PORT`, whose 32-bit words are in the order of this machine; IPv4 inside IPv6 is IPv4."""
    words = bytes.fromhex(field.partition(":")[0])
    swapped = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
    packed = swapped if sys.byteorder == "little" else words
    if len(packed) == 4:
        return str(IPv4Address(packed))
    address = IPv6Address(packed)
    return str(address.ipv4_mapped or address)


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
    for fields in _rows(_IPV6_ROUTE, _DEFAULT_IPV6):
        gateway, flags, name = fields[4], fields[8], fields[9]
        if int(flags, 16) & _FLAG_GATEWAY:
            found.setdefault(name, str(IPv6Address(bytes.fromhex(gateway))))
    return found


def _rows(path: Path, begin: str = "") -> Iterator[list[str]]:
    """The fields of each line that begins so; nothing where the kernel has no such protocol."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return
    for line in text.splitlines():
        if line.startswith(begin):
            yield line.split()
