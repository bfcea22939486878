"""The lock's nftables rules on a real Linux bridge: frames that are really sent and captured, against the policy."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import ethernet, vlan_tag
from poolnet.lock.nft_counters import stopped
from poolnet.lock.nft_limits import unread
from poolnet.lock.nftables import change, ruleset
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.packets import CORPUS, Expect
from poolnet.lock.policy import allows
from poolnet.lock.prove import as_sent, prove_bridge
from poolnet.lock.reasons import DropReason
from tests.lab.own_network import run_in_own_network
from tests.lab.scratch_bridge import BRIDGE, GUEST, OTHER_GUEST, UPLINK, ScratchBridge, scratch_bridge
from tests.lab.test_lock_on_open_vswitch import LOCKS, SENTINEL, mangled
from tests.property.nft_table import listing, without_order
from tests.property.random_frames import Sender, locks
from tests.unit.lock.lock_cases import LOCKED, UNLOCKED, US

pytestmark = pytest.mark.lab

OTHER_LOCK = PortLock(mode=LockMode.LOCKED, mac="aa:00:00:00:00:02", ipv4_allowed=("10.0.0.2",))
SPOOF = next(case for case in CORPUS if case.name == "A02").build(US)
GROUPS = bytes.fromhex("0180c2000000")
STOPPED_BY_ANY_BRIDGE = {"A39", "A40"}  # a link-local group address; a group address as source
SENTINEL_TO_ALL = b"\xff" * 6 + SENTINEL[6:]
FROM_OUTSIDE = ethernet(b"\xff" * 6, US.victim_mac, 0x0800, b"from outside".ljust(46))
LAST = ethernet(b"\xff" * 6, US.victim_mac, 0x0800, b"the end".ljust(46))


def on_a_bridge(body: Callable[[ScratchBridge], None], *, learning: bool = True) -> None:
    async def run() -> None:
        with scratch_bridge(learning=learning) as bridge:
            body(bridge)

    run_in_own_network(run)


def counted(bridge: ScratchBridge, device: str = GUEST) -> dict[DropReason, int]:
    """What was stopped at the port; zeros left out."""
    found = stopped(bridge.listing(), [device])[device]
    return {reason: count for reason, count in found.items() if count}


def check_every_packet(bridge: ScratchBridge, lock: PortLock, tag: int | None) -> None:
    """Capture at the uplink and at the host, and counters, against the policy."""
    dropped: Counter[DropReason] = Counter()
    sentinel = as_sent(lock, SENTINEL_TO_ALL)
    installed = BridgeModel(bridge.listing())
    assert all(verdict.proved for verdict in prove_bridge(lock, installed, GUEST))
    for case in CORPUS:
        frame = as_sent(lock, case.build(US))
        verdict = allows(lock, frame)
        assert installed.sends(GUEST, frame).passes == verdict.passes, case
        arrived = bridge.arrivals([frame], sentinel, at=(UPLINK, BRIDGE))
        bare = frame[:12] + frame[16:] if lock.trunks else frame
        assert arrived[UPLINK] == ([(tag, bare)] if verdict.passes else []), (case, verdict)
        assert verdict.passes or not arrived[BRIDGE], (case, verdict)
        if case.expect is not Expect.EITHER:
            assert verdict.passes == (case.expect is Expect.PASS)
        if verdict.reason and case.name not in STOPPED_BY_ANY_BRIDGE:
            dropped[verdict.reason] += 1
    assert counted(bridge) == dropped


@pytest.mark.parametrize(
    ("lock", "tag"), [(LOCKED, None), (replace(LOCKED, trunks=(10, 21)), 10)], ids=["access", "trunk"]
)
def test_a_locked_port_passes_and_stops_every_packet_of_the_corpus(lock: PortLock, tag: int | None) -> None:
    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset({GUEST: lock, OTHER_GUEST: OTHER_LOCK}))
        check_every_packet(bridge, lock, tag)
        assert counted(bridge, OTHER_GUEST) == {}

    on_a_bridge(body)


def test_a_trunk_port_uses_the_tags_of_its_list() -> None:
    plain = US.ip4(US.ipv4, 6, bytes(20))

    def body(bridge: ScratchBridge) -> None:
        for lock in (replace(LOCKED, trunks=(10, 21)), replace(UNLOCKED, trunks=(10, 21))):
            bridge.nft(ruleset({GUEST: lock}))
            sentinel = as_sent(lock, SENTINEL)
            assert bridge.deliver(vlan_tag(plain, 21), sentinel) == [(21, plain)]
            assert bridge.deliver(vlan_tag(plain, 30), sentinel) == []
            assert bridge.deliver(vlan_tag(plain, 30, 0x88A8), sentinel) == []
            assert bridge.deliver(plain, sentinel) == []
            assert counted(bridge) == {DropReason.VLAN: 3}

    on_a_bridge(body)


def test_without_a_lock_the_same_packets_arrive() -> None:
    """The positive control: what a lock stops is not stopped by anything else."""

    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset({GUEST: UNLOCKED}))
        arrived = {case.name for case in CORPUS if bridge.deliver(case.build(US), SENTINEL)}
        assert {case.name for case in CORPUS} - arrived == STOPPED_BY_ANY_BRIDGE

    on_a_bridge(body)


def test_a_lock_in_shadow_mode_counts_what_it_lets_through() -> None:
    def body(bridge: ScratchBridge) -> None:
        lock = replace(LOCKED, shadow=True)
        bridge.nft(ruleset({GUEST: lock}))
        expected: Counter[DropReason] = Counter()
        for case in CORPUS:
            frame = case.build(US)
            if case.name not in STOPPED_BY_ANY_BRIDGE:
                assert bridge.deliver(frame, SENTINEL) == [TAGGED.get(case.name, (None, frame))], case
                expected.update(filter(None, [allows(lock, frame).reason]))
        assert counted(bridge) == expected

    on_a_bridge(body)


def _as_captured(name: str) -> tuple[int, bytes]:
    frame = next(case for case in CORPUS if case.name == name).build(US)
    return int.from_bytes(frame[14:16]) & 0xFFF, frame[:12] + frame[16:]


TAGGED = {name: _as_captured(name) for name in ("A32", "A33", "A34", "A35")}


def test_a_guest_port_without_a_lock_and_a_disabled_one_are_closed_both_ways() -> None:
    frame = US.ip4(US.ipv4, 6, bytes(20))
    disabled = replace(LOCKED, mode=LockMode.DISABLED)

    def body(bridge: ScratchBridge) -> None:
        for before in ({OTHER_GUEST: UNLOCKED}, {OTHER_GUEST: UNLOCKED, GUEST: disabled}):
            bridge.nft(ruleset(before))
            bridge.send(GUEST, frame)
            arrived = bridge.arrivals([], SENTINEL_TO_ALL, source=OTHER_GUEST, at=(UPLINK, BRIDGE))
            assert not any((None, frame) in seen for seen in arrived.values())
            bridge.send(UPLINK, FROM_OUTSIDE)
            bridge.send(BRIDGE, FROM_OUTSIDE)
            bridge.nft(*change(before, {**before, GUEST: UNLOCKED}))
            # Nothing but the last frame, which was sent with the lock.
            for source in (UPLINK, BRIDGE):
                assert bridge.arrivals([], LAST, source=source, at=(GUEST,)) == {GUEST: []}
        assert (None, frame) in bridge.deliver(frame, SENTINEL_TO_ALL)

    on_a_bridge(body)


def test_a_spoofed_source_does_not_move_the_victims_address_to_the_attackers_port() -> None:
    """The bridge must not learn from a frame that is stopped."""
    spoof = ethernet(b"\xff" * 6, US.victim_mac, 0x0800, bytes(46))

    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset({GUEST: LOCKED, OTHER_GUEST: UNLOCKED}))
        bridge.arrivals([spoof], SENTINEL_TO_ALL, source=OTHER_GUEST)
        assert bridge.learned("aa:00:00:00:00:02") == OTHER_GUEST
        bridge.deliver(spoof, SENTINEL_TO_ALL)
        assert bridge.learned("aa:00:00:00:00:02") == OTHER_GUEST

    on_a_bridge(body)


def test_a_change_of_one_lock_is_the_new_rule_set_and_keeps_the_others_counters() -> None:
    before = {GUEST: LOCKED, OTHER_GUEST: OTHER_LOCK}
    steps: tuple[dict[str, PortLock], ...] = (
        {
            GUEST: replace(LOCKED, ipv4_allowed=("10.0.0.0/24", "192.0.2.7"), trunks=(0, 7)),
            OTHER_GUEST: OTHER_LOCK,
        },
        {GUEST: replace(LOCKED, ipv6_allowed=("fd00::/64",), shadow=True), OTHER_GUEST: OTHER_LOCK},
        {GUEST: replace(LOCKED, mode=LockMode.DISABLED), OTHER_GUEST: OTHER_LOCK},
        {GUEST: UNLOCKED},
        {},
        before,
    )

    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset(before))
        bridge.deliver(SPOOF, SENTINEL)
        now = before
        for after in steps:
            bridge.nft(*change(now, after))
            assert counted(bridge) == ({DropReason.IPV4_SOURCE: 1} if after and now else {})
            changed = bridge.elements()
            bridge.nft(ruleset(after))
            assert bridge.elements() == changed
            if after:
                bridge.nft(ruleset({GUEST: LOCKED}))
                bridge.deliver(SPOOF, SENTINEL)
                bridge.nft(*change({GUEST: LOCKED}, after))
            now = after

    on_a_bridge(body)


def test_a_lock_is_changed_while_frames_flow() -> None:
    """At no moment a good frame is lost, or a bad one passes."""
    locks = (
        LOCKED,
        replace(LOCKED, ipv4_allowed=("10.0.0.0/31", "10.0.0.200")),
        replace(LOCKED, ipv4_allowed=("10.0.0.0/31", "10.0.0.200"), trunks=(0, 5)),
        replace(LOCKED, ipv4_allowed=("10.0.0.1", "10.0.1.0/24")),
        replace(LOCKED, ipv4_allowed=("10.0.0.1",), ipv6_allowed=()),
        replace(UNLOCKED, trunks=(0,)),
    )
    bad = vlan_tag(SPOOF, 6)  # none of the locks allows it
    good = SENTINEL_TO_ALL
    circle = [{GUEST: lock} for lock in (*locks, locks[0])]
    texts = [text for old, new in pairwise(circle) for text in change(old, new)]

    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset(circle[0]))
        with bridge.changing(texts, times=25) as running:
            rounds = 0
            while running() or rounds < 10:
                rounds += 1
                arrived = bridge.arrivals([bad, good, bad, good], SENTINEL)[UPLINK]
                assert arrived == [(None, good)] * 2

    on_a_bridge(body)


def test_the_table_is_listed_as_the_tests_of_the_evaluator_take_it_to_be() -> None:
    installed = {GUEST: LOCKS["native trunk"], OTHER_GUEST: LOCKS["everything allowed"], "vif9.0": UNLOCKED}

    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset(installed))
        assert set(without_order(bridge.listing())) == set(without_order(listing(installed)))

    on_a_bridge(body)


@pytest.mark.parametrize("name", LOCKS)
def test_the_bridge_reads_mangled_packets_as_the_policy_does(name: str) -> None:
    lock, chance = LOCKS[name], random.Random(name)

    def body(bridge: ScratchBridge) -> None:
        bridge.nft(ruleset({GUEST: lock}))
        outcomes: Counter[bool] = Counter()
        for _ in range(4000):
            frame = mangled(chance)
            if len(frame) > 13 and frame[6] & 1:
                continue  # a bridge takes no group address as source
            verdict, why = allows(lock, frame), unread(frame)
            passes = bool(bridge.deliver(frame, SENTINEL))
            if not why:
                outcomes[passes] += 1
                assert passes == verdict.passes, (verdict, frame.hex())
            elif why != "cut off fragment":
                assert verdict.passes or not passes, (verdict, why, frame.hex())
        assert min(outcomes.values()) > 400  # both verdicts were put to the test

    on_a_bridge(body)


def reaches_prerouting(frame: bytes) -> bool:
    """What no bridge takes, whatever its rules: frames with a bad source address, link-local groups, half a tag."""
    cut = frame[12:14] in (b"\x81\x00", b"\x88\xa8") and len(frame) < 20
    return len(frame) >= 14 and not frame[6] & 1 and any(frame[6:12]) and frame[:5] != GROUPS[:5] and not cut


def test_the_bridge_agrees_with_the_policy_on_any_lock_and_frame() -> None:
    """In shadow mode, and for every reason, too; a frame from the uplink tells that there is no more."""

    def body(bridge: ScratchBridge) -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one CPU keeps the order between ports

        @settings(
            max_examples=100,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(locks(), st.integers(0, 2**64 - 1))
        def agree(lock: PortLock, seed: int) -> None:
            bridge.nft(ruleset({GUEST: lock, OTHER_GUEST: UNLOCKED}))
            expected: Counter[DropReason] = Counter()
            doubtful = False
            installed = BridgeModel(bridge.listing())
            for frame in filter(reaches_prerouting, Sender(lock, random.Random(seed)).frames(40)):
                verdict, why = allows(lock, frame), unread(frame)
                bridge.send(GUEST, frame)
                passes = bool(bridge.arrivals([], LAST, source=OTHER_GUEST)[UPLINK])
                assert installed.sends(GUEST, frame).passes == passes, frame.hex()
                if lock.mode is LockMode.LOCKED and why:
                    doubtful = True
                    assert verdict.passes or not passes or why == "cut off fragment", (verdict, frame.hex())
                else:
                    expected.update(filter(None, [verdict.reason]))
                    assert passes == verdict.passes, (verdict, frame.hex())
            assert doubtful or counted(bridge) == expected

        agree()

    on_a_bridge(body, learning=False)
