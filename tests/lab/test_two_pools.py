"""Two data centres on one machine: pools with the same names, tags and addresses, and neither hears anything of the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from poolnet.lab import life
from tests.lab.pools import live, pif, with_address
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2", "host3")
SILENCE_S = 4.5 * PATIENCE
Pair = tuple[RunningLab, RunningLab]


@pytest.fixture(scope="module")
def labs() -> Iterator[Pair]:
    """Two labs of three hosts, each in one pool."""
    with (
        running_lab(hosts=3, nics=2, pool=True, silence_s=SILENCE_S) as one,
        running_lab(hosts=3, nics=2, pool=True) as other,
    ):
        yield one, other


def test_the_same_networks_and_addresses_in_both_do_not_meet(labs: Pair) -> None:
    pools = {lab.xe("host1", "pool-list", "--minimal") for lab in labs}
    assert len(pools) == 2
    assert len({host.address for lab in labs for host in lab.lab.hosts}) == 6
    for lab in labs:
        assert live(lab, "host2") == set(HOSTS)
        network = lab.xe("host2", "network-create", "name-label=blue")
        base = pif(lab, "host1", "eth1")
        lab.xe("host3", "pool-vlan-create", f"network-uuid={network}", f"pif-uuid={base}", "vlan=20")
        for number, host in enumerate(HOSTS[:2], 1):
            with_address(lab, host, f"blue{number}", network, f"10.20.0.{number}/24")
        eventually(lambda lab=lab: lab.pings("blue1", "10.20.0.2"))  # type: ignore[misc]
    one, other = labs
    one.xe("host1", "vm-shutdown", "vm=blue2", "--force")
    assert not one.pings("blue1", "10.20.0.2"), "the other lab's guest has that address, and does not answer"
    assert other.pings("blue1", "10.20.0.2")


def test_a_lab_that_breaks_and_goes_leaves_the_other_alone(labs: Pair) -> None:
    one, other = labs
    for host in HOSTS:
        asyncio.run(life.partition(one.name, host))
    eventually(lambda: live(one) == {"host1"}, "the first pool falls apart")
    asyncio.run(life.down(one.name))
    assert live(other, "host3") == set(HOSTS)
    for host in HOSTS:
        log = (other.lab.directory / host / "var-log/poolnet-api.log").read_text(encoding="utf-8")
        assert "member-lost" not in log
        assert "coordinator-lost" not in log
    assert other.pings("blue1", "10.20.0.2")
    network = other.xe("host1", "network-create", "name-label=after")
    base = pif(other, "host1", "eth1")
    made = other.xe("host1", "pool-vlan-create", f"network-uuid={network}", f"pif-uuid={base}", "vlan=21")
    assert len(made.split()) == 3
