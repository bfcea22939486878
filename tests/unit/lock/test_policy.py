"""What a lock means, packet by packet."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import ethernet, fragment_header, icmpv6, ipv4, ipv6, neighbor, udp, vlan_tag
from poolnet.lock.owned import owned
from poolnet.lock.packets import ALL_NODES, ANY6, CORPUS, FOREIGN_MAC, SLL, TLL, Case, Expect
from poolnet.lock.policy import Verdict, allows
from poolnet.lock.reasons import DropReason
from tests.unit.lock.lock_cases import LOCKED, UNLOCKED, US

PASSES = Verdict(passes=True)


def stopped(reason: DropReason) -> Verdict:
    return Verdict(passes=False, reason=reason)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: f"{case.name} {case.title}")
def test_every_packet_of_the_corpus_gets_its_verdict(case: Case) -> None:
    verdict = allows(LOCKED, case.build(US))
    if case.expect is not Expect.EITHER:
        assert verdict.passes == (case.expect is Expect.PASS), verdict
    assert verdict.passes == (verdict.reason is None)


def test_the_corpus_is_complete() -> None:
    assert len(CORPUS) == 87
    assert len({case.name for case in CORPUS}) == 87
    assert Counter(case.expect for case in CORPUS) == {Expect.PASS: 30, Expect.DROP: 48, Expect.EITHER: 9}


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_a_lock_without_addresses_stops_everything_and_no_lock_nothing(case: Case) -> None:
    empty = replace(LOCKED, ipv4_allowed=(), ipv6_allowed=())
    assert not allows(empty, case.build(US)).passes
    assert allows(UNLOCKED, case.build(US)) == PASSES
    assert allows(replace(LOCKED, mode=LockMode.DISABLED), case.build(US)) == stopped(DropReason.DISABLED)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_shadow_mode_counts_and_lets_through(case: Case) -> None:
    strict, shadow = allows(LOCKED, case.build(US)), allows(replace(LOCKED, shadow=True), case.build(US))
    assert shadow.passes
    assert shadow.reason == strict.reason


def test_a_protocol_without_addresses_is_stopped() -> None:
    only4, only6 = replace(LOCKED, ipv6_allowed=()), replace(LOCKED, ipv4_allowed=())
    for case in CORPUS:
        if case.expect is Expect.PASS:
            is_ipv6 = case.build(US)[12:14] == b"\x86\xdd"
            assert allows(only4, case.build(US)).passes != is_ipv6
            assert allows(only6, case.build(US)).passes == is_ipv6


def test_a_prefix_allows_its_addresses_but_never_the_unspecified_one() -> None:
    wide = replace(LOCKED, ipv4_allowed=("0.0.0.0/0",), ipv6_allowed=("::/0",))
    by_name = {case.name: allows(wide, case.build(US)).passes for case in CORPUS}
    assert by_name["A02"]
    assert by_name["A09"]
    assert by_name["A30"]
    assert not by_name["A03"]
    assert not by_name["A08"]
    assert not by_name["A31"]
    narrow = replace(LOCKED, ipv4_allowed=("10.0.0.7/30",))  # host bits mean the prefix
    assert not allows(narrow, US.ip4(US.ipv4, 6, bytes(20))).passes
    assert allows(narrow, US.ip4(US.ipv4 + 4, 6, bytes(20))).passes


@pytest.mark.parametrize(
    ("trunks", "tag", "verdict"),
    [
        ((), None, PASSES),
        ((), 10, stopped(DropReason.VLAN)),
        ((10, 20), 10, PASSES),
        ((10, 20), 30, stopped(DropReason.VLAN)),
        ((10, 20), None, stopped(DropReason.VLAN)),
        ((0, 10), None, PASSES),
        ((0, 10), 0, stopped(DropReason.VLAN)),
    ],
)
@pytest.mark.parametrize("mode", [LockMode.LOCKED, LockMode.UNLOCKED])
def test_tags_are_those_of_the_trunk_list(
    mode: LockMode, trunks: tuple[int, ...], tag: int | None, verdict: Verdict
) -> None:
    if mode is LockMode.UNLOCKED and not trunks:
        verdict = PASSES  # the switch port's own business
    frame = US.ip4(US.ipv4, 6, bytes(20))
    sent = frame if tag is None else vlan_tag(frame, tag)
    assert allows(replace(LOCKED, mode=mode, trunks=trunks), sent) == verdict


def ns_with_options(*options: tuple[int, bytes]) -> bytes:
    return US.icmp(US.ipv6, ALL_NODES, 135, neighbor(US.victim_ipv6, *options))


@pytest.mark.parametrize(
    ("frame", "verdict"),
    [
        (ns_with_options((SLL, FOREIGN_MAC), (SLL, FOREIGN_MAC)), stopped(DropReason.NEIGHBOR_DISCOVERY)),
        (ns_with_options((SLL, US.mac), (SLL, FOREIGN_MAC)), stopped(DropReason.NEIGHBOR_DISCOVERY)),
        (ns_with_options((14, bytes(6)), (SLL, FOREIGN_MAC)), stopped(DropReason.NEIGHBOR_DISCOVERY)),
        (ns_with_options((14, bytes(6)), (SLL, US.mac)), PASSES),
        (ns_with_options((SLL, bytes(6)), (SLL, FOREIGN_MAC)), stopped(DropReason.NEIGHBOR_DISCOVERY)),
        (US.icmp(US.ipv6, ALL_NODES, 136, bytes(4)), stopped(DropReason.NEIGHBOR_DISCOVERY)),
        (US.icmp(ANY6, ALL_NODES, 136, neighbor(US.ipv6, (TLL, US.mac))), stopped(DropReason.IPV6_SOURCE)),
        (
            US.eth(
                0x86DD,
                ipv6(
                    US.ipv6,
                    ALL_NODES,
                    58,
                    icmpv6(US.ipv6, ALL_NODES, 135, neighbor(US.victim_ipv6)),
                    hop_limit=64,
                ),
            ),
            stopped(DropReason.NEIGHBOR_DISCOVERY),
        ),
        (US.ip6(US.ipv6, US.victim_ipv6, 58, b"\x86"), stopped(DropReason.HEADER_CHAIN)),
        (US.ip6(US.ipv6, US.victim_ipv6, 44, fragment_header(17, more=True)), stopped(DropReason.FRAGMENT)),
        (US.ip6(US.ipv6, US.victim_ipv6, 44, fragment_header(6, more=True) + bytes(24)), PASSES),
        (
            ethernet(
                US.victim_mac,
                US.mac,
                46,
                b"\xaa\xaa\x03\0\0\0\x08\0" + ipv4(US.victim_ipv4, US.ipv4, 17, udp(1, 2)),
            ),
            stopped(DropReason.IPV4_SOURCE),
        ),
        (b"", stopped(DropReason.MAC)),
        (US.victim_mac + US.mac, stopped(DropReason.MAC)),
        (US.victim_mac + US.mac + b"\x08\x00", stopped(DropReason.IPV4_SOURCE)),
        (US.victim_mac + US.mac + b"\x81\x00\x00", stopped(DropReason.ETHERTYPE)),
    ],
)
def test_packets_beyond_the_corpus(frame: bytes, verdict: Verdict) -> None:
    assert allows(LOCKED, frame) == verdict


@pytest.mark.parametrize(
    "lock",
    [
        replace(LOCKED, mac="aa:00:00:00:00"),
        replace(LOCKED, mac="01:00:00:00:00:01"),
        replace(LOCKED, mac="00:00:00:00:00:00"),
        replace(LOCKED, mac="zz:00:00:00:00:00"),
        replace(LOCKED, ipv4_allowed=("10.0.0.256",)),
        replace(LOCKED, ipv6_allowed=("fe80::1%eth0",)),
        replace(LOCKED, ipv6_allowed=("10.0.0.1",)),
    ],
)
def test_a_lock_that_cannot_be_understood_is_refused(lock: PortLock) -> None:
    with pytest.raises(ValueError):
        allows(lock, b"")


def test_the_link_local_address_comes_with_ipv6() -> None:
    assert [str(prefix) for prefix in owned(LOCKED).ipv6] == ["fd00::1/128", "fe80::a800:ff:fe00:1/128"]
    assert owned(replace(LOCKED, ipv6_allowed=())).ipv6 == ()
    assert len(owned(replace(LOCKED, ipv6_allowed=("fe80::/10",))).ipv6) == 1
