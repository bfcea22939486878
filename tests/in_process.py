"""An API server in this process, for tests of what is above the host daemon.

Everything is real but the host: `ModelHost` takes the place of a host daemon and of the kernel and switch behind it. It
holds a `HostNetwork` as the switch would, applies what it is told to, and can be told to fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from poolnet.api.audit_calls import undo_messages
from poolnet.api.auditing import Auditor
from poolnet.api.budgets import Budgets
from poolnet.api.credentials import Credentials, Identity, SystemAccounts
from poolnet.api.desk import open_desk
from poolnet.api.directory import Directory, DirectoryGone, Entry
from poolnet.api.dispatch import Dispatcher, Own
from poolnet.api.events import Events
from poolnet.api.http import RunCli
from poolnet.api.own import own_messages
from poolnet.api.sessions import Sessions
from poolnet.api.tasks import Tasks
from poolnet.db.database import Database
from poolnet.db.engine import CommitRecord, Engine
from poolnet.db.engine_memory import MemoryEngine
from poolnet.db.errors import StorageFailed
from poolnet.hostnet import protocol
from poolnet.hostnet.diff import diff
from poolnet.hostnet.facts import HostFacts, NicFacts
from poolnet.hostnet.laws import ImpossibleStateError
from poolnet.hostnet.state import HostNetwork, IpConfig, Ipv4Mode
from poolnet.hostnet.storage import AttachStorage, DetachStorage, StorageAction, StorageFault
from poolnet.model.classes.host import Host
from poolnet.model.classes.session import Session
from poolnet.model.roles import Role
from poolnet.model.types import Ref
from poolnet.pool.audit_log import AuditLog
from poolnet.pool.coordinator import Coordinator
from poolnet.pool.hostlink import A, HostRefused
from poolnet.pool.start import open_pool
from poolnet.rules.context import Counters

T = TypeVar("T")

FACTS = HostFacts(
    hostname="host1",
    nics=(
        NicFacts(name="eth0", mac="02:00:00:00:00:01", carrier=True, speed_mbps=10000, full_duplex=True),
        NicFacts(name="eth1", mac="02:00:00:00:00:02", carrier=True, speed_mbps=10000, full_duplex=True),
    ),
)
GREETING = protocol.Greeting(
    version=protocol.PROTOCOL_VERSION,
    backend="openvswitch",
    hostname="host1",
    boot_id="boot",
    confirmed="",
    management=protocol.Management(
        nic="eth0", ip=IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="192.0.2.1/24")
    ),
)


@dataclass
class ModelHost:
    """One host that exists as a value. `refuse` says which desired states it cannot be brought to."""

    host: Ref[Host]
    network: HostNetwork = field(default_factory=HostNetwork)
    hostname: str = FACTS.hostname
    reported: HostFacts = FACTS
    switches: int = 0
    looks: int = 0
    guest_actions: list[protocol.GuestAction] = field(default_factory=list)
    refuse: Callable[[HostNetwork], bool] = lambda _: False
    asked: list[protocol.Command] = field(default_factory=list)
    answer: Callable[[protocol.Command], protocol.Answer] = lambda _: protocol.Counters(ports=())
    gate: asyncio.Event | None = None
    at_gate: asyncio.Event = field(default_factory=asyncio.Event)
    staged: dict[str, protocol.Stage] = field(default_factory=dict)
    mounted: dict[str, StorageAction] = field(default_factory=dict)
    storage_acts: list[StorageAction] = field(default_factory=list)
    refuse_storage: Callable[[StorageAction], StorageFault | None] = lambda _: None

    def reachable(self) -> Sequence[Ref[Host]]:
        return (self.host,)

    def is_local(self, host: Ref[Host]) -> bool:
        return host == self.host

    def expect(self, host: Ref[Host], address: str) -> None:
        raise AssertionError("there is no other host")

    async def require_contact(self, host: Ref[Host], coordinator_address: str) -> None:
        raise AssertionError("there is no other host")

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        if not command.dry_run:
            self.staged[command.rollout] = command
        try:
            return protocol.Staged(plan=diff(self.network, command.desired), plan_hash="")
        except ImpossibleStateError as error:
            refused = protocol.Refused(fault=protocol.Fault.MALFORMED, message=str(error))
            raise HostRefused(refused) from error

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        if self.gate is not None:
            self.at_gate.set()
            await self.gate.wait()
        staged = self.staged[command.rollout]
        if self.refuse(staged.desired):
            refused = protocol.Refused(fault=protocol.Fault.SWITCH_FAILED, message="told to fail")
            raise HostRefused(refused)
        self.switches += 1
        self.network = staged.desired
        self.guest_actions += [*staged.guests_before, *staged.guests_after]
        return protocol.Done(facts=FACTS)

    async def settle(self, host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        return protocol.Done(facts=FACTS)

    async def set_hostname(self, host: Ref[Host], hostname: str) -> None:
        self.hostname = hostname

    async def storage(self, host: Ref[Host], action: StorageAction) -> protocol.StorageSpace:
        fault = self.refuse_storage(action)
        if fault is not None:
            refused = protocol.Refused(
                fault=protocol.Fault.STORAGE_FAILED, message="told to fail", subject=fault
            )
            raise HostRefused(refused)
        self.storage_acts.append(action)
        if isinstance(action, AttachStorage):
            changed = action.sr not in self.mounted
            self.mounted[action.sr] = action
        else:
            changed = self.mounted.pop(action.sr, None) is not None or not isinstance(action, DetachStorage)
        if action.sr in self.mounted:
            return protocol.StorageSpace(changed=changed, size_bytes=1000, used_bytes=10)
        return protocol.StorageSpace(changed=changed)

    async def look(self, host: Ref[Host]) -> None:
        self.looks += 1

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        self.asked.append(command)
        answer = self.answer(command)
        assert isinstance(answer, expect)
        return answer

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        return {self.host: self.reported}


@dataclass
class KnownPeople:
    """A directory of whoever is put in, in the place of the system's: users and groups of the tests' own."""

    entries: dict[str, Entry] = field(default_factory=dict)
    groups: dict[str, frozenset[str]] = field(default_factory=dict)
    gone: bool = False

    def add(self, name: str, identifier: str, *groups: str) -> None:
        self.entries[name] = Entry(identifier, name, {"subject-name": name})
        self.groups[identifier] = frozenset(groups)

    async def named(self, name: str) -> Entry | None:
        self._require()
        return self.entries.get(name)

    async def identified(self, identifier: str) -> Entry | None:
        self._require()
        return next((entry for entry in self.entries.values() if entry.identifier == identifier), None)

    async def memberships(self, identifier: str) -> frozenset[str]:
        self._require()
        return self.groups.get(identifier, frozenset())

    def _require(self) -> None:
        if self.gone:
            raise DirectoryGone("no answer")


@dataclass
class InProcess:
    """The parts of a running server."""

    database: Database
    coordinator: Coordinator
    dispatcher: Dispatcher
    sessions: Sessions
    tasks: Tasks
    events: Events
    host: ModelHost
    audit_log: AuditLog
    auditor: Auditor
    budgets: Budgets
    run_cli: RunCli

    def own_messages(self) -> Mapping[str, Own]:
        """The messages of the server itself, for a test that puts a dispatcher together."""
        return own_messages(
            database=self.database,
            sessions=self.sessions,
            tasks=self.tasks,
            events=self.events,
            coordinator=self.coordinator,
            hosts=self.host,
            directory=KnownPeople(),
            budgets=self.budgets,
        )


@asynccontextmanager
async def in_process(
    state_dir: Path,
    engine: Engine | None = None,
    *,
    accounts: SystemAccounts | None = None,
    directory: Directory | None = None,
    refusal_delay_s: float = 0.0,
    budgets: Budgets | None = None,
) -> AsyncIterator[InProcess]:
    """A server with one user, root with the password "secret"."""
    async with AsyncExitStack() as stack:
        database = Database.open(engine or MemoryEngine())
        stack.callback(database.close)
        counters = Counters()
        opened = await open_pool(
            database=database,
            greeting=GREETING,
            facts=FACTS,
            state_dir=state_dir,
            clock=now,
            counters=counters,
        )
        host = ModelHost(opened.local_host)
        coordinator = Coordinator(
            database=database, hosts=host, local_host=opened.local_host, clock=now, counters=counters
        )
        coordinator.start()
        stack.push_async_callback(coordinator.stop)
        await coordinator.converge(opened.local_host)
        (state_dir / "users.toml").write_bytes(_users_file())
        budgets = budgets or Budgets()
        desk = open_desk(
            stack=stack,
            database=database,
            coordinator=coordinator,
            credentials=Credentials(state_dir / "users.toml", accounts),
            directory=directory or KnownPeople(),
            budgets=budgets,
            hosts=host,
            host=opened.local_host,
            clock=now,
            refusal_delay_s=refusal_delay_s,
        )
        audit_log = AuditLog(state_dir / "audit", database)
        audit_log.open()
        stack.push_async_callback(audit_log.close)
        writing = asyncio.create_task(audit_log.follow())
        stack.push_async_callback(_cancelled, writing)
        auditor = Auditor(audit_log.add)
        dispatcher = desk.dispatcher(undo_messages(audit_log, coordinator), auditor)
        yield InProcess(
            database=database,
            coordinator=coordinator,
            dispatcher=dispatcher,
            sessions=desk.sessions,
            tasks=desk.tasks,
            events=desk.events,
            host=host,
            audit_log=audit_log,
            auditor=auditor,
            budgets=budgets,
            run_cli=desk.console(dispatcher, auditor, audit_log),
        )


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def login_as(server: InProcess, role: Role | None) -> Ref[Session]:
    """A session of that role, without a password; None is the superuser's."""
    identity = Identity("root" if role is None else role.value, role)
    return await server.sessions.admit(identity, originator="test")


@cache
def _users_file() -> bytes:
    """The file with root's password; made once, because the hash takes long on purpose."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "users.toml"
        Credentials(path, None).set_password("root", "secret")
        return path.read_bytes()


class BrokenDisk(MemoryEngine):
    """An engine that can be told to fail."""

    broken = False

    def append(self, record: CommitRecord) -> None:
        """See `Engine`."""
        if self.broken:
            raise StorageFailed("the disk is full")
        super().append(record)


def with_server(
    tmp_path: Path,
    body: Callable[[InProcess], Awaitable[T]],
    engine: Engine | None = None,
    *,
    accounts: SystemAccounts | None = None,
    directory: Directory | None = None,
) -> T:
    """Runs `body` with a server of its own."""

    async def run() -> T:
        async with in_process(tmp_path, engine, accounts=accounts, directory=directory) as server:
            return await body(server)

    return asyncio.run(run())


def now() -> datetime:
    """The real time; tests that care about it make their own."""
    return datetime.now(UTC)
