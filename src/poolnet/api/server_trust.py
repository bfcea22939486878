"""Whose database server still trusts a CA that the pool does not trust any more? One after the other starts anew.

An ovsdb-server that runs forgets no CA, so what a former coordinator or a host that left has kept would open its ports for as
long as it runs. A server starts anew only while the others are a majority without it, and the next one when it is back; the
one that leads comes last, so that the lead moves once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from poolnet.model.failure import Failure
from poolnet.pool import wire
from poolnet.pool.cluster import SERVES_S, Seen

log = structlog.get_logger("poolnet.api.certificates")

LOOK_S: Final = 0.2
WELL: Final = ("leader", "follower")

Ask = Callable[[str, wire.Certify], Awaitable[wire.Certified]]
Look = Callable[[], Awaitable[Sequence[Seen]]]


async def renew_servers(look: Look, ask: Ask) -> bool:
    """Has the servers of a cluster forget the CAs that are trusted no more; whether all have, or had nothing to forget.

    Args:
        look: How the servers are.
        ask: Asks the host of that uuid about its certificates; raises Failure if it cannot be asked.
    """
    whole = True
    for server in sorted(await look(), key=lambda each: each.state == "leader"):
        try:
            if not (await ask(server.uuid, wire.Certify(action="show"))).outdated:
                continue
            if not _can_be_spared(await look(), server.uuid):
                log.info(
                    "server-trusts-former-authorities", host=server.uuid, reason="no majority without it"
                )
                return False
            await ask(server.uuid, wire.Certify(action="forget"))
            if not await _is_back(look, ask, server.uuid):
                return False
        except Failure as failure:
            log.info("server-trusts-former-authorities", host=server.uuid, reason=failure.code)
            whole = False
    return whole


def _can_be_spared(seen: Sequence[Seen], uuid: str) -> bool:
    """Whether the other servers are a majority."""
    others = [each for each in seen if each.uuid != uuid and each.state in WELL]
    return len(others) > len(seen) // 2


async def _is_back(look: Look, ask: Ask, uuid: str) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + SERVES_S
    while loop.time() < until:
        await asyncio.sleep(LOOK_S)
        back = any(each.uuid == uuid and each.state in WELL for each in await look())
        if back and not (await ask(uuid, wire.Certify(action="show"))).outdated:
            log.info("server-renewed", host=uuid)
            return True
    log.warning("server-does-not-come-back", host=uuid)
    return False
