"""What belongs to a locked port: its MAC and the prefixes it may use, parsed once from the lock's texts.

The policy and the compilers both start here, so that they cannot disagree about what a list means.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
)

from poolnet.hostnet.state import PortLock

MAC_BYTES = 6
NO_MAC = bytes(MAC_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Owned:
    """Disjoint, sorted prefixes. `ipv6` has the MAC's link-local address too, unless the list is empty."""

    mac: bytes
    ipv4: tuple[IPv4Network, ...]
    ipv6: tuple[IPv6Network, ...]


def owned(lock: PortLock) -> Owned:
    """What `lock` allows to be used.

    `A.B.C.D/len` with host bits means the whole prefix, as a switch takes it.
    Raises ValueError when the MAC is no unicast address or an entry is no address: a lock that cannot be
    understood must not be installed as something else.
    """
    return _owned(lock.mac, lock.ipv4_allowed, lock.ipv6_allowed)


@lru_cache(maxsize=4096)
def _owned(mac_text: str, ipv4_texts: tuple[str, ...], ipv6_texts: tuple[str, ...]) -> Owned:
    mac = parse_mac(mac_text)
    if mac == NO_MAC or mac[0] & 1:
        raise ValueError(f"{mac_text!r} is no unicast MAC address")
    ipv4 = [IPv4Network(text, strict=False) for text in ipv4_texts]
    ipv6 = [IPv6Network(text, strict=False) for text in _without_zones(ipv6_texts)]
    if ipv6:
        ipv6.append(IPv6Network(link_local(mac)))
    return Owned(mac=mac, ipv4=tuple(collapse_addresses(ipv4)), ipv6=tuple(collapse_addresses(ipv6)))


def parse_mac(text: str) -> bytes:
    """The six bytes of `aa:bb:cc:dd:ee:ff`. Raises ValueError."""
    pairs = text.split(":")
    if len(pairs) != MAC_BYTES or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{text!r} is no MAC address")
    return bytes(int(pair, 16) for pair in pairs)


def link_local(mac: bytes) -> IPv6Address:
    """The link-local address that a host with this MAC makes itself (RFC 4291, appendix A)."""
    interface = bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface)


def _without_zones(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        if "%" in text:
            raise ValueError(f"{text!r} has a zone, which no other host knows")
        yield text
