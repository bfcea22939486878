"""VMs go to another host of a pool while they run: with MAC, addresses, lock and limit, never at both, and nothing leaks."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from poolnet.lab import machine
from tests.lab.pools import host_uuid, with_address, xe
from tests.lab.running import RunningLab, running_lab
from tests.lab.trains import Capture, in_guest
from tests.waiting import eventually, listens

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2")
SETTLED_S = 90.0  # a host whose daemon died is found, told and brought in step; what waits there stands still meanwhile


@pytest.fixture(scope="module")
def pool() -> Iterator[RunningLab]:
    """Two hosts in one pool, with a locked VM and one that it talks to on the network of `eth1`."""
    with running_lab(hosts=2, nics=2, pool=True) as lab:
        network = lab.xe(
            "host1", "pif-list", "host-name-label=host1", "device=eth1", "params=network-uuid", "--minimal"
        )
        for number, name in enumerate(("mover", "peer"), 1):
            with_address(lab, "host1", name, network, f"10.7.0.{number}/24")
        lab.guest("mover", "ip", "address", "add", "10.7.0.66/24", "dev", "eth0")
        lab.guest("mover", "ip", "route", "add", "10.99.0.0/24", "via", "10.7.0.2")
        vif = vif_of(lab, "mover")
        for words in (
            "locking-mode=locked",
            "ipv4-allowed=10.7.0.1",
            "qos_algorithm_type=ratelimit",
            "qos_algorithm_params:kbps=300",
        ):
            lab.xe("host1", "vif-param-set", f"uuid={vif}", words)
        yield lab


def vif_of(lab: RunningLab, vm: str) -> str:
    return lab.xe("host1", "vif-list", f"vm-name-label={vm}", "--minimal")


def where(lab: RunningLab, vm: str) -> str:
    """The host that the database says."""
    uuid = lab.xe("host1", "vm-list", f"name-label={vm}", "params=resident-on", "--minimal")
    return lab.xe("host1", "host-list", f"uuid={uuid}", "params=name-label", "--minimal")


def guests_on(lab: RunningLab, host: str) -> dict[str, str]:
    """The guests that a host has, and their states, as its daemon has them."""
    records = (lab.lab.directory / host / "run/poolnet/guests").glob("*.json")
    guests = [json.loads(path.read_text()) for path in records]
    return {guest["name"]: guest["state"] for guest in guests}


def vifs_on(lab: RunningLab, host: str) -> set[str]:
    listed = lab.run(host, "ip", "-brief", "link").splitlines()
    return {line.split()[0].partition("@")[0] for line in listed if line.startswith("vif")}


def require_once(lab: RunningLab, vm: str) -> None:
    """The guest is where the database says, runs, and is nowhere else."""
    here = where(lab, vm)
    (there,) = (host for host in HOSTS if host != here)
    eventually(lambda: guests_on(lab, here).get(vm) == "running", f"{vm} runs on {here}", SETTLED_S)
    eventually(lambda: vm not in guests_on(lab, there), f"nothing of {vm} is on {there}", SETTLED_S)


def test_it_keeps_mac_addresses_routes_lock_and_limit(pool: RunningLab) -> None:
    def inside() -> tuple[str, ...]:
        link = pool.guest("mover", "cat", "/sys/class/net/eth0/address")
        addresses = pool.guest("mover", "ip", "-4", "-brief", "address", "show", "dev", "eth0").split()[2:]
        return (
            link,
            *sorted(addresses),
            pool.guest("mover", "ip", "route", "get", "10.99.0.1").split(" src")[0],
        )

    before = inside()
    for host in ("host2", "host1", "host2"):
        pool.xe("host1", "vm-migrate", "vm=mover", f"host={host}")
        assert where(pool, "mover") == host
        require_once(pool, "mover")
        assert inside() == before
        eventually(lambda: pool.pings("peer", "10.7.0.1"), "it answers", 10.0)
    assert vifs_on(pool, "host1") == {vif for vif in vifs_on(pool, "host1") if vif.endswith(".0")}
    assert len(vifs_on(pool, "host1")) == 1, "only the other VM's is left"
    verdict = pool.xe("host1", "vif-lock-verify", f"uuid={vif_of(pool, 'mover')}")
    assert ": proved" in verdict.splitlines()[0]
    assert pool.xe(
        "host1", "vif-param-get", f"uuid={vif_of(pool, 'mover')}", "param-name=qos_algorithm_params"
    ) == ("kbps: 300")


def test_one_whose_lock_lets_it_say_nothing_is_found_at_once_on_linux_bridges() -> None:
    """The bridge that it comes to has heard it beyond its own NIC so far, and keeps to that for minutes."""
    with running_lab(hosts=2, nics=2, backend="linuxbridge", pool=True) as lab:
        words = ("host-name-label=host1", "device=eth1", "params=network-uuid", "--minimal")
        network = lab.xe("host1", "pif-list", *words)
        for number, name in enumerate(("mover", "peer"), 1):
            with_address(lab, "host1", name, network, f"10.7.0.{number}/24")
        for setting in ("locking-mode=locked", "ipv4-allowed=10.7.0.1"):
            lab.xe("host1", "vif-param-set", f"uuid={vif_of(lab, 'mover')}", setting)
        assert lab.pings("peer", "10.7.0.1")
        for host in ("host2", "host1"):
            lab.xe("host1", "vm-migrate", "vm=mover", f"host={host}")
            require_once(lab, "mover")
            eventually(lambda: lab.pings("peer", "10.7.0.1"), f"it answers on {host}", 10.0)


def test_what_its_lock_stops_is_stopped_on_the_way_too(pool: RunningLab) -> None:
    """Frames from an address that is not its own, sent all the time: nobody hears one, whatever host it is on."""
    script = "while :; do ping -c1 -W1 -I 10.7.0.66 10.7.0.2 >/dev/null 2>&1; done"
    attackers: list[subprocess.Popen[bytes]] = []
    try:
        with Capture(in_guest(pool.lab, "peer"), "eth0", "host", "10.7.0.66") as heard:
            for host in ("host1", "host2", "host1"):
                words = (*in_guest(pool.lab, "mover"), "sh", "-c", script)
                attackers.append(subprocess.Popen(words, start_new_session=True))
                pool.xe("host1", "vm-migrate", "vm=mover", f"host={host}")
                eventually(lambda: pool.pings("peer", "10.7.0.1"), "it answers", 10.0)
    finally:
        for attacker in attackers:  # what they run in the guest ends with it, but for the last
            os.killpg(attacker.pid, signal.SIGKILL)
            attacker.wait()
    assert not re.search(r"10\.7\.0\.66 [>t]", heard.output), heard.output
    require_once(pool, "mover")


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_daemon_that_is_killed_meanwhile_leaves_it_whole(pool: RunningLab, host: str) -> None:
    for delay_s in (0.0, 0.15, 0.3):
        target = "host2" if where(pool, "mover") == "host1" else "host1"
        words = (
            *machine.entering(pool.lab.host("host1").pid),
            "xe",
            "vm-migrate",
            "vm=mover",
            f"host={target}",
        )
        moving = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.1 + delay_s)  # how far it comes is chance: each must end well
        daemon = pool.run(host, "pgrep", "-o", "-f", "(bin/|^)poolnet-hostd", check=False).split()
        for pid in daemon[:1]:
            pool.run(host, "kill", "-9", pid, check=False)
        failed = moving.wait(90) != 0
        eventually(lambda: listens(pool.lab.directory / host / "run/poolnet/hostd.sock"), "it does not start")
        assert (where(pool, "mover") == target) != failed, "what was told is so"
        require_once(pool, "mover")
        eventually(lambda: pool.pings("peer", "10.7.0.1"), "it answers")


def test_a_disabled_host_is_evacuated(pool: RunningLab) -> None:
    here = where(pool, "peer")
    other = "host2" if here == "host1" else "host1"
    for vm in ("mover", "peer"):
        pool.xe("host1", "vm-migrate", f"vm={vm}", f"host={here}")
    pool.xe("host1", "host-disable", f"host={other}")
    code, text = xe(pool, "host1", "host-evacuate", f"host={here}")
    assert code == 1
    assert "no" in text.lower()
    prevented = pool.xe("host1", "host-get-vms-which-prevent-evacuation", f"uuid={host_uuid(pool, here)}")
    assert prevented.count("NO_HOSTS_AVAILABLE") == 2
    pool.xe("host1", "host-enable", f"host={other}")
    pool.xe("host1", "host-disable", f"host={here}")
    pool.xe("host1", "host-evacuate", f"host={here}")
    assert {where(pool, vm) for vm in ("mover", "peer")} == {other}
    assert vifs_on(pool, here) == set()
    eventually(lambda: pool.pings("peer", "10.7.0.1"), "it answers", 10.0)
    code, text = xe(pool, "host1", "vm-migrate", "vm=peer", f"host={here}")
    assert (code, "disabled" in text.lower()) == (1, True), text
    pool.xe("host1", "host-enable", f"host={here}")
