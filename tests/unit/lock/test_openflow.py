"""The compiler's rules, run through the switch model, do what the policy says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.flows import Final, Flow
from poolnet.lock.openflow import (
    SHARED_COOKIE,
    Table,
    ofport_of,
    port_cookie,
    port_flows,
    reason_at,
    shared_flows,
)
from poolnet.lock.packets import CORPUS, Expect
from poolnet.lock.policy import allows
from poolnet.lock.prove import prove
from poolnet.lock.reasons import DropReason
from poolnet.lock.switchmodel import AmbiguousRulesError, SwitchModel
from tests.unit.lock.lock_cases import LOCKED, MAC, OFPORT, UNLOCKED, US

SHARED = shared_flows([1, "LOCAL"])


def compiled(lock: PortLock, ofport: int = OFPORT) -> tuple[Flow, ...]:
    return port_flows(lock, ofport, port_cookie(ofport))


LOCKS = {
    "locked": LOCKED,
    "IPv4 only": replace(LOCKED, ipv6_allowed=()),
    "IPv6 only": replace(LOCKED, ipv4_allowed=()),
    "no addresses": replace(LOCKED, ipv4_allowed=(), ipv6_allowed=()),
    "prefixes": replace(
        LOCKED, ipv4_allowed=("10.0.0.0/30", "10.0.0.1"), ipv6_allowed=("fd00::/64", "fe80::/10")
    ),
    "everything": replace(LOCKED, ipv4_allowed=("0.0.0.0/0",), ipv6_allowed=("::/0",)),
    "shadow": replace(LOCKED, shadow=True),
    "trunk": replace(LOCKED, trunks=(10, 20)),
    "native trunk": replace(LOCKED, trunks=(0, 20)),
    "unlocked": UNLOCKED,
    "unlocked trunk": replace(UNLOCKED, trunks=(20,)),
    "disabled": replace(LOCKED, mode=LockMode.DISABLED),
}


@pytest.mark.parametrize("name", LOCKS)
def test_the_rules_are_proved_for_every_class_of_packets(name: str) -> None:
    verdicts = prove(LOCKS[name], (*SHARED, *compiled(LOCKS[name])))
    assert len(verdicts) == 87
    assert [verdict.name for verdict in verdicts if not verdict.proved] == []


@pytest.mark.parametrize("name", LOCKS)
def test_the_rules_count_each_frame_under_the_reason_of_the_policy(name: str) -> None:
    lock = LOCKS[name]
    switch = SwitchModel((*SHARED, *compiled(lock)))
    for case in CORPUS:
        outcome, verdict = switch.run(case.build(US), OFPORT), allows(lock, case.build(US))
        assert outcome.passes == verdict.passes, case
        if lock.mode is not LockMode.DISABLED:
            assert outcome.reason == verdict.reason, case
            if verdict.reason:
                row = next(flow for flow in outcome.path if flow.reason is verdict.reason)
                assert ofport_of(row.cookie) == OFPORT
                assert reason_at(row.table) is verdict.reason


def test_a_locked_port_gets_the_verdicts_of_the_corpus() -> None:
    for verdict in prove(LOCKED, (*SHARED, *compiled(LOCKED))):
        if verdict.expect is not Expect.EITHER:
            assert verdict.passes == (verdict.expect is Expect.PASS), verdict


def test_the_proof_finds_a_missing_rule_and_shows_a_packet() -> None:
    weak = [flow for flow in SHARED if not (flow.table == Table.IPV4 and flow.priority in (200, 210))]
    failed = {
        verdict.name: verdict for verdict in prove(LOCKED, (*weak, *compiled(LOCKED))) if not verdict.proved
    }
    assert set(failed) == {"A11", "A47a", "A48a", "A51", "A53"}
    frame = failed["A11"].counterexample
    assert frame is not None
    assert allows(LOCKED, frame).reason is DropReason.DHCP_SERVER


def test_the_proof_needs_to_know_the_port() -> None:
    rules = (*SHARED, *compiled(LOCKED), *compiled(UNLOCKED, 33002))
    with pytest.raises(ValueError, match="2 ports"):
        prove(LOCKED, rules)
    assert all(verdict.proved for verdict in prove(LOCKED, rules, ofport=OFPORT))
    assert all(verdict.proved for verdict in prove(UNLOCKED, rules, ofport=33002))


def test_uplinks_are_not_filtered_and_unknown_ports_are_dead() -> None:
    switch = SwitchModel(SHARED)
    for case in CORPUS:
        assert switch.run(case.build(US), 1).passes
        assert switch.run(case.build(US), 0xFFFFFFFE).passes
        assert not switch.run(case.build(US), OFPORT).passes


def test_without_shared_rules_nothing_passes() -> None:
    switch = SwitchModel(compiled(LOCKED))
    assert not any(switch.run(case.build(US), OFPORT).passes for case in CORPUS)


def test_rules_that_overlap_are_refused() -> None:
    first = compiled(UNLOCKED)[0]
    with pytest.raises(AmbiguousRulesError):
        SwitchModel((first, replace(first, action=Final.DROP)))


def test_ports_have_their_own_cookies() -> None:
    assert port_cookie(OFPORT) == 0x7E01_0000_0000_80E9
    assert ofport_of(port_cookie(OFPORT)) == OFPORT
    assert ofport_of(SHARED_COOKIE) is None
    assert {flow.cookie for flow in compiled(LOCKED)} == {port_cookie(OFPORT)}
    assert {flow.cookie for flow in SHARED} == {SHARED_COOKIE}
    identities = [(flow.table, flow.priority, flow.match) for flow in (*SHARED, *compiled(LOCKED))]
    assert len(set(identities)) == len(identities)


def test_rules_read_as_the_switch_expects_them() -> None:
    texts = [flow.text() for flow in compiled(replace(LOCKED, ipv4_allowed=("10.0.0.0/30",), trunks=(0, 20)))]
    cookie = "cookie=0x7e010000000080e9"
    assert (
        f"{cookie},table=0,priority=100,in_port=33001,vlan_tci=0x0000/0x1fff,actions=resubmit(,10)" in texts
    )
    assert (
        f"{cookie},table=0,priority=100,in_port=33001,vlan_tci=0x1014/0x1fff,actions=resubmit(,10)" in texts
    )
    assert (
        f"{cookie},table=11,priority=100,in_port=33001,dl_type=0x0806,arp_op=1,arp_sha={MAC},"
        "arp_spa=10.0.0.0/30,actions=resubmit(,30)"
    ) in texts
    assert f"{cookie},table=50,priority=100,in_port=33001,actions=drop" in texts
    assert "cookie=0x1,table=0,priority=50,in_port=LOCAL,actions=resubmit(,40)" in [f.text() for f in SHARED]


def test_a_shadow_lock_differs_from_a_lock_in_its_counting_rows_only() -> None:
    strict, shadow = compiled(LOCKED), compiled(replace(LOCKED, shadow=True))
    for one, other in zip(strict, shadow, strict=True):
        assert one == other or (one.reason is other.reason is not None and other.action == Table.OUTPUT)


def test_an_unlocked_port_needs_one_rule_and_a_disabled_one_none() -> None:
    assert [flow.text() for flow in compiled(UNLOCKED)] == [
        "cookie=0x7e010000000080e9,table=0,priority=100,in_port=33001,actions=resubmit(,40)"
    ]
    assert compiled(replace(LOCKED, mode=LockMode.DISABLED)) == ()
