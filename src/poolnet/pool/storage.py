"""Who carries out the calls about storage? Beside the rollouts: a server that is silent holds up its own callers only.

The coordinator hands over the calls whose rules leave actions on storage. A rule decides on a transaction of its own, the
hosts act, and what they did is committed; what cannot be committed is taken back. At the server's start the connections
that the database knows are made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, Protocol

import structlog

from poolnet.db.database import Database
from poolnet.db.errors import Conflict, DatabaseError
from poolnet.db.txn import Txn, View
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.protocol import Fault, StorageSpace
from poolnet.hostnet.storage import DetachStorage, StorageAction, undoing
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.pbd import PBD
from poolnet.model.classes.sr import SR
from poolnet.model.types import Ref, Value
from poolnet.pool import audit_entry
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.rules import pbd as pbd_rules
from poolnet.rules import sr as sr_rules
from poolnet.rules.context import CallContext
from poolnet.rules.storage_source import backend_failure

METHODS: Final = frozenset(
    ("SR.create", "SR.forget", "SR.destroy", "SR.scan", "SR.update", "PBD.destroy", "PBD.plug", "PBD.unplug")
)
TRIES_MAX: Final = 3  # of a call whose rows others changed while it was on its way
REPLUG_AFTER_S: Final = (
    0.0,
    5.0,
    15.0,
    40.0,
)  # addresses, routes and servers may come later than this server

log = structlog.get_logger("poolnet.pool.storage")

Decide = Callable[[CallContext], Value]


class StorageHosts(Protocol):
    """The hosts of the pool, as storage needs them."""

    async def storage(self, host: Ref[Host], action: StorageAction) -> StorageSpace:
        """Has a host act; raises `HostRefused` or `HostGone`."""


class StorageCalls:
    """Carries out calls about storage, one at a time on the same object.

    Args:
        database: The pool database.
        hosts: How hosts are reached.
    """

    def __init__(self, database: Database, hosts: StorageHosts) -> None:
        self._database = database
        self._hosts = hosts
        self._turns: dict[str, asyncio.Lock] = {}

    async def run(self, subject: Ref[Any], decide: Decide, context: Callable[[Txn], CallContext]) -> Value:
        """Carries a call out and returns its result once it is durable.

        `subject` is the SR or PBD that it is about, or the host where the SR is to be.

        Raises:
            Failure: The rule's refusal, or what the host's failure means to a client.
        """
        async with self._turn(self._storage_of(subject)):
            for attempt in range(TRIES_MAX):
                ctx = context(self._database.begin())
                result = decide(ctx)
                done: list[tuple[Ref[Host], StorageAction]] = []
                try:
                    await self._act(ctx, done)
                    audited, notes = audit_entry.current(), self._notes(ctx)
                    await self._database.commit(ctx.txn.changes(), notes)
                    if audited is not None:
                        audited.records += len(notes)
                except BaseException as error:
                    await asyncio.shield(self._take_back(done))
                    if isinstance(error, Conflict) and attempt < TRIES_MAX - 1:
                        continue
                    if isinstance(error, DatabaseError):
                        raise errors.internal_error(str(error)) from error
                    raise
                return result
        raise AssertionError("the last attempt returns or raises")

    def _notes(self, ctx: CallContext) -> list[bytes]:
        """What the audit log gets with the commit."""
        audited, changes = audit_entry.current(), ctx.txn.changes()
        if audited is None or not audit_entry.is_worth_a_note(changes):
            return []
        decided = audit_entry.Decided(
            changes=changes,
            destroyed=audit_entry.destroyed_rows(changes, self._database.view),
            storage=len(ctx.storage_actions),
        )
        return [audit_entry.entry_of(audited, audit_entry.SUCCESS, decided=decided, view=ctx.txn)]

    async def connect_again(
        self, host: Ref[Host], facts: HostFacts, context: Callable[[Txn], CallContext]
    ) -> None:
        """Makes a host that was started anew have the storage that the database says, and no other.

        What fails is tried again for a minute; then the connection counts as unplugged, and an alert says so.
        """
        view = self._database.view
        known = {
            sr.uuid
            for pbd in view.where(PBD, host=host)
            if pbd.currently_attached and (sr := view.find(SR, pbd.SR))
        }
        for uuid in set(facts.storage) - known:  # the server died before it could write that down
            with suppress(HostRefused, HostGone):
                await self._hosts.storage(host, DetachStorage(sr=uuid))
        lost = pbd_rules.lost(view, host, facts)
        await asyncio.gather(*(self._connect_again(ref, context) for ref in lost))

    async def _connect_again(self, ref: Ref[PBD], context: Callable[[Txn], CallContext]) -> None:
        reason = ""
        for wait_s in REPLUG_AFTER_S:
            await asyncio.sleep(wait_s)
            pbd = self._database.view.find(PBD, ref)
            if pbd is None or not pbd.currently_attached:
                return  # somebody has unplugged it meanwhile
            try:
                await self.run(ref, lambda ctx: pbd_rules.plug(ctx, self=ref), context)
            except errors.Failure as failure:
                reason = str(failure)
                log.warning("storage-not-connected", pbd=pbd.uuid, reason=reason)
            else:
                return
        with suppress(errors.Failure):
            await self.run(ref, lambda ctx: pbd_rules.give_up(ctx, self=ref, reason=reason), context)

    @asynccontextmanager
    async def _turn(self, key: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(key, asyncio.Lock())
        try:
            async with turn:
                yield
        finally:
            if not turn.locked():
                self._turns.pop(key, None)

    def _storage_of(self, subject: Ref[Any]) -> str:
        pbd = self._database.view.find(PBD, subject)
        return pbd.SR if pbd is not None else subject

    async def _act(self, ctx: CallContext, done: list[tuple[Ref[Host], StorageAction]]) -> None:
        for host, action in ctx.storage_actions:
            try:
                space = await self._hosts.storage(host, action)
            except HostGone as error:
                raise errors.cannot_contact_host(host) from error
            except HostRefused as error:
                refused = error.refused
                if refused.fault is not Fault.STORAGE_FAILED:
                    raise errors.internal_error(str(error)) from error
                kind = _kind((ctx.txn, self._database.view), action.sr)
                raise backend_failure(kind, refused.subject, refused.message) from error
            if space.changed:
                done.append((host, action))
            sr_rules.note_space(ctx.txn, action.sr, space)

    async def _take_back(self, done: Sequence[tuple[Ref[Host], StorageAction]]) -> None:
        for host, action in reversed(done):
            undo = undoing(action)
            if undo is not None:
                with suppress(HostRefused, HostGone):
                    await self._hosts.storage(host, undo)


def _kind(views: Sequence[View], uuid: str) -> str:
    """The type of the SR that an action is about, from the first view that has it."""
    return next((row.type for view in views for row in view.all(SR) if row.uuid == uuid), "")
