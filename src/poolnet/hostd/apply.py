"""How does a host get from what is there to what should be, and back again if that fails?

`rollout` calls it with one caller at a time. Guests that are needed come first, then the network in one go, then what
was reached is observed and compared, and only then do guests run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from poolnet.hostd import moved_guests
from poolnet.hostd.addressing import Addressing, unsupported
from poolnet.hostd.announce import Announcer, moves_addresses
from poolnet.hostd.backend import ApplyFailed, BackendGone
from poolnet.hostd.dataplane import DataPlane
from poolnet.hostd.firewall import Firewall
from poolnet.hostd.guests.runtime import GuestError, GuestRuntime
from poolnet.hostd.link_settings import Links
from poolnet.hostd.netlink import index_of
from poolnet.hostd.netlink_links import OUR_GROUP
from poolnet.hostd.nics import is_nic
from poolnet.hostd.sriov.functions import Functions
from poolnet.hostnet.diff import diff
from poolnet.hostnet.laws import ImpossibleStateError
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import (
    CreateGuest,
    DestroyGuest,
    Fault,
    GuestAction,
    GuestImage,
    PauseGuest,
    PlugNic,
    ResumeGuest,
    RunGuest,
    SuspendGuest,
    UnplugNic,
)
from poolnet.hostnet.state import EMPTY, Bridge, HostNetwork, Uplink
from poolnet.hostnet.steps import (
    CreateBridge,
    Plan,
    ReplaceUplink,
    SetLink,
    Step,
)

LOG = structlog.stdlib.get_logger("poolnet.hostd.apply")
SETTLE_S = 5.0  # a switch reports an interface's MTU and address a moment after it has set them
TOGETHER_S = 0.004  # 100 interfaces are 100 reports: one look at all of them is enough
_LINKS = Path("/sys/class/net")
_VLAN_DEVICES = Path("/proc/net/vlan/config")
_SHOWN_MAX = 5


class Applier:
    """Carries out states on one host."""

    def __init__(
        self,
        backend: DataPlane,
        guests: GuestRuntime,
        addressing: Addressing,
        firewall: Firewall,
        links: Links,
        announcer: Announcer,
        functions: Functions,
        nics: Sequence[str],
    ) -> None:
        """`nics` are the patterns of the NICs that may be touched."""
        self._backend = backend
        self._links = links
        self._guests = guests
        self._addressing = addressing
        self._firewall = firewall
        self._announcer = announcer
        self._functions = functions
        self._leading: frozenset[tuple[str, ...]] = frozenset()
        self._nics = nics
        self._changed = asyncio.Event()
        self._planned: tuple[HostNetwork, Plan] | None = None

    async def observe(self) -> HostNetwork:
        """The network as it is: the backend's part of it, and what is the same on all. Raises BackendGone."""
        network = self._addressing.with_name_servers(await self._backend.observe())
        openings = await self._firewall.observe(network.management_bridge)
        return replace(
            network,
            links=self._links.observe(),
            sriov=self._functions.observe(),
            nbd_bridges=openings.nbd_bridges,
            http_closed=openings.http_closed,
        )

    def note_change(self) -> None:
        """The switch or the kernel has changed: what waits for a state looks again."""
        self._changed.set()
        self._planned = None

    def rename_nics(self, names: Mapping[str, str]) -> None:
        """Follows the new names of NICs, in all that is remembered of them. Raises OSError."""
        self._links.rename_nics(names)
        self._functions.rename_nics(names)
        self._addressing.rename_nics(names)

    async def plan(self, desired: HostNetwork) -> Plan:
        """The plan from what is there to `desired`.

        Raises ApplyFailed when it cannot be: MALFORMED when the state contradicts itself, SWITCH_FAILED for an address
        configuration that is not supported, NO_DEVICE for a NIC that does not exist or may not be touched, VLAN_IN_USE
        for a tag that a device of the kernel has; or BackendGone.
        """
        observed = await self.observe()
        try:
            plan = diff(observed, _with_links(desired))
        except ImpossibleStateError as error:
            raise ApplyFailed(Fault.MALFORMED, str(error)) from error
        for bridge, reason in (*unsupported(desired), *self._backend.unsupported(desired)):
            raise ApplyFailed(Fault.SWITCH_FAILED, reason, bridge)
        by_name = {bridge.name: bridge for bridge in desired.bridges}
        for step in plan.steps:
            self._require_devices(step, by_name)
        self._planned = (desired, plan)
        return plan

    async def carry_out(
        self,
        desired: HostNetwork,
        guests_before: Sequence[GuestAction],
        guests_after: Sequence[GuestAction],
        confirmed: HostNetwork,
    ) -> HostNetwork | None:
        """Makes it so, and returns the network that was found then; None where there was nothing to do to it.

        An address that is neither there nor `confirmed` is set only if nobody else has it.

        Raises ApplyFailed (also ADDRESS_TAKEN) or BackendGone; then any part may have been done.
        """
        await self._guests.set_offloads(allowed=self._backend.takes_offloads)
        await self._act(guests_before)
        planned, self._planned = self._planned, None  # forgotten when anything changed since it was staged
        plan = planned[1] if planned is not None and planned[0] == desired else await self.plan(desired)
        before = await self._addressing.before(plan.steps, confirmed)
        await self._backend.apply(plan.steps)
        await self._functions.apply(plan.steps)  # before the options: drivers start the NIC anew
        self._links.apply(plan.steps)
        await self._addressing.apply(plan.steps, before=before)
        await self._firewall.apply(plan.steps)
        found = await self._verify(_with_links(desired)) if plan.steps else None
        guests = moved_guests.moved(plan.steps, desired)
        if guests or any(map(moves_addresses, plan.steps)):
            self._announcer.announce(desired, guests)
        await self._act(guests_after)
        return found

    @property
    def backend(self) -> str:
        """The name of the backend that carries the network out."""
        return self._backend.name

    async def change_backend(self, name: str, network: HostNetwork) -> None:
        """Lets another backend take over, without any network yet; `network` is what it will have to carry out.

        Nothing to do if it is that one. Raises ApplyFailed or BackendGone; then any part of the network may be gone.
        """
        if name == self._backend.name:
            return
        self._planned = None
        other = await self._backend.opened(name, network)
        try:
            steps = diff(await self._backend.observe(), EMPTY).steps
            await self._backend.apply(steps, strict=False)
            await self._addressing.apply(steps, strict=False)
        except BaseException:
            await other.close()
            raise
        await self._backend.hand_over(other)

    def keep_backend(self) -> None:
        """Writes the choice of the backend into the configuration file. Raises OSError."""
        self._backend.keep_choice()

    async def clear_backend(self, name: str) -> None:
        """See `DataPlane.clear`."""
        await self._backend.clear(name)

    async def lacking(self, confirmed: HostNetwork) -> tuple[str, ...]:
        """What of this state is not there, in words; what has addresses is set up then.

        Ports whose device is gone do not count.
        """
        target = self._functions.possible(_with_devices(confirmed))
        if wrong := mismatches(await self.observe(), target):
            return tuple(wrong)
        self._functions.try_again()
        await self._addressing.raise_links(target)
        await self._backend.reopen_nics()
        if any(bridge.uplink is not None and bridge.uplink.bond is not None for bridge in target.bridges):
            leading = frozenset((bond.device, *bond.active) for bond in await self._backend.bonds())
            if leading != self._leading:
                self._leading = leading
                self._announcer.announce(target)
        return ()

    async def drift(self, confirmed: HostNetwork) -> tuple[HostNetwork, HostNetwork]:
        """What of this state can be there now, and what is there. Raises BackendGone."""
        return self._functions.possible(_with_devices(confirmed)), await self.observe()

    async def raise_links(self, confirmed: HostNetwork, hurried: Callable[[], bool]) -> bool:
        """See `Addressing.raise_idle_links`. Raises ApplyFailed."""
        return await self._addressing.raise_idle_links(confirmed, hurried)

    async def go_back(self, confirmed: HostNetwork, undo_guests: Sequence[GuestAction]) -> HostNetwork:
        """Returns to a state as far as that is possible, and takes guest actions back; returns the state aimed at.

        Ports whose device is gone are left out of it, and NICs that are gone are no failure. What fails does not keep
        the rest from being restored: the management address may depend on nothing that did. Raises ApplyFailed or
        BackendGone when the network could not be restored whole.
        """
        target = _with_devices(confirmed)  # virtual functions that failed before are tried again
        self._planned = None
        await self._guests.set_offloads(allowed=self._backend.takes_offloads)
        tried = _Attempts()
        try:
            plan = diff(await self.observe(), target)
            with tried:
                await self._backend.apply(plan.steps, strict=False)
            with tried:
                await self._functions.apply(plan.steps, strict=False)
            with tried:
                self._links.apply(plan.steps, strict=False)
            with tried:
                await self._addressing.raise_links(target)
            with tried:
                await self._addressing.apply(plan.steps, strict=False)
            with tried:
                await self._firewall.apply(plan.steps)
            self._announcer.announce(target, moved_guests.moved(plan.steps, target, again=True))
            tried.require()
        finally:
            for action in undo_guests:
                try:
                    await self._guests.carry_out(action)
                except GuestError as error:
                    LOG.warning(
                        "a guest action could not be taken back", action=str(action), error=str(error)
                    )
        return target

    async def settle_guest(self, action: RunGuest | DestroyGuest, network: HostNetwork) -> None:
        """Lets a guest that waits go on, and announces it; or ends it. Raises ApplyFailed."""
        await self._act([action])
        if isinstance(action, RunGuest):
            devices = moved_guests.outwards(network, action.vm_uuid)
            await self._backend.announce(devices)  # before anybody is told that it is here
            self._announcer.announce(network, devices)

    async def ask_guest_to_end(self, vm_uuid: str, timeout_s: float) -> None:
        """Asks a guest to end, and waits for it; others may change the host meanwhile. Raises ApplyFailed."""
        try:
            await self._guests.ask_to_end(vm_uuid, timeout_s)
        except GuestError as error:
            raise ApplyFailed(Fault.GUEST_FAILED, str(error), error.vm_uuid) from error

    async def read_guest(self, vm_uuid: str) -> GuestImage:
        """What goes with a guest that has departed. Raises ApplyFailed."""
        try:
            return await self._guests.read(vm_uuid)
        except GuestError as error:
            raise ApplyFailed(Fault.GUEST_FAILED, str(error), error.vm_uuid) from error

    async def load_guest(self, image: GuestImage) -> None:
        """Gives a guest that was received what comes with it. Raises ApplyFailed."""
        try:
            await self._guests.load(image)
        except GuestError as error:
            raise ApplyFailed(Fault.GUEST_FAILED, str(error), error.vm_uuid) from error

    async def _act(self, actions: Iterable[GuestAction]) -> None:
        for action in actions:
            try:
                await self._guests.carry_out(action)
            except GuestError as error:
                raise ApplyFailed(Fault.GUEST_FAILED, str(error), error.vm_uuid) from error

    async def _verify(self, desired: HostNetwork) -> HostNetwork:
        """Waits until what is observed is what is desired, and returns it."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while True:
            self._changed.clear()
            found = await self.observe()
            wrong = mismatches(found, desired)
            if not wrong:
                return found
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
                    await asyncio.sleep(TOGETHER_S)
            except TimeoutError as error:
                raise ApplyFailed(Fault.NOT_VERIFIED, "; ".join(wrong[:_SHOWN_MAX])) from error

    def _require_devices(self, step: Step, bridges: dict[str, Bridge]) -> None:
        match step:
            case CreateBridge(bridge=bridge) if bridge.parent:
                nics = _members(bridges[bridge.parent].uplink)
                for nic in nics:
                    _require_free_vlan(nic, bridge.vlan_tag)
                if nics and all(index_of(nic) is None for nic in nics):  # a bond may lack some
                    self._require_nic(nics[0])
            case CreateBridge(bridge=Bridge(uplink=uplink)) | ReplaceUplink(new=uplink):
                for nic in _members(uplink):
                    self._require_nic(nic)
            case SetLink(name=name) if name not in bridges and not is_nic(name, self._nics):
                raise ApplyFailed(
                    Fault.NO_DEVICE, f"{name} is not one of the NICs of the configuration", name
                )
            case _:
                pass

    def _require_nic(self, nic: str) -> None:
        if not is_nic(nic, self._nics):
            raise ApplyFailed(Fault.NO_DEVICE, f"{nic} is not one of the NICs of the configuration", nic)
        if index_of(nic) is None:
            raise ApplyFailed(Fault.NO_DEVICE, f"this host has no NIC {nic}", nic)


class _Attempts:
    """Things to try one after the other, whatever becomes of each."""

    def __init__(self) -> None:
        self._failed: Exception | None = None

    def __enter__(self) -> None:
        """One more."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        """Keeps the first failure, also one that nobody expected. Not what ends the task."""
        if not isinstance(error, Exception):
            return False
        LOG.warning("a part of the network cannot be restored", error=f"{type(error).__name__}: {error}")
        self._failed = self._failed or error
        return True

    def require(self) -> None:
        """Raises ApplyFailed or BackendGone if anything failed."""
        if isinstance(self._failed, ApplyFailed | BackendGone):
            raise self._failed
        if self._failed is not None:
            raise ApplyFailed(Fault.SWITCH_FAILED, str(self._failed)) from self._failed


def _with_devices(network: HostNetwork) -> HostNetwork:
    """The state without the ports whose device is gone: their guest has ended; and without options of NICs that are."""
    there = tuple(port for port in network.ports if index_of(port.device) is not None)
    return replace(_with_links(network), ports=there)


def _with_links(network: HostNetwork) -> HostNetwork:
    """The state without options of NICs that are gone; they are set when the NIC is back."""
    bridges = {bridge.name for bridge in network.bridges}  # those will be there
    links = tuple(link for link in network.links if link.name in bridges or index_of(link.name) is not None)
    return replace(network, links=links) if links != network.links else network


def undo_of(actions: Sequence[GuestAction]) -> tuple[GuestAction, ...]:
    """The actions that take these back, last first. What ends a guest cannot be taken back.

    A guest that departs or arrives waits: at which of two hosts it goes on is not for one of them to decide.
    """
    created = {action.guest.vm_uuid for action in actions if isinstance(action, CreateGuest | ResumeGuest)}
    undo: list[GuestAction] = []
    for action in reversed(actions):
        match action:
            case CreateGuest(guest=guest):
                undo.append(DestroyGuest(vm_uuid=guest.vm_uuid))
            case ResumeGuest(guest=guest):
                undo.append(SuspendGuest(vm_uuid=guest.vm_uuid))
            case PlugNic(vm_uuid=vm_uuid, nic=nic):
                undo.append(UnplugNic(vm_uuid=vm_uuid, device=nic.device))
            case RunGuest(vm_uuid=vm_uuid) if vm_uuid not in created:
                undo.append(PauseGuest(vm_uuid=vm_uuid))
            case PauseGuest(vm_uuid=vm_uuid):
                undo.append(RunGuest(vm_uuid=vm_uuid))
            case _:
                pass
    return tuple(undo)


def _members(uplink: Uplink | None) -> tuple[str, ...]:
    return uplink.members if uplink is not None else ()


def _require_free_vlan(nic: str, tag: int) -> None:
    """Raises ApplyFailed (VLAN_IN_USE) when somebody else has a VLAN device for the tag on the NIC.

    Those of Linux bridges are ours, and move with the NIC when it goes into a bond.
    """
    try:
        lines = _VLAN_DEVICES.read_text().splitlines()[2:]  # below the two lines of its heading
    except OSError:
        return  # the kernel has no VLAN devices at all
    for line in lines:
        fields = [field.strip() for field in line.split("|")]
        if fields[1:] == [str(tag), nic] and not _is_ours(fields[0]):
            raise ApplyFailed(
                Fault.VLAN_IN_USE, f"{fields[0]} has VLAN {tag} on {nic} already", f"{nic}.{tag}"
            )


def _is_ours(device: str) -> bool:
    try:
        return int((_LINKS / device / "netdev_group").read_text()) == OUR_GROUP
    except (OSError, ValueError):  # it has just gone
        return False
