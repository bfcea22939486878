"""Who may send what: all messages and all roles, from the model (spec §3.6)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from poolnet.api.answer import Origin, Refusal
from poolnet.api.permissions import permission_of, permissions_of, require_permission
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.model.classes.network import Network
from poolnet.model.classes.session import Session
from poolnet.model.classes.vm import VM
from poolnet.model.errors import Failure
from poolnet.model.registry import MESSAGES
from poolnet.model.roles import Role, allows, roles_with
from poolnet.model.types import NULL, Ref
from tests.in_process import InProcess, login_as, with_server

EMPTY = Database.open(MemoryEngine()).view
ROLES: tuple[Role | None, ...] = (*Role, None)


def may(role: Role | None, method: str, **arguments: Any) -> bool:
    try:
        require_permission(role, MESSAGES[method], arguments, EMPTY)
    except Failure:
        return False
    return True


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_send_exactly_what_the_model_declares(role: Role | None) -> None:
    arguments: Mapping[str, Any] = {"self": NULL, "key": "no protected one", "value": {}}
    for name, message in MESSAGES.items():
        allowed = role is None or allows(role, message.min_role)
        assert may(role, name, **arguments) == allowed, name
        if role is not None:
            assert (permission_of(message) in permissions_of(role)) == allowed, name


@pytest.mark.parametrize("role", Role)
def test_each_protected_key_has_a_role_of_its_own(role: Role) -> None:
    for name, message in MESSAGES.items():
        for key, least in message.map_key_roles.items():
            sent = key.replace("*", "anything")
            assert may(role, name, key=sent) == allows(role, least), (name, key)
            assert (f"{permission_of(message)}/key:{key}" in permissions_of(role)) == allows(role, least)


@pytest.mark.parametrize(
    ("key", "permission"),
    [
        ("folder", "network.add_to_other_config/key:folder"),
        ("XenCenter.CustomFields.a.b", "network.add_to_other_config/key:XenCenter.CustomFields.*"),
        ("XenCenter.CustomField", "network.add_to_other_config"),
        ("folders", "network.add_to_other_config"),
    ],
)
def test_keys_match_whole_or_by_their_beginning(key: str, permission: str) -> None:
    with pytest.raises(Failure) as refused:
        require_permission(Role.READ_ONLY, MESSAGES["network.add_to_other_config"], {"key": key}, EMPTY)
    least = Role.VM_OPERATOR if "/key:" in permission else Role.POOL_OPERATOR
    holders = ", ".join(roles_with(least))
    text = f"No permission in user session. (Roles with this permission: {holders})"
    assert refused.value.params == (permission, text)


@pytest.mark.parametrize(
    ("new", "refused_key"),
    [
        ({"pci": "old", "a": "1"}, None),
        ({"pci": "old"}, None),
        ({"pci": "new"}, "pci"),
        ({}, "pci"),
        ({"pci": "old", "hvm_serial": "x"}, "hvm_serial"),
    ],
)
def test_setting_a_whole_map_needs_the_role_of_each_protected_key_that_changes(
    new: dict[str, str], refused_key: str | None
) -> None:
    database = Database.open(MemoryEngine())
    txn = database.begin()
    vm = txn.create(VM(ref=Ref("OpaqueRef:vm"), uuid="vm", other_config={"pci": "old"}))
    arguments = {"self": vm, "value": new}
    message = MESSAGES["VM.set_other_config"]
    require_permission(Role.POOL_ADMIN, message, arguments, txn)
    require_permission(None, message, arguments, txn)
    if refused_key is None:
        require_permission(Role.VM_ADMIN, message, arguments, txn)
        return
    with pytest.raises(Failure) as refused:
        require_permission(Role.VM_ADMIN, message, arguments, txn)
    assert refused.value.params[0] == f"vm.add_to_other_config/key:{refused_key}"


async def a_session(server: InProcess, role: Role | None) -> Ref[Session]:
    """A session of a role, without the time that a hash takes."""
    return await login_as(server, role)


SAMPLES = (
    "network.create",
    "network.destroy",
    "network.set_tags",
    "network.add_purpose",
    "VIF.destroy",
    "VIF.set_locking_mode",
    "VIF.configure_ipv4",
    "PIF.plug",
    "Bond.destroy",
    "VLAN.create",
    "event.get_current_id",
    "session.change_password",
    "VM.start",
)
ARGUMENTS: Mapping[str, list[Any]] = {
    "network.create": [{"other_config": {}}],
    "network.set_tags": ["r", []],
    "network.add_purpose": ["r", "nbd"],
    "VIF.set_locking_mode": ["r", "locked"],
    "VIF.configure_ipv4": ["r", "None", "", ""],
    "VLAN.create": ["r", "5", "n"],
    "event.get_current_id": [],
    "session.change_password": ["", ""],
    "VM.start": ["r", False, False],
}


def test_the_dispatcher_lets_a_session_do_what_its_role_may(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        origin = Origin(local_root=False)
        for role, method in product(ROLES, SAMPLES):
            session = await a_session(server, role)
            answer = await server.dispatcher.dispatch(
                method, [session, *ARGUMENTS.get(method, ["r"])], origin
            )
            denied = isinstance(answer, Refusal) and answer.code == "RBAC_PERMISSION_DENIED"
            assert denied == (role is not None and not allows(role, MESSAGES[method].min_role)), (
                role,
                method,
            )
            await server.sessions.logout(session)

    with_server(tmp_path, body)


def test_a_local_session_has_no_role_to_check(tmp_path: Path) -> None:
    async def body(server: InProcess) -> None:
        session = await server.sessions.local_login("root", "", local_root=True)
        answer = await server.dispatcher.dispatch(
            "network.create", [session, {"other_config": {}}], Origin(local_root=False)
        )
        assert not isinstance(answer, Refusal)
        assert server.database.view.count(Network)

    with_server(tmp_path, body)


def test_the_methods_without_a_session_are_few() -> None:
    without = {name for name, message in MESSAGES.items() if not message.session_arg}
    assert without == {
        "session.login_with_password",
        "session.slave_login",
        "session.slave_local_login",
        "session.slave_local_login_with_password",
    }
