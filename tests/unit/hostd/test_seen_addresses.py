"""What a bridge's addresses look like beside what was asked for."""

from __future__ import annotations

import pytest

from poolnet.hostd.netlink import NO_ADDRESSES, Addresses
from poolnet.hostd.seen_addresses import as_seen
from poolnet.hostnet.state import NO_IP, IpConfig, Ipv4Mode, Ipv6Mode

OURS, OTHER, THIRD = "192.0.2.1/24", "192.0.2.7/24", "198.51.100.1/32"
STATIC = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=OURS)


@pytest.mark.parametrize(
    ("asked", "there", "address", "strange"),
    [
        (STATIC, (OURS,), OURS, ()),
        (STATIC, (), "", ()),
        (STATIC, (OTHER,), OTHER, ()),  # it was changed, and may be taken over
        (STATIC, (OURS, THIRD, OTHER), OURS, (OTHER, THIRD)),
        (STATIC, (THIRD, OURS), OURS, (THIRD,)),
        (STATIC, (OTHER, THIRD), OTHER, (THIRD,)),
        (NO_IP, (), "", ()),
        (NO_IP, (OTHER,), "", (OTHER,)),
        (IpConfig(ipv4_mode=Ipv4Mode.DHCP), (OURS, OTHER), "", ()),  # one of them is leased
        (IpConfig(ipv6_mode=Ipv6Mode.AUTOCONF), (OTHER,), "", (OTHER,)),
    ],
)
def test_addresses_of_ipv4(
    asked: IpConfig, there: tuple[str, ...], address: str, strange: tuple[str, ...]
) -> None:
    seen = as_seen(asked, Addresses(ipv4=there))
    assert (seen.ipv4_address, seen.strange_addresses) == (address, strange)


def test_addresses_of_ipv6() -> None:
    there = Addresses(ipv6=("2001:db8::1/64",))
    assert as_seen(NO_IP, there).strange_addresses == there.ipv6
    assert as_seen(IpConfig(ipv6_mode=Ipv6Mode.AUTOCONF), there).strange_addresses == ()
    static = IpConfig(ipv6_mode=Ipv6Mode.STATIC, ipv6_addresses=("2001:db8::2/64",))
    assert as_seen(static, there).ipv6_addresses == there.ipv6
    assert as_seen(static, there).strange_addresses == ()
    assert as_seen(NO_IP, NO_ADDRESSES) == NO_IP
