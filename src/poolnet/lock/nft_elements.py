"""What does one port's lock put into the sets of the nftables table?

The chains (see `nft_chains`) are the same for all ports and ask these sets; a change of a lock is a change of a few
elements. Every set is keyed by the port's name, so that a thousand ports cost a frame no more than one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.owned import owned

PORTS = "ports"
RECEIVERS = "receivers"
SHADOW = "shadow"
MACS = "macs"
TAGS, NATIVE = "tags", "native"
IPV4_PORTS, IPV6_PORTS = "ipv4_ports", "ipv6_ports"
OWN4, OWN4_RANGES = "own4", "own4_ranges"
OWN6, OWN6_RANGES = "own6", "own6_ranges"
PLAIN4, PLAIN6 = "plain4", "plain6"

# Name and declaration. Addresses are plain numbers at places in the frame: for named fields nftables adds checks of its
# own, which differ between its versions and miss frames with a VLAN tag, and some fields have no name.
SETS: Mapping[str, str] = MappingProxyType(
    {
        SHADOW: "type ifname",
        MACS: "typeof iifname . @ll,48,48",
        TAGS: "typeof iifname . @ll,112,16",
        NATIVE: "type ifname",
        IPV4_PORTS: "type ifname",
        IPV6_PORTS: "type ifname",
        OWN4: "typeof iifname . @nh,96,32",
        OWN4_RANGES: "typeof iifname . @nh,96,32; flags interval",
        OWN6: "typeof iifname . @nh,64,128",
        OWN6_RANGES: "typeof iifname . @nh,64,128; flags interval",
        PLAIN4: "typeof iifname . @ll,48,64 . @nh,96,32",
        PLAIN6: "typeof iifname . @ll,48,64 . @nh,64,128",
    }
)
RANGES = frozenset({OWN4_RANGES, OWN6_RANGES})
SWITCHES = frozenset({PORTS, RECEIVERS})  # what decides how a port's frames are looked at
_NAME_MAX = 15
_UNSAFE_IN_NAMES = frozenset('"*\\/:')

Element = tuple[str, str]  # the set, and the element's text


def elements(device: str, lock: PortLock) -> Iterator[Element]:
    """The elements of the port `device`, in a fixed order.

    Raises ValueError when the name is no interface's, or the lock has a bad MAC or address (see `owned`).
    """
    port = quoted(device)
    yield PORTS, f"{port} : goto {_first_chain(lock)}"
    if lock.mode is LockMode.DISABLED:
        return
    yield RECEIVERS, f"{port} : {_last_verdict(lock)}"
    for tag in sorted(set(lock.trunks)):
        yield (TAGS, f"{port} . {tag:#x}") if tag else (NATIVE, port)
    if lock.shadow:
        yield SHADOW, port
    if lock.mode is LockMode.LOCKED:
        yield from _owned_elements(port, lock)


def _first_chain(lock: PortLock) -> str:
    if lock.mode is LockMode.DISABLED:
        return "disabled"
    return f"{lock.mode.value}_trunk" if lock.trunks else lock.mode.value


def _last_verdict(lock: PortLock) -> str:
    """What is asked before a frame goes out to this port."""
    if lock.shadow or (lock.mode is LockMode.UNLOCKED and not lock.trunks):
        return "accept"
    return "goto to_trunk" if lock.trunks else "goto to_untagged"


def _owned_elements(port: str, lock: PortLock) -> Iterator[Element]:
    mine = owned(lock)
    yield MACS, f"{port} . {int.from_bytes(mine.mac):#x}"
    if mine.ipv4:
        yield IPV4_PORTS, port
    for net4 in mine.ipv4:
        yield _own_element((OWN4, OWN4_RANGES), port, net4)
    yield from _plain_elements(PLAIN4, port, mine.mac, 0x0800, mine.ipv4)
    if not mine.ipv6:
        return
    yield IPV6_PORTS, port
    for net6 in mine.ipv6:
        yield _own_element((OWN6, OWN6_RANGES), port, net6)
    yield from _plain_elements(PLAIN6, port, mine.mac, 0x86DD, mine.ipv6)


def _plain_elements(
    name: str, port: str, mac: bytes, ethertype: int, prefixes: Iterable[IPv4Network | IPv6Network]
) -> Iterator[Element]:
    """For each single address the MAC and EtherType before it, as they are next to each other in an untagged frame."""
    for prefix in prefixes:
        address = int(prefix.network_address)
        if prefix.num_addresses == 1 and address:  # nothing is from the unspecified address
            yield name, f"{port} . {int.from_bytes(mac) << 16 | ethertype:#x} . {address:#x}"


def _own_element(sets: tuple[str, str], port: str, prefix: IPv4Network | IPv6Network) -> Element:
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    if first == last:
        return sets[0], f"{port} . {first:#x}"
    return sets[1], f"{port} . {first:#x}-{last:#x}"


def quoted(device: str) -> str:
    """The name of an interface as an element. Raises ValueError when it is none."""
    if not 0 < len(device) <= _NAME_MAX or not device.isascii() or not device.isprintable():
        raise ValueError(f"{device!r} is no name of an interface")
    if " " in device or not _UNSAFE_IN_NAMES.isdisjoint(device):
        raise ValueError(f"{device!r} is no name of an interface")
    return f'"{device}"'
