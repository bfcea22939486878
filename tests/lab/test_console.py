"""What somebody at a host's console can do when nobody reaches it, and what a host does without its API server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from poolnet.lab import life, machine
from tests.lab import survival, switches
from tests.lab.running import RunningLab, lab_to_share
from tests.lab.test_dhcp import Server
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host, and a second network on the switch for leases."""
    with lab_to_share(hosts=1) as one:
        one.run("switch", "ip", "address", "replace", "10.77.0.1/24", "dev", "switch0")
        one.xe(HOST, "pif-plug", f"uuid={pif(one, 'eth1')}")
        yield one


def on_console(lab: RunningLab, *words: str) -> tuple[int, str, str]:
    """How a command on the console ends, and what it prints."""
    command = (*machine.entering(lab.lab.host(HOST).pid), *words)
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def is_reached(lab: RunningLab) -> bool:
    """Whether a machine in the management network reaches the host."""
    words = ("ping", "-n", "-c", "1", "-W", "1", lab.lab.host(HOST).address)
    return " 0% packet loss" in lab.run("switch", *words, check=False)


def pif(lab: RunningLab, device: str) -> str:
    """The uuid of a PIF."""
    return lab.xe(HOST, "pif-list", f"device={device}", "params=uuid", "--minimal")


@pytest.mark.parametrize("how", ["soft", "hard"])
def test_a_host_boots_with_its_network_and_no_api_server(lab: RunningLab, how: str) -> None:
    masked = lab.lab.directory / HOST / life.MASKED
    made = lab.xe(HOST, "network-create", f"name-label={how}")
    lab.xe(HOST, "vlan-create", f"pif-uuid={pif(lab, 'eth1')}", f"network-uuid={made}", "vlan=55")
    masked.touch()
    try:
        survival.reboot(lab, HOST, hard=how == "hard")
        eventually(lambda: is_reached(lab), "management answers")
        assert not survival.pid_of(lab, HOST, "poolnet-api")
        assert 55 in switches.tags(lab, HOST)
        assert on_console(lab, "poolnet", "host-reset-network", "--to", "last-good")[0] == 0
    finally:
        masked.unlink()
        survival.reboot(lab, HOST, hard=False)
    (vlan,) = lab.xe(HOST, "vlan-list", "--minimal").split(",")
    lab.xe(HOST, "vlan-destroy", f"uuid={vlan}")


def test_the_last_good_network_is_restored_from_whatever_is_there(lab: RunningLab) -> None:
    address = lab.lab.host(HOST).address
    words = ("mode=static", "IP=10.99.0.9", "netmask=255.255.255.0")
    command = ("xe", "pif-reconfigure-ip", f"uuid={pif(lab, 'eth0')}", *words, "--confirm-within=60")
    with survival.running((*machine.entering(lab.lab.host(HOST).pid), *command)) as changing:
        eventually(lambda: "10.99.0.9" in lab.run(HOST, "ip", "address"), "it is switched")
        survival.stop(lab, HOST, "poolnet-api")  # nobody will ever confirm or revert it
        status, out, err = on_console(lab, "poolnet", "host-reset-network", "--to", "last-good")
        assert (status, err) == (0, "")
        assert out == f"The last confirmed network is restored: management on xenbr0, {address}/24.\n"
        assert is_reached(lab)
        survival.resume(lab, HOST, "poolnet-api")
        changing.wait(30)
    survival.wait_until_served(lab, HOST)
    assert lab.xe(HOST, "host-list", "params=address", "--minimal") == address


def test_a_host_that_is_not_reached_even_so_is_told_why(lab: RunningLab) -> None:
    survival.poolnet(lab, "link", HOST, "eth0", "down")
    try:
        status, _, err = on_console(lab, "poolnet", "host-reset-network")
        assert status == 1
        assert "the host cannot be reached: xenbr0 has no link: nothing is connected to eth0" in err
    finally:
        survival.poolnet(lab, "link", HOST, "eth0", "up")
    eventually(lambda: is_reached(lab), "the cable is in")


def test_where_the_daemon_does_not_run_the_way_by_hand_is_said(lab: RunningLab) -> None:
    own, gateway = lab.lab.host(HOST).address, lab.lab.gateway
    hidden = "/run/poolnet/hostd.sock.hidden"
    lab.run(HOST, "mv", "/run/poolnet/hostd.sock", hidden)
    try:
        status, out, err = on_console(lab, "poolnet", "host-reset-network", "--to", "last-good")
    finally:
        lab.run(HOST, "mv", hidden, "/run/poolnet/hostd.sock")
    assert (status, out) == (1, "")
    assert "    systemctl restart poolnet-hostd\n" in err
    assert f"    ip address add {own}/24 dev eth0\n" in err
    assert f"    ip route replace default via {gateway} dev eth0\n" in err


def test_management_comes_back_by_the_name_of_its_bridge(lab: RunningLab) -> None:
    words = ("host-emergency-management-reconfigure", "interface=xenbr0")
    status, _, err = on_console(lab, "xe", *words)
    assert status == 1
    assert "emergency" in err
    lab.xe(HOST, "host-management-disable")
    lab.xe(HOST, *words)
    assert lab.xe(HOST, "host-list", "params=address", "--minimal") == lab.lab.host(HOST).address
    eventually(lambda: survival.serves(lab, HOST), "the API listens again")


def test_a_new_name_is_known_to_database_kernel_disk_and_dhcp_server(lab: RunningLab, tmp_path: Path) -> None:
    host = lab.xe(HOST, "host-list", "--minimal")
    server = Server(lab, tmp_path)
    server.start()
    try:
        mac = lab.xe(HOST, "pif-param-get", f"uuid={pif(lab, 'eth1')}", "param-name=MAC")
        lab.xe(HOST, "pif-reconfigure-ip", f"uuid={pif(lab, 'eth1')}", "mode=dhcp")
        eventually(lambda: server.said(f"{mac} {HOST}") > 0, "the server knows the old name", 30.0)
        lab.xe(HOST, "host-set-hostname-live", f"host-uuid={host}", "host-name=renamed.example")
        assert lab.xe(HOST, "host-param-get", f"uuid={host}", "param-name=hostname") == "renamed.example"
        assert lab.run(HOST, "hostname").strip() == "renamed.example"
        assert lab.run(HOST, "cat", "/etc/hostname") == "renamed.example\n"
        eventually(lambda: server.said(f"{mac} renamed") > 0, "the server knows the new name", 30.0)
        status, _, err = on_console(
            lab, "xe", "host-set-hostname-live", f"host-uuid={host}", f"host-name={'a' * 65}"
        )
        assert status == 1
        assert "hostname is too long" in err
        survival.reboot(lab, HOST, hard=True)
        assert lab.run(HOST, "hostname").strip() == "renamed.example"
    finally:
        lab.xe(HOST, "host-set-hostname-live", f"host-uuid={host}", f"host-name={HOST}")
        lab.xe(HOST, "pif-reconfigure-ip", f"uuid={pif(lab, 'eth1')}", "mode=none")
        server.stop()
