"""管理インターフェイス: making another NIC the management interface."""

from __future__ import annotations

import pytest

from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab

MOVE = "xe host-management-reconfigure pif-uuid=pif_uuid"


def test_management_moves_to_another_nic_and_back(console: Console) -> None:
    first, second = console.pif("eth0"), console.pif("eth1")
    network = console.param("pif", first, "IP").rpartition(".")[0]
    other = network.split(".")
    other[2] = str(int(other[2]) + 100)
    address = ".".join((*other[:3], "9"))
    outside = ".".join((*other[:3], "1"))
    assert second in console.type("xe pif-list")
    assert "management ( RO): false" in console.type("xe pif-param-list uuid=pif_uuid", pif_uuid=second)
    with console.answering_outside(address=f"{outside}/24"):
        console.type(
            "xe pif-reconfigure-ip uuid=pif_uuid mode=static IP=IP netmask=netmask",
            pif_uuid=second,
            IP=address,
            netmask="255.255.255.0",
        )
        console.type(MOVE, pif_uuid=second)
        assert console.param("pif", second, "management") == "true"
        assert console.param("pif", first, "management") == "false"
        assert console.param("host", console.host, "address") == address
        eventually(lambda: console.is_reached(address), "the host answers at its new address")
        shown = console.type("xe pif-param-list uuid=pif_uuid", pif_uuid=second)
        assert f"IP ( RO): {address}" in shown
        console.type(MOVE, pif_uuid=first)
        assert console.param("pif", first, "management") == "true"
        assert console.param("host", console.host, "address") == console.param("pif", first, "IP")
    console.xe("pif-reconfigure-ip", f"uuid={second}", "mode=none")
    eventually(lambda: console.is_reached(console.param("pif", first, "IP")), "the host is reached as before")


def test_a_nic_without_an_address_is_refused(console: Console) -> None:
    nic = console.pif("eth1")
    said = console.refused(MOVE, pif_uuid=nic)
    assert said == f"The PIF has no IP configuration.\nPIF: {nic}\n"
    assert console.param("pif", console.pif("eth0"), "management") == "true"
