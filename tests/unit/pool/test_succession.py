"""The role of coordinator goes to another host: whatever is lost on the way, there are never two, and in the end there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from poolnet.api import office, pool_calls
from poolnet.api.office import Office
from poolnet.api.pool_calls import PoolCalls
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.types import Ref
from poolnet.pool import membership, wire
from poolnet.pool.membership import Membership, Role
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.succession import look_for
from tests.unit.db.rows import a_host, a_ref, a_uuid, create

TERM = 7
Answering = Callable[[Ref[Host], Any], Any]


class Members:
    """The other hosts, as `answering` says what they say; None for one that is not there."""

    def __init__(self, answering: Answering, *, connected: tuple[Ref[Host], ...] = (), local: Host) -> None:
        self.term = TERM
        self.connected = connected
        self.asked: list[tuple[Ref[Host], Any]] = []
        self.was_asked = asyncio.Event()
        self._answering = answering
        self._local = local

    @property
    def office(self) -> wire.Follow:
        return wire.Follow(coordinator_uuid=self._local.uuid, address=self._local.address, term=self.term)

    async def ask(self, host: Ref[Host], question: Any, expect: type[Any]) -> Any:
        self.asked.append((host, question))
        self.was_asked.set()
        answer = self._answering(host, question)
        if answer is None:
            raise PeerGone("not there")
        if isinstance(answer, wire.Denied):
            raise PeerDenied(answer)
        return answer

    async def heard(self, within_s: float) -> None:
        pass

    async def replicated(self, hosts: Any, number: int, within_s: float) -> bool:
        return True


class Held:
    """Whether anything may be written."""

    def __init__(self) -> None:
        self.held = False

    async def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False


class Stage:
    """A coordinator, the host that is to be the next one, and another member."""

    def __init__(self, directory: Path, answering: Callable[[Stage], Answering]) -> None:
        self.me, self.next, self.third = (a_host(name) for name in ("me", "next", "third"))
        database = Database.open(MemoryEngine())
        create(database, self.me, self.next, self.third, Pool(ref=a_ref(), uuid=a_uuid()))
        self.stopped = asyncio.Event()
        self.office = Office(directory, self.stopped.set)
        self.office.role = Membership(term=TERM)
        self.members = Members(answering(self), connected=(self.next.ref, self.third.ref), local=self.me)
        self.held = Held()
        self.calls = PoolCalls(
            database=database,
            coordinator=cast("Any", self.held),
            sessions=cast("Any", None),
            members=cast("Any", self.members),
            joining=cast("Any", None),
            admitting=cast("Any", None),
            host=self.me.ref,
            files=cast("Any", None),
            office=self.office,
        )

    def written(self) -> Membership:
        """What this host would be if it died now."""
        return membership.load(self.office.state_dir)

    async def designate(self) -> None:
        await self.calls.messages()["pool.designate_new_master"](
            cast("Any", SimpleNamespace(arguments={"host": self.next.ref}))
        )


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for long."""
    monkeypatch.setattr(office, "ANSWER_S", 0.0)
    monkeypatch.setattr(pool_calls, "PROMOTE_S", 0.2)
    monkeypatch.setattr(pool_calls, "TELL_AT_HAND_OVER_S", 0.1)
    monkeypatch.setattr(pool_calls, "AGAIN_S", 0.01)


def test_this_host_is_coordinator_no_more_before_the_other_one_is(tmp_path: Path) -> None:
    def answering(stage: Stage) -> Answering:
        def answer(host: Ref[Host], question: Any) -> Any:
            written = stage.written()
            assert (written.role, written.coordinator_uuid, written.term) == (
                Role.MEMBER,
                stage.next.uuid,
                TERM + 1,
            )
            assert stage.held.held
            return wire.Granted()

        return answer

    stage = Stage(tmp_path, answering)
    asyncio.run(stage.designate())
    assert stage.members.asked == [
        (stage.next.ref, wire.Promote(term=TERM + 1)),
        (stage.third.ref, wire.Follow(coordinator_uuid=stage.next.uuid, address="", term=TERM + 1)),
    ]
    assert stage.office.changed
    assert stage.held.held, "nothing is written here any more"


def test_a_host_that_refuses_changes_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, lambda _: lambda *_: wire.Denied(reason="no"))
    with pytest.raises(Failure, match="HA_ABORT_NEW_MASTER"):
        asyncio.run(stage.designate())
    assert stage.written() == Membership(term=TERM)
    assert not stage.held.held
    assert not stage.office.changed


@pytest.mark.parametrize("lost", [1, 2, 1000])
def test_a_question_or_an_answer_that_is_lost_makes_no_second_coordinator(tmp_path: Path, lost: int) -> None:
    """The host is asked again; whether it has heard or not, this one is its member."""
    left = lost

    def answering(stage: Stage) -> Answering:
        def answer(host: Ref[Host], question: Any) -> Any:
            nonlocal left
            left -= 1
            return None if left >= 0 else wire.Granted()

        return answer

    stage = Stage(tmp_path, answering)
    asyncio.run(stage.designate())
    assert stage.office.changed
    assert (stage.written().role, stage.written().coordinator_uuid) == (Role.MEMBER, stage.next.uuid)
    assert stage.held.held


def test_a_caller_that_goes_away_does_not_stop_it_half_way(tmp_path: Path) -> None:

    async def run(stage: Stage) -> None:
        calling = asyncio.create_task(stage.designate())
        await stage.members.was_asked.wait()
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        await stage.stopped.wait()

    def answering(_: Stage) -> Answering:
        return lambda *_: None if len(stage.members.asked) < 3 else wire.Granted()

    stage = Stage(tmp_path, answering)
    asyncio.run(run(stage))
    assert stage.written().coordinator_uuid == stage.next.uuid
    assert stage.held.held


@pytest.mark.parametrize(
    ("found", "connected", "told"),
    [
        (wire.Pong(role=Role.MEMBER, term=TERM - 1), False, True),
        (wire.Pong(role=Role.MEMBER, term=TERM), False, False),  # the address changed: the manual's procedure
        (wire.Pong(role=Role.MEMBER, term=TERM + 1), False, False),
        (wire.Pong(role=Role.COORDINATOR, term=TERM - 1), False, False),
        (wire.Pong(role=Role.COORDINATOR, term=TERM - 1), True, True),
        (None, True, False),
    ],
)
def test_a_new_coordinator_finds_those_that_were_not_told(
    found: wire.Pong | None, *, connected: bool, told: bool
) -> None:
    me, other = a_host("me"), a_host("other")

    def answer(host: Ref[Host], question: Any) -> Any:
        return found if isinstance(question, wire.Ping) else wire.Granted()

    members = Members(answer, connected=(other.ref,) if connected else (), local=me)
    assert asyncio.run(look_for(cast("Any", members), other.ref)) is told
    assert (members.asked[-1] == (other.ref, members.office)) is told
