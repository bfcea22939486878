"""スタンドアロンホストでのNICボンディングの作成, NICボンディングの作成: creating bonds, in each mode."""

from __future__ import annotations

import pytest

from tests.lab import survival
from tests.manual.console import HOST, TARGET, Console

pytestmark = pytest.mark.lab

ACTIVE_ACTIVE = """xe bond-create network-uuid=network_uuid /
    pif-uuids=pif_uuid_1,pif_uuid_2,pif_uuid_3,pif_uuid_4"""
OF_A_MODE = """xe bond-create network-uuid=network_uuid pif-uuids=pif_uuid_1, /
    pif_uuid_2,pif_uuid_3,pif_uuid_4 /
    mode=balance-slb | active-backup | lacp"""


def master(console: Console, bond: str) -> str:
    """The PIF of a bond."""
    return console.param("bond", bond, "master")


def pulled(console: Console, device: str, vm: str) -> None:
    """A VM goes on talking when one cable is pulled, and when it is in again."""
    survival.poolnet(console.lab, "link", HOST, device, "down")
    try:
        console.talks(vm, TARGET)
    finally:
        survival.poolnet(console.lab, "link", HOST, device, "up")
    console.talks(vm, TARGET)


def test_a_bond_of_two_nics_is_active_active(console: Console, bond_network: str) -> None:
    listed = console.type("xe pif-list")
    nics = [console.pif("eth2"), console.pif("eth3")]
    assert all(nic in listed for nic in nics)
    bond = console.type(
        ACTIVE_ACTIVE, network_uuid=bond_network, pif_uuid_1_pif_uuid_2_pif_uuid_3_pif_uuid_4=",".join(nics)
    )
    assert console.param("bond", bond, "mode") == "balance-slb"
    assert console.param("bond", bond, "slaves") == "; ".join(nics)
    pif = master(console, bond)
    assert console.param("pif", pif, "network-uuid") == bond_network
    assert console.param("pif", pif, "currently-attached") == "true"
    assert console.param("pif", pif, "MAC") == console.param("pif", nics[0], "MAC"), "the first NIC's"
    with console.vm("bonded", bond_network, "10.88.0.8/24"), console.answering_outside():
        console.talks("bonded", TARGET)
        pulled(console, "eth2", "bonded")
        pulled(console, "eth3", "bonded")


@pytest.mark.parametrize("mode", ["balance-slb", "active-backup", "lacp"])
def test_a_bond_is_made_in_the_mode_that_is_named(console: Console, bond_network: str, mode: str) -> None:
    nics = [console.pif("eth2"), console.pif("eth3")]
    if mode == "lacp":
        survival.poolnet(console.lab, "bundle", HOST, "eth2", "eth3")
    try:
        bond = console.type(
            OF_A_MODE,
            network_uuid=bond_network,
            pif_uuid_1_pif_uuid_2_pif_uuid_3_pif_uuid_4=",".join(nics),
            balance_slb_active_backup_lacp=mode,
        )
        assert console.param("bond", bond, "mode") == mode
        with console.vm("bonded", bond_network, "10.88.0.8/24"), console.answering_outside():
            console.talks("bonded", TARGET)
            if mode == "lacp":
                seen = console.run("ovs-appctl", "-t", "ovs-vswitchd", "lacp/show")
                assert seen.count("current attached") == 2, "both members have found the switch"
    finally:
        if mode == "lacp":
            survival.poolnet(console.lab, "separate", HOST, "eth2")
