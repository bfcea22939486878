"""The frames that a proof tries tell every wider and every narrower prefix from the right one."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostnet.state import PortLock
from poolnet.lock.openflow import port_cookie, port_flows, shared_flows
from poolnet.lock.packets import CORPUS
from poolnet.lock.prove import ClassVerdict, probes, prove
from tests.unit.lock.lock_cases import LOCKED, OFPORT

SHARED = shared_flows([1])


def installed_for(wanted: PortLock, installed: PortLock) -> list[ClassVerdict]:
    """The classes that a proof of `wanted` finds wrong when the rules are those of `installed`."""
    flows = (*SHARED, *port_flows(installed, OFPORT, port_cookie(OFPORT)))
    return [verdict for verdict in prove(wanted, flows, ofport=OFPORT) if not verdict.proved]


@given(address=st.integers(0, 2**32 - 1), length=st.integers(1, 32), wider=st.integers(1, 32))
@settings(deadline=None, max_examples=40)
def test_an_ipv4_prefix_that_is_wider_is_found(address: int, length: int, wider: int) -> None:
    right = IPv4Network((address, length), strict=False)
    wrong = right.supernet(min(wider, length))
    lock = replace(LOCKED, ipv4_allowed=(str(right),))
    assert installed_for(lock, lock) == []
    assert installed_for(lock, replace(lock, ipv4_allowed=(str(wrong),)))
    assert installed_for(replace(lock, ipv4_allowed=(str(wrong),)), lock)  # and one that is narrower


@given(address=st.integers(0, 2**128 - 1), length=st.integers(1, 128), wider=st.integers(1, 128))
@settings(deadline=None, max_examples=40)
def test_an_ipv6_prefix_that_is_wider_is_found(address: int, length: int, wider: int) -> None:
    right = IPv6Network((address, length), strict=False)
    wrong = right.supernet(min(wider, length))
    lock = replace(LOCKED, ipv6_allowed=(str(right),))
    assert installed_for(lock, lock) == []
    assert installed_for(lock, replace(lock, ipv6_allowed=(str(wrong),)))


@pytest.mark.parametrize("index", range(1, 8))
def test_each_of_several_addresses_counts(index: int) -> None:
    addresses = tuple(f"10.0.{number}.1" for number in range(8))
    lock = replace(LOCKED, ipv4_allowed=addresses)
    without = replace(lock, ipv4_allowed=addresses[:index] + addresses[index + 1 :])
    assert installed_for(lock, lock) == []
    assert {verdict.name for verdict in installed_for(lock, without)} >= {"L01", "L02", "L03"}


def test_no_frame_is_tried_twice_and_more_addresses_cost_little() -> None:
    many = replace(LOCKED, ipv4_allowed=tuple(f"10.{number}.0.1" for number in range(20)))
    tried = probes(many)
    assert len({(probe.case.name, probe.frame) for probe in tried}) == len(tried)
    assert len(tried) < len(CORPUS) + 20 * 20
