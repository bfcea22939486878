"""How do the texts read that users and networks wrote into the database: numbers, addresses, routes, lists?

`derive` asks. What makes no sense is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_interface, ip_network

from poolnet.hostnet.state import Ipv4Mode


def is_number(text: str) -> bool:
    """Is this a decimal number that fits 64 bits? Digits of other scripts are none."""
    return text.isascii() and text.isdecimal() and len(text) <= 18


def fits_an_interface(text: str) -> bool:
    """Can an interface have this address (with or without prefix length)? Linux takes 0.0.0.0, and gives no address."""
    address = ip_interface(text).ip
    if address.version == 4:
        return not address.is_unspecified
    return not (address.is_unspecified or address.is_loopback or address.is_multicast)


def ipv4_with_prefix(address: str, netmask: str) -> str:
    """`A.B.C.D/len`; the length is the number of bits set, as the reference counts masks with holes.

    "" if that is no address, or none that an interface can have.
    """
    if not (plain_address(address, 4) and plain_address(netmask, 4) and fits_an_interface(address)):
        return ""
    return f"{address}/{int(ip_address(netmask)).bit_count()}"


def ipv6_with_prefixes(texts: Iterable[str]) -> tuple[str, ...]:
    """The IPv6 addresses with a prefix length that an interface can have, each once."""
    valid: list[str] = []
    for text in texts:
        try:
            interface = ip_interface(text)
        except ValueError:
            continue
        if "/" in text and interface.version == 6 and fits_an_interface(text):
            valid.append(interface.with_prefixlen)
    return tuple(dict.fromkeys(valid))


def plain_address(text: str, version: int) -> str:
    """An address of that IP version in its canonical text; "" for everything else."""
    try:
        address = ip_address(text)
    except ValueError:
        return ""
    return str(address) if address.version == version else ""


def plain_addresses(texts: Iterable[str]) -> tuple[str, ...]:
    """The addresses of either IP version in their canonical text, each once."""
    return tuple(
        dict.fromkeys(a for text in texts if (a := plain_address(text, 4) or plain_address(text, 6)))
    )


def listed(text: str) -> tuple[str, ...]:
    """The words of a list separated by commas, without empty ones."""
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def static_routes(text: str) -> tuple[str, ...]:
    """`SUBNET/LEN/GATEWAY,...` as routes; one bad entry, and none applies (spec §24.1)."""
    routes: list[str] = []
    for entry in filter(None, text.split(",")):
        subnet, _, gateway = entry.strip().rpartition("/")
        try:
            network = ip_network(subnet, strict=False)
        except ValueError:
            return ()
        if network.version != 4 or "/" not in subnet or not plain_address(gateway, 4):
            return ()
        routes.append(f"{network.with_prefixlen} via {gateway}")
    return tuple(routes)


def reachable(routes: tuple[str, ...], mode: Ipv4Mode, address: str) -> tuple[str, ...]:
    """Those whose gateway is on the host's own subnet there; which one that is, a lease decides when it comes."""
    if mode is not Ipv4Mode.STATIC:
        return routes if mode is Ipv4Mode.DHCP else ()
    subnet = ip_interface(address).network
    return tuple(route for route in routes if ip_address(route.partition(" via ")[2]) in subnet)


@lru_cache(maxsize=65536)
def plain_prefix(text: str) -> str:
    """An address or prefix in its canonical text, without host bits; "" if it is neither."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return ""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def plain_prefixes(texts: Sequence[str]) -> tuple[str, ...]:
    """Addresses and prefixes in their canonical texts, sorted, each once."""
    return tuple(sorted({prefix for text in texts if (prefix := plain_prefix(text))})) if texts else ()
