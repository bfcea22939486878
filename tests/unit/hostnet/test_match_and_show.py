"""Comparing and showing states: sentences, meanings, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.diff import diff
from poolnet.hostnet.laws import ImpossibleStateError, contradictions
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import (
    CreateGuest,
    DestroyGuest,
    GuestAction,
    GuestNic,
    GuestSpec,
    PlugNic,
    RunGuest,
)
from poolnet.hostnet.show import network_hash, show_guest_action, show_network, show_plan
from poolnet.hostnet.state import (
    EVERYWHERE,
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    LockMode,
    PortLock,
    Uplink,
)

ETH0 = Uplink(device="eth0", members=("eth0",))
LOCK = PortLock(
    mode=LockMode.LOCKED, mac="aa:00:00:00:00:01", ipv4_allowed=("10.0.0.5",), ipv6_allowed=("FD00::5",)
)
BRIDGE = Bridge(name="xenbr0", uplink=ETH0, mac="02:00:00:00:00:10")
PORT = GuestPort(device="vif3.0", bridge="xenbr0", lock=LOCK)
HOST = HostNetwork(bridges=(BRIDGE,), ports=(PORT,), management_bridge="xenbr0")


def with_bridge(**fields: object) -> HostNetwork:
    return replace(HOST, bridges=(replace(BRIDGE, **fields),))  # type: ignore[arg-type]


def with_lock(**fields: object) -> HostNetwork:
    return replace(HOST, ports=(replace(PORT, lock=replace(LOCK, **fields)),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("desired", "sentences"),
    [
        (HOST, ()),
        (with_bridge(mac=""), ()),
        (
            with_bridge(mac="02:00:00:00:00:11"),
            ("bridge xenbr0: mac is 02:00:00:00:00:10, not 02:00:00:00:00:11",),
        ),
        (with_bridge(mtu_bytes=9000), ("bridge xenbr0: mtu_bytes is 1500, not 9000",)),
        (
            with_bridge(ip=IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="192.0.2.1/24")),
            (
                "bridge xenbr0: ip.ipv4_mode is none, not static",
                "bridge xenbr0: ip.ipv4_address is unset, not 192.0.2.1/24",
            ),
        ),
        (with_lock(ipv4_allowed=("10.0.0.5/32",), ipv6_allowed=("fd00::0:5/128",)), ()),
        (
            with_lock(ipv4_allowed=("10.0.0.6",)),
            ("port vif3.0: lock.ipv4_allowed is [10.0.0.5], not [10.0.0.6]",),
        ),
        (with_lock(mode=LockMode.UNLOCKED), ("port vif3.0: lock.mode is locked, not unlocked",)),
        (replace(HOST, ports=()), ("port vif3.0 should not exist",)),
        (replace(HOST, ports=(PORT, replace(PORT, device="vif4.0"))), ("port vif4.0 is missing",)),
        (replace(HOST, nbd_bridges=("xenbr0",)), ("the NBD port is open on [], not on [xenbr0]",)),
        (replace(HOST, management_bridge=""), ("management is on 'xenbr0', not on ''",)),
        (replace(HOST, foreign=("br-other",)), ()),
    ],
)
def test_mismatches_are_sentences(desired: HostNetwork, sentences: tuple[str, ...]) -> None:
    assert mismatches(HOST, desired) == sentences


def test_the_lists_of_an_unlocked_port_do_not_matter() -> None:
    one, other = with_lock(mode=LockMode.UNLOCKED), with_lock(mode=LockMode.UNLOCKED, ipv4_allowed=())
    assert mismatches(one, other) == ()
    assert diff(one, other).steps == ()


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (replace(HOST, bridges=(BRIDGE, BRIDGE)), "there are two bridges xenbr0"),
        (replace(HOST, bridges=(BRIDGE, Bridge(name="b", uplink=ETH0))), "the NIC eth0 is in use twice"),
        (
            replace(HOST, bridges=(BRIDGE, Bridge(name="b", parent="c", vlan_tag=1))),
            "the parent c of bridge b",
        ),
        (
            replace(HOST, bridges=(BRIDGE, Bridge(name="b", parent="xenbr0", vlan_tag=4095))),
            "has the tag 4095",
        ),
        (replace(HOST, bridges=(BRIDGE, Bridge(name="b", vlan_tag=7))), "but no parent"),
        (with_bridge(parent="xenbr0", vlan_tag=3), "has an uplink and a parent"),
        (replace(HOST, bridges=()), "the bridge xenbr0 of port vif3.0 does not exist"),
        (replace(HOST, ports=(PORT, PORT)), "there are two ports vif3.0"),
        (replace(HOST, management_bridge="x"), "the management bridge x does not exist"),
        (replace(HOST, nbd_bridges=("x",)), "the bridge x with an open NBD port does not exist"),
    ],
)
def test_an_impossible_state_is_refused_with_its_reason(network: HostNetwork, reason: str) -> None:
    assert any(reason in text for text in contradictions(network))
    with pytest.raises(ImpossibleStateError, match=reason):
        diff(HOST, network)
    assert (
        diff(network, HOST).steps or mismatches(network, HOST) == ()
    )  # whatever is observed can be repaired


def test_a_state_reads_well() -> None:
    ip = IpConfig(
        ipv4_mode=Ipv4Mode.DHCP,
        ipv6_mode=Ipv6Mode.STATIC,
        ipv6_addresses=("fd00::1/64",),
        ipv6_gateway="fd00::ff",
        routes=("10.9.0.0/16 via 10.0.0.1",),
        dhcp_routes=True,
        dhcp_dns=True,
    )
    text = show_network(replace(with_bridge(ip=ip, igmp_snooping=True), foreign=("br-other",)))
    assert text.splitlines() == [
        "bridge xenbr0 on eth0",
        "  MAC 02:00:00:00:00:10",
        "  MTU 1500",
        "  IGMP snooping",
        "  IPv4 dhcp",
        "  IPv6 static fd00::1/64",
        "  IPv6 gateway fd00::ff",
        "  route 10.9.0.0/16 via 10.0.0.1",
        "  routes by DHCP",
        "  DNS by DHCP",
        "port vif3.0 on xenbr0: locked (10.0.0.5, FD00::5)",
        "  MAC aa:00:00:00:00:01",
        "  MTU 1500",
        "management: xenbr0",
        "foreign: br-other",
    ]


@pytest.mark.parametrize(
    ("bridges", "words"), [(("xapi1", "xenbr0"), "xapi1, xenbr0"), ((EVERYWHERE,), "all")]
)
def test_where_the_nbd_port_is_open_reads_well(bridges: tuple[str, ...], words: str) -> None:
    assert f"NBD port open on: {words}\n" in show_network(replace(HOST, nbd_bridges=bridges))
    plan = diff(replace(HOST, nbd_bridges=bridges), HOST)
    assert show_plan(plan) == f"open the NBD port on bridges: {words} -> none\ndisturbs: none\n"


def test_foreign_objects_do_not_change_the_hash() -> None:
    assert network_hash(HOST) == network_hash(replace(HOST, foreign=("br-other",)))
    assert network_hash(HOST) != network_hash(with_bridge(mtu_bytes=9000))


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (
            CreateGuest(
                guest=GuestSpec(vm_uuid="u", name="web", domid=3, nics=(GuestNic(device=0, mac="aa"),))
            ),
            "create guest u ('web', domid 3, NIC 0 aa)",
        ),
        (RunGuest(vm_uuid="u"), "run guest u"),
        (DestroyGuest(vm_uuid="u"), "destroy guest u"),
        (PlugNic(vm_uuid="u", nic=GuestNic(device=1, mac="bb")), "plug NIC 1 (bb, MTU 1500) into guest u"),
    ],
)
def test_a_guest_action_is_one_line(action: GuestAction, text: str) -> None:
    assert show_guest_action(action) == text
