"""A pool whose database is on a cluster: the coordinator dies, hands over, is rebooted, and the pool goes on.

`python -m tests.lab.cluster_soak` does much more of the first.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from poolnet.lab import life
from poolnet.pool import pki
from poolnet.pool.authority import certify, own_authority, pem_of, pem_of_key
from tests.lab import cluster_load, cluster_soak, survival
from tests.lab.pools import answer, host_uuid, live, pif, xe
from tests.lab.running import RunningLab, running_lab
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

SEED = int(os.environ.get("POOLNET_CLUSTER_SEED") or random.SystemRandom().randrange(1 << 32))
HOSTS = ("host1", "host2", "host3")
LEASE_S = 12  # a server that is not heard costs two seconds, and a busy machine some more
LEADERS_TRIED = 5


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Three hosts in one pool."""
    with running_lab(hosts=len(HOSTS), pool=True, silence_s=4.5 * PATIENCE) as one:
        yield one


def status(lab: RunningLab, host: str) -> dict[str, Any]:
    """What a host says of the cluster; its server may be starting anew just then."""
    said: list[str] = []

    def asked() -> bool:
        said[:] = [xe(lab, host, "pool-cluster-status", "--json")[1]]
        return said[0].startswith("{")

    eventually(asked, f"{host} does not say how the cluster is")
    found: dict[str, Any] = json.loads(said[0])
    return found


def refusal(lab: RunningLab, host: str, *words: str) -> str:
    """What a host says to a command that fails; its API server may be starting anew in another role just then."""
    said: list[str] = []

    def answered() -> bool:
        code, text = xe(lab, host, *words)
        assert code != 0, text
        said[:] = [text]
        return "Unable to contact server" not in text

    eventually(answered, f"{host} does not answer")
    return said[0]


def coordinator(lab: RunningLab) -> str:
    return asyncio.run(cluster_load.whole(lab))


def coordinating(lab: RunningLab) -> str:
    """The coordinator of a pool without a cluster."""
    (host,) = (
        name
        for name in HOSTS
        if answer(lab, name, "pool-list", "params=master", "--minimal") == host_uuid_of(lab, name)
    )
    return host


def names_there(lab: RunningLab, host: str) -> set[str]:
    return set(answer(lab, host, "network-list", "params=name-label", "--minimal").split(","))


def test_what_makes_no_cluster_is_refused_and_changes_nothing(lab: RunningLab) -> None:
    uuids = [host_uuid(lab, name) for name in HOSTS]
    for given in (uuids[:2], uuids[1:], [uuids[0], uuids[1], uuids[1]]):
        code, said = xe(lab, "host1", "pool-cluster-enable", f"host-uuids={','.join(given)}")
        assert code != 0, said
        assert "INVALID_VALUE" in said or "invalid" in said.lower(), said
    for command in ("pool-cluster-disable", f"pool-cluster-add host-uuid={uuids[1]}"):
        assert xe(lab, "host1", *command.split())[0] != 0
    assert not status(lab, "host2")["enabled"]


def test_no_acknowledged_call_is_lost_when_coordinators_are_killed(lab: RunningLab) -> None:
    """POOLNET_CLUSTER_SEED repeats it."""
    print(f"POOLNET_CLUSTER_SEED={SEED}")
    kills = list(cluster_soak.KILLS.items())
    times, faults = asyncio.run(cluster_soak.soak(lab, kills, SEED, print))
    assert faults == []
    assert len(times) == len(kills)


def test_who_is_cut_off_or_without_power_acknowledges_nothing_and_nothing_is_lost(lab: RunningLab) -> None:
    """Calls are answered again in time: each of the accidents fails else."""
    print(f"POOLNET_CLUSTER_SEED={SEED}")
    cuts = list(cluster_soak.CUTS.items())
    times, faults = asyncio.run(cluster_soak.soak(lab, cuts, SEED, print))
    assert faults == []
    assert len(times) == len(cuts)


def test_two_hosts_that_do_not_hear_each_other_cost_no_call_that_was_acknowledged(lab: RunningLab) -> None:
    """One of the places that the leader and the coordinator may have, by chance."""
    print(f"POOLNET_CLUSTER_SEED={SEED}")
    pairs = [("two hosts apart", cluster_soak.Soak.pair_as_it_is)]
    times, faults = asyncio.run(cluster_soak.soak(lab, pairs, SEED, print))
    assert faults == []
    assert len(times) == len(pairs)


def test_a_host_that_does_not_hear_the_leader_keeps_its_lease(lab: RunningLab) -> None:
    """It renews it by the third host's server."""
    assert xe(lab, coordinator(lab), "pool-ha-enable", f"ha-config:timeout={LEASE_S}")[0] == 0
    for _ in range(LEADERS_TRIED):
        if keeps_its_lease_without_the_leader(lab):
            break
    else:
        pytest.fail("another server has come to lead each time, which shows nothing")
    alerts = answer(lab, coordinator(lab), "message-list", "params=name", "--minimal")
    assert "HA_HOST" not in alerts
    assert xe(lab, coordinator(lab), "pool-ha-disable")[0] == 0
    for host in HOSTS:
        eventually(lambda host=host: not is_armed(lab, host), f"{host} keeps its lease")  # type: ignore[misc]


def keeps_its_lease_without_the_leader(lab: RunningLab) -> bool:
    """Cuts a host off from the leader until it has renewed its lease; False when that does not lead to the end.

    Servers elect another one when they have not heard of the leader for a second, which happens on a busy machine.
    """
    now, leader = coordinator(lab), asyncio.run(cluster_load.leading(lab))
    apart = next(host for host in HOSTS if host not in (leader, now))
    third = next(host for host in HOSTS if host not in (leader, apart))
    eventually(lambda: is_armed(lab, apart), "it gets no lease")
    asyncio.run(set_apart(lab, leader, apart))
    try:
        cut_off_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        renewed_ns = cut_off_ns + 2 * LEASE_S * 10**9
        eventually(lambda: lease_until_ns(lab, apart) > renewed_ns, "its lease ends")
        states = {each["name-label"]: each["state"] for each in status(lab, third)["servers"]}
    finally:
        asyncio.run(set_apart(lab, leader, apart, over=True))
    return bool(states[leader] == "leader")


async def set_apart(lab: RunningLab, *pair: str, over: bool = False) -> None:
    """Two hosts do not hear each other any more, or again."""
    for sender, receiver in (pair, pair[::-1]):
        await (life.mend if over else life.cut)(lab.name, sender, receiver)


def lease_file(lab: RunningLab, host: str) -> Path:
    return lab.lab.directory / host / "run/poolnet/lease.json"


def is_armed(lab: RunningLab, host: str) -> bool:
    return lease_file(lab, host).exists()


def lease_until_ns(lab: RunningLab, host: str) -> int:
    """Until when a host has its lease."""
    return int(json.loads(lease_file(lab, host).read_bytes())["until_ns"])


def test_the_turn_is_handed_over_and_kept_from_who_may_not_have_it(lab: RunningLab) -> None:
    now = coordinator(lab)
    successor, third = (name for name in HOSTS if name != now)
    keep_authority(lab, now, third)
    assert any(knocks(lab, third, host) for host in HOSTS), "a CA of the pool opens its servers"
    assert lab.xe(third, "network-create", "name-label=before")
    assert (
        xe(lab, third, "pool-designate-new-master", f"host-uuid={host_uuid(lab, successor, third)}")[0] == 0
    )
    eventually(lambda: status(lab, third)["coordinator"] == host_uuid_of(lab, successor), "nobody takes over")
    assert coordinator(lab) == successor
    assert "before" in names_there(lab, now)
    for words in (
        ("pool-eject", f"host-uuid={host_uuid(lab, third, now)}", "--force"),
        ("pool-cluster-remove", f"host-uuid={host_uuid(lab, successor, now)}"),
    ):
        assert "cluster" in refusal(lab, now, *words)
    for words in (
        ("pool-emergency-transition-to-master", "--force"),
        ("pool-emergency-reset-master", "master-address=192.0.2.1"),
    ):
        assert "cluster" in refusal(lab, third, *words)
    assert coordinator(lab) == successor
    for asked, host in ((now, now), (successor, successor), (third, successor)):
        address = lab.lab.host(host).address.rpartition(".")[0] + ".77"
        static = ("mode=static", f"IP={address}", "netmask=255.255.255.0", f"gateway={lab.lab.gateway}")
        moved = ("pif-reconfigure-ip", f"uuid={pif(lab, host, 'eth0', asked)}", *static)
        assert "member of a cluster" in refusal(lab, asked, *moved)
    assert coordinator(lab) == successor


def host_uuid_of(lab: RunningLab, name: str) -> str:
    for host in HOSTS:
        uuid = answer(lab, host, "host-list", f"name-label={name}", "--minimal")
        if uuid:
            return uuid
    return ""


def test_a_server_is_taken_out_and_put_back(lab: RunningLab) -> None:
    now = coordinator(lab)
    other = next(name for name in HOSTS if name != now)
    uuid = host_uuid(lab, other, now)
    assert xe(lab, now, "pool-cluster-remove", f"host-uuid={uuid}")[0] == 0
    eventually(lambda: uuid not in servers(lab, now) and uuid not in servers(lab, other), "it is still there")
    eventually(lambda: bool(answer(lab, other, "host-list", "--minimal")), "the host lost its pool")
    assert len(servers(lab, now)) == len(HOSTS) - 1
    now = coordinator(lab)
    eventually(lambda: xe(lab, now, "pool-cluster-add", f"host-uuid={uuid}")[0] == 0, "it cannot be put back")
    eventually(lambda: uuid in servers(lab, other), "it does not know")
    coordinator(lab)
    assert len(servers(lab, now)) == len(HOSTS)


KNOCK = """
import socket, ssl, sys
place, address = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(f"{place}/host.crt", f"{place}/host.key")
with socket.create_connection((address, 9445), 5) as plain, context.wrap_socket(plain) as tls:
    tls.sendall(b'{"id":1,"method":"echo","params":[]}')
    print(tls.recv(9))
"""


def kept_at(lab: RunningLab, host: str) -> Path:
    return lab.lab.directory / host / "var-lib/kept"


def keep_authority(lab: RunningLab, coordinator: str, host: str) -> None:
    """What somebody who has the coordinator's key can make for himself, on another host."""
    theirs = pki.pool_files(lab.lab.directory / coordinator / "var-lib/poolnet/api")
    private = ec.generate_private_key(ec.SECP256R1())
    mine = certify(own_authority(theirs), private.public_key(), str(uuid4()), datetime.now(UTC))
    place = kept_at(lab, host)
    place.mkdir()
    (place / "host.key").write_bytes(pem_of_key(private))
    (place / "host.crt").write_bytes(pem_of(mine))


def knocks(lab: RunningLab, host: str, server: str, place: str = "/var/lib/kept") -> bool:
    """Whether a server of the database answers to somebody on that host with the certificate there."""
    return "id" in lab.run(
        host, sys.executable, "-c", KNOCK, place, lab.lab.host(server).address, check=False
    )


def servers(lab: RunningLab, host: str) -> set[str]:
    return {each["host"] for each in status(lab, host).get("servers", ())}


def test_a_former_ca_opens_no_server_once_all_have_started_anew(lab: RunningLab) -> None:
    """That of the coordinator before the last; its key is still where it was copied to."""
    witness = next(host for host in HOSTS if kept_at(lab, host).is_dir())
    eventually(lambda: not any(knocks(lab, witness, host) for host in HOSTS), "a former CA is still trusted")
    coordinator(lab)
    own = "/var/lib/poolnet/api/pool"
    eventually(lambda: all(knocks(lab, witness, host, own) for host in HOSTS), "one has not come back")


def test_the_database_comes_back_to_one_host(lab: RunningLab) -> None:
    now = coordinator(lab)
    before = names_there(lab, now)
    assert xe(lab, now, "pool-cluster-disable")[0] == 0
    for host in HOSTS:
        eventually(lambda host=host: not status(lab, host)["enabled"], f"{host} still has it")  # type: ignore[misc]
        eventually(lambda host=host: names_there(lab, host) == before, f"{host} has other networks")  # type: ignore[misc]
        kept = lab.lab.directory / host / "var-lib/poolnet/api/cluster"
        eventually(lambda kept=kept: not kept.exists(), f"{host} keeps something of it")  # type: ignore[misc]
    eventually(lambda: live(lab, now) == set(HOSTS), "not all follow")
    cluster_load.kill(lab, now, database=True)
    eventually(lambda: names_there(lab, now) == before, "what was taken back is lost")


def test_without_a_majority_nothing_changes_and_a_host_can_go_on_alone(lab: RunningLab) -> None:
    asyncio.run(cluster_load.enable(lab, coordinating(lab)))
    alone = coordinator(lab)
    others = [name for name in HOSTS if name != alone]
    assert lab.xe(others[0], "network-create", "name-label=before the loss")
    dump = ("ovsdb-client", "dump", "unix:/run/poolnet/db.sock", "poolnet", "network", "name_label")
    eventually(lambda: "before the loss" in lab.run(alone, *dump), "its own server does not get it")
    for host in others:
        survival.stop(lab, host, "poolnet-db")
        survival.stop(lab, host, "poolnet-api")
        cluster_load.kill(lab, host, database=True, server=False)
    assert xe(lab, alone, "network-create", "name-label=never")[0] != 0
    eventually(lambda: answer(lab, alone, "host-is-in-emergency-mode") == "true", "it goes on")
    assert not status(lab, alone)["majority"]
    assert xe(lab, alone, "network-create", "name-label=never")[0] != 0
    assert xe(lab, alone, "pool-emergency-transition-to-master")[0] == 0
    eventually(lambda: "before the loss" in names_there(lab, alone), "it does not go on")
    assert "never" not in names_there(lab, alone)
    assert not status(lab, alone)["enabled"]
    for host in others:
        survival.resume(lab, host, "poolnet-api")
    eventually(lambda: live(lab, alone) == set(HOSTS), "the others do not follow it")
    for host in others:
        survival.resume(lab, host, "poolnet-db")
        eventually(lambda host=host: not status(lab, host)["enabled"], f"{host} has the old cluster")  # type: ignore[misc]
    create = ("network-create", "name-label=together")
    eventually(lambda: xe(lab, others[1], *create)[0] == 0, "a host that was told of it does not come back")
    assert "together" in names_there(lab, alone)
