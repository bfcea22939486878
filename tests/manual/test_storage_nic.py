"""ストレージ専用NICの設定: a NIC with an address of its own, for storage alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab

STORAGE = "10.66.0.1"
ADDRESS = "xe pif-reconfigure-ip mode=DHCP | Static uuid=pif-uuid"


@pytest.fixture
def nic(console: Console) -> Iterator[str]:
    """A NIC whose cable leads to the storage; it has no address, before and afterwards."""
    pif = console.pif("eth1")
    with console.answering_outside(address=f"{STORAGE}/24"):
        yield pif
    console.xe("pif-param-set", f"uuid={pif}", "disallow-unplug=false")
    console.xe("pif-param-clear", f"uuid={pif}", "param-name=other-config")
    console.xe("pif-reconfigure-ip", f"uuid={pif}", "mode=none")


def test_storage_is_reached_through_its_nic_alone(console: Console, nic: str) -> None:
    management = console.addresses("xenbr0")
    console.type(
        f"{ADDRESS} IP=IP netmask=netmask",
        DHCP_Static="Static",
        pif_uuid=nic,
        IP="10.66.0.9",
        netmask="255.255.255.0",
    )
    console.type("xe pif-param-set disallow-unplug=true uuid=pif-uuid", pif_uuid=nic)
    console.type('xe pif-param-set other-config:management_purpose="Storage" uuid=pif-uuid', pif_uuid=nic)
    assert console.addresses(console.bridge_of("eth1")) == ["10.66.0.9/24"]
    assert console.addresses("xenbr0") == management
    assert console.param("pif", nic, "other-config", "management_purpose") == "Storage"
    matching = f"icmp and host {STORAGE}"
    with console.heard_outside("eth1", matching) as here, console.heard_outside("eth0", matching) as there:
        assert console.reaches(STORAGE)
    assert any(f"10.66.0.9 > {STORAGE}" in frame for frame in here)
    assert there == []
    said = console.refused("xe pif-unplug uuid=pif-uuid", pif_uuid=nic)
    assert said == f"The PIF may not be unplugged.\nPIF: {nic}\n"
    assert console.reaches(STORAGE)


def test_the_address_for_storage_comes_by_dhcp(console: Console, nic: str) -> None:
    with console.leasing_outside("10.66.0.50", "10.66.0.59"):
        console.type(ADDRESS, DHCP_Static="DHCP", pif_uuid=nic)
        eventually(lambda: console.param("pif", nic, "IP").startswith("10.66.0.5"), "it has a lease")
        assert console.addresses(console.bridge_of("eth1")) == [f"{console.param('pif', nic, 'IP')}/24"]
        assert console.reaches(STORAGE)
        assert console.param("pif", nic, "management") == "false"


def test_a_nic_is_forgotten_and_configured_by_hand(console: Console) -> None:
    pif, network = console.pif("eth3"), console.network_of("eth3")
    console.type("xe pif-forget uuid=<UUID>", UUID=pif)
    with console.answering_outside(address=f"{STORAGE}/24"):
        console.run("ip", "address", "add", "10.66.0.7/24", "dev", "eth3")
        console.run("ip", "link", "set", "eth3", "up")
        eventually(lambda: console.reaches(STORAGE), "the NIC works as its owner wants")
        other = console.pif("eth1")
        console.xe("pif-unplug", f"uuid={other}")
        console.xe("pif-plug", f"uuid={other}")
        assert console.addresses("eth3") == ["10.66.0.7/24"], "poolnet leaves it alone"
        assert console.reaches(STORAGE)
        console.run("ip", "address", "del", "10.66.0.7/24", "dev", "eth3")
    console.xe("pif-scan", f"host-uuid={console.host}")
    console.xe("pif-plug", f"uuid={console.pif('eth3')}")
    assert console.network_of("eth3") == network
