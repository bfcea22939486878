"""Clusters of ovsdb-servers for the database's tests: real processes, on Unix sockets."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from poolnet.db import ovsdb_transactions as words
from poolnet.db.engine import Stored
from poolnet.db.engine_ovsdb import OvsdbEngine, seed
from poolnet.db.ovsdb_schema import DATABASE, schema
from poolnet.db.ovsdb_transactions import Turn
from poolnet.db.seat import Seat
from poolnet.ovsdb.connection import Connection
from tests.waiting import eventually

WITHIN_S = 30.0


class Server:
    """One server, which can be killed and started again."""

    def __init__(
        self, directory: Path, first: Server | None, kept: Mapping[str, object] | None = None
    ) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.socket, self.raft = directory / "db", f"unix:{directory}/raft"
        if first is None:
            path = directory / "schema"
            path.write_bytes(msgspec.json.encode(kept or schema()))
            words = ["create-cluster", str(directory / "file"), str(path), self.raft]
        else:
            words = ["join-cluster", str(directory / "file"), DATABASE, self.raft, first.raft]
        subprocess.run(("ovsdb-tool", *words), check=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            (
                "ovsdb-server",
                str(self.directory / "file"),
                f"--remote=punix:{self.socket}",
                f"--unixctl={self.directory}/ctl",
                f"--log-file={self.directory}/log",
                "-vconsole:off",
            )
        )

    def wait_joined(self) -> None:
        words = ("ovsdb-client", "wait", f"unix:{self.socket}", DATABASE, "connected")
        eventually(lambda: self.socket.exists(), "the server does not start")
        subprocess.run(words, check=True, timeout=WITHIN_S)

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @property
    def leads(self) -> bool:
        words = ("ovs-appctl", "-t", str(self.directory / "ctl"), "cluster/status", DATABASE)
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=WITHIN_S)
        return "\nRole: leader\n" in done.stdout


class Cluster:
    """Some servers of one database."""

    def __init__(self, directory: Path, size: int, kept: Mapping[str, object] | None = None) -> None:
        self.servers: list[Server] = []
        for number in range(size):
            first = self.servers[0] if self.servers else None
            server = Server(directory / str(number), first, kept)
            self.servers.append(server)
            server.start()
            server.wait_joined()

    def seat(
        self, host: str, on_turn: Callable[[Turn], None] = lambda _: None, without: Server | None = None
    ) -> Seat:
        reached = [server for server in self.servers if server is not without]
        openers = [partial(Connection.open, server.socket) for server in reached]
        seat = Seat(
            openers, host=host, address=lambda: f"at {host}", line="line", candidate=True, on_turn=on_turn
        )
        seat.start()
        return seat

    def leader(self) -> Server:
        found: list[Server] = []

        def look() -> bool:
            found[:] = [each for each in self.servers if each.process is not None and each.leads]
            return bool(found)

        eventually(look, "no server leads")
        return found[0]

    def close(self) -> None:
        for server in self.servers:
            server.kill()


@contextmanager
def cluster(directory: Path, size: int, kept: Mapping[str, object] | None = None) -> Iterator[Cluster]:
    made = Cluster(directory, size, kept)
    try:
        yield made
    finally:
        made.close()


def seed_anew(seat: Seat) -> None:
    """An empty database in the place of the one that the test before has left."""
    turn, _ = seat.do(seat.state(WITHIN_S))
    seat.do(seat.transact(words.empty()))
    seed(seat, Stored(rows=(), deletions=(), ceiling=0), "line", turn.term)


@contextmanager
def engine_on(cluster: Cluster) -> Iterator[OvsdbEngine]:
    """An engine on an empty database."""
    seat = cluster.seat("host-1")
    try:
        seed_anew(seat)
        yield OvsdbEngine(seat)
    finally:
        seat.close()
