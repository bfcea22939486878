"""Which texts are addresses? The validity rules of spec §2.5, for every rule that takes an address from a client."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

_MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_PREFIX: Final = re.compile(r"[0-9]{1,3}")


def is_mac(text: str) -> bool:
    """Six groups of two hex digits; multicast and zero addresses are not looked for."""
    return _MAC.fullmatch(text) is not None


def is_ipv4(text: str) -> bool:
    """Four decimal octets without leading zeros, spaces or prefix."""
    try:
        IPv4Address(text)
    except AddressValueError:
        return False
    return True


def is_ipv6(text: str) -> bool:
    """An IPv6 address without zone or prefix."""
    try:
        return IPv6Address(text).scope_id is None
    except AddressValueError:
        return False


def is_ipv4_cidr(text: str) -> bool:
    """An IPv4 address, a slash and a prefix length up to 32; host bits may be set."""
    address, slash, prefix = text.partition("/")
    return bool(slash) and is_ipv4(address) and _PREFIX.fullmatch(prefix) is not None and int(prefix) <= 32


def is_ipv6_cidr(text: str) -> bool:
    """An IPv6 address, a slash and a prefix length up to 128; host bits may be set."""
    address, slash, prefix = text.partition("/")
    return bool(slash) and is_ipv6(address) and _PREFIX.fullmatch(prefix) is not None and int(prefix) <= 128


def canonical_ipv6(text: str) -> str:
    """The shortest text of an IPv6 address; the text itself if it is none."""
    return str(IPv6Address(text)) if is_ipv6(text) else text


def setify(items: Iterable[str]) -> tuple[str, ...]:
    """Without duplicates, of which the last one is kept; the order is not changed otherwise (spec §2.5)."""
    kept: dict[str, None] = {}
    for item in items:
        kept.pop(item, None)
        kept[item] = None
    return tuple(kept)


def merged_dns(given: str, stored: str, *, ipv6: bool) -> str:
    """The DNS field after a reconfiguration (spec §8.10, §8.11).

    Of the servers given, those of the configured family are kept, others silently dropped; of those stored, the ones
    of the other family stay, after them.
    """
    own, other = (is_ipv6, is_ipv4) if ipv6 else (is_ipv4, is_ipv6)
    return ",".join([s for s in given.split(",") if own(s)] + [s for s in stored.split(",") if other(s)])
