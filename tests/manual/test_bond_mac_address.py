"""ボンディングのMACアドレス制御: which MAC and which addresses a bond has."""

from __future__ import annotations

import pytest

from tests.lab import survival
from tests.manual.console import HOST, TARGET, Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab

OF_A_MODE = """xe bond-create network-uuid=network_uuid pif-uuids=pif_uuid_1, /
    pif_uuid_2,pif_uuid_3,pif_uuid_4 /
    mode=balance-slb | active-backup | lacp"""


def test_four_nics_make_a_bond_that_management_moves_to(console: Console, bond_network: str) -> None:
    nics = [console.pif(f"eth{number}") for number in (1, 0, 2, 3)]
    address, mac = console.param("pif", nics[1], "IP"), console.param("pif", nics[1], "MAC")
    bond = console.type(
        OF_A_MODE,
        network_uuid=bond_network,
        pif_uuid_1_pif_uuid_2_pif_uuid_3_pif_uuid_4=",".join(nics),
        balance_slb_active_backup_lacp="active-backup",
    )
    pif = console.param("bond", bond, "master")
    assert console.param("pif", pif, "management") == "true"
    assert console.param("pif", pif, "MAC") == mac, "the management interface's"
    assert console.param("pif", pif, "IP") == address
    assert console.param("pif", nics[1], "management") == "false"
    bridge = console.param("network", bond_network, "bridge")
    assert console.addresses(bridge) == [f"{address}/24"]
    link = console.run("ip", "-oneline", "link", "show", "dev", bridge)
    assert f"link/ether {mac}" in link
    eventually(lambda: console.is_reached(address), "the host is reached at its address")
    survival.poolnet(console.lab, "link", HOST, "eth0", "down")
    try:
        eventually(lambda: console.is_reached(address), "the host is reached without its NIC's cable")
    finally:
        survival.poolnet(console.lab, "link", HOST, "eth0", "up")


def test_the_mac_of_a_bond_can_be_given(console: Console, bond_network: str) -> None:
    nics = ",".join([console.pif("eth2"), console.pif("eth3")])
    words = "xe bond-create network-uuid=network_uuid pif-uuids=pif_uuids mac=mac"
    bond = console.type(words, network_uuid=bond_network, pif_uuids=nics, mac="02:00:00:aa:bb:cc")
    pif = console.param("bond", bond, "master")
    assert console.param("pif", pif, "MAC") == "02:00:00:aa:bb:cc"
    console.xe("pif-reconfigure-ip", f"uuid={pif}", "mode=static", "IP=10.88.0.9", "netmask=255.255.255.0")
    with console.answering_outside(), console.heard_outside("eth2", "arp or icmp") as one:
        with console.heard_outside("eth3", "arp or icmp") as two:
            eventually(lambda: console.reaches(TARGET), "the bond carries the host's address")
        assert any("02:00:00:aa:bb:cc > " in frame for frame in (*one, *two))
    console.xe("pif-reconfigure-ip", f"uuid={pif}", "mode=none")
