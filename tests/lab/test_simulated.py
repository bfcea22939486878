"""A pool of simulated hosts comes up by one command, is asked like any other, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os

import pytest

from poolnet.lab import life
from poolnet.lab.state import LABS
from tests.lab.running import MADE, RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

HOSTS = 12
NICS = (3,) * (HOSTS - 1) + (1,)


def test_many_hosts_in_one_pool() -> None:
    name = f"s{os.getpid() % 1_000_000}"
    MADE.note(asyncio.run(life.up(name, hosts=HOSTS, nics=NICS, simulate=True)))
    try:
        pool = RunningLab(name)
        assert len(pool.xe("host1", "host-list", "host-metrics-live=true", "--minimal").split(",")) == HOSTS
        network = pool.xe("host1", "network-create", "name-label=blue")
        pif = pool.xe("host1", "pif-list", "host-name-label=host1", "device=eth1", "--minimal")
        made = pool.xe("host1", "pool-vlan-create", f"network-uuid={network}", f"pif-uuid={pif}", "vlan=7")
        assert len(made.split()) == HOSTS - 1, "the last host has no such NIC"
        vm = pool.xe("host1", "vm-create", "name-label=web")
        pool.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        pool.xe("host1", "vm-start", f"uuid={vm}", "on=host5")
        pool.xe("host1", "host-disable", "host=host5")
        pool.xe("host1", "host-evacuate", "host=host5")
        there = pool.xe("host1", "host-list", "name-label=host5", "--minimal")
        assert pool.xe("host1", "vm-list", f"uuid={vm}", "params=resident-on", "--minimal") not in ("", there)
        matrix = pool.xe("host1", "vm-explain-placement", f"uuid={vm}").splitlines()
        assert matrix[1].split() == [
            "web",
            *("yes" if n not in (5, HOSTS) else "no" for n in range(1, HOSTS + 1)),
        ]
        drift = pool.xe("host1", "host-network-drift").splitlines()
        assert len(drift) == HOSTS
        assert all(line.endswith("is as intended") for line in drift)
    finally:
        asyncio.run(life.down(name))
    assert not (LABS / name).exists()
