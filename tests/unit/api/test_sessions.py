"""Logins, ages and numbers of sessions (spec §3)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from poolnet.api import sessions as module
from poolnet.api.credentials import Credentials, Identity
from poolnet.api.sessions import Sessions
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.host import Host
from poolnet.model.classes.session import Session
from poolnet.model.errors import Failure
from poolnet.model.roles import Role
from poolnet.model.types import Ref


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

    async def verify(self, user: str, password: str) -> Identity | None:
        self.asked.append(user)
        roles = {"root": None, "reader": Role.READ_ONLY}
        return Identity(user, roles[user]) if password == "right" and user in roles else None


class World:
    def __init__(self) -> None:
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
            credentials=Known(),
            this_host=host.ref,
            clock=self.clock,
            has_work=lambda ref: ref in self.working,
        )
        self.sessions.on_end(self.ended.append)

    async def login(self, user: str = "root", originator: str = "") -> Ref[Session]:
        return await self.sessions.login_with_password(user, "right", originator, local_root=False)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(module, "REFUSAL_DELAY_S", 0.0)
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
        await world.sessions.sweep()
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


@pytest.mark.parametrize(
    "text", ["this is no TOML", "[users.root]\ncolour = 1", '[users.root]\npassword_hash = "x"']
)
def test_a_users_toml_that_cannot_be_read_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "users.toml").write_text(text)
    assert asyncio.run(Credentials(tmp_path / "users.toml", None).verify("root", "x")) is None
