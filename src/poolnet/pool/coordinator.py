"""Who carries a call out: from a rule's decision to changed hosts to a durable commit.

The API's dispatcher hands it every call that a rule decides. Calls that arrive while others are under way are planned
together: their rules run one after the other on one overlay, the hosts they touch are switched once, and then each
call is committed and answered. A call that fails leaves no trace, on no host and not in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import uuid4

import structlog

from poolnet.db.changes import Changes
from poolnet.db.database import Database
from poolnet.db.errors import Conflict, DatabaseError
from poolnet.db.txn import Txn, View
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import derive
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.steps import Disturbance
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.types import NULL, Ref, Value
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.rules.context import CallContext, Counters, Phase, Session

CALLS_PER_BATCH_MAX = 1000  # bounds how long the first caller of a burst waits for the last
COMPANY_S = 0.002  # a lone call waits that long for others; a switch takes ten times that for one port
COMPANY_ROUNDS_MAX = 20
TRIES_MAX = 3  # of a call whose rows others changed while it was on its way
CONFIRM_WITHIN_S = 20.0  # dataplane.md F1: the revert timer of a plan that touches the way to the coordinator

log = structlog.get_logger("poolnet.pool")

Rule = Callable[..., Any]  # fn(context, **arguments) -> Value


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCall:
    """One call of a client that a rule decides: its message, decoded arguments and who asks."""

    method: str
    rule: Rule
    arguments: Mapping[str, Value]
    session: Session
    task: Ref[Any] = NULL


class Hosts(Protocol):
    """The hosts of the pool, as the coordinator reaches them."""

    def reachable(self) -> Sequence[Ref[Host]]:
        """The hosts that are part of a rollout."""

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        """Stages a desired state on a host; raises `HostRefused` or `HostGone`."""

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        """Carries a staged rollout out; raises `HostRefused` or `HostGone`."""

    async def settle(self, host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        """Confirms or reverts a switched rollout; raises `HostRefused` or `HostGone`."""

    async def set_hostname(self, host: Ref[Host], hostname: str) -> None:
        """Changes a host's name; raises `HostRefused` or `HostGone`."""

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        """The facts that each host reported last."""


@dataclass(slots=True)
class _Pending:
    call: RuleCall
    answer: asyncio.Future[Value]
    started: bool = False
    conflicts: int = 0


@dataclass(slots=True)
class _Decided:
    """A call whose rule has decided, and what it wants done."""

    pending: _Pending
    result: Value
    changes: Changes
    guest_actions: list[tuple[Ref[Host], Phase, protocol.GuestAction]]
    hostnames: list[tuple[Ref[Host], str]]


@dataclass(slots=True)
class HostWork:
    """What one rollout does on one host."""

    desired: HostNetwork
    before: list[protocol.GuestAction] = field(default_factory=list)
    after: list[protocol.GuestAction] = field(default_factory=list)


class Coordinator:
    """Carries calls out, in batches, on one or more hosts.

    Args:
        database: The pool database.
        hosts: How hosts are reached.
        local_host: The host this server runs on.
        clock: The current time, aware and in UTC.
        counters: Bridge and domain numbers that only grow.
    """

    def __init__(
        self,
        *,
        database: Database,
        hosts: Hosts,
        local_host: Ref[Host],
        clock: Callable[[], datetime],
        counters: Counters,
    ) -> None:
        self._database = database
        self._hosts = hosts
        self._local_host = local_host
        self._clock = clock
        self._counters = counters
        self._queue: list[_Pending] = []
        self._writes: list[tuple[Callable[[Txn], Value], asyncio.Future[Value]]] = []
        self._wake = asyncio.Event()
        self._wake_writes = asyncio.Event()
        self._applied: dict[Ref[Host], HostNetwork] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to serve the queues."""
        self._tasks = [
            asyncio.create_task(self._serve_calls(), name="coordinator-calls"),
            asyncio.create_task(self._serve_writes(), name="coordinator-writes"),
        ]

    async def stop(self) -> None:
        """Ends the service; calls under way are cancelled, and their hosts go back by themselves."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    @property
    def view(self) -> View:
        """The committed state."""
        return self._database.view

    async def run(self, call: RuleCall) -> Value:
        """Carries a call out and returns its result once it is durable.

        Raises:
            Failure: The rule's refusal, or what the host's failure means to a client.
        """
        pending = _Pending(call, asyncio.get_running_loop().create_future())
        self._queue.append(pending)
        self._wake.set()
        try:
            return await asyncio.shield(pending.answer)
        except asyncio.CancelledError:
            if (
                pending.started
            ):  # too late to withdraw: what happens on the hosts is what the caller must hear
                return await pending.answer
            pending.answer.cancel()
            raise

    def ask(self, call: RuleCall) -> Value:
        """Answers a call whose rule only reads, at once and beside all others.

        Raises:
            Failure: The rule's refusal.
        """
        result: Value = call.rule(self.context(self._database.begin(), call.session, call.task), **call.arguments)
        return result

    async def write(self, change: Callable[[Txn], Value]) -> Value:
        """Carries out a change of the database alone, together with others that arrive at the same time."""
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._writes.append((change, answer))
        self._wake_writes.set()
        return await answer

    def context(self, txn: Txn, session: Session, task: Ref[Any] = NULL) -> CallContext:
        """The context in which a rule decides on this transaction."""
        return CallContext(
            txn=txn,
            now=self._clock(),
            new_uuid=lambda: str(uuid4()),
            local_host=self._local_host,
            session=session,
            task=task,
            facts=self._hosts.facts(),
            counters=self._counters,
        )

    # --- calls that rules decide -------------------------------------------------------------------------------

    async def _serve_calls(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._company()
                batch, self._queue = self._queue[:CALLS_PER_BATCH_MAX], self._queue[CALLS_PER_BATCH_MAX:]
                try:
                    await self._carry_out(batch)
                except asyncio.CancelledError:
                    raise
                except Exception as error:  # the loop outlives every bug; the callers hear of it
                    log.exception("batch-failed", calls=[p.call.method for p in batch])
                    for pending in batch:
                        _refuse(pending, errors.internal_error(f"{type(error).__name__}: {error}"))

    async def _company(self) -> None:
        """Waits for the other calls of a burst: as long as more arrive, but not for long."""
        for _ in range(COMPANY_ROUNDS_MAX):
            waiting = len(self._queue)
            await asyncio.sleep(COMPANY_S)
            if len(self._queue) == waiting:
                return

    async def _carry_out(self, batch: Sequence[_Pending]) -> None:
        txn = self._database.begin()
        decided = [d for pending in batch if (d := self._decide(txn, pending)) is not None]
        if not decided:
            return
        try:
            await self._roll_out(txn, decided)
        except (HostRefused, HostGone, DatabaseError) as error:
            if len(decided) == 1 and not _worth_another_try(decided[0].pending, error):
                _refuse(decided[0].pending, as_failure(error, txn, decided[0].pending.call))
                return
            log.info("batch-split", calls=len(decided), reason=str(error))
            for one in decided:  # somebody's call is at fault: each is tried alone, and only that one fails
                if not one.pending.answer.done():
                    await self._carry_out([one.pending])
            return
        for one in decided:
            if not one.pending.answer.done():
                one.pending.answer.set_result(one.result)

    def _decide(self, txn: Txn, pending: _Pending) -> _Decided | None:
        if pending.answer.done():  # the client hung up while it waited
            return None
        pending.started = True
        overlay = txn.nested()
        call = pending.call
        context = self.context(overlay, call.session, call.task)
        try:
            result = call.rule(context, **call.arguments)
        except errors.Failure as failure:
            _refuse(pending, failure)
            return None
        except Exception as error:  # a bug in a rule is that call's failure and nobody else's
            log.exception("rule-failed", method=call.method)
            _refuse(pending, errors.internal_error(f"{type(error).__name__}: {error}"))
            return None
        changes = overlay.changes()
        overlay.merge()
        return _Decided(pending, result, changes, context.guest_actions, context.hostname_changes)

    async def _roll_out(self, txn: Txn, decided: Sequence[_Decided]) -> None:
        works = self._works(txn, decided)
        rollout = str(uuid4())
        attempted: list[Ref[Host]] = []
        armed: list[Ref[Host]] = []
        try:
            plans = {host: await self._stage(host, rollout, work) for host, work in works.items()}
            for host in works:
                within_s = (
                    CONFIRM_WITHIN_S if plans[host].plan.disturbance >= Disturbance.MANAGEMENT else None
                )
                attempted.append(host)
                await self._hosts.switch(host, protocol.Switch(rollout=rollout, confirm_within_s=within_s))
                if within_s is not None:
                    armed.append(host)
            for host, name in (h for one in decided for h in one.hostnames):
                await self._hosts.set_hostname(host, name)
            for host in armed:
                await self._hosts.settle(host, protocol.Confirm(rollout=rollout))
            await self._database.commit([one.changes for one in decided])
        except BaseException:
            await self._go_back(rollout, {host: works[host] for host in attempted}, armed)
            raise
        for host, work in works.items():
            self._applied[host] = work.desired

    def _works(self, view: View, decided: Sequence[_Decided]) -> dict[Ref[Host], HostWork]:
        works: dict[Ref[Host], HostWork] = {}
        for host in self._hosts.reachable():
            desired = derive(view, host)
            work = HostWork(desired)
            for one in decided:
                for target, phase, action in one.guest_actions:
                    if target == host:
                        (work.before if phase is Phase.BEFORE else work.after).append(action)
            if work.before or work.after or self._applied.get(host) != desired:
                works[host] = work
        return works

    async def _stage(self, host: Ref[Host], rollout: str, work: HostWork) -> protocol.Staged:
        command = protocol.Stage(
            rollout=rollout,
            desired=work.desired,
            guests_before=tuple(work.before),
            guests_after=tuple(work.after),
        )
        return await self._hosts.stage(host, command)

    async def _go_back(
        self, rollout: str, works: Mapping[Ref[Host], HostWork], armed: Sequence[Ref[Host]]
    ) -> None:
        """Brings hosts back to what the database says, also those of which nobody knows how far they came.

        Best effort: start-up does it again.
        """
        for host, work in works.items():
            self._applied.pop(host, None)
            made = (*work.before, *work.after)
            undo = [
                protocol.DestroyGuest(vm_uuid=action.guest.vm_uuid)
                for action in made
                if isinstance(action, protocol.CreateGuest)
            ]
            with suppress(HostGone, HostRefused):
                if host in armed:
                    await self._hosts.settle(host, protocol.Revert(rollout=rollout))
                await self.converge(host, undo)

    async def converge(self, host: Ref[Host], guests_before: Sequence[protocol.GuestAction] = ()) -> None:
        """Makes a host what the committed database says, for instance at start or when it comes back.

        Raises:
            HostRefused: The host could not be made so.
            HostGone: The host cannot be reached.
        """
        rollout = str(uuid4())
        desired = derive(self._database.view, host)
        await self._hosts.stage(
            host, protocol.Stage(rollout=rollout, desired=desired, guests_before=tuple(guests_before))
        )
        await self._hosts.switch(host, protocol.Switch(rollout=rollout))
        self._applied[host] = desired

    # --- dry run -----------------------------------------------------------------------------------------------

    async def plan(
        self, txn: Txn, contexts: Sequence[CallContext]
    ) -> dict[Ref[Host], tuple[HostWork, protocol.Staged]]:
        """What each host would do if this transaction were carried out; nothing happens."""
        answer: dict[Ref[Host], tuple[HostWork, protocol.Staged]] = {}
        for host in self._hosts.reachable():
            work = HostWork(derive(txn, host))
            for target, phase, action in (a for context in contexts for a in context.guest_actions):
                if target == host:
                    (work.before if phase is Phase.BEFORE else work.after).append(action)
            command = protocol.Stage(
                rollout="dry-run",
                desired=work.desired,
                guests_before=tuple(work.before),
                guests_after=tuple(work.after),
                dry_run=True,
            )
            answer[host] = (work, await self._hosts.stage(host, command))
        return answer

    # --- changes of the database alone -------------------------------------------------------------------------

    async def _serve_writes(self) -> None:
        while True:
            await self._wake_writes.wait()
            self._wake_writes.clear()
            while self._writes:
                batch, self._writes = self._writes[:CALLS_PER_BATCH_MAX], self._writes[CALLS_PER_BATCH_MAX:]
                await self._commit_writes(batch)

    async def _commit_writes(
        self, batch: Sequence[tuple[Callable[[Txn], Value], asyncio.Future[Value]]]
    ) -> None:
        txn = self._database.begin()
        results: list[tuple[asyncio.Future[Value], Value]] = []
        for change, answer in batch:
            if answer.done():
                continue
            overlay = txn.nested()
            try:
                result = change(overlay)
            except errors.Failure as failure:
                answer.set_exception(failure)
                continue
            except Exception as error:  # a bug in one change is that call's failure and nobody else's
                log.exception("write-failed")
                answer.set_exception(errors.internal_error(f"{type(error).__name__}: {error}"))
                continue
            overlay.merge()
            results.append((answer, result))
        try:
            await self._database.commit(txn.changes())
        except DatabaseError as error:
            await self._commit_one_by_one(batch, error)
            return
        for answer, result in results:
            if not answer.done():
                answer.set_result(result)

    async def _commit_one_by_one(
        self, batch: Sequence[tuple[Callable[[Txn], Value], asyncio.Future[Value]]], reason: DatabaseError
    ) -> None:
        """Carries changes out alone that could not be committed together, because of one of them or of the disk."""
        log.info("writes-split", changes=len(batch), reason=str(reason))
        for change, answer in batch:
            for attempt in range(TRIES_MAX):
                if answer.done():
                    break
                txn = self._database.begin()
                try:
                    result = change(txn)
                    await self._database.commit(txn.changes())
                except errors.Failure as failure:
                    _fail(answer, failure)
                except Conflict as error:
                    if attempt == TRIES_MAX - 1:
                        _fail(answer, errors.internal_error(str(error)))
                except DatabaseError as error:
                    _fail(answer, errors.internal_error(str(error)))
                else:
                    if not answer.done():
                        answer.set_result(result)


def _fail(answer: asyncio.Future[Value], failure: Exception) -> None:
    if not answer.done():
        answer.set_exception(failure)


def _worth_another_try(pending: _Pending, error: Exception) -> bool:
    pending.conflicts += isinstance(error, Conflict)
    return isinstance(error, Conflict) and pending.conflicts < TRIES_MAX


def _refuse(pending: _Pending, failure: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(failure)


def as_failure(error: HostRefused | HostGone | DatabaseError, view: View, call: RuleCall) -> errors.Failure:
    """What a host's refusal, or the database's, means to the client that called (spec §6.2, §9.2)."""
    if isinstance(error, DatabaseError):
        return errors.internal_error(str(error))
    if isinstance(error, HostGone):
        hosts = list(view.refs(Host))
        return errors.cannot_contact_host(hosts[0] if hosts else NULL)
    refused = error.refused
    if call.method.startswith(("PIF.", "VLAN.", "Bond.", "tunnel.", "network.", "pool.")):
        return errors.pif_configuration_error(_pif_of(call), f"{refused.subject} {refused.message}".strip())
    return errors.internal_error(f"{refused.fault}: {refused.message}")


def _pif_of(call: RuleCall) -> Ref[Any]:
    for name in ("self", "tagged_PIF", "transport_PIF", "pif"):
        value = call.arguments.get(name)
        if isinstance(value, str) and value:
            return Ref(value)
    return NULL
