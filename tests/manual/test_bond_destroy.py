"""NICボンディングを元に戻す: what a bond gives back to its primary NIC."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.manual.console import TARGET, Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab


@dataclass
class Bonded:
    """A bond that the test destroys."""

    network: str
    nics: list[str]
    uuid: str


def bonded(console: Console, network: str, *devices: str) -> Bonded:
    """A bond of these NICs."""
    nics = [console.pif(device) for device in devices]
    words = (f"network-uuid={network}", f"pif-uuids={','.join(nics)}")
    return Bonded(network, nics, console.xe("bond-create", *words))


def primary(console: Console, bond: str) -> str:
    """The primary NIC as the manual has it looked up."""
    blocks = console.type("xe bond-list params=all").split("\n\n\n")
    (block,) = (block for block in blocks if bond in block)
    (line,) = (line for line in block.splitlines() if line.strip().startswith("primary-slave"))
    return line.partition(": ")[2].strip()


def test_management_and_vms_go_back_to_the_nic_that_had_them(console: Console, bond_network: str) -> None:
    address = console.param("pif", console.pif("eth0"), "IP")
    bond = bonded(console, bond_network, "eth2", "eth0")
    assert primary(console, bond.uuid) == bond.nics[1], "the management interface"
    with console.vm("moved", bond_network, "10.88.0.8/24") as vif, console.answering_outside():
        console.talks("moved", TARGET)
        console.type("xe bond-destroy uuid=bond_uuid", bond_uuid=bond.uuid)
        assert console.param("vif", vif, "network-uuid") == console.network_of("eth0")
        assert console.param("vif", vif, "currently-attached") == "true"
        console.talks("moved", TARGET)
    assert console.param("pif", bond.nics[1], "management") == "true"
    assert console.addresses("xenbr0") == [f"{address}/24"]
    eventually(lambda: console.is_reached(address), "the host is reached at its address")
    assert console.xe("bond-list", "--minimal") == ""


def test_a_management_vlan_goes_back_to_the_primary_nic(console: Console, bond_network: str) -> None:
    first = console.pif("eth0")
    bond = bonded(console, bond_network, "eth2", "eth3")
    assert primary(console, bond.uuid) == bond.nics[0], "the first NIC, where none has an address"
    tagged = console.xe("network-create", "name-label=management")
    master = console.param("bond", bond.uuid, "master")
    vlan = console.xe("vlan-create", f"network-uuid={tagged}", f"pif-uuid={master}", "vlan=77")
    static = ("mode=static", "IP=10.88.0.77", "netmask=255.255.255.0")
    console.xe("pif-reconfigure-ip", f"uuid={vlan}", *static)
    with console.answering_outside(tag=77):
        console.xe("host-management-reconfigure", f"pif-uuid={vlan}")
        console.type("xe bond-destroy uuid=bond_uuid", bond_uuid=bond.uuid)
        moved = console.pif("eth2", vlan=77)
        assert console.param("pif", moved, "management") == "true"
        assert console.param("pif", moved, "IP") == "10.88.0.77"
        eventually(lambda: console.is_reached("10.88.0.77"), "the host is reached in its VLAN")
        console.xe("host-management-reconfigure", f"pif-uuid={first}")
    console.xe("vlan-destroy", f"uuid={moved}")
    console.xe("network-destroy", f"uuid={tagged}")


def test_the_nic_with_an_address_is_the_primary_one(console: Console, bond_network: str) -> None:
    nic = console.pif("eth3")
    static = ("mode=static", "IP=10.88.0.33", "netmask=255.255.255.0")
    console.xe("pif-reconfigure-ip", f"uuid={nic}", *static)
    bond = bonded(console, bond_network, "eth2", "eth3")
    assert primary(console, bond.uuid) == nic
    master = console.param("bond", bond.uuid, "master")
    assert console.param("pif", master, "IP") == "10.88.0.33"
    assert console.param("pif", master, "MAC") == console.param("pif", nic, "MAC")
    with console.answering_outside():
        assert console.reaches(TARGET)
        console.type("xe bond-destroy uuid=bond_uuid", bond_uuid=bond.uuid)
        assert console.param("pif", nic, "IP") == "10.88.0.33"
        eventually(lambda: console.reaches(TARGET), "the NIC has its address again")
    console.xe("pif-reconfigure-ip", f"uuid={nic}", "mode=none")
