"""Sessions of the CLI in the server's own process, and runs that only plan (xe-cli §1)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.answer import Origin
from poolnet.api.audit_calls import undo_rule
from poolnet.api.cli_login import CliLogin
from poolnet.api.credentials import Identity
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.session import Session
from poolnet.model.classes.task import Task
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.classes.vm import VM
from poolnet.model.errors import Failure
from poolnet.model.registry import CLASSES
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Ref
from poolnet.xe.caller import Caller, Value
from poolnet.xe.commands.run import run as run_command
from tests.golden.xe_world import Terminal
from tests.in_process import InProcess, login_as, with_server
from tests.unit.api.test_events import minimal_vm
from tests.unit.api.test_hang_up import until
from tests.unit.pool.test_coordinator import eth1, networks

LOCAL = Origin(local_root=True)


def login_of(server: InProcess, origin: Origin = LOCAL) -> CliLogin:
    return CliLogin(
        dispatcher=server.dispatcher,
        sessions=server.sessions,
        coordinator=server.coordinator,
        database=server.database,
        origin=origin,
        auditor=server.auditor,
        undo_rule=partial(undo_rule, server.audit_log),
    )


async def xe(server: InProcess, *words: str) -> Terminal:
    terminal = Terminal()
    await run_command([*words], terminal, login_of(server))
    return terminal


def everything(server: InProcess) -> dict[str, Any]:
    """All rows but those of the CLI's own session and tasks, the hosts, and every number that could move."""
    rows = {
        name: tuple(server.database.view.all(decl.python_type))
        for name, decl in CLASSES.items()
        if decl.in_database and name not in ("session", "task")
    }
    counters = server.coordinator.context(server.database.begin(), Any).counters  # type: ignore[arg-type]
    return {
        "rows": rows,
        "network": server.host.network,
        "switches": server.host.switches,
        "guests": list(server.host.guest_actions),
        "hostname": server.host.hostname,
        "staged": dict(server.host.staged),
        "bridge": counters.next_bridge,
        "domids": dict(counters.domids),
    }


async def rehearse(server: InProcess, body: Callable[[Caller], Awaitable[None]]) -> str:
    """The plan of a dry run, which must leave everything as it is."""
    login = login_of(server)
    caller = await login.login("root", "", local=False)
    await server.tasks.written()  # those of the calls that prepared the test
    before, number = everything(server), server.database.feed.number
    try:
        return await login.dry_run(caller, body)
    finally:
        assert everything(server) == before
        assert server.database.feed.number == number
        assert server.database.view.count(Task) == 0
        login.logout(caller)


async def listed(caller: Caller, method: str, *args: Value) -> tuple[Value, ...]:
    got = await caller.call(method, *args)
    assert isinstance(got, tuple)
    return got


async def vm_with_a_vif(server: InProcess, network: Ref[Network]) -> Ref[VM]:
    caller = await login_of(server).login("root", "", local=False)
    record: Any = {**minimal_vm(), "name_label": "vm"}
    vm = Ref[VM](str(await caller.call("VM.create", record)))
    vif: Any = {
        "device": "0",
        "network": network,
        "VM": vm,
        "MAC": "",
        "MTU": 1500,
        "other_config": {},
        "qos_algorithm_type": "",
        "qos_algorithm_params": {},
    }
    await caller.call("VIF.create", vif)
    return vm


def test_a_session_of_the_cli_ends_with_it(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        login = login_of(server)
        caller = await login.login("root", "", local=False)
        (row,) = server.database.view.all(Session)
        assert row.originator == "cli"
        record = await caller.call("network.get_all_records")
        assert isinstance(record, dict)
        assert all(set(one) >= {"name_label", "PIFs", "other_config"} for one in record.values())
        again = await login.resume(row.ref)
        assert await again.call("network.get_all") == tuple(record)
        login.logout(caller)
        await until(server, lambda: not server.database.view.count(Session))
        with pytest.raises(Failure, match="SESSION_INVALID"):
            await login.resume(row.ref)

    with_server(tmp_path, body)


def test_over_the_network_the_cli_needs_a_password(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        login = login_of(server, Origin(local_root=False))
        for local in (False, True):
            with pytest.raises(Failure, match="SESSION_AUTHENTICATION_FAILED"):
                await login.login("root", "wrong", local=local)
            login.logout(await login.login("root", "secret", local=local))

    with_server(tmp_path, body)


def test_the_calls_of_a_dry_run_see_each_other_s_changes_and_nobody_else_does(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        async def work(caller: Caller) -> None:
            network = await caller.call("network.create", {"name_label": "n", "other_config": {}})
            assert await caller.call("network.get_by_name_label", "n") == (network,)
            vlan = await caller.call("VLAN.create", eth1(server), 77, network)
            (pif,) = await listed(caller, "network.get_PIFs", network)
            assert await caller.call("PIF.get_VLAN_master_of", pif) == vlan
            await caller.call("network.set_name_label", network, "m")
            record = await caller.call("network.get_record", network)
            assert isinstance(record, dict)
            assert record["name_label"] == "m"
            assert not server.database.view.where(Network, name_label="m")
            assert server.database.view.count(VLAN) == 0
            await caller.call("PIF.plug", pif)

        plan = await rehearse(server, work)
        (host,) = server.database.view.all(Host)
        first, *lines = plan.splitlines()
        assert first == f"host {host.name_label} ({host.uuid}):"
        assert lines
        assert any("77" in line for line in lines), plan
        assert all(line.endswith(")") for line in lines if line.startswith("    network ")), plan
        assert any(line.startswith("    network ") for line in lines), plan

    with_server(tmp_path, body)


def test_a_refusal_in_a_dry_run_is_heard_and_what_went_before_stays_for_the_rest(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        async def work(caller: Caller) -> None:
            network = await caller.call("network.create", {"name_label": "n", "other_config": {}})
            await caller.call("VLAN.create", eth1(server), 77, network)
            with pytest.raises(Failure, match="NETWORK_ALREADY_CONNECTED"):
                await caller.call("VLAN.create", eth1(server), 77, network)
            assert len(await listed(caller, "VLAN.get_all")) == 1
            await caller.call("network.destroy", network)

        with pytest.raises(Failure, match="NETWORK_CONTAINS_PIF"):
            await rehearse(server, work)

    with_server(tmp_path, body)


def test_a_background_call_of_a_dry_run_is_over_before_it_is_waited_for(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        vm = await vm_with_a_vif(server, network)

        async def work(caller: Caller) -> None:
            task = str(await caller.call("Async.VM.start", vm, False, False))
            answer = await caller.call("event.from", (f"task/{task}",), "", 30.0)
            assert isinstance(answer, dict)
            (event,) = answer["events"]
            assert (event["ref"], event["snapshot"]["status"]) == (task, "success")
            assert await caller.call("task.get_result", task) == "<value></value>"
            await caller.call("task.destroy", task)
            assert await caller.call("VM.get_power_state", vm) == "Running"
            (vif,) = await listed(caller, "VM.get_VIFs", vm)
            assert await caller.call("VIF.get_currently_attached", vif) is True

        plan = await rehearse(server, work)
        assert "create guest" in plan
        assert "run guest" in plan
        assert "nothing to do" not in plan
        assert await rehearse(server, work) == plan, "the same numbers are taken again"

    with_server(tmp_path, body)


def test_a_dry_run_of_something_that_concerns_no_host_says_so(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        async def work(caller: Caller) -> None:
            await caller.call("session.change_password", "", "new")

        async def write(caller: Caller) -> None:
            await caller.call("pool.set_name_label", (await listed(caller, "pool.get_all"))[0], "x")

        assert (await rehearse(server, work)).splitlines()[1:] == ["  nothing to do"]
        plan = await rehearse(server, write)
        assert plan.splitlines()[1:] == ["  nothing to do: only the database changes"]
        assert await server.sessions.login_with_password("root", "secret", "", local_root=False)

    with_server(tmp_path, body)


def test_a_dry_run_of_what_concerns_connections_does_nothing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        reader = await login_as(server, Role.READ_ONLY)
        words = ("session-subject-identifier-logout-all", "--dry-run")
        said = await xe(server, *words, "username=root", "password=secret")
        assert (said.code, said.err) == (0, "")
        await server.sessions.check(reader)

    with_server(tmp_path, body)


def test_a_dry_run_needs_the_role_that_the_run_needs(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        login = login_of(server)
        caller = await login.login("root", "", local=False)
        (row,) = server.database.view.all(Session)
        (await server.sessions.check(row.ref)).identity = Identity("root", Role.READ_ONLY)

        async def work(trial: Caller) -> None:
            await trial.call("network.create", {"name_label": "n", "other_config": {}})

        with pytest.raises(Failure, match="RBAC_PERMISSION_DENIED"):
            await login.dry_run(caller, work)

    with_server(tmp_path, body)


def test_a_name_that_a_host_would_get_is_part_of_the_plan(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        async def work(caller: Caller) -> None:
            await caller.call("host.set_hostname_live", server.host.host, "renamed")

        assert "renamed" in await rehearse(server, work)

    with_server(tmp_path, body)


def test_what_does_not_exist_is_refused_in_a_dry_run_as_everywhere(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        for method, params, code in (
            ("network.fly", (), "MESSAGE_METHOD_UNKNOWN"),
            ("network.destroy", (NULL,), "HANDLE_INVALID"),
            ("network.destroy", (), "MESSAGE_PARAMETER_COUNT_MISMATCH"),
            ("pool.deconfigure_wlb", (), "NOT_IMPLEMENTED"),
        ):

            async def work(caller: Caller, method: str = method, params: tuple[Any, ...] = params) -> None:
                await caller.call(method, *params)

            with pytest.raises(Failure, match=code):
                await rehearse(server, work)

    with_server(tmp_path, body)


def test_xe_vm_start_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        (network,) = await networks(server, 1)
        vm = await vm_with_a_vif(server, network)
        before = everything(server)
        uuid = server.database.view.get(VM, vm).uuid
        planned = await xe(server, "vm-start", f"uuid={uuid}", "dry-run=true")
        assert (planned.code, planned.err) == (0, "")
        assert planned.out.startswith("host ")
        assert everything(server) == before
        done = await xe(server, "vm-start", f"uuid={uuid}")
        assert (done.code, done.err, done.out) == (0, "", "")
        assert server.host.switches > before["switches"]
        (vif,) = server.database.view.all(VIF)
        assert vif.currently_attached

    with_server(tmp_path, body)
