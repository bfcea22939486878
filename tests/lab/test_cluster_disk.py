"""A pool whose database is on a cluster, and the disks of its hosts are full for a while: every server is one of it again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from poolnet.db.ovsdb_schema import DATABASE
from tests.lab import accidents, cluster_load, survival
from tests.lab.pools import answer, eventually, live
from tests.lab.running import RunningLab, running_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOSTS = ("host1", "host2", "host3")
FILE = "/var/lib/poolnet/api/cluster/pool.ovsdb"


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Three hosts in one pool with a cluster, with small disks of their own."""
    with running_lab(hosts=len(HOSTS), pool=True) as one:
        for host in HOSTS:
            accidents.give_a_disk(one, host)
        eventually(lambda: live(one) == set(HOSTS), "they do not come together again")
        asyncio.run(cluster_load.enable(one))
        yield one


def server_id(lab: RunningLab, host: str) -> str:
    """What the host's server is called among the others; "" if none runs."""
    words = ("ovs-appctl", "--timeout=5", "-t", "/run/poolnet/db.ctl", "cluster/sid", DATABASE)
    return lab.run(host, *words, check=False).strip()


def is_damaged(lab: RunningLab, host: str) -> bool:
    """Whether the host's server could not start with the file that it has now."""
    look = f"ovsdb-tool check-cluster {FILE} 2>/dev/null && echo sound"
    return "sound" not in lab.run(host, "sh", "-c", look, check=False)


def damage(lab: RunningLab, host: str, ask: str) -> None:
    """Has the host's disk full while the pool changes, and nobody look after its server."""
    survival.stop(lab, host, "poolnet-db")

    def write(name: str) -> None:
        eventually(
            lambda: bool(answer(lab, ask, "network-create", f"name-label={name}")), "nothing is written"
        )

    filler = accidents.fill(lab, host)
    write(f"while {host} is full")
    lab.run(host, "rm", filler)

    def changed() -> bool:
        write(f"after {host} was full")
        return is_damaged(lab, host)

    eventually(changed, "there is no gap")


def named(lab: RunningLab, host: str) -> set[str]:
    return set(answer(lab, host, "network-list", "params=name-label", "--minimal").split(","))


@pytest.mark.parametrize("coordinates", [False, True], ids=["a member", "the coordinator"])
def test_a_server_whose_file_cannot_be_read_comes_back_as_another(lab: RunningLab, coordinates: bool) -> None:
    now = asyncio.run(cluster_load.whole(lab))
    host, ask = (now if coordinates else next(name for name in HOSTS if name != now)), now
    before = server_id(lab, host)
    damage(lab, host, ask)
    cluster_load.kill(lab, host, database=True, server=False)
    survival.resume(lab, host, "poolnet-db")
    eventually(lambda: server_id(lab, host) not in ("", before), "no other server takes its place")
    asyncio.run(cluster_load.whole(lab))
    assert {f"while {host} is full", f"after {host} was full"} <= named(lab, host)
    eventually(lambda: not is_damaged(lab, host), "its file is no better")


def test_a_server_closes_the_gap_in_its_file_while_it_runs(lab: RunningLab) -> None:
    now = asyncio.run(cluster_load.whole(lab))
    host = next(name for name in HOSTS if name != now)
    before = server_id(lab, host)
    damage(lab, host, now)
    survival.resume(lab, host, "poolnet-db")
    eventually(lambda: not is_damaged(lab, host), "the gap stays")
    cluster_load.kill(lab, host, database=True, server=False)
    eventually(lambda: server_id(lab, host) == before, "it does not come back")
    asyncio.run(cluster_load.whole(lab))
    assert {f"while {host} is full", f"after {host} was full"} <= named(lab, host)
