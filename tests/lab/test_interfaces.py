"""NICs of a lab host: their options, the size of their frames, routes, and what happens when they come and go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from poolnet.lab import life
from tests.lab.running import BACKEND, RunningLab, lab_to_share
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"
SWITCH = {"openvswitch": "openvswitch", "linuxbridge": "linux"}[BACKEND]


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Two hosts with three NICs each."""
    with lab_to_share(hosts=2, nics=3) as one:
        yield one


def pif(lab: RunningLab, device: str, host: str = HOST) -> str:
    """The uuid of a NIC's PIF."""
    return lab.xe(host, "pif-list", f"device={device}", "VLAN=-1", "params=uuid", "--minimal")


def option(lab: RunningLab, device: str, words: str) -> str:
    """What ethtool shows of an interface."""
    lines = lab.run(HOST, "ethtool", "-k", device).splitlines()
    return next(line.split(":")[1].split()[0] for line in lines if line.startswith(f"{words}:"))


def test_options_of_a_nic_come_stay_and_go(lab: RunningLab) -> None:
    uuid = pif(lab, "eth1")
    found = {
        words: option(lab, "eth1", words) for words in ("rx-checksumming", "generic-segmentation-offload")
    }
    assert set(found.values()) == {"on"}
    keys = ("ethtool-rx=off", "ethtool-gso=false", "ethtool-speed=12345", "ethtool-duplex=sometimes")
    lab.xe(HOST, "pif-param-set", f"uuid={uuid}", *(f"other-config:{key}" for key in keys))
    plan = lab.xe(HOST, "pif-plug", f"uuid={uuid}", "--dry-run")
    assert "change how eth1 works" in plan
    lab.xe(HOST, "pif-plug", f"uuid={uuid}")  # what the NIC cannot do is no error
    assert {words: option(lab, "eth1", words) for words in found} == dict.fromkeys(found, "off")
    assert "nothing to do" in lab.xe(HOST, "pif-plug", f"uuid={uuid}", "--dry-run")
    lab.run(
        HOST, "ethtool", "-K", "eth1", "rx", "on"
    )  # somebody interferes, unnoticed until something happens
    network = network_of(lab, "eth1")
    lab.xe(HOST, "network-param-set", f"uuid={network}", "other-config:ethtool-gro=off")
    lab.xe(HOST, "pif-plug", f"uuid={uuid}")
    assert option(lab, "eth1", "rx-checksumming") == "off"
    assert option(lab, "xenbr1", "generic-receive-offload") == "off"
    lab.xe(HOST, "pif-param-clear", f"uuid={uuid}", "param-name=other-config")
    lab.xe(HOST, "network-param-clear", f"uuid={network}", "param-name=other-config")
    lab.xe(HOST, "pif-plug", f"uuid={uuid}")
    assert {words: option(lab, "eth1", words) for words in found} == found


def network_of(lab: RunningLab, device: str, host: str = HOST) -> str:
    """The uuid of a NIC's network."""
    return lab.xe(host, "pif-param-get", f"uuid={pif(lab, device, host)}", "param-name=network-uuid")


def address(lab: RunningLab, host: str, device: str, text: str) -> None:
    """Gives a NIC's PIF a static address."""
    words = ("mode=static", f"IP={text}", "netmask=255.255.255.0")
    lab.xe(host, "pif-reconfigure-ip", f"uuid={pif(lab, device, host)}", *words)


def test_static_routes_of_a_network_come_and_go_where_they_can(lab: RunningLab) -> None:
    network = network_of(lab, "eth2")
    routes = "198.51.100.0/24/10.66.0.254,203.0.113.0/24/10.66.0.253"
    lab.xe(HOST, "network-param-set", f"uuid={network}", f"other-config:static-routes={routes}")
    lab.xe(HOST, "pif-plug", f"uuid={pif(lab, 'eth2')}")  # without an address there are none
    address(lab, HOST, "eth2", "10.66.0.1")
    table = lab.run(HOST, "ip", "route")
    assert "198.51.100.0/24 via 10.66.0.254 dev xenbr2" in table
    assert "203.0.113.0/24 via 10.66.0.253 dev xenbr2" in table
    shorter = "198.51.100.0/24/10.66.0.254"
    lab.xe(HOST, "network-param-set", f"uuid={network}", f"other-config:static-routes={shorter}")
    lab.xe(HOST, "pif-plug", f"uuid={pif(lab, 'eth2')}")
    assert "203.0.113.0" not in lab.run(HOST, "ip", "route")
    address(lab, HOST, "eth2", "10.67.0.1")
    assert "198.51.100.0" not in lab.run(HOST, "ip", "route")
    lab.xe(HOST, "network-param-clear", f"uuid={network}", "param-name=other-config")
    lab.xe(HOST, "pif-reconfigure-ip", f"uuid={pif(lab, 'eth2')}", "mode=none")


def test_large_frames_pass_from_guest_to_guest_through_vlan_and_nic(lab: RunningLab) -> None:
    lab.run(
        "switch", "sh", "-c", "for port in $(ls /sys/class/net); do ip link set $port mtu 9000 || true; done"
    )
    for number, host in enumerate(("host1", "host2"), 1):
        below = network_of(lab, "eth1", host)
        lab.xe(host, "network-param-set", f"uuid={below}", "MTU=9000")
        lab.xe(host, "pif-plug", f"uuid={pif(lab, 'eth1', host)}")
        assert " mtu 9000 " in lab.run(host, "ip", "link", "show", "eth1")
        network = lab.xe(host, "network-create", "name-label=jumbo", "MTU=16000")
        vlan = lab.xe(
            host, "vlan-create", f"pif-uuid={pif(lab, 'eth1', host)}", f"network-uuid={network}", "vlan=77"
        )
        assert lab.xe(host, "pif-param-get", f"uuid={vlan}", "param-name=MTU") == "9000"
        lab.start_vm(host, f"jumbo{number}", network, f"192.0.2.{number}/24")
        assert " mtu 9000 " in lab.guest(f"jumbo{number}", "ip", "link", "show", "eth0")
    words = ("ping", "-n", "-c", "2", "-W", "2", "-M", "do", "-s", str(9000 - 28), "192.0.2.2")
    eventually(lambda: " 0% packet loss" in lab.guest("jumbo1", *words, check=False))


def answers(lab: RunningLab, address: str) -> bool:
    """Whether an address answers the host."""
    said = lab.run(HOST, "ping", "-n", "-c", "1", "-W", "1", address, check=False)
    return " 0% packet loss" in said


def test_a_nic_that_the_kernel_names_anew_stays_on_its_network(lab: RunningLab) -> None:
    address(lab, HOST, "eth2", "10.66.0.1")
    address(lab, "host2", "eth2", "10.66.0.2")
    uuid = pif(lab, "eth2")
    eventually(lambda: answers(lab, "10.66.0.2"))
    lab.xe(HOST, "pif-param-set", f"uuid={uuid}", "other-config:ethtool-rx=off")
    lab.xe(HOST, "pif-plug", f"uuid={uuid}")
    # By one program: the host daemon sets an uplink up again that somebody sets down.
    swap = "printf 'link set eth2 down\\nlink set eth2 name eth9\\nlink set eth9 up\\n' | ip -batch -"
    lab.run(HOST, "sh", "-c", swap)
    eventually(lambda: pif(lab, "eth9") == uuid)
    eventually(lambda: answers(lab, "10.66.0.2"))
    assert option(lab, "eth9", "rx-checksumming") == "off"
    eventually(lambda: "nothing to do" in lab.xe(HOST, "pif-plug", f"uuid={uuid}", "--dry-run"))
    lab.xe(HOST, "pif-param-clear", f"uuid={uuid}", "param-name=other-config")
    lab.xe(HOST, "pif-plug", f"uuid={uuid}")
    assert option(lab, "eth9", "rx-checksumming") == "on"
    lab.xe(HOST, "pif-scan", f"host-uuid={lab.xe(HOST, 'host-list', '--minimal')}")
    assert lab.xe(HOST, "pif-list", "device=eth2", "--minimal") == ""
    lab.run(HOST, "sh", "-c", swap.replace("eth9", "tmp").replace("eth2", "eth9").replace("tmp", "eth2"))
    eventually(lambda: pif(lab, "eth2") == uuid)
    eventually(lambda: answers(lab, "10.66.0.2"))


def test_facts_of_a_nic_and_of_the_switch_show_and_follow(lab: RunningLab) -> None:
    uuid = pif(lab, "eth1")

    def shown(name: str) -> str:
        return lab.xe(HOST, "pif-param-get", f"uuid={uuid}", f"param-name={name}")

    assert (shown("carrier"), shown("speed"), shown("duplex")) == ("true", "10000 Mbit/s", "full")
    asyncio.run(life.set_link(lab.name, HOST, "eth1", plugged=False))
    eventually(
        lambda: (shown("carrier"), shown("speed"), shown("duplex")) == ("false", "0 Mbit/s", "unknown")
    )
    asyncio.run(life.set_link(lab.name, HOST, "eth1", plugged=True))
    eventually(lambda: shown("carrier") == "true")
    versions = lab.xe(
        HOST,
        "host-param-get",
        f"uuid={lab.xe(HOST, 'host-list', '--minimal')}",
        "param-name=software-version",
    )
    assert re.search(rf"{SWITCH}: [0-9]+\.[0-9]+\.[0-9]+", versions), versions
