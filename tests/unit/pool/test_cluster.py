"""What a host keeps of the cluster that the pool's database is on, and the program that keeps its server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from poolnet.api.place import role_of
from poolnet.db.ovsdb_transactions import Turn, is_committed
from poolnet.pool import pki, wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.cluster import ClusterFiles, ClusterSite, ClusterTrouble, server_ids
from poolnet.pool.database_file import DATABASE_FILE, MADE_FOR
from poolnet.pool.database_server import SERVER_FILE, trusts_former
from poolnet.pool.membership import Cluster, ClusterServer, Membership, Role
from tests.unit.pool.database_programs import WITHIN_S, Program
from tests.waiting import eventually

HOST = str(uuid4())
OWN = ClusterServer(uuid="own", address="127.0.0.1")
OTHER = ClusterServer(uuid="other", address="fd00::1")
CLUSTER = Cluster(line="line", servers=(OWN, OTHER))
STATUS = """8f3a
Name: poolnet
Servers:
    8f3a (8f3a at ssl:127.0.0.1:9444) (self) next_index=2 match_index=3
    21c0 (21c0 at ssl:[fd00::1]:9444) last msg 12 ms ago
    77ab (77ab at ssl:[fd00::1]:9444)
"""


@pytest.fixture
def files(tmp_path: Path) -> ClusterFiles:
    return ClusterFiles(tmp_path / "state", tmp_path / "run")


def test_the_cluster_is_what_was_written_down_and_damage_is_no_guess(files: ClusterFiles) -> None:
    assert files.load() is None
    files.save(CLUSTER)
    assert files.load() == CLUSTER
    (files.directory / "cluster.json").write_bytes(b"{")
    with pytest.raises(ClusterTrouble):
        files.load()
    files.leave()
    assert files.load() is None
    files.leave()


def test_a_server_that_loses_its_database_joins_the_others(files: ClusterFiles) -> None:
    files.serve(OWN, ())
    first = json.loads((files.directory / SERVER_FILE).read_bytes())
    assert first["join"] == []
    files.knows_others(CLUSTER, OWN)
    later = json.loads((files.directory / SERVER_FILE).read_bytes())
    assert later == {**first, "join": ["ssl:[fd00::1]:9444"]}
    files.serve(OWN, ())
    assert json.loads((files.directory / SERVER_FILE).read_bytes())["identity"] != first["identity"]


def test_the_ids_of_servers_are_found_by_their_addresses() -> None:
    assert server_ids(STATUS) == {OWN.raft: ["8f3a"], OTHER.raft: ["21c0", "77ab"]}
    assert server_ids("nothing of that kind") == {}


def test_a_member_uses_the_cluster_that_it_is_told_of_once(files: ClusterFiles) -> None:
    started: list[None] = []
    site = ClusterSite(files, None, "own", lambda: started.append(None))
    told = asyncio.run(
        site.answer(wire.UseCluster(cluster=Cluster(line="line", servers=(OTHER,), step="seed")))
    )
    assert isinstance(told, wire.Granted)
    site.use(None)
    assert len(started) == 1
    kept = files.load()
    assert kept is not None
    assert (kept.servers, kept.step) == ((OTHER,), ""), "what the coordinator has to do is not the member's"
    assert not (files.directory / SERVER_FILE).exists()


def test_a_server_that_was_started_in_vain_ends_and_the_cluster_stays(files: ClusterFiles) -> None:
    others = Cluster(line="line", servers=(OTHER,))
    files.save(others)
    files.serve(OWN, (OTHER.raft,))
    started: list[None] = []
    site = ClusterSite(files, others, "own", lambda: started.append(None))
    assert isinstance(asyncio.run(site.answer(wire.UseCluster(cluster=others))), wire.Granted)
    assert not (files.directory / SERVER_FILE).exists()
    assert files.load() == others
    assert started == []


def test_a_host_has_the_role_that_the_cluster_gives_it() -> None:
    was = Membership(role=Role.COORDINATOR, pool_uuid="pool", term=3, epoch="old")
    turn = Turn(ready=True, line="line", term=5, holder="own", address="a")
    ours = role_of(was, turn, "own", ours=True, line="line")
    assert (ours.role, ours.term, ours.epoch, ours.pool_uuid) == (Role.COORDINATOR, 5, "line", "pool")
    before = role_of(was, turn, "own", ours=False, line="line")
    assert (before.role, before.coordinator_uuid) == (Role.MEMBER, ""), (
        "a term of an earlier life counts for nothing"
    )
    member = role_of(was, turn, "me", ours=False, line="line")
    assert (member.coordinator_uuid, member.coordinator_address, member.term, member.epoch) == (
        "own",
        "a",
        5,
        "",
    )
    follower = Membership(
        role=Role.MEMBER, coordinator_uuid="x", coordinator_address="y", term=4, epoch="line"
    )
    assert role_of(follower, None, "me", ours=False, line="line") == follower
    assert role_of(follower, turn, "me", ours=False, line="line").epoch == "line", "it goes on with its copy"


@pytest.mark.parametrize(
    ("terms", "committed"),
    [
        ({}, False),
        ({4: 9}, False),
        ({4: 9, 5: 11}, False),
        ({4: 9, 5: 12}, True),
        ({5: 12, 6: 11}, True),
        ({6: 11}, False),
    ],
)
def test_a_transaction_of_a_term_is_there_if_the_next_one_began_after_it(
    terms: dict[int, int], committed: bool
) -> None:
    """The transaction that was to lead from 11 to 12 in term 4."""
    assert is_committed(terms, 4, 11) is committed


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program(tmp_path)
    yield running
    running.process.terminate()
    assert running.process.wait(WITHIN_S) == 0
    assert not running.cid()


def test_a_server_is_kept_as_its_file_says(program: Program) -> None:
    assert not program.server()
    program.tell("one")
    eventually(lambda: bool(program.cid()), "no server starts")
    first = program.cid()
    os.kill(program.server(), signal.SIGKILL)
    eventually(lambda: program.cid() == first, "the server does not come back with its database")
    running = program.server()
    program.tell("one")
    program.tell("two")
    eventually(lambda: program.cid() not in ("", first), "another cluster does not get another database")
    assert program.server() != running
    program.tell(None)
    eventually(lambda: not program.server(), "the server does not end")
    eventually(lambda: not (program.directory / DATABASE_FILE).exists(), "its database does not go")


def test_nothing_stays_of_a_server_that_was_still_at_work_when_the_directory_was_removed(
    program: Program,
) -> None:
    program.tell("one")
    eventually(lambda: bool(program.cid()), "no server starts")
    for name in (MADE_FOR, "schema"):
        (program.directory / name).unlink()
    program.tell(None)
    eventually(lambda: not program.directory.exists(), "its database stays")


def test_a_server_that_runs_uses_each_new_certificate(program: Program) -> None:
    """Also one that looks at its files in the middle of the change: key and certificate come together."""
    pool = PoolFiles(program.state / "pool")
    pki.make_pool(pool, str(uuid4()), HOST, datetime.now(UTC))
    pki.finish_renewal(pool)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program.tell("one", f"pssl:{port}:127.0.0.1")
    eventually(lambda: shown(pool, port) == own(pool), "no server listens")
    over = threading.Event()
    looking = threading.Thread(target=lambda: [program.cid() for _ in iter(over.is_set, True)])
    looking.start()
    try:
        for _ in range(10):
            pki.renew_certificate(pool, HOST, datetime.now(UTC))
            eventually(lambda: shown(pool, port) == own(pool), "the server goes on with the old certificate")
    finally:
        over.set()
        looking.join()


def test_a_ca_that_is_trusted_no_more_opens_nothing_once_the_server_is_told(program: Program) -> None:
    """One that is trusted besides is let in at once; forgetting takes a server that starts anew."""
    pool, former = PoolFiles(program.state / "pool"), PoolFiles(program.state / "former")
    for files in (pool, former):
        pki.make_pool(files, str(uuid4()), HOST, datetime.now(UTC))
        pki.finish_renewal(files)
    pools, formers = pool.ca.read_bytes(), former.ca.read_bytes()
    former.ca.write_bytes(formers + pools)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program.tell("one", f"pssl:{port}:127.0.0.1")
    eventually(lambda: speaks(pool, port), "no server listens")
    assert not speaks(former, port)
    assert not trusts_former(program.state)

    pool.ca.write_bytes(formers + pools)
    program.process.send_signal(signal.SIGHUP)
    eventually(lambda: speaks(former, port), "a CA that is trusted besides is not believed")
    running = program.server()
    assert not trusts_former(program.state)
    pool.ca.write_bytes(pools)
    assert trusts_former(program.state), "nobody knows that it has something to forget"
    program.process.send_signal(signal.SIGHUP)
    assert speaks(former, port), "a server that runs forgets none"
    assert program.server() == running

    program.process.send_signal(signal.SIGUSR1)
    eventually(
        lambda: not trusts_former(program.state) and speaks(pool, port), "the server does not come back"
    )
    assert not speaks(former, port)


def speaks(files: PoolFiles, port: int) -> bool:
    """Whether the server answers to somebody with that certificate."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), WITHIN_S) as connection,
            pki.client_context(files).wrap_socket(connection) as tls,
        ):
            tls.settimeout(WITHIN_S)
            tls.sendall(b'{"id":1,"method":"echo","params":[]}')
            return bool(tls.recv(1))
    except OSError:
        return False


def shown(pool: PoolFiles, port: int) -> bytes:
    """The certificate that the server shows (DER); nothing if it shows none."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), WITHIN_S) as connection,
            pki.client_context(pool).wrap_socket(connection) as tls,
        ):
            return tls.getpeercert(binary_form=True) or b""
    except OSError:
        return b""


def own(pool: PoolFiles) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pool.certificate.read_text())
