"""How do the parts of the host daemon make a whole? Built from the configuration, started and stopped in order."""

from __future__ import annotations

import asyncio
import grp
import pwd
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Self

import structlog

from poolnet.hostd import identity, pam
from poolnet.hostd.addressing import Addressing
from poolnet.hostd.announce import Announcer
from poolnet.hostd.apply import Applier
from poolnet.hostd.backend import ApplyFailed, Backend, BackendGone
from poolnet.hostd.checkpoint import Checkpoint
from poolnet.hostd.config import Choice, Config, ConfigError, Paths, keep_backend
from poolnet.hostd.dataplane import DataPlane
from poolnet.hostd.dhcp import DhcpClients
from poolnet.hostd.evidence import Evidence
from poolnet.hostd.facts import FactsSource
from poolnet.hostd.fence import Fence
from poolnet.hostd.firewall import Firewall
from poolnet.hostd.guests.domains import LibvirtRuntime
from poolnet.hostd.guests.fenced import FencedRuntime
from poolnet.hostd.guests.libvirt_link import Link
from poolnet.hostd.guests.netns import NetnsRuntime
from poolnet.hostd.guests.runtime import GuestError, GuestRuntime
from poolnet.hostd.keeper import Keeper
from poolnet.hostd.link_settings import Links
from poolnet.hostd.linuxbridge.backend import LinuxBridgeBackend
from poolnet.hostd.netlink import Netlink, NetlinkWatch
from poolnet.hostd.netlink_functions import FunctionsLink
from poolnet.hostd.nic_order import NicOrder
from poolnet.hostd.nics import find_nics
from poolnet.hostd.nohypervisor import NoHypervisor
from poolnet.hostd.openvswitch.backend import OpenvswitchBackend
from poolnet.hostd.reach import Reach
from poolnet.hostd.rollout import Rollouts
from poolnet.hostd.server import Send, Server
from poolnet.hostd.sriov.driver_options import DriverOptions, option_is_list, rebuild_boot_image
from poolnet.hostd.sriov.functions import Functions
from poolnet.hostd.sriov.sysfs import Sysfs
from poolnet.hostd.storage import Storage, StorageFailed
from poolnet.hostd.traffic import Traffic as TrafficCounters
from poolnet.hostd.watched_file import FileWatch
from poolnet.hostnet.facts import NicFacts
from poolnet.hostnet.protocol import (
    PROTOCOL_VERSION,
    VERIFY_PORTS_MAX,
    Answer,
    AskToEnd,
    Authenticate,
    AwaitsConfirm,
    ChangeStorage,
    Confirm,
    Counters,
    Done,
    DropLease,
    FactsChanged,
    Fault,
    Greeting,
    Hello,
    HoldLease,
    LoadGuest,
    Observation,
    Observe,
    ReadCounters,
    ReadDrift,
    ReadFence,
    ReadGuest,
    ReadTraffic,
    Refused,
    Request,
    Restore,
    Revert,
    SetHostname,
    SettleGuest,
    Stage,
    Switch,
    SwitchBackend,
    Traced,
    TracePacket,
    Traffic,
    VerifyLocks,
    Watch,
    WatchLocks,
)
from poolnet.hostnet.state import HostNetwork

LOG = structlog.stdlib.get_logger("poolnet.hostd")
_BACKENDS: Mapping[Choice, str] = {
    "openvswitch": OpenvswitchBackend.name,
    "linuxbridge": LinuxBridgeBackend.name,
}
_CHOICES: Mapping[str, Choice] = {name: choice for choice, name in _BACKENDS.items()}
ENDS_WITHIN_S_MAX = 600.0  # a guest that is asked to
LOOK_FOR_S = 5.0  # whether a restored network is reached; somebody at the console waits


class Daemon:
    """The host daemon. `async with` it: inside, it serves."""

    def __init__(self, config: Config, paths: Paths) -> None:
        self._config = config
        self._paths = paths
        self._stack = AsyncExitStack()
        self._netlink = Netlink()
        self._backend = DataPlane(
            lambda name: _backend(name, config, paths, self._netlink, self._note_repair),
            _BACKENDS[config.backend],
            lambda name: keep_backend(paths.config, _CHOICES[name]),
        )
        self._evidence = Evidence(self._backend)
        self._sysfs = Sysfs(paths.sysfs)
        self._fence = Fence(paths.state_dir, paths.run_dir, self._note_change, config.ha.watchdog)
        self._guests = FencedRuntime(_runtime(config, paths, self._sysfs), self._fence.require)
        clients = DhcpClients(paths.run_dir, paths.state_dir)
        self._addressing = Addressing(self._netlink, paths.state_dir, paths.resolv_conf, clients)
        self._firewall = Firewall()
        links = Links(paths.state_dir)
        self._announcer = Announcer(self._netlink, self._backend, self._evidence.note_conflict)
        options = DriverOptions(paths.modprobe_dir, self._sysfs, option_is_list, rebuild_boot_image)
        self._functions = Functions(paths.state_dir, self._sysfs, FunctionsLink(), options)
        self._applier = Applier(
            self._backend,
            self._guests,
            self._addressing,
            self._firewall,
            links,
            self._announcer,
            self._functions,
            config.nics,
        )
        self._order = NicOrder(paths.state_dir)
        self._traffic = TrafficCounters()
        self._storage = Storage(paths.storage, config.storage_directories)
        self._following: set[asyncio.Task[None]] = set()
        self._facts = FactsSource(
            self._backend,
            self._guests,
            self._netlink,
            self._nics_in_order,
            paths.resolv_conf,
            self._storage.attached,
            lambda: self._fence.fenced,
        )
        self._rollouts = Rollouts(
            self._applier,
            Checkpoint(paths.state_dir),
            Reach(self._netlink),
            lambda: self._keeper.note_change(),
            self._note_repair,
            self._evidence.note_drift,
        )
        self._keeper = Keeper(self._rollouts)
        uids, self._group = _clients(config.api_user)
        self._server = Server(self._dispatch, self._watch, uids)
        self._boot_id = ""
        self._proving = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Restores the confirmed state, then serves. Raises BackendGone or OSError."""
        async with AsyncExitStack() as stack:
            self._paths.run_dir.mkdir(parents=True, exist_ok=True)
            self._boot_id = identity.boot_id(self._paths.run_dir)
            self._fence.start()  # whatever becomes of the rest
            stack.push_async_callback(self._fence.close)
            await stack.enter_async_context(self._netlink)
            stack.push_async_callback(self._backend.close)
            await self._backend.open(self._note_change)
            await self._guests.open(self._note_change)
            stack.push_async_callback(self._guests.close)
            watch = NetlinkWatch(self._note_change)
            stack.callback(watch.close)
            self._watch_name_servers(stack)
            self._addressing.open(self._note_change)
            stack.push_async_callback(self._addressing.close)
            await self._firewall.open(self._note_change)
            stack.push_async_callback(self._firewall.close)
            await self._rollouts.rename_nics(self._order.place(self._find_nics())[1])
            stack.push_async_callback(self._announcer.close)
            await self._rollouts.start(await self._applier.observe())
            stack.push_async_callback(self._rollouts.close)
            stack.callback(self._evidence.close)
            self._keeper.start()
            self._keeper.note_change()  # it has links to set up
            stack.push_async_callback(self._keeper.close)
            self._traffic.start()
            stack.push_async_callback(self._traffic.close)
            self._facts.start()
            stack.push_async_callback(self._facts.close)
            stack.push_async_callback(self._server.close)
            stack.push_async_callback(self._rollouts.interrupt)
            await self._server.start(self._paths.socket, self._group)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stops serving. The network and the guests stay as they are."""
        await self._stack.aclose()
        self._paths.socket.unlink(missing_ok=True)

    def _watch_name_servers(self, stack: AsyncExitStack) -> None:
        """What somebody writes into resolv.conf is looked at at once; where the kernel cannot tell, with what comes next."""
        try:
            stack.callback(FileWatch(self._paths.resolv_conf, self._note_change).close)
        except OSError as error:
            LOG.warning("resolv.conf cannot be watched", error=str(error))

    def _note_change(self) -> None:
        self._applier.note_change()
        self._facts.note_change()
        self._keeper.note_change()

    def _note_repair(self, text: str) -> None:
        self._evidence.note_repair(text)

    def _nics_in_order(self) -> tuple[NicFacts, ...]:
        """The NICs with their positions; the confirmed state follows those that were renamed just now."""
        nics, renamed = self._order.place(self._find_nics())
        if renamed:
            task = asyncio.create_task(self._follow(renamed), name="renamed-nics")
            self._following.add(task)
            task.add_done_callback(self._following.discard)
        return tuple(self._functions.facts(nic) for nic in nics)

    def _find_nics(self) -> tuple[NicFacts, ...]:
        """The NICs, without their virtual functions, which a guest may have given a NIC's name."""
        return tuple(nic for nic in find_nics(self._config.nics) if not self._sysfs.is_function(nic.name))

    async def _follow(self, renamed: Mapping[str, str]) -> None:
        await self._rollouts.rename_nics(renamed)
        self._note_change()

    async def _watch(self, command: Watch | WatchLocks, send: Send) -> None:
        if isinstance(command, WatchLocks):
            async for seen in self._evidence.reports():
                await send(seen)
        async for facts in self._facts.changes():
            await send(FactsChanged(facts=facts))

    async def _dispatch(self, request: Request) -> Answer:
        try:
            return await self._answer(request)
        except ApplyFailed as error:
            return Refused(fault=error.fault, message=str(error), subject=error.subject)
        except BackendGone as error:
            return Refused(fault=Fault.SWITCH_FAILED, message=str(error))
        except StorageFailed as error:
            return Refused(fault=Fault.STORAGE_FAILED, message=str(error), subject=error.fault)

    async def _answer(self, request: Request) -> Answer:
        match request.command:
            case Hello():
                return self._greeting()
            case Observe() | ReadDrift() as command:
                return await self._observe(command)
            case (
                AwaitsConfirm() | Stage() | Switch() | SwitchBackend() | Confirm() | Revert() | Restore()
            ) as command:
                return await self._roll_out(command)
            case ReadCounters() | ReadTraffic() as command:
                return await self._count(command)
            case TracePacket() | VerifyLocks() as command:
                return await self._look_at_locks(command)
            case Authenticate(user=user, password=password, directory=directory):
                service = self._config.pam_directory_service if directory else self._config.pam_service
                return await pam.authenticate(user, password, service)
            case SetHostname(hostname=hostname):
                return await self._set_hostname(hostname)
            case ChangeStorage(action=action):
                return await self._storage.carry_out(action)
            case ReadGuest() | LoadGuest() | SettleGuest() | AskToEnd() as command:
                return await self._do_with_guest(command)
            case HoldLease() | DropLease() | ReadFence() as command:
                return self._do_with_lease(command)
            case Watch() | WatchLocks():
                raise AssertionError("the server answers those who watch")

    async def _observe(self, command: Observe | ReadDrift) -> Answer:
        if isinstance(command, ReadDrift):
            return await self._rollouts.read_drift()
        return Observation(network=await self._applier.observe(), facts=await self._facts.gather())

    async def _count(self, command: ReadCounters | ReadTraffic) -> Answer:
        if isinstance(command, ReadTraffic):
            return Traffic(rates=self._traffic.rates(command.devices))
        return Counters(ports=await self._evidence.counters(command.devices))

    async def _roll_out(
        self, command: AwaitsConfirm | Stage | Switch | SwitchBackend | Confirm | Revert | Restore
    ) -> Answer:
        match command:
            case AwaitsConfirm():
                await self._rollouts.require_switched(command)
            case Stage():
                return await self._rollouts.stage(command)
            case Switch() | SwitchBackend():
                return await self._switch(command)
            case Confirm():
                await self._rollouts.confirm(command)
            case Revert():
                await self._rollouts.revert(command)
            case Restore():
                return await self._rollouts.restore(LOOK_FOR_S)
        return await self._done()

    async def _do_with_guest(self, command: ReadGuest | LoadGuest | SettleGuest | AskToEnd) -> Answer:
        match command:
            case AskToEnd(vm_uuid=vm_uuid, timeout_s=timeout_s):
                await self._applier.ask_guest_to_end(vm_uuid, min(timeout_s, ENDS_WITHIN_S_MAX))
            case ReadGuest():
                return await self._rollouts.read_guest(command)
            case LoadGuest():
                await self._rollouts.load_guest(command)
            case SettleGuest():
                await self._rollouts.settle_guest(command)
        return await self._done()

    def _do_with_lease(self, command: HoldLease | DropLease | ReadFence) -> Answer:
        try:
            if isinstance(command, HoldLease):
                self._fence.hold(command)
            elif isinstance(command, DropLease):
                self._fence.drop()
        except GuestError as error:
            return Refused(fault=Fault.GUEST_FAILED, message=str(error))
        except OSError as error:
            return Refused(fault=Fault.SWITCH_FAILED, message=f"the lease cannot be written down: {error}")
        return self._fence.state()

    async def _switch(self, command: Switch | SwitchBackend) -> Done:
        found: HostNetwork | None = None
        with self._facts.held():
            if isinstance(command, SwitchBackend):
                await self._rollouts.switch_backend(command)
            else:
                found = await self._rollouts.switch(command)
            if not command.reachable:
                return Done(facts=await self._facts.gather(found))
        await self._rollouts.require_reachable(command)  # a lease that comes meanwhile is a fact
        return await self._done()

    def _greeting(self) -> Greeting:
        management = self._config.management
        return Greeting(
            version=PROTOCOL_VERSION,
            backend=self._backend.name,
            hostname=socket.gethostname(),
            boot_id=self._boot_id,
            confirmed=self._rollouts.confirmed_hash(),
            management=management.management() if management is not None else None,
        )

    async def _done(self) -> Done:
        return Done(facts=await self._facts.gather())

    async def _look_at_locks(self, command: TracePacket | VerifyLocks) -> Answer:
        if isinstance(command, TracePacket):
            return await self._trace(command)
        return await self._verify(command)

    async def _trace(self, command: TracePacket) -> Answer:
        try:
            frame = bytes.fromhex(command.frame_hex)
        except ValueError as error:
            return Refused(fault=Fault.MALFORMED, message=f"frame_hex: {error}")
        trace = await self._backend.trace(command.device, frame)
        return Traced(
            forwarded=trace.forwarded,
            text=trace.text,
            counted=trace.counted.value if trace.counted is not None else "",
            path=trace.path,
        )

    async def _verify(self, command: VerifyLocks) -> Answer:
        if len(command.ports) > VERIFY_PORTS_MAX:
            return Refused(fault=Fault.MALFORMED, message=f"ports: more than {VERIFY_PORTS_MAX}")
        async with self._proving:  # one at a time: everybody else's requests go on beside it
            try:
                return await self._backend.verify(command.ports, rules=command.rules)
            except ValueError as error:
                return Refused(fault=Fault.MALFORMED, message=f"a lock is impossible: {error}")

    async def _set_hostname(self, hostname: str) -> Answer:
        try:
            identity.set_hostname(hostname, self._paths.hostname)
        except ValueError as error:
            return Refused(fault=Fault.MALFORMED, message=str(error))
        except OSError as error:
            return Refused(fault=Fault.SWITCH_FAILED, message=f"the host cannot be renamed: {error}")
        self._note_change()  # DHCP clients send the name
        return await self._done()


def _runtime(config: Config, paths: Paths, sysfs: Sysfs) -> GuestRuntime:
    """What runs the host's guests."""
    directory = paths.run_dir / "guests"
    match config.guest_runtime:
        case "netns":
            return NetnsRuntime(directory, sysfs.net_device)
        case "libvirt":
            asked = config.libvirt
            suspended = paths.state_dir / "suspended"
            return LibvirtRuntime(Link(asked.uri), asked.hypervisor, asked.domains, directory, suspended)
        case "none":
            return NoHypervisor()


def _backend(
    name: str, config: Config, paths: Paths, netlink: Netlink, repaired: Callable[[str], None]
) -> Backend:
    """The backend of that name; `repaired` is told of each change of the locks by somebody else."""
    if name == LinuxBridgeBackend.name:
        return LinuxBridgeBackend(
            work_dir=paths.run_dir, nics=config.nics, netlink=netlink, repaired=repaired
        )
    return OpenvswitchBackend(
        run_dir=paths.switch_run_dir,
        work_dir=paths.run_dir,
        datapath_type=config.datapath_type,
        netlink=netlink,
        repaired=repaired,
    )


def _clients(api_user: str) -> tuple[frozenset[int], int]:
    """The user ids that may connect, and the group of the socket. Raises ConfigError when there is no such user."""
    if not api_user:
        return frozenset((0,)), 0
    try:
        user = pwd.getpwnam(api_user)
        grp.getgrgid(user.pw_gid)
    except KeyError as error:
        raise ConfigError(f"api_user: this host has no user {api_user!r}") from error
    return frozenset((0, user.pw_uid)), user.pw_gid
