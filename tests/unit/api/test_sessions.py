"""Logins, ages and numbers of sessions (spec §3)."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tomli_w
from argon2 import PasswordHasher, extract_parameters

from poolnet.api import hashing
from poolnet.api import sessions as module
from poolnet.api.credentials import Credentials, Identity, UsersFileBroken
from poolnet.api.sessions import Sessions
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.errors import StorageFailed
from poolnet.model.classes.host import Host
from poolnet.model.classes.session import Session
from poolnet.model.errors import Failure
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from tests.in_process import KnownPeople


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> None:
        self.now += timedelta(**by)


class Known(Credentials):
    """Knows root and reader by one password, without the time that a real hash takes."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.changed: list[tuple[str, str]] = []

    def is_local(self, user: str) -> bool:
        return user in ("root", "admin", "reader")

    def set_password(self, user: str, password: str) -> None:
        self.changed.append((user, password))

    async def verify(self, user: str, password: str, *, only_root: bool = False) -> Identity | None:
        self.asked.append(user)
        roles = {"root": None, "reader": Role.READ_ONLY}
        return Identity(user, roles[user]) if password == "right" and user in roles else None


class World:
    def __init__(self) -> None:
        self.credentials = Known()
        self.clock = Clock()
        self.database = Database.open(MemoryEngine())
        host = Host(ref=Ref("OpaqueRef:host"), uuid="host")
        txn = self.database.begin()
        txn.create(host)
        self.database.commit_now(txn.changes())
        self.working: set[str] = set()
        self.ended: list[str] = []
        self.sessions = Sessions(
            database=self.database,
            credentials=self.credentials,
            directory=KnownPeople(),
            this_host=host.ref,
            clock=self.clock,
            has_work=lambda ref: ref in self.working,
            refusal_delay_s=0.0,
        )
        self.sessions.on_end(self.ended.append)

    async def login(self, user: str = "root", originator: str = "") -> Ref[Session]:
        return await self.sessions.login_with_password(user, "right", originator, local_root=False)


@pytest.fixture
def world() -> World:
    return World()


def test_a_session_s_record_says_who_it_is(world: World) -> None:
    async def body() -> None:
        root = world.database.view.get(Session, await world.login(originator="script"))
        assert (root.is_local_superuser, root.auth_user_name, root.originator) == (True, "root", "script")
        assert (root.rbac_permissions, root.pool, root.client_certificate) == ((), False, False)
        assert root.last_active == root.validation_time == world.clock.now
        reader = world.database.view.get(Session, await world.login("reader"))
        assert not reader.is_local_superuser
        assert "network.get_all" in reader.rbac_permissions
        assert "network.create" not in reader.rbac_permissions

    asyncio.run(body())


def test_a_refusal_names_the_user_and_nothing_more(world: World) -> None:
    async def body() -> None:
        with pytest.raises(Failure) as refused:
            await world.sessions.login_with_password("root", "wrong", "", local_root=False)
        assert refused.value.code == "SESSION_AUTHENTICATION_FAILED"
        assert refused.value.params[0] == "root"
        assert "wrong" not in str(refused.value)
        assert world.database.view.count(Session) == 0

    asyncio.run(body())


def test_use_is_noted_at_most_every_ten_minutes(world: World) -> None:
    async def body() -> None:
        ref = await world.login()
        began = world.clock.now
        world.clock.advance(seconds=599)
        await world.sessions.check(ref)
        assert world.database.view.get(Session, ref).last_active == began
        world.clock.advance(seconds=601)
        await world.sessions.check(ref)
        assert world.database.view.get(Session, ref).last_active == world.clock.now

    asyncio.run(body())


def test_a_session_that_is_idle_for_a_day_ends(world: World) -> None:
    async def body() -> None:
        idle, busy, used = await world.login(), await world.login(), await world.login()
        world.working.add(busy)
        world.clock.advance(hours=23)
        await world.sessions.check(used)
        world.clock.advance(hours=2)
        world.sessions.sweep()
        assert world.ended == [idle]
        with pytest.raises(Failure, match="SESSION_INVALID"):
            await world.sessions.check(idle)
        await world.sessions.check(busy)
        await world.sessions.check(used)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("user", "originator", "limit"),
    [("root", "", "ROOT_MAX"), ("root", "script", "PER_ORIGINATOR_MAX"), ("reader", "x", "PER_USER_MAX")],
)
def test_the_least_recently_used_session_of_a_full_group_ends(
    world: World, monkeypatch: pytest.MonkeyPatch, user: str, originator: str, limit: str
) -> None:
    monkeypatch.setattr(module, limit, 3)

    async def body() -> None:
        other = await world.login("root", "another")
        made = []
        for _ in range(3):
            world.clock.advance(seconds=1)
            made.append(await world.login(user, originator))
        world.clock.advance(seconds=1)
        await world.sessions.check(made[0])
        world.clock.advance(seconds=1)
        await world.login(user, originator)
        assert world.ended == [made[1]]
        await world.sessions.check(other)

    asyncio.run(body())


def test_logging_out_tells_and_forgets(world: World) -> None:
    async def body() -> None:
        ref = await world.login()
        await world.sessions.logout(ref)
        await world.sessions.logout(ref)
        assert world.ended == [ref]
        assert world.database.view.find(Session, ref) is None

    asyncio.run(body())


def test_a_session_that_could_not_be_removed_counts_no_more_and_goes_after_a_day(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> int:
        raise StorageFailed("the disk is full")

    async def body() -> None:
        ref = await world.login()
        with monkeypatch.context() as broken:
            broken.setattr(world.database, "commit", refuse)
            world.sessions.end(ref)
            await world.sessions.stop()
        assert world.ended == [ref]
        with pytest.raises(Failure, match="SESSION_INVALID"):
            await world.sessions.check(ref)
        world.clock.advance(hours=23)
        world.sessions.sweep()
        await world.sessions.stop()
        assert world.database.view.find(Session, ref) is not None
        world.clock.advance(hours=2)
        world.sessions.sweep()
        await world.database.feed.wait(world.database.feed.number)
        assert world.database.view.find(Session, ref) is None

    asyncio.run(body())


def test_when_a_host_leaves_what_its_console_and_the_pool_secret_opened_ends(world: World) -> None:
    async def body() -> None:
        gone = Host(ref=Ref("OpaqueRef:gone"), uuid="gone")
        txn = world.database.begin()
        txn.create(gone)
        await world.database.commit(txn.changes())
        stays = [await world.login(), await world.sessions.login_with_password("", "", "", True, "", "other")]
        ends = [
            await world.sessions.login_with_password("", "", "", True, "", "gone"),
            await world.sessions.pool_login(True, "gone"),
        ]
        txn = world.database.begin()
        txn.destroy(Host, gone.ref)
        await world.database.commit(txn.changes())
        for ref in ends:
            with pytest.raises(Failure, match="SESSION_INVALID"):
                await world.sessions.check(ref)
        for ref in stays:
            await world.sessions.check(ref)
        assert sorted(world.ended) == sorted(ends)

    asyncio.run(body())


def test_subjects_are_users_with_a_role(world: World) -> None:
    async def body() -> None:
        mine = await world.login()
        first, second = await world.login("reader"), await world.login("reader")
        assert world.sessions.subjects() == ("reader",)
        await world.sessions.logout_subject(await world.sessions.check(mine), "root")
        assert world.ended == [], "superusers stay"
        await world.sessions.logout_subject(await world.sessions.check(mine), "reader")
        assert set(world.ended) == {first, second}

    asyncio.run(body())


def test_a_local_session_needs_a_superuser_and_no_database(world: World) -> None:
    async def body() -> None:
        before = world.database.view.count(Session)
        ref = await world.sessions.local_login("root", "right", local_root=False)
        assert world.database.view.count(Session) == before
        assert (await world.sessions.check(ref)).is_local
        with pytest.raises(Failure):
            await world.sessions.local_login("reader", "right", local_root=False)

    asyncio.run(body())


def test_users_toml_is_read_at_each_login_and_written_for_its_owner_alone(tmp_path: Path) -> None:
    async def body() -> None:
        users = tmp_path / "users.toml"
        credentials = Credentials(users, None)
        assert await credentials.verify("root", "one") is None, "no file, nobody"
        credentials.set_password("root", "one")
        assert users.stat().st_mode & 0o777 == 0o600
        assert await credentials.verify("root", "one") == Identity("root", None)
        credentials.set_password('it\'s "quoted"\n', "two")
        assert await credentials.verify("root", "one") == Identity("root", None)
        assert await credentials.verify('it\'s "quoted"\n', "two") is not None
        assert await credentials.verify("root", "two") is None
        assert await credentials.verify("nobody", "one") is None
        assert await credentials.verify("root", "x" * 2000) is None
        assert "one" not in users.read_text()

    asyncio.run(body())


class Accounts:
    """System accounts that accept everybody."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def accepts(self, user: str, password: str, *, directory: bool = False) -> bool:
        self.asked.append(user)
        return True


@pytest.mark.parametrize(
    "text",
    [
        b"this is no TOML",
        b"\xff\xfe",
        b"[users.root]\ncolour = 1",
        b"users = 1",
        b'[users.root]\npassword_hash = "x"\nrole = "king"',
    ],
)
def test_a_users_toml_that_cannot_be_read_lets_nobody_in_and_stays(tmp_path: Path, text: bytes) -> None:
    users = tmp_path / "users.toml"
    users.write_bytes(text)
    accounts = Accounts()
    credentials = Credentials(users, accounts)
    assert asyncio.run(credentials.verify("root", "x")) is None
    assert accounts.asked == [], "the file may give one of them a role"
    with pytest.raises(UsersFileBroken):
        credentials.set_password("root", "x")
    assert users.read_bytes() == text


def test_a_hash_that_is_none_lets_nobody_in(tmp_path: Path) -> None:
    (tmp_path / "users.toml").write_text('[users.root]\npassword_hash = "x"')
    assert asyncio.run(Credentials(tmp_path / "users.toml", Accounts()).verify("root", "x")) is None


def test_the_system_is_asked_only_about_users_that_the_file_does_not_name(tmp_path: Path) -> None:
    accounts = Accounts()
    credentials = Credentials(tmp_path / "users.toml", accounts)
    credentials.set_password("root", "secret")
    assert asyncio.run(credentials.verify("root", "wrong")) is None
    assert asyncio.run(credentials.verify("alice", "any")) == Identity("alice", None)
    assert accounts.asked == ["alice"]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that passwords are compared with."""
    hashes: list[str] = []

    def comparing(stored: str, password: str) -> Future[bool]:
        hashes.append(stored)
        return matching(stored, password)

    matching = hashing.matching
    monkeypatch.setattr(hashing, "matching", comparing)
    return hashes


@pytest.mark.parametrize("known", [PasswordHasher(time_cost=1, memory_cost=64), PasswordHasher(), None])
def test_an_unknown_user_takes_as_long_a_hash_as_a_known_one(
    tmp_path: Path, compared: list[str], known: PasswordHasher | None
) -> None:
    if known is not None:
        text = tomli_w.dumps({"users": {"root": {"password_hash": known.hash("secret")}}})
        (tmp_path / "users.toml").write_text(text)
    for _ in range(2):
        assert asyncio.run(Credentials(tmp_path / "users.toml", None).verify("nobody", "x")) is None
    one, other = compared
    assert one != other
    expected = (known or PasswordHasher()).hash("x")
    assert extract_parameters(one) == extract_parameters(expected)


def test_an_unknown_user_takes_as_many_hashes_as_a_known_one(tmp_path: Path, compared: list[str]) -> None:
    credentials = Credentials(tmp_path / "users.toml", None)
    credentials.set_password("root", "secret")
    for user in ("root", "nobody"):
        compared.clear()
        assert asyncio.run(credentials.verify(user, "wrong")) is None
        assert len(compared) == 1


@pytest.mark.parametrize("trouble", [hashing.HashingFailed("it ended"), OSError("no more processes")])
def test_a_password_that_cannot_be_compared_is_no_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    failed: Future[bool] = Future()
    failed.set_exception(trouble)
    monkeypatch.setattr(hashing, "matching", lambda *_: failed)
    with pytest.raises(Failure) as failure:
        asyncio.run(Credentials(tmp_path / "users.toml", None).verify("root", "secret"))
    assert failure.value.code == "INTERNAL_ERROR"


def test_users_toml_is_at_no_moment_readable_by_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "users.new"
    stale.touch()
    stale.chmod(0o666)
    modes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: modes.append(os.fstat(fd).st_mode & 0o777))
    umask = os.umask(0)
    try:
        Credentials(tmp_path / "users.toml", None).set_password("root", "secret")
    finally:
        os.umask(umask)
    assert modes == [0o600]
    assert (tmp_path / "users.toml").stat().st_mode & 0o777 == 0o600
    assert not stale.exists()


@pytest.mark.parametrize(("user", "changed"), [("root", "root"), ("admin", "admin"), ("", "root")])
def test_a_superuser_changes_the_own_password_or_root_s(world: World, user: str, changed: str) -> None:
    async def body() -> None:
        ref = await world.sessions.login_with_password(user, "", "", local_root=True)
        live = await world.sessions.check(ref)
        await world.sessions.change_password(live, "new")
        assert world.credentials.changed == [(changed, "new")]
        with pytest.raises(Failure, match="CHANGE_PASSWORD_REJECTED"):
            await world.sessions.change_password(live, "")
        reader = await world.sessions.check(await world.login("reader"))
        with pytest.raises(Failure, match="USER_IS_NOT_LOCAL_SUPERUSER"):
            await world.sessions.change_password(reader, "new")

    asyncio.run(body())


def test_the_unix_socket_comes_before_any_password(world: World) -> None:
    async def body() -> None:
        ref = await world.sessions.login_with_password("anybody", "wrong", "", local_root=True)
        assert world.credentials.asked == []
        assert world.database.view.get(Session, ref).auth_user_name == "anybody"

    asyncio.run(body())


def test_a_session_that_is_used_often_is_noted_too(world: World) -> None:
    async def body() -> None:
        ref = await world.login()
        began = world.clock.now
        for _ in range(4):
            world.clock.advance(seconds=300)
            await world.sessions.check(ref)
        assert world.database.view.get(Session, ref).last_active == began + timedelta(seconds=1200)

    asyncio.run(body())


def test_sessions_with_work_do_not_save_others_from_the_limit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROOT_MAX", 2)

    async def body() -> None:
        made = []
        for _ in range(2):
            world.clock.advance(seconds=1)
            made.append(await world.login())
        world.working.add(made[0])
        await world.login()
        assert world.ended == [made[1]]

    asyncio.run(body())


def test_local_sessions_are_limited_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROOT_MAX", 1)

    async def body() -> None:
        remote = await world.login()
        first = await world.sessions.local_login("root", "right", local_root=False)
        await world.sessions.local_login("root", "right", local_root=False)
        assert world.ended == [first]
        await world.sessions.check(remote)

    asyncio.run(body())
