"""Which role does this host have, and how does it get another? Read by the server's start, written when the role changes.

A change of the role is written down first; then the server ends what it does and starts anew in the new role, in the same
process. Whoever asked for it gets the answer in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog
from msgspec.structs import replace

from poolnet.db.database import Database
from poolnet.model.classes.pool import Pool
from poolnet.pool import membership
from poolnet.pool.membership import Membership, Role

log = structlog.get_logger("poolnet.api.office")

ANSWER_S: Final = 1.0  # for the answer to the call that asked for the change


class Office:
    """What this host is.

    Args:
        state_dir: Where that is written.
        stop: Ends the server, so that it starts anew.
    """

    def __init__(self, state_dir: Path, stop: Callable[[], None]) -> None:
        self.state_dir = state_dir
        self.changed = False
        self.answer_s = ANSWER_S
        self.grace_s: float | None = None
        """How long calls under way have when the server stops, if not the usual time."""
        self.role = membership.STANDALONE
        self._stop = stop

    def open(self) -> None:
        """Reads what this host is, and removes what is left of the pool that it was in. Raises MembershipBroken, OSError."""
        self.role = membership.load(self.state_dir)
        if self.role.fresh:
            membership.start_fresh(self.state_dir)

    def settled(self) -> None:
        """Notes that a coordinator's database is its own now, and names its line of commits. Raises OSError."""
        role = replace(self.role, fresh=False, management=None)
        if not role.epoch:
            role = replace(role, epoch=str(uuid4()))
        if role != self.role:
            membership.save(self.state_dir, role)
            self.role = role

    def become(self, role: Membership) -> None:
        """Has the server start anew in another role, in a moment. Raises OSError; nothing changes then."""
        self.note(role)
        self.start_anew(role)

    def note(self, role: Membership) -> None:
        """Writes down what this host will be when its server starts again, whyever it does. Raises OSError."""
        membership.save(self.state_dir, role)

    def start_anew(
        self, role: Membership, after_s: float | None = None, grace_s: float | None = None
    ) -> None:
        """Has the server start again, after `after_s` or a moment, in the role that is written down; see `grace_s`."""
        log.info("role-changes", role=role.role.value, coordinator=role.coordinator_address)
        self.changed = True
        self.grace_s = grace_s
        asyncio.get_running_loop().call_later(self.answer_s if after_s is None else after_s, self._stop)

    def is_another_pools(self, database: Database) -> bool:
        """Whether what is on the disk is another pool's than the one that this host is a member of."""
        if self.role.role is not Role.MEMBER or not self.role.pool_uuid:
            return False
        return any(pool.uuid != self.role.pool_uuid for pool in database.view.all(Pool))
