"""スタンドアロンホストでのIPアドレス設定の変更: changing the address of a standalone host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manual.console import Console
from tests.waiting import eventually

pytestmark = pytest.mark.lab


@pytest.fixture
def management(console: Console) -> Iterator[str]:
    """The PIF of the management interface, which has its address back afterwards."""
    pif = console.pif("eth0")
    before = [f"{name}={console.param('pif', pif, name)}" for name in ("IP", "netmask", "gateway", "DNS")]
    yield pif
    console.xe("pif-reconfigure-ip", f"uuid={pif}", "mode=static", *before)


def test_the_management_address_changes_and_the_host_is_reached_there(
    console: Console, management: str
) -> None:
    old = console.param("pif", management, "IP")
    new = old.rpartition(".")[0] + ".201"
    console.type(
        "xe pif-reconfigure-ip uuid=pif_uuid mode=static IP=IP netmask=netmask gateway=gateway",
        pif_uuid=management,
        IP=new,
        netmask="255.255.255.0",
        gateway=console.lab.lab.gateway,
    )
    assert console.addresses("xenbr0") == [f"{new}/24"]
    assert console.param("pif", management, "IP") == new
    assert console.param("host", console.host, "address") == new
    eventually(lambda: console.is_reached(new), "the host answers at its new address")
    assert not console.is_reached(old)
    assert "default via" in console.run("ip", "route")
    answer = console.switch("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{new}/")
    assert answer.strip("0"), "its API answers there"


def test_an_address_that_is_none_is_refused_and_nothing_changes(console: Console, management: str) -> None:
    before = console.addresses("xenbr0")
    said = console.refused(
        "xe pif-reconfigure-ip uuid=pif_uuid mode=static IP=IP netmask=netmask",
        pif_uuid=management,
        IP="10.0.0.256",
        netmask="255.255.255.0",
    )
    assert "IP" in said
    assert console.addresses("xenbr0") == before
