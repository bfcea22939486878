"""How does the pool's database move to a cluster of servers on its hosts, and back? The coordinator's calls.

Servers are started first, one after the other, each as one of those before it; then all hosts are told which cluster there is.
Nothing that is kept changes before that: a call that fails ends the servers again. Then this host starts anew, and writes its
database to the cluster before it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import msgspec
import structlog
from msgspec.structs import replace

from poolnet.api.dispatch import Call, Own, Result
from poolnet.api.office import Office
from poolnet.api.place import Place
from poolnet.api.server_return import bring_back
from poolnet.db.database import Database
from poolnet.db.txn import View
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pool import Pool
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.authority import PoolFiles
from poolnet.pool.cluster import SERVES_S, SIZES, ClusterTrouble, look
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.members import Members
from poolnet.pool.membership import Cluster, ClusterServer
from poolnet.pool.peer import PeerDenied, PeerGone

log = structlog.get_logger("poolnet.api.cluster")

LOOK_S: Final = 2.0
HEARD_S: Final = 10.0  # a member that lost the connection makes a new one after a second
JOINS_S: Final = SERVES_S + 10.0


async def describe(place: Place, view: View, own_uuid: str, files: PoolFiles) -> str:
    """What `pool.cluster_status` answers on any host: a JSON text."""
    cluster, seat = place.cluster, place.seat
    if cluster is None or seat is None:
        return msgspec.json.encode({"enabled": False}).decode()
    seen = await look(cluster, place.files.openers(cluster, own_uuid, files))
    turn = seat.turn
    names = {row.uuid: row.name_label for row in view.all(Host)}
    answer = {
        "enabled": True,
        "majority": seat.connected,
        "coordinator": turn.holder if turn is not None else "",
        "coordinator-address": turn.address if turn is not None else "",
        "term": turn.term if turn is not None else 0,
        "transactions": turn.number if turn is not None else 0,
        "asked": own_uuid,
        "servers": [
            {
                "host": each.uuid,
                "name-label": names.get(each.uuid, ""),
                "address": each.address,
                "state": each.state,
            }
            for each in seen
        ],
    }
    return msgspec.json.encode(answer).decode()


@contextmanager
def keeping_files() -> Iterator[None]:
    """What the body writes about the cluster is on the disk. Raises INTERNAL_ERROR."""
    try:
        yield
    except OSError as error:
        raise errors.internal_error(f"the cluster's files: {error.strerror}") from error


class ClusterCalls:
    """The calls of a coordinator about the cluster.

    Args:
        database: Which hosts there are.
        coordinator: Who holds writes while the database moves.
        members: The other hosts.
        host: This host.
        files: What the hosts of the pool prove themselves with.
        office: What this host is, and how that changes.
        place: What this host has of the cluster.
    """

    def __init__(
        self,
        *,
        database: Database,
        coordinator: Coordinator,
        members: Members,
        host: Ref[Host],
        files: PoolFiles,
        office: Office,
        place: Place,
    ) -> None:
        self._database = database
        self._coordinator = coordinator
        self._members = members
        self._host = host
        self._files = files
        self._office = office
        self._place = place
        self._changing = asyncio.Lock()

    def messages(self) -> Mapping[str, Own]:
        """The messages, by full name."""
        return {
            "pool.cluster_enable": self._enable,
            "pool.cluster_disable": self._disable,
            "pool.cluster_status": self._status,
            "pool.cluster_add": self._add,
            "pool.cluster_remove": self._remove,
        }

    async def _status(self, _: Call) -> Result:
        return await describe(self._place, self._database.view, self._own().uuid, self._files)

    async def _enable(self, call: Call) -> Result:
        """Moves the database to a cluster.

        Raises:
            OPERATION_NOT_ALLOWED: It is on one, the pool has no three hosts, or one has got another address meanwhile.
            INVALID_VALUE: Not three or five different hosts with this one among them.
            HOST_OFFLINE: One of them is not heard.
            INTERNAL_ERROR: A server did not start; nothing has changed.
        """
        self._require_idle()
        async with self._changing, self._place.servers:
            if self._place.cluster is not None:
                raise errors.operation_not_allowed("The pool's database is on a cluster already")
            await self._members.heard(HEARD_S)
            hosts = self._chosen(call.arguments["hosts"])
            servers = tuple(self._server(host) for host in hosts)
            await self._start_servers(hosts, servers)
            cluster = Cluster(line=self._office.role.epoch, servers=servers)
            await self._coordinator.hold()
            try:
                self._require_there(servers)
                with keeping_files():
                    self._place.files.knows_others(cluster, servers[0])
                    self._place.files.save(replace(cluster, step="seed"))
            except errors.Failure:
                self._coordinator.release()
                await self._stop_servers(hosts)
                raise
            await self._tell_all(cluster)
            self._office.start_anew(self._office.role)
        return None

    def _chosen(self, given: Sequence[Ref[Host]]) -> tuple[Ref[Host], ...]:
        """The hosts that get a server, this one first."""
        others = [row.ref for row in self._database.view.all(Host) if row.ref != self._host]
        if not given:
            if len(others) + 1 < SIZES[0]:
                raise errors.operation_not_allowed("A cluster needs three hosts; this pool has fewer")
            heard = [host for host in others if host in self._members.connected]
            given = (self._host, *(heard + [h for h in others if h not in heard])[: SIZES[0] - 1])
        for host in given:
            self._database.view.get(Host, host)
        if len(set(given)) != len(given) or len(given) not in SIZES or self._host not in given:
            raise errors.invalid_value("hosts", "three or five different hosts, the coordinator among them")
        for host in given:
            self._require_heard(host)
        return (self._host, *(host for host in given if host != self._host))

    def _require_heard(self, host: Ref[Host]) -> None:
        if host != self._host and host not in self._members.connected:
            raise errors.host_offline(host)

    def _server(self, host: Ref[Host]) -> ClusterServer:
        row = self._database.view.get(Host, host)
        return ClusterServer(uuid=row.uuid, address=row.address)

    async def _start_servers(self, hosts: Sequence[Ref[Host]], servers: Sequence[ClusterServer]) -> None:
        """Starts all servers, or none. Raises INTERNAL_ERROR."""
        try:
            self._place.files.serve(servers[0], ())
            await self._place.files.serving()
            for host, server in zip(hosts[1:], servers[1:], strict=True):
                join = tuple(each.raft for each in servers[: servers.index(server)])
                question = wire.ServeDatabase(server=server, join=join)
                await self._members.ask(host, question, wire.Granted, JOINS_S)
        except (OSError, ClusterTrouble, PeerGone, PeerDenied) as error:
            log.warning("cluster-not-enabled", reason=str(error))
            await self._stop_servers(hosts)
            raise errors.internal_error(f"the cluster's servers: {error}") from error

    async def _stop_servers(self, hosts: Sequence[Ref[Host]]) -> None:
        with suppress(OSError):
            self._place.files.leave()
        for host in hosts[1:]:
            with suppress(PeerGone, PeerDenied):
                await self._members.ask(host, wire.UseCluster(cluster=None), wire.Granted)

    async def _tell_all(self, cluster: Cluster | None) -> None:
        """Tells the other hosts; who does not hear it now hears it when it greets."""
        others = [host for host in self._database.view.refs(Host) if host != self._host]
        told = await asyncio.gather(
            *(self._members.ask(host, wire.UseCluster(cluster=cluster), wire.Granted) for host in others),
            return_exceptions=True,
        )
        for host, answer in zip(others, told, strict=True):
            if isinstance(answer, PeerGone | PeerDenied):
                log.warning("not-told-of-cluster", host=host, reason=str(answer))
            elif isinstance(answer, BaseException):
                raise answer

    async def _disable(self, _: Call) -> Result:
        """Takes the database back to this host alone.

        Raises:
            OPERATION_NOT_ALLOWED: It is on no cluster.
            HA_IS_ENABLED: The pool has high availability, which needs the cluster.
        """
        self._require_idle()
        async with self._changing, self._place.servers:
            cluster = self._in_use()
            if self._pool().ha_enabled:
                raise errors.ha_is_enabled()
            await self._coordinator.hold()
            try:
                with keeping_files():
                    self._place.files.save(replace(cluster, step="take back"))
            except errors.Failure:
                self._coordinator.release()
                raise
            self._office.start_anew(self._office.role)
        return None

    async def _add(self, call: Call) -> Result:
        """Gives one more host a server.

        Raises:
            OPERATION_NOT_ALLOWED: There is no cluster, the host has a server, there are as many as there may be, or the
                host has got another address meanwhile.
            HOST_OFFLINE: It is not heard.
            INTERNAL_ERROR: Its server did not start; nothing has changed.
        """
        self._require_idle()
        async with self._changing, self._place.servers:
            cluster = self._in_use()
            host = call.arguments["host"]
            server = self._server(host)
            if cluster.server(server.uuid) is not None:
                raise errors.operation_not_allowed("The host has a server of the cluster already")
            if len(cluster.servers) >= SIZES[-1]:
                raise errors.operation_not_allowed("The cluster has as many servers as it may have")
            await self._members.heard(HEARD_S)
            self._require_heard(host)
            join = tuple(each.raft for each in cluster.servers)
            try:
                question = wire.ServeDatabase(server=server, join=join)
                await self._members.ask(host, question, wire.Granted, JOINS_S)
                await self._change(replace(cluster, servers=(*cluster.servers, server)), added=(server,))
            except (PeerGone, PeerDenied) as error:
                await self._take_back(cluster, server, host)
                raise errors.internal_error(f"the host's server: {error}") from error
            except errors.Failure:
                await self._take_back(cluster, server, host)
                raise
        return None

    async def _take_back(self, cluster: Cluster, server: ClusterServer, host: Ref[Host]) -> None:
        """Ends the server of a host that was to get one, as far as anybody hears it."""
        with suppress(ClusterTrouble):
            await self._place.files.kick(server.raft)
        with suppress(PeerGone, PeerDenied):
            await self._members.ask(host, wire.UseCluster(cluster=cluster), wire.Granted)

    async def _remove(self, call: Call) -> Result:
        """Takes a host's server out of the cluster, also one that is gone for good.

        Raises:
            OPERATION_NOT_ALLOWED: There is no cluster, or the host is its coordinator.
            INVALID_VALUE: No server is that host's.
            INTERNAL_ERROR: The cluster does not let it go; nothing has changed.
        """
        self._require_idle()
        async with self._changing, self._place.servers:
            cluster = self._in_use()
            server = cluster.server(call.arguments["uuid"])
            if server is None:
                raise errors.invalid_value("uuid", call.arguments["uuid"])
            if server.uuid == self._own().uuid:
                raise errors.operation_not_allowed(
                    "The coordinator's server cannot leave the cluster; designate another coordinator first"
                )
            try:
                await self._place.files.kick(server.raft)
            except ClusterTrouble as error:
                raise errors.internal_error(f"the cluster's servers: {error}") from error
            await self._change(replace(cluster, servers=tuple(s for s in cluster.servers if s != server)))
        return None

    async def _change(self, cluster: Cluster, added: Sequence[ClusterServer] = ()) -> None:
        """Uses the same cluster with other servers from now on. Raises OPERATION_NOT_ALLOWED, INTERNAL_ERROR."""
        own = next(server for server in cluster.servers if server.uuid == self._own().uuid)
        await self._coordinator.hold()
        try:
            self._require_there(added)
            with keeping_files():
                self._place.files.knows_others(cluster, own)
                self._place.files.save(cluster)
        except errors.Failure:
            self._coordinator.release()
            raise
        await self._tell_all(cluster)
        self._office.start_anew(self._office.role)

    async def watch(self) -> None:
        """Has servers that have lost what they kept come back, forever."""
        while True:
            await asyncio.sleep(LOOK_S)
            cluster = self._place.cluster
            if cluster is None or not self._lost(cluster) or self._changing.locked():
                continue
            async with self._changing, self._place.servers:
                openers = self._place.files.openers(cluster, self._own().uuid, self._files)
                await bring_back(cluster, await look(cluster, openers), self._lost(cluster), self._ask)

    def _lost(self, cluster: Cluster) -> frozenset[str]:
        """The uuids of the hosts whose servers have."""
        rows = {row.ref: row.uuid for row in self._database.view.all(Host)}
        found = {rows[host] for host in self._members.without_database if host in rows}
        if self._place.files.has_lost():
            found.add(rows[self._host])
        return frozenset(uuid for uuid in found if cluster.server(uuid) is not None)

    async def _ask(self, uuid: str, question: wire.KickServer | wire.ServeDatabase) -> None:
        """Has a host do that with its server. Raises OSError, ClusterTrouble, PeerGone, PeerDenied."""
        row = next(row for row in self._database.view.all(Host) if row.uuid == uuid)
        if row.ref == self._host:
            await self._place.files.carry_out(question)
        else:
            await self._members.ask(row.ref, question, wire.Granted, JOINS_S)

    def _require_there(self, servers: Sequence[ClusterServer]) -> None:
        """Lets servers be used only if their hosts have the addresses at which they were started. Raises OPERATION_NOT_ALLOWED."""
        addresses = {row.uuid: row.address for row in self._database.view.all(Host)}
        for server in servers:
            if addresses.get(server.uuid) not in (None, server.address):
                raise errors.operation_not_allowed("A host of the cluster has another address than before")

    def _require_idle(self) -> None:
        if self._changing.locked():
            raise errors.other_operation_in_progress("pool", self._pool().ref, ())

    def _in_use(self) -> Cluster:
        if self._place.cluster is None:
            raise errors.operation_not_allowed("The pool's database is on no cluster")
        return self._place.cluster

    def _own(self) -> Host:
        return self._database.view.get(Host, self._host)

    def _pool(self) -> Pool:
        return next(iter(self._database.view.all(Pool)))


def require_server(cluster: Cluster, host: Host) -> None:
    """Raises OPERATION_NOT_ALLOWED for a host that has no server of the cluster: it cannot coordinate."""
    if cluster.server(host.uuid) is None:
        raise errors.operation_not_allowed("The host has no server of the cluster that the database is on")


def require_no_server(cluster: Cluster | None, host: Host) -> None:
    """Raises OPERATION_NOT_ALLOWED for a host that has a server of the cluster: the pool would lose it."""
    if cluster is not None and cluster.server(host.uuid) is not None:
        raise errors.operation_not_allowed(
            "The host has a server of the cluster that the database is on; remove that first"
        )
