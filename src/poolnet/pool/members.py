"""How does the coordinator keep its members? Heartbeats, the database that each of them gets, and what each is to be.

A member greets when it starts and whenever it has lost the connection, which then carries heartbeats and the changes of the
database for as long as both live. What the host behind it should be is seen to meanwhile: it is brought in step with the
database, given the coordinator's bonds, VLANs and tunnels, and its facts are recorded. One that is silent for long is taken
to be down: it takes no part in changes until it greets again.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias, TypeVar
from uuid import uuid4

import structlog
from msgspec import Struct

from poolnet.db.database import Database
from poolnet.db.replica import Replicated, since
from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.types import NULL, Ref
from poolnet.pool import trusted, wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.hostlink import HostGone
from poolnet.pool.hosts import PoolHosts, RemoteHost
from poolnet.pool.membership import Cluster
from poolnet.pool.pace import Pace
from poolnet.pool.peer import ANSWER_S, Peer
from poolnet.pool.pki import client_context, rotate_secret
from poolnet.pool.start import converge, follow_facts, follow_locks, greet
from poolnet.rules import certificate as certificate_rules
from poolnet.rules import member as member_rules
from poolnet.rules.context import Session
from poolnet.rules.startup import resync

log = structlog.get_logger("poolnet.pool.members")

WATCH_S: Final = 1.0
HEARD_POLL_S: Final = 0.1
TOGETHER_S: Final = 0.02  # commits that come right after each other are sent together

_File: TypeAlias = type[wire.Users | wire.Secret | wire.Installed | wire.Authorities]

A = TypeVar("A", bound=Struct)


@dataclass(slots=True, eq=False)
class _Session:
    """One member's connection."""

    host: Ref[Host]
    remote: RemoteHost
    writer: asyncio.StreamWriter
    position: int = -1
    """Up to which commit everything is sent."""
    sent: int = -1
    acknowledged: int = -1
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    verifies: bool | None = None
    lost: bool = False
    keeps_link: bool = False
    """Whether what is asked of the daemon outlives the connection: the member has made another one, and is where it was."""

    def has(self, number: int) -> bool:
        """Whether the member has everything up to that commit on its disk."""
        return self.position >= number and self.acknowledged >= self.sent


class _NotAdmitted(Exception):
    """A host that greets is not let in; what it is told."""

    def __init__(self, reason: str, code: str, *params: str) -> None:
        super().__init__(reason)
        self.denied = wire.Denied(reason=reason, code=code, params=params)


class Members:
    """The other hosts of a pool, as its coordinator keeps them."""

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        hosts: PoolHosts,
        local_host: Ref[Host],
        files: PoolFiles,
        users_file: Path,
        epoch: str,
        term: int,
        port: int,
        pace: Pace,
        clock: Callable[[], datetime],
        cluster: Cluster | None = None,
    ) -> None:
        self._cluster = cluster
        self._database = database
        self._coordinator = coordinator
        self._hosts = hosts
        self._local_host = local_host
        self._files = files
        self._users_file = users_file
        self._epoch = epoch
        self._term = term
        self._port = port
        self._pace = pace
        self._clock = clock
        self._sessions: dict[Ref[Host], _Session] = {}
        self._greeted_last: dict[Ref[Host], wire.Greet] = {}
        self._unheard_since: dict[Ref[Host], float] = {}
        self._noting: set[asyncio.Task[None]] = set()
        self._kept_out: set[Ref[Host]] = set()
        self._settled: set[Ref[Host]] = set()
        coordinator.on_stray(self.astray)

    def open(self) -> None:
        """Takes the members that were up when the database was last written to be up, until they are found not to be."""
        for row in self._database.view.all(Host):
            if row.ref != self._local_host and self._is_live(row.ref):
                self._expect(row.ref)

    async def watch(self) -> None:
        """Finds out who is silent for too long, forever."""
        loop = asyncio.get_running_loop()
        known = set(self._database.view.refs(Host))
        while True:
            await asyncio.sleep(WATCH_S)
            hosts = set(self._database.view.refs(Host))
            if known - hosts and self._files.complete():
                await self._change_secret()
            known = hosts
            for host, unheard in tuple(self._unheard_since.items()):
                if not self._database.view.exists(Host, host):
                    self.drop(host)
                elif loop.time() - unheard > self._pace.down_after_s:
                    await self._declare_down(host)

    async def _note_verifying(self, host: Ref[Host], *, verifies: bool) -> None:
        """Records whether a member checks certificates. Not while it is listened to: writes may be held."""

        def change(txn: Txn) -> None:
            certificate_rules.verifying(txn, host, self._clock(), lambda: str(uuid4()), verifies=verifies)

        with suppress(Failure):
            await self._coordinator.write(change)

    async def _change_secret(self) -> None:
        """A host has left, and knows the pool's secret."""
        try:
            await asyncio.to_thread(rotate_secret, self._files)
        except OSError as error:
            log.warning("secret-not-changed", reason=str(error))
        else:
            log.info("secret-changed", reason="a host has left")

    async def close(self) -> None:
        """Ends all connections to members."""
        tasks = [*self._noting, *(s.task for s in self._sessions.values() if s.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- connections -------------------------------------------------------------------------------------------

    async def serve(
        self, uuid: str, greeting: wire.Greet, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Keeps a member that has greeted, until the connection ends. Raises OSError, IncompleteReadError, BadFrame."""
        try:
            session = await self._admit(uuid, greeting, writer)
        except _NotAdmitted as refusal:
            await wire.write(writer, refusal.denied)
            return
        host, remote = session.host, session.remote
        try:
            await wire.write(writer, self._welcome())
            await self._keep(session, greeting, reader)
        finally:
            if self._sessions.get(host) is session:
                del self._sessions[host]
                self._settled.discard(host)
                remote.connected = False
                session.moved.set()
                if self._hosts.remote(host) is remote:
                    self._unheard_since[host] = asyncio.get_running_loop().time()
                log.warning("member-lost", host=uuid)

    async def _admit(self, uuid: str, greeting: wire.Greet, writer: asyncio.StreamWriter) -> _Session:
        """Lets a member in whose door answers, in the place of the connection that it had before. Raises _NotAdmitted.

        A member that is not answered in time greets anew: of those that wait here the last one alone is let in. Else one
        would live on beside that which is known, and its host be taken to be down for as long as it does.
        """
        host = self._require_welcome(uuid, greeting)
        self._greeted_last[host] = greeting
        remote = self._expect(host)
        remote.seen_at = str(writer.get_extra_info("peername")[0])
        try:
            await remote.ask(wire.Ping(), wire.Pong)
        except Exception as error:
            log.warning("member-cannot-be-reached", host=uuid, reason=str(error))
            raise _NotAdmitted(str(error), "HOST_MASTER_CANNOT_TALK_BACK", remote.seen_at) from error
        if self._greeted_last[host] is greeting:
            await self._end_session(host, started=greeting.started)
        if self._greeted_last[host] is not greeting:
            raise _NotAdmitted("the host has greeted again", "")
        self._require_welcome(uuid, greeting)  # it may have left, or lost its lease, while it was asked
        if self._hosts.remote(host) is not remote:
            # It was declared down meanwhile, and is there after all.
            self._hosts.add(host, remote)
        session = self._sessions[host] = _Session(host, remote, writer)
        session.task = asyncio.current_task()
        return session

    def _require_welcome(self, uuid: str, greeting: wire.Greet) -> Ref[Host]:
        """Raises _NotAdmitted for whoever is not to be a member here."""
        row = self._database.view.first(Host, uuid=uuid)
        if row is None or row.ref == self._local_host:
            raise _NotAdmitted("the host is not known", "HOST_UNKNOWN_TO_MASTER", uuid)
        if row.ref in self._kept_out:
            raise _NotAdmitted("the host has lost its lease, and has yet to stop its VMs", "")
        if greeting.version != wire.VERSION:
            code = "HOST_XAPI_VERSION_HIGHER_THAN_COORDINATOR"
            raise _NotAdmitted("another version", code, str(greeting.version))
        if greeting.term > self._term:
            raise _NotAdmitted("this host is not the coordinator any more", "")
        return row.ref

    async def _keep(self, session: _Session, greeting: wire.Greet, reader: asyncio.StreamReader) -> None:
        """Runs everything that belongs to a member until one part of it ends."""
        remote = session.remote
        remote.connected = True
        self._unheard_since.pop(session.host, None)
        parts = [
            asyncio.create_task(self._send(session, greeting), name="member-send"),
            asyncio.create_task(self._receive(session, reader), name="member-receive"),
            asyncio.create_task(self._bring_in(session, greeting), name="member-bring-in"),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in done:
                part.result()
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            if not session.keeps_link:
                await remote.link.close()

    async def _end_session(self, host: Ref[Host], *, started: bool) -> None:
        """Ends the connection that a member had before: it has made a new one, its API server having `started` or not."""
        old = self._sessions.get(host)
        if old is not None and old.task is not None:
            old.keeps_link = not started and old.remote.leads_where_seen
            old.task.cancel()
            await asyncio.gather(old.task, return_exceptions=True)

    async def _receive(self, session: _Session, reader: asyncio.StreamReader) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pace.silence_s):
                    beat: wire.Beat = await wire.read(reader, wire.Beat, wire.OPENING_BYTES_MAX)
            except TimeoutError as error:
                raise OSError("the member is silent") from error
            session.acknowledged = max(session.acknowledged, beat.number)
            session.lost = beat.lost
            session.moved.set()
            if beat.verifies != session.verifies:
                session.verifies = beat.verifies
                noting = asyncio.create_task(self._note_verifying(session.host, verifies=beat.verifies))
                self._noting.add(noting)
                noting.add_done_callback(self._noting.discard)

    async def _send(self, session: _Session, greeting: wire.Greet) -> None:
        """Sends what changes in the database, and heartbeats."""
        known = greeting.number if greeting.epoch == self._epoch else None
        if known is not None:
            session.acknowledged = session.sent = known
        files: Sequence[tuple[_File, Callable[[], bytes]]] = (
            (wire.Users, self._users),
            (wire.Secret, self._files.secret.read_bytes),
            (wire.Installed, partial(trusted.packed, self._files)),
            (wire.Authorities, self._files.ca.read_bytes),
        )
        welcomed = (wire.Secret, wire.Authorities)  # it had these when it was welcomed
        sent: dict[_File, bytes] = {kind: read() for kind, read in files if kind in welcomed}
        while True:
            update = since(self._database, known)
            if update.whole or update.puts or update.deletions:
                for rows in _frames(update, self._epoch):
                    await wire.write(session.writer, rows)
                session.sent = update.number
            session.position = known = update.number
            session.moved.set()
            for kind, read in files:
                content = read()
                if content != sent.get(kind):
                    sent[kind] = content
                    await wire.write(session.writer, kind(content=content))
            await wire.write(session.writer, wire.Beat(number=known))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.beat_s):
                    await self._database.feed.wait(known)
                    await asyncio.sleep(TOGETHER_S)

    def _users(self) -> bytes:
        try:
            return self._users_file.read_bytes()
        except OSError:
            return b""

    def _welcome(self) -> wire.Welcome:
        pool = next(iter(self._database.view.all(Pool)))
        local = self._database.view.get(Host, self._local_host)
        return wire.Welcome(
            coordinator_uuid=local.uuid,
            coordinator_address=local.address,
            pool_uuid=pool.uuid,
            term=self._term,
            epoch=self._epoch,
            authorities=self._files.ca.read_bytes(),
            secret=self._files.secret.read_bytes(),
            cluster=self._cluster,
        )

    # --- what the hosts are ------------------------------------------------------------------------------------

    async def _bring_in(self, session: _Session, greeting: wire.Greet) -> None:
        """Brings a member in step, then records what it reports until the connection ends. Raises OSError."""
        host, remote = session.host, session.remote
        await greet(remote.link)
        try:
            await self._coordinator.finish(host)
        except HostGone as error:
            raise OSError(f"the host daemon has gone again: {error}") from error
        _, observation = await greet(remote.link)
        self._hosts.remember(host, observation.facts)
        guests = await self._resynchronise(host, observation.facts)
        self._coordinator.forget(host)

        async def settle() -> None:
            await converge(self._coordinator, host, guests)
            self._settled.add(host)
            await self._give_networks(host, started=greeting.started)
            await self._coordinator.connect_storage(host, observation.facts)

        async with asyncio.TaskGroup() as group:
            group.create_task(settle())
            group.create_task(
                follow_facts(
                    link=remote.link,
                    hosts=self._hosts,
                    host=host,
                    coordinator=self._coordinator,
                    clock=self._clock,
                )
            )
            group.create_task(
                follow_locks(link=remote.link, host=host, coordinator=self._coordinator, clock=self._clock)
            )

    async def _resynchronise(self, host: Ref[Host], facts: HostFacts) -> Sequence[protocol.GuestAction]:
        """Brings the database in step with what a member runs; gives what its guests need before it can converge."""
        found: list[protocol.GuestAction] = []

        def change(txn: Txn) -> None:
            found.clear()
            context = self._coordinator.context_of(txn, host, facts)
            row = txn.get(Host, host)
            if txn.exists(HostMetrics, row.metrics):
                txn.update(HostMetrics, row.metrics, live=True, last_updated=self._clock())
            resync(context, facts)
            found.extend(action for _, _, action in context.guest_actions)

        try:
            await self._coordinator.write(change)
        except Failure as failure:
            log.warning("member-not-resynchronised", host=host, reason=str(failure))
        return found

    async def _give_networks(self, host: Ref[Host], *, started: bool) -> None:
        """Gives a member what the coordinator has (spec §20.5), one call each; failures are logged only."""
        for method, rule, arguments in member_rules.to_copy(self._database.view, host, self._local_host):
            call = RuleCall(method=method, rule=rule, arguments=arguments, session=Session())
            try:
                await self._coordinator.run(call)
            except Failure as failure:
                log.warning("not-copied-to-member", host=host, call=method, reason=str(failure))
        if started:
            await self._coordinator.write(lambda txn: member_rules.enable(txn, host))

    def astray(self, host: Ref[Host]) -> None:
        """Brings a host in step with the database: it has to greet again, and what it runs is looked at anew."""
        session = self._sessions.get(host)
        if session is not None and session.task is not None:
            session.task.cancel()

    async def _declare_down(self, host: Ref[Host]) -> None:
        log.warning("member-down", host=host)
        self.drop(host)

        def change(txn: Txn) -> None:
            row = txn.find(Host, host)
            back = host in self._sessions  # it has greeted before this was carried out
            if row is not None and not back and txn.exists(HostMetrics, row.metrics):
                txn.update(HostMetrics, row.metrics, live=False)

        try:
            await self._coordinator.write(change)
        except Failure as failure:
            log.warning("member-down-not-recorded", host=host, reason=str(failure))
            if host not in self._sessions:
                self._unheard_since.setdefault(host, 0.0)

    def keep_out(self, host: Ref[Host]) -> None:
        """Leaves a host out, and does not let it in again before `let_in`: it has lost its lease."""
        self._kept_out.add(host)
        self.drop(host)

    def let_in(self, host: Ref[Host]) -> None:
        """Lets a host greet again."""
        self._kept_out.discard(host)

    @property
    def settled(self) -> frozenset[Ref[Host]]:
        """The members that are heard, and are what the database says since then."""
        return frozenset(self._settled)

    def drop(self, host: Ref[Host]) -> None:
        """Leaves a host out of changes, and ends its connection: it is down, or has left."""
        self._unheard_since.pop(host, None)
        self._hosts.remove(host)
        self._coordinator.forget(host)
        session = self._sessions.get(host)
        if session is not None and session.task is not None:
            session.task.cancel()

    # --- for calls ---------------------------------------------------------------------------------------------

    @property
    def without_database(self) -> frozenset[Ref[Host]]:
        """The members that are heard and say that their server of the database has lost what it kept."""
        return frozenset(host for host, session in self._sessions.items() if session.lost)

    @property
    def connected(self) -> tuple[Ref[Host], ...]:
        """The members that are heard at this moment."""
        return tuple(self._sessions)

    @property
    def missing(self) -> tuple[Ref[Host], ...]:
        """The members that are not."""
        rows = self._database.view.refs(Host)
        return tuple(ref for ref in rows if ref != self._local_host and ref not in self._sessions)

    @property
    def elected(self) -> bool:
        """Whether a cluster says that this host is coordinator, and nobody else can."""
        return self._cluster is not None

    @property
    def term(self) -> int:
        """Of which term this host is coordinator."""
        return self._term

    @property
    def office(self) -> wire.Follow:
        """What other hosts are told of this one."""
        local = self._database.view.get(Host, self._local_host)
        return wire.Follow(coordinator_uuid=local.uuid, address=local.address, term=self._term)

    async def ask(self, host: Ref[Host], question: Struct, expect: type[A], within_s: float = ANSWER_S) -> A:
        """Asks a member something, also one that is not heard. Raises PeerGone or PeerDenied."""
        remote = self._hosts.remote(host) or self._remote(host)
        return await remote.ask(question, expect, within_s)

    async def heard(self, within_s: float) -> None:
        """Waits for members that were heard a moment ago, until all are, or are taken to be down, or for so long."""
        for _ in range(int(within_s / HEARD_POLL_S)):
            if not self._unheard_since:
                return
            await asyncio.sleep(HEARD_POLL_S)

    async def replicated(self, hosts: Sequence[Ref[Host]], number: int, within_s: float) -> bool:
        """Waits until these members have the database up to a commit on their disks; whether they have."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                for host in hosts:
                    while (session := self._sessions.get(host)) is not None and not session.has(number):
                        session.moved.clear()
                        await session.moved.wait()
        sessions = [self._sessions.get(host) for host in hosts]
        return all(session is not None and session.has(number) for session in sessions)

    def _expect(self, host: Ref[Host]) -> RemoteHost:
        """Has a host take part in changes, from now on."""
        remote = self._hosts.remote(host)
        if remote is None:
            remote = self._remote(host)
            self._hosts.add(host, remote)
            self._unheard_since[host] = asyncio.get_running_loop().time()
        return remote

    def _remote(self, host: Ref[Host]) -> RemoteHost:
        def uuid() -> str:
            row = self._database.view.find(Host, host)
            return row.uuid if row is not None else str(uuid4())  # nobody's

        def address() -> str:
            row = self._database.view.find(Host, host)
            return row.address if row is not None else ""

        revoked = partial(trusted.refused_at_door, self._files)
        return RemoteHost(Peer(self._context, self._port, uuid, revoked=revoked), address)

    def _context(self) -> ssl.SSLContext:
        return client_context(self._files)

    def _is_live(self, host: Ref[Host]) -> bool:
        row = self._database.view.get(Host, host)
        metrics = self._database.view.find(HostMetrics, row.metrics) if row.metrics != NULL else None
        return metrics is not None and metrics.live


def _frames(update: Replicated, epoch: str) -> Sequence[wire.Rows]:
    """Cuts an update into frames of a good size; the last one says so."""
    count = max(1, -(-len(update.puts) // wire.ROWS_PER_FRAME))
    return [
        wire.Rows(
            number=update.number,
            epoch=epoch,
            puts=update.puts[at * wire.ROWS_PER_FRAME : (at + 1) * wire.ROWS_PER_FRAME],
            deletions=update.deletions if at == 0 else (),
            whole=update.whole,
            last=at == count - 1,
        )
        for at in range(count)
    ]
