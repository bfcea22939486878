"""Guessing passwords: how often, how fast, and what a guesser learns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from poolnet.api import logins as module
from poolnet.api.credentials import Credentials, Identity
from poolnet.api.logins import Logins
from poolnet.api.sessions import Sessions
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.host import Host
from poolnet.model.errors import Failure
from poolnet.model.types import Ref
from tests.in_process import KnownPeople
from tests.unit.api.test_sessions import Clock


class Known(Credentials):
    """Knows root, without the time that a hash takes."""

    def __init__(self) -> None:
        self.asked = 0
        self.under_way = 0
        self.most = 0
        self.hold: asyncio.Event | None = None

    def is_local(self, user: str) -> bool:
        return user == "root"

    async def verify(self, user: str, password: str, *, only_root: bool = False) -> Identity | None:
        self.asked += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if self.hold is not None:
            await self.hold.wait()
        self.under_way -= 1
        return Identity(user, None) if (user, password) == ("root", "right") else None


@dataclass
class Rig:
    known: Known = field(default_factory=Known)
    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    logins: Logins = field(init=False)

    async def code(self, password: str = "wrong", user: str = "root", peer: str = "192.0.2.1") -> str:
        try:
            await self.logins.identify(user, password, peer)
        except Failure as failure:
            return failure.code
        return ""


def with_rig(body: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        rig = Rig()
        rig.logins = Logins(
            database=Database.open(MemoryEngine()),
            credentials=rig.known,
            directory=KnownPeople(),
            refusal_delay_s=0.0,
            clock=lambda: rig.now,
        )
        await body(rig)

    asyncio.run(run())


def test_a_source_that_guesses_is_refused_unseen_and_forgiven_in_time() -> None:
    async def body(rig: Rig) -> None:
        for _ in range(module.OF_SOURCE_BURST):
            await rig.code()
        asked = rig.known.asked
        assert asked == module.OF_SOURCE_BURST
        with pytest.raises(Failure, match="Too many failed logins"):
            await rig.logins.identify("root", "right", "192.0.2.1")
        assert rig.known.asked == asked, "not even the right password is looked at"
        assert await rig.code("right", peer="192.0.2.2") == "", "others are not concerned"
        rig.now += 1 / module.OF_SOURCE_PER_S
        assert await rig.code("right") == ""

    with_rig(body)


def test_a_user_is_guessed_at_from_many_sources_no_faster() -> None:
    async def body(rig: Rig) -> None:
        assert await rig.code("right", peer="198.51.100.1") == ""
        for at in range(module.OF_USER_BURST):
            await rig.code(peer=f"192.0.2.{at}")
        asked = rig.known.asked
        await rig.code(peer="203.0.113.9")
        assert rig.known.asked == asked
        assert await rig.code("right", peer="198.51.100.1") == "", "its owner is known where it logs in from"
        assert await rig.code("wrong", user="other", peer="203.0.113.9") == "SESSION_AUTHENTICATION_FAILED"
        assert rig.known.asked == asked + 2

    with_rig(body)


def test_addresses_of_one_network_are_one_source() -> None:
    async def body(rig: Rig) -> None:
        for at in range(module.OF_SOURCE_BURST):
            await rig.code(peer=f"2001:db8::{at:x}")
        asked = rig.known.asked
        await rig.code(peer="2001:db8::ffff:1")
        assert rig.known.asked == asked

    with_rig(body)


def test_passwords_are_checked_few_at_a_time_and_one_source_cannot_take_all_places() -> None:
    async def body(rig: Rig) -> None:
        rig.known.hold = asyncio.Event()
        flood = [
            asyncio.create_task(rig.code())
            for _ in range(module.OF_SOURCE_AT_ONCE + module.OF_SOURCE_WAITING)
        ]
        await asyncio.sleep(0)
        assert rig.known.under_way == module.OF_SOURCE_AT_ONCE
        with pytest.raises(Failure, match="TOO_BUSY"):
            await rig.logins.identify("root", "right", "192.0.2.1")
        other = asyncio.create_task(rig.code("right", peer="192.0.2.2"))
        await asyncio.sleep(0)
        assert rig.known.under_way == module.OF_SOURCE_AT_ONCE + 1
        rig.known.hold.set()
        assert await other == ""
        await asyncio.gather(*flood)
        assert rig.known.most <= module.AT_ONCE

    with_rig(body)


@pytest.mark.parametrize("took", [0.0, 0.4, 2.5])
def test_every_refusal_is_answered_at_the_same_time(monkeypatch: pytest.MonkeyPatch, took: float) -> None:
    async def body(rig: Rig) -> None:
        slept: list[float] = []

        async def sleep(seconds: float) -> None:
            slept.append(seconds)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        refused = Failure("SESSION_AUTHENTICATION_FAILED", "root", "x")
        logins = Logins(
            database=Database.open(MemoryEngine()),
            credentials=rig.known,
            directory=KnownPeople(),
            refusal_delay_s=5.0,
            clock=lambda: rig.now,
        )
        began = rig.now
        rig.now += took
        assert await logins.refuse(refused, began) is refused
        assert slept == [pytest.approx(5.0 - took)]

    with_rig(body)


def test_a_flood_of_guesses_does_not_shut_root_out_of_the_console() -> None:
    async def body(rig: Rig) -> None:
        database = Database.open(MemoryEngine())
        host = Host(ref=Ref("OpaqueRef:host"), uuid="host")
        txn = database.begin()
        txn.create(host)
        database.commit_now(txn.changes())
        sessions = Sessions(
            database=database,
            credentials=rig.known,
            directory=KnownPeople(),
            this_host=host.ref,
            clock=Clock(),
            refusal_delay_s=0.0,
        )
        for at in range(200):
            with pytest.raises(Failure):
                await sessions.login_with_password("root", "wrong", "", False, f"192.0.2.{at % 250}")
        with pytest.raises(Failure, match="Too many failed logins"):
            await sessions.login_with_password("root", "right", "", False, "192.0.2.251")
        assert await sessions.login_with_password("root", "", "", True)

    with_rig(body)
