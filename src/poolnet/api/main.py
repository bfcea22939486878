"""The program `poolnet-api`: builds everything, gives each part what it needs, and serves until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import socket
import stat
import sys
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from poolnet.api.answer import Origin
from poolnet.api.cli_login import CliLogin
from poolnet.api.config import ApiConfig, ConfigError, load_config, rooted
from poolnet.api.credentials import Credentials
from poolnet.api.dispatch import Dispatcher
from poolnet.api.doors import Doors
from poolnet.api.events import Events
from poolnet.api.gate import Gate
from poolnet.api.http import HttpServer, Timeouts
from poolnet.api.logs import configure_logs
from poolnet.api.notify import notify_ready
from poolnet.api.own import own_messages
from poolnet.api.sessions import SWEEP_S, Sessions
from poolnet.api.tasks import Tasks
from poolnet.api.tls import ensure_identities, server_context
from poolnet.db.database import Database
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.db.errors import DatabaseError
from poolnet.hostnet import protocol
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.hosts import LocalHosts
from poolnet.pool.start import StartRefused, converge, follow_facts, follow_locks, greet, open_pool
from poolnet.rules.context import Counters
from poolnet.xe.client import Client
from poolnet.xe.commands.run import run as run_command

log = structlog.get_logger("poolnet.api")

SOCKET_MODE = 0o660
SETTLE_S = 10.0  # a host that is not what it should be by then is served all the same
CALLS_GRACE_S = 1.0  # for calls under way when the server is told to stop
PAM_TIMEOUT_S = 30.0


class PamThroughHostd:
    """The system's accounts, asked through the host daemon: only root may ask PAM about others."""

    def __init__(self, link: HostLink) -> None:
        self._link = link

    async def accepts(self, user: str, password: str) -> bool:
        """Whether PAM accepts the user; no daemon, no."""
        command = protocol.Authenticate(user=user, password=password)
        with suppress(HostGone, HostRefused):
            return (await self._link.request(command, protocol.Authenticated, PAM_TIMEOUT_S)).accepted
        return False


async def serve(config: ApiConfig) -> None:
    """Serves until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    background = Background(stopped)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(config, stack, background), name="start")
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            waiting.cancel()
            return
        await starting
        # The model and the loaded database live as long as the server: no collection needs to look at them again.
        gc.collect()
        gc.freeze()
        notify_ready()
        log.info("serving", https=config.https_port, http=config.http_port)
        await waiting
    background.require_sound()


class Background:
    """What runs beside the calls, as long as the server does. If some of it fails the server ends: it is started anew."""

    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins some work."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            log.error("background-failed", work=task.get_name(), exc_info=self._failure)
            self._stopped.set()

    async def stop(self) -> None:
        """Ends all of it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def require_sound(self) -> None:
        """Raises BackgroundFailed if some of it has failed."""
        if self._failure is not None:
            raise BackgroundFailed(f"{type(self._failure).__name__} in the background; see above")


class BackgroundFailed(Exception):
    """The server cannot go on; the log says why."""


async def _start(config: ApiConfig, stack: AsyncExitStack, background: Background) -> None:
    state_dir = rooted(config.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = Database.open(
        SqliteEngine(state_dir / "pool.db")
    )  # first: whoever has it open has the sockets too
    stack.callback(database.close)
    gate = Gate()
    server = HttpServer(gate, gate.run_cli, timeouts=Timeouts(shutdown_s=CALLS_GRACE_S))
    stack.push_async_callback(server.close)
    doors = _listen(config, server, database)
    link = HostLink(rooted(config.hostd_socket))
    stack.push_async_callback(link.close)
    greeting, observation = await greet(link)
    counters = Counters()
    opened = await open_pool(
        database=database,
        greeting=greeting,
        facts=observation.facts,
        state_dir=state_dir,
        clock=_now,
        counters=counters,
    )
    host = opened.local_host
    hosts = LocalHosts(host, link, observation.facts)
    coordinator = Coordinator(database=database, hosts=hosts, local_host=host, clock=_now, counters=counters)
    coordinator.start()
    stack.push_async_callback(coordinator.stop)
    stack.push_async_callback(background.stop)
    unknown_guests = [action for _, _, action in opened.guest_actions]
    tried = asyncio.Event()
    background.start(converge(coordinator, host, unknown_guests, tried), "converge")
    # A host that cannot be made what it should be has to be reachable all the more.
    with suppress(TimeoutError):
        await asyncio.wait_for(tried.wait(), SETTLE_S)
    credentials = Credentials(state_dir / "users.toml", PamThroughHostd(link))
    background.start(doors.follow(database, host), "doors")
    events = _open_gate(gate, stack, background, database, coordinator, credentials, host, hosts)
    stack.push_async_callback(coordinator.stop)  # so that the calls under way end
    stack.push_async_callback(server.close)  # the doors close before what is behind them
    stack.callback(events.wake_all)
    facts = follow_facts(link=link, hosts=hosts, host=host, coordinator=coordinator, clock=_now)
    background.start(facts, "facts")
    locks = follow_locks(link=link, host=host, coordinator=coordinator, clock=_now)
    background.start(locks, "locks")


def _open_gate(
    gate: Gate,
    stack: AsyncExitStack,
    background: Background,
    database: Database,
    coordinator: Coordinator,
    credentials: Credentials,
    host: Ref[Host],
    hosts: LocalHosts,
) -> Events:
    tasks = Tasks(database=database, this_host=host, clock=_now)
    stack.push_async_callback(tasks.stop)
    sessions = Sessions(
        database=database, credentials=credentials, this_host=host, clock=_now, has_work=tasks.has_work
    )
    events = Events(database=database, clock=_now)
    stack.push_async_callback(events.stop)
    sessions.on_end(events.session_ended)
    own = own_messages(
        database=database,
        sessions=sessions,
        tasks=tasks,
        events=events,
        coordinator=coordinator,
        hosts=hosts,
    )
    dispatcher = Dispatcher(
        database=database, coordinator=coordinator, sessions=sessions, tasks=tasks, own=own
    )

    async def run_cli(words: Sequence[str], client: Client, origin: Origin) -> None:
        login = CliLogin(
            dispatcher=dispatcher,
            sessions=sessions,
            coordinator=coordinator,
            database=database,
            origin=origin,
        )
        await run_command(words, client, login)

    gate.open(dispatcher, run_cli)
    background.start(_sweep(sessions, tasks), "sweep")
    return events


def _listen(config: ApiConfig, server: HttpServer, database: Database) -> Doors:
    path = rooted(config.socket)
    path.parent.mkdir(parents=True, exist_ok=True)
    server.listen_unix(path, mode=SOCKET_MODE)
    link_reference_socket(rooted(config.reference_socket), path)
    identities = ensure_identities(
        rooted(config.state_dir) / "tls",
        names=(socket.gethostname(), "localhost"),
        addresses=("127.0.0.1", "::1"),
        now=_now(),
    )
    doors = Doors(server, config, server_context(identities))
    doors.open(database.view)
    return doors


def link_reference_socket(reference: Path, ours: Path) -> None:
    """Puts a link to our socket where local clients of the reference look, unless somebody else owns that place."""
    with suppress(OSError):
        reference.parent.mkdir(parents=True, exist_ok=True)
    try:
        mode = reference.lstat().st_mode
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISLNK(mode) or Path(os.readlink(reference)) != ours:  # noqa: PTH115 - the text, not the target
            log.info("reference-socket-is-not-ours", path=str(reference))
        return
    try:
        reference.symlink_to(ours)
    except OSError as error:
        log.info("reference-socket-not-linked", reason=str(error))


async def _sweep(sessions: Sessions, tasks: Tasks) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await sessions.sweep()
        await tasks.sweep()


def _now() -> datetime:
    return datetime.now(UTC)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the server; exits with 1 and one line on stderr when it cannot start."""
    parser = argparse.ArgumentParser(prog="poolnet-api", description="The XenAPI and xe server of poolnet.")
    parser.add_argument("--config", type=Path, help="read this file instead of /etc/poolnet/api.toml")
    options = parser.parse_args(arguments)
    configure_logs(sys.stderr)
    try:
        config = load_config(options.config)
        asyncio.run(serve(config))
    except (ConfigError, StartRefused, BackgroundFailed, DatabaseError, OSError) as error:
        sys.exit(f"poolnet-api: {error}")
