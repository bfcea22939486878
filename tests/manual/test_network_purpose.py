"""ネットワークへの目的の追加: giving a network a purpose, such as NBD connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.manual.console import Console

pytestmark = pytest.mark.lab

ADD = "xe network-param-add param-name=purpose param-key=purpose uuid=network-uuid"
REMOVE = "xe network-param-remove param-name=purpose param-key=purpose uuid=network-uuid"
NBD, ANOTHER = 10809, 10810
SECOND = "10.88.0.9"


@pytest.fixture
def network(console: Console) -> Iterator[str]:
    """The network of a second interface of the host, which has an address for the time being."""
    pif = console.pif("eth1")
    static = ("mode=static", f"IP={SECOND}", "netmask=255.255.255.0")
    console.xe("pif-reconfigure-ip", f"uuid={pif}", *static)
    with console.answering_outside():
        yield console.network_of("eth1")
    console.xe("pif-reconfigure-ip", f"uuid={pif}", "mode=none")


def lets_in(console: Console, address: str, port: int = NBD) -> bool:
    """Whether the host answers a connection, if only that nobody serves there; a closed door is silent."""
    knock = f"timeout 1 bash -c '</dev/tcp/{address}/{port}' 2>&1; true"
    return "refused" in console.switch("sh", "-c", knock)


@pytest.mark.parametrize("purpose", ["nbd", "insecure_nbd"])
def test_a_purpose_opens_the_port_of_nbd_on_its_network(console: Console, network: str, purpose: str) -> None:
    management = console.param("pif", console.pif("eth0"), "IP")
    assert not lets_in(console, SECOND)
    console.type(ADD, purpose=purpose, network_uuid=network)
    assert console.param("network", network, "purpose") == purpose
    assert lets_in(console, SECOND)
    assert not lets_in(console, management), "it is open on that network only"
    assert lets_in(console, management, ANOTHER), "other ports are not poolnet's business"
    console.type(REMOVE, purpose=purpose, network_uuid=network)
    assert console.param("network", network, "purpose") == ""
    assert not lets_in(console, SECOND)


def test_the_two_purposes_exclude_each_other(console: Console) -> None:
    one, two = console.network_of("eth1"), console.network_of("eth2")
    console.type(ADD, purpose="nbd", network_uuid=one)
    said = console.refused(ADD, purpose="insecure_nbd", network_uuid=two)
    assert "insecure_nbd" in said
    assert console.param("network", two, "purpose") == ""
    console.type(REMOVE, purpose="nbd", network_uuid=one)
