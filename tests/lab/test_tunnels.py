"""Guests of two hosts in one network over a tunnel: both protocols, with the frames that travel between the hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import switches
from tests.lab.running import RunningLab, lab_to_share
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2")
TRANSPORT = {"host1": "10.88.0.1", "host2": "10.88.0.2"}
OUTER = {"gre": "ip proto 47", "vxlan": "udp port 4789"}
HEADERS_BYTES = {"gre": 42, "vxlan": 50}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Two hosts, each with an address on eth1."""
    with lab_to_share(hosts=2) as one:
        for host, address in TRANSPORT.items():
            pif = one.xe(host, "pif-list", "device=eth1", "params=uuid", "--minimal")
            words = ("mode=static", f"IP={address}", "netmask=255.255.255.0")
            one.xe(host, "pif-reconfigure-ip", f"uuid={pif}", *words)
        yield one


def make(lab: RunningLab, host: str, protocol: str) -> tuple[str, str]:
    """A network of a host's own, and the access PIF of its tunnel to the other host."""
    other = next(address for name, address in TRANSPORT.items() if name != host)
    pif = lab.xe(host, "pif-list", "device=eth1", "params=uuid", "--minimal")
    network = lab.xe(host, "network-create", f"name-label={protocol}")
    words = (f"pif-uuid={pif}", f"network-uuid={network}", f"protocol={protocol}")
    access = lab.xe(host, "tunnel-create", *words)
    tunnel = tunnel_of(lab, host, access)
    assert lab.xe(host, "tunnel-param-get", f"uuid={tunnel}", "param-name=status") == "active: false"
    keys = (f"other-config:remote_ip={other}", "other-config:key=4711")
    lab.xe(host, "tunnel-param-set", f"uuid={tunnel}", *keys)
    lab.xe(host, "pif-plug", f"uuid={access}")
    assert (
        lab.xe(host, "tunnel-param-get", f"uuid={tunnel}", "param-name=status") == "active: true; key: 4711"
    )
    return network, access


def tunnel_of(lab: RunningLab, host: str, access: str) -> str:
    """The uuid of the tunnel that has this PIF for its own end."""
    return lab.xe(host, "tunnel-list", f"access-PIF={access}", "params=uuid", "--minimal")


@contextmanager
def captured(lab: RunningLab, host: str, nic: str, expression: str) -> Iterator[list[str]]:
    """The frames that pass a NIC meanwhile, a line each, once the block has ended."""
    pid = lab.lab.host(host).pid
    words = (
        "nsenter",
        "--target",
        str(pid),
        "--net",
        "--",
        "tcpdump",
        "-n",
        "-e",
        "-l",
        "-i",
        nic,
        expression,
    )
    lines: list[str] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tcpdump:
        assert tcpdump.stdout is not None
        assert tcpdump.stderr is not None
        assert any("listening" in line for line in tcpdump.stderr)
        try:
            yield lines
        finally:
            tcpdump.terminate()
            lines += tcpdump.stdout.readlines()


GRE = pytest.param(
    "gre",
    marks=pytest.mark.skipif(
        not switches.ON_OPEN_VSWITCH and not switches.kernel_has("gretap"), reason="the kernel has no GRE"
    ),
)


@pytest.mark.parametrize("protocol", [GRE, "vxlan"])
def test_guests_of_two_hosts_meet_in_a_tunnel(lab: RunningLab, protocol: str) -> None:
    made = {host: make(lab, host, protocol) for host in HOSTS}
    vms = {}
    for number, host in enumerate(HOSTS, 1):
        vms[host] = lab.start_vm(host, f"{protocol}{number}", made[host][0], f"192.0.2.{number}/24")
    with captured(lab, "host2", "eth1", OUTER[protocol]) as lines:
        eventually(lambda: lab.pings(f"{protocol}1", "192.0.2.2"))
    assert any("10.88.0.1" in line and "10.88.0.2" in line for line in lines), lines
    mtu = str(1500 - HEADERS_BYTES[protocol])
    assert lab.xe("host1", "pif-param-get", f"uuid={made['host1'][1]}", "param-name=MTU") == mtu
    full = str(1500 - HEADERS_BYTES[protocol] - 28)
    words = ("ping", "-n", "-c", "2", "-W", "2", "-M", "do", "-s", full, "192.0.2.2")
    eventually(lambda: " 0% packet loss" in lab.guest(f"{protocol}1", *words, check=False))
    for host in HOSTS:
        lab.xe(host, "vm-shutdown", f"uuid={vms[host]}", "--force")
        lab.xe(host, "tunnel-destroy", f"uuid={tunnel_of(lab, host, made[host][1])}")
        left = {bridge for bridge in switches.bridges(lab, host) if bridge.startswith("xapi")}
        assert left == set()
