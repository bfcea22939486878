"""The program `poolnet-api`: builds everything, gives each part what it needs, and serves until it is told to stop.

What a coordinator (or a host alone) and a member have of their own is in `as_coordinator` and `as_member`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path

import structlog

from poolnet.api.as_coordinator import Started, start_coordinator
from poolnet.api.as_member import start_member
from poolnet.api.auditing import Auditor
from poolnet.api.budgets import Budgets
from poolnet.api.collector import settle
from poolnet.api.config import ApiConfig, ConfigError, load_config, rooted
from poolnet.api.doors import Doors
from poolnet.api.gate import Gate
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.http import HttpServer, Timeouts
from poolnet.api.logs import configure_logs
from poolnet.api.notify import notify_ready
from poolnet.api.office import Office
from poolnet.api.parts import Background, BackgroundFailed, Parts
from poolnet.api.place import Place
from poolnet.db.database import Database
from poolnet.db.errors import DatabaseError
from poolnet.pool.audit_log import DIRECTORY, AuditLog
from poolnet.pool.cluster import ClusterTrouble
from poolnet.pool.membership import MembershipBroken, Role, remove_database
from poolnet.pool.pki import pool_files
from poolnet.pool.start import StartRefused, host_uuid

log = structlog.get_logger("poolnet.api")

SOCKET_MODE = 0o660
CALLS_GRACE_S = 1.0  # for calls under way when the server is told to stop


async def _nothing(_: Started) -> None:
    """What is done besides when a server is no part of something larger."""


async def serve(config: ApiConfig, also: Callable[[Started], Awaitable[None]] = _nothing) -> None:
    """Serves until SIGTERM or SIGINT; starts anew, in the same process, whenever the host's role in its pool changes.

    `also` is waited for whenever a coordinator has started, before the server says that it is ready.
    """
    place = Place(rooted(config.state_dir), rooted(config.socket).parent, rooted(config.hostd_socket))
    try:
        while await _serve_once(config, also, place):
            log.info("starting-anew", reason="the role of this host has changed")
    finally:
        place.close()


async def _serve_once(config: ApiConfig, also: Callable[[Started], Awaitable[None]], place: Place) -> bool:
    """Serves in the role that the host has now; says whether it has another one."""
    stopped = asyncio.Event()
    background = Background(stopped)
    office = Office(rooted(config.state_dir), stopped.set)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(config, stack, background, office, also, place), name="start")
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            waiting.cancel()
            return False
        await starting
        settle()
        notify_ready()
        log.info("serving", https=config.https_port, http=config.http_port, role=office.role.role.value)
        await waiting
    background.require_sound()
    return office.changed


async def _start(
    config: ApiConfig,
    stack: AsyncExitStack,
    background: Background,
    office: Office,
    also: Callable[[Started], Awaitable[None]],
    place: Place,
) -> None:
    state_dir = office.state_dir
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if state_dir.stat().st_mode & 0o077:  # whoever made it before may have left it open
        state_dir.chmod(0o700)
    office.open()
    await place.open(office)
    # First: whoever has the database open has the sockets too.
    database = Database.open(place.engine(office))
    place.begun(office)
    stack.callback(database.close)
    if office.is_another_pools(database):
        database.close()
        remove_database(state_dir)
        database = Database.open(place.engine(office))
        stack.callback(database.close)
    audit_log = AuditLog(state_dir / DIRECTORY, database)
    audit_log.open()
    stack.push_async_callback(audit_log.close)
    gate, budgets = Gate(), Budgets()
    server = HttpServer(
        gate,
        gate.run_cli,
        relay_cli=gate.relay_cli,
        downloads={"/audit_log": gate.audit_log},
        budgets=budgets,
        timeouts=Timeouts(shutdown_s=CALLS_GRACE_S),
    )
    stack.push_async_callback(server.close)
    certificates = HostCertificates(
        state_dir / "tls",
        pool_files(state_dir),
        names=(socket.gethostname(), "localhost"),
        addresses=("127.0.0.1", "::1"),
        host_uuid=lambda: host_uuid(state_dir),
        clock=_now,
        server=place.files,
    )
    parts = Parts(
        config=config,
        stack=stack,
        background=background,
        office=office,
        database=database,
        gate=gate,
        budgets=budgets,
        server=server,
        doors=_listen(config, server, database, certificates),
        certificates=certificates,
        place=place,
        clock=_now,
        audit_log=audit_log,
        auditor=Auditor(audit_log.add),
    )
    background.start(audit_log.follow(), "audit-log")
    if office.role.role is Role.MEMBER:
        await start_member(parts)
    else:
        await also(await start_coordinator(parts))


def _listen(
    config: ApiConfig, server: HttpServer, database: Database, certificates: HostCertificates
) -> Doors:
    path = rooted(config.socket)
    path.parent.mkdir(parents=True, exist_ok=True)
    server.listen_unix(path, mode=SOCKET_MODE)
    link_reference_socket(rooted(config.reference_socket), path)
    doors = Doors(server, config, certificates.tls)
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
    except (
        ConfigError,
        StartRefused,
        MembershipBroken,
        ClusterTrouble,
        BackgroundFailed,
        DatabaseError,
        OSError,
    ) as error:
        sys.exit(f"poolnet-api: {error}")
