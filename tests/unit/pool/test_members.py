"""How the coordinator keeps its members, when they come at the moment at which they are given up.

What a member says at its own door, and what brings it in step, is played here: `tests/lab/test_pool…` have whole hosts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.pool import members as members_module
from poolnet.pool import pki, wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.hostlink import HostGone, HostLink
from poolnet.pool.hosts import PoolHosts, RemoteHost
from poolnet.pool.members import Members
from poolnet.pool.membership import Role
from poolnet.pool.pace import Pace
from tests.unit.db.rows import a_host, a_ref, a_uuid, create
from tests.unit.pool.test_hostlink import GREETING
from tests.waiting import until

TERM = 4
PONG = wire.Pong(role=Role.MEMBER, term=TERM)
NOW = datetime(2026, 11, 30, tzinfo=UTC)


class Writer:
    """A coordinator that writes when it may."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.may = asyncio.Event()
        self.asked = asyncio.Event()

    def on_stray(self, hear: Callable[..., None]) -> None:
        pass

    def forget(self, host: Any) -> None:
        pass

    async def write(self, change: Callable[[Txn], None]) -> None:
        self.asked.set()
        await self.may.wait()
        txn = self._database.begin()
        change(txn)
        await self._database.commit(txn.changes())


class Stage:
    """A coordinator and a member that was up when the database was last written."""

    def __init__(self, directory: Path) -> None:
        self.me, other = a_host("me"), a_host("other")
        metrics = HostMetrics(ref=a_ref(), uuid=a_uuid(), live=True, last_updated=NOW)
        self.database = Database.open(MemoryEngine())
        create(self.database, self.me, other, metrics, Pool(ref=a_ref(), uuid=a_uuid()))
        txn = self.database.begin()
        txn.update(type(other), other.ref, metrics=metrics.ref)
        self.database.commit_now(txn.changes())
        self.other, self.metrics = other, metrics.ref
        files = PoolFiles(directory)
        pki.make_pool(files, "pool", self.me.uuid, datetime.now(UTC))
        self.writer = Writer(self.database)
        self.hosts = PoolHosts(self.me.ref, cast("Any", None), HostFacts())
        self.members = Members(
            database=self.database,
            coordinator=cast("Any", self.writer),
            hosts=self.hosts,
            local_host=self.me.ref,
            files=files,
            users_file=directory / "users",
            epoch="epoch",
            term=TERM,
            port=1,
            pace=Pace(silence_s=0.3),
            clock=lambda: NOW,
        )
        self.members.open()

    async def greeted(self, *, started: bool = True, address: str = "127.0.0.1") -> wire.Welcome:
        """The member greets from an address, and stays."""
        accepted: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
        server = await asyncio.start_server(lambda *streams: accepted.put_nowait(streams), "127.0.0.1", 0)
        reader, self.theirs = await asyncio.open_connection(
            *server.sockets[0].getsockname(), local_addr=(address, 0)
        )
        greeting = wire.Greet(
            version=wire.VERSION,
            number=0,
            epoch="",
            started=started,
            term=TERM,
            coordinator_uuid=self.me.uuid,
        )
        theirs, self.ours = await accepted.get()
        self.serving = asyncio.create_task(self.members.serve(self.other.uuid, greeting, theirs, self.ours))
        server.close()
        welcome: wire.Welcome = await asyncio.wait_for(wire.read(reader, wire.Welcome), 10)
        return welcome

    async def close(self) -> None:
        self.theirs.close()
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)
        self.ours.close()
        await asyncio.gather(self.ours.wait_closed(), self.theirs.wait_closed(), return_exceptions=True)
        await self.members.close()
        self.database.close()


@pytest.fixture(autouse=True)
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    async def bring_in(*_: object) -> None:
        await asyncio.Event().wait()

    async def ask(*_: object) -> wire.Pong:
        return PONG

    monkeypatch.setattr(Members, "_bring_in", bring_in)
    monkeypatch.setattr(RemoteHost, "ask", ask)
    monkeypatch.setattr(members_module, "WATCH_S", 0.01)


def test_a_member_that_is_given_up_while_it_greets_takes_part_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed connected, and each change said that it was down: for good, as nothing ended the connection."""

    async def run() -> None:
        stage = Stage(tmp_path)

        async def ask(*_: object) -> wire.Pong:
            stage.members.drop(stage.other.ref)
            return PONG

        monkeypatch.setattr(RemoteHost, "ask", ask)
        assert (await stage.greeted()).term == TERM
        assert stage.other.ref in stage.hosts.reachable()
        assert stage.hosts.connected(stage.other.ref)
        await stage.close()

    asyncio.run(run())


def test_a_member_that_greets_before_it_is_noted_that_it_is_down_is_not(tmp_path: Path) -> None:
    async def run() -> None:
        stage = Stage(tmp_path)

        watching = asyncio.create_task(stage.members.watch())
        await asyncio.wait_for(stage.writer.asked.wait(), 10)
        assert stage.other.ref not in stage.hosts.reachable()
        await stage.greeted()
        before = stage.database.feed.changes_since(0).number
        stage.writer.may.set()
        await asyncio.sleep(0.1)
        assert stage.database.view.get(HostMetrics, stage.metrics).live
        assert stage.database.feed.changes_since(0).number == before
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await stage.close()

    asyncio.run(run())


def test_a_member_that_greets_twice_while_its_old_connection_ends_has_one_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both were let in, one in the place of the other: when that one ended, the host was down for good, though heard."""

    async def run() -> None:
        stage = Stage(tmp_path)
        ends, ending = asyncio.Event(), asyncio.Event()

        async def bring_in(*_: object) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ending.set()
                await ends.wait()

        monkeypatch.setattr(Members, "_bring_in", bring_in)
        await stage.greeted()
        old = stage.serving
        streams = [stage.theirs, stage.ours]
        given_up = asyncio.create_task(stage.greeted())
        await asyncio.wait_for(ending.wait(), 10)
        first, streams = stage.serving, [*streams, stage.theirs, stage.ours]
        again = asyncio.create_task(stage.greeted())
        await until(lambda: stage.serving is not first)
        ends.set()
        assert (await again).term == TERM
        assert stage.members.connected == (stage.other.ref,)
        await asyncio.wait_for(asyncio.wait((old, first)), 10)
        with pytest.raises(wire.BadFrame):  # it is told that it has greeted again
            await given_up
        assert stage.members.connected == (stage.other.ref,)
        assert stage.hosts.connected(stage.other.ref)
        for one in streams:
            one.close()
        await stage.close()

    asyncio.run(run())


def test_a_member_that_is_back_by_the_time_nobody_could_note_that_it_was_down_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is down and could not be noted is tried again; it is not down any more."""

    async def run() -> None:
        stage = Stage(tmp_path)
        noted = asyncio.Event()

        async def write(_: object) -> None:
            stage.writer.asked.set()
            await stage.writer.may.wait()
            noted.set()
            raise Failure("INTERNAL_ERROR", "the disk is full")

        monkeypatch.setattr(stage.writer, "write", write)
        watching = asyncio.create_task(stage.members.watch())
        await asyncio.wait_for(stage.writer.asked.wait(), 10)
        await stage.greeted()
        stage.writer.may.set()
        await asyncio.wait_for(noted.wait(), 10)
        await asyncio.sleep(0.1)
        assert not stage.serving.done()
        assert stage.members.connected == (stage.other.ref,)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await stage.close()

    asyncio.run(run())


@pytest.mark.parametrize("what", ["left", "lost its lease"])
def test_a_host_that_is_out_by_the_time_its_door_has_answered_is_not_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async def run() -> None:
        stage = Stage(tmp_path)

        async def ask(*_: object) -> wire.Pong:
            if what == "left":
                txn = stage.database.begin()
                txn.destroy(Host, stage.other.ref)
                stage.database.commit_now(txn.changes())
            else:
                stage.members.keep_out(stage.other.ref)
            return PONG

        monkeypatch.setattr(RemoteHost, "ask", ask)
        with pytest.raises(wire.BadFrame):  # no welcome
            await stage.greeted()
        assert stage.members.connected == ()
        assert not stage.hosts.connected(stage.other.ref)
        await stage.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("started", "address", "survives"),
    [(False, "127.0.0.1", True), (True, "127.0.0.1", False), (False, "127.0.0.2", False)],
)
def test_what_is_asked_of_a_member_outlives_its_connection_if_it_is_where_it_was(
    tmp_path: Path, *, started: bool, address: str, survives: bool
) -> None:
    """It makes another connection after its address has changed: calls that have found it there go on."""

    async def run() -> None:
        stage = Stage(tmp_path)
        asked: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        daemon = await asyncio.start_server(lambda _, writer: asked.put_nowait(writer), "127.0.0.1", 0)
        await stage.greeted()
        before, streams = stage.serving, (stage.theirs, stage.ours)
        remote = stage.hosts.remote(stage.other.ref)
        assert remote is not None
        remote.link = HostLink(lambda: asyncio.open_connection(*daemon.sockets[0].getsockname()))
        call = asyncio.create_task(remote.link.request(protocol.Hello(), protocol.Greeting))
        writer = await asyncio.wait_for(asked.get(), 10)
        await stage.greeted(started=started, address=address)
        await asyncio.wait((before,), timeout=10)
        assert before.done()
        frame = msgspec.json.encode(protocol.Reply(id=1, answer=GREETING))
        writer.write(len(frame).to_bytes(4) + frame)
        (outcome,) = await asyncio.wait_for(asyncio.gather(call, return_exceptions=True), 10)
        assert (outcome == GREETING) is survives
        assert isinstance(outcome, HostGone) is not survives
        for one in (writer, *streams):
            one.close()
        await remote.link.close()
        daemon.close()
        await stage.close()

    asyncio.run(run())
