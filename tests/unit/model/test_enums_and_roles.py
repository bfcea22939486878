"""Enums are read as clients write them; roles are ordered."""

from __future__ import annotations

import pytest

from poolnet.model.enums import BondMode, VifLockingMode, enum_member
from poolnet.model.roles import LOCAL_ROOT, Role, allows, roles_with


def test_the_text_of_an_enum_may_be_in_any_case() -> None:
    assert enum_member("vif_locking_mode", "LOCKED") is VifLockingMode.LOCKED


@pytest.mark.parametrize(("enum_name", "text"), [("bond_mode", "LACP"), ("event_operation", "Add")])
def test_two_enums_must_match_exactly(enum_name: str, text: str) -> None:
    assert enum_member(enum_name, text) is None
    assert enum_member(enum_name, text.lower()) is not None


def test_a_text_that_is_not_in_the_enum_is_nothing() -> None:
    assert enum_member("bond_mode", "balance-rr") is None


def test_members_are_sent_as_their_texts() -> None:
    assert f"{BondMode.ACTIVE_BACKUP}" == "active-backup"


def test_a_role_may_do_what_the_roles_below_it_may() -> None:
    assert allows(Role.POOL_ADMIN, Role.READ_ONLY)
    assert allows(Role.VM_ADMIN, Role.VM_ADMIN)
    assert not allows(Role.VM_OPERATOR, Role.VM_ADMIN)


def test_no_role_may_do_what_needs_local_root() -> None:
    assert not any(allows(role, LOCAL_ROOT) for role in Role)
    assert roles_with(LOCAL_ROOT) == ()


def test_roles_are_named_from_the_most_powerful_down() -> None:
    assert roles_with(Role.VM_POWER_ADMIN) == ("pool-admin", "pool-operator", "vm-power-admin")
