"""A member that has yet to get its new address loses its connection to the coordinator by that, and is not left half way."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.lab import pools, survival
from tests.lab.running import RunningLab, running_lab
from tests.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(200)]

SILENCE_S = 1.5  # less than a move takes: the coordinator has given the old connection up before the host is where it should be
WATCHED_S = 15.0
KEPT = "/var/lib/poolnet/hostd"


def test_a_member_moves_once_to_the_address_that_was_decided_without_it() -> None:
    """Its daemon died before it heard that, and has gone back to the old address."""
    with running_lab(hosts=2, pool=True, silence_s=SILENCE_S) as lab:
        old = lab.lab.host("host2").address
        new = f"{old.rpartition('.')[0]}.99"
        lab.run("host2", "cp", "-a", KEPT, "/var/tmp/before")
        words = ("mode=static", f"IP={new}", "netmask=255.255.255.0")
        lab.xe("host1", "pif-reconfigure-ip", f"uuid={pools.pif(lab, 'host2', 'eth0')}", *words)
        assert addresses(lab) == {new}
        forget_what_was_confirmed(lab)
        eventually(lambda: old in addresses(lab), "it has gone back")
        eventually(lambda: addresses(lab) == {new}, "it has moved")
        began = time.monotonic()
        while time.monotonic() - began < WATCHED_S:
            assert addresses(lab) == {new}
            time.sleep(0.2)
        eventually(lambda: pools.live(lab) == {"host1", "host2"}, "the coordinator hears it")


def test_nobody_waits_for_silence_when_addresses_change() -> None:
    """Old connections would be given up in the end; before that, the hosts make new ones."""
    with running_lab(hosts=2, pool=True) as lab:
        new = f"{lab.lab.host('host2').address.rpartition('.')[0]}.99"
        words = ("mode=static", f"IP={new}", "netmask=255.255.255.0")
        lab.xe("host1", "pif-reconfigure-ip", f"uuid={pools.pif(lab, 'host2', 'eth0')}", *words)
        hears(lab, "after the member's")
        assert "own-address-gone" in said(lab, "host2")
        network = lab.xe("host1", "network-create", "name-label=management")
        nic = pools.pif(lab, "host1", "eth1")
        lab.xe("host1", "pool-vlan-create", f"network-uuid={network}", f"pif-uuid={nic}", "vlan=7")
        for number in (1, 2):
            pif = pools.pif(lab, f"host{number}", "eth1", VLAN="7")
            words = ("mode=static", f"IP=10.57.0.{number}", "netmask=255.255.255.0")
            lab.xe("host1", "pif-reconfigure-ip", f"uuid={pif}", *words)
        lab.xe("host1", "pool-management-reconfigure", f"network-uuid={network}")
        hears(lab, "after everybody's")
        assert "host-not-confirmed" not in said(lab, "host1"), "it asked where the member is now"


def said(lab: RunningLab, host: str) -> str:
    """The log of a host's API server."""
    return (lab.lab.directory / host / "var-log/poolnet-api.log").read_text(encoding="utf-8")


def hears(lab: RunningLab, name: str) -> None:
    """Waits until the member shows a network of that name, which is made first."""
    network = lab.xe("host1", "network-create", f"name-label={name}")
    eventually(lambda: network in pools.answer(lab, "host2", "network-list", "--minimal"), name)


def addresses(lab: RunningLab) -> set[str]:
    """The addresses of the member's management interface."""
    words = lab.run("host2", "ip", "-brief", "-4", "address", "show", "dev", "xenbr0", check=False).split()
    return {word.partition("/")[0] for word in words[2:]}


def forget_what_was_confirmed(lab: RunningLab) -> None:
    """Kills the member's programs, and has them start from what the daemon kept before."""
    init = lab.lab.host("host2").pid
    os.kill(init, signal.SIGSTOP)  # else it starts them again meanwhile
    try:
        for program in ("poolnet-hostd", "poolnet-api"):
            survival.kill(lab, "host2", program)
        lab.run("host2", "sh", "-c", f"sleep 0.5; cp -a /var/tmp/before/. {KEPT}/")
    finally:
        os.kill(init, signal.SIGCONT)
