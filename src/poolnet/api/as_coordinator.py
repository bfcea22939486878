"""What does a coordinator run? A host that is a pool of its own is one, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog
from msgspec.structs import replace

from poolnet.api.audit_calls import AuditDownload, undo_messages
from poolnet.api.certificate_calls import CertificateCalls
from poolnet.api.client_certificates import ClientCertificates
from poolnet.api.cluster_calls import ClusterCalls
from poolnet.api.config import rooted
from poolnet.api.credentials import Credentials
from poolnet.api.desk import open_desk
from poolnet.api.directory import SystemDirectory
from poolnet.api.events import Events
from poolnet.api.ha_calls import HaCalls
from poolnet.api.joining import Admitting, Joining
from poolnet.api.parts import PamThroughHostd, Parts
from poolnet.api.pool_calls import PoolCalls
from poolnet.api.pool_door import PoolDoor
from poolnet.api.sessions import REVALIDATE_S, SWEEP_S, Sessions
from poolnet.api.tasks import Tasks
from poolnet.api.trust_calls import TrustCalls
from poolnet.api.trust_library import TrustLibrary
from poolnet.api.trusted_calls import TrustedCalls
from poolnet.db.database import Database
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.types import Ref
from poolnet.pool import authority, pki
from poolnet.pool.authority import PoolFiles
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.door import CoordinatorDoor
from poolnet.pool.failover import Failover
from poolnet.pool.hostlink import HostLink
from poolnet.pool.hosts import PoolHosts
from poolnet.pool.members import Members
from poolnet.pool.pace import Pace
from poolnet.pool.start import converge, finish_decided, follow_facts, follow_locks, greet, open_pool
from poolnet.pool.succession import look_for_members
from poolnet.rules import ha
from poolnet.rules.context import Counters

log = structlog.get_logger("poolnet.api")

SETTLE_S = 10.0  # a host that is not what it should be by then is served all the same


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What serves, for who adds to it."""

    database: Database
    coordinator: Coordinator
    hosts: PoolHosts
    host: Ref[Host]
    clock: Callable[[], datetime]


async def start_coordinator(parts: Parts) -> Started:
    """Starts to serve as a coordinator; returns when everything is there."""
    stack, background, database = parts.stack, parts.background, parts.database
    office, config = parts.office, parts.config
    state_dir = office.state_dir
    link = HostLink(rooted(config.hostd_socket))
    stack.push_async_callback(link.close)
    await greet(link)
    await finish_decided(database, state_dir, link)
    greeting, observation = await greet(link)
    if office.role.fresh and office.role.management is not None:
        greeting = replace(greeting, management=office.role.management)
    counters = Counters()
    opened = await open_pool(
        database=database,
        greeting=greeting,
        facts=observation.facts,
        state_dir=state_dir,
        clock=parts.clock,
        counters=counters,
    )
    office.settled()
    host = opened.local_host
    hosts = PoolHosts(host, link, observation.facts)
    cluster = parts.place.cluster
    coordinator = Coordinator(
        database=database,
        hosts=hosts,
        local_host=host,
        clock=parts.clock,
        counters=counters,
        servers=frozenset(server.uuid for server in cluster.servers) if cluster is not None else frozenset(),
    )
    coordinator.start()
    stack.push_async_callback(coordinator.stop)
    stack.push_async_callback(background.stop)
    unknown_guests = [action for _, _, action in opened.guest_actions]
    tried, settled = asyncio.Event(), asyncio.Event()

    async def settle() -> None:
        await converge(coordinator, host, unknown_guests, tried)
        settled.set()

    background.start(settle(), "converge")
    # A host that cannot be made what it should be has to be reachable all the more.
    with suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_S):
            await tried.wait()
    credentials = Credentials(state_dir / "users.toml", PamThroughHostd(link))
    background.start(parts.doors.follow(database, host), "doors")
    members = _open_pool_door(parts, coordinator, hosts, host)
    high_availability = await _open_failover(parts, coordinator, members[0], hosts, host, link, settled)
    events = _open_gate(parts, coordinator, credentials, members, host, hosts, high_availability)
    stack.push_async_callback(coordinator.stop)  # so that the calls under way end
    # The doors close before what is behind them.
    stack.push_async_callback(lambda: parts.server.close(parts.office.grace_s))
    stack.callback(events.wake_all)
    facts = follow_facts(link=link, hosts=hosts, host=host, coordinator=coordinator, clock=parts.clock)
    background.start(facts, "facts")
    locks = follow_locks(link=link, host=host, coordinator=coordinator, clock=parts.clock)
    background.start(locks, "locks")
    background.start(coordinator.connect_storage(host, observation.facts), "storage")
    parts.place.listen(lambda: give_up_role(parts))
    return Started(database=database, coordinator=coordinator, hosts=hosts, host=host, clock=parts.clock)


async def _open_failover(
    parts: Parts,
    coordinator: Coordinator,
    members: Members,
    hosts: PoolHosts,
    host: Ref[Host],
    daemon: HostLink,
    settled: asyncio.Event,
) -> HaCalls:
    """Begins to watch the hosts' leases; a pool that has come off its cluster has no high availability any more."""
    place, failover = parts.place, None
    if place.seat is not None:
        failover = Failover(
            database=parts.database,
            coordinator=coordinator,
            members=members,
            hosts=hosts,
            host=host,
            seat=place.seat,
            servers=[server.uuid for server in place.cluster.servers] if place.cluster is not None else (),
            term=parts.office.role.term,
            settled=settled,
        )
        parts.background.start(failover.run(), "failover")
    elif any(pool.ha_enabled or pool.ha_cluster_stack for pool in parts.database.view.all(Pool)):
        await coordinator.write(ha.disabled)
    parts.background.start(place.follow_leases(parts.database), "leases")
    return HaCalls(
        database=parts.database,
        coordinator=coordinator,
        members=members,
        failover=failover,
        place=place,
        daemon=daemon,
    )


def give_up_role(parts: Parts) -> None:
    """Has this host start anew as a member if it is another host's turn at the database's cluster."""
    seat, office = parts.place.seat, parts.office
    if seat is not None and seat.turn is not None and seat.turn.term != office.role.term:
        office.start_anew(office.role, 0.0)


def _open_pool_door(
    parts: Parts, coordinator: Coordinator, hosts: PoolHosts, host: Ref[Host]
) -> tuple[Members, PoolDoor]:
    """Begins to keep members; the door is opened for them if there ever was one."""
    config, state_dir = parts.config, parts.office.state_dir
    files = pki.pool_files(state_dir)
    _begin_authority(parts, files)
    members = Members(
        database=parts.database,
        coordinator=coordinator,
        hosts=hosts,
        local_host=host,
        files=files,
        users_file=state_dir / "users.toml",
        epoch=parts.office.role.epoch,
        term=parts.office.role.term,
        port=config.pool_port,
        pace=Pace(config.pool_silence_s),
        clock=parts.clock,
        cluster=parts.place.cluster,
    )
    door = PoolDoor(
        CoordinatorDoor(
            database=parts.database,
            members=members,
            api_socket=rooted(config.socket),
            host_uuid=parts.database.view.get(Host, host).uuid,
            become=parts.office.become,
        ),
        files,
        config.listen,
        config.pool_port,
        allowed=parts.doors.remote,
    )
    parts.doors.add(door.allow)
    parts.stack.push_async_callback(members.close)
    parts.stack.push_async_callback(door.close)
    members.open()
    if files.complete():
        door.open()
    parts.background.start(members.watch(), "members")
    parts.background.start(look_for_members(members), "succession")
    return members, door


def _begin_authority(parts: Parts, files: PoolFiles) -> None:
    """Makes a CA of this host's own if it has just become coordinator. Joining tries it again if the disk is full."""
    if files.complete() and not authority.has_authority(files):
        pool = next(iter(parts.database.view.all(Pool)))
        try:
            authority.begin_authority(files, pool.uuid, parts.clock())
            parts.place.files.authorities_changed()
        except OSError as error:
            log.error("no-authority", reason=str(error))  # noqa: TRY400 - the reason says it all


def _open_gate(
    parts: Parts,
    coordinator: Coordinator,
    credentials: Credentials,
    pool: tuple[Members, PoolDoor],
    host: Ref[Host],
    hosts: PoolHosts,
    high_availability: HaCalls,
) -> Events:
    database = parts.database
    directory = SystemDirectory()
    parts.stack.callback(directory.close)
    desk = open_desk(
        stack=parts.stack,
        database=database,
        coordinator=coordinator,
        credentials=credentials,
        directory=directory,
        hosts=hosts,
        host=host,
        clock=parts.clock,
        budgets=parts.budgets,
    )
    sessions = desk.sessions
    pool_files = pki.pool_files(parts.office.state_dir)
    calls = _pool_calls(parts, coordinator, sessions, pool, host)
    certificates = CertificateCalls(
        database=database,
        coordinator=coordinator,
        members=pool[0],
        host=host,
        own=parts.certificates,
        place=parts.place,
        quiet_s=parts.config.pool_silence_s,
    )
    parts.certificates.on_refresh(pool[1].renew)
    parts.background.start(certificates.watch(), "certificates")
    cluster = ClusterCalls(
        database=database,
        coordinator=coordinator,
        members=pool[0],
        host=host,
        files=pool_files,
        office=parts.office,
        place=parts.place,
    )
    parts.background.start(cluster.watch(), "cluster")
    clients = ClientCertificates(
        database=database,
        files=pool_files,
        sessions=sessions,
        login=desk.own["session.login_with_password"],
    )

    def trust() -> None:
        """Lets what is installed now count: for clients from their next connection on, for other hosts at once."""
        parts.certificates.ask_clients(clients.authorities())
        sessions.end_certified()
        pool[1].drop_revoked()

    trust()
    clients.follow(trust)
    library = TrustLibrary(coordinator, pool_files, trust)
    trusting = TrustCalls(
        database=database, coordinator=coordinator, members=pool[0], host=host, library=library
    )
    purposes = TrustedCalls(database=database, library=library, https_port=parts.config.https_port)
    more = {
        "session.login_with_password": clients.login,
        **trusting.messages(),
        **purposes.messages(),
        **calls.messages(),
        **cluster.messages(),
        **high_availability.messages(),
        **certificates.messages(),
        **undo_messages(parts.audit_log, coordinator),
    }
    dispatcher = desk.dispatcher(more, parts.auditor)

    run_cli = desk.console(dispatcher, parts.auditor, parts.audit_log)
    download = AuditDownload(parts.audit_log, sessions, desk.tasks)
    parts.gate.open(dispatcher, run_cli, audit_log=download)
    parts.background.start(sweep(sessions, desk.tasks), "sweep")
    return desk.events


def _pool_calls(
    parts: Parts,
    coordinator: Coordinator,
    sessions: Sessions,
    pool: tuple[Members, PoolDoor],
    host: Ref[Host],
) -> PoolCalls:
    office, config = parts.office, parts.config
    members, door = pool
    files = pki.pool_files(office.state_dir)
    joining = Joining(
        database=parts.database,
        coordinator=coordinator,
        host=host,
        state_dir=office.state_dir,
        https_port=config.https_port,
        pool_port=config.pool_port,
        become=office.become,
    )
    admitting = Admitting(
        database=parts.database,
        coordinator=coordinator,
        host=host,
        files=files,
        clock=parts.clock,
        open_door=door.open,
    )
    return PoolCalls(
        database=parts.database,
        coordinator=coordinator,
        sessions=sessions,
        members=members,
        joining=joining,
        admitting=admitting,
        host=host,
        files=files,
        office=office,
        place=parts.place,
    )


async def sweep(sessions: Sessions, tasks: Tasks) -> None:
    """Removes old sessions and tasks, forever, and those of users whom the directory knows otherwise now."""
    next_validation = asyncio.get_running_loop().time() + REVALIDATE_S
    while True:
        await asyncio.sleep(SWEEP_S)
        sessions.sweep()
        if asyncio.get_running_loop().time() >= next_validation:
            await sessions.revalidate()
            next_validation = asyncio.get_running_loop().time() + REVALIDATE_S
        await tasks.sweep()
