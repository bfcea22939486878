"""Is the pool's database on a cluster, and on which hosts? What a host keeps of that, and how its own server is told.

`cluster.json` below the state directory's `cluster/` says which servers there are, on every host of the pool; `server.json`
beside it, on the hosts that have one, what the program `poolnet-db` is to run. Neither is there without a cluster.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import msgspec
import structlog

from poolnet.db.ovsdb_schema import DATABASE, schema
from poolnet.db.seat import BROKEN, Opener
from poolnet.ovsdb.connection import Connection
from poolnet.pool import wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.database_server import (
    CONTROL,
    DIRECTORY,
    LOST,
    PID_FILE,
    SERVER_FILE,
    SOCKET,
    trusts_former,
)
from poolnet.pool.membership import Cluster, ClusterServer, bracketed, write_durably
from poolnet.pool.peer import notice_loss
from poolnet.pool.pki import client_context, finish_renewal, peer_uuid, pool_files

log = structlog.get_logger("poolnet.pool.cluster")

CLIENT_PORT: Final = 9445
SIZES: Final = (3, 5)
CLUSTER_FILE: Final = "cluster.json"
SCHEMA_FILE: Final = "poolnet.ovsschema"
CONNECT_S: Final = 2.0
POLL_S: Final = 0.1
SERVES_S: Final = 30.0
KICK_TURNS: Final = 20  # after so many looks a kick is taken to be lost, as when the lead has moved meanwhile


class ClusterTrouble(Exception):
    """A server cannot be started, reached or asked; the text says why."""


class ClusterFiles:
    """What a host keeps of the cluster.

    Args:
        state_dir: The API server's.
        run_dir: Where the server's sockets are.
    """

    def __init__(self, state_dir: Path, run_dir: Path) -> None:
        self._state_dir = state_dir
        self.directory = state_dir / DIRECTORY
        self._pool = pool_files(state_dir)
        self.socket = run_dir / SOCKET
        self._control = run_dir / CONTROL
        self._pid_file = run_dir / PID_FILE
        self._lost = run_dir / LOST

    def load(self) -> Cluster | None:
        """The cluster, if the pool has one. Raises ClusterTrouble: to guess would make two coordinators."""
        path = self.directory / CLUSTER_FILE
        try:
            return msgspec.json.decode(path.read_bytes(), type=Cluster)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise ClusterTrouble(f"{path}: {error}") from error

    def save(self, cluster: Cluster | None) -> None:
        """Writes down which cluster the pool has. Raises OSError."""
        if cluster is None:
            (self.directory / CLUSTER_FILE).unlink(missing_ok=True)
        else:
            write_durably(self.directory / CLUSTER_FILE, msgspec.json.encode(cluster))

    def serve(self, own: ClusterServer, join: Sequence[str]) -> None:
        """Has this host's server started with an empty database: the first of a cluster, or one more. Raises OSError."""
        finish_renewal(self._pool)  # so that there is the file that the server reads
        write_durably(self.directory / SCHEMA_FILE, msgspec.json.encode(schema()))
        self._write_server(own, join, str(uuid4()))

    def knows_others(self, cluster: Cluster, own: ClusterServer) -> None:
        """Has this host's server begin no cluster of its own if nothing at all is left of it. Raises OSError."""
        identity = msgspec.json.decode((self.directory / SERVER_FILE).read_bytes())["identity"]
        self._write_server(own, [each.raft for each in cluster.servers if each != own], identity)

    def _write_server(self, own: ClusterServer, join: Sequence[str], identity: str) -> None:
        words = {
            "identity": identity,
            "database": DATABASE,
            "raft": own.raft,
            "join": list(join),
            "listen": f"pssl:{CLIENT_PORT}:{bracketed(own.address)}",
            "schema": SCHEMA_FILE,
        }
        write_durably(self.directory / SERVER_FILE, msgspec.json.encode(words))
        self._tell()

    def stop_serving(self) -> None:
        """Ends this host's server, and removes what it has kept. Raises OSError."""
        (self.directory / SERVER_FILE).unlink(missing_ok=True)
        self._tell()

    def leave(self) -> None:
        """Removes everything. Raises OSError."""
        self.stop_serving()
        shutil.rmtree(self.directory, ignore_errors=True)
        self._tell()

    def authorities_changed(self) -> None:
        """Has this host's server trust what the pool trusts by now, besides what it trusts already."""
        if self._serves():
            self._tell()

    def has_lost(self) -> bool:
        """Whether this host's server has lost what it kept, and another one can take its place; see `poolnet-db`."""
        return self._serves() and self._lost.exists()

    def trusts_former(self) -> bool:
        """Whether this host's server trusts a CA that the pool does not trust any more."""
        return self._serves() and trusts_former(self._state_dir)

    def forget_former(self) -> None:
        """Has this host's server start anew if it trusts such a CA."""
        if self.trusts_former():
            self._tell(signal.SIGUSR1)

    def _serves(self) -> bool:
        return (self.directory / SERVER_FILE).is_file()

    def _tell(self, what: signal.Signals = signal.SIGHUP) -> None:
        """Has `poolnet-db` look at its file; one that starts later looks by itself."""
        with suppress(OSError, ValueError):
            os.kill(int(self._pid_file.read_text()), what)

    async def serving(self, within_s: float = SERVES_S) -> None:
        """Returns when this host's server is one of the cluster's. Raises ClusterTrouble."""
        reason = "it does not start"
        until = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < until:
            try:
                told = await self.control("cluster/status", DATABASE)
            except ClusterTrouble as error:
                reason = str(error)
            else:
                if "\nStatus: cluster member\n" in told and "\nLeader: unknown\n" not in told:
                    return
                reason = "it has not joined the others"
            await asyncio.sleep(POLL_S)
        raise ClusterTrouble(f"this host's database server: {reason}")

    async def control(self, command: str, *arguments: str) -> str:
        """What this host's server answers to a command of its administrator. Raises ClusterTrouble."""
        try:
            connection = await Connection.open(self._control)
            try:
                answer = await connection.call(command, arguments, CONNECT_S)
            finally:
                await connection.close()
        except BROKEN as error:
            raise ClusterTrouble(f"{command}: {error}") from error
        return str(answer)

    async def carry_out(self, question: wire.KickServer | wire.ServeDatabase) -> None:
        """Does what the coordinator asks of this host's server. Raises OSError, ClusterTrouble."""
        match question:
            case wire.KickServer(server=server):
                await self.kick(server.raft)
            case wire.ServeDatabase(server=server, join=join):
                self.serve(server, join)
                await self.serving()

    async def kick(self, raft: str) -> None:
        """Has the other servers go on without the one at that address, whatever its ids. Raises ClusterTrouble."""
        reason = ""
        for turn in range(round(SERVES_S / POLL_S)):
            known = server_ids(await self.control("cluster/status", DATABASE)).get(raft, ())
            if not known:
                return
            for name in known if turn % KICK_TURNS == 0 else ():
                try:
                    await self.control("cluster/kick", DATABASE, name)
                except ClusterTrouble as error:
                    reason = f": {error}"
            await asyncio.sleep(POLL_S)
        raise ClusterTrouble(f"they still have the one that was to go{reason}")

    def openers(self, cluster: Cluster, own_uuid: str, files: PoolFiles) -> list[Opener]:
        """How each server of a cluster is connected to: this host's own by its socket."""
        return [
            partial(Connection.open, self.socket)
            if server.uuid == own_uuid
            else partial(open_server, server, files)
            for server in cluster.servers
        ]


async def open_server(server: ClusterServer, files: PoolFiles) -> Connection:
    """Connects to the server of another host, and sees by its certificate that it is that host's, unless this one is to check none.

    Raises OSError, TimeoutError.
    """
    tls = client_context(files)

    def accepts(writer: asyncio.StreamWriter) -> bool:
        notice_loss(writer.transport)
        unchecked = tls.verify_mode is ssl.CERT_NONE
        return unchecked or peer_uuid(writer.get_extra_info("ssl_object")) == server.uuid

    async with asyncio.timeout(CONNECT_S):
        return await Connection.open_tls(server.address, CLIENT_PORT, tls, accepts)


def server_ids(status: str) -> dict[str, list[str]]:
    """The ids that the servers have in the answer to `cluster/status`, by their addresses."""
    found: dict[str, list[str]] = {}
    _, _, listed = status.partition("\nServers:\n")
    for line in listed.splitlines():
        _, opened, rest = line.strip().partition("(")
        name, _, address = rest.partition(")")[0].partition(" at ")
        if opened and address:
            found.setdefault(address, []).append(name)
    return found


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of itself; `state` is leader, follower, no majority, or not reached."""

    uuid: str
    address: str
    state: str


async def look(cluster: Cluster, openers: Sequence[Opener]) -> list[Seen]:
    """Asks each server of a cluster how it is."""
    states = await asyncio.gather(*(_state(opener) for opener in openers))
    return [
        Seen(uuid=server.uuid, address=server.address, state=state)
        for server, state in zip(cluster.servers, states, strict=True)
    ]


async def _state(opener: Opener) -> str:
    try:
        async with asyncio.timeout(CONNECT_S):
            connection = await opener()
            try:
                replica = await connection.monitor(
                    "_Server", {"Database": ("name", "connected", "leader")}, lambda _: None
                )
            finally:
                await connection.close()
    except BROKEN:
        return "not reached"
    for row in replica.rows("Database").values():
        if row.get("name") == DATABASE:
            if row.get("connected") is not True:
                return "no majority"
            return "leader" if row.get("leader") is True else "follower"
    return "starting"


class ClusterSite:
    """What a member has of the pool's cluster, and how that changes.

    Args:
        files: Where that is kept.
        cluster: The cluster that it uses.
        own_uuid: This host.
        start_anew: Has the server start anew, soon.
    """

    def __init__(
        self, files: ClusterFiles, cluster: Cluster | None, own_uuid: str, start_anew: Callable[[], None]
    ) -> None:
        self.files = files
        self._own_uuid = own_uuid
        self.cluster = cluster
        self._start_anew = start_anew
        self._changed = False

    def use(self, cluster: Cluster | None) -> None:
        """Uses that cluster, or none, from now on. Raises OSError."""
        if cluster is not None:
            cluster = msgspec.structs.replace(cluster, step="")
        if cluster == self.cluster or self._changed:
            return
        log.info("cluster-changes", servers=len(cluster.servers) if cluster is not None else 0)
        if cluster is None:
            self.files.leave()
        else:
            if cluster.server(self._own_uuid) is None:
                self.files.stop_serving()
            self.files.save(cluster)
        self._changed = True
        self._start_anew()

    def _stop_other_server(self) -> None:
        """Ends a server that this host has and the cluster does not. Raises OSError."""
        if self.cluster is None:
            self.files.leave()
        elif self.cluster.server(self._own_uuid) is None:
            self.files.stop_serving()

    async def answer(
        self, opening: wire.ServeDatabase | wire.KickServer | wire.UseCluster
    ) -> wire.Granted | wire.Denied:
        """Does what the coordinator asks."""
        try:
            if isinstance(opening, wire.UseCluster):
                if opening.cluster == self.cluster:
                    self._stop_other_server()  # it may have been started for what did not come to be
                self.use(opening.cluster)
            else:
                await self.files.carry_out(opening)
        except (OSError, ClusterTrouble) as error:
            return wire.Denied(reason=str(error))
        return wire.Granted()
