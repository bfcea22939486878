"""What differs, field by field: told by subject, once, and with the value of each side."""

from __future__ import annotations

from dataclasses import replace

from poolnet.hostnet.drift import ABSENT, PRESENT, Change, changes, compare
from poolnet.hostnet.match import mismatches
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

IP = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="10.0.0.1/24")
NIC = Bridge(name="xenbr1", uplink=Uplink(device="eth1", members=("eth1",)), ip=IP)
TAGGED = Bridge(name="xapi1", parent="xenbr1", vlan_tag=20)
PORT = GuestPort(
    device="vif1.0", bridge="xapi1", lock=PortLock(mode=LockMode.UNLOCKED, mac="02:00:00:00:00:01")
)
STATE = HostNetwork(bridges=(TAGGED, NIC), ports=(PORT,), management_bridge="xenbr1")


def with_tag(tag: int) -> HostNetwork:
    return replace(STATE, bridges=(replace(TAGGED, vlan_tag=tag), NIC))


def test_nothing_differs_from_itself_however_it_is_written() -> None:
    seen = replace(STATE, bridges=(replace(NIC, mac="02:00:00:00:00:09"), TAGGED))
    assert changes(seen, STATE) == ()
    assert compare(STATE, STATE, seen) == ()


def test_a_field_a_bridge_and_a_port() -> None:
    assert changes(with_tag(30), STATE) == (
        Change(subject="bridge xapi1", field="vlan_tag", was="20", now="30"),
    )
    gone = replace(STATE, bridges=(NIC,), ports=())
    assert changes(gone, STATE) == (
        Change(subject="bridge xapi1", was=PRESENT, now=ABSENT),
        Change(subject="port vif1.0", was=PRESENT, now=ABSENT),
    )
    assert changes(STATE, gone) == (
        Change(subject="bridge xapi1", was=ABSENT, now=PRESENT),
        Change(subject="port vif1.0", was=ABSENT, now=PRESENT),
    )


def test_an_address_that_is_gone_is_a_field_of_its_bridge() -> None:
    bare = replace(STATE, bridges=(TAGGED, replace(NIC, ip=replace(IP, ipv4_address=""))))
    (change,) = changes(bare, STATE)
    assert change.text() == "bridge xenbr1: ip.ipv4_address is unset, not 10.0.0.1/24"


def test_it_finds_what_the_daemon_finds() -> None:
    """`mismatches` says the same in sentences; what it does not complain of is no change, and the other way round."""
    for seen in (
        STATE,
        with_tag(30),
        replace(STATE, ports=()),
        replace(STATE, http_closed=True),
        HostNetwork(),
    ):
        assert bool(changes(seen, STATE)) == bool(mismatches(seen, STATE))


def test_three_values_beside_each_other() -> None:
    rows = compare(with_tag(40), STATE, with_tag(30))
    assert [(r.subject, r.field, r.intended, r.applied, r.actual) for r in rows] == [
        ("bridge xapi1", "vlan_tag", "40", "20", "30")
    ]
    rows = compare(STATE, STATE, replace(STATE, bridges=(NIC,)))
    assert [(r.subject, r.field, r.intended, r.applied, r.actual) for r in rows] == [
        ("bridge xapi1", "", PRESENT, PRESENT, ABSENT)
    ]
