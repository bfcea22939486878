"""Every `poolnet lab` command, as a user gives it, on a lab of two hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from poolnet.lab.state import LABS, load
from tests.lab.running import MADE, RunningLab, running_lab
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

POOLNET = str(Path(sys.executable).with_name("poolnet"))
LIST_METHODS = b"<methodCall><methodName>system.listMethods</methodName><params/></methodCall>"


def poolnet(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (POOLNET, *words), check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )


def lab_command(lab: RunningLab, action: str, *words: str) -> str:
    done = poolnet("lab", action, "--name", lab.name, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def serves(url: str, timeout_s: float = 3.0) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, LIST_METHODS), timeout=timeout_s) as answer:
            return b"VLAN.create" in answer.read()
    except OSError:
        return False


def test_info_says_what_scripts_rest_on(lab: RunningLab) -> None:
    info = json.loads(lab_command(lab, "info"))
    assert list(info) == ["name", "backend", "hosts"]
    assert (info["name"], info["backend"], len(info["hosts"])) == (lab.name, "openvswitch", 2)
    keys = ["name", "address", "api_url", "plain_url", "xe_socket", "username", "password", "nics"]
    for host in info["hosts"]:
        assert list(host) == keys
        assert [list(nic) for nic in host["nics"]] == [["name", "mac", "switch_port"]] * 2
        assert host["api_url"].startswith("https://127.0.0.1:")
        assert Path(host["xe_socket"]).is_socket()
        assert serves(host["plain_url"])


def test_exec_is_the_hosts_console(lab: RunningLab) -> None:
    assert lab_command(lab, "exec", "host2", "--", "hostname") == "host2\n"
    assert (
        lab_command(lab, "exec", "host2", "--", "xe", "host-list", "params=name-label", "--minimal")
        == "host2\n"
    )
    done = poolnet("lab", "exec", "--name", lab.name, "host1", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert (
        "has no host host9; it has host1, host2" in poolnet("lab", "exec", "--name", lab.name, "host9").stderr
    )


def test_link_takes_the_carrier_and_gives_it_back(lab: RunningLab) -> None:
    lab.run("host1", "ip", "link", "set", "eth1", "up")
    lab_command(lab, "link", "host1", "eth1", "down")
    assert "NO-CARRIER" in lab.run("host1", "ip", "link", "show", "eth1")
    lab_command(lab, "link", "host1", "eth1", "up")
    assert "LOWER_UP" in lab.run("host1", "ip", "link", "show", "eth1")


def test_cables_are_bundled_to_a_lag_and_separated(lab: RunningLab) -> None:
    lab_command(lab, "nic-add", "host1", "eth5")
    try:
        lab_command(lab, "bundle", "host1", "eth1", "eth5")
        show = lab.run("switch", "ovs-appctl", "bond/show", "host1-eth1-lag")
        assert ("member host1-eth1:" in show, "member host1-eth5:" in show) == (True, True)
        assert "lacp_fallback_ab: true" in show
        for words, reason in (
            (("bundle", "host1", "eth1"), "a LAG has at least two cables"),
            (("bundle", "host1", "eth0", "eth5"), "eth5 of host host1 is in a LAG"),
            (("bundle", "host1", "eth0", "eth9"), "has no NIC eth9"),
            (("separate", "host1", "eth0"), "eth0 of host host1 is in no LAG"),
        ):
            assert reason in poolnet("lab", words[0], "--name", lab.name, *words[1:]).stderr
        lab_command(lab, "separate", "host1", "eth5")
        lab_command(lab, "bundle", "host1", "eth5", "eth1", "--no-fallback")
        assert "lacp_fallback_ab: false" in lab.run("switch", "ovs-appctl", "bond/show", "host1-eth5-lag")
    finally:
        lab_command(lab, "nic-remove", "host1", "eth5")
    assert "host1-eth1" in lab.run("switch", "ovs-vsctl", "list-ports", "switch0").split()
    assert "has no NIC eth5" in poolnet("lab", "separate", "--name", lab.name, "host1", "eth5").stderr


def test_whoever_is_asked_answers_once(lab: RunningLab) -> None:
    """A switch in user space leaves to the kernel what it reads from a NIC; only one of them may answer."""
    for asker, asked in (("switch", lab.lab.host("host1").address), ("host1", lab.lab.gateway)):
        said = lab.run(asker, "ping", "-n", "-c", "5", "-i", "0.1", asked)
        assert (" 5 received" in said, "duplicates" in said) == (True, False)


def test_a_nic_is_added_and_removed(lab: RunningLab) -> None:
    lab_command(lab, "nic-add", "host1", "eth5")
    assert "eth5" in lab.run("host1", "ls", "/sys/class/net")
    assert "host1-eth5" in lab.run("switch", "ovs-vsctl", "list-ports", "switch0")
    assert "has a NIC eth5 already" in poolnet("lab", "nic-add", "--name", lab.name, "host1", "eth5").stderr
    lab_command(lab, "nic-remove", "host1", "eth5")
    assert "eth5" not in lab.run("host1", "ls", "/sys/class/net")
    assert "has no NIC eth5" in poolnet("lab", "nic-remove", "--name", lab.name, "host1", "eth5").stderr


def test_a_partition_cuts_the_host_off_and_heal_mends_it(lab: RunningLab) -> None:
    info = json.loads(lab_command(lab, "info"))
    url = info["hosts"][0]["plain_url"]
    lab_command(lab, "partition", "host1")
    assert not serves(url)
    assert " 0 received" in lab.run("host2", "ping", "-c1", "-W1", info["hosts"][0]["address"], check=False)
    assert lab.xe("host1", "host-list", "params=name-label", "--minimal") == "host1"
    lab_command(lab, "heal", "host1")
    assert serves(url)
    ping = ("ping", "-c1", "-W2", info["hosts"][0]["address"])  # ARP may be about to give up just now
    eventually(lambda: " 1 received" in lab.run("host2", *ping, check=False), "host1 answers host2")


@pytest.mark.parametrize("options", [(), ("--hard",)])
def test_a_reboot_keeps_what_is_on_the_disk_and_ends_the_guests(
    lab: RunningLab, options: tuple[str, ...]
) -> None:
    name = f"reboot{len(options)}"
    network = lab.xe("host1", "network-create", f"name-label={name}")
    vm = lab.start_vm("host1", name, network, "10.9.0.1/24")
    boot_id = lab.run("host1", "cat", "/proc/sys/kernel/random/boot_id")
    lab_command(lab, "reboot", "host1", *options)
    assert lab.run("host1", "cat", "/proc/sys/kernel/random/boot_id") != boot_id
    assert lab.xe("host1", "network-list", f"name-label={name}", "params=uuid", "--minimal") == network
    assert lab.xe("host1", "vm-param-get", f"uuid={vm}", "param-name=power-state") == "halted"
    assert serves(json.loads(lab_command(lab, "info"))["hosts"][0]["plain_url"])
    lab.xe("host1", "vm-start", f"uuid={vm}")
    assert lab_command(lab, "guest-exec", vm, "--", "hostname").strip() == name
    lab.xe("host1", "vm-shutdown", f"uuid={vm}", "force=true")


def test_guest_exec_finds_a_vm_by_uuid_and_by_its_present_name(lab: RunningLab) -> None:
    network = lab.xe("host2", "network-create", "name-label=console")
    vm = lab.start_vm("host2", "named", network, "10.8.0.1/24")
    assert "10.8.0.1" in lab_command(lab, "guest-exec", vm, "--", "ip", "address")
    lab.xe("host2", "vm-param-set", f"uuid={vm}", "name-label=renamed")
    assert "10.8.0.1" in lab_command(lab, "guest-exec", "renamed", "--", "ip", "address")
    assert (
        "runs a VM nobody" in poolnet("lab", "guest-exec", "--name", lab.name, "nobody", "--", "true").stderr
    )
    lab.xe("host2", "vm-shutdown", f"uuid={vm}", "force=true")


def test_capture_shows_frames_at_a_vif(lab: RunningLab) -> None:
    network = lab.xe("host2", "network-create", "name-label=wire")
    lab.start_vm("host2", "wire1", network, "10.7.0.1/24")
    lab.start_vm("host2", "wire2", network, "10.7.0.2/24")
    vif = lab.xe("host2", "vif-list", "vm-name-label=wire2", "params=uuid", "--minimal")
    words = (POOLNET, "lab", "capture", "--name", lab.name, "host2", vif, "--", "-c", "1", "icmp")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as capture:
        assert capture.stderr is not None
        assert any("listening on" in line for line in capture.stderr)
        assert lab.pings("wire1", "10.7.0.2")
        out, _err = capture.communicate(timeout=10)
    assert "10.7.0.1 > 10.7.0.2: ICMP echo request" in out


def test_each_host_has_as_many_nics_as_were_asked_for() -> None:
    name = f"n{os.getpid() % 1_000_000}"
    try:
        done = poolnet("lab", "up", "--name", name, "--nics", "3,1")
        assert done.returncode == 0, done.stderr
        MADE.note(load(name))
        one = RunningLab(name)
        for host, nics in (("host1", ["eth0", "eth1", "eth2"]), ("host2", ["eth0"])):
            listed = one.run(host, "sh", "-c", "ls /sys/class/net").split()
            assert [nic for nic in listed if nic.startswith("eth")] == nics
            pifs = one.xe(host, "pif-list", "params=device", "--minimal").split(",")
            assert sorted(pifs) == nics
    finally:
        assert poolnet("lab", "down", "--name", name).returncode == 0


def test_labs_stand_side_by_side_and_one_that_crashed_is_removed(lab: RunningLab) -> None:
    with running_lab(hosts=1, nics=1) as other:
        assert other.lab.network != lab.lab.network
        again = poolnet("lab", "up", "--name", other.name, "--hosts", "1")
        assert again.returncode == 1
        assert f"lab {other.name} is up" in again.stderr
        subprocess.run(("kill", "-9", str(other.lab.switch_pid)), check=True)
        other.run("host1", "sh", "-c", "kill -9 $(pgrep -f poolnet-api)", check=False)
        assert poolnet("lab", "down", "--name", other.name).returncode == 0
        assert not (LABS / other.name).exists()
        assert poolnet("lab", "down", "--name", other.name).returncode == 0
    assert serves(json.loads(lab_command(lab, "info"))["hosts"][1]["plain_url"])


def test_wrong_words_are_refused_with_the_reason() -> None:
    assert "there is no lab nowhere" in poolnet("lab", "info", "--name", "nowhere").stderr
    assert "is no name for a lab" in poolnet("lab", "down", "--name", "../etc").stderr
    assert "1 to 64 hosts" in poolnet("lab", "up", "--name", "none", "--hosts", "0").stderr
    assert "2 numbers of NICs for 3 hosts" in (
        poolnet("lab", "up", "--name", "none", "--hosts", "3", "--nics", "4,2").stderr
    )
    for nics in ("0", "4,17", "4,-1"):
        assert "a host of a lab has 1 to 16 NICs" in (
            poolnet("lab", "up", "--name", "none", f"--nics={nics}").stderr
        )
    for nics in ("", "4,", "many"):
        assert poolnet("lab", "up", "--name", "none", f"--nics={nics}").returncode == 2
    assert poolnet("lab").returncode == 2
