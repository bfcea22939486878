"""The nftables compiler: what goes into its sets, and in which order a lock is changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import arp, destination_options, fragment_header, ipv6, vlan_tag
from poolnet.lock.nft_counters import stopped
from poolnet.lock.nft_elements import elements
from poolnet.lock.nft_limits import unread
from poolnet.lock.nftables import change, ruleset
from poolnet.lock.packets import CORPUS
from poolnet.lock.policy import allows
from poolnet.lock.reasons import DropReason
from tests.unit.lock.lock_cases import LOCKED, UNLOCKED, US


def of(lock: PortLock) -> set[tuple[str, str]]:
    return set(elements("vif1.0", lock))


def test_a_disabled_port_and_one_without_addresses_have_no_addresses() -> None:
    assert of(replace(LOCKED, mode=LockMode.DISABLED)) == {("ports", '"vif1.0" : goto disabled')}
    assert of(replace(LOCKED, ipv4_allowed=(), ipv6_allowed=())) == {
        ("ports", '"vif1.0" : goto locked'),
        ("receivers", '"vif1.0" : goto to_untagged'),
        ("macs", '"vif1.0" . 0xaa0000000001'),
    }


def test_single_addresses_and_ranges_are_kept_apart() -> None:
    found = of(replace(LOCKED, ipv4_allowed=("10.0.0.1", "0.0.0.0/1", "192.0.2.1"), ipv6_allowed=()))
    assert ("own4", '"vif1.0" . 0xc0000201') in found
    assert ("own4_ranges", '"vif1.0" . 0x0-0x7fffffff') in found
    assert not any("0xa000001" in text for _, text in found)  # within the range


@pytest.mark.parametrize("name", ["", "vif*", 'vif"', "a b", "x" * 16, "vif\n", "ä"])
def test_a_name_that_is_no_interface_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of an interface"):
        ruleset({name: UNLOCKED})


def test_a_bad_address_is_refused_and_not_left_out() -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.256"):
        ruleset({"vif1.0": replace(LOCKED, ipv4_allowed=("10.0.0.256",))})


def test_equal_locks_need_no_change() -> None:
    assert change({"vif1.0": LOCKED}, {"vif1.0": LOCKED}) == ()


def test_a_port_is_opened_after_its_addresses_are_there_and_closed_before_they_go() -> None:
    first, last = change({}, {"vif1.0": LOCKED})
    assert "goto locked" not in first
    assert last == (
        'add element bridge poolnet ports { "vif1.0" : goto locked }\n'
        'add element bridge poolnet receivers { "vif1.0" : goto to_untagged }\n'
    )
    first, last = change({"vif1.0": LOCKED}, {})
    assert first == (
        'delete element bridge poolnet ports { "vif1.0" : goto locked }\n'
        'delete element bridge poolnet receivers { "vif1.0" : goto to_untagged }\n'
    )
    assert "own4" in last


def test_overlapping_ranges_are_exchanged_in_one_transaction() -> None:
    wide, narrow = (replace(LOCKED, ipv4_allowed=(prefix,)) for prefix in ("10.0.0.0/8", "10.1.0.0/16"))
    assert change({"vif1.0": wide}, {"vif1.0": narrow}) == (
        'delete element bridge poolnet own4_ranges { "vif1.0" . 0xa000000-0xaffffff }\n'
        'add element bridge poolnet own4_ranges { "vif1.0" . 0xa010000-0xa01ffff }\n',
    )


def test_all_of_the_corpus_that_passes_is_read() -> None:
    """What is not read is stopped by the policy as well, for what a locked port may do."""
    unread_cases = {case.name: allows(LOCKED, case.build(US)) for case in CORPUS if unread(case.build(US))}
    assert set(unread_cases) == {"A23", "A25", "A38", "A45"}
    assert not any(verdict.passes for verdict in unread_cases.values())


def test_what_is_not_read_is_named() -> None:
    long = destination_options(59, units=5)
    later = fragment_header(60, offset_bytes=8) + bytes(8)
    assert unread(US.eth(0x86DD, ipv6(US.ipv6, US.victim_ipv6, 60, long))) == "long header chain"
    whole = US.eth(0x86DD, ipv6(US.ipv6, US.victim_ipv6, 44, later))
    assert unread(whole) == ""
    assert unread(whole[:-1]) == "cut off fragment"
    assert unread(vlan_tag(whole[:-1], 5)) == "cut off fragment"
    behind = destination_options(44) + later
    assert unread(US.eth(0x86DD, ipv6(US.ipv6, US.victim_ipv6, 60, behind))) == "headers before a fragment"
    assert unread(US.eth(0x0800, b"\x65" + bytes(40))) == "wrong IP version"
    assert unread(US.eth(0x0806, arp(1, (US.mac, US.ipv4), (US.mac, US.ipv4)))) == ""
    assert unread(b"") == "length instead of an EtherType"


def test_counters_are_read_by_port_and_reason() -> None:
    elem = [{"elem": {"val": name, "counter": {"packets": 3, "bytes": 9}}} for name in ("vif1.0", "vif7.0")]
    listing = {
        "nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"set": {"name": "dropped_ipv4_source", "elem": elem}},
            {"set": {"name": "dropped_arp"}},
            {"set": {"name": "open", "elem": ["vif1.0"]}},
        ]
    }
    assert stopped(listing, ["vif1.0", "vif2.0"]) == {
        "vif1.0": {**dict.fromkeys(DropReason, 0), DropReason.IPV4_SOURCE: 3},
        "vif2.0": dict.fromkeys(DropReason, 0),
    }
