"""Which desired states wait to be carried out, which is carried out but not confirmed, and what happens if nobody does?

The state machine behind Stage, Switch, Confirm and Revert. One writer at a time. What is confirmed is on the disk
before it is acknowledged; what is not confirmed in time, or when the daemon starts again, is taken back. A way back that
fails is tried again by the keeper until it succeeds, and before anything else is changed.

A confirmation that comes later, for what this host went back from by itself, has it carried out once more: it was decided, and
everybody else has it (docs/decisions/0010).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import chain

import structlog

from poolnet.hostd.again import may_be_done_again, with_guests_of
from poolnet.hostd.apply import Applier, undo_of
from poolnet.hostd.backend import ApplyFailed
from poolnet.hostd.checkpoint import Checkpoint, Journal, NotWritten
from poolnet.hostd.reach import Before, Reach
from poolnet.hostnet.drift import BESIDE, NAME_SERVERS, Change, changes
from poolnet.hostnet.protocol import (
    AwaitsConfirm,
    Confirm,
    Drift,
    DriftFound,
    Fault,
    GuestAction,
    GuestImage,
    LoadGuest,
    ReadGuest,
    Restored,
    Revert,
    SettleGuest,
    Stage,
    Staged,
    Switch,
    SwitchBackend,
)
from poolnet.hostnet.renaming import renamed
from poolnet.hostnet.show import network_hash, plan_hash
from poolnet.hostnet.state import EMPTY, DriftPolicy, HostNetwork
from poolnet.hostnet.wellformed import malformed, malformed_action

LOG = structlog.stdlib.get_logger("poolnet.hostd.rollout")
CONFIRMING_S = 0.5  # for the confirmation itself, after the host was found to be reachable
BACKENDS = ("openvswitch", "bridge")
_SHOWN_MAX = 5
STAGED_MAX = 64  # staged and never switched: the oldest are forgotten


@dataclass(slots=True)
class _Switched:
    """A state that is carried out and waits for its confirmation."""

    rollout: str
    desired: HostNetwork
    undo_guests: tuple[GuestAction, ...]
    before: Before
    old_backend: str = ""  # the one to go back to, where another one took over
    again: Stage | None = None  # what to do if it is confirmed after this host went back by itself
    deadline: float = 0.0  # on the loop's clock; then it is taken back
    over: asyncio.Event = field(default_factory=asyncio.Event)
    timer: asyncio.Task[None] | None = field(default=None)


class Rollouts:
    """The rollouts of one host."""

    def __init__(
        self,
        applier: Applier,
        checkpoint: Checkpoint,
        reach: Reach,
        to_keep: Callable[[], None],
        repaired: Callable[[str], None] = lambda _: None,
        drifted: Callable[[DriftFound], None] = lambda _: None,
    ) -> None:
        """`to_keep` is called when `keep` is to be tried soon: a way back has failed, or nobody has looked for a while.

        `repaired` is told in words when guests' ports were not as they had been confirmed, `drifted` of all else.
        """
        self._applier = applier
        self._repaired = repaired
        self._drifted = drifted
        self._left: tuple[Change, ...] = ()
        self._lost = False
        self._not_kept = False  # something changed while a state waited for its confirmation
        self._reach = reach
        self._checkpoint = checkpoint
        self._to_keep = to_keep
        self._unfinished: _Switched | None = None  # what could not be taken back yet
        self._staged: OrderedDict[str, Stage] = OrderedDict()
        self._switched: _Switched | None = None
        self._writer = asyncio.Lock()
        self._waiting = 0  # for the turn of a writer

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
                self._confirm_as_found("", observed)
                return
            journal = self._checkpoint.journal
            if journal is not None:
                LOG.warning("a rollout was interrupted and is taken back", rollout=journal.rollout)
                if journal.backend:
                    await self._clear_backends()
            undo = journal.undo_guests if journal is not None else ()
            interrupted = _Switched("", confirmed.network, undo, Before(), again=self._checkpoint.interrupted)
            try:
                restored = await self._go_back(interrupted)
            except Exception:  # logged there; a host with part of its network is better than none
                return
            if restored != confirmed.network:
                self._confirm_as_found(confirmed.rollout, restored)

    def _confirm_as_found(self, rollout: str, network: HostNetwork) -> None:
        """Takes what is there for confirmed, also where it cannot be written down."""
        try:
            self._checkpoint.confirm(rollout, network)
        except NotWritten as error:
            LOG.error("what is confirmed cannot be written down", error=str(error))  # noqa: TRY400 - the reason says all
            self._checkpoint.assume(network)

    async def rename_nics(self, names: Mapping[str, str]) -> None:
        """Lets the states that are confirmed, or wait for it, follow the new names of NICs."""
        async with self._writer:
            try:
                self._applier.rename_nics(names)
                self._checkpoint.rename_nics(names)
            except (NotWritten, OSError) as error:
                LOG.error("the new names of NICs cannot be written down", error=str(error))  # noqa: TRY400 - the reason says all
            if self._switched is not None:
                self._switched.desired = renamed(self._switched.desired, names)

    async def keep(self) -> bool:
        """Restores the confirmed state if it does not hold; says whether it holds now, with all its links up.

        Nothing to do while a rollout is under way or waits for its confirmation; a rollout that comes meanwhile does not
        wait for links. Raises ApplyFailed or BackendGone.
        """
        async with self._writer:
            confirmed = self._checkpoint.confirmed
            if self._switched is not None:
                LOG.debug("a state waits for its confirmation, and is not looked at")
                self._not_kept = True
                return True
            if confirmed is None:
                return True
            if self._unfinished is None and self._checkpoint.journal is not None:
                self._checkpoint.end()
            if self._unfinished is not None:
                await self._go_back(self._unfinished)
                return not await self._applier.lacking(confirmed.network)
            wrong = await self._applier.lacking(confirmed.network)
            if not wrong:
                self._left, self._lost = (), False
            elif not await self._meet(confirmed.network, wrong):
                return False
            return await self._applier.raise_links(confirmed.network, lambda: self._waiting > 0)

    async def _meet(self, confirmed: HostNetwork, wrong: Sequence[str]) -> bool:
        """Puts back what somebody else has changed, or leaves it, as the pool wants; whether it is as it shall be now.

        A guest's port and what carries the management are put back whatever the pool wants, and so is what a switch has
        lost that was gone.
        """
        found = changes(*reversed(await self._applier.drift(confirmed)))
        told = tuple(change for change in found if not change.subject.startswith("port "))
        lost, self._lost = self._lost, False
        keep = confirmed.drift is DriftPolicy.REPAIR or lost or not found or _is_vital(found, confirmed)
        if not keep:
            if told != self._left:
                self._left = told
                LOG.warning("the host is not as it was confirmed, and is left so", lacking=wrong[:_SHOWN_MAX])
                self._drifted(DriftFound(changes=told, repaired=False))
            return True
        restored = await self._put_back(confirmed, wrong)
        if told and restored and not lost:
            self._drifted(DriftFound(changes=told, repaired=True))
        return restored

    def note_lost(self) -> None:
        """The switch could not be asked: what it lacks when it is back is nobody's doing."""
        self._lost = True

    async def read_drift(self) -> Drift:
        """What is kept, and what is there. Raises BackendGone."""
        async with self._in_turn():
            applied, actual = await self._applier.drift(self._confirmed())
            return Drift(applied=applied, actual=actual)

    async def _put_back(self, confirmed: HostNetwork, wrong: Sequence[str]) -> bool:
        """Restores what somebody else has changed; whether it is there now."""
        LOG.warning("the host is not as it was confirmed, and is put back", lacking=wrong[:_SHOWN_MAX])
        await self._applier.go_back(confirmed, ())
        # A port that should not exist is that of a guest which has just ended.
        if ports := [
            line for line in wrong if line.startswith("port ") and not line.endswith("should not exist")
        ]:
            shown = "; ".join(ports[:_SHOWN_MAX])
            self._repaired(f"ports of guests were changed by somebody else and are put back: {shown}")
        return not await self._applier.lacking(confirmed)

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Waits for the turn of a writer; whoever only tidies up lets it go first."""
        self._waiting += 1
        try:
            await self._writer.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._writer.release()

    async def interrupt(self) -> None:
        """Ends the wait for a host that may never be reached: the daemon is about to stop."""
        if self._switched is not None:
            self._switched.over.set()

    async def close(self) -> None:
        """Stops the timer. A state that waits for its confirmation is taken back at the next start."""
        async with self._writer:
            if self._switched is not None:
                await self._disarm(self._switched)

    async def stage(self, command: Stage) -> Staged:
        """Plans. Raises ApplyFailed (also BUSY, and MALFORMED for what must not be handed on) or BackendGone."""
        actions = (*command.guests_before, *command.guests_after)
        wrong = next(chain(malformed(command.desired), *map(malformed_action, actions)), None)
        if wrong is not None:
            raise ApplyFailed(Fault.MALFORMED, wrong)
        async with self._in_turn():
            if not command.dry_run:
                self._require_idle(command.rollout)
                await self._finish()
            plan = await self._applier.plan(command.desired)
            if not command.dry_run:
                self._staged[command.rollout] = command
                self._staged.move_to_end(command.rollout)
                while len(self._staged) > STAGED_MAX:
                    self._staged.popitem(last=False)
            return Staged(plan=plan, plan_hash=plan_hash(plan))

    async def switch(self, command: Switch) -> HostNetwork | None:
        """Carries a staged rollout out, or takes everything back and raises ApplyFailed or BackendGone.

        Returns the network that was found when it was done; None where nothing was to be done to it.
        The time for the confirmation begins now: what is not even carried out by then is taken back (NOT_VERIFIED).
        """
        deadline = asyncio.get_running_loop().time() + (command.confirm_within_s or 0.0)
        async with self._in_turn():
            if self._switched is not None and self._switched.rollout == command.rollout:
                return None
            self._require_idle(command.rollout)
            staged = self._staged.pop(command.rollout, None)
            if staged is None:
                raise _unknown(command.rollout)
            await self._finish()
            before = await self._reach.look(self._confirmed()) if command.reachable else Before()
            if command.confirm_within_s is None:
                return (await self._carry_out(staged, before))[1]
            switched, found = await self._carry_out(staged, before, deadline)
            switched.again = staged
            self._arm(switched, deadline)
            return found

    async def _carry_out(
        self, staged: Stage, before: Before, deadline: float | None = None, *, prepared: bool = False
    ) -> tuple[_Switched, HostNetwork | None]:
        """Makes the host so, and confirms that unless there is a deadline; or takes it back. Raises ApplyFailed, BackendGone.

        `prepared` writes down what is to be confirmed before anything is changed, as is done when there is a deadline.
        """
        undo = undo_of((*staged.guests_before, *staged.guests_after))
        switched = _Switched(staged.rollout, staged.desired, undo, before)
        journal = Journal(
            rollout=staged.rollout,
            undo_guests=undo,
            guests_before=staged.guests_before,
            guests_after=staged.guests_after,
        )
        self._begin(journal, staged.desired if prepared or deadline is not None else None)
        try:
            async with asyncio.timeout_at(deadline):
                guests = staged.guests_before, staged.guests_after
                found = await self._applier.carry_out(staged.desired, *guests, self._confirmed())
            if deadline is None:
                self._checkpoint.confirm(staged.rollout, staged.desired)
        except BaseException as error:
            LOG.warning("a rollout failed and is taken back", rollout=staged.rollout, error=str(error))
            await self._go_back(switched)
            if isinstance(error, TimeoutError):
                raise ApplyFailed(Fault.NOT_VERIFIED, "the change took too long") from error
            if isinstance(error, NotWritten | OSError):
                raise ApplyFailed(Fault.SWITCH_FAILED, f"the change is taken back: {error}") from error
            raise
        return switched, found

    async def switch_backend(self, command: SwitchBackend) -> None:
        """Lets another backend carry out the confirmed network, or takes everything back.

        Raises ApplyFailed (BUSY; SWITCH_FAILED when that backend cannot be used, or has taken over already) or BackendGone.
        """
        deadline = asyncio.get_running_loop().time() + command.confirm_within_s
        async with self._in_turn():
            self._require_idle(command.rollout)
            old = self._applier.backend
            if old == command.backend:
                message = f"{old} carries out the network of this host already"
                raise ApplyFailed(Fault.SWITCH_FAILED, message, old)
            confirmed = self._confirmed()
            before = await self._reach.look(confirmed) if command.reachable else Before()
            switched = _Switched(command.rollout, confirmed, (), before, old)
            await self._finish()
            self._begin(Journal(rollout=command.rollout, backend=command.backend))
            try:
                await self._applier.change_backend(command.backend, confirmed)
                await self._applier.carry_out(confirmed, (), (), confirmed)
            except BaseException as error:
                LOG.warning("a change of the backend failed and is taken back", error=str(error))
                await self._go_back(switched)
                raise
            self._arm(switched, deadline)

    def _arm(self, switched: _Switched, deadline: float) -> None:
        """Takes a state back at that time unless it is confirmed before."""
        self._switched = switched
        switched.deadline = deadline
        switched.timer = asyncio.create_task(self._expire(switched), name=f"dead-man-{switched.rollout}")

    async def _clear_backends(self) -> None:
        """Leaves nothing of the backends that are not chosen: one of them was about to take over."""
        for name in BACKENDS:
            await self._applier.clear_backend(name)

    async def require_reachable(self, command: Switch | SwitchBackend) -> None:
        """Returns once the host can be reached as it is switched, or takes the rollout back and says why.

        Nobody else waits for that: others hear BUSY, and the timer runs. Raises ApplyFailed (UNREACHABLE), BackendGone.
        """
        switched = self._switched
        if not command.reachable or switched is None or switched.rollout != command.rollout:
            return
        left_s = switched.deadline - asyncio.get_running_loop().time()  # whatever the change itself has taken
        try:
            await self._look(switched, max(left_s - CONFIRMING_S, CONFIRMING_S))
        except ApplyFailed as error:
            LOG.warning("the host cannot be reached any more", rollout=command.rollout, error=str(error))
            await self.revert(Revert(rollout=command.rollout))
            raise

    async def _look(self, switched: _Switched, within_s: float) -> None:
        """Returns once the host is found to be reachable, raises ApplyFailed if it is not, or is taken back meanwhile."""
        looking = asyncio.create_task(self._reach.require(switched.desired, switched.before, within_s))
        over = asyncio.create_task(switched.over.wait())
        try:
            await asyncio.wait((looking, over), return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                message = "the change was taken back before the host was found to be reachable"
                raise ApplyFailed(Fault.UNREACHABLE, message)
            await looking
        finally:
            for task in (looking, over):
                task.cancel()
            await asyncio.gather(looking, over, return_exceptions=True)

    async def require_switched(self, command: AwaitsConfirm) -> None:
        """Returns if that rollout waits for its confirmation. Raises ApplyFailed (UNKNOWN_ROLLOUT)."""
        async with self._writer:
            if self._switched is None or self._switched.rollout != command.rollout:
                raise _unknown(command.rollout)

    async def confirm(self, command: Confirm) -> None:
        """Keeps the switched state; what is decided, and this host went back from by itself, is carried out again.

        Raises ApplyFailed (UNKNOWN_ROLLOUT when it is another rollout's, or taken back and not carried out again) or BackendGone.
        """
        async with self._in_turn():
            switched = self._switched
            if switched is not None and switched.rollout == command.rollout:
                try:
                    if switched.old_backend:
                        self._applier.keep_backend()
                    self._checkpoint.confirm(switched.rollout, switched.desired)
                except (NotWritten, OSError) as error:
                    await self._disarm(switched)
                    await self._go_back(switched)
                    message = f"the change cannot be confirmed, and is taken back: {error}"
                    raise ApplyFailed(Fault.SWITCH_FAILED, message) from error
                await self._disarm(switched)
                self._keep_what_was_passed_over()
            elif self._checkpoint.confirmed is None or self._checkpoint.confirmed.rollout != command.rollout:
                await self._carry_out_again(command)

    def _keep_what_was_passed_over(self) -> None:
        """Has `keep` look at a state that is confirmed now: something may have changed it while it waited for that."""
        if self._not_kept:
            self._not_kept = False
            self._to_keep()

    async def _carry_out_again(self, command: Confirm) -> None:
        """Carries out what is confirmed too late. Raises ApplyFailed or BackendGone."""
        await self._finish()
        staged = self._checkpoint.taken_back
        if command.alive is None or staged is None or staged.rollout != command.rollout:
            raise _unknown(command.rollout)
        self._require_idle(command.rollout)
        plan = await self._applier.plan(staged.desired)
        if not may_be_done_again(staged, plan):
            raise _unknown(command.rollout)
        LOG.warning("a rollout that was taken back is carried out again", rollout=command.rollout)
        await self._carry_out(with_guests_of(staged, command.alive), Before(), prepared=True)

    async def revert(self, command: Revert) -> None:
        """Goes back to the confirmed state; nothing to do if it is there. Raises ApplyFailed or BackendGone.

        UNKNOWN_ROLLOUT when that rollout is confirmed: there is nothing to go back to.
        """
        async with self._in_turn():
            self._staged.pop(command.rollout, None)
            switched = self._switched
            if switched is not None and switched.rollout == command.rollout:
                switched.again = None
                await self._disarm(switched)
                await self._go_back(switched)
            elif (taken_back := self._checkpoint.taken_back) and taken_back.rollout == command.rollout:
                self._checkpoint.forget_taken_back()
            elif (
                self._checkpoint.confirmed is not None
                and self._checkpoint.confirmed.rollout == command.rollout
            ):
                raise _unknown(command.rollout)

    async def settle_guest(self, command: SettleGuest) -> None:
        """See `Applier.settle_guest`. Raises ApplyFailed."""
        async with self._in_turn():
            switched = self._switched
            network = switched.desired if switched is not None else self._confirmed()
            await self._applier.settle_guest(command.action, network)

    async def read_guest(self, command: ReadGuest) -> GuestImage:
        """See `Applier.read_guest`. Raises ApplyFailed."""
        async with self._in_turn():
            return await self._applier.read_guest(command.vm_uuid)

    async def load_guest(self, command: LoadGuest) -> None:
        """See `Applier.load_guest`. Raises ApplyFailed."""
        async with self._in_turn():
            await self._applier.load_guest(command.image)

    async def restore(self, look_for_s: float) -> Restored:
        """Drops what is staged or switched and restores the confirmed state, from whatever is there.

        Raises ApplyFailed or BackendGone.
        """
        async with self._in_turn():
            self._staged.clear()
            switched = self._switched
            if switched is not None:
                switched.again = None
                await self._disarm(switched)
            confirmed = self._confirmed()
            LOG.warning("the last confirmed network is restored on request")
            await self._go_back(switched or self._unfinished or _Switched("", confirmed, (), Before()))
            before = await self._reach.look(confirmed)
        try:
            await self._reach.require(confirmed, replace(before, silent=frozenset()), look_for_s)
        except ApplyFailed as error:
            return Restored(network=confirmed, unreachable=str(error))
        return Restored(network=confirmed)

    async def _expire(self, switched: _Switched) -> None:
        await asyncio.sleep(switched.deadline - asyncio.get_running_loop().time())
        async with self._in_turn():
            if self._switched is not switched:
                return
            LOG.warning("nobody confirmed a rollout in time; it is taken back", rollout=switched.rollout)
            switched.timer = None
            await self._disarm(switched)
            with suppress(Exception):  # logged where it happens
                await self._go_back(switched)

    async def _go_back(self, switched: _Switched) -> HostNetwork:
        """Restores the confirmed state, and returns what is there of it.

        If that fails, for whatever reason, the journal stays open for the next start, and `keep` tries again.
        """
        try:
            if switched.old_backend:
                await self._applier.change_backend(switched.old_backend, self._confirmed())
                with suppress(OSError):  # it may be written there that another one is chosen
                    self._applier.keep_backend()
            restored = await self._applier.go_back(self._confirmed(), switched.undo_guests)
        except BaseException as error:
            LOG.exception("the confirmed state cannot be restored", error=str(error))
            self._unfinished = switched
            self._to_keep()
            raise
        self._unfinished = None
        self._checkpoint.end(switched.again)
        if self._checkpoint.journal is not None:
            self._to_keep()
        return restored

    async def _finish(self) -> None:
        """Takes back what could not be taken back before. Raises ApplyFailed or BackendGone."""
        if self._unfinished is not None:
            await self._go_back(self._unfinished)

    def _begin(self, journal: Journal, to_confirm: HostNetwork | None = None) -> None:
        """Notes that a change is under way, and what may have to be confirmed. Raises ApplyFailed; then nothing is changed."""
        try:
            self._checkpoint.begin(journal, to_confirm)
        except NotWritten as error:
            raise ApplyFailed(Fault.SWITCH_FAILED, f"nothing is changed: {error}") from error

    async def _disarm(self, switched: _Switched) -> None:
        """Waits for no confirmation of it any more."""
        self._switched = None
        switched.over.set()
        timer, switched.timer = switched.timer, None
        if timer is not None:
            timer.cancel()
            await asyncio.gather(timer, return_exceptions=True)

    def _require_idle(self, rollout: str) -> None:
        if self._switched is not None and self._switched.rollout != rollout:
            message = f"rollout {self._switched.rollout} waits for its confirmation"
            raise ApplyFailed(Fault.BUSY, message, self._switched.rollout)

    def _confirmed(self) -> HostNetwork:
        return EMPTY if self._checkpoint.confirmed is None else self._checkpoint.confirmed.network


def _is_vital(found: Sequence[Change], confirmed: HostNetwork) -> bool:
    """Is something of it a guest's port, or what carries the management? Name servers and further addresses carry nothing."""
    names = {confirmed.management_bridge}
    bridge = confirmed.bridge(confirmed.management_bridge)
    below = confirmed.bridge(bridge.parent) if bridge is not None and bridge.parent else bridge
    if below is not None:
        names |= {below.name, *(below.uplink.members if below.uplink is not None else ())}
    return any(
        change.subject.startswith("port ")
        or change.field == "management_bridge"
        or (change.subject.partition(" ")[2] in names and change.field not in NAME_SERVERS | BESIDE)
        for change in found
    )


def _unknown(rollout: str) -> ApplyFailed:
    return ApplyFailed(Fault.UNKNOWN_ROLLOUT, f"there is no rollout {rollout} to do that with", rollout)
