"""A pool whose database is on a cluster, and the disks of its hosts are full for a while: every server is one of it again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from poolnet.db.ovsdb_schema import DATABASE
from tests.lab import accidents, cluster_load, survival
from tests.lab.pools import answer, live
from tests.lab.running import RunningLab, running_lab
from tests.waiting import eventually

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


def write(lab: RunningLab, ask: str, name: str) -> None:
    """Makes a network with more to store than fits into what the file has left of its last page."""
    words = ("network-create", f"name-label={name}", f"name-description={'long' * 1500}")
    eventually(lambda: bool(answer(lab, ask, *words)), "nothing is written")


def damage(lab: RunningLab, host: str, ask: str) -> None:
    """Has the host's disk full while the pool changes, and nobody look after its server."""
    while asyncio.run(cluster_load.leading(lab)) == host:  # one that leads writes nothing first
        cluster_load.kill(lab, host, database=True, server=False)
        asyncio.run(cluster_load.whole(lab))
    survival.stop(lab, host, "poolnet-db")
    filler = accidents.fill(lab, host)
    write(lab, ask, f"while {host} is full")
    lab.run(host, "rm", filler)

    def changed() -> bool:
        write(lab, ask, f"after {host} was full")
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


def test_full_disks_stop_no_calls_and_the_servers_come_back(lab: RunningLab) -> None:
    """First that of the host whose server leads."""
    now = asyncio.run(cluster_load.whole(lab))
    leader = asyncio.run(cluster_load.leading(lab))
    for host in (leader, *(name for name in HOSTS if name != leader)):
        before = server_id(lab, host)
        filler = accidents.fill(lab, host)
        write(lab, next(name for name in HOSTS if name != host), f"while {host} is full without a gap")
        eventually(lambda host=host: not server_id(lab, host), "it goes on")  # type: ignore[misc]
        lab.run(host, "rm", filler)
        eventually(lambda host=host, before=before: server_id(lab, host) == before, "it does not come back")  # type: ignore[misc]
        now = asyncio.run(cluster_load.whole(lab))
    assert {f"while {host} is full without a gap" for host in HOSTS} <= named(lab, now)
