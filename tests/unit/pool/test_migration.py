"""A VM that migrates runs at its old host or at its new one and never at both, whichever message is lost on the way.

The hosts are values that do what their daemons do with guests: those that wait are left alone by timers and by ways back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from poolnet.db.database import Database
from poolnet.hostnet import protocol
from poolnet.hostnet.facts import WAITING, GuestFacts, HostFacts
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.hostlink import HostGone, HostRefused
from poolnet.rules import vif, vm, vm_power
from poolnet.rules.context import Session
from poolnet.rules.vm_migrate import pool_migrate
from tests.in_process import FACTS, BrokenDisk
from tests.unit.pool.test_rollout_of_several import Machines, three_hosts
from tests.unit.rules.world import VIF_RECORD, VM_RECORD

A = TypeVar("A", bound=protocol.Answer)
STEPS_MAX = 40


@dataclass
class Guests(Machines):
    """Machines with guests: those of each, by uuid, with their states and domain ids."""

    guests: dict[Ref[Host], dict[str, tuple[str, int]]] = field(default_factory=dict)
    commands: dict[str, protocol.Stage] = field(default_factory=dict)
    broken: set[Ref[Host]] = field(default_factory=set)
    seen: list[int] = field(default_factory=list)

    def on(self, host: Ref[Host]) -> dict[str, tuple[str, int]]:
        return self.guests.setdefault(host, {})

    def running(self) -> list[Ref[Host]]:
        return [host for host, own in self.guests.items() if any(s == "running" for s, _ in own.values())]

    def act(self, host: Ref[Host], action: protocol.GuestAction) -> None:
        own = self.on(host)
        match action:
            case protocol.CreateGuest(guest=guest):
                own[guest.vm_uuid] = ("paused", guest.domid)
            case protocol.ReceiveGuest(guest=guest):
                own[guest.vm_uuid] = ("arriving", guest.domid)
            case protocol.DepartGuest(vm_uuid=uuid):
                own[uuid] = ("departing", own[uuid][1])
            case protocol.RunGuest(vm_uuid=uuid):
                own[uuid] = ("running", own[uuid][1])
            case protocol.DestroyGuest(vm_uuid=uuid):
                own.pop(uuid, None)
            case _:
                raise AssertionError(action)
        self.seen.append(len(self.running()))

    async def stage(self, host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
        staged = await super().stage(host, command)
        self.commands[f"{host}{command.rollout}"] = command
        return staged

    async def switch(self, host: Ref[Host], command: protocol.Switch) -> protocol.Done:
        staged = self.commands[f"{host}{command.rollout}"]
        self.fail("before switch", host)
        for action in (*staged.guests_before, *staged.guests_after):
            self.act(host, action)
        return await super().switch(host, command)

    async def ask(self, host: Ref[Host], command: protocol.Command, expect: type[A], timeout_s: float) -> A:
        self._at(type(command).__name__, host)
        answer: protocol.Answer = protocol.Done(facts=FACTS)
        match command:
            case protocol.ReadGuest(vm_uuid=uuid):
                assert self.on(host)[uuid][0] == "departing"
                answer = protocol.GuestImage(vm_uuid=uuid, addresses=((0, "10.0.0.1/24"),))
            case protocol.LoadGuest(image=image):
                assert self.on(host)[image.vm_uuid][0] == "arriving"
            case protocol.SettleGuest(action=action):
                self.act(host, action)
        assert isinstance(answer, expect)
        return answer

    async def look(self, host: Ref[Host]) -> None:
        self._at("look", host)

    def facts(self) -> Mapping[Ref[Host], HostFacts]:
        return {
            host: replace(
                FACTS,
                guests=tuple(
                    GuestFacts(vm_uuid=uuid, domid=domid, state=state)
                    for uuid, (state, domid) in self.on(host).items()
                ),
            )
            for host in self.machines
        }


@dataclass
class Pool:
    """Three hosts, and a VM that runs on one of them."""

    database: Database
    coordinator: Coordinator
    hosts: Guests
    disk: BrokenDisk
    vm: Ref[VM] = NULL

    @property
    def row(self) -> VM:
        return self.database.view.get(VM, self.vm)

    async def migrate(self, host: Ref[Host]) -> None:
        await self.call("VM.pool_migrate", pool_migrate, vm=self.vm, host=host, options={})

    async def call(self, method: str, rule: Callable[..., object], **arguments: object) -> Ref[VM]:
        call = RuleCall(method=method, rule=rule, arguments=arguments, session=Session())  # type: ignore[arg-type]
        return await self.coordinator.run(call)  # type: ignore[return-value]

    async def heal(self) -> None:
        """Everybody can be reached again: timers have run out, and each host is brought in step as it reports."""
        self.hosts.fail = lambda _, __: None
        self.hosts.timers_run_out()
        for host in self.hosts.machines:
            await self.coordinator.converge(host)
            await self.coordinator.settle_guests(host)

    def require_whole(self) -> None:
        """The VM runs once, where the database says, under its domain id, and nothing of it is anywhere else."""
        row = self.row
        assert self.hosts.running() == [row.resident_on]
        assert self.hosts.on(row.resident_on) == {row.uuid: ("running", row.domid)}
        assert all(not own for host, own in self.hosts.guests.items() if host != row.resident_on)
        assert max(self.hosts.seen) == 1, "it ran at two hosts"
        for host, machine in self.hosts.machines.items():
            ports = [port for port in machine.confirmed.ports if port.vm_uuid == row.uuid]
            assert len(ports) == (1 if host == row.resident_on else 0)


def with_vm(tmp_path: Path, start: int, body: Callable[[Pool, list[Ref[Host]]], Awaitable[None]]) -> None:
    """Runs it in a pool whose VM runs on the host of that number (0 is the coordinator)."""

    async def run() -> None:
        disk = BrokenDisk()
        async with three_hosts(tmp_path, disk, Guests) as started:
            database, hosts, order = started.database, started.hosts, started.order
            pool = Pool(database, started.coordinator, hosts, disk)
            txn = database.begin()
            for host in order[1:]:
                txn.update(Host, host, enabled=True)
            await database.commit(txn.changes())
            network = next(n for n in database.view.all(Network) if n.bridge == "xenbr0")
            pool.vm = await pool.call("VM.create", vm.create, record=VM_RECORD)
            record = {**VIF_RECORD, "VM": pool.vm, "network": network.ref}
            await pool.call("VIF.create", vif.create, record=record)
            words = {"vm": pool.vm, "host": order[start], "start_paused": False, "force": False}
            await pool.call("VM.start_on", vm_power.start_on, **words)
            hosts.log.clear()
            await body(pool, order)

    asyncio.run(run())


@pytest.mark.parametrize(("start", "to"), [(0, 1), (1, 0), (1, 2)])
def test_a_guest_waits_at_both_hosts_until_it_is_decided(tmp_path: Path, start: int, to: int) -> None:
    async def body(pool: Pool, order: list[Ref[Host]]) -> None:
        before = pool.row
        mac = pool.database.view.where(VIF, VM=pool.vm)[0].MAC
        await pool.migrate(order[to])
        pool.require_whole()
        assert pool.row.resident_on == order[to]
        assert pool.row.power_state is before.power_state
        vifs = pool.database.view.where(VIF, VM=pool.vm)
        assert [(one.MAC, one.currently_attached) for one in vifs] == [(mac, True)]
        told = [(what, host) for what, host in pool.hosts.log if what.endswith("Guest")]
        assert told == [
            ("ReadGuest", order[start]),
            ("LoadGuest", order[to]),
            ("SettleGuest", order[to]),
            ("SettleGuest", order[start]),
        ]
        confirmed = [index for index, (what, _) in enumerate(pool.hosts.log) if what == "confirm"]
        assert max(confirmed) < pool.hosts.log.index(("SettleGuest", order[to])), (
            "it runs once that is decided"
        )

    with_vm(tmp_path, start, body)


@pytest.mark.parametrize(("start", "to"), [(0, 1), (1, 0), (1, 2)])
@pytest.mark.parametrize("gone", [False, True], ids=["refuses", "is gone"])
def test_a_failure_at_any_step_leaves_it_whole(tmp_path: Path, start: int, to: int, gone: bool) -> None:
    """Every message has its turn to fail; a host that is gone stays so until all is over."""

    def failing(step: int, count: list[int], lost: set[Ref[Host]]) -> Callable[[str, Ref[Host]], None]:
        def fail(what: str, host: Ref[Host]) -> None:
            count[0] += 1
            if host in lost:
                raise HostGone("told to be gone", host)
            if count[0] == step:
                if gone:
                    lost.add(host)
                    raise HostGone("told to be gone", host)
                raise HostRefused(protocol.Refused(fault=protocol.Fault.GUEST_FAILED, message="told to fail"))

        return fail

    async def body(pool: Pool, order: list[Ref[Host]]) -> None:
        outcomes = set()
        for step in range(1, STEPS_MAX):
            origin = pool.row.resident_on
            target = order[to] if origin == order[start] else order[start]
            count, lost = [0], set[Ref[Host]]()
            pool.hosts.fail = failing(step, count, lost)
            failed = False
            try:
                await pool.migrate(target)
            except Failure:
                failed = True
            assert len(pool.hosts.running()) <= 1
            happened = count[0] >= step
            await pool.heal()
            pool.require_whole()
            moved = pool.row.resident_on == target
            assert moved != failed, (
                "who was told that it failed finds it where it was, and the other way round"
            )
            outcomes.add(moved)
            if not happened:
                break
        else:
            pytest.fail("there was no end of steps")
        assert outcomes == {True, False}

    with_vm(tmp_path, start, body)


def test_a_commit_that_fails_leaves_it_where_it_was(tmp_path: Path) -> None:
    async def body(pool: Pool, order: list[Ref[Host]]) -> None:
        pool.disk.broken = True
        with pytest.raises(Failure):
            await pool.migrate(order[1])
        pool.disk.broken = False
        assert pool.row.resident_on == order[0]
        await pool.heal()
        pool.require_whole()

    with_vm(tmp_path, 0, body)


def test_a_guest_that_waits_and_that_nobody_knows_is_removed(tmp_path: Path) -> None:
    async def body(pool: Pool, order: list[Ref[Host]]) -> None:
        for state in WAITING:
            pool.hosts.on(order[2])["11111111-2222-3333-4444-555555555555"] = (state, 9)
            pool.hosts.on(order[1])[pool.row.uuid] = (state, 9)
            for host in order:
                await pool.coordinator.settle_guests(host)
            pool.require_whole()

    with_vm(tmp_path, 0, body)
