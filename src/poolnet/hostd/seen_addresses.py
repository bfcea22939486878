"""How does a bridge's address configuration look, given what the kernel has? The backends ask when they observe."""

from __future__ import annotations

from dataclasses import replace

from poolnet.hostd.netlink import Addresses, same_addresses
from poolnet.hostnet.state import NO_IP, IpConfig, Ipv4Mode, Ipv6Mode


def as_seen(asked: IpConfig, there: Addresses) -> IpConfig:
    """What was asked for, without what the kernel does not have; with what it has besides."""
    strange = _strange(asked, there)
    if asked == NO_IP:
        return replace(NO_IP, strange_addresses=strange) if strange else NO_IP
    if strange != asked.strange_addresses:
        asked = replace(asked, strange_addresses=strange)
    if asked.ipv4_mode is Ipv4Mode.STATIC and not any(
        same_addresses((text,), (asked.ipv4_address,)) for text in there.ipv4
    ):
        asked = replace(asked, ipv4_address=there.ipv4[0] if there.ipv4 else "")
    if asked.ipv4_mode is Ipv4Mode.STATIC and asked.ipv4_gateway != there.gateway:
        asked = replace(asked, ipv4_gateway=there.gateway)
    if asked.ipv6_mode is Ipv6Mode.STATIC and not same_addresses(asked.ipv6_addresses, there.ipv6):
        asked = replace(asked, ipv6_addresses=there.ipv6)
    return asked


def _strange(asked: IpConfig, there: Addresses) -> tuple[str, ...]:
    """The addresses that somebody else has put there. What comes by a lease or a router cannot be told from them.

    Another address in the place of the one that was asked for is that one, changed; of IPv6, all that differ are told so.
    """
    strange: list[str] = []
    if asked.ipv4_mode is Ipv4Mode.NONE:
        strange += there.ipv4
    elif asked.ipv4_mode is Ipv4Mode.STATIC:
        others = [text for text in there.ipv4 if not same_addresses((text,), (asked.ipv4_address,))]
        strange += others if len(others) < len(there.ipv4) else others[1:]
    if asked.ipv6_mode is Ipv6Mode.NONE:
        strange += there.ipv6
    return tuple(sorted(strange))
