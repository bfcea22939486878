"""IPv6 addresses from a real DHCP server and a real router in the lab's switch: leased, by advertisements, and both."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv6Interface, IPv6Network
from pathlib import Path

import pytest

from tests.lab.running import RunningLab, lab_to_share
from tests.lab.test_dhcp import addresses, client, clients, eth1, network_of, param
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"
BRIDGE = "xenbr1"
ROUTER, ROUTER4 = "fd00:77::1", "10.77.0.1"
NAME_SERVER = "fd00:77::53"
LEASED = IPv6Network("fd00:77::100/120")
LEASE_S = 120


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host, and on the switch a router of a second network, that says that there is a DHCP server."""
    with lab_to_share(hosts=1) as one:
        one.run("switch", "ip", "address", "replace", f"{ROUTER}/64", "dev", "switch0", "nodad")
        one.run("switch", "ip", "address", "replace", f"{ROUTER4}/24", "dev", "switch0")
        one.xe(HOST, "pif-plug", f"uuid={eth1(one)}")
        yield one


@pytest.fixture
def server(lab: RunningLab, tmp_path: Path) -> Iterator[Path]:
    """A server for both versions, and its log; afterwards eth1 is as it was."""
    log = tmp_path / "log"
    words = (
        *network_of(lab.lab.switch_pid),
        *(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--user=root",
            "--port=0",
            "--pid-file=",
        ),
        *("--interface=switch0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping", "--enable-ra"),
        f"--dhcp-range={LEASED[0]},{LEASED[-1]},64,{LEASE_S}",
        f"--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0,{LEASE_S}",
        f"--dhcp-option=option6:dns-server,[{NAME_SERVER}]",
        "--dhcp-option=option6:domain-search,six.example.org",
        *("--ra-param=switch0,10", f"--dhcp-leasefile={tmp_path / 'leases'}", "--log-facility=-"),
    )
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield log
    finally:
        process.terminate()
        process.wait(10)
        reconfigure6(lab, "mode=none")
        lab.xe(HOST, "pif-reconfigure-ip", f"uuid={eth1(lab)}", "mode=none")
        lab.xe(HOST, "pif-param-clear", f"uuid={eth1(lab)}", "param-name=other-config")


def reconfigure6(lab: RunningLab, *words: str) -> None:
    """Gives eth1 another IPv6 configuration."""
    lab.xe(HOST, "pif-reconfigure-ipv6", f"uuid={eth1(lab)}", *words)


def addresses6(lab: RunningLab) -> list[IPv6Interface]:
    """What the kernel has, without link-local addresses."""
    words = lab.run(HOST, "ip", "-6", "-br", "address", "show", BRIDGE, check=False).split()[2:]
    return [address for address in map(IPv6Interface, words) if not address.is_link_local]


def leased(lab: RunningLab) -> IPv6Interface:
    """The one address, once it has come."""
    eventually(lambda: any(address.ip in LEASED for address in addresses6(lab)))
    (address,) = addresses6(lab)
    eventually(lambda: str(address) in param(lab, "IPv6"))
    return address


def answers(lab: RunningLab, address: str) -> bool:
    """Whether an address answers the router."""
    said = lab.run("switch", "ping", "-n", "-c", "1", "-W", "1", address, check=False)
    return " 0% packet loss" in said


def default_route(lab: RunningLab) -> str:
    """Through which interface IPv6 goes out."""
    return lab.run(HOST, "ip", "-6", "route", "show", "default").strip()


def test_a_leased_address_works_and_shows(lab: RunningLab, server: Path) -> None:
    reconfigure6(lab, "mode=dhcp")
    address = leased(lab)
    assert address.network.prefixlen == 128
    assert "fe80::" in param(lab, "IPv6")
    assert param(lab, "IPv6-configuration-mode") == "DHCP"
    eventually(lambda: "fd00:77::/64" in lab.run(HOST, "ip", "-6", "route"))  # the router says so
    eventually(lambda: answers(lab, str(address.ip)))
    assert default_route(lab) == ""  # the management interface gives it
    assert param(lab, "DNS") == ""
    for key in ("defaultroute", "peerdns"):
        lab.xe(HOST, "pif-param-set", f"uuid={eth1(lab)}", f"other-config:{key}=true")
    lab.xe(HOST, "pif-set-primary-address-type", f"uuid={eth1(lab)}", "primary_address_type=ipv6")
    lab.xe(HOST, "pif-plug", f"uuid={eth1(lab)}")
    eventually(lambda: f"dev {BRIDGE}" in default_route(lab))
    eventually(lambda: param(lab, "DNS") == NAME_SERVER)
    resolv_conf = lab.run(HOST, "cat", "/etc/resolv.conf")
    assert resolv_conf == f"search six.example.org\nnameserver {NAME_SERVER}\n"
    assert addresses6(lab) == [address]
    lab.xe(HOST, "pif-set-primary-address-type", f"uuid={eth1(lab)}", "primary_address_type=ipv4")


def test_one_client_asks_for_both_versions(lab: RunningLab, server: Path) -> None:
    lab.xe(HOST, "pif-reconfigure-ip", f"uuid={eth1(lab)}", "mode=dhcp")
    eventually(lambda: param(lab, "IP") != "")
    address = param(lab, "IP")
    reconfigure6(lab, "mode=dhcp")
    assert addresses(lab) == [f"{address}/24"]  # a new client, the old lease
    leased(lab)
    assert len([line for line in clients(lab) if "--config" in line]) <= 2  # it and its helper
    reconfigure6(lab, "mode=none")
    eventually(lambda: client(lab) != 0)
    assert (addresses6(lab), addresses(lab)) == ([], [f"{address}/24"])
    assert param(lab, "IPv6") == ""


def test_a_router_gives_addresses_and_static_ends_them(lab: RunningLab, server: Path) -> None:
    log = server
    reconfigure6(lab, "mode=static", "IPv6=fd00:77::9/64")
    assert addresses6(lab) == [IPv6Interface("fd00:77::9/64")]
    eventually(lambda: answers(lab, "fd00:77::9"))  # once the kernel knows that nobody else has it
    reconfigure6(lab, "mode=autoconf")
    assert IPv6Interface("fd00:77::9/64") not in addresses6(lab)
    eventually(lambda: "RTR-SOLICIT" in log.read_text(encoding="utf-8"))  # it asks at once
    eventually(lambda: "fd00:77::/64" in lab.run(HOST, "ip", "-6", "route"))
    assert default_route(lab) == ""
    reconfigure6(lab, "mode=static", "IPv6=fd00:77::9/64")
    assert addresses6(lab) == [IPv6Interface("fd00:77::9/64")]
