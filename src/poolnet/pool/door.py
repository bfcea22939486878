"""What may another host of the pool ask of this one? Answered at the door between hosts, whose TLS has let it in.

A certificate of the pool is not enough: the host that it is bound to must be in the database now. Only a member's own
coordinator drives its host daemon. Nothing that comes in here raises out of `serve`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import structlog

from poolnet.db.database import Database
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.failure import Failure
from poolnet.model.types import Ref
from poolnet.pool import consoles, membership, pipes, wire
from poolnet.pool.member import Member
from poolnet.pool.members import Members
from poolnet.pool.membership import Membership
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.pki import peer_uuid
from poolnet.rules.leave import management_of

log = structlog.get_logger("poolnet.pool.door")

OPENING_S: Final = 10.0


class Answering(Protocol):
    """What a host answers as a coordinator, or as a member."""

    def knows(self, uuid: str) -> bool:
        """Whether that is another host of the pool."""

    async def answer(
        self,
        uuid: str,
        opening: wire.Opening,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Answers one connection of a host of the pool. Raises OSError, IncompleteReadError, BadFrame."""


async def serve(answering: Answering, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves one connection to its end."""
    uuid = peer_uuid(writer.get_extra_info("ssl_object"))
    try:
        await admit(answering, uuid, reader, writer)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, wire.BadFrame) as error:
        log.debug("door-connection-ended", host=uuid, reason=f"{type(error).__name__} {error}")
    except Exception:  # a bug ends this connection, and no other
        log.exception("door-connection-failed", host=uuid)
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


async def admit(
    answering: Answering, uuid: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Lets the host with that uuid say what it wants, and answers it if it is of the pool now.

    Raises OSError, TimeoutError, IncompleteReadError, BadFrame.
    """
    async with asyncio.timeout(OPENING_S):
        opening: wire.Opening = await wire.read(reader, wire.Opening, wire.OPENING_BYTES_MAX)
    if uuid and answering.knows(uuid):
        await answering.answer(uuid, opening, reader, writer)
        return
    log.warning("door-refused", host=uuid)
    await wire.write(
        writer, wire.Denied(reason="not of this pool", code="HOST_UNKNOWN_TO_MASTER", params=(uuid,))
    )


class CoordinatorDoor:
    """The door of a coordinator.

    Args:
        database: Which hosts there are.
        members: Who keeps members.
        api_socket: The API server's own socket, where whoever connects is root.
        host_uuid: This host.
        become: Has the server start anew in another role, soon.
    """

    def __init__(
        self,
        *,
        database: Database,
        members: Members,
        api_socket: Path,
        host_uuid: str,
        become: Callable[[Membership], None],
    ) -> None:
        self._database = database
        self._members = members
        self._api_socket = api_socket
        self._host_uuid = host_uuid
        self._become = become

    def knows(self, uuid: str) -> bool:
        """See `Answering`."""
        return uuid != self._host_uuid and bool(self._database.view.where(Host, uuid=uuid))

    async def answer(
        self,
        uuid: str,
        opening: wire.Opening,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """See `Answering`."""
        match opening:
            case wire.Greet() as greeting:
                await self._members.serve(uuid, greeting, reader, writer)
            case wire.OpenClient():
                api = await consoles.connect(self._api_socket, uuid)
                await wire.write(writer, wire.Granted())
                await pipes.join((reader, writer), api)
            case wire.Ping():
                await wire.write(writer, wire.Pong(role=membership.Role.COORDINATOR, term=self._members.term))
            case wire.Promote(term=self._members.term):  # it did not hear the first answer
                await wire.write(writer, wire.Granted())
            case wire.Follow() if self._gives_way(uuid, opening):
                await wire.write(writer, wire.Granted())
            case _:
                await wire.write(writer, wire.Denied(reason="this host is a coordinator"))

    def _gives_way(self, uuid: str, other: wire.Follow) -> bool:
        """Steps down for a coordinator of a later term, unless there are members that follow this one, or a cluster decides."""
        if self._members.elected:
            return False
        if other.coordinator_uuid != uuid or other.term <= self._members.term or self._members.connected:
            return False
        log.warning("steps-down", coordinator=uuid, address=other.address, term=other.term)
        self._become(
            Membership(
                role=membership.Role.MEMBER,
                coordinator_uuid=uuid,
                coordinator_address=other.address,
                pool_uuid=next(iter(self._database.view.all(Pool))).uuid,
                term=other.term,
            )
        )
        return True


class MemberDoor:
    """The door of a member.

    Args:
        member: This host.
        database: Its copy of the database.
        host: Its own row there, once it is there.
        hostd_socket: The socket of its host daemon.
        certify: Does something with its certificates; raises Failure.
    """

    def __init__(
        self,
        member: Member,
        database: Database,
        host_uuid: str,
        hostd_socket: Path,
        certify: Callable[[wire.Certify], wire.Certified],
    ) -> None:
        self._certify = certify
        self._member = member
        self._database = database
        self._host_uuid = host_uuid
        self._hostd_socket = hostd_socket

    def knows(self, uuid: str) -> bool:
        """See `Answering`."""
        return self._member.knows(uuid)

    async def answer(
        self,
        uuid: str,
        opening: wire.Opening,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """See `Answering`."""
        if isinstance(opening, wire.Ping):
            await wire.write(writer, self._pong())
        elif isinstance(opening, wire.Follow):
            await self._follow(uuid, opening, writer)
        elif isinstance(opening, wire.Greet):
            if opening.coordinator_uuid == self._host_uuid:  # it was designated, and has not heard so
                self._member.hear_of(self._host_uuid, "", opening.term)
            await wire.write(writer, self._member.elsewhere)
        elif uuid != self._member.coordinator_uuid:
            await wire.write(writer, wire.Denied(reason="not the coordinator of this host"))
        else:
            await self._obey(opening, reader, writer)

    async def _follow(self, uuid: str, opening: wire.Follow, writer: asyncio.StreamWriter) -> None:
        """Its coordinator says who is coordinator; in emergency mode, whoever says it of itself is believed.

        Not one of an earlier term: it does not know yet that it is coordinator no more. And not while the own one may only be
        starting again: of two coordinators, each with members, neither takes the other's in such a moment.
        """
        own = uuid == self._member.coordinator_uuid
        found = self._member.emergency is not None and uuid == opening.coordinator_uuid
        if opening.term < self._member.term or not (own or found):
            await wire.write(writer, wire.Denied(reason="this host has a coordinator"))
            return
        self._member.follow_other(opening.coordinator_uuid, opening.address, opening.term)
        await wire.write(writer, wire.Granted())

    async def _obey(
        self, opening: wire.Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match opening:
            case wire.OpenHostd():
                await self._open_hostd(reader, writer)
            case wire.Reach(address=address):
                try:
                    await self._member.reach(address)
                except (PeerGone, PeerDenied) as error:
                    await wire.write(writer, wire.Denied(reason=str(error)))
                else:
                    await wire.write(writer, self._pong())
            case wire.Promote(term=term):
                self._member.promote(term)
                await wire.write(writer, wire.Granted())
            case wire.Certify() as what:
                try:
                    done = await asyncio.to_thread(self._certify, what)
                except Failure as failure:
                    denied = wire.Denied(reason="no", code=failure.code, params=failure.params)
                    await wire.write(writer, denied)
                else:
                    await wire.write(writer, done)
            case wire.ServeDatabase() | wire.KickServer() | wire.UseCluster():
                await wire.write(writer, await self._member.site.answer(opening))
            case wire.Leave():
                host = self._own_host()
                management = management_of(self._database.view, host) if host is not None else None
                self._member.leave(management)
                await wire.write(writer, wire.Granted())
            case _:
                await wire.write(writer, wire.Denied(reason="this host is a member"))

    async def _open_hostd(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Joins the coordinator to this host's daemon, until one of them ends that."""
        try:
            daemon = await asyncio.open_unix_connection(str(self._hostd_socket))
        except OSError as error:
            reason = f"the host's daemon does not serve: {error.strerror}"
            await wire.write(writer, wire.Denied(reason=reason, code=wire.DAEMON_STARTING))
            return
        await wire.write(writer, wire.Granted())
        await pipes.join((reader, writer), daemon)

    def _pong(self) -> wire.Pong:
        member = self._member
        return wire.Pong(role=membership.Role.MEMBER, connected=member.connected, term=member.term)

    def _own_host(self) -> Ref[Host] | None:
        row = self._database.view.first(Host, uuid=self._host_uuid)
        return row.ref if row is not None else None
