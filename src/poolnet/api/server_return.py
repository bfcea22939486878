"""Which database servers have lost what they kept, and how do they come back? The others kick them, and they join as new ones.

A server that cannot read its log any more does not know what it has voted for, and must not go on as if nothing had happened:
it could help to a majority without what it had acknowledged. So the server that it was has to leave the cluster, by a decision
of the others, before its host gets another one, with another id. That takes a majority without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeAlias

import structlog

from poolnet.pool import wire
from poolnet.pool.cluster import ClusterTrouble, Seen
from poolnet.pool.membership import Cluster, ClusterServer
from poolnet.pool.peer import PeerDenied, PeerGone

log = structlog.get_logger("poolnet.api.cluster")

Ask: TypeAlias = "Callable[[str, wire.KickServer | wire.ServeDatabase], Awaitable[None]]"


async def bring_back(cluster: Cluster, seen: Sequence[Seen], lost: Collection[str], ask: Ask) -> None:
    """Has these servers kicked, and others started in their places, one after the other; what fails is for the next time.

    Args:
        cluster: All servers.
        seen: How they are.
        lost: The uuids of the hosts whose servers have lost what they kept.
        ask: Asks the host of that uuid. Raises OSError, ClusterTrouble, PeerGone, PeerDenied.
    """
    well = helpers(seen, lost)
    for server in cluster.servers:
        if server.uuid not in lost:
            continue
        if not well:
            log.warning("server-stays-lost", host=server.uuid, reason="the others have no majority")
            continue
        try:
            await _kick(server, well, ask)
            join = tuple(each.raft for each in cluster.servers if each != server)
            await ask(server.uuid, wire.ServeDatabase(server=server, join=join))
        except (OSError, ClusterTrouble, PeerGone, PeerDenied) as error:
            log.warning("server-stays-lost", host=server.uuid, reason=str(error))
        else:
            log.info("server-came-back", host=server.uuid)


async def _kick(server: ClusterServer, well: Sequence[str], ask: Ask) -> None:
    """Has one of these hosts kick a server; the next one is asked if one cannot be. Raises as the last one of them."""
    for uuid in well:
        try:
            return await ask(uuid, wire.KickServer(server=server))
        except (OSError, ClusterTrouble, PeerGone, PeerDenied):
            if uuid == well[-1]:
                raise
    return None


def helpers(seen: Sequence[Seen], lost: Collection[str]) -> list[str]:
    """The hosts whose servers can have another one kicked, the one that leads first; none without a majority of all."""
    leading = [each.uuid for each in seen if each.state == "leader" and each.uuid not in lost]
    following = [each.uuid for each in seen if each.state == "follower" and each.uuid not in lost]
    return leading + following if leading and len(leading + following) > len(seen) // 2 else []
