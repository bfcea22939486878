"""How does a member live with its coordinator? It greets it, takes over what the database becomes, and notices its death.

While the coordinator is not there the member is in emergency mode: it answers only the calls that lead out of it. What
its host runs goes on undisturbed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from msgspec.structs import replace

from poolnet.db.database import Database
from poolnet.db.errors import DatabaseDamaged, StorageFailed
from poolnet.db.replica import Replicated
from poolnet.hostnet.protocol import Management
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.failure import Failure
from poolnet.pool import authority, membership, pki, trusted, wire
from poolnet.pool.address_kept import abort_without_address
from poolnet.pool.cluster import ClusterSite
from poolnet.pool.membership import Membership, write_durably
from poolnet.pool.pace import Pace
from poolnet.pool.peer import Peer, PeerDenied, PeerGone, Streams

log = structlog.get_logger("poolnet.pool.member")

RETRY_S: Final = 1.0


class Member:
    """This host as a member.

    Args:
        state_dir: Where its role, certificates and database are.
        database: Its copy of the pool database; only this object writes it.
        role: Who its coordinator is.
        host_uuid: Its own uuid.
        port: The port of all hosts' doors.
        users_file: The local users, which it keeps as the coordinator has them.
        become: Has the server start anew in another role, soon.
        pace: When the coordinator is taken to be gone.
        site: What this host has of the cluster that the database may be on, which decides who coordinates then.
    """

    def __init__(
        self,
        *,
        state_dir: Path,
        database: Database,
        role: Membership,
        host_uuid: str,
        port: int,
        users_file: Path,
        become: Callable[[Membership], None],
        pace: Pace,
        site: ClusterSite,
    ) -> None:
        self._state_dir = state_dir
        self._files = pki.pool_files(state_dir)
        self._database = database
        self._role = role
        self._host_uuid = host_uuid
        self._users_file = users_file
        self._become = become
        self._pace = pace
        self.site = site
        self._changing = False
        self._peer = Peer(
            lambda: pki.client_context(self._files),
            port,
            self._expected,
            self.knows,
            revoked=partial(trusted.refused_at_door, self._files),
        )
        self._connected = False
        self._lost_at: float | None = None  # never had it
        self._started = True
        self._reason: Failure = errors.host_still_booting()
        self._again = asyncio.Event()
        self._on_trust: list[Callable[[], None]] = []

    @property
    def coordinator_address(self) -> str:
        """Where the coordinator is, or was last."""
        return self._role.coordinator_address

    @property
    def coordinator_uuid(self) -> str:
        """Who the coordinator is; "" while it has yet to be found out."""
        return self._role.coordinator_uuid

    @property
    def term(self) -> int:
        """Of which term the coordinator is."""
        return self._role.term

    @property
    def elsewhere(self) -> wire.Elsewhere:
        """What this host answers to whoever takes it to be the coordinator."""
        role = self._role
        return wire.Elsewhere(
            coordinator_uuid=role.coordinator_uuid, address=role.coordinator_address, term=role.term
        )

    @property
    def connected(self) -> bool:
        """Whether the coordinator is heard at this moment."""
        return self._connected

    @property
    def emergency(self) -> Failure | None:
        """Why this host answers next to nothing; None while it has its coordinator, or had it a moment ago."""
        if self._connected:
            return None
        now = asyncio.get_running_loop().time()
        if self._lost_at is not None and now - self._lost_at < self._pace.emergency_after_s:
            return None
        return self._reason

    def knows(self, uuid: str) -> bool:
        """Whether that is another host of the pool, as far as this one knows."""
        if uuid == self._host_uuid:
            return False
        known = bool(self._database.view.where(Host, uuid=uuid))
        return known or uuid == self._role.coordinator_uuid

    def _expected(self) -> str:
        return self._role.coordinator_uuid

    # --- the coordinator ---------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Keeps a connection to the coordinator, forever."""
        while True:
            try:
                async with self._peer.connected(self._role.coordinator_address) as streams:
                    await self._greet(*streams)
            except PeerGone as error:
                self._lost(errors.host_still_booting(), str(error))
            except PeerDenied as error:
                code, params = error.denied.code, error.denied.params
                reason = Failure(code, *params) if code in errors.ERRORS else errors.host_still_booting()
                self._lost(reason, str(error))
            except (OSError, asyncio.IncompleteReadError, wire.BadFrame, TimeoutError) as error:
                self._lost(errors.host_still_booting(), f"{type(error).__name__} {error}")
            except (DatabaseDamaged, StorageFailed) as error:
                self._lost(errors.host_broken(), str(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(RETRY_S):
                    await self._again.wait()
            self._again.clear()

    def _lost(self, reason: Failure, why: str) -> None:
        if self._connected:
            self._lost_at = asyncio.get_running_loop().time()
            log.warning("coordinator-lost", address=self._role.coordinator_address, reason=why)
        else:
            log.info("coordinator-not-found", address=self._role.coordinator_address, reason=why)
        self._connected = False
        self._reason = reason

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = wire.Greet(
            version=wire.VERSION,
            number=self._database.feed.number,
            epoch=self._role.epoch,
            started=self._started,
            term=self._role.term,
            coordinator_uuid=self._role.coordinator_uuid,
        )
        async with asyncio.timeout(self._pace.silence_s):
            await wire.write(writer, greeting)
            answer: wire.Greeted = await wire.read(reader, wire.Greeted)
        if isinstance(answer, wire.Denied):
            raise PeerDenied(answer)
        if isinstance(answer, wire.Elsewhere):
            self.hear_of(answer.coordinator_uuid, answer.address, answer.term)
            reason = "the coordinator is elsewhere"
            raise PeerDenied(wire.Denied(reason=reason, code="HOST_IS_SLAVE", params=(answer.address,)))
        self._welcomed(answer)
        self._started = False
        beside = (
            asyncio.create_task(self._beat(writer), name="member-beat"),
            asyncio.create_task(abort_without_address(writer), name="member-address"),
        )
        try:
            await self._listen(reader, answer.epoch)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    def _welcomed(self, welcome: wire.Welcome) -> None:
        """Keeps what the coordinator said of itself, and what it takes to be its successor. Raises OSError."""
        self._trust(welcome.authorities)
        self._files.ca_key.unlink(missing_ok=True)  # of the time when it was coordinator
        write_durably(self._files.secret, welcome.secret)
        self._save(
            replace(
                self._role,
                coordinator_uuid=welcome.coordinator_uuid,
                pool_uuid=welcome.pool_uuid,
                term=welcome.term,
            )
        )
        self.site.use(welcome.cluster)

    def on_trust(self, hear: Callable[[], None]) -> None:
        """Calls `hear` when it may be that other certificates are good than before. It may raise OSError."""
        self._on_trust.append(hear)

    def _trust(self, authorities: bytes) -> None:
        """Lets the signatures of these CAs count. Raises OSError."""
        try:
            if authority.trust(self._files, authorities):
                self._trust_changed()
        except ValueError as error:
            raise OSError(f"the coordinator's CAs cannot be read: {error}") from error

    def _trust_changed(self) -> None:
        for hear in self._on_trust:
            hear()

    def _save(self, role: Membership) -> None:
        if role != self._role and not self._changing:  # what it is to be is written down already
            membership.save(self._state_dir, role)
            self._role = role

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        while True:
            beat = wire.Beat(
                number=self._database.feed.number,
                verifies=pki.verifies(self._files),
                lost=self.site.files.has_lost(),
            )
            await wire.write(writer, beat)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.beat_s):
                    await self._database.feed.wait(self._database.feed.number)

    async def _listen(self, reader: asyncio.StreamReader, epoch: str) -> None:
        """Takes over what comes, until nothing comes any more."""
        parts: list[wire.Rows] = []
        while True:
            async with asyncio.timeout(self._pace.silence_s):
                frame: wire.FromCoordinator = await wire.read(reader, wire.FromCoordinator)
            match frame:
                case wire.Rows() as rows:
                    parts.append(rows)
                    if rows.last:
                        await self._take_over(parts, epoch)
                        parts = []
                case wire.Users(content=content):
                    self._take_over_users(content)
                case wire.Secret(content=content):
                    write_durably(self._files.secret, content)
                case wire.Installed(content=content):
                    trusted.take_over(self._files, content)
                    self._trust_changed()
                case wire.Authorities(content=content):
                    self._trust(content)
                case wire.Beat():
                    if not self._connected:  # what it had to send before, it has sent
                        self._connected = True
                        log.info("coordinator-found", address=self._role.coordinator_address)

    async def _take_over(self, parts: list[wire.Rows], epoch: str) -> None:
        whole = parts[-1].whole
        if whole and self._role.epoch:
            self._save(replace(self._role, epoch=""))  # a crash in between has everything sent again
        await self._database.follow(
            Replicated(
                number=parts[-1].number,
                puts=tuple(row for part in parts for row in part.puts),
                deletions=tuple(row for part in parts for row in part.deletions),
                whole=whole,
            )
        )
        if whole:
            self._save(replace(self._role, epoch=epoch))

    def _take_over_users(self, content: bytes) -> None:
        with suppress(OSError):
            if self._users_file.read_bytes() == content:
                return
        if content:
            write_durably(self._users_file, content)

    # --- what others ask ---------------------------------------------------------------------------------------

    async def open_client(self) -> Streams:
        """A connection to the coordinator's API server. Raises PeerGone, PeerDenied."""
        return await self._peer.open(self._role.coordinator_address, wire.OpenClient())

    async def reach(self, address: str) -> None:
        """Returns if the coordinator answers there, by a new connection. Raises PeerGone, PeerDenied."""
        await self._peer.ask(address or self._role.coordinator_address, wire.Ping(), wire.Pong)

    def follow_other(self, uuid: str, address: str, term: int) -> None:
        """Has another coordinator, or the same one elsewhere, from now on; "" accepts any host of the pool there."""
        if (uuid, address) == (self._role.coordinator_uuid, self._role.coordinator_address):
            self._again.set()
            return
        role = replace(self._role, coordinator_uuid=uuid, coordinator_address=address, term=term)
        self._change(role)

    def hear_of(self, uuid: str, address: str, term: int) -> None:
        """Follows the coordinator of a later term, of which nobody has told this host; it may be this host itself."""
        if term <= self._role.term or self._changing:
            return
        log.info("later-coordinator-found", host=uuid, address=address, term=term)
        if uuid == self._host_uuid:
            self.promote(term)
        else:
            self.follow_other(uuid, address, term)

    def promote(self, term: int) -> None:
        """Is the coordinator of that term from now on, unless a cluster decides who is."""
        if self.site.cluster is not None:
            log.info("promotion-ignored", term=term, reason="the database's cluster decides")
            return
        role = membership.Role.COORDINATOR
        self._change(Membership(role=role, pool_uuid=self._role.pool_uuid, term=term))

    def leave(self, management: Management | None) -> None:
        """Is a pool of its own from now on, with this management interface."""
        self._change(Membership(fresh=True, management=management))

    def _change(self, role: Membership) -> None:
        self._become(role)
        self._changing = True
