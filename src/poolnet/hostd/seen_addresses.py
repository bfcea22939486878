"""How does a bridge's address configuration look, given what the kernel has? The backends ask when they observe."""

from __future__ import annotations

from dataclasses import replace

from poolnet.hostd.netlink import Addresses, same_addresses
from poolnet.hostnet.state import NO_IP, IpConfig, Ipv4Mode, Ipv6Mode


def as_seen(asked: IpConfig, there: Addresses) -> IpConfig:
    """What was asked for, without what the kernel does not have."""
    if asked == NO_IP:
        return NO_IP
    if asked.ipv4_mode is Ipv4Mode.STATIC and not same_addresses([asked.ipv4_address], there.ipv4):
        asked = replace(asked, ipv4_address=there.ipv4[0] if there.ipv4 else "")
    if asked.ipv4_mode is Ipv4Mode.STATIC and asked.ipv4_gateway != there.gateway:
        asked = replace(asked, ipv4_gateway=there.gateway)
    if asked.ipv6_mode is Ipv6Mode.STATIC and not same_addresses(asked.ipv6_addresses, there.ipv6):
        asked = replace(asked, ipv6_addresses=there.ipv6)
    return asked
