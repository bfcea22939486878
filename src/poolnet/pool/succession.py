"""How do members that were not told find a new coordinator? It looks for them, and only those of an earlier term are told.

Whoever takes the role over begins a later term. A member that is off, or cut off, at that moment keeps greeting the old
coordinator. That one, once it is a member itself, says who has its place (`wire.Elsewhere`); if it is gone, the new
coordinator finds the member. A member of this term is left alone: when the coordinator's address changes, members wait in
emergency mode until they are told where it is (`pool.recover_slaves`).
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool import wire
from poolnet.pool.members import Members
from poolnet.pool.membership import Role
from poolnet.pool.peer import PeerDenied, PeerGone

log = structlog.get_logger("poolnet.pool.succession")

LOOKS_EVERY_S: Final = 3.0


async def look_for_members(members: Members) -> None:
    """Tells hosts that are not heard and know an earlier coordinator only, forever."""
    while True:
        await asyncio.sleep(LOOKS_EVERY_S)
        await asyncio.gather(*(look_for(members, host) for host in members.missing))


async def look_for(members: Members, host: Ref[Host]) -> bool:
    """Tells one host who is coordinator if it knows an earlier one; whether it did, and has heard.

    An old coordinator that comes back is told only by one that others follow. It steps down if nobody follows it: which of
    two coordinators without members is right, an administrator has to say.
    """
    try:
        found = await members.ask(host, wire.Ping(), wire.Pong)
        if found.term >= members.office.term or (found.role == Role.COORDINATOR and not members.connected):
            return False
        await members.ask(host, members.office, wire.Granted)
    except PeerGone:
        return False
    except PeerDenied as error:
        log.warning("member-does-not-follow", host=host, reason=str(error))
        return False
    log.info("member-found", host=host, term=members.office.term)
    return True
