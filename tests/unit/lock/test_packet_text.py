"""Packets as people write them, and frames in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.state import LockMode
from poolnet.lock.packet_text import PacketTextError, frame_of
from poolnet.lock.packets import CORPUS
from poolnet.lock.policy import allows
from poolnet.lock.reasons import DropReason
from poolnet.lock.words import describe, offence, why
from tests.unit.lock.lock_cases import LOCKED, MAC, UNLOCKED, US


@pytest.mark.parametrize(
    ("text", "reason", "did"),
    [
        ("arp", None, ""),
        ("arp spa=0.0.0.0 tpa=10.0.0.1", None, ""),
        ("arp spa=10.0.0.2", DropReason.ARP, "sent ARP for 10.0.0.2"),
        ("arp op=reply arp_spa=10.0.0.9", DropReason.ARP, "sent ARP for 10.0.0.9"),
        ("arp spa=0.0.0.0 tpa=10.0.0.7", DropReason.ARP, "sent ARP for 10.0.0.7"),
        ("rarp", DropReason.ETHERTYPE, "sent EtherType 0x8035"),
        ("tcp", None, ""),
        ("icmp dst=192.0.2.1", None, ""),
        ("udp src=10.0.0.9 dport=67", DropReason.IPV4_SOURCE, "sent IPv4 from 10.0.0.9"),
        ("ipv4 nw_src=10.0.0.9 proto=sctp", DropReason.IPV4_SOURCE, "sent IPv4 from 10.0.0.9"),
        ("dhcp", None, ""),
        ("dhcp-server", DropReason.DHCP_SERVER, "sent an answer of a DHCP server, from 10.0.0.1"),
        ("udp frag=first sport=67", DropReason.DHCP_SERVER, "sent an answer of a DHCP server, from 10.0.0.1"),
        ("udp frag=later sport=67", None, ""),
        ("dhcpv6", None, ""),
        ("udp6 src=fd00::9", DropReason.IPV6_SOURCE, "sent IPv6 from fd00::9"),
        ("tcp src=fd00::1 dst=fd00::2", None, ""),
        ("ns", None, ""),
        ("ns src=:: target=fd00::1", None, ""),
        ("na", None, ""),
        ("na target=fd00::2", DropReason.NEIGHBOR_DISCOVERY, "sent a neighbour advertisement for fd00::2"),
        ("na tll=02:00:00:00:00:09", DropReason.NEIGHBOR_DISCOVERY, "sent a neighbour advertisement for fd00::1"),
        ("rs src=::", None, ""),
        ("ra", DropReason.ROUTER_ADVERTISEMENT, "sent a router advertisement, from fd00::1"),
        ("redirect", DropReason.REDIRECT, "sent a redirect, from fd00::1"),
        ("icmp6 type=130", DropReason.ROUTER, "sent a message that only routers send, from fd00::1"),
        ("ns frag=first", DropReason.FRAGMENT, "sent an IPv6 fragment that hides what it carries, from fd00::1"),
        ("tcp smac=02:00:00:00:00:09", DropReason.MAC, "sent frames from MAC 02:00:00:00:00:09"),
        ("tcp vlan=20", DropReason.VLAN, "sent VLAN tag 20"),
        ("ethernet type=0x88cc", DropReason.ETHERTYPE, "sent EtherType 0x88cc"),
        (f"ffffffffffff{MAC}88cc0000", DropReason.ETHERTYPE, "sent EtherType 0x88cc"),
    ],
)  # fmt: skip
def test_words_mean_the_frame_that_people_expect(text: str, reason: DropReason | None, did: str) -> None:
    frame = frame_of(text, LOCKED)
    verdict = allows(LOCKED, frame)
    assert (verdict.reason, verdict.passes) == (reason, reason is None)
    if reason is not None:
        assert offence(reason, frame) == did
    assert why(LOCKED, frame, verdict)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no packet"),
        ("   ", "no packet"),
        ("token-ring", "no kind of packet"),
        ("arp spa", "no FIELD=VALUE"),
        ("arp spa=10.0.0.2 spa=10.0.0.3", "given twice"),
        ("arp src=10.0.0.2", "'src' is no field of arp"),
        ("arp spa=fd00::1", "no value of spa"),
        ("arp spa=10.0.0.300", "no value of spa"),
        ("arp op=whisper", "no value of op"),
        ("arp sha=02:00:00:00:00", "no value of sha"),
        ("udp dport=65536", "no value of dport"),
        ("udp dport=-1", "no value of dport"),
        ("udp frag=second", "no value of frag"),
        ("ping6 frag=second", "no value of frag"),
        ("tcp vlan=4096", "no value of vlan"),
        ("aabbcc", "at least 14 bytes"),
        ("aa" * 10000, "more than 9216 bytes"),
        ("arp spa=\ud800", "no value of spa"),
    ],
)
def test_what_is_no_packet_is_refused_with_a_reason(text: str, said: str) -> None:
    with pytest.raises(PacketTextError, match=said):
        frame_of(text, LOCKED)


def test_on_a_trunk_a_packet_has_a_tag_that_may_be_sent() -> None:
    trunk = replace(LOCKED, trunks=(10, 20))
    assert allows(trunk, frame_of("tcp", trunk)).passes
    assert allows(trunk, frame_of("tcp vlan=30", trunk)).reason is DropReason.VLAN


def test_a_vif_without_addresses_has_packets_too() -> None:
    bare = replace(LOCKED, ipv4_allowed=(), ipv6_allowed=())
    for text in ("arp", "tcp", "na", "dhcp"):
        verdict = allows(bare, frame_of(text, bare))
        assert not verdict.passes
        assert "no IPv" in why(bare, frame_of(text, bare), verdict)


def test_every_packet_of_the_corpus_has_words_under_every_lock() -> None:
    locks = (LOCKED, UNLOCKED, replace(LOCKED, mode=LockMode.DISABLED), replace(LOCKED, shadow=True))
    for case in CORPUS:
        frame = case.build(US)
        assert "from MAC" in describe(frame)
        for lock in locks:
            verdict = allows(lock, frame)
            assert why(lock, frame, verdict)
            if verdict.reason is not None:
                assert offence(verdict.reason, frame).startswith("sent ")
                assert offence(verdict.reason, None).startswith("sent ")
    for cut in range(80):
        assert describe(CORPUS[0].build(US)[:cut])
