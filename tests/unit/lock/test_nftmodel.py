"""The proof of a Linux bridge's rules: nothing is doubted that is right, and what is missing is found with a packet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from poolnet.hostnet.state import PortLock
from poolnet.lock.craft import ethernet, fragment_header, ipv6
from poolnet.lock.nft_values import UnknownRuleError
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.policy import allows
from poolnet.lock.prove import ClassVerdict, prove_bridge
from tests.property.nft_table import listing
from tests.unit.lock.lock_cases import LOCKED, UNLOCKED, US
from tests.unit.lock.test_openflow import LOCKS

PORT = "vif1.0"
Harm = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


def proof(lock: PortLock, harm: Harm = list) -> tuple[ClassVerdict, ...]:
    table = listing({PORT: lock, "vif2.0": UNLOCKED})
    return prove_bridge(lock, BridgeModel({"nftables": harm(table["nftables"])}), PORT)


def without_rules(chain: str, pattern: str) -> Harm:
    def harm(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        kept = [
            item
            for item in items
            if item.get("rule", {}).get("chain") != chain or not re.search(pattern, str(item["rule"]["expr"]))
        ]
        assert len(kept) < len(items)
        return kept

    return harm


def with_elements(name: str, *elements: object) -> Harm:
    def harm(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for item in items:
            group = item.get("set", {})
            if group.get("name") == name:
                group["elem"] = list(elements)
        return items

    return harm


@pytest.mark.parametrize("name", LOCKS)
def test_the_rules_are_proved_for_every_class_of_packets(name: str) -> None:
    verdicts = proof(LOCKS[name])
    assert len(verdicts) == 87
    assert [verdict.name for verdict in verdicts if not verdict.proved] == []


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (without_rules("ipv4_udp_5", "stop_dhcp_server"), {"A11", "A47a", "A48a", "A51", "A53"}),
        (without_rules("locked", "stop_vlan"), {"A32", "A33", "A34"}),
        (without_rules("ethernet", "stop_mac"), {"A01", "A40"}),
        (without_rules("advertisement", "'@macs'"), {"A20", "A28"}),
        (without_rules("advertisement", "513"), {"A27"}),
        (without_rules("solicitation", "'@macs'"), {"A21"}),
        (
            without_rules("duplicate", "stop"),
            set(),
        ),  # the end of a goto is the end: the policy of the chain accepts
        (without_rules("arp_packet", "arp_sender"), {"L02", "L03", "L04", "L05", "L06"}),
        (
            with_elements("own4", {"concat": [PORT, 0x0A000000]}, {"concat": [PORT, 0x0A000001]}),
            {"A02", "A04", "A05"},
        ),
        (with_elements("own6"), {"L12", "L24"}),
        (with_elements("plain4", {"concat": [PORT, 0xAA00000000010800, 0x0A000000]}), {"A02"}),
        (with_elements("shadow", PORT), {"A01", "A02", "A14"}),
    ],
)
def test_what_somebody_altered_is_found_with_a_packet(harm: Harm, found: set[str]) -> None:
    failed = {verdict.name: verdict for verdict in proof(LOCKED, harm) if not verdict.proved}
    assert found <= set(failed)
    assert failed or not found
    for verdict in failed.values():
        frame = verdict.counterexample
        assert frame is not None
        assert allows(LOCKED, frame).passes != verdict.passes


def test_a_port_that_is_in_no_map_is_found() -> None:
    lock = replace(LOCKED, shadow=True)
    table = listing({"vif2.0": UNLOCKED})
    failed = [verdict for verdict in prove_bridge(lock, BridgeModel(table), PORT) if not verdict.proved]
    assert len(failed) == 87  # in shadow mode everything should pass


def test_the_kernel_takes_an_authentication_header_for_the_upper_layer() -> None:
    """So it has a protocol to tell where a fragment behind one has none."""
    authentication = bytes((44, 2)) + bytes(14)
    inside = authentication + fragment_header(60, offset_bytes=64) + bytes(16)
    packet = ipv6(US.ipv6, US.victim_ipv6, 51, inside)
    frame = ethernet(US.victim_mac, US.mac, 0x86DD, packet)
    assert allows(LOCKED, frame).passes
    assert BridgeModel(listing({PORT: LOCKED})).sends(PORT, frame).passes


@pytest.mark.parametrize(
    "expression",
    [
        {"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": "new"}},
        {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 1}},
        {"match": {"op": "==", "left": {"payload": {"base": "th", "offset": 0, "len": 8}}, "right": 1}},
        {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "@nothing"}},
        {"limit": {"rate": 1, "per": "second"}},
    ],
)
def test_a_table_with_something_unknown_is_refused_and_not_guessed(expression: dict[str, Any]) -> None:
    table = listing({PORT: LOCKED})
    table["nftables"].append({"rule": {"chain": "locked", "expr": [expression]}})
    with pytest.raises(UnknownRuleError):
        BridgeModel(table)
