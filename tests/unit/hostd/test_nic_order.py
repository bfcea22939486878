"""Positions of NICs: who keeps which when names, addresses and slots change."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from poolnet.hostd.checkpoint import Checkpoint
from poolnet.hostd.nic_order import NicOrder, Place, arrange
from poolnet.hostnet.facts import NicFacts
from poolnet.hostnet.renaming import renamed
from poolnet.hostnet.state import BondMode, BondOptions, Bridge, HostNetwork, LinkSettings, Uplink


def nic(name: str, mac: int, pci: str = "") -> NicFacts:
    return NicFacts(name=name, mac=f"02:00:00:00:00:{mac:02x}", pci_bus_path=pci)


def positions(places: tuple[Place, ...]) -> dict[str, int]:
    return {place.name: place.position for place in places if place.present}


def test_the_first_time_the_number_in_the_name_counts() -> None:
    found = arrange((), [nic("eth2", 3), nic("ens4", 9), nic("eth0", 1)])
    assert positions(found) == {"eth0": 0, "eth2": 2, "ens4": 3}
    assert positions(arrange((), [nic("ens4", 9), nic("ens3", 8)])) == {"ens4": 0, "ens3": 1}


def test_a_nic_keeps_its_position_under_another_name() -> None:
    first = arrange((), [nic("eth0", 1), nic("eth1", 2)])
    assert positions(arrange(first, [nic("eth1", 1), nic("eth0", 2)])) == {"eth1": 0, "eth0": 1}
    assert positions(arrange(first, [nic("ens3", 1), nic("eth1", 2)])) == {"ens3": 0, "eth1": 1}


def test_one_that_is_gone_keeps_its_position_for_when_it_is_back() -> None:
    first = arrange((), [nic("eth0", 1), nic("eth1", 2)])
    without = arrange(first, [nic("eth0", 1)])
    assert [(place.position, place.present) for place in without] == [(0, True), (1, False)]
    other = arrange(without, [nic("eth0", 1), nic("eth7", 7)])
    assert positions(other) == {"eth0": 0, "eth7": 7}
    assert positions(arrange(other, [nic("eth0", 1), nic("eth3", 2), nic("eth7", 7)]))["eth3"] == 1


def test_a_replacement_takes_the_position_by_its_slot_or_else_by_its_name() -> None:
    first = arrange((), [nic("eth0", 1, "0000:01:00.0"), nic("eth1", 2, "0000:02:00.0"), nic("eth2", 3)])
    now = [nic("eth5", 9, "0000:02:00.0"), nic("eth0", 1, "0000:01:00.0"), nic("eth2", 8)]
    assert positions(arrange(first, now)) == {"eth0": 0, "eth5": 1, "eth2": 2}
    moved = [nic("eth0", 1, "0000:09:00.0"), nic("eth1", 2, "0000:02:00.0"), nic("eth2", 3)]
    assert positions(arrange(first, moved)) == {"eth0": 0, "eth1": 1, "eth2": 2}
    elsewhere = [nic("eth1", 9, "0000:07:00.0"), nic("eth0", 1, "0000:01:00.0"), nic("eth2", 3)]
    assert positions(arrange(first, elsewhere)) == {"eth0": 0, "eth2": 2, "eth1": 3}


def test_a_card_with_several_nics_is_replaced_by_one_with_as_many() -> None:
    slot = "0000:01:00.0"
    first = arrange((), [nic("eth0", 1, slot), nic("eth1", 2, slot)])
    assert positions(arrange(first, [nic("a", 8, slot), nic("b", 7, slot)])) == {"b": 0, "a": 1}
    assert positions(arrange(first, [nic("a", 8, slot)])) == {"a": 2}


def test_nics_that_share_an_address_go_by_their_names() -> None:
    first = arrange((), [nic("eth0", 1), nic("eth1", 2), nic("eth2", 3)])
    bonded = arrange(first, [nic("eth0", 1), nic("eth2", 2), nic("eth1", 2)])
    assert positions(bonded) == {"eth0": 0, "eth1": 1, "eth2": 2}


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), unique_by=lambda pair: pair[0])))
def test_everybody_has_a_position_of_their_own_for_ever(seen: list[list[tuple[int, int]]]) -> None:
    places: tuple[Place, ...] = ()
    for nics in seen:
        before = {place.position for place in places}
        places = arrange(places, [nic(f"eth{number}", mac) for number, mac in nics])
        assert len({place.position for place in places}) == len(places)
        assert before <= {place.position for place in places}
        assert {place.name for place in places if place.present} == {f"eth{number}" for number, _ in nics}


def test_the_order_outlives_the_daemon_and_tells_new_names(tmp_path: Path) -> None:
    nics, names = NicOrder(tmp_path).place([nic("eth0", 1), nic("eth1", 2)])
    assert ([one.position for one in nics], names) == ([0, 1], {})
    nics, names = NicOrder(tmp_path).place([nic("eth1", 1), nic("eth0", 2)])
    assert ([one.position for one in nics], names) == ([0, 1], {"eth0": "eth1", "eth1": "eth0"})
    (tmp_path / "nic-order.json").write_text("{", encoding="ascii")
    assert NicOrder(tmp_path).place([nic("eth1", 1)])[1] == {}


def test_a_state_follows_the_names_of_its_nics(tmp_path: Path) -> None:
    bond = Uplink(device="bond0", members=("eth1", "eth2"), bond=BondOptions(mode=BondMode.LACP))
    plain = Uplink(device="eth0", members=("eth0",))
    state = HostNetwork(
        bridges=(Bridge(name="a", uplink=plain), Bridge(name="b", uplink=bond), Bridge(name="c")),
        links=(LinkSettings(name="eth0", values=(("gro", "off"),)), LinkSettings(name="eth1", values=())),
    )
    names = {"eth0": "eth1", "eth1": "eth0"}
    after = renamed(state, names)
    assert [bridge.uplink and bridge.uplink.members for bridge in after.bridges] == [
        ("eth1",),
        ("eth0", "eth2"),
        None,
    ]
    assert [bridge.uplink and bridge.uplink.device for bridge in after.bridges] == ["eth1", "bond0", None]
    assert [link.name for link in after.links] == ["eth0", "eth1"]
    assert renamed(after, names) == state
    checkpoint = Checkpoint(tmp_path)
    checkpoint.rename_nics(names)  # nothing is confirmed yet
    checkpoint.confirm("r", state)
    checkpoint.rename_nics(names)
    again = Checkpoint(tmp_path).confirmed
    assert again is not None
    assert again.network == after
