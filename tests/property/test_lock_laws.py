"""Policy and compiled rules agree on arbitrary frames: built ones, mutated ones, and noise."""

from __future__ import annotations

from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import (
    ipv4,
    udp,
)
from poolnet.lock.openflow import port_cookie, port_flows, shared_flows
from poolnet.lock.policy import allows
from poolnet.lock.switchmodel import SwitchModel
from tests.property.lock_frames import ipv6_packets, locks, mutated
from tests.unit.lock.lock_cases import OFPORT, US


@lru_cache(maxsize=2048)
def switch(lock: PortLock) -> SwitchModel:
    return SwitchModel((*shared_flows([1]), *port_flows(lock, OFPORT, port_cookie(OFPORT))))


def agree(lock: PortLock, frame: bytes) -> None:
    verdict, outcome = allows(lock, frame), switch(lock).run(frame, OFPORT)
    assert outcome.passes == verdict.passes, (verdict, [flow.text() for flow in outcome.path], frame.hex())
    if lock.mode is not LockMode.DISABLED:
        assert outcome.reason == verdict.reason, ([flow.text() for flow in outcome.path], frame.hex())


@given(locks(), mutated())
@settings(max_examples=3000, deadline=None)
def test_policy_and_rules_agree_on_mutated_packets(lock: PortLock, frame: bytes) -> None:
    agree(lock, frame)


@given(
    locks(),
    st.binary(max_size=120),
    st.sampled_from([b"\x08\0", b"\x08\x06", b"\x86\xdd", b"\x81\0", b"\0\x2e", b""]),
)
@settings(max_examples=500, deadline=None)
def test_policy_and_rules_agree_on_noise(lock: PortLock, noise: bytes, ethertype: bytes) -> None:
    agree(lock, US.victim_mac + US.mac + ethertype + noise)
    agree(lock, noise)


@given(locks(), ipv6_packets())
@settings(max_examples=2000, deadline=None)
def test_policy_and_rules_agree_on_ipv6_header_chains(lock: PortLock, frame: bytes) -> None:
    agree(lock, frame)


@given(locks(), st.sampled_from(["0.0.0.0", "10.0.0.1", "10.0.0.2"]), st.data())
@settings(max_examples=500, deadline=None)
def test_policy_and_rules_agree_on_dhcp(lock: PortLock, source: str, data: st.DataObject) -> None:
    ports = data.draw(st.tuples(st.sampled_from([67, 68, 0]), st.sampled_from([67, 68])))
    target = data.draw(st.sampled_from(["255.255.255.255", "10.0.0.2"]))
    offset, more = data.draw(st.sampled_from([0, 0, 8])), data.draw(st.booleans())
    payload = udp(*ports)[: data.draw(st.sampled_from([8, 8, 4]))]
    packet = ipv4(type(US.ipv4)(source), type(US.ipv4)(target), 17, payload, offset_bytes=offset, more=more)
    agree(lock, US.eth(0x0800, packet))
