"""How do hosts become what was decided, and the decision durable? Stage, switch, confirm, commit; or all back.

The coordinator hands it a batch of decided calls, start-up and the facts loop have it bring a host in step. One rollout
runs at a time: whoever changes a host knows that nobody else is changing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol
from uuid import uuid4

from poolnet.db.changes import Changes
from poolnet.db.database import Database
from poolnet.db.txn import View
from poolnet.hostnet import protocol
from poolnet.hostnet.derive import derive
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.steps import Disturbance
from poolnet.model.classes.host import Host
from poolnet.model.classes.vm import VM
from poolnet.model.enums import VmPowerState
from poolnet.model.types import Ref
from poolnet.pool.guard import Guard, callers_to_ask, within_s
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.rules.context import CallContext, Phase

DRY_RUN: Final = "dry-run"
CONFIRMING_S: Final = 0.5  # for the confirmation itself, after everybody was found to be there
_ALIVE: Final = (VmPowerState.RUNNING, VmPowerState.PAUSED)


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

    async def look(self, host: Ref[Host]) -> None:
        """Has a host report its facts now; raises `HostRefused` or `HostGone`."""

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        """The facts that each host reported last."""


@dataclass(slots=True)
class HostWork:
    """What one rollout does on one host; `begun` is its id once the host may have changed.

    `refused` when the host said that it did not change.
    """

    desired: HostNetwork
    before: list[protocol.GuestAction] = field(default_factory=list)
    after: list[protocol.GuestAction] = field(default_factory=list)
    begun: str = ""
    refused: bool = False


class Rollouts:
    """Carries decisions out on the hosts, and makes them durable.

    Args:
        database: The pool database.
        hosts: How hosts are reached.
    """

    def __init__(self, database: Database, hosts: Hosts) -> None:
        self._database = database
        self._hosts = hosts
        self._applied: dict[Ref[Host], HostNetwork] = {}
        self._one_at_a_time = asyncio.Lock()

    async def carry_out(
        self,
        view: View,
        contexts: Sequence[CallContext],
        changes: Sequence[Changes],
        guards: Sequence[Guard] = (),
    ) -> None:
        """Makes the hosts what `view` says, and commits the changes that lead there.

        Raises:
            HostRefused: A host could not be made so, or could not be reached afterwards.
            HostGone: A host cannot be reached.
            DatabaseError: The changes could not be committed. In all three cases all hosts are brought back.
        """
        async with self._one_at_a_time:
            works = self._works(view, contexts)
            try:
                await self._switch(works, contexts, guards)
                await self._database.commit(changes)
            except BaseException:
                await self._go_back(works, contexts)
                raise
            for host, work in works.items():
                self._applied[host] = work.desired

    async def _switch(
        self, works: Mapping[Ref[Host], HostWork], contexts: Sequence[CallContext], guards: Sequence[Guard]
    ) -> None:
        rollout = str(uuid4())
        plans = {host: await self._stage(host, rollout, work) for host, work in works.items()}
        armed: list[Ref[Host]] = []
        for host, work in works.items():
            risky = plans[host].plan.disturbance >= Disturbance.MANAGEMENT
            time_s = within_s(guards, management=risky)
            began = asyncio.get_running_loop().time()
            work.begun = rollout
            command = protocol.Switch(rollout=rollout, confirm_within_s=time_s, reachable=time_s is not None)
            try:
                done = await self._hosts.switch(host, command)
            except HostRefused:
                work.refused = True
                raise
            if time_s is not None:
                armed.append(host)
                left_s = began + time_s - asyncio.get_running_loop().time() - CONFIRMING_S
                await _require_callers(guards, work.desired, done.facts, max(left_s, CONFIRMING_S))
        for context in contexts:
            for host, name in context.hostname_changes:
                await self._hosts.set_hostname(host, name)
        for host in armed:
            await self._hosts.settle(host, protocol.Confirm(rollout=rollout))

    def _works(self, view: View, contexts: Sequence[CallContext]) -> dict[Ref[Host], HostWork]:
        """What is to be done where; hosts that nothing changes on are left out."""
        works = {}
        for host in self._hosts.reachable():
            work = _work(view, host, contexts)
            if work.before or work.after or self._applied.get(host) != work.desired:
                works[host] = work
        return works

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

    async def _go_back(self, works: Mapping[Ref[Host], HostWork], contexts: Sequence[CallContext]) -> None:
        """Brings hosts back to what the database says, also those of which nobody knows how far they came.

        Best effort: start-up and the return of a host daemon do it again.
        """
        view = self._database.view
        for host, work in works.items():
            if not work.begun:
                continue
            self._applied.pop(host, None)
            if not work.refused:
                with suppress(HostGone, HostRefused):  # refused: it is confirmed already
                    await self._hosts.settle(host, protocol.Revert(rollout=work.begun))
            with suppress(HostGone, HostRefused):
                await self._converge(host, () if work.refused else undoing(view, work))
        renamed = {host for context in contexts for host, _ in context.hostname_changes}
        for host in renamed:
            row = view.find(Host, host)
            if row is not None:
                with suppress(HostGone, HostRefused):
                    await self._hosts.set_hostname(host, row.hostname)

    async def converge(self, host: Ref[Host], guests_before: Sequence[protocol.GuestAction] = ()) -> None:
        """Makes a host what the committed database says, for instance at start or when it comes back.

        Raises:
            HostRefused: The host could not be made so.
            HostGone: The host cannot be reached.
        """
        async with self._one_at_a_time:
            await self._converge(host, guests_before)

    async def _converge(self, host: Ref[Host], guests_before: Sequence[protocol.GuestAction]) -> None:
        rollout = str(uuid4())
        work = HostWork(derive(self._database.view, host), before=list(guests_before))
        try:
            await self._stage(host, rollout, work)
        except HostRefused as busy:
            if busy.refused.fault is not protocol.Fault.BUSY:
                raise
            # Of a server that died: nobody is left to confirm it.
            await self._hosts.settle(host, protocol.Revert(rollout=busy.refused.subject))
            await self._stage(host, rollout, work)
        await self._hosts.switch(host, protocol.Switch(rollout=rollout))
        self._applied[host] = work.desired

    async def plan(
        self, view: View, contexts: Sequence[CallContext]
    ) -> dict[Ref[Host], tuple[HostWork, protocol.Staged]]:
        """What each host would do if this transaction were carried out; nothing happens.

        Raises:
            HostRefused: A host cannot be made so.
            HostGone: A host cannot be reached.
        """
        answer = {}
        for host in self._hosts.reachable():
            work = _work(view, host, contexts)
            answer[host] = (work, await self._stage(host, DRY_RUN, work, dry_run=True))
        return answer


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


def _work(view: View, host: Ref[Host], contexts: Sequence[CallContext]) -> HostWork:
    work = HostWork(derive(view, host))
    for context in contexts:
        for target, phase, action in context.guest_actions:
            if target == host:
                (work.before if phase is Phase.BEFORE else work.after).append(action)
    return work


def undoing(view: View, work: HostWork) -> tuple[protocol.GuestAction, ...]:
    """What takes back the guest actions of a rollout that came to nothing, as far as they can be.

    A guest that the committed database takes to be alive is not touched: it may have refused to end. A guest that did
    end is noticed by itself, from the facts.
    """
    alive = {row.uuid for row in view.all(VM) if row.power_state in _ALIVE}
    undo: list[protocol.GuestAction] = []
    for action in reversed((*work.before, *work.after)):
        match action:
            case protocol.CreateGuest(guest=guest) if guest.vm_uuid not in alive:
                undo.append(protocol.DestroyGuest(vm_uuid=guest.vm_uuid))
            case protocol.ResumeGuest(guest=guest) if guest.vm_uuid not in alive:
                undo.append(protocol.SuspendGuest(vm_uuid=guest.vm_uuid))
            case protocol.PlugNic(vm_uuid=vm_uuid, nic=nic):
                undo.append(protocol.UnplugNic(vm_uuid=vm_uuid, device=nic.device))
            case _:
                pass
    return tuple(undo)
