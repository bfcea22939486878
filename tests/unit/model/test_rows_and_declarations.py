"""Rows are values with the API's defaults; declarations fit together; mistakes in them are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from poolnet.model import elsewhere, registry
from poolnet.model.classes.event import Event
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.declare import NO_DEFAULT, api_class, dynamic, message, static
from poolnet.model.enums import IpConfigurationMode, NetworkDefaultLockingMode
from poolnet.model.messages import declare_class
from poolnet.model.names import wire_name_of
from poolnet.model.roles import LOCAL_ROOT, Role
from poolnet.model.types import NULL, Ref, Row


def pif(**fields: Any) -> PIF:
    return PIF(ref=Ref("OpaqueRef:p"), **fields)


def test_a_new_row_has_the_declared_defaults_and_the_zeros_of_the_rest() -> None:
    row = pif(device="eth0")
    assert (row.device, row.VLAN, row.managed, row.network) == ("eth0", 0, True, NULL)
    assert row.ip_configuration_mode is IpConfigurationMode.NONE
    assert Network(ref=Ref("r")).default_locking_mode is NetworkDefaultLockingMode.UNLOCKED
    assert Tunnel(ref=Ref("r")).status == {"active": "false"}


def test_rows_with_the_same_fields_are_equal_and_hash_alike() -> None:
    assert pif(other_config={"a": "b"}) == pif(other_config={"a": "b"})
    assert pif(other_config={"a": "b"}) != pif()
    assert hash(pif(other_config={"a": "b"})) == hash(pif())
    assert pif() != Network(ref=Ref("OpaqueRef:p"))


def test_a_row_cannot_be_changed_but_can_be_replaced() -> None:
    row = pif(device="eth0")
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.device = "eth1"  # type: ignore[misc]
    assert dataclasses.replace(row, device="eth1").device == "eth1"


def test_a_row_shows_only_what_was_set() -> None:
    assert repr(pif(device="eth0")) == "PIF(ref='OpaqueRef:p', device='eth0')"


def test_names_that_python_has_for_itself_have_other_attributes() -> None:
    decl = registry.CLASSES["event"]
    assert [(field.name, field.attribute) for field in decl.fields if field.name != field.attribute] == [
        ("class", "class_"),
        ("ref", "ref_"),
    ]
    assert Event(ref=Ref("x"), class_="vm", ref_="OpaqueRef:1").ref == "x"


def test_the_declarations_fit_together() -> None:
    assert registry.inconsistencies() == ()


def test_every_field_and_message_says_what_it_is() -> None:
    for decl in registry.CLASSES.values():
        assert [field.name for field in decl.all_fields if not field.doc] == []
        assert [each.name for each in decl.messages.values() if not each.doc] == []


def test_a_class_is_found_by_its_rows() -> None:
    assert registry.class_of(PIF) is registry.CLASSES["PIF"]
    with pytest.raises(KeyError):
        registry.class_of(elsewhere.VDI)


def test_every_class_that_a_field_refers_to_has_a_python_type() -> None:
    markers = {wire_name_of(name) for name in vars(elsewhere)}
    for decl in registry.CLASSES.values():
        assert wire_name_of(decl.python_type.__name__) == decl.name
        for field in decl.all_fields:
            text = registry.referred_class(field.wire_type)
            assert text is None or text in registry.CLASSES or text in markers


def test_a_getter_belongs_to_its_field_and_a_setter_needs_the_role_to_write_it() -> None:
    getter, setter = registry.MESSAGES["network.get_MTU"], registry.MESSAGES["network.set_name_label"]
    assert getter.field is registry.CLASSES["network"].field("MTU")
    assert not getter.explicit
    assert setter.min_role is Role.POOL_OPERATOR


def test_a_message_for_local_root_has_no_minimum_role() -> None:
    assert registry.MESSAGES["host.tickle_heartbeat"].min_role is LOCAL_ROOT


def declare(**options: Any) -> type[Row]:
    class VLAN(Row):
        """A class for this test."""

        tag: int = static(default=-1, **options)

    return api_class("VLAN", events=False, role=Role.POOL_OPERATOR)(VLAN)


def test_an_unknown_option_of_a_field_is_refused() -> None:
    with pytest.raises(TypeError, match="persited"):
        declare(persited=False)


def test_a_class_must_have_the_name_that_the_wire_name_is_known_by() -> None:
    class Vlan(Row):
        """A class for this test."""

    with pytest.raises(ValueError, match="VLAN"):
        api_class("VLAN", events=False, role=Role.POOL_OPERATOR)(Vlan)


def test_a_default_that_is_not_in_the_enum_is_refused() -> None:
    class VIF(Row):
        """A class for this test."""

        locking_mode: str = dynamic(default="closed")

    VIF.__annotations__["locking_mode"] = "VifLockingMode"
    with pytest.raises(ValueError, match="closed"):
        api_class("VIF", events=False, role=Role.POOL_OPERATOR)(VIF)


def test_two_messages_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        declare_class(declare(), (message("get_tag", {}),))


def test_a_field_without_a_default_must_be_given_to_the_constructor() -> None:
    class VLAN(Row):
        """A class for this test."""

        tag: int = static(default=NO_DEFAULT)
        uuid: str = dynamic(default=NO_DEFAULT)

    decl = declare_class(api_class("VLAN", events=False, role=Role.POOL_OPERATOR)(VLAN), ())
    assert [field.constructor_required for field in decl.fields] == [True, False]
