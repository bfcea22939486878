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
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from poolnet.api.answer import Origin
from poolnet.api.cli_login import CliLogin
from poolnet.api.config import ApiConfig, ConfigError, load_config, rooted
from poolnet.api.credentials import Credentials
from poolnet.api.dispatch import Dispatcher
from poolnet.api.events import Events
from poolnet.api.gate import Gate
from poolnet.api.http import HttpServer
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
from poolnet.pool.start import StartRefused, converge, follow_facts, greet, open_pool
from poolnet.rules.context import Counters
from poolnet.xe.client import Client
from poolnet.xe.commands.run import run as run_command

log = structlog.get_logger("poolnet.api")

SOCKET_MODE = 0o660


class PamThroughHostd:
    """The system's accounts, asked through the host daemon: only root may ask PAM about others."""

    def __init__(self, link: HostLink) -> None:
        self._link = link

    async def accepts(self, user: str, password: str) -> bool:
        """Whether PAM accepts the user; no daemon, no."""
        command = protocol.Authenticate(user=user, password=password)
        with suppress(HostGone, HostRefused):
            return (await self._link.request(command, protocol.Authenticated)).accepted
        return False


async def serve(config: ApiConfig) -> None:
    """Serves until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(config, stack), name="start")
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


async def _start(config: ApiConfig, stack: AsyncExitStack) -> None:
    state_dir = rooted(config.state_dir)
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    gate = Gate()
    server = HttpServer(gate, gate.run_cli)
    stack.push_async_callback(server.close)
    _listen(config, server)
    link = HostLink(rooted(config.hostd_socket))
    stack.push_async_callback(link.close)
    database = Database.open(SqliteEngine(state_dir / "pool.db"))
    stack.callback(database.close)
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
    await converge(coordinator, host, [action for _, _, action in opened.guest_actions])
    credentials = Credentials(state_dir / "users.toml", PamThroughHostd(link))
    events = _open_gate(gate, stack, database, coordinator, credentials, host)
    stack.push_async_callback(server.close)  # the doors close before what is behind them
    stack.callback(events.wake_all)
    _in_background(
        stack, follow_facts(link=link, hosts=hosts, host=host, coordinator=coordinator, clock=_now), "facts"
    )


def _open_gate(
    gate: Gate,
    stack: AsyncExitStack,
    database: Database,
    coordinator: Coordinator,
    credentials: Credentials,
    host: Ref[Host],
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
        database=database, sessions=sessions, tasks=tasks, events=events, coordinator=coordinator
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
    _in_background(stack, _sweep(sessions, tasks), "sweep")
    return events


def _listen(config: ApiConfig, server: HttpServer) -> None:
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
    server.listen_tcp(config.listen, config.http_port)
    server.listen_tcp(config.listen, config.https_port, tls=server_context(identities))


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


def _in_background(stack: AsyncExitStack, work: object, name: str) -> None:
    task = asyncio.ensure_future(work)  # type: ignore[call-overload]

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    task.set_name(name)
    stack.push_async_callback(end)


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
    configure_logs()
    try:
        config = load_config(options.config)
        asyncio.run(serve(config))
    except (ConfigError, StartRefused, DatabaseError, OSError) as error:
        sys.exit(f"poolnet-api: {error}")
