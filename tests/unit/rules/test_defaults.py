from __future__ import annotations

import pytest

from poolnet.rules.addresses import (
    canonical_ipv6,
    is_ipv4,
    is_ipv4_cidr,
    is_ipv6,
    is_ipv6_cidr,
    is_mac,
    merged_dns,
    setify,
)
from poolnet.rules.defaults import bridge_of_device, generated_mac, lowest_free

SEED = "a8c0ab1e-0a5f-4c53-9ab5-4d4b2b1e0001"


@pytest.mark.parametrize(
    ("device", "seed", "mac"),
    [
        (0, "seed", "fe:4c:0f:30:75:c6"),
        (1, "seed", "ee:ce:60:c9:09:aa"),
        (2, "seed", "72:f1:dc:de:95:80"),
        (0, SEED, "12:c5:61:f5:d9:60"),
        (7, SEED, "56:75:71:6c:9c:00"),
    ],
)
def test_macs_are_the_references(device: int, seed: str, mac: str) -> None:
    assert generated_mac(device, seed) == mac


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("00:16:3e:AA:bb:01", True),
        ("ff:ff:ff:ff:ff:ff", True),
        ("01:00:5e:00:00:01", True),
        ("0:16:3e:aa:bb:01", False),
        ("00-16-3e-aa-bb-01", False),
        ("00163eaabb01", False),
        ("", False),
        ("00:16:3e:aa:bb:01\n", False),
    ],
)
def test_macs_are_six_pairs_of_hex_digits(text: str, valid: bool) -> None:
    assert is_mac(text) is valid


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("10.0.0.1", True),
        ("0.0.0.0", True),
        ("255.255.255.255", True),
        ("10.0.0", False),
        ("010.0.0.1", False),
        ("10.0.0.1/24", False),
        ("10.0.0.256", False),
        (" 10.0.0.1", False),
        ("10.0.0.1\0", False),
    ],
)
def test_ipv4_addresses_are_four_octets(text: str, valid: bool) -> None:
    assert is_ipv4(text) is valid


def test_prefixes_need_a_length_of_their_family() -> None:
    assert is_ipv4_cidr("10.0.0.5/24")
    assert not is_ipv4_cidr("10.0.0.5")
    assert not is_ipv4_cidr("10.0.0.5/33")
    assert not is_ipv4_cidr("10.0.0.5/+8")
    assert is_ipv6_cidr("fd00::1/64")
    assert not is_ipv6_cidr("fd00::1")
    assert not is_ipv6_cidr("fd00::1/129")
    assert not is_ipv6("fe80::1%eth0")
    assert canonical_ipv6("FD00:0::1") == "fd00::1"


def test_setify_keeps_the_last_of_equal_items() -> None:
    assert setify(("a", "b", "a", "c")) == ("b", "a", "c")


def test_dns_servers_of_the_wrong_family_or_with_spaces_are_dropped() -> None:
    assert merged_dns("8.8.8.8,foo,1.1.1.1", "", ipv6=False) == "8.8.8.8,1.1.1.1"
    assert merged_dns("8.8.8.8, 1.1.1.1", "", ipv6=False) == "8.8.8.8"
    assert merged_dns("8.8.8.8", "9.9.9.9,fd00::53", ipv6=False) == "8.8.8.8,fd00::53"
    assert merged_dns("fd00::1", "9.9.9.9,fd00::53", ipv6=True) == "fd00::1,9.9.9.9"


def test_bridges_are_named_after_nics_and_fit_the_kernel() -> None:
    assert bridge_of_device("eth12") == "xenbr12"
    assert bridge_of_device("ens3") == "brens3"
    assert len(bridge_of_device("enp175s0f1np123")) == 15
    assert lowest_free("bond", {"bond0", "bond2"}) == "bond1"
