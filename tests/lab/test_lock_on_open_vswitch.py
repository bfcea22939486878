"""The lock's rules on a real switch: by its own trace, and by frames that are really sent and captured."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from poolnet.hostnet.state import PortLock
from poolnet.lock.craft import vlan_tag
from poolnet.lock.openflow import Table, port_cookie, port_flows, reason_at, shared_flows
from poolnet.lock.packets import CORPUS, Expect
from poolnet.lock.policy import allows
from poolnet.lock.prove import as_sent
from poolnet.lock.reasons import DropReason
from tests.lab.own_network import run_in_own_network
from tests.lab.scratch_switch import UPLINK_PORT, ScratchSwitch, scratch_switch
from tests.property.random_frames import Sender, locks
from tests.unit.lock.lock_cases import LOCKED, OFPORT, UNLOCKED, US

pytestmark = pytest.mark.lab

SENTINEL = US.ip4(US.ipv4, 253, b"the end")  # allowed by all locks here
COOKIE = port_cookie(OFPORT)


def on_a_switch(directory: Path, body: Callable[[ScratchSwitch], None], options: Sequence[str] = ()) -> None:
    async def run() -> None:
        with scratch_switch(directory, OFPORT, options) as switch:
            body(switch)

    run_in_own_network(run)


def install(switch: ScratchSwitch, lock: PortLock, *, settle: bool = True) -> None:
    switch.replace_flows((*shared_flows([UPLINK_PORT]), *port_flows(lock, OFPORT, COOKIE)), settle=settle)


def check_every_packet(switch: ScratchSwitch, lock: PortLock, tag: int | None) -> None:
    """Trace, capture and counters against the policy; `tag` is what a frame carries at the uplink."""
    install(switch, lock)
    dropped: Counter[str] = Counter()
    for case in CORPUS:
        frame = as_sent(lock, case.build(US))
        verdict = allows(lock, frame)
        assert switch.trace_admits(frame, OFPORT, Table.OUTPUT) == verdict.passes, case
        arrived = switch.deliver(frame, as_sent(lock, SENTINEL))
        bare = frame[:12] + frame[16:] if lock.trunks else frame
        assert arrived == ([(tag, bare)] if verdict.passes else []), (case, verdict)
        if case.expect is not Expect.EITHER:
            assert verdict.passes == (case.expect is Expect.PASS)
        if verdict.reason:
            dropped[verdict.reason] += 1
    tables = switch.packets_by_table(COOKIE)
    counted = {reason: count for table, count in tables.items() if (reason := reason_at(table))}
    assert counted == dropped


@pytest.mark.parametrize(("options", "tag"), [((), None), (("tag=10",), 10)], ids=["untagged", "VLAN"])
def test_a_locked_port_passes_and_stops_every_packet_of_the_corpus(
    tmp_path: Path, options: tuple[str, ...], tag: int | None
) -> None:
    on_a_switch(tmp_path, lambda switch: check_every_packet(switch, LOCKED, tag), options)


def test_a_locked_trunk_port_uses_the_tags_of_its_list(tmp_path: Path) -> None:
    lock = replace(LOCKED, trunks=(10, 21))
    plain = US.ip4(US.ipv4, 6, bytes(20))

    def body(switch: ScratchSwitch) -> None:
        check_every_packet(switch, lock, 10)
        sentinel = as_sent(lock, SENTINEL)
        assert switch.deliver(vlan_tag(plain, 21), sentinel) == [(21, plain)]
        assert switch.deliver(vlan_tag(plain, 30), sentinel) == []
        assert switch.deliver(plain, sentinel) == []

    on_a_switch(tmp_path, body)


def test_without_a_lock_the_same_packets_arrive(tmp_path: Path) -> None:
    """The positive control: what a lock stops is not stopped by anything else."""
    stopped_by_any_bridge = {"A38", "A39"}  # link-local group addresses (IEEE 802.1D) never leave a port

    def body(switch: ScratchSwitch) -> None:
        install(switch, UNLOCKED)
        arrived = {case.name for case in CORPUS if switch.deliver(case.build(US), SENTINEL)}
        assert {case.name for case in CORPUS} - arrived == stopped_by_any_bridge
        assert all(switch.trace_admits(case.build(US), OFPORT, Table.OUTPUT) for case in CORPUS)

    on_a_switch(tmp_path, body)


def test_a_lock_in_shadow_mode_counts_what_it_lets_through(tmp_path: Path) -> None:
    lock = replace(LOCKED, shadow=True)
    spoof = next(case for case in CORPUS if case.name == "A04").build(US)

    def body(switch: ScratchSwitch) -> None:
        install(switch, lock)
        assert switch.deliver(spoof, SENTINEL) == [(None, spoof)]
        counted = {reason_at(table): count for table, count in switch.packets_by_table(COOKIE).items()}
        assert counted[DropReason.ARP] == 1

    on_a_switch(tmp_path, body)


def test_a_lock_is_replaced_while_frames_flow(tmp_path: Path) -> None:
    """One bundle: no frame meets a mixture of old and new rules, and the port stays."""
    spoof = next(case for case in CORPUS if case.name == "A02").build(US)

    def body(switch: ScratchSwitch) -> None:
        for _ in range(3):
            install(switch, UNLOCKED)
            assert switch.deliver(spoof, SENTINEL) == [(None, spoof)]
            install(switch, LOCKED)
            assert switch.deliver(spoof, SENTINEL) == []
        assert switch.deliver(spoof, SENTINEL, backwards=True) == [(None, spoof)]

    on_a_switch(tmp_path, body)


def test_without_rules_nothing_passes_and_without_addresses_nothing_either(tmp_path: Path) -> None:
    empty = replace(LOCKED, ipv4_allowed=(), ipv6_allowed=())

    def body(switch: ScratchSwitch) -> None:
        for rules in (
            (),
            shared_flows([UPLINK_PORT]),
            (*shared_flows([UPLINK_PORT]), *port_flows(empty, OFPORT, COOKIE)),
        ):
            switch.replace_flows(rules)
            assert not any(switch.trace_admits(case.build(US), OFPORT, Table.OUTPUT) for case in CORPUS)

    on_a_switch(tmp_path, body)


def mangled(chance: random.Random) -> bytes:
    """A packet of the corpus with a few bytes changed, added or cut off behind the MAC addresses."""
    frame = bytearray(chance.choice(CORPUS).build(US))
    for _ in range(chance.randint(1, 3)):
        index = chance.randrange(12, min(len(frame), 110))
        match chance.randrange(4):
            case 0:
                frame[index] = chance.choice((0, 1, 2, 4, 6, 17, 43, 44, 58, 60, 67, 134, 135, 136, 255))
            case 1:
                frame[index] ^= 1 << chance.randrange(8)
            case 2:
                frame[index:index] = chance.randbytes(chance.choice((1, 4, 8)))
            case _:
                del frame[max(index, 14) : index + chance.choice((1, 2, 8))]
    return bytes(frame[: max(14, len(frame) - chance.choice((0, 0, 0, 5, 40)))])


LOCKS = {
    "locked": LOCKED,
    "everything allowed": replace(LOCKED, ipv4_allowed=("0.0.0.0/0",), ipv6_allowed=("::/0",)),
    "native trunk": replace(LOCKED, trunks=(0, 20)),
}


@pytest.mark.parametrize("name", LOCKS)
def test_the_switch_reads_mangled_packets_as_the_policy_does(tmp_path: Path, name: str) -> None:
    lock, chance = LOCKS[name], random.Random(name)

    def body(switch: ScratchSwitch) -> None:
        install(switch, lock)
        outcomes: Counter[bool] = Counter()
        for _ in range(1500):
            frame = mangled(chance)
            verdict = allows(lock, frame)
            outcomes[verdict.passes] += 1
            assert switch.trace_admits(frame, OFPORT, Table.OUTPUT) == verdict.passes, (verdict, frame.hex())
        assert min(outcomes.values()) > 100  # both verdicts were put to the test

    on_a_switch(tmp_path, body)


def test_the_switch_agrees_with_the_policy_on_any_lock_and_frame(tmp_path: Path) -> None:
    pairs: set[tuple[PortLock, bytes]] = set()
    passed: Counter[bool] = Counter()

    def body(switch: ScratchSwitch) -> None:
        @settings(
            max_examples=130,
            deadline=None,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(locks(), st.integers(0, 2**64 - 1))
        def agree(lock: PortLock, seed: int) -> None:
            install(switch, lock, settle=False)  # a trace asks the rules, not what is cached of them
            for frame in Sender(lock, random.Random(seed)).frames(25):
                if len(frame) < 14:
                    continue  # no frame at all: the switch says so, and traces nothing
                verdict = allows(lock, frame)
                admitted = switch.trace_admits(frame, OFPORT, Table.OUTPUT)
                assert admitted == verdict.passes, (lock, verdict, frame.hex())
                pairs.add((lock, frame))
                passed[admitted] += 1

        agree()

    on_a_switch(tmp_path, body)
    assert len(pairs) >= 2000
    assert min(passed.values()) > 300
