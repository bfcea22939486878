"""What the audit log says of calls: who, what, before and after, what came of it; and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from poolnet.api.answer import Origin
from poolnet.api.credentials import Identity
from poolnet.model.classes.network import Network
from poolnet.model.roles import Role
from poolnet.pool.audit_chain import Head, findings
from poolnet.pool.audit_entry import track_id
from poolnet.pool.audit_log import lines_of, records_of
from tests.in_process import InProcess, with_server
from tests.unit.api.test_cli_calls import xe
from tests.unit.api.test_dispatch import call, login, refused, value

CLIENT = Origin(local_root=False, peer="192.0.2.9", headers={"user-agent": "curl/8"})


async def entries(server: InProcess) -> list[dict[str, Any]]:
    await server.audit_log.flush()
    head = server.audit_log.head
    assert list(findings(lines_of(server.audit_log.files()), [Head(head.records, head.hash)])) == []
    return [json.loads(record.entry) for record in records_of(server.audit_log.files())]


async def last(server: InProcess) -> dict[str, Any]:
    return (await entries(server))[-1]


def test_a_change_says_who_what_before_and_after(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        uuid = (await xe(server, "network-create", "name-label=n")).out.strip()
        ref = server.database.view.by_uuid(Network, uuid).ref
        made = await last(server)
        assert (made["method"], made["address"], made["kind"]) == ("network.create", "console", "rule")
        assert [(c["class"], c["uuid"], c["created"]["name_label"]) for c in made["changes"]] == [
            ("network", uuid, "n")
        ]
        answer = await call(server, "network.set_name_label", session, ref, "m", origin=CLIENT)
        assert value(answer) is None
        said = await last(server)
        assert (said["subject"], said["role"], said["address"], said["client"]) == (
            "root",
            "superuser",
            "192.0.2.9",
            "curl/8",
        )
        assert said["session"] == track_id(session)
        assert session not in json.dumps(said)
        assert said["arguments"] == {"self": ref, "value": "m"}
        assert said["result"] == ["Success"]
        (change,) = said["changes"]
        assert (change["before"], change["after"]) == ({"name_label": "n"}, {"name_label": "m"})

    with_server(tmp_path, body)


def test_a_planned_change_has_the_hash_of_each_hosts_plan(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        network = (await xe(server, "network-create", "name-label=n")).out.strip()
        pif = (await xe(server, "pif-list", "device=eth1", "--minimal")).out.strip()
        made = await xe(server, "vlan-create", f"pif-uuid={pif}", "vlan=7", f"network-uuid={network}")
        assert made.code == 0, made.err
        said = next(each for each in await entries(server) if each["method"] == "VLAN.create")
        host = (await xe(server, "host-list", "--minimal")).out.strip()
        assert list(said["plans"]) == [host]
        assert {c["class"] for c in said["changes"]} >= {"VLAN", "PIF"}

    with_server(tmp_path, body)


def test_a_line_of_another_host_of_the_pool_is_in_the_log(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await server.sessions.pool_login(accepted=True, target="")
        assert value(await call(server, "pool.audit_log_append", session, "a\r\n{line}")) is None
        assert (await last(server))["arguments"]["line"] == "a\r\n{line}"
        assert refused(await call(server, "pool.audit_log_append", await login(server), "b")), (
            "for hosts alone"
        )

    with_server(tmp_path, body)


def test_reading_is_not_logged_and_failures_are(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        before = len(await entries(server))
        await call(server, "network.get_all_records", session)
        await call(server, "VM.get_by_uuid", session, "no such")
        await xe(server, "network-list")
        assert len(await entries(server)) == before
        gone = "OpaqueRef:gone"
        answer = await call(server, "network.destroy", session, gone)
        assert refused(answer)[0] == "HANDLE_INVALID"
        said = await last(server)
        assert said["result"] == ["HANDLE_INVALID", "network", gone]
        assert "changes" not in said

    with_server(tmp_path, body)


def test_denied_calls_are_logged_those_that_read_too(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        live = await server.sessions.check(session)
        live.identity = Identity(live.user, Role.READ_ONLY)
        assert refused(await call(server, "network.destroy", session, "x"))[0] == "RBAC_PERMISSION_DENIED"
        said = await last(server)
        assert (said["role"], said["method"], said["result"][0]) == (
            "read-only",
            "network.destroy",
            "RBAC_PERMISSION_DENIED",
        )

    with_server(tmp_path, body)


def test_strangers_are_listed_and_then_counted(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        for _ in range(100):
            assert refused(await call(server, "VM.get_all", "OpaqueRef:guessed"))[0] == "SESSION_INVALID"
        said = [each for each in await entries(server) if each["result"] == ["SESSION_INVALID"]]
        assert len(said) == 20
        assert "guessed" not in json.dumps(said)

    with_server(tmp_path, body)


def test_logins_are_logged_without_passwords(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        assert (await last(server))["method"] == "session.login_with_password"
        wrong = await call(server, "session.login_with_password", "root", "a-wrong-password")
        assert refused(wrong)[0] == "SESSION_AUTHENTICATION_FAILED"
        assert (await last(server))["arguments"]["uname"] == "root"
        await call(server, "session.change_password", session, "secret", "a-new-password")
        text = json.dumps(await entries(server))
        assert "password" in text
        for hidden in ("a-wrong-password", "a-new-password", '"secret"', session):
            assert hidden not in text

    with_server(tmp_path, body)


def test_secrets_in_maps_are_not_logged(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        ref = next(iter(server.database.view.refs(Network)))
        await call(server, "network.set_other_config", session, ref, {"cifspassword": "hunter2", "a": "b"})
        said = await last(server)
        assert "hunter2" not in json.dumps(said)
        assert said["changes"][0]["after"]["other_config"]["a"] == "b"
        await call(server, "network.add_to_other_config", session, ref, "my-password", "hunter3")
        await call(server, "network.add_to_other_config", session, ref, "my-password", "hunter3")
        assert [each["result"][0] for each in (await entries(server))[-2:]] == [
            "Success",
            "MAP_DUPLICATE_KEY",
        ]
        assert "hunter3" not in json.dumps((await entries(server))[-2:])

    with_server(tmp_path, body)


def test_a_dry_run_and_a_call_that_changes_nothing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        before = len(await entries(server))
        assert (await xe(server, "network-create", "name-label=n", "--dry-run")).code == 0
        assert len(await entries(server)) == before
        session = await login(server)
        network = next(iter(server.database.view.all(Network)))
        await call(server, "network.set_name_label", session, network.ref, network.name_label)
        assert (await last(server)).get("changes", []) == []

    with_server(tmp_path, body)
