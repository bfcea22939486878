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
