"""Whom a step interrupts: management, guests by name, or nobody."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.diff import diff
from poolnet.hostnet.impact import NAMED_MAX, impact
from poolnet.hostnet.show import show_plan
from poolnet.hostnet.state import (
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    LockMode,
    PortLock,
    Uplink,
)
from poolnet.hostnet.steps import Disturbance

STATIC = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="192.0.2.1/24")
XENBR0 = Bridge(name="xenbr0", uplink=Uplink(device="eth0", members=("eth0",)), ip=STATIC)
XENBR1 = Bridge(name="xenbr1", uplink=Uplink(device="eth1", members=("eth1",)))
VLAN = Bridge(name="xapi1", parent="xenbr1", vlan_tag=5)


def port(number: int, bridge: str) -> GuestPort:
    return GuestPort(
        device=f"vif{number}.0",
        bridge=bridge,
        lock=PortLock(mode=LockMode.UNLOCKED, mac="02:00:00:00:00:01"),
        vm_uuid=f"vm{number}",
    )


def host(*bridges: Bridge, ports: tuple[GuestPort, ...] = ()) -> HostNetwork:
    return HostNetwork(bridges=bridges, ports=ports, management_bridge="xenbr0")


def said(before: HostNetwork, after: HostNetwork) -> list[str]:
    plan = diff(before, after)
    return [text for step in plan.steps if (text := impact(step, plan, after))]


def test_a_new_vlan_and_a_new_guest_interrupt_nobody() -> None:
    before = host(XENBR0, XENBR1, ports=(port(1, "xenbr1"),))
    assert said(before, host(VLAN, XENBR0, XENBR1, ports=(port(1, "xenbr1"), port(2, "xapi1")))) == []


def test_another_uplink_interrupts_the_guests_of_the_bridge_and_of_its_vlans() -> None:
    ports = (port(1, "xenbr1"), port(2, "xapi1"), port(3, "xenbr0"))
    moved = replace(XENBR1, uplink=Uplink(device="eth2", members=("eth2",)))
    assert said(host(VLAN, XENBR0, XENBR1, ports=ports), host(VLAN, XENBR0, moved, ports=ports)) == [
        "interrupts xenbr1, vif1.0 of VM vm1, vif2.0 of VM vm2 for about 150 ms"
    ]


def test_an_address_interrupts_management_and_no_guest() -> None:
    other = replace(XENBR0, ip=replace(STATIC, ipv4_address="192.0.2.9/24"))
    ports = (port(3, "xenbr0"),)
    assert said(host(XENBR0, ports=ports), host(other, ports=ports)) == [
        "interrupts management on xenbr0 for about 10 ms"
    ]


def test_many_guests_are_counted() -> None:
    ports = tuple(port(number, "xenbr1") for number in range(1, NAMED_MAX + 4))
    (text,) = said(
        host(XENBR0, XENBR1, ports=ports), host(XENBR0, replace(XENBR1, mtu_bytes=9000), ports=ports)
    )
    assert text.endswith("vif5.0 of VM vm5 and 3 more for about 50 ms")


def test_an_address_in_the_management_subnet_may_cut_the_host_off_wherever_it_is() -> None:
    before = host(XENBR0, XENBR1)
    for address, expected in (
        ("192.0.2.77/25", Disturbance.MANAGEMENT),
        ("192.0.0.1/16", Disturbance.MANAGEMENT),
        ("198.51.100.1/24", Disturbance.BRIDGE),
    ):
        ip = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=address)
        assert diff(before, host(XENBR0, replace(XENBR1, ip=ip))).disturbance is expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "xenbr0", "new connections to the host come by xenbr0"),
        ("xenbr0", "xenbr1", "new connections to the host come by xenbr1, no more by xenbr0"),
        ("xenbr0", "", "ends the connections to the host by xenbr0"),
    ],
)
def test_where_the_host_is_reached(old: str, new: str, expected: str) -> None:
    state = host(XENBR0, XENBR1)
    assert said(replace(state, management_bridge=old), replace(state, management_bridge=new)) == [expected]


def test_an_address_whose_subnet_overlaps_another_is_warned_of() -> None:
    ip = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="192.0.2.129/25")
    before, after = host(XENBR0, XENBR1), host(XENBR0, replace(XENBR1, ip=ip))
    shown = show_plan(diff(before, after), after)
    assert (
        "  warning: 192.0.2.128/25 overlaps 192.0.2.0/24 of xenbr0: traffic for it may leave by either"
        in shown
    )
    apart = host(XENBR0, replace(XENBR1, ip=replace(ip, ipv4_address="198.51.100.1/24")))
    assert "warning" not in show_plan(diff(before, apart), apart)
    made = host(XENBR0, replace(VLAN, ip=ip), XENBR1)
    assert "overlaps" in show_plan(diff(before, made), made)
