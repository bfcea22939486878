"""What may another host of the pool ask of this one? Answered at the door between hosts, whose TLS has let it in.

A certificate of the pool is not enough: the host that it is bound to must be in the database now. Only a member's own
coordinator drives its host daemon. Nothing that comes in here raises out of `serve`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import structlog

from poolnet.db.database import Database
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool import pipes, wire
from poolnet.pool.member import Member
from poolnet.pool.members import Members
from poolnet.pool.membership import Role
from poolnet.pool.peer import PeerDenied, PeerGone
from poolnet.pool.pki import peer_uuid
from poolnet.rules.leave import management_of

log = structlog.get_logger("poolnet.pool.door")

OPENING_S: Final = 10.0


class Answering(Protocol):
    """What a host answers in its role."""

    async def answer(
        self,
        uuid: str,
        opening: wire.Opening,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Answers one connection of the host with that uuid. Raises OSError, IncompleteReadError, BadFrame."""


async def serve(answering: Answering, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves one connection to its end."""
    uuid = peer_uuid(writer.get_extra_info("ssl_object"))
    try:
        async with asyncio.timeout(OPENING_S):
            opening: wire.Opening = await wire.read(reader, wire.Opening, wire.OPENING_BYTES_MAX)
        await answering.answer(uuid, opening, reader, writer)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, wire.BadFrame) as error:
        log.debug("door-connection-ended", host=uuid, reason=f"{type(error).__name__} {error}")
    except Exception:  # a bug ends this connection, and no other
        log.exception("door-connection-failed", host=uuid)
    finally:
        writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1.0):
                await writer.wait_closed()


class CoordinatorDoor:
    """The door of a coordinator.

    Args:
        database: Which hosts there are.
        members: Who keeps members.
        api_socket: The API server's own socket, where whoever connects is root.
    """

    def __init__(self, database: Database, members: Members, api_socket: Path) -> None:
        self._database = database
        self._members = members
        self._api_socket = api_socket

    async def answer(
        self,
        uuid: str,
        opening: wire.Opening,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """See `Answering`."""
        if not uuid or not self._database.view.where(Host, uuid=uuid):
            log.warning("door-refused", host=uuid)
            denied = wire.Denied(reason="not of this pool", code="HOST_UNKNOWN_TO_MASTER", params=(uuid,))
            await wire.write(writer, denied)
            return
        match opening:
            case wire.Greet() as greeting:
                await self._members.serve(uuid, greeting, reader, writer)
            case wire.OpenClient():
                api = await asyncio.open_unix_connection(str(self._api_socket))
                await wire.write(writer, wire.Granted())
                await pipes.join((reader, writer), api)
            case wire.Ping():
                await wire.write(writer, wire.Pong(role=Role.COORDINATOR))
            case _:
                await wire.write(writer, wire.Denied(reason="this host is a coordinator"))


class MemberDoor:
    """The door of a member.

    Args:
        member: This host.
        database: Its copy of the database.
        host: Its own row there, once it is there.
        hostd_socket: The socket of its host daemon.
    """

    def __init__(self, member: Member, database: Database, host_uuid: str, hostd_socket: Path) -> None:
        self._member = member
        self._database = database
        self._host_uuid = host_uuid
        self._hostd_socket = hostd_socket

    async def answer(
        self,
        uuid: str,
        opening: wire.Opening,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """See `Answering`."""
        if not uuid or not self._member.knows(uuid):
            log.warning("door-refused", host=uuid)
            await wire.write(writer, wire.Denied(reason="not a host of this pool"))
            return
        if isinstance(opening, wire.Ping):
            pong = wire.Pong(role=Role.MEMBER, connected=self._member.connected)
            await wire.write(writer, pong)
        elif isinstance(opening, wire.Follow):
            await self._follow(uuid, opening, writer)
        elif uuid != self._member.coordinator_uuid:
            await wire.write(writer, wire.Denied(reason="not the coordinator of this host"))
        else:
            await self._obey(opening, reader, writer)

    async def _follow(self, uuid: str, opening: wire.Follow, writer: asyncio.StreamWriter) -> None:
        """Its coordinator says who is coordinator; without one, whoever says it of itself is believed."""
        own = uuid == self._member.coordinator_uuid
        found = not self._member.connected and uuid == opening.coordinator_uuid
        if not own and not found:
            await wire.write(writer, wire.Denied(reason="this host has a coordinator"))
            return
        self._member.follow_other(opening.coordinator_uuid, opening.address)
        await wire.write(writer, wire.Granted())

    async def _obey(
        self, opening: wire.Opening, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match opening:
            case wire.OpenHostd():
                daemon = await asyncio.open_unix_connection(str(self._hostd_socket))
                await wire.write(writer, wire.Granted())
                await pipes.join((reader, writer), daemon)
            case wire.Reach(address=address):
                try:
                    await self._member.reach(address)
                except (PeerGone, PeerDenied) as error:
                    await wire.write(writer, wire.Denied(reason=str(error)))
                else:
                    await wire.write(writer, wire.Pong(role=Role.MEMBER, connected=True))
            case wire.Promote(number=number):
                if self._member.number < number:
                    await wire.write(writer, wire.Denied(reason="the database is not up to date here"))
                    return
                self._member.promote()
                await wire.write(writer, wire.Granted())
            case wire.Leave():
                host = self._own_host()
                management = management_of(self._database.view, host) if host is not None else None
                self._member.leave(management)
                await wire.write(writer, wire.Granted())
            case _:
                await wire.write(writer, wire.Denied(reason="this host is a member"))

    def _own_host(self) -> Ref[Host] | None:
        row = next(iter(self._database.view.where(Host, uuid=self._host_uuid)), None)
        return row.ref if row is not None else None
