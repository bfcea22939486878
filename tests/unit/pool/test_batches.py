"""Calls that arrive together are carried out together; one that fails is no other one's failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from structlog.testing import capture_logs

from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.task import Task
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import TaskStatusType
from poolnet.model.errors import Failure
from poolnet.model.types import NULL, Ref, Value
from poolnet.pool.coordinator import Coordinator, RuleCall
from poolnet.pool.hostlink import HostCutOff, HostRefused
from poolnet.pool.progress import HOST_KEY, Step
from poolnet.rules.context import CallContext, Session
from poolnet.rules.vlan import create as create_vlan
from tests.in_process import BrokenDisk, InProcess, with_server
from tests.unit.pool.test_coordinator import bridges, networks, vlan_call
from tests.unit.pool.test_rollout_of_several import PoolOfThree, with_pool


async def together(coordinator: Coordinator, calls: Sequence[RuleCall]) -> list[Value | BaseException]:
    return await asyncio.gather(*map(coordinator.run, calls), return_exceptions=True)


def codes(results: Sequence[object]) -> list[str]:
    """How the calls ended: a failure's code, or nothing for a success."""
    return [result.code if isinstance(result, Failure) else "" for result in results]


def vlan_on(host: Ref[Host], tag: int, task: Ref[Task] = NULL) -> RuleCall:
    """A VLAN of one host on a network of its own."""

    def rule(ctx: CallContext) -> Ref[VLAN]:
        pif = next(p for p in ctx.txn.where(PIF, host=host) if p.device == "eth1")
        bridge = f"xapi{tag}{host[-1]}"
        network = ctx.txn.create(Network(ref=ctx.new_ref(), uuid=ctx.new_uuid(), bridge=bridge))
        made: Ref[VLAN] = create_vlan(ctx, tagged_PIF=pif.ref, tag=tag, network=network)
        return made

    return RuleCall(method="network.destroy", rule=rule, arguments={}, session=Session(), task=task)


def test_a_call_that_another_stood_in_the_way_of_is_carried_out_when_that_fails(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        one, two, three = await networks(server, 3)
        bad = server.database.view.get(Network, one).uuid
        server.host.refuse = lambda desired: any(bad in bridge.network_uuids for bridge in desired.bridges)
        calls = [vlan_call(server, 7, network) for network in (one, two, three)]
        results = await together(server.coordinator, calls)
        assert codes(results) == ["PIF_CONFIGURATION_ERROR", "", "PIF_VLAN_EXISTS"]
        (vlan,) = server.database.view.all(VLAN)
        assert (vlan.ref, bridges(server.host.network)) == (results[1], {7})

    with_server(tmp_path, body)


def test_a_bug_that_the_outcome_of_one_call_meets_fails_that_call_alone(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        made = await networks(server, 5)
        stage = server.host.stage

        async def broken(host: Ref[Host], command: protocol.Stage) -> protocol.Staged:
            if 3 in bridges(command.desired):
                raise LookupError("a bug")
            return await stage(host, command)

        server.host.stage = broken  # type: ignore[method-assign]
        with capture_logs() as logs:
            results = await together(
                server.coordinator, [vlan_call(server, tag, network) for tag, network in enumerate(made, 1)]
            )
        assert codes(results) == ["", "", "INTERNAL_ERROR", "", ""]
        assert bridges(server.host.network) == {1, 2, 4, 5}
        assert {vlan.tag for vlan in server.database.view.all(VLAN)} == {1, 2, 4, 5}
        assert any(line["event"] == "batch-failed" for line in logs)

    with_server(tmp_path, body)


def test_a_call_that_cuts_a_host_off_fails_alone(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        victim, other, _ = pool.hosts.reachable()
        before = pool.networks()

        def tags(host: Ref[Host]) -> set[int]:
            return bridges(pool.hosts.machines[host].network)

        def fail(step: str, host: Ref[Host]) -> None:
            if (step, host) == ("contact", victim) and 9 in tags(host):
                raise HostCutOff("cut off", host)

        pool.hosts.fail = fail
        calls = [vlan_on(victim, 7), vlan_on(victim, 9), vlan_on(victim, 8), vlan_on(other, 7)]
        results = await together(pool.coordinator, calls)
        assert codes(results) == ["", "CANNOT_CONTACT_HOST", "", ""]
        assert results[1].params == (victim,)  # type: ignore[union-attr]
        assert (tags(victim), tags(other)) == ({7, 8}, {7})
        assert pool.networks()[pool.hosts.local] == before[pool.hosts.local]
        assert pool.database.view.count(VLAN) == 3

    with_pool(tmp_path, body, BrokenDisk())


def test_the_task_of_a_call_tells_of_the_rollout_that_is_its_own_in_the_end(tmp_path: Path) -> None:
    async def body(pool: PoolOfThree) -> None:
        victim, other, _ = pool.hosts.reachable()
        txn = pool.database.begin()
        tasks = [
            txn.create(Task(ref=Ref(f"OpaqueRef:{name}"), uuid=name, status=TaskStatusType.PENDING))
            for name in ("bad", "good")
        ]
        pool.database.commit_now(txn.changes())

        def fail(step: str, host: Ref[Host]) -> None:
            if (step, host) == ("switch", victim):
                raise HostRefused(protocol.Refused(fault=protocol.Fault.SWITCH_FAILED, message="no"))

        pool.hosts.fail = fail
        calls = [vlan_on(victim, 7, tasks[0]), vlan_on(other, 7, tasks[1])]
        assert codes(await together(pool.coordinator, calls)) == ["PIF_CONFIGURATION_ERROR", ""]
        await pool.coordinator.write(lambda _: None)  # what was reported is written
        told = [pool.database.view.get(Task, task).other_config for task in tasks]
        view = pool.database.view
        assert told == [
            {f"{HOST_KEY}{view.get(Host, victim).uuid}": Step.FAILED},
            {f"{HOST_KEY}{view.get(Host, other).uuid}": Step.KEPT},
        ]

    with_pool(tmp_path, body, BrokenDisk())


def test_a_change_that_another_stood_in_the_way_of_is_made_when_that_cannot_be_committed(
    tmp_path: Path,
) -> None:
    async def body(server: InProcess) -> None:
        def take(mtu: int) -> Callable[[Txn], Value]:
            def change(txn: Txn) -> Value:
                if txn.where(Network, name_label="mine"):
                    raise errors.value_not_supported("name_label", "mine", "taken")
                ref: Ref[Network] = Ref(f"OpaqueRef:{mtu}")
                return txn.create(Network(ref=ref, uuid=f"u{mtu}", name_label="mine", MTU=mtu))

            return change

        changes = [take("text"), take(1400), take(1300)]  # type: ignore[arg-type]
        results = await asyncio.gather(*map(server.coordinator.write, changes), return_exceptions=True)
        assert codes(results) == ["INTERNAL_ERROR", "", "VALUE_NOT_SUPPORTED"]
        assert [row.MTU for row in server.database.view.where(Network, name_label="mine")] == [1400]

    with_server(tmp_path, body)
