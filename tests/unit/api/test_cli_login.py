"""Dry runs of whole `xe` commands on a server: what they print, and that nothing is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from poolnet.api.answer import Origin
from poolnet.api.audit_calls import undo_rule
from poolnet.api.cli_login import CliLogin
from poolnet.api.dispatch import Dispatcher
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.xe.commands.run import run
from tests.golden.xe_world import Terminal
from tests.in_process import InProcess, with_server

NO_TEXT = b"\xff".decode(errors="surrogateescape")


def login_to(server: InProcess, dispatcher: Dispatcher) -> CliLogin:
    """What logs command lines in as the local root's, and has their calls carried out by that dispatcher."""
    return CliLogin(
        dispatcher=dispatcher,
        sessions=server.sessions,
        coordinator=server.coordinator,
        database=server.database,
        origin=Origin(local_root=True),
        auditor=server.auditor,
        undo_rule=partial(undo_rule, server.audit_log),
    )


async def xe(server: InProcess, *words: str) -> Terminal:
    terminal = Terminal()
    login = login_to(server, server.dispatcher)
    await run([*words, "username=root", "password=null"], terminal, login)
    return terminal


async def plan(server: InProcess, *words: str) -> Sequence[str]:
    terminal = await xe(server, *words, "--dry-run")
    assert (terminal.err, terminal.code) == ("", 0)
    return terminal.out.splitlines()[1:]


def host(server: InProcess) -> Host:
    return next(server.database.view.all(Host))


def test_a_vlan_is_planned_and_nothing_is_made(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        network = (await xe(server, "network-create", "name-label=blue")).out.strip()
        nic = server.database.view.where(PIF, device="eth1")[0]
        before = server.host.network
        lines = await plan(server, "vlan-create", f"network-uuid={network}", f"pif-uuid={nic.uuid}", "vlan=5")
        assert lines[0] == "  create bridge xapi1 on xenbr1, VLAN 5"
        assert server.host.network == before
        assert server.database.view.count(PIF) == 2

    with_server(tmp_path, body)


def test_a_new_host_name_is_part_of_the_plan(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        uuid = host(server).uuid
        words = ("host-set-hostname-live", f"host-uuid={uuid}", "host-name=other")
        assert await plan(server, *words) == ["  set the host's name to other"]
        assert server.host.hostname == host(server).hostname == "host1"

    with_server(tmp_path, body)


def test_a_dry_run_uses_no_number_up(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        vm = (await xe(server, "vm-create", "name-label=v")).out.strip()
        first = await plan(server, "vm-start", f"uuid={vm}")
        assert "domid 1," in first[0]
        assert await plan(server, "vm-start", f"uuid={vm}") == first
        await plan(server, "network-create", "name-label=n")
        made = (await xe(server, "network-create", "name-label=n")).out.strip()
        assert server.database.view.by_uuid(Network, made).bridge == "xapi1"

    with_server(tmp_path, body)


def test_what_some_of_several_fail_on_is_said(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        for name in ("v1", "v2"):
            await xe(server, "vm-create", f"name-label={name}")
        terminal = await xe(server, "vm-shutdown", "--multiple", "--dry-run")
        assert terminal.code == 1
        assert terminal.out.count("operation failed on ") == 2

    with_server(tmp_path, body)


def test_bytes_that_are_no_text_are_refused_by_the_call_that_gets_them(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        for words in (("network-create", f"name-label={NO_TEXT}"), ("network-list", f"password={NO_TEXT}")):
            terminal = await xe(server, *words)
            assert terminal.code == 1
            assert "field: Invalid UTF-8 string in parameter\n" in terminal.err
        assert (await xe(server, "network-list", f"name-label={NO_TEXT}")).out == ""

    with_server(tmp_path, body)
