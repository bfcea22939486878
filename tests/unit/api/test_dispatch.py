"""The order of a call's checks, and what each of them answers (spec §1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.answer import Answer, Codec, Encoded, Origin, Refusal, Success
from poolnet.api.events import make_token
from poolnet.api.wire import Wire
from poolnet.model.enums import TaskStatusType
from poolnet.model.registry import CLASSES
from poolnet.model.types import wire_type_text
from tests.in_process import InProcess, with_server

REMOTE = Origin(local_root=False, peer="192.0.2.9")
LOCAL = Origin(local_root=True)


async def call(server: InProcess, method: str, *params: Wire, origin: Origin = REMOTE) -> Answer:
    return await server.dispatcher.dispatch(method, list(params), origin)


async def login(server: InProcess) -> str:
    answer = await call(server, "session.login_with_password", "root", "secret")
    assert isinstance(answer, Success)
    return str(answer.value)


def refused(answer: Answer) -> list[str]:
    assert isinstance(answer, Refusal), answer
    return [answer.code, *answer.params]


def value(answer: Answer) -> Any:
    assert isinstance(answer, Success), answer
    return answer.value


@pytest.mark.parametrize("extra", [[], ["2.21"], ["2.21", "originator"]])
def test_a_login_works_with_two_three_or_four_parameters(tmp_path: Path, extra: Sequence[str]) -> None:
    async def body(server: InProcess) -> None:
        session = value(await call(server, "session.login_with_password", "root", "secret", *extra))
        assert value(await call(server, "session.get_auth_user_name", session, session)) == "root"

    with_server(tmp_path, body)


def test_a_login_over_the_unix_socket_needs_no_password(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        answer = await call(server, "session.login_with_password", "anybody", "wrong", origin=LOCAL)
        session = value(answer)
        assert value(await call(server, "session.get_is_local_superuser", session, session)) is True

    with_server(tmp_path, body)


def test_the_checks_come_in_the_reference_s_order(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        bad = "OpaqueRef:nobody"
        assert refused(await call(server, "network.fly")) == ["MESSAGE_METHOD_UNKNOWN", "network.fly"]
        assert refused(await call(server, "network.fly", bad)) == ["SESSION_INVALID", bad]
        assert refused(await call(server, "network.fly", session)) == [
            "MESSAGE_METHOD_UNKNOWN",
            "network.fly",
        ]
        count = ["MESSAGE_PARAMETER_COUNT_MISMATCH", "VLAN.create", "3", "1"]
        assert refused(await call(server, "VLAN.create", bad, "x")) == count
        assert refused(await call(server, "VIF.get_metrics", bad, "x")) == ["SESSION_INVALID", bad]
        assert refused(await call(server, "VIF.get_metrics", session, "x")) == ["MESSAGE_REMOVED"]
        wrong_type = refused(await call(server, "VLAN.create", bad, "p", "ten", "n"))
        assert wrong_type[0] == "INTERNAL_ERROR"
        fault = refused(await call(server, "Async.event.from", session, [], "", 0.0))
        assert fault == ["Fault", "No async mode for this operation (rpc: event.from)"]
        internal = refused(await call(server, "host.propose_new_master", session, "a", True))
        assert internal[0] == "INTERNAL_ERROR" or internal[0] == "NOT_IMPLEMENTED"

    with_server(tmp_path, body)


def test_underscores_do_for_synchronous_calls_alone(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        assert value(await call(server, "pool_get_all", session))
        assert refused(await call(server, "Async.pool_get_all", session))[0] == "MESSAGE_METHOD_UNKNOWN"

    with_server(tmp_path, body)


def test_extra_parameters_are_ignored_only_where_some_have_defaults(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = value(
            await call(server, "session.login_with_password", "root", "secret", "1", "o", "extra", "more")
        )
        extra = refused(await call(server, "network.get_all", session, "extra"))
        assert extra == ["MESSAGE_PARAMETER_COUNT_MISMATCH", "network.get_all", "0", "1"]

    with_server(tmp_path, body)


def test_a_constructor_says_which_field_is_missing(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        answer = await call(server, "network.create", session, {"name_label": "n"})
        expected = 'Server_helpers.Dispatcher_FieldNotFound("other_config")'
        assert refused(answer) == ["INTERNAL_ERROR", expected]
        made = await call(server, "network.create", session, {"other_config": {}, "colour": "red"})
        assert str(value(made)).startswith("OpaqueRef:")

    with_server(tmp_path, body)


def test_what_is_not_implemented_says_so(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        answer = await call(server, "pool.deconfigure_wlb", session)
        assert refused(answer) == ["NOT_IMPLEMENTED", "pool.deconfigure_wlb"]

    with_server(tmp_path, body)


def test_a_background_call_s_task_has_its_result_as_xml(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        task = value(await call(server, "Async.network.create", session, {"other_config": {}}))
        await until_done(server, session, task)
        record = value(await call(server, "task.get_result", session, task))
        assert record.startswith("<value>OpaqueRef:")
        assert value(await call(server, "task.get_status", session, task)) == TaskStatusType.SUCCESS
        failed = value(await call(server, "Async.network.destroy", session, "OpaqueRef:gone"))
        await until_done(server, session, failed)
        assert value(await call(server, "task.get_error_info", session, failed)) == (
            "HANDLE_INVALID",
            "network",
            "OpaqueRef:gone",
        )
        assert value(await call(server, "task.get_result", session, failed)) == ""

    with_server(tmp_path, body)


async def until_done(server: InProcess, session: str, task: str) -> None:
    token = ""
    while value(await call(server, "task.get_status", session, task)) == TaskStatusType.PENDING:
        batch = value(await call(server, "event.from", session, [f"task/{task}"], token, 1.0))
        assert isinstance(batch, Encoded)
        token = make_token(server.database.feed.number, 0)


def test_setters_write_and_maps_refuse_a_key_twice(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await login(server)
        network = value(await call(server, "network.get_all", session))[0]
        await call(server, "network.set_name_label", session, network, "renamed")
        assert value(await call(server, "network.get_by_name_label", session, "renamed")) == (network,)
        assert value(await call(server, "network.add_to_other_config", session, network, "k", "1")) is None
        twice = refused(await call(server, "network.add_to_other_config", session, network, "k", "2"))
        assert twice == ["MAP_DUPLICATE_KEY", "network", "other_config", network, "k"]
        assert value(await call(server, "network.remove_from_other_config", session, network, "nope")) is None
        await call(server, "network.add_tags", session, network, "a")
        await call(server, "network.add_tags", session, network, "a")
        assert value(await call(server, "network.get_tags", session, network)) == ("a",)

    with_server(tmp_path, body)


def test_every_record_has_every_field_in_both_codecs(tmp_path: Path) -> None:
    """For every class: the encoded record of a row with all defaults names all fields, in order."""

    async def body(server: InProcess) -> None:
        session = await login(server)
        for decl in CLASSES.values():
            if not (decl.in_database and decl.lists_all) or decl.state == "removed":
                continue
            records = value(await call(server, f"{decl.name}.get_all_records", session))
            assert isinstance(records, Encoded)
            text = b"".join(records.pieces(Codec.XML)).decode()
            for field in decl.fields:
                present = text.count(f"<name>{field.name}</name>")
                expected = server.database.view.count(decl.python_type)
                assert present >= expected, (decl.name, field.name, wire_type_text(field.wire_type))

    with_server(tmp_path, body)


def test_a_read_only_user_may_read_and_nothing_else(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        users = tmp_path / "users.toml"
        users.write_text(
            users.read_text()
            .replace("[users.root]", '[users.root]\nrole = "read-only"')
            .replace('role = ""', "")
        )
        session = await login(server)
        network = value(await call(server, "network.get_all", session))[0]
        denied = refused(await call(server, "network.set_name_label", session, network, "x"))
        assert denied == [
            "RBAC_PERMISSION_DENIED",
            "network.set_name_label",
            "No permission in user session. (Roles with this permission: pool-admin, pool-operator)",
        ]
        key = refused(await call(server, "network.add_to_other_config", session, network, "folder", "x"))
        assert key[1] == "network.add_to_other_config/key:folder"
        assert refused(await call(server, "VIF.destroy", session, "x"))[0] == "RBAC_PERMISSION_DENIED"

    with_server(tmp_path, body)


def test_list_methods_needs_no_session(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        names = value(await call(server, "system.listMethods"))
        assert "VIF.set_locking_mode" in names
        assert "Async.VIF.plug" not in names

    with_server(tmp_path, body)
