"""A pool of three hosts hands the role of coordinator over while messages are lost and servers die, at every point.

The hosts are real but for what carries their messages: the call, the doors, members and what they write to disk. Connections
are pairs of sockets, and each message or answer between two hosts can be lost.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from poolnet.api import office, pool_calls
from poolnet.api.office import Office
from poolnet.api.pool_calls import PoolCalls
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.cluster import ClusterFiles, ClusterSite
from poolnet.pool.door import CoordinatorDoor, MemberDoor, admit
from poolnet.pool.member import Member
from poolnet.pool.membership import Membership, Role, load, save
from poolnet.pool.pace import Pace
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.succession import look_for
from tests.unit.db.rows import a_host, a_ref, a_uuid, create
from tests.unit.pool.test_door import certify, pair

NAMES = ("old", "new", "third")
ROUNDS = 4


class Died(BaseException):
    """The server of the host that was doing something was killed."""


@dataclass
class Server:
    """One host's server: what it has on disk, and what it is since it last started."""

    pool: Sim
    name: str
    row: Host
    directory: Path
    database: Database
    role: Membership = field(default_factory=Membership)
    connected: tuple[Ref[Host], ...] = ()
    """The members that follow it, if it is a coordinator."""
    elected = False
    follows: str = ""
    """The coordinator that has welcomed it, if it is a member."""

    def start(self) -> None:
        """Starts anew from what is on the disk."""
        self.role = load(self.directory)
        self.connected, self.follows = (), ""
        self.office = Office(self.directory, lambda: None)
        self.office.role = self.role
        self.member = Member(
            state_dir=self.directory,
            database=self.database,
            role=self.role,
            host_uuid=self.row.uuid,
            port=9443,
            users_file=self.directory / "users.toml",
            become=self.become,
            pace=Pace(),
            site=ClusterSite(ClusterFiles(self.directory, self.directory), None, "me", lambda: None),
        )

    def become(self, role: Membership) -> None:
        """What the office does: it writes the role down, and the server starts in it a moment later."""
        save(self.directory, role)
        self.pool.starting.add(self.name)

    @property
    def is_coordinator(self) -> bool:
        return self.role.role is Role.COORDINATOR

    def door(self) -> CoordinatorDoor | MemberDoor:
        if not self.is_coordinator:
            return MemberDoor(self.member, self.database, self.row.uuid, self.directory / "none", certify)
        return CoordinatorDoor(
            database=self.database,
            members=cast("Any", self),
            api_socket=self.directory / "none",
            host_uuid=self.row.uuid,
            become=self.become,
        )

    # --- what the door and the call ask of who keeps members ---

    @property
    def term(self) -> int:
        return self.role.term

    @property
    def office_told(self) -> wire.Follow:
        return wire.Follow(coordinator_uuid=self.row.uuid, address=self.row.address, term=self.term)

    async def serve(self, uuid: str, greeting: wire.Greet, _: Any, writer: asyncio.StreamWriter) -> None:
        if greeting.term > self.term:
            await wire.write(writer, wire.Denied(reason="not the coordinator any more"))
            return
        other = next(server for server in self.pool.servers.values() if server.row.uuid == uuid)
        self.connected = tuple(dict.fromkeys((*self.connected, other.row.ref)))
        other.follows = self.row.uuid
        await wire.write(
            writer,
            wire.Welcome(
                coordinator_uuid=self.row.uuid,
                coordinator_address=self.row.address,
                pool_uuid="pool",
                term=self.term,
                epoch="",
                authorities=b"",
                secret=b"",
            ),
        )

    async def ask(self, host: Ref[Host], question: Any, _: type[Any]) -> Any:
        return await self.pool.ask(self, self.pool.by_ref(host), question)

    async def heard(self, _: float) -> None:
        pass

    async def replicated(self, *_: Any) -> bool:
        return True


class Sim:
    """The pool. `loses` says of each message, and of each answer, whether it is lost; it may also have somebody die."""

    def __init__(self, directory: Path) -> None:
        rows = {name: a_host(name) for name in NAMES}
        for number, name in enumerate(NAMES, 1):
            object.__setattr__(rows[name], "address", f"192.0.2.{number}")
        self.servers: dict[str, Server] = {}
        self.starting: set[str] = set()
        self.off: set[str] = set()
        self.loses: Callable[[str, str, Any, str], bool] = lambda *_: False
        pool = Pool(ref=a_ref(), uuid=a_uuid())
        for name, row in rows.items():
            database = Database.open(MemoryEngine())
            create(database, *rows.values(), pool)
            (directory / name).mkdir()
            role = Membership(term=3, pool_uuid="pool")
            if name != "old":
                role = Membership(
                    role=Role.MEMBER,
                    coordinator_uuid=rows["old"].uuid,
                    coordinator_address=rows["old"].address,
                    pool_uuid="pool",
                    term=3,
                )
            save(directory / name, role)
            self.servers[name] = Server(self, name, row, directory / name, database)
            self.servers[name].start()

    def by_ref(self, ref: Ref[Host]) -> Server:
        return next(server for server in self.servers.values() if server.row.ref == ref)

    async def ask(self, asking: Server, asked: Server, question: Any) -> Any:
        """One question, and its answer."""
        if asked.name in self.off or self.loses(asking.name, asked.name, question, "question"):
            raise PeerGone("lost on the way")
        (reader, writer), theirs = await pair()
        try:
            serving = asyncio.create_task(admit(asked.door(), asking.row.uuid, *theirs))
            await wire.write(writer, question)
            answer = await wire.read(reader, wire.Reply)
            await serving
        finally:
            writer.close()
            theirs[1].close()
        if self.loses(asking.name, asked.name, question, "answer"):
            raise PeerGone("the answer is lost")
        if isinstance(answer, wire.Denied):
            raise PeerDenied(answer)
        return answer

    def restart(self) -> None:
        """Servers whose role has changed start in it."""
        for name in self.starting:
            self.servers[name].start()
        self.starting.clear()

    async def hand_over(self) -> str:
        """What the call does on the old coordinator; the code that it fails with."""
        old = self.servers["old"]
        coordinator = SimpleNamespace(hold=_nothing, release=lambda: None)
        calls = PoolCalls(
            database=old.database,
            coordinator=cast("Any", coordinator),
            sessions=cast("Any", None),
            members=cast("Any", old),
            joining=cast("Any", None),
            admitting=cast("Any", None),
            host=old.row.ref,
            files=cast("Any", None),
            office=old.office,
        )
        old.connected = tuple(server.row.ref for server in self.servers.values() if server is not old)
        call = SimpleNamespace(arguments={"host": self.servers["new"].row.ref})
        code = ""
        try:
            await calls.messages()["pool.designate_new_master"](cast("Any", call))
        except Failure as failure:
            code = failure.code
        except Died:
            self.starting.add("old")
        if old.office.changed:
            self.starting.add("old")
        return code

    async def settle(self) -> None:
        """Nothing is lost any more: members greet whom they take to be the coordinator, and coordinators look for members."""
        self.loses = lambda *_: False
        for _ in range(ROUNDS):
            self.restart()
            on = [server for server in self.servers.values() if server.name not in self.off]
            for server in on:
                if not server.is_coordinator and not server.follows:
                    await self._greet(server)
            self.restart()
            for server in on:
                for other in self.servers.values():
                    missing = other is not server and other.row.ref not in server.connected
                    if server.is_coordinator and missing:
                        keeper = SimpleNamespace(
                            ask=server.ask, office=server.office_told, connected=server.connected
                        )
                        await look_for(cast("Any", keeper), other.row.ref)
        self.restart()

    async def _greet(self, server: Server) -> None:
        greeted = next(
            (each for each in self.servers.values() if each.row.uuid == server.member.coordinator_uuid), None
        )
        if greeted is None or greeted.name in self.off:
            return
        (reader, writer), theirs = await pair()

        async def serve() -> None:
            await admit(greeted.door(), server.row.uuid, *theirs)
            theirs[1].close()

        serving = asyncio.create_task(serve())
        try:
            await server.member._greet(reader, writer)
        except (PeerDenied, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            await serving
            writer.close()

    def coordinators(self) -> list[str]:
        return [server.name for server in self.servers.values() if server.is_coordinator]


async def _nothing() -> None:
    pass


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(office, "ANSWER_S", 0.0)
    monkeypatch.setattr(pool_calls, "PROMOTE_S", 0.05)
    monkeypatch.setattr(pool_calls, "TELL_S", 0.02)
    monkeypatch.setattr(pool_calls, "TELL_AT_HAND_OVER_S", 0.05)
    monkeypatch.setattr(pool_calls, "AGAIN_S", 0.01)


PROMOTION = ("arrives", "question lost", "answer lost", "all questions lost", "all answers lost", "refused")
NOTICE = ("arrives", "question lost")
DEATH = (
    "nobody dies",
    "old dies before it asks",
    "old dies before it hears",
    "new dies after it has said yes",
)


@pytest.mark.parametrize(("promotion", "notice", "death"), tuple(itertools.product(PROMOTION, NOTICE, DEATH)))
def test_in_the_end_there_is_one_coordinator_and_all_follow_it(
    tmp_path: Path, promotion: str, notice: str, death: str
) -> None:
    async def run() -> None:
        pool = Sim(tmp_path)
        seen = 0

        def loses(asking: str, asked: str, question: Any, what: str) -> bool:
            nonlocal seen
            if isinstance(question, wire.Follow):
                return notice == f"{what} lost"
            if not isinstance(question, wire.Promote):
                return False
            seen += what == "question"
            if death == f"old dies before it {'asks' if what == 'question' else 'hears'}":
                raise Died
            if death.startswith("new") and what == "answer":
                pool.servers["new"].start()
            lasting = promotion == f"all {what}s lost"
            return lasting or (promotion == f"{what} lost" and seen == 1)

        pool.loses = loses
        if (
            promotion == "refused"
        ):  # the new one takes another host to be its coordinator, for as long as it runs
            pool.servers["new"].member._role = replace(pool.servers["new"].role, coordinator_uuid="another")
        code = await pool.hand_over()
        pool.restart()
        assert len(pool.coordinators()) <= 1, "never two"
        pool.servers["new"].start()
        await pool.settle()
        assert code in ("", "HA_ABORT_NEW_MASTER")
        assert pool.coordinators() == (["old"] if code else ["new"])
        (coordinator,) = (server for server in pool.servers.values() if server.is_coordinator)
        for server in pool.servers.values():
            if server is not coordinator:
                assert server.follows == coordinator.row.uuid, server.name
                assert server.role.term == coordinator.role.term

    asyncio.run(run())


def test_an_old_coordinator_that_was_away_becomes_a_member_of_the_one_that_took_over(tmp_path: Path) -> None:
    async def run() -> None:
        pool = Sim(tmp_path)
        new = pool.servers["new"]
        pool.off.add("old")
        new.member.promote(new.member.term + 2)
        await pool.settle()
        assert pool.coordinators() == ["old", "new"], "they have not heard of each other yet"
        assert pool.servers["third"].follows == new.row.uuid
        pool.off.clear()
        await pool.settle()
        assert pool.coordinators() == ["new"]
        assert {server.follows for server in pool.servers.values()} == {"", new.row.uuid}

    asyncio.run(run())
