"""Which desired states wait to be carried out, which is carried out but not confirmed, and what happens if nobody does?

The state machine behind Stage, Switch, Confirm and Revert. One writer at a time. What is confirmed is on the disk
before it is acknowledged; what is not confirmed in time, or when the daemon starts again, is taken back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from poolnet.hostd.apply import Applier, undo_of
from poolnet.hostd.backend import ApplyFailed, BackendGone
from poolnet.hostd.checkpoint import Checkpoint, Journal
from poolnet.hostnet.protocol import Confirm, Fault, GuestAction, Revert, Stage, Staged, Switch
from poolnet.hostnet.show import network_hash, plan_hash
from poolnet.hostnet.state import EMPTY, HostNetwork

LOG = structlog.stdlib.get_logger("poolnet.hostd.rollout")
STAGED_MAX = 64  # staged and never switched: the oldest are forgotten


@dataclass(slots=True)
class _Switched:
    """A state that is carried out and waits for its confirmation."""

    rollout: str
    desired: HostNetwork
    undo_guests: tuple[GuestAction, ...]
    timer: asyncio.Task[None] | None = field(default=None)


class Rollouts:
    """The rollouts of one host."""

    def __init__(self, applier: Applier, checkpoint: Checkpoint) -> None:
        self._applier = applier
        self._checkpoint = checkpoint
        self._staged: OrderedDict[str, Stage] = OrderedDict()
        self._switched: _Switched | None = None
        self._writer = asyncio.Lock()

    def confirmed_hash(self) -> str:
        """The hash of the last confirmed state."""
        return network_hash(self._confirmed())

    async def start(self, observed: HostNetwork) -> None:
        """Restores the last confirmed state; on a host that never had one, what is there is confirmed.

        A change that was under way when the daemon died is taken back. A state that cannot be restored is logged: a
        host with part of its network is better than one without a daemon.
        """
        async with self._writer:
            confirmed = self._checkpoint.confirmed
            if confirmed is None:
                self._checkpoint.confirm("", observed)
                return
            journal = self._checkpoint.interrupted
            if journal is not None:
                LOG.warning("a rollout was interrupted and is taken back", rollout=journal.rollout)
            try:
                restored = await self._applier.go_back(
                    confirmed.network, journal.undo_guests if journal is not None else ()
                )
            except (ApplyFailed, BackendGone) as error:
                LOG.exception("the confirmed state cannot be restored", error=str(error))
                return
            if restored != confirmed.network:
                self._checkpoint.confirm(confirmed.rollout, restored)
            else:
                self._checkpoint.end()

    async def keep(self) -> bool:
        """Restores the confirmed state if it does not hold; says whether it holds now.

        Nothing to do while a rollout is under way or waits for its confirmation. Raises ApplyFailed or BackendGone.
        """
        async with self._writer:
            confirmed = self._checkpoint.confirmed
            if (
                confirmed is None
                or self._switched is not None
                or await self._applier.holds(confirmed.network)
            ):
                return True
            LOG.warning("the host is not as it was confirmed, and is put back")
            await self._applier.go_back(confirmed.network, ())
            return await self._applier.holds(confirmed.network)

    async def close(self) -> None:
        """Stops the timer. A state that waits for its confirmation is taken back at the next start."""
        async with self._writer:
            if self._switched is not None:
                await self._disarm(self._switched)

    async def stage(self, command: Stage) -> Staged:
        """Plans. Raises ApplyFailed (also BUSY) or BackendGone."""
        async with self._writer:
            if not command.dry_run:
                self._require_idle(command.rollout)
            plan = await self._applier.plan(command.desired)
            if not command.dry_run:
                self._staged[command.rollout] = command
                self._staged.move_to_end(command.rollout)
                while len(self._staged) > STAGED_MAX:
                    self._staged.popitem(last=False)
            return Staged(plan=plan, plan_hash=plan_hash(plan))

    async def switch(self, command: Switch) -> None:
        """Carries a staged rollout out, or takes everything back and raises ApplyFailed or BackendGone."""
        async with self._writer:
            if self._switched is not None and self._switched.rollout == command.rollout:
                return
            self._require_idle(command.rollout)
            staged = self._staged.pop(command.rollout, None)
            if staged is None:
                raise _unknown(command.rollout)
            actions = (*staged.guests_before, *staged.guests_after)
            undo = undo_of(actions)
            switched = _Switched(command.rollout, staged.desired, undo)
            self._checkpoint.begin(Journal(rollout=command.rollout, undo_guests=undo))
            try:
                await self._applier.carry_out(staged.desired, staged.guests_before, staged.guests_after)
            except BaseException as error:
                LOG.warning("a rollout failed and is taken back", rollout=command.rollout, error=str(error))
                await self._go_back(switched)
                raise
            if command.confirm_within_s is None:
                self._checkpoint.confirm(command.rollout, staged.desired)
                return
            self._switched = switched
            switched.timer = asyncio.create_task(
                self._expire(command.rollout, command.confirm_within_s), name=f"dead-man-{command.rollout}"
            )

    async def confirm(self, command: Confirm) -> None:
        """Keeps the switched state. Raises ApplyFailed (UNKNOWN_ROLLOUT) when it is not this rollout's, or taken back."""
        async with self._writer:
            switched = self._switched
            if switched is not None and switched.rollout == command.rollout:
                self._checkpoint.confirm(switched.rollout, switched.desired)
                self._switched = None
                await self._disarm(switched)
            elif self._checkpoint.confirmed is None or self._checkpoint.confirmed.rollout != command.rollout:
                raise _unknown(command.rollout)

    async def revert(self, command: Revert) -> None:
        """Goes back to the confirmed state; nothing to do if it is there. Raises ApplyFailed or BackendGone.

        UNKNOWN_ROLLOUT when that rollout is confirmed: there is nothing to go back to.
        """
        async with self._writer:
            self._staged.pop(command.rollout, None)
            switched = self._switched
            if switched is not None and switched.rollout == command.rollout:
                await self._disarm(switched)
                self._switched = None
                await self._go_back(switched)
            elif (
                self._checkpoint.confirmed is not None
                and self._checkpoint.confirmed.rollout == command.rollout
            ):
                raise _unknown(command.rollout)

    async def _expire(self, rollout: str, within_s: float) -> None:
        await asyncio.sleep(within_s)
        async with self._writer:
            switched = self._switched
            if switched is None or switched.rollout != rollout:
                return
            LOG.warning("nobody confirmed a rollout in time; it is taken back", rollout=rollout)
            self._switched = None
            with suppress(ApplyFailed, BackendGone):  # logged where it happens
                await self._go_back(switched)

    async def _go_back(self, switched: _Switched) -> None:
        """Restores the confirmed state. The journal stays open if that fails, for the next start to try again."""
        try:
            await self._applier.go_back(self._confirmed(), switched.undo_guests)
        except (ApplyFailed, BackendGone) as error:
            LOG.exception("the confirmed state cannot be restored", error=str(error))
            raise
        self._checkpoint.end()

    async def _disarm(self, switched: _Switched) -> None:
        timer, switched.timer = switched.timer, None
        if timer is not None:
            timer.cancel()
            with suppress(asyncio.CancelledError):
                await timer

    def _require_idle(self, rollout: str) -> None:
        if self._switched is not None and self._switched.rollout != rollout:
            message = f"rollout {self._switched.rollout} waits for its confirmation"
            raise ApplyFailed(Fault.BUSY, message, self._switched.rollout)

    def _confirmed(self) -> HostNetwork:
        return EMPTY if self._checkpoint.confirmed is None else self._checkpoint.confirmed.network


def _unknown(rollout: str) -> ApplyFailed:
    return ApplyFailed(Fault.UNKNOWN_ROLLOUT, f"there is no rollout {rollout} to do that with", rollout)
