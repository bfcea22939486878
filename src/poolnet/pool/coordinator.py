"""Who carries a call out: from a rule's decision to changed hosts to a durable commit.

The API's dispatcher hands it every call that a rule decides. Calls that arrive while others are under way are planned
together: their rules run one after the other on one overlay, the hosts they touch are switched once, and then each
call is committed and answered. A call that fails leaves no trace, on no host and not in the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import structlog

from poolnet.db.changes import Changes, Key
from poolnet.db.database import Database
from poolnet.db.errors import Conflict, DatabaseError, StorageFailed
from poolnet.db.txn import Txn, View
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import HostFacts
from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pci import PCI
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode
from poolnet.model.types import NULL, Ref, Row, Value
from poolnet.pool import audit, audit_entry, audit_notes, ending
from poolnet.pool.audit_entry import Audited
from poolnet.pool.guard import USUAL, Guard
from poolnet.pool.host_work import HostWork
from poolnet.pool.hostlink import HostCutOff, HostGone, HostRefused
from poolnet.pool.rollout import Agreement, Hosts, Rollouts
from poolnet.pool.storage import METHODS as STORAGE_METHODS
from poolnet.pool.storage import StorageCalls
from poolnet.rules.context import CallContext, Counters, Session
from poolnet.rules.facts import record_network

CALLS_PER_BATCH_MAX = 1000  # bounds how long the first caller of a burst waits for the last
COMPANY_S = 0.002  # a lone call waits that long for others; a switch takes ten times that for one port
COMPANY_ROUNDS_MAX = 20
BREATH_S = 0.05  # whoever only asks waits no longer for the rules of a burst than for this and one rule
LOOKING = frozenset(  # calls about what a host has now, told of or not yet
    ("PIF.scan", "PIF.introduce", "PIF.plug", "network_sriov.create")
)
TRIES_MAX = 3  # of a call whose rows others changed while it was on its way
STOP_GRACE_S = 1.5  # for taking back what is under way, at the server's end

_SWITCHING: Mapping[str, Callable[[Ref[PIF], str], errors.Failure]] = {
    "network_sriov.create": errors.network_sriov_enable_failed,
    "network_sriov.destroy": errors.network_sriov_disable_failed,
    "PIF.plug": errors.network_sriov_enable_failed,
    "PIF.unplug": errors.network_sriov_disable_failed,
}

log = structlog.get_logger("poolnet.pool")

Rule = Callable[..., Any]  # fn(context, **arguments) -> Value


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCall:
    """One call of a client that a rule decides: its message, decoded arguments and who asks.

    `before_commit` is asked, with what is going to be committed, once the hosts have changed; if it raises a Failure all go
    back, and that is the call's.
    """

    method: str
    rule: Rule
    arguments: Mapping[str, Value]
    session: Session
    task: Ref[Any] = NULL
    guard: Guard = USUAL
    before_commit: Agreement | None = None


@dataclass(slots=True)
class _Pending:
    call: RuleCall
    answer: asyncio.Future[Value]
    audited: Audited | None = None
    started: bool = False
    conflicts: int = 0


@dataclass(slots=True)
class _Decided:
    """A call whose rule has decided: what to answer, and what to change."""

    pending: _Pending
    result: Value
    changes: Changes
    context: CallContext
    entry: audit_entry.Decided | None = None


@dataclass(slots=True)
class _Write:
    """A change of the database alone, for whoever waits for it."""

    change: Callable[[Txn], Value]
    answer: asyncio.Future[Value]
    audited: Audited | None = None


class Coordinator:
    """Carries calls out, in batches, on one or more hosts.

    Args:
        database: The pool database.
        hosts: How hosts are reached.
        local_host: The host this server runs on.
        clock: The current time, aware and in UTC.
        counters: Bridge and domain numbers that only grow.
        servers: The uuids of the hosts with a server of the cluster that the database is on.
    """

    def __init__(
        self,
        *,
        database: Database,
        hosts: Hosts,
        local_host: Ref[Host],
        clock: Callable[[], datetime],
        counters: Counters,
        servers: frozenset[str] = frozenset(),
    ) -> None:
        self._database = database
        self._hosts = hosts
        self._stray: Callable[[Ref[Host]], None] = lambda _: None
        self._rollouts = Rollouts(database, hosts, lambda host: self._stray(host), self._write_soon)
        self._storage = StorageCalls(database, hosts)
        self._storage_under_way: set[asyncio.Task[Value]] = set()
        self._local_host = local_host
        self._clock = clock
        self._counters = counters
        self._worked_out: dict[Any, Any] = {}
        self._worked_out_of = -1  # the stamp of the database that it is about
        self._servers = servers
        self._queue: list[_Pending] = []
        self._writes: list[_Write] = []
        self._wake = asyncio.Event()
        self._wake_writes = asyncio.Event()
        self._under_way: Sequence[_Pending] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._turns = (asyncio.Lock(), asyncio.Lock())  # of calls and of writes
        self._may_begin = asyncio.Event()  # storage calls, which wait for nobody's turn
        self._may_begin.set()

    def start(self) -> None:
        """Begins to serve the queues."""
        self._tasks = [
            asyncio.create_task(self._serve_calls(), name="coordinator-calls"),
            asyncio.create_task(self._serve_writes(), name="coordinator-writes"),
        ]

    async def stop(self) -> None:
        """Ends the service: calls under way are cancelled, and what they did on hosts is taken back.

        Hosts that do not answer in time are left as they are; the next start brings them in step. May be called twice.
        """
        tasks = [*self._tasks, *self._storage_under_way]
        self._tasks = []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_GRACE_S)
        for pending in (*self._under_way, *self._queue):
            _fail(pending.answer, errors.task_cancelled(pending.call.task))
        for write in self._writes:
            write.answer.cancel()
        self._queue, self._writes = [], []

    async def hold(self) -> None:
        """Carries out and writes nothing any more, once what is under way has ended; what arrives waits for `release`."""
        held: list[asyncio.Lock] = []
        self._may_begin.clear()
        try:
            for turn in self._turns:
                await turn.acquire()
                held.append(turn)
            if self._storage_under_way:
                await asyncio.wait(self._storage_under_way)
        except BaseException:
            self._may_begin.set()
            for turn in held:
                turn.release()
            raise

    def release(self) -> None:
        """Goes on after `hold`."""
        self._may_begin.set()
        for turn in self._turns:
            turn.release()

    @property
    def facts_here(self) -> HostFacts:
        """What the host that this server runs on has reported last."""
        return self._hosts.facts().get(self._local_host, HostFacts())

    @property
    def view(self) -> View:
        """The committed state."""
        return self._database.view

    async def run(self, call: RuleCall) -> Value:
        """Carries a call out and returns its result once it is durable.

        Raises:
            Failure: The rule's refusal, or what the host's failure means to a client.
        """
        if call.method in LOOKING:
            await self._look(call)
        if call.method in STORAGE_METHODS:
            return await self._run_storage(call)
        if call.method in ending.METHODS:
            await self._ask_to_end(call)
        pending = _Pending(call, asyncio.get_running_loop().create_future(), audit_entry.current())
        self._queue.append(pending)
        self._wake.set()
        while True:
            try:
                return await asyncio.shield(pending.answer)
            except asyncio.CancelledError:
                if pending.answer.cancelled():
                    raise
                if not pending.started:
                    pending.answer.cancel()
                    raise
                # Too late to withdraw: what happens on the hosts is what the caller must hear.

    async def _run_storage(self, call: RuleCall) -> Value:
        await self._may_begin.wait()
        subject = next(call.arguments[name] for name in ("self", "sr", "host") if name in call.arguments)
        working = asyncio.create_task(
            self._storage.run(
                cast("Ref[Any]", subject),
                lambda ctx: call.rule(ctx, **call.arguments),
                lambda txn: self.context(txn, call.session, call.task),
            )
        )
        self._storage_under_way.add(working)
        working.add_done_callback(self._storage_under_way.discard)
        return await asyncio.shield(working)  # begun is carried out, also when the client hangs up

    async def connect_storage(self, host: Ref[Host], facts: HostFacts) -> None:
        """Makes a host, which has just reported that, have the storage that the database says."""
        await self._storage.connect_again(host, facts, lambda txn: self.context(txn, Session()))

    async def _look(self, call: RuleCall) -> None:
        """Has the hosts report now: a NIC that was put in a moment ago is found, a driver's file is read.

        Raises Failure.
        """
        for host in self._to_look_at(call):
            try:
                await self._hosts.look(host)
            except (HostRefused, HostGone) as error:
                raise as_failure(error, self.view, call) from error

    async def _ask_to_end(self, call: RuleCall) -> None:
        """Has the guests end that a call is about and that take their time, before anybody waits for it. Raises Failure."""
        context = self.context(self._database.begin(), call.session, call.task)
        call.rule(context, **call.arguments)
        try:
            await ending.ask(self._hosts, ending.to_ask(context))
        except (HostRefused, HostGone) as error:
            raise as_failure(error, self.view, call) from error

    def _to_look_at(self, call: RuleCall) -> Iterable[Ref[Host]]:
        """The hosts that such a call is about; none for plugging a PIF that has no virtual functions to switch on."""
        hosts = self._hosts.reachable()
        if "host" in call.arguments:
            return [host for host in hosts if host == call.arguments["host"]]
        pif = self.view.find(PIF, Ref(str(call.arguments["pif" if "pif" in call.arguments else "self"])))
        if pif is None or (call.method == "PIF.plug" and not pif.sriov_logical_PIF_of):
            return ()
        return [host for host in hosts if host == pif.host]

    def ask(self, call: RuleCall) -> Value:
        """Answers a call whose rule only reads, at once and beside all others.

        Raises:
            Failure: The rule's refusal.
        """
        stamp = self._database.view.layer.stamp
        if stamp != self._worked_out_of:
            self._worked_out_of, self._worked_out = stamp, {}
        context = self.context(self._database.begin(), call.session, call.task)
        context.worked_out = self._worked_out
        result: Value = call.rule(context, **call.arguments)
        return result

    async def write(self, change: Callable[[Txn], Value]) -> Value:
        """Carries out a change of the database alone, together with others that arrive at the same time."""
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._writes.append(_Write(change, answer, audit_entry.current()))
        self._wake_writes.set()
        return await answer

    def context(self, txn: Txn, session: Session, task: Ref[Any] = NULL) -> CallContext:
        """The context in which a rule decides on this transaction."""
        return CallContext(
            txn=txn,
            now=self._clock(),
            new_uuid=_new_uuid,
            local_host=self._local_host,
            session=session,
            task=task,
            facts=self._hosts.facts(),
            counters=self._counters,
            servers=self._servers,
        )

    def context_of(self, txn: Txn, host: Ref[Host], facts: HostFacts) -> CallContext:
        """The context of a change that concerns another host as if it was made there."""
        context = self.context(txn, Session())
        context.local_host = host
        context.facts = {**context.facts, host: facts}
        return context

    def on_stray(self, hear: Callable[[Ref[Host]], None]) -> None:
        """Tells `hear` of hosts that may not be what the database says."""
        self._stray = hear

    async def finish(self, host: Ref[Host]) -> None:
        """Lets a host keep what was decided while nobody could tell it; see `Rollouts.finish`."""
        await self._rollouts.finish(host)

    async def settle_guests(self, host: Ref[Host]) -> None:
        """Tells a host what has become of guests that wait there; see `Rollouts.settle_guests`."""
        await self._rollouts.settle_guests(host)

    def forget(self, host: Ref[Host]) -> None:
        """Knows no more what a host is: it left, or comes back."""
        self._rollouts.forget(host)

    async def converge(self, host: Ref[Host], guests_before: Sequence[protocol.GuestAction] = ()) -> None:
        """Makes a host what the committed database says; see `Rollouts.converge`."""
        await self._rollouts.converge(host, guests_before)

    async def plan(
        self, txn: Txn, contexts: Sequence[CallContext]
    ) -> dict[Ref[Host], tuple[HostWork, protocol.Staged]]:
        """What each host would do if this transaction were carried out; see `Rollouts.plan`."""
        return await self._rollouts.plan(txn, contexts)

    # --- calls that rules decide -------------------------------------------------------------------------------

    async def _serve_calls(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._company()
                count = _together(self._queue)
                batch, self._queue = self._queue[:count], self._queue[count:]
                self._under_way = batch
                try:
                    async with self._turns[0]:
                        await self._carry_out(batch)
                except Exception as error:  # the loop outlives every bug; the callers hear of it
                    log.exception("batch-failed", calls=[p.call.method for p in batch])
                    for pending in batch:
                        _fail(pending.answer, _bug(error))

    async def _company(self) -> None:
        """Waits for the other calls of a burst: as long as more arrive, but not for long."""
        for _ in range(COMPANY_ROUNDS_MAX):
            waiting = len(self._queue)
            await asyncio.sleep(COMPANY_S)
            if len(self._queue) == waiting:
                return

    async def _carry_out(self, batch: Sequence[_Pending]) -> None:
        txn = self._database.begin()
        decided, refused = await self._decide_all(txn, batch)
        if not decided:
            return
        contexts, changes = [d.context for d in decided], [d.changes for d in decided]
        try:
            guards = [d.pending.call.guard for d in decided]
            await self._rollouts.carry_out(
                txn,
                contexts,
                changes,
                guards,
                lambda plans: audit_notes.of_calls(
                    [(d.pending.audited, d.entry) for d in decided], txn, plans
                ),
                decided[0].pending.call.before_commit,
            )
        except Exception as error:  # whatever it is, nothing has changed, and one call's bug is nobody else's
            if not isinstance(error, errors.Failure | HostRefused | HostGone | DatabaseError):
                log.exception("batch-failed", calls=[d.pending.call.method for d in decided])
            await self._try_apart([each for each in batch if not each.answer.done()], error, txn)
            return
        for pending, failure in refused:
            _fail(pending.answer, failure)
        for one in decided:
            if one.entry is not None and one.pending.audited is not None:
                one.pending.audited.records += 1
        await self._read_back(changes)
        for one in decided:
            if not one.pending.answer.done():
                one.pending.answer.set_result(one.result)
        for one in decided:
            call = one.pending.call
            audit.note(call.method, call.session, one.changes, self._database.view)

    async def _read_back(self, changes: Sequence[Changes]) -> None:
        """Lets PIFs, bonds and virtual functions that have just changed have what was reported of them meanwhile.

        Who has switched virtual functions on may count on them: their call ends when they are known.
        """
        hosts = _told_of(self._database.view, changes)
        if not hosts:
            return
        facts = {host: seen for host, seen in self._hosts.facts().items() if host in hosts}

        def change(txn: Txn) -> None:
            for host, seen in facts.items():
                record_network(txn, host, seen, self._clock(), _new_uuid)

        answer = self._write_soon(change)
        if any(cls is NetworkSriov for one in changes for cls, _ in _written(one)):
            await asyncio.wait([answer])

    def _write_soon(self, change: Callable[[Txn], None]) -> asyncio.Future[Value]:
        """Has a change of the database carried out that nobody is refused for; its end."""
        answer: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_note_failure)
        self._writes.append(_Write(change, answer))
        self._wake_writes.set()
        return answer

    async def _try_apart(self, batch: Sequence[_Pending], error: Exception, view: View) -> None:
        """Finds whose call is at fault, by halves; it fails, and the others are carried out.

        Where a host is gone, those that concern it fail, without asking it once more for each; one that a change has cut off
        is back, and it is one of their calls that did it.
        """
        concerned, others = await self._told_apart(batch, error)
        nobodys_fault = isinstance(error, HostGone | StorageFailed) and not isinstance(error, HostCutOff)
        if nobodys_fault or (len(concerned) == 1 and not _worth_another_try(concerned[0], error)):
            for pending in concerned:
                _fail(pending.answer, as_failure(error, view, pending.call))
            concerned = ()
        middle = (len(concerned) + 1) // 2
        parts = [part for part in (others, concerned[:middle], concerned[middle:]) if part]
        if parts:
            log.info("batch-split", calls=len(batch), parts=list(map(len, parts)), reason=str(error))
        for part in parts:
            await self._carry_out(part)

    async def _told_apart(
        self, batch: Sequence[_Pending], error: Exception
    ) -> tuple[Sequence[_Pending], Sequence[_Pending]]:
        """The calls that an error may be about, and those that it is not about."""
        concerned: list[_Pending] = []
        others: list[_Pending] = []
        if isinstance(error, HostGone) and len(batch) > 1:
            for pending in batch:
                (concerned if self._concerns(pending, error.host) else others).append(pending)
                await asyncio.sleep(0)  # there may be a thousand
        return (concerned, others) if concerned else (batch, ())

    def _concerns(self, pending: _Pending, host: Ref[Host]) -> bool:
        """Whether a call by itself would have a host do anything; one that would be refused now concerns none."""
        call, txn = pending.call, self._database.begin()
        context = self.context(txn, call.session, call.task)
        try:
            call.rule(context, **call.arguments)
        except (
            Exception
        ):  # whatever it is, the call hears of it when it is carried out without that host's calls
            return False
        return host in self._rollouts.concerned(txn, [context])

    async def _decide_all(
        self, txn: Txn, batch: Sequence[_Pending]
    ) -> tuple[list[_Decided], list[tuple[_Pending, errors.Failure]]]:
        """What is to be carried out, and whom to refuse then: perhaps because of a change that comes to nothing."""
        decided: list[_Decided] = []
        refused: list[tuple[_Pending, errors.Failure]] = []
        began = monotonic()
        for pending in batch:
            if monotonic() - began > BREATH_S:
                await asyncio.sleep(0)
                began = monotonic()
            outcome = self._decide(txn, pending)
            if isinstance(outcome, _Decided):
                decided.append(outcome)
            elif outcome is not None and decided:
                refused.append((pending, outcome))
            elif outcome is not None:
                _fail(pending.answer, outcome)
        return decided, refused

    def _decide(self, txn: Txn, pending: _Pending) -> _Decided | errors.Failure | None:
        """Has the rule of a call decide; gives its refusal if it is one, and nothing for a call that is withdrawn."""
        if pending.answer.done():  # the client hung up while it waited
            return None
        pending.started = True
        overlay = txn.nested()
        call = pending.call
        context = self.context(overlay, call.session, call.task)
        try:
            result = call.rule(context, **call.arguments)
        except errors.Failure as failure:
            return failure
        except Exception as error:  # a bug in a rule is that call's failure and nobody else's
            log.exception("rule-failed", method=call.method)
            return _bug(error)
        changes = overlay.changes()
        entry = audit_notes.decided_by(changes, context, txn) if pending.audited is not None else None
        overlay.merge()
        return _Decided(pending, result, changes, context, entry)

    # --- changes of the database alone -------------------------------------------------------------------------

    async def _serve_writes(self) -> None:
        while True:
            await self._wake_writes.wait()
            self._wake_writes.clear()
            while self._writes:
                batch, self._writes = self._writes[:CALLS_PER_BATCH_MAX], self._writes[CALLS_PER_BATCH_MAX:]
                try:
                    async with self._turns[1]:
                        await self._commit_writes(batch)
                except Exception as error:  # the loop outlives every bug; the callers hear of it
                    log.exception("writes-failed")
                    for write in batch:
                        _fail(write.answer, _bug(error))

    async def _commit_writes(self, batch: Sequence[_Write]) -> None:
        txn = self._database.begin()
        results: list[tuple[asyncio.Future[Value], Value]] = []
        refused: list[tuple[asyncio.Future[Value], errors.Failure]] = []
        notes: list[bytes] = []
        noted: list[Audited] = []
        for write in batch:
            change, answer = write.change, write.answer
            if answer.done():
                continue
            overlay = txn.nested()
            try:
                result = change(overlay)
            except errors.Failure as failure:
                refused.append((answer, failure))
                continue
            except Exception as error:  # a bug in one change is that call's failure and nobody else's
                log.exception("write-failed")
                refused.append((answer, _bug(error)))
                continue
            note = audit_notes.of_write(write.audited, overlay, txn)
            if note is not None and write.audited is not None:
                notes.append(note)
                noted.append(write.audited)
            overlay.merge()
            results.append((answer, result))
        try:
            await self._database.commit(txn.changes(), notes)
        except DatabaseError as error:
            await self._commit_one_by_one(batch, error)
            return
        for audited in noted:
            audited.records += 1
        for answer, refusal in refused:
            _fail(answer, refusal)
        for answer, result in results:
            if not answer.done():
                answer.set_result(result)

    async def _commit_one_by_one(self, batch: Sequence[_Write], reason: DatabaseError) -> None:
        """Carries changes out alone that could not be committed together, because of one of them or of the disk.

        Also those that were refused: perhaps because of others that are not committed now.
        """
        log.info("writes-split", changes=len(batch), reason=str(reason))
        for write in batch:
            answer = write.answer
            for attempt in range(TRIES_MAX):
                if answer.done():
                    break
                txn = self._database.begin()
                try:
                    result = write.change(txn)
                    note = audit_notes.of_write(write.audited, txn, self._database.view)
                    await self._database.commit(txn.changes(), () if note is None else (note,))
                    if note is not None and write.audited is not None:
                        write.audited.records += 1
                except errors.Failure as failure:
                    _fail(answer, failure)
                except Conflict as error:
                    if attempt == TRIES_MAX - 1:
                        _fail(answer, errors.internal_error(str(error)))
                except DatabaseError as error:
                    _fail(answer, errors.internal_error(str(error)))
                except Exception as error:  # a bug in one change is that call's failure and nobody else's
                    log.exception("write-failed")
                    _fail(answer, _bug(error))
                else:
                    if not answer.done():
                        answer.set_result(result)


def _together(queue: Sequence[_Pending]) -> int:
    """How many of the first calls in the queue may be planned together: one that has to be agreed on is alone."""
    if queue[0].call.before_commit is not None:
        return 1
    alone = (number for number, each in enumerate(queue) if each.call.before_commit is not None)
    return min(next(alone, len(queue)), CALLS_PER_BATCH_MAX)


def _written(changes: Changes) -> Iterator[Key]:
    """What was made or changed."""
    yield from ((type(row), row.ref) for row in changes.created)
    yield from changes.updated


def _told_of(view: View, changes: Iterable[Changes]) -> set[Ref[Host]]:
    """The hosts whose reports say something of the PIFs, bonds and virtual functions that were made, changed or given.

    Of a VLAN without an address they say nothing, and there may be hundreds.
    """
    keys = chain.from_iterable(map(_written, changes))
    return {host for cls, ref in keys if (host := _who_tells(view, cls, ref)) is not None}


def _who_tells(view: View, cls: type[Row], ref: str) -> Ref[Host] | None:
    if cls is PCI:
        pci = view.find(PCI, Ref(ref))
        return pci.host if pci is not None and pci.attached_VMs else None
    if cls is Bond:
        bond = view.find(Bond, Ref(ref))
        master = view.find(PIF, bond.master) if bond is not None else None
        return master.host if master is not None else None
    pif = view.find(PIF, Ref(ref)) if cls is PIF else None
    return pif.host if pif is not None and _is_reported(pif) else None


def _is_reported(pif: PIF) -> bool:
    """Does a host report links or addresses of such a PIF?"""
    return (
        pif.physical
        or pif.management
        or bool(pif.bond_master_of or pif.sriov_logical_PIF_of)
        or pif.ip_configuration_mode is not IpConfigurationMode.NONE
        or pif.ipv6_configuration_mode is not Ipv6ConfigurationMode.NONE
    )


def _new_uuid() -> str:
    return str(uuid4())


def _note_failure(answer: asyncio.Future[Value]) -> None:
    if not answer.cancelled() and (error := answer.exception()) is not None:
        log.warning("reports-not-recorded", reason=str(error))


def _fail(answer: asyncio.Future[Value], failure: Exception) -> None:
    if not answer.done():
        answer.set_exception(failure)


def _bug(error: Exception) -> errors.Failure:
    """What a bug is to the client whose call met it."""
    return errors.internal_error(f"{type(error).__name__}: {error}")


def _worth_another_try(pending: _Pending, error: Exception) -> bool:
    pending.conflicts += isinstance(error, Conflict)
    return isinstance(error, Conflict) and pending.conflicts < TRIES_MAX


def as_failure(error: Exception, view: View, call: RuleCall) -> errors.Failure:
    """What a host's refusal, the database's, or a bug means to the client that called (spec §6.2, §9.2)."""
    if isinstance(error, errors.Failure):
        return error
    if isinstance(error, HostGone):
        log.warning("host-not-reached", host=error.host, reason=str(error))
        return errors.cannot_contact_host(error.host or next(iter(view.refs(Host)), NULL))
    if isinstance(error, DatabaseError):
        return errors.internal_error(str(error))
    if not isinstance(error, HostRefused):
        return _bug(error)
    refused = error.refused
    if refused.fault is protocol.Fault.VLAN_IN_USE:
        device, _, tag = refused.subject.rpartition(".")
        return errors.vlan_in_use(device, int(tag))
    if refused.fault is protocol.Fault.FUNCTIONS_FAILED and call.method in _SWITCHING:
        return _SWITCHING[call.method](_pif_of(view, call), f"{refused.subject} {refused.message}".strip())
    if refused.fault is protocol.Fault.GUEST_FAILED and call.method == "VIF.unplug":
        return errors.device_detach_rejected("VIF", str(call.arguments["self"]), refused.message)
    about_pifs = call.method.startswith(
        ("PIF.", "VLAN.", "Bond.", "tunnel.", "network.", "network_sriov.", "pool.", "host.management")
    )
    if about_pifs or refused.fault in (protocol.Fault.UNREACHABLE, protocol.Fault.ADDRESS_TAKEN):
        return errors.pif_configuration_error(
            _pif_of(view, call), f"{refused.subject} {refused.message}".strip()
        )
    return errors.internal_error(f"{refused.fault}: {refused.message}")


def _pif_of(view: View, call: RuleCall) -> Ref[Any]:
    """The PIF that a call is about: given to it, or that of the bond, VLAN, tunnel or SR-IOV object that is."""
    for name in ("self", "tagged_PIF", "transport_PIF", "pif", "members"):
        value = call.arguments.get(name)
        if isinstance(value, tuple) and value:
            value = value[0]
        if isinstance(value, str) and value:
            if (bond := view.find(Bond, Ref[Bond](value))) is not None:
                return bond.master
            if (vlan := view.find(VLAN, Ref[VLAN](value))) is not None:
                return vlan.untagged_PIF
            if (tunnel := view.find(Tunnel, Ref[Tunnel](value))) is not None:
                return tunnel.access_PIF
            if (sriov := view.find(NetworkSriov, Ref[NetworkSriov](value))) is not None:
                return sriov.logical_PIF
            return Ref(value)
    return NULL
