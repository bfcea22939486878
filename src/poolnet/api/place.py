"""What has this host at the cluster that the pool's database may be on, and which role does it have then?

A place outlives the server's starts anew: its seat keeps the database's lock while the server becomes the coordinator.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from msgspec.structs import replace

from poolnet.api.office import Office
from poolnet.db import ovsdb_transactions as words
from poolnet.db.database import Database
from poolnet.db.engine import CommitRecord, Engine, Stored
from poolnet.db.engine_ovsdb import OvsdbEngine, read_from, seed
from poolnet.db.engine_sqlite import SqliteEngine
from poolnet.db.errors import StorageFailed
from poolnet.db.ovsdb_schema import DATABASE as OVSDB_DATABASE
from poolnet.db.ovsdb_transactions import Turn
from poolnet.db.seat import BROKEN, NoMajority, Seat
from poolnet.hostnet import protocol
from poolnet.model.classes.pool import Pool
from poolnet.ovsdb.connection import Connection
from poolnet.pool import membership
from poolnet.pool.cluster import ClusterFiles, ClusterSite
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused
from poolnet.pool.lease_keeper import DAEMON_S, LaidDown, LeaseKeeper
from poolnet.pool.membership import DATABASE, EMERGENCY_TERMS, Cluster, Membership, Role
from poolnet.pool.pki import pool_files
from poolnet.pool.start import host_uuid

log = structlog.get_logger("poolnet.api.place")

SETTLE_S: Final = 3.0
"""How long a server that starts waits to hear whose turn it is; it starts as a member then, and hears later."""

OTHERS_S: Final = 0.3
LOOK_S: Final = 0.02
CLUSTERED_ANSWER_S: Final = 0.1
CLAIM_S: Final = 30.0
DISARM_AGAIN_S: Final = 1.0


class Place:
    """This host's place.

    Args:
        state_dir: The API server's.
        run_dir: Where the sockets of this host's programs are.
        daemon: That of its host daemon.
    """

    def __init__(self, state_dir: Path, run_dir: Path, daemon: Path) -> None:
        self._state_dir = state_dir
        self._daemon = daemon
        self.laid_down = LaidDown(state_dir)
        self.keeper: LeaseKeeper | None = None
        self.files = ClusterFiles(state_dir, run_dir)
        self.cluster: Cluster | None = None
        self.seat: Seat | None = None
        self.servers = asyncio.Lock()
        """Held while somebody has servers of the cluster start or end."""
        self._hear: Callable[[], None] | None = None
        self._engine: OvsdbEngine | None = None

    async def open(self, office: Office) -> None:
        """Reads which cluster there is, does what is to be done first, and gives the office the role that this host has.

        Raises StorageFailed, OSError, ClusterTrouble, MembershipBroken.
        """
        self._hear = None
        cluster = self.files.load()
        if cluster is None:
            self.close()
            return
        if self.cluster is None or self.cluster.servers != cluster.servers or self.seat is None:
            self.close()
            self.seat = self._take_seat(cluster)
            self.keeper = LeaseKeeper(self.seat, self._daemon, self.laid_down)
            self.keeper.start()
        self.cluster = cluster
        seat = self.seat
        if cluster.step == "seed":
            await asyncio.to_thread(self._seed, seat, cluster, office)
            self._step_done()
        elif cluster.step == "take back":
            if await asyncio.to_thread(self._take_back, seat, cluster, office):
                return
            self._step_done()
        elif cluster.step == "salvage":
            await self._salvage(cluster, office)
            return
        office.answer_s = CLUSTERED_ANSWER_S
        await self._give_role(seat, cluster, office)

    def _step_done(self) -> None:
        assert self.cluster is not None, "there is one"  # noqa: S101 - for the type checker; nothing from outside is asserted
        self.cluster = replace(self.cluster, step="")
        self.files.save(self.cluster)

    def engine(self, office: Office) -> Engine:
        """What keeps the database of a host in that role: a member has its copy in a file of its own."""
        if self.seat is not None and office.role.role is Role.COORDINATOR:
            loop = asyncio.get_running_loop()

            def ended() -> None:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._lost, office)

            self._engine = OvsdbEngine(self.seat, ended)
            return self._engine
        self._engine = None
        return SqliteEngine(self._state_dir / DATABASE)

    def begun(self, office: Office) -> None:
        """Takes note of the term that a coordinator's engine has begun. Raises OSError."""
        if self._engine is not None and self._engine.term != office.role.term:
            office.role = replace(office.role, term=self._engine.term)
            membership.save(self._state_dir, office.role)

    def listen(self, hear: Callable[[], None]) -> None:
        """Has `hear` called whenever it is another host's turn, also at once if it has been since."""
        self._hear = hear
        if self.seat is not None and self.seat.turn is not None:
            hear()

    def site(self, office: Office) -> ClusterSite:
        """What a member knows of the cluster."""
        return ClusterSite(
            self.files, self.cluster, host_uuid(self._state_dir), lambda: office.start_anew(office.role)
        )

    def close(self) -> None:
        """Leaves the seat, so that another host can have the turn."""
        if self.seat is not None:
            self.seat.close()
        self.seat = self.cluster = self.keeper = None

    async def follow_leases(self, database: Database) -> None:
        """Tells the keeper of this host's lease whether the pool has high availability, as its database changes; forever."""
        if self.keeper is None:
            await self._disarm_if_over(database)
        while True:
            number = database.feed.number
            if self.keeper is not None:
                self.keeper.want(wanted=any(pool.ha_cluster_stack for pool in database.view.all(Pool)))
            await database.feed.wait(number)

    async def _disarm_if_over(self, database: Database) -> None:
        """Disarms this host, which had a lease, when its pool has neither a cluster nor high availability any more.

        Only once it has stopped its VMs: until then, others may take that for granted.
        """
        link = HostLink(self._daemon)
        said = ""
        try:
            while True:
                try:
                    fence = await link.request(protocol.ReadFence(), protocol.FenceState, DAEMON_S)
                    if not fence.generation:
                        return
                    waits_for = _stays_armed_for(fence, database)
                    if not waits_for:
                        await link.request(protocol.DropLease(), protocol.FenceState, DAEMON_S)
                        log.info("host-disarmed", reason="the pool has no high availability any more")
                        continue  # seen to be so, before it is believed
                except (HostGone, HostRefused) as error:
                    waits_for = f"the host daemon: {error}"
                if waits_for != said:
                    said = waits_for
                    log.warning("host-stays-armed", reason=waits_for)
                await asyncio.sleep(DISARM_AGAIN_S)
        finally:
            await link.close()

    def _take_seat(self, cluster: Cluster) -> Seat:
        own = host_uuid(self._state_dir)
        server = cluster.server(own)
        loop = asyncio.get_running_loop()

        def on_turn(_: Turn) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._heard)

        seat = Seat(
            self.files.openers(cluster, own, pool_files(self._state_dir)),
            host=own,
            address=lambda: server.address if server is not None else "",
            line=cluster.line,
            candidate=server is not None,
            on_turn=on_turn,
        )
        seat.start()
        return seat

    def _heard(self) -> None:
        if self._hear is not None:
            self._hear()

    def _lost(self, office: Office) -> None:
        """The engine can write nothing more: another host has the turn, or nobody could say what became of a commit."""
        if self.seat is not None and self.seat.is_ours:
            asyncio.run_coroutine_threadsafe(self.seat.stand_down(), self.seat.loop)
        office.start_anew(office.role, 0.0)

    async def _give_role(self, seat: Seat, cluster: Cluster, office: Office) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + SETTLE_S
        others_until = 0.0
        while not seat.is_ours and loop.time() < until:
            turn = seat.turn
            if seat.connected and turn is not None and turn.holder not in ("", seat.host):
                others_until = others_until or loop.time() + OTHERS_S
                if loop.time() > others_until:
                    break
            await asyncio.sleep(LOOK_S)
        role = role_of(office.role, seat.turn, seat.host, ours=seat.is_ours, line=cluster.line)
        if role != office.role:
            membership.save(self._state_dir, role)
            office.role = role

    # --- the ways in and out -----------------------------------------------------------------------------------

    def _seed(self, seat: Seat, cluster: Cluster, office: Office) -> None:
        """Writes this host's database to the cluster, and waits for the first term. Raises StorageFailed."""
        engine = SqliteEngine(self._state_dir / DATABASE)
        stored = engine.load()
        engine.close()
        log.info("cluster-seeded", rows=len(stored.rows))
        seed(seat, stored, cluster.line, office.role.term)

    def _take_back(self, seat: Seat, cluster: Cluster, office: Office) -> bool:
        """Takes the database back from the cluster, which nobody uses any more; False if another host has the turn."""
        try:
            turn, _ = seat.do(seat.state(CLAIM_S), CLAIM_S)
            if turn.ready:
                if turn.holder != seat.host:
                    return False
                seat.do(seat.transact(words.retire(turn)), CLAIM_S)
        except (NoMajority, *BROKEN) as error:
            raise StorageFailed(f"the database's cluster: {error}") from error
        stored, last = read_from(seat)
        self._keep(stored, office, last.term + EMERGENCY_TERMS, cluster.line)
        return True

    async def _salvage(self, cluster: Cluster, office: Office) -> None:
        """Goes on without a majority, with what this host's own server has, or with its copy. Raises StorageFailed."""
        term = office.role.term
        if cluster.server(host_uuid(self._state_dir)) is None:
            self._coordinate_alone(office, term + EMERGENCY_TERMS, "")
            return
        try:
            connection = await Connection.open(self.files.socket)
            try:
                replica = await connection.monitor(OVSDB_DATABASE, words.read_columns(), lambda _: None)
            finally:
                await connection.close()
        except BROKEN as error:
            raise StorageFailed(f"this host's database server: {error}") from error
        stored, turn = words.read_replica(replica, host_uuid(self._state_dir))
        await asyncio.to_thread(self._keep, stored, office, max(term, turn.term) + EMERGENCY_TERMS, "")

    def _keep(self, stored: Stored, office: Office, term: int, line: str) -> None:
        """Has this host coordinate with that database in a file of its own. Raises OSError, StorageFailed."""
        path = self._state_dir / DATABASE
        fresh = path.with_name(f"{DATABASE}.new")
        for leftover in path.parent.glob(f"{fresh.name}*"):
            leftover.unlink()
        engine = SqliteEngine(fresh)
        engine.load()
        engine.append(
            CommitRecord(
                puts=tuple(stored.rows),
                deletions=tuple(stored.deletions),
                ceiling=stored.ceiling,
                notes=tuple(stored.notes),
                log_head=stored.log_head,
            )
        )
        engine.close()
        membership.remove_database(self._state_dir)
        fresh.replace(path)
        for leftover in path.parent.glob(f"{fresh.name}*"):
            leftover.unlink()
        self._coordinate_alone(office, term, line)

    def _coordinate_alone(self, office: Office, term: int, line: str) -> None:
        """Has this host coordinate without a cluster, with the database in its file. Raises OSError."""
        pool_uuid = office.role.pool_uuid
        office.role = Membership(role=Role.COORDINATOR, pool_uuid=pool_uuid, term=term, epoch=line)
        membership.save(self._state_dir, office.role)
        self.close()
        self.files.leave()


def _stays_armed_for(fence: protocol.FenceState, database: Database) -> str:
    """What a host that is armed waits for until it can be disarmed; "" for nothing."""
    if not database.view.count(Pool):
        return "what the pool is, is not known yet"
    if any(pool.ha_cluster_stack for pool in database.view.all(Pool)):
        return "the pool has high availability, as far as is known"
    if not fence.fenced:
        return "its lease goes on"
    return "" if fence.clean else "VMs have yet to stop"


def role_of(known: Membership, turn: Turn | None, host: str, *, ours: bool, line: str) -> Membership:
    """The role that a host has whose pool's database is on a cluster, from what it was and whose turn it is.

    A member that has been the coordinator has everything sent anew: what it committed is in the cluster, not in its file.
    """
    if ours and turn is not None:
        return Membership(role=Role.COORDINATOR, pool_uuid=known.pool_uuid, term=turn.term, epoch=line)
    was_member = known.role is Role.MEMBER
    member = Membership(
        role=Role.MEMBER,
        coordinator_uuid=known.coordinator_uuid if was_member else "",
        coordinator_address=known.coordinator_address if was_member else "",
        pool_uuid=known.pool_uuid,
        term=known.term,
        epoch=known.epoch if was_member else "",
    )
    if turn is None or not turn.ready or turn.holder in ("", host) or turn.term < member.term:
        return member  # a later term than the cluster's is that of a host that has gone on without it
    return replace(member, coordinator_uuid=turn.holder, coordinator_address=turn.address, term=turn.term)
