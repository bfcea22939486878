"""スイッチポートロックの使用: the three examples, with a malicious VM-c among VM-a and VM-b."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.running import RunningLab
from tests.lab.survival import sniffing
from tests.manual.console import TARGET, Console

pytestmark = pytest.mark.lab

A, B, C = "10.88.0.11", "10.88.0.12", "10.88.0.13"


@dataclass
class Tenants:
    """The VIFs of three VMs, each locked to its own address."""

    a: str
    b: str
    c: str


@pytest.fixture(scope="module")
def tenants(lab: RunningLab) -> Iterator[Tenants]:
    """Three running VMs on the network of eth1, and a remote system at the switch."""
    console = Console(lab)
    network = console.network_of("eth1")
    with (
        console.answering_outside(),
        console.vm("VM-a", network, f"{A}/24") as a,
        console.vm("VM-b", network, f"{B}/24") as b,
        console.vm("VM-c", network, f"{C}/24") as c,
    ):
        for vif, address in ((a, A), (b, B), (c, C)):
            console.type("xe vif-param-set uuid=vif-uuid locking-mode=locked", vif_uuid=vif)
            console.xe("vif-param-set", f"uuid={vif}", f"ipv4-allowed={address}")
        yield Tenants(a, b, c)


def mac(console: Console, vif: str) -> str:
    """The MAC of a VIF."""
    return console.param("vif", vif, "MAC")


def known(console: Console, name: str, address: str) -> str:
    """The MAC that a guest believes an address to have."""
    words = console.guest(name, "ip", "neigh", "show", address, check=False).split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else ""


def test_arp_spoofing(console: Console, tenants: Tenants) -> None:
    """例1: VM-c claims to have VM-b's address; VM-a hears VM-b alone."""
    console.talks("VM-a", B)
    with sniffing(console.in_guest("VM-a"), "eth0", f"arp and ether src {mac(console, tenants.c)}") as heard:
        console.guest("VM-c", "arping", "-A", "-c", "3", "-i", "0.1", "-I", "eth0", B, check=False)
        console.guest("VM-c", "arping", "-U", "-c", "3", "-i", "0.1", "-I", "eth0", B, check=False)
    assert heard == []
    console.guest("VM-a", "ip", "neigh", "flush", "all")
    with sniffing(console.in_guest("VM-a"), "eth0", "arp") as heard:
        console.talks("VM-a", B)
    assert known(console, "VM-a", B) == mac(console, tenants.b)
    assert any(f"Reply {B} is-at {mac(console, tenants.b)}" in frame for frame in heard), heard


def test_ip_address_spoofing(console: Console, tenants: Tenants) -> None:
    """例2: VM-c sends to a remote system as VM-a, with VM-a's MAC and then with its own."""
    console.talks("VM-c", TARGET)
    own, stolen = mac(console, tenants.c), mac(console, tenants.a)
    console.guest("VM-c", "ip", "address", "add", f"{A}/24", "dev", "eth0")
    try:
        for address in (stolen, own):
            console.guest("VM-c", "ip", "link", "set", "eth0", "address", address)
            with console.heard_outside("eth1", f"icmp and src host {A}") as frames:
                words = ("ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", "-I", A, TARGET)
                console.guest("VM-c", *words, check=False)
            assert frames == []
    finally:
        console.guest("VM-c", "ip", "address", "del", f"{A}/24", "dev", "eth0")
        console.guest("VM-c", "ip", "link", "set", "eth0", "address", own)
    console.talks("VM-c", TARGET)
    console.talks("VM-a", TARGET)


def test_web_hosting(console: Console, tenants: Tenants) -> None:
    """例3: VM-b has one MAC and several addresses on one VIF."""
    sites = ["10.88.0.21", "10.88.0.22"]
    for site in sites:
        console.guest("VM-b", "ip", "address", "add", f"{site}/24", "dev", "eth0")
        assert not console.is_reached(site)
    allowed = ",".join((B, *sites))
    console.xe("vif-param-set", f"uuid={tenants.b}", f"ipv4-allowed={allowed}")
    for site in (B, *sites):
        console.talks("VM-a", site)
        assert console.is_reached(site)
        assert known(console, "VM-a", site) == mac(console, tenants.b)
    console.xe("vif-param-set", f"uuid={tenants.b}", f"ipv4-allowed={B}")
