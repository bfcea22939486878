"""Policy and nftables rules agree on arbitrary frames, as far as nftables reads them, in the evaluator of the table."""

from __future__ import annotations

from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostnet.state import PortLock
from poolnet.lock.nft_limits import unread
from poolnet.lock.nftmodel import BridgeModel
from poolnet.lock.policy import allows, receives
from tests.property.lock_frames import ipv6_packets, locks, mutated
from tests.property.nft_table import listing
from tests.unit.lock.lock_cases import US

DEVICE = "vif1.0"


@lru_cache(maxsize=256)
def bridge(lock: PortLock) -> BridgeModel:
    return BridgeModel(listing({DEVICE: lock}))


def agree(lock: PortLock, frame: bytes) -> None:
    verdict, outcome = allows(lock, frame), bridge(lock).sends(DEVICE, frame)
    why = unread(frame)
    if not why:
        assert outcome.passes == verdict.passes, (verdict, outcome.path, frame.hex())
        assert outcome.reason == verdict.reason, (verdict, outcome.path, frame.hex())
    elif why != "cut off fragment":
        assert verdict.passes or not outcome.passes, (verdict, why, outcome.path, frame.hex())


@given(locks(), mutated())
@settings(max_examples=300, deadline=None)
def test_policy_and_table_agree_on_mutated_packets(lock: PortLock, frame: bytes) -> None:
    agree(lock, frame)


@given(locks(), ipv6_packets())
@settings(max_examples=300, deadline=None)
def test_policy_and_table_agree_on_ipv6_header_chains(lock: PortLock, frame: bytes) -> None:
    agree(lock, frame)


@given(
    locks(),
    st.binary(max_size=120),
    st.sampled_from([b"\x08\0", b"\x08\x06", b"\x86\xdd", b"\x81\0", b"\0\x2e", b""]),
)
@settings(max_examples=150, deadline=None)
def test_policy_and_table_agree_on_noise(lock: PortLock, noise: bytes, ethertype: bytes) -> None:
    agree(lock, US.victim_mac + US.mac + ethertype + noise)
    agree(lock, noise)


@given(locks(), mutated())
@settings(max_examples=50, deadline=None)
def test_a_port_receives_what_its_lock_lets_it_receive(lock: PortLock, frame: bytes) -> None:
    table = bridge(lock)
    assert table.receives(DEVICE, frame).passes == receives(lock, frame)
    assert not table.receives("vif9.0", frame).passes
    assert not table.sends("tap9", frame).passes
    assert table.receives("eth0", frame).passes
    assert table.sends("eth0", frame).passes
