"""Leases from a real DHCP server in the lab's switch: they come, stay, change and go, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poolnet.lab import life
from tests.lab.running import BACKEND, RunningLab, lab_to_share
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"
BRIDGE = "xenbr1"
ROUTER = "10.77.0.1"
NAME_SERVER = "10.77.0.53"
LEASE_S = 120  # the shortest that the server gives


class Server:
    """A DHCP server on the lab's switch, in the network of its own port."""

    def __init__(self, lab: RunningLab, directory: Path) -> None:
        self._lab = lab
        self._leases = directory / "leases"
        self._log = directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, addresses: str = "10.77.0.50,10.77.0.60,255.255.255.0", *options: str) -> None:
        """Starts it, with these addresses: first, last and mask, or a network and `static`."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                (
                    *network_of(self._lab.lab.switch_pid),
                    *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"),
                    "--pid-file=",
                    *("--interface=switch0", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"),
                    f"--dhcp-range={addresses},{LEASE_S}",
                    *(f"--dhcp-option=option:dns-server,{NAME_SERVER}", "--domain=example.org"),
                    *(f"--dhcp-leasefile={self._leases}", "--log-facility=-", *options),
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Ends it; its leases are kept."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def forget(self) -> None:
        """Forgets its leases; it must be stopped."""
        self._leases.unlink(missing_ok=True)

    def said(self, words: str) -> int:
        """How many lines of its log have these words."""
        return sum(words in line for line in self._log.read_text(encoding="utf-8").splitlines())


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host, and a second network on the switch."""
    with lab_to_share(hosts=1) as one:
        one.run("switch", "ip", "address", "replace", f"{ROUTER}/24", "dev", "switch0")
        yield one


@pytest.fixture
def server(lab: RunningLab, tmp_path: Path) -> Iterator[Server]:
    """A server that is not started yet; afterwards eth1 is as it was."""
    one = Server(lab, tmp_path)
    try:
        yield one
    finally:
        one.stop()
        reconfigure(lab, "mode=none")
        lab.xe(HOST, "pif-unplug", f"uuid={eth1(lab)}")


def network_of(pid: int) -> tuple[str, ...]:
    """The words before a command that is to run in that network; no process between."""
    return ("nsenter", "--target", str(pid), "--net", "--")


def eth1(lab: RunningLab) -> str:
    """The uuid of its PIF."""
    return lab.xe(HOST, "pif-list", "device=eth1", "params=uuid", "--minimal")


def reconfigure(lab: RunningLab, *words: str) -> None:
    """Gives eth1 another configuration."""
    lab.xe(HOST, "pif-reconfigure-ip", f"uuid={eth1(lab)}", *words)


def ask_for_lease(lab: RunningLab) -> None:
    """eth1 is plugged, and asks."""
    reconfigure(lab, "mode=dhcp")
    lab.xe(HOST, "pif-plug", f"uuid={eth1(lab)}")


def param(lab: RunningLab, name: str) -> str:
    """What xe shows of eth1."""
    return lab.xe(HOST, "pif-param-get", f"uuid={eth1(lab)}", f"param-name={name}")


def addresses(lab: RunningLab, bridge: str = BRIDGE) -> list[str]:
    """What the kernel has."""
    return lab.run(HOST, "ip", "-4", "-br", "address", "show", bridge, check=False).split()[2:]


def client(lab: RunningLab) -> int:
    """The DHCP client's PID inside the host; 0 when there is none."""
    text = lab.run(HOST, "cat", f"/run/poolnet/dhcp/{BRIDGE}.client", check=False)
    return int(json.loads(text)["pid"]) if text else 0


def clients(lab: RunningLab) -> list[str]:
    """Every process of a DHCP client, with its PID."""
    return lab.run(HOST, "pgrep", "-a", "dhcpcd", check=False).splitlines()


def leased(lab: RunningLab) -> str:
    """The address, once it has come."""
    eventually(lambda: param(lab, "IP") != "")
    return param(lab, "IP")


@contextmanager
def never_without(lab: RunningLab, address: str) -> Iterator[None]:
    """The address must not leave the bridge meanwhile."""
    words = (*network_of(lab.lab.host(HOST).pid), "ip", "-o", "-4", "monitor", "address", "dev", BRIDGE)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as monitor:
        try:
            yield
        finally:
            monitor.terminate()
        assert monitor.stdout is not None
        assert [line for line in monitor.stdout if "Deleted" in line] == []
    assert addresses(lab) == [f"{address}/24"]


def test_a_lease_shows_in_xe_with_gateway_and_dns_where_they_are_wanted(
    lab: RunningLab, server: Server
) -> None:
    server.start()
    ask_for_lease(lab)
    address = leased(lab)
    assert address.startswith("10.77.0.")
    assert param(lab, "netmask") == "255.255.255.0"
    assert addresses(lab) == [f"{address}/24"]
    assert (param(lab, "gateway"), param(lab, "DNS")) == ("", "")  # the management interface has them
    assert server.said(f"{address} {param(lab, 'MAC')} {HOST}") > 0  # it says its name
    lab.run("switch", "ping", "-c", "1", "-W", "2", address)
    for key in ("defaultroute", "peerdns"):
        lab.xe(HOST, "pif-param-set", f"uuid={eth1(lab)}", f"other-config:{key}=true")
    reconfigure(lab, "mode=dhcp")
    eventually(lambda: (param(lab, "gateway"), param(lab, "DNS")) == (ROUTER, NAME_SERVER))
    assert param(lab, "IP") == address
    assert f"default via {ROUTER} dev {BRIDGE}" in lab.run(HOST, "ip", "route")
    resolv_conf = lab.run(HOST, "cat", "/etc/resolv.conf")
    assert resolv_conf == f"search example.org\nnameserver {NAME_SERVER}\n"
    lab.run(HOST, "sh", "-c", "echo nameserver 198.51.100.1 >/etc/resolv.conf")
    eventually(lambda: lab.run(HOST, "cat", "/etc/resolv.conf") == resolv_conf)
    for key in ("defaultroute", "peerdns"):
        lab.xe(HOST, "pif-param-remove", f"uuid={eth1(lab)}", "param-name=other-config", f"param-key={key}")
    reconfigure(lab, "mode=dhcp")
    assert f"default via {lab.lab.gateway}" in lab.run(HOST, "ip", "route")
    assert addresses(lab) == [f"{address}/24"]


def test_a_lease_is_renewed_and_the_address_stays(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    address = leased(lab)
    acknowledged = server.said("DHCPACK")
    with never_without(lab, address):
        lab.run(HOST, "kill", "-USR1", str(client(lab)))
        eventually(lambda: server.said("DHCPACK") > acknowledged)
        report = ("cat", f"/run/poolnet/dhcp/{BRIDGE}.report")
        eventually(lambda: "reason=RENEW" in lab.run(HOST, *report).split("\0"))
    assert param(lab, "IP") == address


def test_a_silent_server_holds_nothing_up(lab: RunningLab, server: Server) -> None:
    began = time.monotonic()
    ask_for_lease(lab)
    assert time.monotonic() - began < 10
    assert param(lab, "currently-attached") == "true"
    assert (param(lab, "IP"), addresses(lab)) == ("", [])
    server.start()
    leased(lab)


def test_an_address_that_the_server_takes_back_goes(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    before = leased(lab)
    server.stop()
    server.forget()
    server.start("10.77.0.100,10.77.0.110,255.255.255.0")
    lab.run(HOST, "kill", "-KILL", str(client(lab)))
    eventually(lambda: param(lab, "IP").startswith("10.77.0.1"))
    assert addresses(lab) == [f"{param(lab, 'IP')}/24"]
    assert f"{before}/" not in lab.run(HOST, "ip", "address")


def test_client_and_lease_outlive_the_host_daemon(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    address, process = leased(lab), client(lab)
    with never_without(lab, address):
        before = int(lab.run(HOST, "pgrep", "-f", "bin/poolnet-hostd"))
        lab.run(HOST, "kill", "-KILL", str(before))
        eventually(
            lambda: (
                lab.run(HOST, "pgrep", "-f", "bin/poolnet-hostd", check=False).strip()
                not in {"", str(before)}
            )
        )
        assert client(lab) == process
        lab.run(HOST, "kill", "-KILL", str(process))
        eventually(lambda: client(lab) != process)  # the new daemon heard of its end
        assert not [line for line in clients(lab) if line.startswith(f"{process} ")]
        reconfigure(lab, "mode=dhcp")
    assert leased(lab) == address


@pytest.mark.skipif(BACKEND == "linuxbridge", reason="the kernel is the switch, and does not die")
def test_a_lease_outlives_the_switch(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    address, acknowledged = leased(lab), server.said("DHCPACK")
    with never_without(lab, address):
        lab.run(HOST, "pkill", "-KILL", "ovs-vswitchd")
        eventually(
            lambda: server.said("DHCPACK") > acknowledged
        )  # the client asks whether it is still in its network
        lab.run("switch", "ping", "-c", "1", "-W", "2", address)
    assert param(lab, "IP") == address


def test_static_and_none_end_the_client(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    leased(lab)
    reconfigure(lab, "mode=static", "IP=10.77.0.9", "netmask=255.255.255.0")
    assert addresses(lab) == ["10.77.0.9/24"]
    assert (param(lab, "IP"), client(lab), clients(lab)) == ("10.77.0.9", 0, [])
    reconfigure(lab, "mode=dhcp")
    assert addresses(lab) == []
    leased(lab)
    reconfigure(lab, "mode=none")
    assert (param(lab, "IP"), addresses(lab), client(lab), clients(lab)) == ("", [], 0, [])


def test_unplugging_ends_the_client(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    leased(lab)
    lab.xe(HOST, "pif-unplug", f"uuid={eth1(lab)}")
    assert (client(lab), clients(lab)) == (0, [])
    lab.xe(HOST, "pif-plug", f"uuid={eth1(lab)}")
    leased(lab)


def test_a_host_that_reboots_gets_its_address_again(lab: RunningLab, server: Server) -> None:
    server.start()
    ask_for_lease(lab)
    address = leased(lab)
    asyncio.run(life.reboot(lab.name, HOST, hard=True))
    eventually(lambda: addresses(lab) == [f"{address}/24"])
    eventually(lambda: param(lab, "IP") == address)


def test_the_management_interface_gets_its_first_address_by_dhcp(lab: RunningLab, server: Server) -> None:
    host = lab.lab.host(HOST)
    mac = next(nic.mac for nic in host.nics if nic.name == "eth0")
    network = host.address.rpartition(".")[0]
    server.start(f"{network}.0,static,255.255.255.0", f"--dhcp-host={mac},{host.address}")
    configuration = lab.lab.directory / HOST / "etc/poolnet/hostd.toml"
    text = configuration.read_text(encoding="utf-8").partition("[management]")[0]
    configuration.write_text(f'{text}[management]\nnic = "eth0"\nmode = "dhcp"\n', encoding="utf-8")
    state = "/var/lib/poolnet/hostd /var/lib/poolnet/api/pool.db* /var/lib/openvswitch/conf.db"
    lab.run(HOST, "sh", "-c", f"rm -r {state}")
    asyncio.run(life.reboot(lab.name, HOST, hard=True))  # waits until its API answers, at that address
    assert addresses(lab, "xenbr0") == [f"{host.address}/24"]
    eventually(lambda: lab.xe(HOST, "host-list", "params=address", "--minimal") == host.address)
    management = ("pif-list", "management=true", "--minimal")
    assert lab.xe(HOST, *management, "params=IP-configuration-mode") == "DHCP"
    assert lab.xe(HOST, *management, "params=IP") == host.address
