"""Options of NICs: from the keys that users write to the state, to a plan, and what that disturbs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostnet.diff import diff
from poolnet.hostnet.links import of_nic
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.show import show_network, show_plan
from poolnet.hostnet.state import HostNetwork, LinkSettings
from poolnet.hostnet.steps import Disturbance, SetLink
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from tests.unit.rules.world import World


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("speed", "1000", "1000"),
        ("speed", "0100", "100"),
        ("speed", "0", None),
        ("speed", "-5", None),
        ("speed", "fast", None),
        ("duplex", "half", "half"),
        ("duplex", "Full", None),
        ("autoneg", "true", "on"),
        ("autoneg", "off", "off"),
        ("advertise", "0x00F", "0xf"),
        ("advertise", "15", None),
        ("advertise", "0x", None),
        ("gro", "false", "off"),
        ("lro", "maybe", None),
        ("ufo", "on", "on"),
        ("wol", "on", None),
    ],
)
def test_a_key_that_means_something_becomes_an_option(key: str, text: str, value: str | None) -> None:
    w = World.new()
    pif = w.nic_pif("eth1")
    config = {f"ethtool-{key}": text, key: text, "mtu": "9000"}
    assert of_nic(replace(pif, other_config=config)).get(key) == value
    w.txn.update(PIF, pif.ref, other_config=config)
    found = w.derive().link("eth1")
    assert (dict(found.values) if found is not None else {}) == ({key: value} if value is not None else {})


def test_the_property_gro_turns_it_off_and_the_key_wins() -> None:
    w = World.new()
    assert w.derive().links == ()
    w.call("PIF.set_property", self=w.nic_pif("eth1").ref, name="gro", value="off")
    assert w.derive().links == (LinkSettings(name="eth1", values=(("gro", "off"),)),)
    w.txn.update(PIF, w.nic_pif("eth1").ref, other_config={"ethtool-gro": "on"})
    assert w.derive().links == (LinkSettings(name="eth1", values=(("gro", "on"),)),)
    w.call("PIF.unplug", self=w.nic_pif("eth1").ref)
    assert w.derive().links == ()


def test_a_bond_takes_its_property_to_its_members_and_a_network_its_keys_to_the_bridge() -> None:
    w = World.new()
    network = w.network(bridge="blue", other_config={"ethtool-tso": "off"})
    members = tuple(w.nic_pif(device).ref for device in ("eth1", "eth2"))
    w.call("Bond.create", network=network, members=members, MAC="")
    master = next(pif.ref for pif in w.txn.all(PIF) if pif.bond_master_of)
    w.call("PIF.set_property", self=master, name="gro", value="off")
    assert w.derive().links == (
        LinkSettings(name="blue", values=(("tso", "off"),)),
        LinkSettings(name="eth1", values=(("gro", "off"),)),
        LinkSettings(name="eth2", values=(("gro", "off"),)),
    )
    assert w.txn.get(Network, network).bridge == "blue"


def test_a_plan_says_what_changes_and_what_it_disturbs() -> None:
    w = World.new()
    before = w.derive()
    after = replace(
        before,
        links=(
            LinkSettings(name="eth0", values=(("gro", "off"),)),
            LinkSettings(name="eth1", values=(("autoneg", "off"), ("speed", "1000"))),
        ),
    )
    plan = diff(before, after)
    assert [type(step) for step in plan.steps] == [SetLink, SetLink]
    assert plan.disturbance is Disturbance.BRIDGE
    assert show_plan(plan) == (
        "change how eth0 works\n  + gro off\nchange how eth1 works\n  + autoneg off\n  + speed 1000\ndisturbs: bridge\n"
    )
    assert "link eth1\n  autoneg off\n  speed 1000\n" in show_network(after)
    assert mismatches(before, after) == ("link eth0 is missing", "link eth1 is missing")
    worse = replace(before, links=(LinkSettings(name="eth1", values=(("autoneg", "on"), ("speed", "1000"))),))
    assert mismatches(worse, replace(after, links=after.links[1:])) == (
        "link eth1: values is [autoneg on, speed 1000], not [autoneg off, speed 1000]",
    )
    back = diff(after, before)
    assert back.disturbance is Disturbance.BRIDGE
    on_management = replace(before, links=(LinkSettings(name="eth0", values=(("speed", "100"),)),))
    assert diff(before, on_management).disturbance is Disturbance.MANAGEMENT
    unsorted = HostNetwork(links=tuple(reversed(after.links)))
    assert diff(HostNetwork(links=after.links), unsorted).steps == ()
