from __future__ import annotations

from poolnet.hostnet.facts import BondFacts, LacpFacts, LacpMemberFacts
from poolnet.lab.bonds import lines


def test_the_console_says_which_members_carry_traffic() -> None:
    bond = BondFacts(
        device="bond0",
        members=("eth0", "eth1", "eth2", "eth3"),
        members_up=("eth0", "eth1", "eth2"),
        enabled=("eth0", "eth1"),
        active=("eth1",),
    )
    assert list(lines([bond])) == [
        "bond0: 3/4 up",
        "  eth0            standby ",
        "  eth1            active  ",
        "  eth2            waiting ",
        "  eth3            no link ",
    ]
    assert list(lines([])) == ["This host has no bond of more than one NIC."]


def test_the_console_says_what_lacp_agreed_on() -> None:
    partner = {"partner_system": "aa:aa", "partner_key": 5, "partner_port": 7}
    members = (
        LacpMemberFacts(name="eth0", current=True, attached=True, **partner),  # type: ignore[arg-type]
        LacpMemberFacts(name="eth1", **partner),  # type: ignore[arg-type]
        LacpMemberFacts(name="eth2"),
    )
    names = ("eth0", "eth1", "eth2")
    bond = BondFacts(
        device="bond0",
        members=names,
        members_up=names,
        enabled=names,
        active=names,
        lacp=LacpFacts(members=members),
    )
    assert list(lines([bond])) == [
        "bond0: 3/3 up, LACP partner aa:aa",
        "  eth0            active    in the aggregate, partner aa:aa key 5 port 7",
        "  eth1            active    not in the aggregate, partner aa:aa key 5 port 7, partner is silent",
        "  eth2            active    heard nothing of a partner",
    ]
    alone = BondFacts(device="bond1", members=(), lacp=LacpFacts())
    assert list(lines([alone])) == ["bond1: 0/0 up, no LACP partner"]
