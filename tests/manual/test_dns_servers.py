"""DNSサーバー: adding and removing DNS servers of a PIF with a static address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab

COMMAND = "xe pif-reconfigure-ip uuid=pif_uuid mode=static DNS=new_dns_ip IP=IP netmask=netmask"


@pytest.fixture
def static(console: Console) -> Iterator[dict[str, str]]:
    """What the management interface has: its uuid, address and mask; it has its gateway and DNS back afterwards."""
    pif = console.pif("eth0")
    before = {name: console.param("pif", pif, name) for name in ("IP", "netmask", "gateway", "DNS")}
    yield {"pif_uuid": pif, "IP": before["IP"], "netmask": before["netmask"]}
    words = (f"{name}={value}" for name, value in before.items())
    console.xe("pif-reconfigure-ip", f"uuid={pif}", "mode=static", *words)


def test_name_servers_are_added_and_removed(console: Console, static: dict[str, str]) -> None:
    address = console.addresses("xenbr0")
    for servers in ("10.99.0.53", "10.99.0.53,10.99.0.54", "10.99.0.54"):
        console.type(COMMAND, new_dns_ip=servers, **static)
        assert console.param("pif", static["pif_uuid"], "DNS") == servers
        lines = console.run("cat", "/etc/resolv.conf").splitlines()
        assert [line.split()[1] for line in lines if line.startswith("nameserver")] == servers.split(",")
        assert console.addresses("xenbr0") == address
    console.type(COMMAND.replace(" DNS=new_dns_ip", ""), **static)
    assert console.param("pif", static["pif_uuid"], "DNS") == ""
    assert "nameserver" not in console.run("cat", "/etc/resolv.conf")
