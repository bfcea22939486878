"""What a command has to say reaches its client, on a real connection, when the server can commit nothing any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from poolnet.api.answer import Origin, Relayed, Request
from poolnet.api.dispatch import Call, Dispatcher, Own
from poolnet.api.member_caller import ForwardingCaller
from poolnet.api.member_calls import MemberCalls, MemberLogin
from poolnet.api.parts import Background
from poolnet.api.sessions import Sessions
from poolnet.db.engine import CommitRecord
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.session import Session
from poolnet.model.errors import Failure, operation_not_allowed
from poolnet.model.types import Ref
from poolnet.pool.member import Member
from poolnet.xe.commands.run import run
from tests.in_process import InProcess, with_server
from tests.unit.api.test_cli_login import login_to
from tests.unit.api.test_hang_up import until
from tests.unit.api.test_thincli import EXIT_0, EXIT_1, HELLO
from tests.unit.api.toy import serving
from tests.unit.pool.test_coordinator import network_call

COMMAND = b"pool-cluster-enable\nusername=root\npassword=secret"
REQUEST = b"POST /cli HTTP/1.0\r\ncontent-length: %d\r\n\r\n%b" % (len(COMMAND), COMMAND)


class HeldEngine(MemoryEngine):
    """An engine whose appends do not end while they are held."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()
        self.goes_on.set()

    def append(self, record: CommitRecord) -> None:
        """See `Engine`."""
        self.goes_on.wait()
        super().append(record)


@asynccontextmanager
async def served(server: InProcess, enable: Own) -> AsyncIterator[int]:
    """The port of a server on which that is what `pool.cluster_enable` does."""
    dispatcher = Dispatcher(
        database=server.database,
        coordinator=server.coordinator,
        sessions=server.sessions,
        tasks=server.tasks,
        own={**server.own_messages(), "pool.cluster_enable": enable},
        auditor=server.auditor,
        budgets=server.budgets,
    )
    login = login_to(server, dispatcher)
    async with serving(dispatcher, lambda words, client, _: run(words, client, login)) as (_, port):
        yield port


async def told(port: int) -> bytes:
    """What the client gets after the greeting, until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert await reader.readexactly(len(HELLO)) == HELLO
    writer.write(HELLO)
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize("fails", [False, True])
def test_the_end_of_a_command_waits_for_no_commit_of_its_logout(tmp_path: Path, fails: bool) -> None:
    engine = HeldEngine()

    async def body(server: InProcess) -> None:
        sessions: list[Ref[Session]] = []
        changes: list[asyncio.Task[object]] = []

        async def enable(call: Call) -> None:
            assert call.live is not None
            sessions.append(call.live.ref)
            engine.goes_on.clear()
            changes.append(asyncio.create_task(server.coordinator.run(network_call("held"))))
            if fails:
                raise operation_not_allowed("because")

        try:
            async with served(server, enable) as port:
                answer = await told(port)
                assert answer.endswith(EXIT_1 if fails else EXIT_0)
                assert (b"because" in answer) is fails
                with pytest.raises(Failure, match="SESSION_INVALID"):
                    await server.sessions.check(sessions[0])
                assert not changes[0].done()
        finally:
            engine.goes_on.set()
        await changes[0]
        await until(server, lambda: not server.database.view.count(Session))

    with_server(tmp_path, body, engine)


def test_a_server_ends_while_the_commit_of_a_logout_never_does(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        never: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def enable(call: Call) -> None:
            server.database.commit = lambda *_: never  # type: ignore[method-assign, assignment]

        async with served(server, enable) as port:
            assert await told(port) == EXIT_0
        assert server.database.view.count(Session) == 1
        await asyncio.wait_for(server.sessions.stop(), 20)

    with_server(tmp_path, body)


def test_a_member_s_command_waits_for_no_logout_at_the_coordinator() -> None:
    async def body() -> None:
        asked, never = asyncio.Event(), asyncio.Event()

        async def pass_on(request: Request) -> Relayed:
            asked.set()
            await never.wait()
            raise AssertionError("nobody answers")

        background = Background(asyncio.Event())
        login = MemberLogin(
            cast("MemberCalls", None),
            cast("Sessions", None),
            cast("Member", None),
            background,
            Origin(local_root=True),
        )
        login.logout(ForwardingCaller(pass_on, "OpaqueRef:session"))
        await asyncio.wait_for(asked.wait(), 20)
        await asyncio.wait_for(background.stop(), 20)
        background.require_sound()

    asyncio.run(body())
