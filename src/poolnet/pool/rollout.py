"""How do hosts become what was decided, and the decision durable? Stage, switch, confirm, commit; or all back.

The coordinator hands it a batch of decided calls, start-up and the facts loop have it bring a host in step. One rollout
runs at a time: whoever changes a host knows that nobody else is changing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar
from uuid import uuid4

import structlog

from poolnet.db.changes import Changes
from poolnet.db.database import Database
from poolnet.db.txn import Txn, View
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import Deriver, derive
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.steps import Disturbance
from poolnet.hostnet.storage import StorageAction
from poolnet.model.classes.host import Host
from poolnet.model.types import Ref
from poolnet.pool import decided, migration
from poolnet.pool.guard import CONFIRM_WITHIN_S, Guard, callers_to_ask, within_s
from poolnet.pool.host_work import HostWork, address_to_come, guests_take_s, undoing, work_of
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.pool.progress import Progress, Step
from poolnet.rules.context import CallContext
from poolnet.rules.vm_migrate import what_becomes_of

T = TypeVar("T")
A = TypeVar("A", bound=protocol.Answer)
Agreement = Callable[[View], Awaitable[None]]
"""Asked before a change is kept; raises a Failure to have it taken back."""
log = structlog.get_logger("poolnet.pool")

DRY_RUN: Final = "dry-run"
CONFIRMING_S: Final = 0.5  # for the confirmation itself, after everybody was found to be there


class Hosts(Protocol):
    """The hosts of the pool, as the coordinator reaches them."""

    def reachable(self) -> Sequence[Ref[Host]]:
        """The hosts that are part of a rollout, in the order in which they are switched; this one is the last."""

    def is_local(self, host: Ref[Host]) -> bool:
        """Whether it is the host that this server runs on."""

    def expect(self, host: Ref[Host], address: str) -> None:
        """Says where a rollout will put another host; "" once it is over."""

    async def require_contact(self, host: Ref[Host], coordinator_address: str) -> None:
        """Returns if another host reaches this one at that address, and is reached by it; raises `HostGone`."""

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        """Stages a desired state on a host; raises `HostRefused` or `HostGone`."""

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        """Carries a staged rollout out; raises `HostRefused` or `HostGone`."""

    async def settle(self, host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        """Confirms or reverts a switched rollout; raises `HostRefused` or `HostGone`."""

    async def set_hostname(self, host: Ref[Host], hostname: str) -> None:
        """Changes a host's name; raises `HostRefused` or `HostGone`."""

    async def storage(self, host: Ref[Host], action: StorageAction) -> protocol.StorageSpace:
        """Has a host act on storage; raises `HostRefused` or `HostGone`."""

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        """Asks a host for something that is no rollout; raises `HostRefused` or `HostGone`."""

    async def look(self, host: Ref[Host]) -> None:
        """Has a host report its facts now; raises `HostRefused` or `HostGone`."""

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        """The facts that each host reported last."""


class Rollouts:
    """Carries decisions out on the hosts, and makes them durable.

    Where other hosts take part, all of them wait for a confirmation, and the commit is the decision: before it, every host
    goes back, by itself if nobody tells it; after it, every host is brought to what the database says, whenever it can be
    reached (docs/decisions/0010).

    Args:
        database: The pool database.
        hosts: How hosts are reached.
        astray: Told of a host that may not be what the database says, and should be brought in step.
        write: Has a change of the database carried out beside the rollouts, some time later.
    """

    def __init__(
        self,
        database: Database,
        hosts: Hosts,
        astray: Callable[[Ref[Host]], None] = lambda _: None,
        write: Callable[[Callable[[Txn], None]], object] = lambda _: None,
    ) -> None:
        self._database = database
        self._hosts = hosts
        self._astray = astray
        self._write = write
        self._applied: dict[Ref[Host], HostNetwork] = {}
        self._deriver = Deriver()
        self._one_at_a_time = asyncio.Lock()

    async def carry_out(
        self,
        view: View,
        contexts: Sequence[CallContext],
        changes: Sequence[Changes],
        guards: Sequence[Guard] = (),
        notes: Callable[[Mapping[Ref[Host], str]], Sequence[bytes]] = lambda _: (),
        agreement: Agreement | None = None,
    ) -> None:
        """Makes the hosts what `view` says, and commits the changes that lead there.

        `notes` says what the audit log gets with the commit; it is told the hash of each host's plan.

        Raises:
            HostRefused: A host could not be made so, or could not be reached afterwards.
            HostGone: A host cannot be reached.
            DatabaseError: The changes could not be committed.
            Failure: The agreement is refused. In all these cases, and after a bug, all hosts are brought back.
        """
        async with self._one_at_a_time:
            works = self._works(view, contexts)
            others = [host for host in works if not self._hosts.is_local(host)]
            tasks = [context.task for context in contexts] if others else ()
            progress = Progress(tasks, works, self._write)
            noted: list[bytes] = []

            async def note() -> None:
                noted.extend(notes(_plans(works)))
                if works and not others:
                    self._database.foresee(changes)

            try:
                armed = await self._switch(view, works, contexts, guards, progress, note)
                if agreement is not None:
                    await agreement(view)
                if not others:
                    for host, rollout in armed.items():
                        await self._hosts.settle(host, protocol.Confirm(rollout=rollout))
                    await self._database.commit(changes, noted)
            except BaseException:
                await self._go_back(works, contexts, progress)
                raise
            finally:
                for host in others:
                    self._hosts.expect(host, "")
            for host, work in works.items():
                self._applied[host] = work.desired
            if others:
                committed = (*changes, *decided.noted(view, armed))
                await _to_its_end(self._decide(works, contexts, committed, armed, progress, noted))

    async def _decide(
        self,
        works: Mapping[Ref[Host], HostWork],
        contexts: Sequence[CallContext],
        changes: Sequence[Changes],
        armed: Mapping[Ref[Host], str],
        progress: Progress,
        notes: Sequence[bytes],
    ) -> None:
        """Commits what all hosts have done, and lets them keep it. Raises DatabaseError when nothing is committed."""
        try:
            await self._database.commit(changes, notes)
        except BaseException:
            await self._go_back(works, contexts, progress)
            raise
        try:
            await self._keep(armed, works, progress)
            await self._go_on(migration.moves(works))
        except Exception:  # a bug, and no failure of the calls: they are committed
            log.exception("not-kept")
            for host in armed:
                self._astray(host)

    async def _keep(
        self, armed: Mapping[Ref[Host], str], works: Mapping[Ref[Host], HostWork], progress: Progress
    ) -> None:
        """Lets all hosts keep what is committed; whoever cannot be told is brought in step later."""
        kept = await asyncio.gather(
            *(self._confirm(host, rollout, works[host]) for host, rollout in armed.items()),
            return_exceptions=True,
        )
        for host, outcome in zip(armed, kept, strict=True):
            progress.note(host, Step.KEPT if outcome is None else Step.FAILED)
            if outcome is not None:
                log.warning("host-not-confirmed", host=host, reason=str(outcome))
                self._applied.pop(host, None)
                self._astray(host)

    async def _confirm(self, host: Ref[Host], rollout: str, work: HostWork) -> None:
        """Lets a host keep what is committed, asked twice where guests depend on it. Raises HostRefused, HostGone."""
        confirm = decided.confirmation(self._database.view, host, rollout, work)
        try:
            await self._hosts.settle(host, confirm)
        except HostGone:
            if not work.before and not work.after:
                raise
            await self._hosts.settle(
                host, confirm
            )  # its daemon may have died over it, and be there again soon

    async def _go_on(self, moved: Sequence[migration.Move]) -> None:
        """Lets guests that have moved go on at their new hosts, and removes them from the old ones.

        A host that cannot be told is brought in step; what waits there is then told what became of it.
        """
        for move in moved:
            for host, action in (
                (move.destination, protocol.RunGuest(vm_uuid=move.vm_uuid)),
                (move.source, protocol.DestroyGuest(vm_uuid=move.vm_uuid)),
            ):
                try:
                    await migration.settle(self._hosts, host, action)
                except (HostGone, HostRefused) as error:
                    log.warning("guest-not-settled", host=host, vm=move.vm_uuid, reason=str(error))
                    self._astray(host)

    async def settle_guests(self, host: Ref[Host]) -> None:
        """Tells a host what has become of the guests that wait there: who was to do so has died, or was not heard.

        Raises:
            HostRefused: It cannot be made so.
            HostGone: It cannot be reached.
        """
        async with self._one_at_a_time:
            await self._hosts.look(host)
            view = self._database.view
            for guest in tuple(migration.waiting(self._hosts.facts()[host])):
                action = what_becomes_of(view, host, guest)
                if isinstance(action, protocol.RunGuest):
                    await self._converge(host, ())  # it must find its ports, and its locks on them
                if action is not None:
                    log.warning("guest-settled", host=host, vm=guest.vm_uuid, action=type(action).__name__)
                    await migration.settle(self._hosts, host, action)

    async def finish(self, host: Ref[Host]) -> None:
        """Lets a host keep the rollout that was decided last, if it still waits to hear so, or went back by itself.

        To be called before anybody looks at what the host runs: what is not decided is taken back. Raises HostGone.
        """
        async with self._one_at_a_time:
            await self._finish(host)

    async def _finish(self, host: Ref[Host]) -> None:
        """See `finish`."""
        confirm = decided.late_confirmation(self._database.view, host)
        if confirm is not None:
            with suppress(HostRefused):  # it has kept it already, or another one since, or cannot do it again
                await self._hosts.settle(host, confirm)

    async def _switch(
        self,
        view: View,
        works: Mapping[Ref[Host], HostWork],
        contexts: Sequence[CallContext],
        guards: Sequence[Guard],
        progress: Progress,
        beside: Callable[[], Coroutine[Any, Any, None]],
    ) -> dict[Ref[Host], str]:
        """Carries the works out; gives the hosts that wait for a confirmation, and of which rollout.

        What is to be done `beside` needs the plans, and does not keep the last hosts waiting.
        """
        rollout = str(uuid4())
        planning = [
            _noted(progress, host, Step.PLANNED, self._stage(host, rollout, work))
            for host, work in works.items()
        ]
        staged = await _all(planning)
        others = [host for host in works if not self._hosts.is_local(host)]
        waves: tuple[Sequence[Ref[Host]], ...] = (others, [host for host in works if host not in others])
        slowest_s = max((guests_take_s(work) for work in works.values()), default=0.0)
        armed: dict[Ref[Host], str] = {}
        plans = dict(zip(works, staged, strict=True))
        for host, work in works.items():
            work.plan_hash = plans[host].plan_hash
        risky = {host for host in works if plans[host].plan.disturbance >= Disturbance.MANAGEMENT}
        if others:
            for host in others:
                self._hosts.expect(host, address_to_come(view, self._database.view, host))
        for wave, also in zip(waves, ((), (beside,)), strict=True):
            await _all(
                [
                    *(
                        _noted(
                            progress,
                            host,
                            Step.CHANGED,
                            self._switch_host(
                                host,
                                works[host],
                                rollout,
                                armed,
                                guards,
                                risky=host in risky,
                                several=bool(others),
                                slowest_s=slowest_s,
                            ),
                        )
                        for host in wave
                    ),
                    *(work() for work in also),
                ]
            )
        coordinator = self._address_of_coordinator(view)
        meeting = [
            _noted(progress, host, Step.CHANGED, self._hosts.require_contact(host, coordinator))
            for host in others
        ]
        await _all(meeting)
        await migration.send(self._hosts, migration.moves(works))
        for context in contexts:
            for host, name in context.hostname_changes:
                await self._hosts.set_hostname(host, name)
        return armed

    async def _switch_host(
        self,
        host: Ref[Host],
        work: HostWork,
        rollout: str,
        armed: dict[Ref[Host], str],
        guards: Sequence[Guard],
        *,
        risky: bool,
        several: bool,
        slowest_s: float,
    ) -> None:
        """Carries out one host's work. Raises HostRefused, HostGone."""
        asked_s = within_s(guards, management=risky)
        time_s = asked_s
        if several:  # also hosts that nothing can cut off: the others may fail
            time_s = (asked_s or CONFIRM_WITHIN_S) + slowest_s
            if not self._hosts.is_local(host):
                time_s += time_s  # the coordinator's turn comes after the members'
        began = asyncio.get_running_loop().time()
        work.begun = rollout
        command = protocol.Switch(rollout=rollout, confirm_within_s=time_s, reachable=asked_s is not None)
        try:
            done = await self._hosts.switch(host, command)
        except HostRefused:
            work.refused = True
            raise
        if time_s is not None:
            armed[host] = rollout
        if asked_s is not None and self._hosts.is_local(host):
            left_s = began + asked_s - asyncio.get_running_loop().time() - CONFIRMING_S
            await _require_callers(guards, work.desired, done.facts, max(left_s, CONFIRMING_S))

    def _address_of_coordinator(self, view: View) -> str:
        """The management address of this host, as it is to be."""
        for host in self._hosts.reachable():
            row = view.stored(Host, host)
            if self._hosts.is_local(host) and row is not None:
                return row.address
        return ""

    def _works(self, view: View, contexts: Sequence[CallContext]) -> dict[Ref[Host], HostWork]:
        """What is to be done where; hosts that nothing changes on are left out."""
        works = {}
        for host, desired in self._deriver.derive(view, self._hosts.reachable()).items():
            work = work_of(desired, host, contexts)
            if work.before or work.after or self._known(host) != work.desired:
                works[host] = work
        return works

    def concerned(self, view: View, contexts: Sequence[CallContext]) -> Collection[Ref[Host]]:
        """The hosts that decided calls would have do something."""
        return self._works(view, contexts).keys()

    def _known(self, host: Ref[Host]) -> HostNetwork | None:
        """What a host is, as far as is known.

        Of another one that is not in step nobody knows, and it is being seen to: it does not hold up changes elsewhere.
        """
        applied = self._applied.get(host)
        if applied is not None or self._hosts.is_local(host):
            return applied
        return derive(self._database.view, host)

    async def _stage(
        self, host: Ref[Host], rollout: str, work: HostWork, *, dry_run: bool = False
    ) -> protocol.Staged:
        command = protocol.Stage(
            rollout=rollout,
            desired=work.desired,
            guests_before=tuple(work.before),
            guests_after=tuple(work.after),
            dry_run=dry_run,
        )
        return await self._hosts.stage(host, command)

    async def _go_back(
        self, works: Mapping[Ref[Host], HostWork], contexts: Sequence[CallContext], progress: Progress
    ) -> None:
        """Brings hosts back to what the database says, also those of which nobody knows how far they came.

        Best effort: timers, start-up and the return of a host daemon do it again.
        """
        view = self._database.view
        await asyncio.gather(*(self._take_back(view, host, work, progress) for host, work in works.items()))
        renamed = {host for context in contexts for host, _ in context.hostname_changes}
        for host in renamed:
            row = view.find(Host, host)
            if row is not None:
                with suppress(HostGone, HostRefused):
                    await self._hosts.set_hostname(host, row.hostname)

    async def _take_back(self, view: View, host: Ref[Host], work: HostWork, progress: Progress) -> None:
        if not work.begun:
            return
        self._applied.pop(host, None)
        if not work.refused:
            with suppress(HostGone, HostRefused):  # refused: it is confirmed already
                await self._hosts.settle(host, protocol.Revert(rollout=work.begun))
        try:
            await self._converge(host, () if work.refused else undoing(view, work))
            await self._let_go_on(view, host, work)
        except (HostGone, HostRefused):
            if not self._hosts.is_local(host):
                self._astray(host)
        else:
            progress.note(host, Step.TAKEN_BACK)

    async def _let_go_on(self, view: View, host: Ref[Host], work: HostWork) -> None:
        """Lets guests whose migration came to nothing go on here, and removes them from where they were to go.

        Raises HostRefused, HostGone.
        """
        for action in work.before:
            match action:
                case protocol.DepartGuest(vm_uuid=vm_uuid):
                    await migration.settle(self._hosts, host, protocol.RunGuest(vm_uuid=vm_uuid))
                case protocol.ReceiveGuest(guest=guest):
                    await migration.settle(self._hosts, host, protocol.DestroyGuest(vm_uuid=guest.vm_uuid))

    async def converge(self, host: Ref[Host], guests_before: Sequence[protocol.GuestAction] = ()) -> None:
        """Makes a host what the committed database says, for instance at start or when it comes back.

        Raises:
            HostRefused: The host could not be made so.
            HostGone: The host cannot be reached.
        """
        async with self._one_at_a_time:
            await self._finish(host)  # its daemon may have died, and nobody else looked at it since
            await self._converge(host, guests_before)

    async def _converge(self, host: Ref[Host], guests_before: Sequence[protocol.GuestAction]) -> None:
        rollout = str(uuid4())
        work = HostWork(derive(self._database.view, host), before=list(guests_before))
        try:
            staged = await self._stage(host, rollout, work)
        except HostRefused as busy:
            if busy.refused.fault is not protocol.Fault.BUSY:
                raise
            # Of a server that died: nobody is left to confirm it.
            await self._hosts.settle(host, protocol.Revert(rollout=busy.refused.subject))
            staged = await self._stage(host, rollout, work)
        if self._hosts.is_local(host) or staged.plan.disturbance < Disturbance.MANAGEMENT:
            await self._hosts.switch(host, protocol.Switch(rollout=rollout))
        else:
            await self._converge_guarded(host, rollout)
        self._applied[host] = work.desired

    async def _converge_guarded(self, host: Ref[Host], rollout: str) -> None:
        """Switches a member that could be cut off by it: it goes back unless it and the coordinator meet again.

        To its end: a host whose address moves loses its connection by that, and with it whoever brings it in step. One that is
        left to itself half way goes back, and is moved, and left, again.
        """
        await _to_its_end(self._switch_and_meet(host, rollout))

    async def _switch_and_meet(self, host: Ref[Host], rollout: str) -> None:
        """See `_converge_guarded`. Raises HostGone, HostRefused."""
        view = self._database.view
        row = view.find(Host, host)
        self._hosts.expect(host, row.address if row is not None else "")
        command = protocol.Switch(rollout=rollout, confirm_within_s=CONFIRM_WITHIN_S, reachable=True)
        try:
            await self._hosts.switch(host, command)
            await self._hosts.require_contact(host, self._address_of_coordinator(view))
            await self._hosts.settle(host, protocol.Confirm(rollout=rollout))
        except (HostGone, HostRefused):
            with suppress(HostGone, HostRefused):
                await self._hosts.settle(host, protocol.Revert(rollout=rollout))
            raise
        finally:
            self._hosts.expect(host, "")

    def forget(self, host: Ref[Host]) -> None:
        """Knows no more what a host is: it left the pool, or comes back from somewhere."""
        self._applied.pop(host, None)
        self._deriver.forget(host)

    async def plan(
        self, view: View, contexts: Sequence[CallContext]
    ) -> dict[Ref[Host], tuple[HostWork, protocol.Staged]]:
        """What each host would do if this transaction were carried out; nothing happens.

        Another host that cannot be asked, and that it does not touch, is left out.

        Raises:
            HostRefused: A host cannot be made so.
            HostGone: A host cannot be reached.
        """
        answer = {}
        for host, desired in self._deriver.derive(view, self._hosts.reachable()).items():
            work = work_of(desired, host, contexts)
            try:
                answer[host] = (work, await self._stage(host, DRY_RUN, work, dry_run=True))
            except HostGone:
                if self._hosts.is_local(host) or work.before or work.after:
                    raise
                if work.desired != derive(self._database.view, host):
                    raise
        return answer


def _plans(works: Mapping[Ref[Host], HostWork]) -> dict[Ref[Host], str]:
    """The hash of each host's plan."""
    return {host: work.plan_hash for host, work in works.items()}


async def _all(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Waits for all of it, also when some fails; raises the first failure then."""
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


async def _noted(progress: Progress, host: Ref[Host], step: Step, work: Coroutine[Any, Any, T]) -> T:
    """Does a host's part of a rollout, and notes how far the host is then."""
    try:
        result = await work
    except (HostGone, HostRefused):
        progress.note(host, Step.FAILED)
        raise
    progress.note(host, step)
    return result


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Carries out what must not be left half done; a caller that is cancelled meanwhile waits all the same."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with suppress(Exception):
            await task
        raise


async def _require_callers(
    guards: Sequence[Guard], desired: HostNetwork, facts: HostFacts, left_s: float
) -> None:
    """Raises HostRefused when a caller who is connected to the management address is cut off."""
    has = next((a for a in facts.addresses if a.bridge == desired.management_bridge), None)
    own = [text.partition("/")[0] for text in (*has.ipv4, *has.ipv6)] if has is not None else []
    callers = callers_to_ask(guards, own)
    answers = await asyncio.gather(*(caller.answers(left_s) for caller in callers))
    if not all(answers):
        message = "the caller does not answer any more"
        raise HostRefused(
            protocol.Refused(
                fault=protocol.Fault.UNREACHABLE, message=message, subject=desired.management_bridge
            )
        )
