"""Who may ask what at the door between hosts: a certificate of the pool is not enough."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.pool import Pool as ThePool
from poolnet.model.failure import Failure
from poolnet.pool import membership, pki, wire
from poolnet.pool.cluster import ClusterFiles, ClusterSite
from poolnet.pool.door import Answering, CoordinatorDoor, MemberDoor, admit, serve
from poolnet.pool.member import Member
from poolnet.pool.membership import Membership, Role
from poolnet.pool.pace import Pace
from tests.unit.db.rows import a_host, a_ref, a_uuid, create

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

TERM = 4


async def pair() -> tuple[Streams, Streams]:
    """Two ends of a connection."""
    one, other = socket.socketpair()
    return await asyncio.open_connection(sock=one), await asyncio.open_connection(sock=other)


async def ask(door: Answering, uuid: str, opening: Any) -> Any:
    """What a host with that uuid is answered."""
    (reader, writer), theirs = await pair()
    serving = asyncio.create_task(admit(door, uuid, *theirs))
    try:
        await wire.write(writer, opening)
        return await wire.read(reader, wire.Reply)
    finally:
        writer.close()
        await asyncio.gather(serving, return_exceptions=True)
        theirs[1].close()


@dataclass
class Pool:
    """A member that knows three hosts of its pool: itself, its coordinator, another member."""

    member: Member
    door: MemberDoor
    hosts: dict[str, str]
    became: list[Membership] = field(default_factory=list)


def certify(what: wire.Certify) -> wire.Certified:
    """A host that has certificates, and refuses one that is too old."""
    if what.action == "install":
        raise Failure("SERVER_CERTIFICATE_EXPIRED", "now", "then")
    return wire.Certified(server="server", internal="internal")


def with_member(tmp_path: Path, body: Callable[[Pool], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database.open(MemoryEngine())
        rows = {name: a_host(name) for name in ("me", "coordinator", "other")}
        create(database, *rows.values())
        uuids = {name: row.uuid for name, row in rows.items()}
        became: list[Membership] = []
        member = Member(
            state_dir=tmp_path,
            database=database,
            role=Membership(
                role=Role.MEMBER,
                coordinator_uuid=uuids["coordinator"],
                coordinator_address="192.0.2.1",
                pool_uuid="pool",
                term=TERM,
            ),
            host_uuid=uuids["me"],
            port=9443,
            users_file=tmp_path / "users.toml",
            become=became.append,
            pace=Pace(),
            site=ClusterSite(ClusterFiles(tmp_path, tmp_path), None, "me", lambda: None),
        )
        socket_path = tmp_path / "hostd.sock"
        door = MemberDoor(member, database, uuids["me"], socket_path, certify)
        echoes: list[asyncio.Task[None]] = []

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            echoes.append(asyncio.create_task(echo(reader, writer)))

        async with await asyncio.start_unix_server(connected, str(socket_path)):
            await body(Pool(member, door, uuids, became))
            await asyncio.gather(*echoes)

    asyncio.run(run())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A daemon that answers whatever it hears."""
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


ORDERS = (wire.OpenHostd(), wire.Reach(address=""), wire.Promote(term=TERM + 1), wire.Leave())


def test_only_its_coordinator_drives_a_member(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        for name in ("other", "me"):
            for order in ORDERS:
                assert isinstance(await ask(pool.door, pool.hosts[name], order), wire.Denied)
        assert pool.became == []
        assert await ask(pool.door, pool.hosts["coordinator"], wire.OpenHostd()) == wire.Granted()

    with_member(tmp_path, body)


def test_the_coordinator_is_told_that_only_the_daemon_is_not_there(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        (tmp_path / "hostd.sock").unlink()
        denied = await ask(pool.door, pool.hosts["coordinator"], wire.OpenHostd())
        assert isinstance(denied, wire.Denied)
        assert denied.code == wire.DAEMON_STARTING

    with_member(tmp_path, body)


@pytest.mark.parametrize("uuid", ["", "00000000-0000-0000-0000-000000000000"])
def test_a_certificate_of_a_host_that_left_opens_nothing(tmp_path: Path, uuid: str) -> None:
    async def body(pool: Pool) -> None:
        orders = (
            *ORDERS,
            wire.Ping(),
            wire.Follow(coordinator_uuid=uuid, address="192.0.2.9", term=TERM + 1),
        )
        for order in orders:
            assert isinstance(await ask(pool.door, uuid, order), wire.Denied)
        assert pool.became == []

    with_member(tmp_path, body)


def test_the_daemon_hears_the_coordinator_byte_by_byte(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        (reader, writer), theirs = await pair()
        answering = pool.door.answer(pool.hosts["coordinator"], wire.OpenHostd(), *theirs)
        serving = asyncio.create_task(answering)
        assert await wire.read(reader, wire.Reply) == wire.Granted()
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"x" * 100_000
        writer.close()
        await serving

    with_member(tmp_path, body)


def test_its_coordinator_alone_changes_a_members_certificates(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        for asked in (wire.Certify(action="reset"), wire.Certify(action="show")):
            other = await ask(pool.door, pool.hosts["other"], asked)
            assert isinstance(other, wire.Denied)
            assert await ask(pool.door, pool.hosts["coordinator"], asked) == wire.Certified(
                server="server", internal="internal"
            )
        refused = await ask(pool.door, pool.hosts["coordinator"], wire.Certify(action="install"))
        assert (refused.code, refused.params) == ("SERVER_CERTIFICATE_EXPIRED", ("now", "then"))

    with_member(tmp_path, body)


def test_without_a_coordinator_a_member_follows_whoever_says_it_is_one(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        other = pool.hosts["other"]
        strange = wire.Follow(coordinator_uuid=pool.hosts["coordinator"], address="192.0.2.66", term=TERM + 1)
        assert isinstance(await ask(pool.door, other, strange), wire.Denied), "it speaks for itself alone"
        before = wire.Follow(coordinator_uuid=other, address="192.0.2.3", term=TERM - 1)
        assert isinstance(await ask(pool.door, other, before), wire.Denied), (
            "it was coordinator, and is no more"
        )
        follow = wire.Follow(coordinator_uuid=other, address="192.0.2.3", term=TERM)
        assert await ask(pool.door, other, follow) == wire.Granted()
        assert [(role.coordinator_uuid, role.coordinator_address) for role in pool.became] == [
            (other, "192.0.2.3")
        ]

    with_member(tmp_path, body)


def test_a_member_with_a_coordinator_follows_that_one_only(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        pool.member._connected = True
        other = pool.hosts["other"]
        follow = wire.Follow(coordinator_uuid=other, address="192.0.2.3", term=TERM + 1)
        assert isinstance(await ask(pool.door, other, follow), wire.Denied)
        assert pool.became == []
        assert await ask(pool.door, pool.hosts["coordinator"], follow) == wire.Granted()
        assert len(pool.became) == 1

    with_member(tmp_path, body)


def test_a_coordinator_that_may_be_starting_again_keeps_its_members(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        pool.member._connected = True
        pool.member._lost(Failure("HOST_STILL_BOOTING"), "it is killed")
        other = pool.hosts["other"]
        follow = wire.Follow(coordinator_uuid=other, address="192.0.2.3", term=TERM + 1)
        assert isinstance(await ask(pool.door, other, follow), wire.Denied)
        pool.member._lost_at = -1000.0
        assert await ask(pool.door, other, follow) == wire.Granted()

    with_member(tmp_path, body)


def greet(term: int, coordinator_uuid: str) -> wire.Greet:
    """What a member says that takes that host to be the coordinator."""
    return wire.Greet(
        version=wire.VERSION, number=1, epoch="", started=False, term=term, coordinator_uuid=coordinator_uuid
    )


def test_whoever_takes_a_member_to_be_coordinator_hears_who_is(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        answer = await ask(pool.door, pool.hosts["other"], greet(TERM - 1, pool.hosts["me"]))
        coordinator = pool.hosts["coordinator"]
        assert answer == wire.Elsewhere(coordinator_uuid=coordinator, address="192.0.2.1", term=TERM)
        assert pool.became == []

    with_member(tmp_path, body)


def test_a_host_that_did_not_hear_that_it_is_coordinator_hears_it_from_whoever_greets_it(
    tmp_path: Path,
) -> None:
    async def body(pool: Pool) -> None:
        await ask(pool.door, pool.hosts["coordinator"], greet(TERM + 1, pool.hosts["me"]))
        await ask(pool.door, pool.hosts["other"], greet(TERM + 1, pool.hosts["me"]))
        assert [(role.role, role.term) for role in pool.became] == [(Role.COORDINATOR, TERM + 1)]

    with_member(tmp_path, body)


@pytest.mark.parametrize(("term", "follows"), [(TERM - 1, False), (TERM, False), (TERM + 1, True)])
def test_a_member_that_is_sent_elsewhere_goes_there_if_it_is_news(
    tmp_path: Path, term: int, *, follows: bool
) -> None:
    async def body(pool: Pool) -> None:
        pool.member.hear_of(pool.hosts["other"], "192.0.2.3", term)
        assert [(role.coordinator_uuid, role.term) for role in pool.became] == (
            [(pool.hosts["other"], term)] if follows else []
        )

    with_member(tmp_path, body)


def test_what_was_decided_is_not_written_over_by_what_the_old_coordinator_still_says(tmp_path: Path) -> None:
    """Between the decision and the end of the server, the connection to the old coordinator goes on."""

    async def body(pool: Pool) -> None:
        assert await ask(pool.door, pool.hosts["coordinator"], wire.Promote(term=TERM + 1)) == wire.Granted()
        membership.save(tmp_path, pool.became[-1])
        files = pki.pool_files(tmp_path)
        pki.make_pool(files, a_uuid(), a_uuid(), datetime.now(UTC))
        pool.member._welcomed(
            wire.Welcome(
                coordinator_uuid=pool.hosts["coordinator"],
                coordinator_address="192.0.2.1",
                pool_uuid="another",
                term=TERM,
                epoch="",
                authorities=files.ca.read_bytes(),
                secret=b"secret",
            )
        )
        assert membership.load(tmp_path) == pool.became[-1]
        assert not files.ca_key.exists(), "a member has no CA"

    with_member(tmp_path, body)


def test_a_member_trusts_the_cas_that_its_coordinator_names(tmp_path: Path) -> None:
    async def body(pool: Pool) -> None:
        heard: list[str] = []
        pool.member.on_trust(lambda: heard.append("door"))
        files, other = pki.pool_files(tmp_path), pki.pool_files(tmp_path / "other")
        for each in (files, other):
            pki.make_pool(each, a_uuid(), a_uuid(), datetime.now(UTC))
        both = files.ca.read_bytes() + other.ca.read_bytes()
        for named in (both, both):
            pool.member._trust(named)
        assert (files.ca.read_bytes(), heard) == (both, ["door"])
        with pytest.raises(OSError, match="CAs cannot be read"):
            pool.member._trust(b"nonsense")
        assert files.ca.read_bytes() == both

    with_member(tmp_path, body)


@dataclass
class Keeping:
    """Who keeps members, as far as the door asks."""

    term: int = TERM
    connected: tuple[str, ...] = ()
    elected: bool = False


def coordinator_door(
    tmp_path: Path, keeping: Keeping, became: list[Membership] | None = None
) -> tuple[CoordinatorDoor, str]:
    """The door of a coordinator, and the uuid of another host of its pool."""
    database = Database.open(MemoryEngine())
    me, known = a_host("me"), a_host("known")
    create(database, me, known, ThePool(ref=a_ref(), uuid=a_uuid()))
    door = CoordinatorDoor(
        database=database,
        members=keeping,  # type: ignore[arg-type]  # only what the door asks
        api_socket=tmp_path / "none",
        host_uuid=me.uuid,
        become=(became if became is not None else []).append,
    )
    return door, known.uuid


def test_a_coordinator_that_comes_back_gives_way_to_a_later_one_that_has_the_members(tmp_path: Path) -> None:
    async def run() -> None:
        for keeping, term, gives_way in (
            (Keeping(), TERM + 2, True),
            (Keeping(), TERM, False),
            (Keeping(), TERM - 1, False),
            (Keeping(connected=("member",)), TERM + 2, False),
            (Keeping(elected=True), TERM + 2, False),
        ):
            became: list[Membership] = []
            door, other = coordinator_door(tmp_path, keeping, became)
            follow = wire.Follow(coordinator_uuid=other, address="192.0.2.3", term=term)
            answer = await ask(door, other, follow)
            assert (answer == wire.Granted()) == gives_way
            assert [(role.role, role.coordinator_uuid, role.term) for role in became] == (
                [(Role.MEMBER, other, term)] if gives_way else []
            )
            third = wire.Follow(coordinator_uuid="third", address="192.0.2.3", term=TERM + 5)
            assert isinstance(await ask(door, other, third), wire.Denied), (
                "who says that is not who it is about"
            )

    asyncio.run(run())


def test_a_coordinator_that_is_asked_again_to_be_one_says_yes(tmp_path: Path) -> None:
    async def run() -> None:
        door, other = coordinator_door(tmp_path, Keeping())
        assert await ask(door, other, wire.Promote(term=TERM)) == wire.Granted()

    asyncio.run(run())


def test_a_coordinator_knows_the_hosts_of_its_database_alone(tmp_path: Path) -> None:
    async def run() -> None:
        door, known = coordinator_door(tmp_path, Keeping())
        assert await ask(door, known, wire.Ping()) == wire.Pong(role=Role.COORDINATOR, term=TERM)
        for order in (wire.Ping(), wire.OpenClient()):
            denied = await ask(door, "00000000-0000-0000-0000-000000000000", order)
            assert isinstance(denied, wire.Denied)
            assert denied.code == "HOST_UNKNOWN_TO_MASTER"
        for other in ORDERS:
            assert isinstance(await ask(door, known, other), wire.Denied)

    asyncio.run(run())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x7f\xff\xff\xff",
        b"\x00\x00\x00\x05nonse",
        b'\x00\x00\x00\x11{"type":"Nothing"}',
        b"\x00\x00\x00\x02[]",
        b'\x00\x00\x00\x1d{"type":"Promote","term":"x"}',
    ],
)
def test_nonsense_ends_its_own_connection_and_nothing_else(tmp_path: Path, sent: bytes) -> None:
    async def body(pool: Pool) -> None:
        (reader, writer), theirs = await pair()
        serving = asyncio.create_task(serve(pool.door, *theirs))
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        await serving
        writer.close()
        assert pool.became == []

    with_member(tmp_path, body)


def test_a_role_that_cannot_be_read_is_not_guessed(tmp_path: Path) -> None:
    assert membership.load(tmp_path) == membership.STANDALONE
    role = Membership(role=Role.MEMBER, coordinator_address="192.0.2.1", pool_uuid="pool")
    membership.save(tmp_path, role)
    assert membership.load(tmp_path) == role
    (tmp_path / membership.ROLE_FILE).write_text("{")
    with pytest.raises(membership.MembershipBroken):
        membership.load(tmp_path)
