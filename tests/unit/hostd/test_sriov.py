"""NICs get their virtual functions in three ways, all of them or none, and functions are told what their guests need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.netlink_functions import NO_MAC
from poolnet.hostnet.facts import NicFacts, SriovFacts
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import HostNetwork, SriovNic, VirtualFunction
from tests.unit.hostd.sriov_tree import IGB_FILE, Hardware, Rig, nic

FUNCTION = VirtualFunction(
    address="0000:01:10.1", mac="02:00:00:00:00:01", vlan_tag=7, rate_mbits_per_s=100, vif_uuid="v"
)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def facts(rig: Rig, name: str) -> SriovFacts | None:
    return rig.functions.facts(NicFacts(name=name, mac="02:00:00:00:00:09")).sriov


def refused(rig: Rig) -> dict[str, tuple[str, ...]]:
    """What eth0 cannot do, by the function's address."""
    seen = facts(rig, "eth0")
    assert seen is not None
    return {one.pci_bus_path: one.refused for one in seen.functions if one.refused}


# --- at once ---------------------------------------------------------------------------------------------------


def test_a_nic_of_today_gets_all_functions_at_once_and_loses_them_at_once(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=63)
    rig.become(nic("eth0"))
    assert rig.tree.writes == [("eth0", 63)]
    seen = facts(rig, "eth0")
    assert seen is not None
    assert (seen.functions_max, seen.functions_now, len(seen.functions)) == (63, 63, 63)
    assert (seen.functions[0].vendor_id, seen.functions[0].device_id) == ("8086", "1520")
    rig.become()
    assert rig.tree.count("eth0") == 0


@pytest.mark.parametrize("total", [0, None])
def test_a_nic_without_virtual_functions_has_none(rig: Rig, total: int | None) -> None:
    rig.tree.add("eth0", "ixgbe", total=total)
    assert facts(rig, "eth0") is None
    with pytest.raises(ApplyFailed) as refused:
        rig.become(nic("eth0"))
    assert (refused.value.fault, refused.value.subject) == (Fault.FUNCTIONS_FAILED, "eth0")
    assert rig.functions.observe() == ()


def test_a_driver_that_gives_up_half_way_leaves_nothing_enabled(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=63)
    rig.tree.fails_after["eth0"] = 20
    with pytest.raises(
        ApplyFailed, match="20 of 63 virtual functions came: Cannot allocate memory"
    ) as refused:
        rig.become(nic("eth0"))
    assert (refused.value.fault, refused.value.subject) == (Fault.FUNCTIONS_FAILED, "eth0")
    assert rig.tree.count("eth0") == 0
    assert rig.functions.observe() == ()
    seen = facts(rig, "eth0")
    assert seen is not None
    assert "20 of 63" in seen.failed
    del rig.tree.fails_after["eth0"]
    rig.become(nic("eth0"))
    seen = facts(rig, "eth0")
    assert seen is not None
    assert seen.failed == ""


def test_functions_come_again_after_a_boot(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0"))
    rig.booted()
    assert rig.functions.observe() == ()
    rig.become(nic("eth0"))
    assert rig.tree.count("eth0") == 8


def test_a_boot_at_which_one_nic_fails_gives_the_others_theirs(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.tree.add("eth1", "ixgbe", total=8)
    rig.become(nic("eth0"), nic("eth1"))
    rig.tree.fails_after["eth0"] = 3
    rig.booted()
    rig.become(nic("eth0"), nic("eth1"), strict=False)
    assert rig.functions.observe() == (nic("eth1"),)
    assert rig.tree.count("eth0") == 0
    confirmed = HostNetwork(sriov=(nic("eth0"), nic("eth1")))  # and nobody tries over and over
    assert not mismatches(HostNetwork(sriov=rig.functions.observe()), rig.functions.possible(confirmed))


def test_a_daemon_that_starts_again_knows_its_functions(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0", "sysfs", FUNCTION))
    before = rig.hardware.told.copy()
    rig.restarted()
    rig.become(nic("eth0", "sysfs", FUNCTION))
    assert rig.hardware.told == before


def test_functions_follow_a_nic_with_another_name(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0"))
    (rig.tree.root / "class/net/eth0").rename(rig.tree.root / "class/net/eth5")
    rig.functions.rename_nics({"eth0": "eth5"})
    assert rig.functions.observe() == (nic("eth5"),)
    rig.restarted()
    assert rig.functions.observe() == (nic("eth5"),)


# --- by the administrator --------------------------------------------------------------------------------------


def test_functions_that_somebody_made_are_used_and_never_ended(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8, now=3)
    rig.become(nic("eth0", "manual", FUNCTION))
    rig.become()
    assert rig.tree.count("eth0") == 3
    assert rig.tree.writes == []
    assert rig.hardware.now["eth0", 1].mac == NO_MAC


def test_functions_that_nobody_made_cannot_be_used(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    with pytest.raises(ApplyFailed, match="nobody has made"):
        rig.become(nic("eth0", "manual"))
    assert rig.functions.observe() == ()


def test_functions_of_somebody_are_not_observed(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8, now=3)
    assert rig.functions.observe() == ()


def test_a_number_of_functions_that_others_chose_is_not_changed_at_once(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8, now=3)
    with pytest.raises(ApplyFailed):
        rig.become(nic("eth0", "sysfs"))
    assert rig.tree.count("eth0") == 3


# --- by an option of the driver --------------------------------------------------------------------------------


def test_a_legacy_driver_is_told_once_for_each_of_its_devices_and_waits_for_the_boot(rig: Rig) -> None:
    for each in range(4):
        rig.tree.add(f"eth{each}", "igb", total=7)
    path = rig.write("igb", IGB_FILE)
    seen = facts(rig, "eth1")
    assert seen is not None
    assert (seen.functions_max, seen.by_module, seen.functions_now) == (7, True, 0)
    rig.become(nic("eth1", "modprobe"))
    assert path.read_text() == IGB_FILE.replace("max_vfs=0", "max_vfs=7,7,7,7")
    assert (rig.tree.writes, rig.images) == ([], 1)
    rig.booted(*((f"eth{each}", 7) for each in range(4)))
    assert rig.functions.observe() == (nic("eth1", "modprobe"),)
    rig.become(nic("eth1", "modprobe"), nic("eth2", "modprobe"))
    assert rig.images == 1
    rig.become(nic("eth1", "modprobe"))  # the option is the driver's: another NIC still needs it
    assert "max_vfs=7,7,7,7" in path.read_text()
    rig.become()
    assert path.read_text() == IGB_FILE.replace("max_vfs=0", "max_vfs=0,0,0,0")
    assert rig.tree.count("eth1") == 7  # until the next boot


def test_the_administrator_limits_a_legacy_driver_but_not_beyond_its_default(rig: Rig) -> None:
    rig.tree.add("eth0", "igb", total=7)
    path = rig.write("igb", IGB_FILE.replace("by-user:", "by-user: 4"))
    rig.become(nic("eth0", "modprobe"))
    assert "options igb max_vfs=4\n" in path.read_text()
    rig.become()
    rig.write("igb", IGB_FILE.replace("by-user:", "by-user: 9"))
    rig.become(nic("eth0", "modprobe"))
    assert "options igb max_vfs=7\n" in path.read_text()


def test_an_option_is_written_even_if_the_functions_are_there_now(rig: Rig) -> None:
    rig.tree.add("eth0", "igb", total=7)
    path = rig.write("igb", IGB_FILE)
    rig.become(nic("eth0", "modprobe"))
    rig.booted(("eth0", 7))
    rig.become()
    assert "max_vfs=0\n" in path.read_text()
    rig.become(nic("eth0", "modprobe"))  # without a boot between
    assert "max_vfs=7\n" in path.read_text()


def test_a_damaged_file_is_reported_and_left_alone(rig: Rig) -> None:
    rig.tree.add("eth0", "igb", total=7)
    text = IGB_FILE.replace("by-default: 7", "by-default: seven")
    path = rig.write("igb", text)
    seen = facts(rig, "eth0")
    assert seen is not None
    assert seen.damage == f"{path}: VFs-maxvfs-by-default is missing or no number"
    with pytest.raises(ApplyFailed, match="VFs-maxvfs-by-default"):
        rig.become(nic("eth0", "modprobe"))
    assert path.read_text() == text


def test_a_file_whose_boot_image_cannot_be_made_is_put_back(rig: Rig) -> None:
    rig.tree.add("eth0", "igb", total=7)
    path = rig.write("igb", IGB_FILE)
    rig.image_fails = True
    with pytest.raises(ApplyFailed, match="no space left") as refused:
        rig.become(nic("eth0", "modprobe"))
    assert refused.value.subject == "eth0"
    assert path.read_text() == IGB_FILE
    assert rig.functions.observe() == ()


def test_somebody_who_changes_the_option_is_overruled(rig: Rig) -> None:
    rig.tree.add("eth0", "igb", total=7)
    path = rig.write("igb", IGB_FILE)
    rig.become(nic("eth0", "modprobe"))
    rig.write("igb", IGB_FILE)
    assert rig.functions.observe() == ()
    rig.become(nic("eth0", "modprobe"))
    assert "max_vfs=7\n" in path.read_text()


# --- one function ----------------------------------------------------------------------------------------------


def test_a_function_is_told_all_before_its_guest_has_it_and_forgets_all_afterwards(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0", "sysfs", FUNCTION))
    now = rig.hardware.now["eth0", 1]
    assert (now.mac, now.vlan_tag, now.rate_mbits_per_s) == ("02:00:00:00:00:01", 7, 100)
    assert (now.spoof_checked, now.trusted, now.connected) == (True, False, True)
    rig.become(nic("eth0"))
    now = rig.hardware.now["eth0", 1]
    assert (now.mac, now.vlan_tag, now.rate_mbits_per_s, now.spoof_checked) == (NO_MAC, 0, 0, True)


def test_only_what_changed_is_told_to_a_function_in_use(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0", "sysfs", FUNCTION))
    rig.hardware.told.clear()
    slower = replace(FUNCTION, rate_mbits_per_s=10)
    rig.become(nic("eth0", "sysfs", slower))
    assert rig.hardware.told == [("rate", "eth0", 1)]


def test_a_nic_that_cannot_limit_rates_or_check_macs_does_without(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.hardware.cannot = {"rate", "spoof-check"}
    rig.become(nic("eth0", "sysfs", FUNCTION))
    assert rig.hardware.now["eth0", 1].rate_mbits_per_s == 0
    rig.restarted()
    assert rig.functions.observe() == (nic("eth0", "sysfs", FUNCTION),)


def test_what_a_nic_cannot_do_for_a_function_is_among_the_facts_until_it_can(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.hardware.cannot = {"rate", "spoof-check"}
    rig.become(nic("eth0", "sysfs", FUNCTION))
    assert refused(rig) == {FUNCTION.address: ("spoof-check", "rate")}
    rig.restarted()
    assert refused(rig) == {FUNCTION.address: ("spoof-check", "rate")}
    rig.hardware.cannot = set()
    rig.become(nic("eth0", "sysfs", replace(FUNCTION, rate_mbits_per_s=10)))
    assert refused(rig) == {}
    rig.hardware.cannot = {"rate"}
    rig.become(nic("eth0", "sysfs", FUNCTION))
    rig.become(nic("eth0"))
    assert refused(rig) == {}


def test_a_rate_that_was_refused_without_a_link_is_set_when_there_is_one(rig: Rig) -> None:
    rig.tree.add("eth0", "igb", total=7)
    rig.hardware.cannot = {"rate"}  # as igb, while it has no link
    rig.become(nic("eth0", "sysfs", FUNCTION))
    rig.functions.try_again()
    assert refused(rig) == {FUNCTION.address: ("rate",)}
    rig.hardware.cannot = set()
    rig.restarted().try_again()
    assert rig.hardware.now["eth0", 1].rate_mbits_per_s == 0
    rig.tree.plug("eth0")
    rig.functions.try_again()
    assert rig.hardware.now["eth0", 1].rate_mbits_per_s == 100
    assert refused(rig) == {}


def test_a_rate_that_was_refused_with_a_link_is_not_tried_over_and_over(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=7)
    rig.hardware.cannot = {"rate"}
    rig.become(nic("eth0", "sysfs", FUNCTION))
    rig.tree.plug("eth0")
    rig.functions.try_again()  # refused once more, now with a link
    rig.hardware.cannot = set()
    rig.functions.try_again()
    assert rig.hardware.now["eth0", 1].rate_mbits_per_s == 0
    assert refused(rig) == {FUNCTION.address: ("rate",)}


@pytest.mark.parametrize("what", ["mac", "vlan"])
def test_a_function_without_its_mac_or_vlan_is_given_to_nobody(rig: Rig, what: str) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0"))
    rig.hardware.cannot = {what}
    with pytest.raises(ApplyFailed, match=r"0000:01:10\.1 cannot be prepared") as refused:
        rig.become(nic("eth0", "sysfs", FUNCTION))
    assert refused.value.fault is Fault.SWITCH_FAILED
    assert rig.functions.observe() == (nic("eth0"),)
    assert rig.hardware.now.get(("eth0", 1), Hardware().read("eth0")[1]).vlan_tag == 0


def test_a_disabled_function_needs_a_nic_that_can_hold_its_link_down(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    off = VirtualFunction(address=FUNCTION.address, mac=FUNCTION.mac, connected=False)
    rig.become(nic("eth0", "sysfs", off))
    states = [rig.hardware.now["eth0", 1].connected]
    rig.become(nic("eth0"))
    states.append(rig.hardware.now["eth0", 1].connected)
    assert states == [False, True]
    rig.hardware.cannot = {"link"}
    with pytest.raises(ApplyFailed, match="cannot be prepared"):
        rig.become(nic("eth0", "sysfs", off))


def test_somebody_who_changes_a_function_is_seen(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=8)
    rig.become(nic("eth0", "sysfs", FUNCTION))
    rig.hardware.set_vlan("eth0", 1, 8)
    wanted = HostNetwork(sriov=(nic("eth0", "sysfs", FUNCTION),))
    assert mismatches(HostNetwork(sriov=rig.functions.observe()), wanted) == (
        "virtual function of eth0 0000:01:10.1: vlan_tag is 8, not 7",
    )


def test_a_function_that_does_not_exist_is_no_function(rig: Rig) -> None:
    rig.tree.add("eth0", "ixgbe", total=1)
    with pytest.raises(ApplyFailed) as refused:
        rig.become(nic("eth0", "sysfs", FUNCTION))
    assert refused.value.fault is Fault.NO_DEVICE
    confirmed = HostNetwork(sriov=(SriovNic(device="eth0", mode=nic("eth0").mode, functions=(FUNCTION,)),))
    assert rig.functions.possible(confirmed).sriov == (nic("eth0"),)
