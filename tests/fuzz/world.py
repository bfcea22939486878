"""The doors that are fuzzed, in this process and its event loop: the API server with everything but a host, and the host
daemon's socket in front of what is pure of it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import sys
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import structlog

from poolnet.api.http import HttpServer, Timeouts
from poolnet.hostd.server import Send, Server
from poolnet.hostnet import protocol
from poolnet.hostnet.diff import diff
from poolnet.hostnet.show import plan_hash, show_plan
from poolnet.hostnet.state import EMPTY
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.errors import Failure
from poolnet.model.registry import CLASSES
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.pool.hostlink import HostRefused
from tests.in_process import FACTS, GREETING, InProcess, in_process, login_as
from tests.unit.api.toy import post, xml_call

ANSWER_S: Final = 20.0
"""An answer that takes longer is a hang: event calls, which wait by themselves, are woken before. Time in which nobody ran
does not count."""
TICK_S: Final = 0.1
WAKE_TICKS: Final = 20
_NAME: Final = re.compile(rb"@(session|read-only|vm-admin|pool-operator|uuid:[A-Za-z_]+:\d|[A-Za-z_]+:\d)")
_BUGS: Final = frozenset(("call-failed", "a request failed", "task-failed", "background-failed"))


class BugFound(AssertionError):
    """The server did what no request may make it do."""


class _Listening:
    """Keeps what was logged at level error, which is always a bug of ours."""

    def __init__(self) -> None:
        self.bugs: list[str] = []

    def __call__(
        self, logger: object, method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if event.get("event") in _BUGS or method in ("error", "exception", "critical"):
            self.bugs.append(str({**event, "exc_info": _text_of(event.get("exc_info"))}))
        raise structlog.DropEvent


def _text_of(exc_info: object) -> str:
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    return "".join(traceback.format_exception(error)) if error is not None else ""


@dataclass
class World:
    """Running doors, and how to knock at them."""

    parts: InProcess
    api_socket: Path
    daemon_socket: Path
    listening: _Listening
    sessions: dict[str, str]

    async def post(self, path: str, body: bytes) -> bytes:
        """One request on a connection of its own, and all of the answer."""
        request = post(path, await self.resolve(body))
        return await self._exchange(self.api_socket, request)

    async def command_line(self, body: bytes, frames: bytes) -> bytes:
        """One command of the thin client, with what it sends afterwards."""
        return await self._exchange(
            self.api_socket, post("/cli", await self.resolve(body)), quiet_s=0.05, then=frames
        )

    async def frames(self, frames: Sequence[bytes]) -> bytes:
        """Frames for the host daemon, on one connection."""
        return await self._exchange(self.daemon_socket, b"".join(frames), quiet_s=0.02)

    async def _exchange(
        self, path: Path, data: bytes, *, quiet_s: float | None = None, then: bytes = b""
    ) -> bytes:
        """Sends bytes and reads to the end; with `quiet_s` our half is closed when nothing has come for that long.

        `then` is sent when the first of the answer has come.
        """
        try:
            async with _within(ANSWER_S, self.parts.events.wake_all):
                reader, writer = await asyncio.open_unix_connection(path)
                answer = b""
                with suppress(ConnectionError):
                    writer.write(data)
                    await writer.drain()
                    if quiet_s is not None:
                        if then:
                            answer = await reader.read(1 << 16)
                            writer.write(then)
                        answer += await _until_quiet(reader, quiet_s)
                        writer.write_eof()
                    answer += await reader.read()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
        except TimeoutError:
            raise BugFound(f"no answer within {ANSWER_S:g} s to {data[:2000]!r}") from None
        self.require_sound(data)
        return answer

    def require_sound(self, data: bytes = b"") -> None:
        """Raises BugFound if anything was logged that only a bug logs."""
        if self.listening.bugs:
            bugs = "\n".join(self.listening.bugs)
            self.listening.bugs.clear()
            raise BugFound(f"{bugs}\nafter {data[:4000]!r}")

    async def require_answering(self) -> None:
        """Asks every door for something simple."""
        status = b"408"
        for _ in range(TOO_SLOW_MAX):
            answer = await self.post("/RPC2", xml_call("system.listMethods"))
            status = answer.partition(b"\r\n")[0]
            if b"408" not in status:  # this process did not run for the time in which a request has to come
                break
        if b"200 OK" not in status:
            raise BugFound(f"a simple call is answered by {answer[:200]!r}")
        hello = msgspec.json.encode(protocol.Request(id=7, command=protocol.Hello()))
        reply = await self.frames([len(hello).to_bytes(4) + hello])
        if b'"id":7' not in reply:
            raise BugFound(f"the host daemon answers {reply[:200]!r}")

    async def resolve(self, body: bytes) -> bytes:
        """Puts sessions, references and uuids in the place of their names."""
        if b"@" not in body:
            return body
        for name, role in (("session", None), *((role.value, role) for role in FUZZED_ROLES)):
            if f"@{name}".encode() in body:
                await self._require_session(name, role)
        return _NAME.sub(self._meant, body)

    async def _require_session(self, name: str, role: Role | None) -> None:
        """Logs in again if the session of that name has been ended."""
        with suppress(Failure):
            await self.parts.sessions.check(self.sessions.get(name, ""))
            return
        self.sessions[name] = await login_as(self.parts, role)

    def _meant(self, found: re.Match[bytes]) -> bytes:
        name = found[1].decode()
        if name in self.sessions:
            return self.sessions[name].encode()
        *uuid, cls, at = name.split(":")
        if cls not in CLASSES or not CLASSES[cls].has_table:
            return found[0]
        rows = list(self.parts.database.view.all(CLASSES[cls].python_type))
        if int(at) >= len(rows):
            return b"OpaqueRef:NULL"
        row = rows[int(at)]
        return str(getattr(row, "uuid", row.ref) if uuid else row.ref).encode()


@asynccontextmanager
async def _within(seconds: float, wake: Callable[[], None]) -> AsyncIterator[None]:
    """Like `asyncio.timeout`, but a wait in which this whole process got no processor counts as one tick.

    `wake` is called now and then: whoever waits for something to happen is answered.
    """
    async with asyncio.timeout(None) as limit:
        ticking = asyncio.create_task(_expire(limit, round(seconds / TICK_S), wake))
        try:
            yield
        finally:
            ticking.cancel()


async def _expire(limit: asyncio.Timeout, ticks: int, wake: Callable[[], None]) -> None:
    for tick in range(ticks):
        await asyncio.sleep(TICK_S)
        if tick % WAKE_TICKS == WAKE_TICKS - 1:
            wake()
    limit.reschedule(asyncio.get_running_loop().time())


async def _until_quiet(reader: asyncio.StreamReader, quiet_s: float) -> bytes:
    answer = b""
    with suppress(TimeoutError):
        while chunk := await asyncio.wait_for(reader.read(1 << 16), quiet_s):
            answer += chunk
    return answer


TOO_SLOW_MAX: Final = 5
_TIMEOUTS: Final = Timeouts(body_s=0.5, keepalive_s=0.5, send_stall_s=2.0)
FUZZED_ROLES: Final = (Role.READ_ONLY, Role.VM_ADMIN, Role.POOL_OPERATOR)


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """Opens all doors on sockets in a directory of their own; what is left over at the end is a bug."""
    listening = _Listening()
    former = structlog.get_config()
    structlog.configure(processors=[listening], wrapper_class=structlog.stdlib.BoundLogger)
    try:
        async with AsyncExitStack() as stack:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poolnet-fuzz-")))
            parts = await stack.enter_async_context(in_process(root))
            parts.host.answer = _host_answers
            await _furnish(parts)
            world = World(parts, root / "api.sock", root / "hostd.sock", listening, {})
            server = HttpServer(parts.dispatcher, parts.run_cli, timeouts=_TIMEOUTS)
            stack.push_async_callback(server.close)
            server.listen_unix(world.api_socket, mode=0o600)
            daemon = Server(_dispatch, _watch, frozenset((os.geteuid(),)))
            await daemon.start(world.daemon_socket, os.getegid())
            stack.push_async_callback(daemon.close)
            yield world
            try:
                async with _within(ANSWER_S, parts.events.wake_all):
                    while server.connections:  # noqa: ASYNC110 - nothing announces it
                        await asyncio.sleep(0.01)
            except TimeoutError:
                raise BugFound(f"{server.connections} connections stay") from None
    finally:
        structlog.configure(**former)


def _host_answers(command: protocol.Command) -> protocol.Answer:
    """What the host behind the API says when it is asked: it has counters, and no switch."""
    if isinstance(command, protocol.ReadCounters):
        return protocol.Counters(ports=())
    raise HostRefused(protocol.Refused(fault=protocol.Fault.SWITCH_FAILED, message="there is no switch"))


async def _furnish(parts: InProcess) -> None:
    """Puts in what calls are mostly about: internal networks, and VMs with VIFs in them."""
    txn = parts.database.begin()
    networks = [
        Network(ref=_new_ref(), uuid=str(uuid4()), name_label=f"n{at}", bridge=f"xapi{90 + at}", MTU=1500)
        for at in range(2)
    ]
    for network in networks:
        txn.create(network)
    for at in range(3):
        vm = VM(ref=_new_ref(), uuid=str(uuid4()), name_label=f"vm{at}", is_a_template=at == 2)
        txn.create(vm)
        for device, network in enumerate(networks):
            vif = VIF(
                ref=_new_ref(),
                uuid=str(uuid4()),
                device=str(device),
                network=network.ref,
                VM=vm.ref,
                MAC=f"02:00:00:00:0{at}:0{device}",
                MTU=1500,
            )
            txn.create(vif)
    await parts.database.commit(txn.changes())


def _new_ref() -> Ref[Any]:
    return Ref(f"OpaqueRef:{uuid4()}")


async def _dispatch(request: protocol.Request) -> protocol.Answer:
    """What the daemon does that is pure: it plans a desired state and shows the plan. Guests, switch, disk are not here."""
    match request.command:
        case protocol.Hello():
            return GREETING
        case protocol.Stage(desired=desired):
            plan = diff(EMPTY, desired)
            show_plan(plan, desired)
            diff(desired, EMPTY)
            return protocol.Staged(plan=plan, plan_hash=plan_hash(plan))
        case _:
            return protocol.Done(facts=FACTS)


async def _watch(command: protocol.Watch | protocol.WatchLocks, send: Send) -> None:
    await send(protocol.FactsChanged(facts=FACTS))


def resident_bytes() -> int:
    """How much memory this process holds, after everything unused is given back."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
