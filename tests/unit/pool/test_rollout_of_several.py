"""A rollout over several hosts changes all of them, or none: whichever host fails, is gone, or the disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import pytest

from poolnet.db.database import Database
from poolnet.hostnet import protocol
from poolnet.hostnet.diff import diff
from poolnet.hostnet.facts import HostFacts
from poolnet.hostnet.state import HostNetwork
from poolnet.hostnet.storage import StorageAction
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.task import Task
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import TaskStatusType
from poolnet.model.errors import Failure
from poolnet.model.types import Ref, Value
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.pool.progress import HOST_KEY, Step
from poolnet.pool.start import open_pool
from poolnet.rules.admit import CLASSES, admit
from poolnet.rules.context import CallContext, Counters, Phase, Session
from poolnet.rules.pool import create_VLAN_from_PIF
from poolnet.rules.vlan import create as create_vlan
from tests.in_process import FACTS, GREETING, BrokenDisk, now
from tests.unit.rules.world import World

A = TypeVar("A", bound=protocol.Answer)


@dataclass
class Machine:
    """A host as its daemon keeps it: what is confirmed, and what waits for it."""

    confirmed: HostNetwork = field(default_factory=HostNetwork)
    switched: tuple[str, HostNetwork] | None = None
    staged: dict[str, HostNetwork] = field(default_factory=dict)

    @property
    def network(self) -> HostNetwork:
        return self.switched[1] if self.switched else self.confirmed


@dataclass
class Machines:
    """Several hosts that exist as values, and do what they are told unless `fail` raises first."""

    local: Ref[Host]
    machines: dict[Ref[Host], Machine]
    log: list[tuple[str, Ref[Host]]] = field(default_factory=list)
    stagings: list[tuple[Ref[Host], protocol.Stage]] = field(default_factory=list)
    confirmations: list[tuple[Ref[Host], protocol.Confirm]] = field(default_factory=list)
    fail: Callable[[str, Ref[Host]], None] = lambda _, __: None

    def _at(self, what: str, host: Ref[Host]) -> Machine:
        self.log.append((what, host))
        self.fail(what, host)
        return self.machines[host]

    def reachable(self) -> Sequence[Ref[Host]]:
        return (*(host for host in self.machines if host != self.local), self.local)

    def is_local(self, host: Ref[Host]) -> bool:
        return host == self.local

    def expect(self, host: Ref[Host], address: str) -> None:
        pass

    async def require_contact(self, host: Ref[Host], coordinator_address: str) -> None:
        self._at("contact", host)

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        machine = self._at("stage", host)
        if machine.switched is not None:
            refused = protocol.Refused(fault=protocol.Fault.BUSY, message="busy", subject=machine.switched[0])
            raise HostRefused(refused)
        machine.staged[command.rollout] = command.desired
        self.stagings.append((host, command))
        return protocol.Staged(plan=diff(machine.network, command.desired), plan_hash="")

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        machine = self._at("switch", host)
        desired = machine.staged.pop(command.rollout)
        if command.confirm_within_s is None:
            machine.confirmed = desired
        else:
            machine.switched = (command.rollout, desired)
        return protocol.Done(facts=FACTS)

    async def settle(self, host: Ref[Host], command: protocol.Confirm | protocol.Revert) -> protocol.Done:
        what = type(command).__name__.lower()
        if isinstance(command, protocol.Confirm):
            self.confirmations.append((host, command))
        machine = self._at(what, host)
        if machine.switched is not None and machine.switched[0] == command.rollout:
            if isinstance(command, protocol.Confirm):
                machine.confirmed = machine.switched[1]
            machine.switched = None
        return protocol.Done(facts=FACTS)

    def timers_run_out(self) -> None:
        """Whatever nobody has confirmed goes back."""
        for machine in self.machines.values():
            machine.switched = None

    async def set_hostname(self, host: Ref[Host], hostname: str) -> None:
        pass

    async def storage(self, host: Ref[Host], action: StorageAction) -> protocol.StorageSpace:
        raise AssertionError("no call here is about storage")

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        raise AssertionError("no call here is about guests")

    async def look(self, host: Ref[Host]) -> None:
        pass

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        return dict.fromkeys(self.machines, FACTS)


@dataclass
class PoolOfThree:
    """A coordinator with two members, brought in step."""

    database: Database
    coordinator: Coordinator
    hosts: Machines
    astray: list[Ref[Host]] = field(default_factory=list)

    def vlan_call(self) -> RuleCall:
        """A VLAN on all hosts."""
        view = self.database.view
        pif = next(p for p in view.where(PIF, host=self.hosts.local) if p.device == "eth1")
        network = next(n for n in view.all(Network) if n.name_label == "for the VLAN")
        return RuleCall(
            method="pool.create_VLAN_from_PIF",
            rule=create_VLAN_from_PIF,
            arguments={"pif": pif.ref, "network": network.ref, "VLAN": 7},
            session=Session(),
        )

    def networks(self) -> dict[Ref[Host], HostNetwork]:
        """What each host is."""
        return {host: machine.network for host, machine in self.hosts.machines.items()}


M = TypeVar("M", bound=Machines)


@dataclass
class Started(Generic[M]):
    """A coordinator and its hosts; `order` is itself and the members as they joined."""

    database: Database
    coordinator: Coordinator
    hosts: M
    order: list[Ref[Host]]


@asynccontextmanager
async def three_hosts(tmp_path: Path, disk: BrokenDisk, kind: type[M]) -> AsyncIterator[Started[M]]:
    """A pool of three that are up and in step."""
    database = Database.open(disk)
    counters = Counters()
    opened = await open_pool(
        database=database,
        greeting=GREETING,
        facts=FACTS,
        state_dir=tmp_path,
        clock=now,
        counters=counters,
    )
    order = [opened.local_host, *[await join(database, opened, number) for number in (2, 3)]]
    hosts = kind(opened.local_host, {host: Machine() for host in order})
    coordinator = Coordinator(
        database=database, hosts=hosts, local_host=opened.local_host, clock=now, counters=counters
    )
    coordinator.start()
    try:
        for host in hosts.reachable():
            await coordinator.converge(host)
        hosts.log.clear()
        yield Started(database, coordinator, hosts, order)
    finally:
        await coordinator.stop()
        database.close()


def with_pool(tmp_path: Path, body: Callable[[PoolOfThree], Awaitable[None]], disk: BrokenDisk) -> None:
    async def run() -> None:
        async with three_hosts(tmp_path, disk, Machines) as started:
            pool = PoolOfThree(started.database, started.coordinator, started.hosts)
            started.coordinator.on_stray(pool.astray.append)
            await body(pool)

    asyncio.run(run())


async def join(database: Database, opened: CallContext, number: int) -> Ref[Host]:
    """A member that is up."""
    other = World.new(nics=2)
    uuid = f"00000000-0000-0000-0000-00000000000{number}"
    me = next(iter(other.txn.refs(Host)))
    other.txn.update(Host, me, uuid=uuid)
    rows = [row for cls in CLASSES for row in other.txn.all(cls)]
    txn = database.begin()
    host = admit(opened.on(txn), uuid=uuid, rows=rows)
    txn.update(HostMetrics, txn.get(Host, host).metrics, live=True)
    if number == 2:
        txn.create(
            Network(ref=opened.new_ref(), uuid=opened.new_uuid(), name_label="for the VLAN", bridge="xapi77")
        )
    await database.commit(txn.changes())
    return host


def has_vlan(network: HostNetwork) -> bool:
    return any(bridge.vlan_tag == 7 for bridge in network.bridges)


def test_all_hosts_change_and_the_coordinator_is_the_last(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        await pool.coordinator.run(pool.vlan_call())
        assert all(has_vlan(machine.confirmed) for machine in pool.hosts.machines.values())
        assert pool.database.view.count(VLAN) == 3
        steps = [what for what, _ in pool.hosts.log]
        assert steps == [*["stage"] * 3, *["switch"] * 3, *["contact"] * 2, *["confirm"] * 3]
        assert [host for what, host in pool.hosts.log if what == "switch"][-1] == pool.hosts.local

    with_pool(tmp_path, body, BrokenDisk())


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("what", ["stage", "switch", "contact"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_whoever_fails_before_the_commit_nobody_changes(
    tmp_path: Path, what: str, position: int, gone: bool
) -> None:
    if what == "contact" and position == 2:
        return  # nobody asks the coordinator whether it reaches itself

    async def body(pool: PoolOfThree) -> None:
        before = pool.networks()
        victim = pool.hosts.reachable()[position]

        def fail(step: str, host: Ref[Host]) -> None:
            if host == victim and (step == what or (gone and step in ("confirm", "revert"))):
                if gone:
                    raise HostGone("cut off", host)
                raise HostRefused(protocol.Refused(fault=protocol.Fault.SWITCH_FAILED, message="no"))

        pool.hosts.fail = fail
        with pytest.raises(Failure) as refused:
            await pool.coordinator.run(pool.vlan_call())
        if gone:
            assert (refused.value.code, refused.value.params) == ("CANNOT_CONTACT_HOST", (victim,))
        assert pool.database.view.count(VLAN) == 0
        pool.hosts.timers_run_out()
        assert pool.networks() == before

    with_pool(tmp_path, body, BrokenDisk())


@pytest.mark.parametrize("what", ["stage", "switch", "contact"])
def test_a_host_that_is_gone_is_the_fault_of_the_calls_that_concern_it(tmp_path: Path, what: str) -> None:
    """Calls that arrive together are carried out together; one about another host, or none, must not fail with the others."""

    async def body(pool: PoolOfThree) -> None:
        gone, other, _ = pool.hosts.reachable()

        def fail(step: str, host: Ref[Host]) -> None:
            if (step, host) == (what, gone):
                raise HostGone("cut off", host)

        def rename(ctx: CallContext) -> None:
            (network,) = ctx.txn.where(Network, bridge="xapi77")
            ctx.txn.update(Network, network.ref, name_label="renamed")

        def on_the_other(ctx: CallContext) -> Ref[VLAN]:
            pif = next(p for p in ctx.txn.where(PIF, host=other) if p.device == "eth1")
            network = ctx.txn.create(Network(ref=ctx.new_ref(), uuid=ctx.new_uuid(), bridge="xapi78"))
            made: Ref[VLAN] = create_vlan(ctx, tagged_PIF=pif.ref, tag=8, network=network)
            return made

        def call(rule: Callable[..., Value]) -> RuleCall:
            return RuleCall(method="network.destroy", rule=rule, arguments={}, session=Session())

        pool.hosts.fail = fail
        refused, renamed, made = await asyncio.gather(
            pool.coordinator.run(pool.vlan_call()),
            pool.coordinator.run(call(rename)),
            pool.coordinator.run(call(on_the_other)),
            return_exceptions=True,
        )
        assert isinstance(refused, Failure)
        assert (refused.code, refused.params) == ("CANNOT_CONTACT_HOST", (gone,))
        assert renamed is None
        (vlan,) = pool.database.view.all(VLAN)
        assert (vlan.ref, vlan.tag) == (made, 8)
        assert any(network.name_label == "renamed" for network in pool.database.view.all(Network))
        once_more = what == "switch"  # to take it back
        assert pool.hosts.log.count((what, gone)) == 1 + once_more

    with_pool(tmp_path, body, BrokenDisk())


def with_task(pool: PoolOfThree) -> RuleCall:
    """A call that runs under a task."""
    txn = pool.database.begin()
    task = txn.create(Task(ref=Ref("OpaqueRef:task"), uuid="task", status=TaskStatusType.PENDING))
    pool.database.commit_now(txn.changes())
    return replace(pool.vlan_call(), task=task)


async def told(pool: PoolOfThree) -> tuple[float, set[str]]:
    """What the task says once all that was reported is written: how much is done, and how far the hosts are."""
    await pool.coordinator.write(lambda _: None)
    (task,) = pool.database.view.all(Task)
    return task.progress, {text for key, text in task.other_config.items() if key.startswith(HOST_KEY)}


def test_whoever_watches_the_task_sees_how_far_each_host_is(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        call = with_task(pool)
        seen: list[tuple[float, set[str]]] = []
        contact = pool.hosts.require_contact

        async def look(host: Ref[Host], coordinator_address: str) -> None:
            seen.append(await told(pool))
            await contact(host, coordinator_address)

        pool.hosts.require_contact = look  # type: ignore[method-assign]  # between the change and the commit
        await pool.coordinator.run(call)
        (progress, steps), *_ = seen
        assert 0.5 < progress < 0.9
        assert steps == {Step.CHANGED}
        progress, steps = await told(pool)
        assert progress == pytest.approx(0.95)
        assert steps == {Step.KEPT}

    with_pool(tmp_path, body, BrokenDisk())


def test_the_task_names_the_host_that_failed(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        call = with_task(pool)
        victim = pool.hosts.reachable()[1]

        def fail(step: str, host: Ref[Host]) -> None:
            if host == victim and step in ("switch", "revert", "stage"):
                raise HostGone("cut off", host)

        pool.hosts.fail = fail
        with pytest.raises(Failure):
            await pool.coordinator.run(call)
        await told(pool)
        (task,) = pool.database.view.all(Task)
        uuid = pool.database.view.get(Host, victim).uuid
        assert task.other_config[f"{HOST_KEY}{uuid}"] == Step.FAILED

    with_pool(tmp_path, body, BrokenDisk())


def test_a_full_disk_brings_all_hosts_back(tmp_path: Path) -> None:
    disk = BrokenDisk()

    async def body(pool: PoolOfThree) -> None:
        before = pool.networks()
        disk.broken = True
        with pytest.raises(Failure):
            await pool.coordinator.run(pool.vlan_call())
        assert pool.networks() == before
        assert all(machine.switched is None for machine in pool.hosts.machines.values())

    with_pool(tmp_path, body, disk)


def test_a_host_that_is_gone_after_the_commit_is_brought_in_step_when_it_is_back(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        victim = pool.hosts.reachable()[0]

        def fail(step: str, host: Ref[Host]) -> None:
            if host == victim and step == "confirm":
                raise HostGone("cut off", host)

        pool.hosts.fail = fail
        await pool.coordinator.run(pool.vlan_call())
        assert pool.astray == [victim]
        pool.hosts.timers_run_out()
        assert not has_vlan(pool.hosts.machines[victim].network), "its own timer took it back"
        pool.hosts.fail = lambda _, __: None
        await pool.coordinator.converge(victim)
        assert has_vlan(pool.hosts.machines[victim].confirmed)

    with_pool(tmp_path, body, BrokenDisk())


def test_a_host_that_has_guests_to_keep_is_told_twice_that_it_is_decided(tmp_path: Path) -> None:
    """Its daemon may have died over it: it has taken it back then, and does it again when it hears that it is decided."""

    async def body(pool: PoolOfThree) -> None:
        victim, other, _ = pool.hosts.reachable()
        call = pool.vlan_call()

        def rule(ctx: CallContext, **arguments: Value) -> Value:
            started = protocol.RunGuest(vm_uuid="6cbb5c4e-5b5c-4d0c-8d3c-9a1c1c0c5a11")
            ctx.guest_actions.append((victim, Phase.AFTER, started))
            made: Value = call.rule(ctx, **arguments)
            return made

        def fail(step: str, host: Ref[Host]) -> None:
            if step == "confirm" and host != pool.hosts.local and pool.hosts.log.count((step, host)) == 1:
                raise HostGone("the link was closed", host)

        pool.hosts.fail = fail
        await pool.coordinator.run(replace(call, rule=rule))
        assert pool.astray == [other], "its network can be seen to later"
        told = [(host, confirm.alive) for host, confirm in pool.hosts.confirmations]
        assert told.count((victim, ())) == 2
        assert has_vlan(pool.hosts.machines[victim].confirmed)

    with_pool(tmp_path, body, BrokenDisk())


def test_a_host_that_comes_back_hears_what_is_decided_before_it_is_made_anything_else(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        victim = pool.hosts.reachable()[0]
        await pool.coordinator.converge(victim)
        assert "confirm" not in [step for step, _ in pool.hosts.log], "nothing was decided yet"
        await pool.coordinator.run(pool.vlan_call())
        pool.hosts.log.clear()
        pool.hosts.confirmations.clear()
        await pool.coordinator.converge(victim)
        assert [step for step, _ in pool.hosts.log][:2] == ["confirm", "stage"]
        assert [confirm.alive for _, confirm in pool.hosts.confirmations] == [()]

    with_pool(tmp_path, body, BrokenDisk())


def test_what_was_decided_is_kept_by_hosts_that_nobody_could_tell(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        victim = pool.hosts.reachable()[0]

        def fail(step: str, host: Ref[Host]) -> None:
            if host == victim and step == "confirm":
                raise HostGone("cut off", host)

        pool.hosts.fail = fail
        await pool.coordinator.run(pool.vlan_call())
        assert pool.hosts.machines[victim].switched is not None
        pool.hosts.fail = lambda _, __: None
        await pool.coordinator.finish(victim)  # before its time ran out
        assert has_vlan(pool.hosts.machines[victim].confirmed)

    with_pool(tmp_path, body, BrokenDisk())


def test_what_was_not_decided_is_not_kept(tmp_path: Path) -> None:
    disk = BrokenDisk()

    async def body(pool: PoolOfThree) -> None:
        victim = pool.hosts.reachable()[0]
        before = pool.networks()[victim]
        disk.broken = True

        def fail(step: str, host: Ref[Host]) -> None:
            if host == victim and step in ("revert", "stage") and pool.hosts.machines[host].switched:
                raise HostGone("cut off", host)

        pool.hosts.fail = fail
        with pytest.raises(Failure):
            await pool.coordinator.run(pool.vlan_call())
        assert pool.hosts.machines[victim].switched is not None
        pool.hosts.fail = lambda _, __: None
        await pool.coordinator.finish(victim)
        await pool.coordinator.converge(victim)
        assert pool.networks()[victim] == before

    with_pool(tmp_path, body, disk)


def test_a_host_that_is_not_in_step_does_not_hold_up_changes_elsewhere(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        victim = pool.hosts.reachable()[0]
        pool.coordinator.forget(victim)

        def fail(step: str, host: Ref[Host]) -> None:
            if host == victim:
                raise HostGone("cut off", host)

        pool.hosts.fail = fail
        view = pool.database.view
        base = next(p for p in view.where(PIF, host=pool.hosts.local) if p.device == "eth1")
        network = next(n for n in view.all(Network) if n.name_label == "for the VLAN")
        call = pool.vlan_call()
        arguments: dict[str, Value] = {"tagged_PIF": base.ref, "network": network.ref, "tag": 7}
        await pool.coordinator.run(
            RuleCall(method="VLAN.create", rule=create_vlan, arguments=arguments, session=call.session)
        )
        assert has_vlan(pool.hosts.machines[pool.hosts.local].confirmed)

    with_pool(tmp_path, body, BrokenDisk())


def test_a_coordinator_that_dies_before_the_commit_leaves_hosts_that_go_back(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        before = pool.networks()
        stuck = asyncio.Event()

        async def contact(host: Ref[Host], coordinator_address: str) -> None:
            stuck.set()
            await asyncio.Event().wait()

        pool.hosts.require_contact = contact  # type: ignore[method-assign]
        calling = asyncio.create_task(pool.coordinator.run(pool.vlan_call()))
        await stuck.wait()
        assert all(machine.switched is not None for machine in pool.hosts.machines.values())
        pool.hosts.fail = lambda _, host: (_ for _ in ()).throw(HostGone("dead", host))
        await pool.coordinator.stop()  # it can tell nobody any more
        pool.hosts.timers_run_out()
        assert pool.networks() == before
        assert pool.database.view.count(VLAN) == 0
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)

    with_pool(tmp_path, body, BrokenDisk())
