from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from poolnet.hostnet.facts import BondFacts, HostFacts, LacpFacts, LacpMemberFacts
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.message import Message
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.enums import BondMode, Cls
from poolnet.model.types import Ref
from poolnet.rules.facts import record_facts
from tests.unit.rules.world import LOCAL, NOW, World, facts_with

LATER = NOW + timedelta(seconds=5)
HOST_UUID = "11111111-1111-1111-1111-111111111111"
BOTH = BondFacts(
    device="bond0",
    members=("eth1", "eth2"),
    members_up=("eth1", "eth2"),
    enabled=("eth1", "eth2"),
    active=("eth1", "eth2"),
)


def record(w: World, facts: HostFacts) -> None:
    record_facts(w.txn, LOCAL, facts, LATER, w.ctx.new_uuid)


def with_bond(facts: BondFacts) -> HostFacts:
    return replace(facts_with(), bonds=(facts,))


def bond(w: World, *devices: str, mode: BondMode = BondMode.BALANCE_SLB) -> Ref[Bond]:
    members = tuple(w.nic_pif(device).ref for device in devices)
    ref: Ref[Bond] = w.call("Bond.create", network=w.network(), members=members, MAC="", mode=mode)
    return ref


def metrics_of(w: World, ref: Ref[Bond]) -> PIFMetrics:
    return w.txn.get(PIFMetrics, w.txn.get(PIF, w.txn.get(Bond, ref).master).metrics)


def bodies(w: World) -> list[str]:
    return [alert.body for alert in w.txn.all(Message)]


def test_a_pulled_cable_shows_in_the_metrics() -> None:
    w = World.new()
    facts = facts_with()
    pulled = replace(facts.nics[1], carrier=False)
    record(w, replace(facts, nics=(facts.nics[0], pulled, facts.nics[2])))
    metrics = w.txn.get(PIFMetrics, w.nic_pif("eth1").metrics)
    assert (metrics.carrier, metrics.speed, metrics.duplex) == (False, 0, False)
    assert metrics.last_updated == LATER
    assert w.txn.get(PIFMetrics, w.nic_pif("eth0").metrics).last_updated == NOW


def test_a_bond_sums_the_members_that_carry_traffic() -> None:
    w = World.new()
    ref = bond(w, "eth1", "eth2")
    seen = replace(BOTH, active=("eth2",))
    record(w, with_bond(seen))
    metrics = metrics_of(w, ref)
    assert (w.txn.get(Bond, ref).links_up, metrics.speed) == (2, 2000)
    assert (metrics.carrier, metrics.duplex) == (True, True)
    w.call("Bond.set_mode", self=ref, value=BondMode.ACTIVE_BACKUP)
    record(w, with_bond(replace(seen, members_up=("eth2",))))
    assert (w.txn.get(Bond, ref).links_up, metrics_of(w, ref).speed) == (1, 1000)


def test_a_bond_that_begins_whole_is_no_news() -> None:
    w = World.new()
    ref = bond(w, "eth1", "eth2")
    record(w, facts_with())  # gathered before there was the bond
    assert (w.txn.get(Bond, ref).links_up, metrics_of(w, ref).carrier) == (0, False)
    record(w, with_bond(BOTH))
    assert w.txn.get(Bond, ref).links_up == 2
    assert bodies(w) == []


def test_a_bond_that_begins_with_a_link_down_is_told_of_once() -> None:
    w = World.new()
    ref = bond(w, "eth2", "eth1")
    for _ in range(2):
        record(w, with_bond(replace(BOTH, members_up=())))
    assert bodies(w) == ["The status of the eth1+eth2 bond is: 0/2 up"]
    (alert,) = w.txn.all(Message)
    assert (alert.name, alert.priority, alert.cls, alert.obj_uuid, alert.timestamp) == (
        "BOND_STATUS_CHANGED",
        3,
        Cls.HOST,
        HOST_UUID,
        LATER,
    )
    assert w.txn.get(Bond, ref).links_up == 0


def test_every_change_of_the_links_is_told_of() -> None:
    w = World.new()
    bond(w, "eth1", "eth2")
    for up in (("eth1", "eth2"), ("eth2",), ("eth1",), (), ("eth1", "eth2")):
        record(w, with_bond(replace(BOTH, members_up=up)))
    assert bodies(w) == [
        "The status of the eth1+eth2 bond changed: 1/2 up (was 2/2)",
        "The status of the eth1+eth2 bond changed: 0/2 up (was 1/2)",
        "The status of the eth1+eth2 bond changed: 2/2 up (was 0/2)",
    ]


def test_a_nic_that_was_taken_out_is_a_member_without_a_link() -> None:
    w = World.new()
    ref = bond(w, "eth1", "eth2")
    record(w, with_bond(BOTH))
    facts = with_bond(replace(BOTH, members_up=("eth1",)))
    record(w, replace(facts, nics=facts.nics[:2]))
    assert (w.txn.get(Bond, ref).links_up, metrics_of(w, ref).speed) == (1, 1000)
    assert bodies(w) == ["The status of the eth1+eth2 bond changed: 1/2 up (was 2/2)"]


def test_a_bond_of_one_has_no_count_and_no_alert() -> None:
    w = World.new()
    ref = bond(w, "eth1")
    facts = facts_with()
    record(w, facts)
    assert (w.txn.get(Bond, ref).links_up, metrics_of(w, ref).carrier) == (0, True)
    record(w, replace(facts, nics=(facts.nics[0], replace(facts.nics[1], carrier=False))))
    assert metrics_of(w, ref).carrier is False
    assert bodies(w) == []


def test_the_links_of_an_unplugged_bond_are_those_of_its_nics() -> None:
    w = World.new()
    ref = bond(w, "eth1", "eth2")
    record(w, with_bond(BOTH))
    w.call("PIF.unplug", self=w.txn.get(Bond, ref).master)
    facts = facts_with()
    record(w, replace(facts, nics=(*facts.nics[:2], replace(facts.nics[2], carrier=False))))
    assert (w.txn.get(Bond, ref).links_up, bodies(w)) == (1, [])


@pytest.mark.parametrize("mode", list(BondMode))
def test_what_lacp_says_is_kept_with_the_metrics(mode: BondMode) -> None:
    w = World.new()
    ref = bond(w, "eth1", "eth2", mode=mode)
    theirs = w.nic_pif("eth1").metrics
    w.txn.update(PIFMetrics, theirs, other_config={"mine": "1"})
    members = (
        LacpMemberFacts(
            name="eth1", current=True, attached=True, partner_system="aa", partner_key=3, partner_port=4
        ),
        LacpMemberFacts(name="eth2"),
    )
    lacp = LacpFacts(negotiated=True, fast=True, members=members)
    record(w, with_bond(replace(BOTH, enabled=("eth1",), lacp=lacp)))
    assert metrics_of(w, ref).other_config == {
        "lacp-negotiated": "true",
        "lacp-partner": "aa",
        "lacp-time": "fast",
    }
    assert w.txn.get(PIFMetrics, theirs).other_config == {
        "mine": "1",
        "lacp-current": "true",
        "lacp-attached": "true",
        "lacp-enabled": "true",
        "lacp-partner": "aa",
        "lacp-partner-key": "3",
        "lacp-partner-port": "4",
    }
    assert w.txn.get(PIFMetrics, w.nic_pif("eth2").metrics).other_config["lacp-current"] == "false"
    record(w, with_bond(BOTH))
    assert metrics_of(w, ref).other_config == {}
    assert w.txn.get(PIFMetrics, theirs).other_config == {"mine": "1"}
    w.call("Bond.destroy", self=ref)
    record(w, facts_with())
    assert w.txn.get(PIFMetrics, w.nic_pif("eth2").metrics).other_config == {}
