"""How do libvirt's domains serve as guests? The runtime of a KVM host (docs/decisions/0021).

A guest is a domain that somebody has defined, started with NICs of our making, or one that is made from the VM alone. It is
started with its processors standing still, so that its host ends exist and can be connected and locked before it runs. What
exists is kept in one JSON file for each guest, and in the domain's own XML there is a mark: a domain that runs without it, or
with another, was started by somebody else. A daemon that starts again finds its guests by both, and touches none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec
import structlog

from poolnet.hostd.guests import domain_xml, host_ends
from poolnet.hostd.guests.domain_records import DomainRecord, DomainRecords, State, record_of
from poolnet.hostd.guests.domain_xml import Hypervisor, NotADomain
from poolnet.hostd.guests.libvirt_link import Found, LibvirtError, Link
from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostd.run import CommandFailed
from poolnet.hostnet.facts import GuestFacts
from poolnet.hostnet.protocol import (
    CreateGuest,
    DepartGuest,
    DestroyGuest,
    GuestAction,
    GuestImage,
    GuestNic,
    GuestSpec,
    PauseGuest,
    PlugNic,
    RaiseNic,
    ReceiveGuest,
    ResumeGuest,
    RunGuest,
    ShutDownGuest,
    SuspendGuest,
    UnplugNic,
)

LOG = structlog.stdlib.get_logger("poolnet.hostd.guests")
LETS_GO_WITHIN_S: Final = 10.0  # a guest that is asked to give a NIC back
COMES_WITHIN_S: Final = 20.0  # the rollout for a guest that has ended as it was asked to
ENDS_WITHIN_S: Final = 30.0  # a domain that was destroyed
_LOOK_S: Final = 1.0  # no event comes while libvirt's daemon starts again


class LibvirtRuntime:
    """Implements `GuestRuntime` with libvirt.

    Args:
        link: The connection, not yet open.
        hypervisor: What runs a guest for which no domain is defined.
        offered: Patterns of the names of the domains that may be guests.
        run_dir: Where guests are kept that are there until the host boots.
        state_dir: Where suspended ones are kept, with their memory.
    """

    def __init__(
        self, link: Link, hypervisor: Hypervisor, offered: Sequence[str], run_dir: Path, state_dir: Path
    ) -> None:
        self._link = link
        self._hypervisor = hypervisor
        self._offered = offered
        self._records = DomainRecords(run_dir, state_dir)
        self._offloads = False
        self._news: dict[str, asyncio.Event] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._ending: dict[str, int] = {}
        self._closed = False
        self._looking: set[asyncio.Task[None]] = set()
        self._changed: Callable[[], None] = lambda: None

    async def open(self, changed: Callable[[], None]) -> None:
        """See `GuestRuntime.open`."""
        self._changed = changed
        self._records.open()
        try:
            await self._link.open(self._hear, self._look_at_all)
        except LibvirtError as error:
            LOG.error("guests cannot run here", error=str(error))  # noqa: TRY400 - what is wrong is outside
        if self._looking:
            await asyncio.wait(self._looking)

    async def close(self) -> None:
        """See `GuestRuntime.close`."""
        self._closed = True
        for task in tuple(self._looking):
            task.cancel()
        if self._looking:
            await asyncio.wait(self._looking)
        await self._link.close()

    def guests(self) -> tuple[GuestFacts, ...]:
        """See `GuestRuntime.guests`."""
        listed = (record for record in self._records if record.state != "suspended")
        return tuple(
            GuestFacts(
                vm_uuid=record.vm_uuid,
                domid=record.domid,
                state=record.state,
                mobile=False,
                asked_first=True,
            )
            for record in sorted(listed, key=lambda record: record.domid)
        )

    async def set_offloads(self, *, allowed: bool) -> None:
        """See `GuestRuntime.set_offloads`. A guest learns at its start what its NIC can do, and keeps to it."""
        if self._offloads and not allowed:
            for record in self._records:
                if record.state in {"running", "paused"}:
                    LOG.warning("a guest must be started anew to be heard well", guest=record.name)
        self._offloads = allowed

    async def ask_to_end(self, vm_uuid: str, timeout_s: float) -> None:
        """See `GuestRuntime.ask_to_end`. One that does not goes on: what it has not written yet is not for us to lose."""
        record = self._living(vm_uuid)
        self._ending[vm_uuid] = self._ending.get(vm_uuid, 0) + 1
        try:
            await self._until_ended(record, timeout_s)
        except BaseException as error:
            self._forget_ending(vm_uuid)
            if isinstance(error, LibvirtError):
                raise GuestError(vm_uuid, str(error)) from error
            raise
        # Reported as ended if nobody comes who wanted that.
        asyncio.get_running_loop().call_later(COMES_WITHIN_S, self._forget_ending, vm_uuid)

    def _forget_ending(self, vm_uuid: str) -> None:
        left = self._ending.pop(vm_uuid, 0) - 1
        if left > 0:
            self._ending[vm_uuid] = left
        elif not self._closed:
            self._look_soon(vm_uuid)

    async def carry_out(self, action: GuestAction) -> None:
        """See `GuestRuntime.carry_out`."""
        vm_uuid = _of(action)
        async with self._turns.setdefault(vm_uuid, asyncio.Lock()):
            try:
                await self._carry_out(action)
            except (LibvirtError, NotADomain, CommandFailed, OSError) as error:
                raise GuestError(vm_uuid, str(error)) from error
        self._changed()

    async def _carry_out(self, action: GuestAction) -> None:
        match action:
            case CreateGuest(guest=guest):
                await self._create(guest)
            case ResumeGuest(guest=guest):
                await self._resume(guest)
            case RunGuest(vm_uuid=vm_uuid):
                await self._run(self._living(vm_uuid))
            case PauseGuest(vm_uuid=vm_uuid):
                record = self._living(vm_uuid)
                await self._link.stand_still(record.domain)
                self._records.keep(record, state="paused")
            case SuspendGuest(vm_uuid=vm_uuid):
                await self._suspend(self._living(vm_uuid))
            case ShutDownGuest(vm_uuid=vm_uuid, timeout_s=timeout_s):
                await self._shut_down(self._living(vm_uuid), timeout_s)
            case DestroyGuest(vm_uuid=vm_uuid):
                await self._destroy(vm_uuid)
            case PlugNic() | UnplugNic() | RaiseNic():
                await self._change_nic(action)
            case DepartGuest() | ReceiveGuest():
                raise GuestError(_of(action), "a guest of libvirt cannot be sent to another host")

    async def _change_nic(self, action: PlugNic | UnplugNic | RaiseNic) -> None:
        match action:
            case PlugNic(vm_uuid=vm_uuid, nic=nic):
                await self._plug(self._living(vm_uuid), nic)
            case UnplugNic(vm_uuid=vm_uuid, device=device, force=force):
                await self._unplug(vm_uuid, device, force=force)
            case RaiseNic(vm_uuid=vm_uuid, device=device):
                record = self._living(vm_uuid)
                await self._raise_ends(record, [nic for nic in record.nics if nic.device == device])

    async def read(self, vm_uuid: str) -> GuestImage:
        """See `GuestRuntime.read`."""
        raise GuestError(vm_uuid, "a guest of libvirt cannot be sent to another host")

    async def load(self, loaded: GuestImage) -> None:
        """See `GuestRuntime.load`."""
        raise GuestError(loaded.vm_uuid, "a guest of libvirt cannot come from another host")

    # --- starting ----------------------------------------------------------------------------------------------

    async def _create(self, guest: GuestSpec) -> None:
        await self._make_room(guest)
        found = await self._domain_of(guest)
        queues: dict[int, int] = {}
        if found is None:
            xml = domain_xml.fresh(guest, self._hypervisor, offloads=self._offloads)
        else:
            definition = await self._link.definition(found.uuid)
            queues = dict(domain_xml.queues(definition, guest.nics))
            xml = domain_xml.defined(definition, guest, offloads=self._offloads)
        record = record_of(guest, found.uuid if found is not None else guest.vm_uuid)
        self._records.keep(record)
        try:
            for nic in guest.nics:
                await self._make_end(record, nic, queues.get(nic.device, 1))
            await self._link.create(xml)
        except BaseException:
            with suppress(LibvirtError):  # it may be there all the same, when the answer came too late
                if await self._is_here(record):
                    await self._link.end(record.domain)
            await self._remove(record)
            raise

    async def _make_room(self, guest: GuestSpec) -> None:
        """Removes what is left of the VM's last guest. Raises GuestError if that still exists."""
        old = self._records.find(guest.vm_uuid)
        if old is None:
            return
        if old.state != "stopped":
            raise GuestError(guest.vm_uuid, f"guest {guest.name} exists already as domain {old.domid}")
        await self._remove(old)

    async def _domain_of(self, guest: GuestSpec) -> Found | None:
        """The domain that a VM is: the one that it names, else the one of its uuid, else the one of its name.

        None if there is none, and it names none. Raises GuestError when it may not be had, or runs already.
        """
        if guest.domain:
            found = await self._link.find(guest.domain)
            if found is None:
                raise GuestError(guest.vm_uuid, f"libvirt has no domain {guest.domain} on this host")
        else:
            found = await self._link.find(guest.vm_uuid)
            if found is None and guest.name.strip():
                found = await self._link.find(guest.name)
        if found is None:
            return None
        if not any(fnmatchcase(found.name, pattern) for pattern in self._offered):
            raise GuestError(guest.vm_uuid, f"domain {found.name} is not among those that poolnet may start")
        for other in self._records:
            if other.domain == found.uuid and other.vm_uuid != guest.vm_uuid and other.state != "stopped":
                raise GuestError(guest.vm_uuid, f"domain {found.name} is VM {other.vm_uuid} already")
        if found.active:
            reason = "was started by somebody else, with interfaces that no lock is on: shut it down first"
            raise GuestError(guest.vm_uuid, f"domain {found.name} runs already: it {reason}")
        return found

    async def _run(self, record: DomainRecord) -> None:
        await self._raise_ends(record, record.nics)
        await self._link.go_on(record.domain)
        self._records.keep(record, state="running")

    # --- ending ------------------------------------------------------------------------------------------------

    async def _shut_down(self, record: DomainRecord, timeout_s: float) -> None:
        await self._until_ended(record, timeout_s)
        self._records.keep(record, state="stopped")

    async def _until_ended(self, record: DomainRecord, timeout_s: float) -> None:
        """Asks a guest to end, and waits for it; one that has ended is not asked. Raises GuestError, LibvirtError."""
        if not await self._is_here(record):
            return
        try:
            await self._link.ask_to_end(record.domain)
        except LibvirtError:
            if await self._is_here(record):
                raise
        if not await self._comes(record, self._has_ended(record), timeout_s):
            raise GuestError(record.vm_uuid, f"guest {record.name} has not shut down within {timeout_s:g} s")

    async def _destroy(self, vm_uuid: str) -> None:
        record = self._records.find(vm_uuid)
        if record is None:
            return
        if record.state != "stopped" and await self._is_here(record):
            await self._link.end(record.domain)
            if not await self._comes(record, self._has_ended(record), ENDS_WITHIN_S):
                raise GuestError(vm_uuid, f"guest {record.name} cannot be ended")
        await self._remove(record)

    async def _is_here(self, record: DomainRecord) -> bool:
        """Whether the guest's domain is there, and is still this guest."""
        if record.state == "suspended":
            return False
        seen = await self._link.seen(record.domain)
        return seen.state != "stopped" and seen.mark == record.mark

    def _has_ended(self, record: DomainRecord) -> Callable[[], Awaitable[bool]]:
        async def ended() -> bool:
            return not await self._is_here(record)

        return ended

    async def _remove(self, record: DomainRecord) -> None:
        """Removes what is left of a guest that does not run."""
        await self._remove_ends(record)
        self._records.forget(record.vm_uuid)

    # --- sleeping ----------------------------------------------------------------------------------------------

    async def _suspend(self, record: DomainRecord) -> None:
        memory = self._records.memory(record.vm_uuid)
        try:
            await self._link.save(record.domain, memory)
        except LibvirtError:
            memory.unlink(missing_ok=True)
            raise
        await self._remove_ends(record)
        self._records.keep(msgspec.structs.replace(record, domid=-1), state="suspended")

    async def _resume(self, guest: GuestSpec) -> None:
        old = self._records.find(guest.vm_uuid)
        memory = self._records.memory(guest.vm_uuid)
        if old is None or old.state != "suspended" or not memory.exists():
            raise GuestError(guest.vm_uuid, f"what guest {guest.name} had in memory is not on this host")
        xml = domain_xml.restored(await self._link.saved(memory), guest)
        queues = domain_xml.queues(xml, guest.nics)
        record = record_of(guest, old.domain)
        try:
            for nic in guest.nics:
                await self._make_end(record, nic, queues.get(nic.device, 1))
            await self._link.restore(memory, xml)
        except BaseException:
            await self._remove_ends(record)
            raise
        self._records.keep(record)
        memory.unlink(missing_ok=True)

    # --- NICs --------------------------------------------------------------------------------------------------

    async def _plug(self, record: DomainRecord, nic: GuestNic) -> None:
        if any(nic.device == other.device for other in record.nics):
            raise GuestError(record.vm_uuid, f"guest {record.name} has a NIC {nic.device} already")
        await self._make_end(record, nic, 1)
        try:
            xml = domain_xml.interface(nic, record.domid, offloads=self._offloads)
            await self._link.attach(record.domain, xml)
        except BaseException:
            await host_ends.remove(host_ends.vif_name(record.domid, nic.device))
            raise
        self._records.keep(record, nics=(*record.nics, nic))

    async def _unplug(self, vm_uuid: str, device: int, *, force: bool) -> None:
        record = self._records.find(vm_uuid)
        if record is None or all(nic.device != device for nic in record.nics):
            return
        if await self._is_here(record) and not await self._is_let_go(record, device):
            await self._link.detach(record.domain, domain_xml.alias(device))
            within_s = 0.0 if force else LETS_GO_WITHIN_S

            async def let_go() -> bool:
                return await self._is_let_go(record, device)

            if not await self._comes(record, let_go, within_s) and not force:
                reason = f"has not let NIC {device} go within {LETS_GO_WITHIN_S:g} s"
                raise GuestError(vm_uuid, f"guest {record.name} {reason}")
        await host_ends.remove(host_ends.vif_name(record.domid, device))
        self._records.keep(record, nics=tuple(nic for nic in record.nics if nic.device != device))

    async def _is_let_go(self, record: DomainRecord, device: int) -> bool:
        return domain_xml.alias(device) not in domain_xml.aliases(await self._link.running(record.domain))

    async def _make_end(self, record: DomainRecord, nic: GuestNic, queues: int) -> None:
        if not nic.function:
            vif = host_ends.vif_name(record.domid, nic.device)
            await host_ends.make_tap(vif, nic.mtu_bytes, several_queues=queues > 1)

    async def _remove_ends(self, record: DomainRecord) -> None:
        for nic in record.nics:
            if not nic.function:
                await host_ends.remove(host_ends.vif_name(record.domid, nic.device))

    async def _raise_ends(self, record: DomainRecord, nics: Sequence[GuestNic]) -> None:
        for nic in nics:
            if not nic.function:
                await host_ends.raise_end(host_ends.vif_name(record.domid, nic.device))

    # --- what becomes of them by themselves --------------------------------------------------------------------

    def _hear(self, domain: str) -> None:
        """Something has become of a domain: those who wait look, and so do we."""
        for record in self._records:
            if record.domain == domain:
                self._news_of(record.vm_uuid).set()
                self._look_soon(record.vm_uuid)

    def _look_at_all(self) -> None:
        for record in self._records:
            self._look_soon(record.vm_uuid)

    def _look_soon(self, vm_uuid: str) -> None:
        task = asyncio.create_task(self._look(vm_uuid), name=f"look-{vm_uuid}")
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, vm_uuid: str) -> None:
        """Notes what has become of a guest, unless somebody is about to change it, who will know."""
        async with self._turns.setdefault(vm_uuid, asyncio.Lock()):
            record = self._records.find(vm_uuid)
            if record is None or record.is_asleep or vm_uuid in self._ending:
                return
            try:
                seen = await self._link.seen(record.domain)
            except LibvirtError as error:  # when it is reached again, all are looked at
                LOG.warning("a guest cannot be looked at", guest=record.name, error=str(error))
                return
            state: State = seen.state if seen.mark == record.mark else "stopped"
            if state != record.state:
                LOG.info("a guest has changed by itself", guest=record.name, state=state)
                self._records.keep(record, state=state)
                self._changed()

    async def _comes(
        self, record: DomainRecord, holds: Callable[[], Awaitable[bool]], within_s: float
    ) -> bool:
        """Waits until that holds, which is looked at after each event."""
        news = self._news_of(record.vm_uuid)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_s
        while True:
            news.clear()
            if await holds():
                return True
            left_s = deadline - loop.time()
            if left_s <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, _LOOK_S)):
                    await news.wait()

    def _news_of(self, vm_uuid: str) -> asyncio.Event:
        return self._news.setdefault(vm_uuid, asyncio.Event())

    # --- records -----------------------------------------------------------------------------------------------

    def _living(self, vm_uuid: str) -> DomainRecord:
        record = self._records.find(vm_uuid)
        if record is None:
            raise GuestError(vm_uuid, f"there is no guest {vm_uuid}")
        if record.is_asleep:
            raise GuestError(vm_uuid, f"guest {record.name} is {record.state}")
        return record


def _of(action: GuestAction) -> str:
    """The VM that an action is about."""
    if isinstance(action, CreateGuest | ResumeGuest | ReceiveGuest):
        return action.guest.vm_uuid
    return action.vm_uuid
