"""How does a network namespace serve as a guest? The runtime for the lab and for hosts without a hypervisor.

A guest is an init process in its own network, mount, UTS, IPC and PID namespaces. Its NICs are veth pairs: `vif<domid>.<n>`
on the host, `eth<n>` inside. What exists is kept in one JSON file for each guest under the run directory, so it
survives the daemon and is lost at a reboot, like the guests themselves.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import structlog

from poolnet.hostd.guests import image, namespaces
from poolnet.hostd.guests.addresses import AddressWatch
from poolnet.hostd.guests.host_ends import SILENT, disable_ipv6, remove, vif_name
from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostd.process_stat import started_at
from poolnet.hostd.run import CommandFailed, run
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

# The guest's own start: its name, its /proc and /sys, a private /run; then it waits until it is told to shut down.
_GUEST_INIT = """
set -e
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
hostname -- "$1"
ip link set lo up
trap 'exit 0' TERM INT
echo ready
exec >/dev/null 2>&1
while :; do sleep infinity & wait $!; done
"""
_KILL_WAIT_S = 10.0
_FREE_LOOKS, _FREE_LOOK_S = (
    100,
    0.05,
)  # the kernel takes its time with the namespace of a guest that has ended

State: TypeAlias = Literal["paused", "running", "suspended", "stopped", "departing", "arriving"]


class GuestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the run directory keeps of one guest. `pid` is that of its init in this host's PID namespace."""

    vm_uuid: str
    name: str
    domid: int
    state: State
    pid: int
    started: int
    nics: tuple[GuestNic, ...] = ()
    offloads: bool = False


class _Watched:
    """The descriptors held for a guest that lives."""

    def __init__(self, pidfd: int, addresses: AddressWatch) -> None:
        self.pidfd = pidfd
        self.addresses = addresses
        self.seen: tuple[tuple[int, str], ...] = ()


class NetnsRuntime:
    """Implements `GuestRuntime` with namespaces."""

    def __init__(self, run_dir: Path, net_device: Callable[[str], str] = lambda _: "") -> None:
        """`run_dir` holds the guests' records, for example /run/poolnet/guests; it is made when missing.

        `net_device` names the network interface of a virtual function by its PCI address, "" while a guest has it.
        """
        self._run_dir = run_dir
        self._net_device = net_device
        self._offloads = False
        self._records: dict[str, GuestRecord] = {}
        self._watched: dict[str, _Watched] = {}
        self._changed: Callable[[], None] = lambda: None

    async def open(self, changed: Callable[[], None]) -> None:
        """See `GuestRuntime.open`."""
        self._changed = changed
        self._run_dir.mkdir(parents=True, exist_ok=True)
        for path in sorted(self._run_dir.glob("*.json")):
            record = msgspec.json.decode(path.read_bytes(), type=GuestRecord)
            self._records[record.vm_uuid] = record
            if record.state != "stopped":
                self._watch(record)

    async def close(self) -> None:
        """See `GuestRuntime.close`."""
        for vm_uuid in tuple(self._watched):
            self._unwatch(vm_uuid)

    def guests(self) -> tuple[GuestFacts, ...]:
        """See `GuestRuntime.guests`."""
        listed = (record for record in self._records.values() if record.state != "suspended")
        return tuple(self._facts(record) for record in sorted(listed, key=lambda record: record.domid))

    async def set_offloads(self, *, allowed: bool) -> None:
        """See `GuestRuntime.set_offloads`."""
        self._offloads = allowed
        for record in tuple(self._records.values()):
            if record.state == "stopped" or record.offloads == allowed:
                continue
            try:
                for nic in record.nics:
                    await self._suit(record, nic)
            except GuestError as error:
                LOG.warning("a guest's NIC cannot be set up", error=str(error))
            else:
                self._keep(self._records[record.vm_uuid], offloads=allowed)

    async def ask_to_end(self, vm_uuid: str, timeout_s: float) -> None:
        """See `GuestRuntime.ask_to_end`."""

    async def carry_out(self, action: GuestAction) -> None:
        """See `GuestRuntime.carry_out`."""
        match action:
            case PlugNic() | UnplugNic() | RaiseNic():
                await self._change_nic(action)
            case DepartGuest() | ReceiveGuest():
                await self._wait(action)
            case CreateGuest(guest=guest):
                await self._create(guest)
            case ResumeGuest(guest=guest):
                await self._resume(guest)
            case RunGuest(vm_uuid=vm_uuid):
                await self._run(self._living(vm_uuid))
            case PauseGuest(vm_uuid=vm_uuid):
                record = self._living(vm_uuid)
                namespaces.freeze(record.pid)
                self._keep(record, state="paused")
            case SuspendGuest(vm_uuid=vm_uuid):
                await self._suspend(self._living(vm_uuid))
            case ShutDownGuest(vm_uuid=vm_uuid, timeout_s=timeout_s):
                await self._end(self._living(vm_uuid), timeout_s)
            case DestroyGuest(vm_uuid=vm_uuid):
                await self._destroy(vm_uuid)
        self._changed()

    async def _change_nic(self, action: PlugNic | UnplugNic | RaiseNic) -> None:
        match action:
            case PlugNic(vm_uuid=vm_uuid, nic=nic):
                await self._plug(self._living(vm_uuid), nic)
            case UnplugNic(vm_uuid=vm_uuid, device=device):
                await self._unplug(vm_uuid, device)
            case RaiseNic(vm_uuid=vm_uuid, device=device):
                record = self._living(vm_uuid)
                await self._raise_nics(record, [nic for nic in record.nics if nic.device == device])

    async def _wait(self, action: DepartGuest | ReceiveGuest) -> None:
        if isinstance(action, DepartGuest):
            await self._depart(self._living(action.vm_uuid))
            return
        await self._create(action.guest)
        self._keep(self._records[action.guest.vm_uuid], state="arriving")

    async def _create(self, guest: GuestSpec) -> None:
        if (old := self._records.get(guest.vm_uuid)) is not None:
            if old.state != "stopped":
                raise GuestError(guest.vm_uuid, f"guest {guest.name} exists already as domain {old.domid}")
            await self._destroy(guest.vm_uuid)
        name = (
            "".join(c if c.isalnum() and c.isascii() else "-" for c in guest.name)[:63].strip("-") or "guest"
        )
        try:
            pid = await namespaces.launch(("sh", "-c", _GUEST_INIT, "guest-init", name))
        except namespaces.LaunchError as error:
            raise GuestError(guest.vm_uuid, f"guest {guest.name} did not start: {error}") from error
        record = GuestRecord(
            vm_uuid=guest.vm_uuid,
            name=guest.name,
            domid=guest.domid,
            state="paused",
            pid=pid,
            started=started_at(pid),
            nics=guest.nics,
            offloads=self._offloads,
        )
        self._keep(record)
        try:
            for nic in guest.nics:
                await self._make_nic(record, nic)
        except GuestError:
            await self._destroy(guest.vm_uuid)
            raise
        namespaces.freeze(pid)
        self._watch(record)

    async def _run(self, record: GuestRecord) -> None:
        await self._raise_nics(record, record.nics)
        namespaces.thaw(record.pid)
        self._keep(record, state="running")

    async def _depart(self, record: GuestRecord) -> None:
        """Freeze the guest and take its NICs down: its kernel would go on answering while its processes stand still."""
        self._keep(record, state="departing")
        namespaces.freeze(record.pid)
        for nic in record.nics:
            await self._ip(record, "link", "set", vif_name(record.domid, nic.device), "down")

    async def read(self, vm_uuid: str) -> GuestImage:
        """See `GuestRuntime.read`."""
        return await image.read(vm_uuid, self._inside_of(self._waiting(vm_uuid, "departing")))

    async def load(self, loaded: GuestImage) -> None:
        """See `GuestRuntime.load`."""
        record = self._waiting(loaded.vm_uuid, "arriving")
        try:
            await image.load(loaded, self._inside_of(record))
        except ValueError as error:
            raise GuestError(loaded.vm_uuid, f"guest {record.name} cannot have that: {error}") from error

    def _waiting(self, vm_uuid: str, state: State) -> GuestRecord:
        record = self._living(vm_uuid)
        if record.state != state:
            raise GuestError(vm_uuid, f"guest {record.name} is {record.state}, not {state}")
        return record

    def _inside_of(self, record: GuestRecord) -> image.Inside:
        async def inside(*words: str) -> str:
            return await self._command(record, *_inside(record), "ip", *words)

        return inside

    async def _suspend(self, record: GuestRecord) -> None:
        """Freeze the guest and park the host ends inside it, so that its NICs keep their addresses meanwhile."""
        namespaces.freeze(record.pid)
        for nic in record.nics:
            parked = ("down", "netns", str(record.pid), "name", f"parked{nic.device}")
            await self._ip(record, "link", "set", vif_name(record.domid, nic.device), *parked)
        self._keep(record, state="suspended", domid=-1)

    async def _resume(self, guest: GuestSpec) -> None:
        """Bring the parked NICs back under their new names; without a frozen guest (after a reboot) make a new one."""
        old = self._records.get(guest.vm_uuid)
        if old is None or old.state == "stopped":
            await self._create(guest)
            return
        if old.state != "suspended":
            raise GuestError(guest.vm_uuid, f"guest {guest.name} is not suspended")
        record = msgspec.structs.replace(
            old, domid=guest.domid, state="paused", name=guest.name, nics=guest.nics
        )
        here = str(threading.get_native_id())  # the calling thread names the network namespace
        for nic in old.nics:
            if nic not in guest.nics:
                await self._ip_inside(record, "link", "del", f"parked{nic.device}")
                continue
            name = vif_name(guest.domid, nic.device)
            await self._ip_inside(record, "link", "set", f"parked{nic.device}", "netns", here, "name", name)
            await self._ready_host_end(record, nic)
        for nic in guest.nics:
            if nic not in old.nics:
                await self._make_nic(record, nic)
        self._keep(record)

    async def _plug(self, record: GuestRecord, nic: GuestNic) -> None:
        if any(nic.device == other.device for other in record.nics):
            raise GuestError(record.vm_uuid, f"guest {record.name} has a NIC {nic.device} already")
        await self._make_nic(record, nic)
        self._keep(record, nics=(*record.nics, nic))

    async def _unplug(self, vm_uuid: str, device: int) -> None:
        record = self._records.get(vm_uuid)
        if record is None or all(nic.device != device for nic in record.nics):
            return
        await self._remove_host_ends(record, [nic for nic in record.nics if nic.device == device])
        self._keep(record, nics=tuple(nic for nic in record.nics if nic.device != device))

    async def _end(self, record: GuestRecord, timeout_s: float, *, at_once: bool = False) -> None:
        """Ask the init to end; kill it when it has not after `timeout_s`, or `at_once`. The guest stays listed as stopped."""
        self._unwatch(record.vm_uuid)
        outside = namespaces.waiters(record.pid)
        with suppress(ProcessLookupError):
            os.kill(record.pid, signal.SIGKILL if at_once else signal.SIGTERM)
        namespaces.thaw(record.pid)
        if not await namespaces.wait_gone(record.pid, record.started, timeout_s, outside):
            with suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
            if not await namespaces.wait_gone(record.pid, record.started, _KILL_WAIT_S, outside):
                raise GuestError(
                    record.vm_uuid, f"guest {record.name} (process {record.pid}) cannot be killed"
                )
        await self._remove_host_ends(record, record.nics)
        self._keep(record, state="stopped")

    async def _destroy(self, vm_uuid: str) -> None:
        record = self._records.get(vm_uuid)
        if record is None:
            return
        if started_at(record.pid) == record.started:
            namespaces.freeze(record.pid)
            await self._take_back(record)
            await self._end(record, _KILL_WAIT_S, at_once=True)
        else:
            self._unwatch(vm_uuid)
            await self._remove_host_ends(record, record.nics)
        del self._records[vm_uuid]
        self._path(vm_uuid).unlink(missing_ok=True)

    def _living(self, vm_uuid: str) -> GuestRecord:
        record = self._records.get(vm_uuid)
        if record is None:
            raise GuestError(vm_uuid, f"there is no guest {vm_uuid}")
        if record.state in {"suspended", "stopped"}:
            raise GuestError(vm_uuid, f"guest {record.name} is {record.state}")
        return record

    async def _make_nic(self, record: GuestRecord, nic: GuestNic) -> None:
        """Make the veth pair, both ends down.

        A virtual function must be there and free; the guest gets it when it runs, and the NIC knows how to treat it.
        """
        if nic.function:
            await self._require_free(record, nic)
            return
        mtu = str(nic.mtu_bytes)
        inside = ("name", f"eth{nic.device}", "mtu", mtu, "address", nic.mac, "netns", str(record.pid))
        vif = vif_name(record.domid, nic.device)
        await self._remove_host_ends(
            record, (nic,)
        )  # left by a guest that was killed together with its record
        await self._ip(record, "link", "add", vif, "mtu", mtu, "type", "veth", "peer", *inside)
        await self._ready_host_end(record, nic)
        if not self._offloads:
            await self._suit(record, nic)

    async def _suit(self, record: GuestRecord, nic: GuestNic) -> None:
        """Let the guest's end of a veth pair compute checksums and cut segments itself, or not."""
        if not nic.function:
            itself = ("tx", "on" if self._offloads else "off")
            await self._command(record, *_inside(record), "ethtool", "-K", f"eth{nic.device}", *itself)

    async def _ready_host_end(self, record: GuestRecord, nic: GuestNic) -> None:
        vif = vif_name(record.domid, nic.device)
        disable_ipv6(vif)
        await self._ip(record, "link", "set", vif, *SILENT)

    async def _raise_nics(self, record: GuestRecord, nics: Sequence[GuestNic]) -> None:
        for nic in nics:
            handed_over = nic.function and await self._hand_over(record, nic)
            if not nic.function:
                await self._ip(record, "link", "set", vif_name(record.domid, nic.device), "up")
            await self._ip_inside(record, "link", "set", f"eth{nic.device}", "up")
            if handed_over:
                await self._require_mac(record, nic)

    async def _require_free(self, record: GuestRecord, nic: GuestNic) -> None:
        """Let the kernel take the virtual function from a guest that has just ended."""
        for _ in range(_FREE_LOOKS):
            if self._net_device(nic.function):
                return
            await asyncio.sleep(_FREE_LOOK_S)
        raise GuestError(record.vm_uuid, f"virtual function {nic.function} is not free")

    async def _hand_over(self, record: GuestRecord, nic: GuestNic) -> bool:
        """Give the guest its virtual function; false when it has it already."""
        name = self._net_device(nic.function)
        if not name:
            return False
        await self._ip(record, "link", "set", name, "down")
        inside = ("netns", str(record.pid), "name", f"eth{nic.device}", "mtu", str(nic.mtu_bytes))
        try:
            await self._ip(record, "link", "set", name, "address", nic.mac)
        except (
            GuestError
        ):  # some drivers take only the MAC that the NIC was told, and ask for it when they start and stop
            await self._ip(record, "link", "set", name, "up")
            await self._ip(record, "link", "set", name, "down")
        await self._ip(record, "link", "set", name, *inside)
        return True

    async def _require_mac(self, record: GuestRecord, nic: GuestNic) -> None:
        """Let nobody run with another MAC than the NIC was told of: it would drop all that is sent."""
        said = await self._command(record, *_inside(record), "ip", "-o", "link", "show", f"eth{nic.device}")
        if f"link/ether {nic.mac.lower()} " not in said:
            raise GuestError(
                record.vm_uuid, f"virtual function {nic.function} does not take the MAC {nic.mac}"
            )

    async def _take_back(self, record: GuestRecord) -> None:
        """Take the virtual functions from a guest that is frozen, under the name that the kernel gives them."""
        here = str(threading.get_native_id())
        for nic in record.nics:
            if nic.function and not self._net_device(nic.function):
                name = "vf" + "".join(digit for digit in nic.function if digit.isalnum())[-12:]
                with suppress(GuestError):  # the guest has ended: the kernel takes them back
                    await self._ip_inside(record, "link", "set", f"eth{nic.device}", "down")
                    await self._ip_inside(
                        record, "link", "set", f"eth{nic.device}", "netns", here, "name", name
                    )

    async def _remove_host_ends(self, record: GuestRecord, nics: Sequence[GuestNic]) -> None:
        for nic in nics:
            if nic.function:
                continue
            # The kernel removes them with the guest's namespace, perhaps just now.
            await remove(vif_name(record.domid, nic.device))

    async def _ip(self, record: GuestRecord, *words: str) -> None:
        await self._command(record, "ip", *words)

    async def _ip_inside(self, record: GuestRecord, *words: str) -> None:
        await self._command(record, *_inside(record), "ip", *words)

    async def _command(self, record: GuestRecord, *words: str) -> str:
        """Run a command to its end, and give what it says. Raises GuestError with its words and what it wrote."""
        try:
            return (await run(words)).stdout
        except CommandFailed as error:
            raise GuestError(record.vm_uuid, str(error)) from error

    def _facts(self, record: GuestRecord) -> GuestFacts:
        watched = self._watched.get(record.vm_uuid)
        seen = watched.seen if watched else ()
        return GuestFacts(vm_uuid=record.vm_uuid, domid=record.domid, state=record.state, addresses=seen)

    def _path(self, vm_uuid: str) -> Path:
        return self._run_dir / f"{vm_uuid}.json"

    def _keep(
        self,
        record: GuestRecord,
        *,
        state: State | None = None,
        domid: int | None = None,
        nics: tuple[GuestNic, ...] | None = None,
        offloads: bool | None = None,
    ) -> None:
        """Remember the record with these changes, in memory and in the run directory (renamed into place)."""
        record = msgspec.structs.replace(
            record,
            state=record.state if state is None else state,
            domid=record.domid if domid is None else domid,
            nics=record.nics if nics is None else nics,
            offloads=record.offloads if offloads is None else offloads,
        )
        self._records[record.vm_uuid] = record
        path = self._path(record.vm_uuid)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(record))
        fresh.replace(path)

    def _watch(self, record: GuestRecord) -> None:
        """Hear of the guest's end and of its addresses; when it has ended already, note that."""
        try:
            pidfd = os.pidfd_open(record.pid)
        except ProcessLookupError:
            self._keep(record, state="stopped")
            return
        try:
            if started_at(record.pid) != record.started:
                raise ProcessLookupError(record.pid)
            watched = _Watched(pidfd, AddressWatch(record.pid))
        except OSError:
            os.close(pidfd)
            self._keep(record, state="stopped")
            return
        self._watched[record.vm_uuid] = watched
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, self._ended, record.vm_uuid)
        loop.add_reader(watched.addresses.fileno(), self._look, record.vm_uuid)
        watched.seen = watched.addresses.addresses()

    def _unwatch(self, vm_uuid: str) -> None:
        watched = self._watched.pop(vm_uuid, None)
        if watched is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(watched.pidfd)
        loop.remove_reader(watched.addresses.fileno())
        os.close(watched.pidfd)
        watched.addresses.close()

    def _ended(self, vm_uuid: str) -> None:
        self._unwatch(vm_uuid)
        self._keep(self._records[vm_uuid], state="stopped")
        self._changed()

    def _look(self, vm_uuid: str) -> None:
        watched = self._watched[vm_uuid]
        watched.addresses.drain()
        seen = watched.addresses.addresses()
        if seen != watched.seen:
            watched.seen = seen
            self._changed()


def _inside(record: GuestRecord) -> tuple[str, ...]:
    return ("nsenter", "--net", "--target", str(record.pid), "--")
