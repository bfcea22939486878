"""What do the hosts of a pool say to each other? Frames of four bytes big-endian length and that much JSON; types only.

The first frame of a connection says what it is for (`Opening`). `OpenHostd` and `OpenClient` turn it, once they are
answered by `Granted`, into a pipe to the host daemon or to the API server of the other host. `Greet` begins the
connection that a member keeps to its coordinator as long as both live. The others are answered by one frame, and that is it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from poolnet.db.engine import Deletion, StoredRow
from poolnet.pool.membership import Cluster, ClusterServer

FRAME_BYTES_MAX = 64 * 1024 * 1024
OPENING_BYTES_MAX = 128 * 1024  # before anybody knows whether the peer is a host of the pool
ROWS_PER_FRAME = 2000
VERSION = 4
DAEMON_STARTING = "HOST_STILL_BOOTING"
"""The code of what is denied because the host's daemon does not serve, perhaps not yet."""


class OpenHostd(Struct, frozen=True, kw_only=True, tag=True):
    """Connect me to your host daemon. Only a member's own coordinator may. See also `DAEMON_STARTING`."""


class OpenClient(Struct, frozen=True, kw_only=True, tag=True):
    """Connect me to your API server, as your own console would be. Only the coordinator serves it."""


class Greet(Struct, frozen=True, kw_only=True, tag=True):
    """A member is here, with the database up to `number` of that `epoch`.

    It takes the host that it greets to be the coordinator of that `term`, with that uuid; "" before it has met one.
    `started` when this is its first greeting since it started. Answered by `Welcome`, `Elsewhere` or `Denied`.
    """

    version: int
    number: int
    epoch: str
    started: bool
    term: int
    coordinator_uuid: str


class Ping(Struct, frozen=True, kw_only=True, tag=True):
    """Are you there, and what are you? Answered by `Pong`."""


class Reach(Struct, frozen=True, kw_only=True, tag=True):
    """Can you reach your coordinator at this address, by a new connection? Answered by `Pong` or `Denied`."""

    address: str


class Follow(Struct, frozen=True, kw_only=True, tag=True):
    """Your coordinator is that host, at that address, from now on. Answered by `Granted` or `Denied`."""

    coordinator_uuid: str
    address: str
    term: int


class Promote(Struct, frozen=True, kw_only=True, tag=True):
    """Be the coordinator of that term. Answered by `Granted`, also by the coordinator of that term, or by `Denied`."""

    term: int


class Leave(Struct, frozen=True, kw_only=True, tag=True):
    """You are ejected: start anew as a pool of your own. Answered by `Granted` or `Denied`."""


class Certify(Struct, frozen=True, kw_only=True, tag=True):
    """Show your certificates, install this one, make yours anew; ask for one of your door's, use the one that is granted.

    `verify` has the host check certificates again; `forget` has its database server start anew if that is `outdated`.
    Answered by `Certified` or `Denied`. Only a member's own coordinator may ask.
    """

    action: Literal["show", "install", "reset", "request", "adopt", "verify", "forget"]
    certificate: str = ""
    key: str = ""
    chain: str = ""


class ServeDatabase(Struct, frozen=True, kw_only=True, tag=True):
    """Start your server of the pool database as one of a cluster, `server`, which the ones in `join` are in.

    Only a member's own coordinator may ask. Answered by `Granted` when it is one of them, or by `Denied`.
    """

    server: ClusterServer
    join: tuple[str, ...]


class KickServer(Struct, frozen=True, kw_only=True, tag=True):
    """Have the servers of the cluster that yours is in go on without that one, which has lost what it kept.

    Only a member's own coordinator may ask. Answered by `Granted` when it is gone, or by `Denied`.
    """

    server: ClusterServer


class UseCluster(Struct, frozen=True, kw_only=True, tag=True):
    """The pool's database is on that cluster from now on; on none: end your server. Answered by `Granted` or `Denied`."""

    cluster: Cluster | None


Opening: TypeAlias = (
    OpenHostd
    | OpenClient
    | Greet
    | Ping
    | Reach
    | Follow
    | Promote
    | Leave
    | Certify
    | ServeDatabase
    | KickServer
    | UseCluster
)


class Granted(Struct, frozen=True, kw_only=True, tag=True):
    """So be it."""


class Denied(Struct, frozen=True, kw_only=True, tag=True):
    """No. `code` and `params` are those of the API where it has an error for that."""

    reason: str
    code: str = ""
    params: tuple[str, ...] = ()


class Pong(Struct, frozen=True, kw_only=True, tag=True):
    """This host: its role, whether a member has its coordinator, and of which term that is."""

    role: str
    connected: bool = False
    term: int = 0


class Elsewhere(Struct, frozen=True, kw_only=True, tag=True):
    """This host is a member; the coordinator of that term is that host, at that address."""

    coordinator_uuid: str
    address: str
    term: int


class Welcome(Struct, frozen=True, kw_only=True, tag=True):
    """The coordinator's answer to `Greet`: who it is, and what a host needs to take its place one day."""

    coordinator_uuid: str
    coordinator_address: str
    pool_uuid: str
    term: int
    epoch: str
    authorities: bytes
    secret: bytes
    cluster: Cluster | None = None


class Rows(Struct, frozen=True, kw_only=True, tag=True):
    """A part of what changed in the database; `last` ends it, and only then may it be applied. See `Replicated`."""

    number: int
    epoch: str
    puts: tuple[StoredRow, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    whole: bool = False
    last: bool = True


class Users(Struct, frozen=True, kw_only=True, tag=True):
    """The local users of the pool, as the coordinator's file has them: hashes of passwords, not passwords."""

    content: bytes


class Secret(Struct, frozen=True, kw_only=True, tag=True):
    """The pool secret, which has been changed."""

    content: bytes


class Authorities(Struct, frozen=True, kw_only=True, tag=True):
    """The CAs whose signature counts in the pool now, PEM."""

    content: bytes


class Installed(Struct, frozen=True, kw_only=True, tag=True):
    """The CA certificates and revocation lists that somebody has installed in the pool; see `trusted`."""

    content: bytes


class Beat(Struct, frozen=True, kw_only=True, tag=True):
    """Still here; a member says up to which commit it has the database, and whether it checks certificates.

    `lost`: its server of the database has lost what it kept, and another one can take its place.
    """

    number: int = 0
    verifies: bool = True
    lost: bool = False


Greeted: TypeAlias = Welcome | Elsewhere | Denied


class Certified(Struct, frozen=True, kw_only=True, tag=True):
    """The certificates that the host has now, PEM: the server's, that of its door, and the CAs that it trusts there.

    `request` asks for one, if that was wanted. `installed` is a hash of what `Installed` brought. `outdated`: its server of
    the database trusts a CA that the host does not trust any more.
    """

    server: str
    internal: str
    authorities: str = ""
    request: str = ""
    installed: str = ""
    outdated: bool = False


Reply: TypeAlias = Granted | Denied | Pong | Welcome | Elsewhere | Certified
FromCoordinator: TypeAlias = Welcome | Denied | Rows | Users | Secret | Authorities | Installed | Beat


class BadFrame(Exception):
    """What came is no frame of ours; the connection is of no use any more."""


async def read(reader: asyncio.StreamReader, kind: Any, limit: int = FRAME_BYTES_MAX) -> Any:
    """Reads one frame of that type (or union).

    Raises:
        BadFrame: It is too long, or something else.
        OSError, asyncio.IncompleteReadError: The connection ended.
    """
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > limit:
        raise BadFrame(f"a frame of {length} bytes")
    body = await reader.readexactly(length)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise BadFrame(str(error)) from error


async def write(writer: asyncio.StreamWriter, frame: Struct) -> None:
    """Sends one frame. Raises OSError."""
    body = msgspec.json.encode(frame)
    writer.write(len(body).to_bytes(4, "big") + body)
    await writer.drain()
