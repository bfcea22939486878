"""The policy, and both compilers' rules, against frames that scapy made and verdicts that were written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.openflow import port_cookie, port_flows, shared_flows
from poolnet.lock.policy import allows, receives
from poolnet.lock.switchmodel import SwitchModel
from tests.lab.attacks import Party, everything
from tests.property.nft_table import listing
from tests.unit.lock.lock_cases import LOCKED, MAC, OFPORT, UNLOCKED

ME = Party(MAC, "10.0.0.1", "fd00::1")
VICTIM = Party("aa:00:00:00:00:02", "10.0.0.2", "fd00::2")
FRAMES = everything(ME, VICTIM)
DEVICE = "vif1.0"


def test_the_policy_says_what_is_written() -> None:
    wrong = {sent.name for sent in FRAMES if allows(LOCKED, sent.frame).passes != sent.passes}
    assert wrong == set()
    assert sum(sent.passes for sent in FRAMES) > 80
    assert sum(not sent.passes for sent in FRAMES) > 300


def test_the_rules_of_both_backends_do_what_is_written() -> None:
    switch = SwitchModel((*shared_flows([1]), *port_flows(LOCKED, OFPORT, port_cookie(OFPORT))))
    bridge = BridgeModel(listing({DEVICE: LOCKED}))
    for sent in FRAMES:
        assert switch.run(sent.frame, OFPORT).passes == sent.passes, sent.name
        assert bridge.sends(DEVICE, sent.frame).passes == sent.passes, sent.name


TRUNK = (0, 10)


@pytest.mark.parametrize(
    ("lock", "untagged", "tag_10", "tag_20"),
    [
        (UNLOCKED, True, True, True),
        (LOCKED, True, False, False),
        (replace(LOCKED, shadow=True), True, True, True),
        (replace(LOCKED, mode=LockMode.DISABLED), False, False, False),
        (replace(LOCKED, trunks=TRUNK), True, True, False),
        (replace(UNLOCKED, trunks=TRUNK), True, True, False),
        (replace(UNLOCKED, trunks=(10,)), False, True, False),
    ],
)
def test_what_a_port_receives(lock: PortLock, untagged: bool, tag_10: bool, tag_20: bool) -> None:
    named = {sent.name: sent.frame for sent in FRAMES}
    frames = (named["TCP"], named["802.1Q tag 10"], named["802.1Q tag 20"])
    bridge = BridgeModel(listing({DEVICE: lock}))
    assert [receives(lock, frame) for frame in frames] == [untagged, tag_10, tag_20]
    assert [bridge.receives(DEVICE, frame).passes for frame in frames] == [untagged, tag_10, tag_20]
