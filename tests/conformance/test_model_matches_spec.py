"""Is the declared model exactly the surface of the API? The JSON file beside this has the facts."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from poolnet.model import errors, registry
from poolnet.model.alerts import ALERT_TYPES
from poolnet.model.declare import POOLNETS_OWN, ClassDecl, FieldDecl, MessageDecl, ParamDecl
from poolnet.model.roles import CLIENT_CERT_ROLE, Role
from poolnet.model.types import NULL, FloatT, Value, WireType, wire_type_text

SPEC: Mapping[str, Any] = json.loads(Path(__file__).with_name("xenapi-network.json").read_text())
CLASS_NAMES = sorted(SPEC["classes"])


def as_json(wire_type: WireType, value: Value) -> Any:
    """A default as the facts write it."""
    if isinstance(value, dt.datetime):
        return value.strftime("%Y%m%dT%H:%M:%SZ")
    if isinstance(value, tuple):
        return [str(item) if isinstance(item, str) else item for item in value]
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    if isinstance(wire_type, FloatT):
        return pytest.approx(value)
    return str(value) if isinstance(value, str) else value


def role_text(role: Role | None) -> str:
    return "local-root" if role is None else role.value


def roles_text(roles: Mapping[str, Role]) -> dict[str, str]:
    return {key: role.value for key, role in roles.items()}


def life(decl: FieldDecl | MessageDecl) -> dict[str, Any]:
    found: dict[str, Any] = {"state": decl.state, "since": decl.since}
    if decl.deprecated_since is not None:
        found["deprecated_since"] = decl.deprecated_since
    return found


def field_facts(decl: FieldDecl) -> dict[str, Any]:
    """A field's declaration with the keys of the facts; keys that the facts leave out are left out."""
    found: dict[str, Any] = {
        "name": decl.name,
        "path": decl.internal_name,
        "type": wire_type_text(decl.wire_type),
        "qualifier": decl.qualifier,
        "in_constructor": decl.in_constructor,
        "constructor_required": decl.constructor_required,
        "persisted": decl.persisted,
        "read_min_role": role_text(decl.read_role),
        **life(decl),
    }
    if decl.has_default:
        found["default"] = as_json(decl.wire_type, decl.default)
    if decl.writable:
        found["write_min_role"] = role_text(decl.write_role)
    if decl.map_key_roles:
        found["map_key_write_min_role"] = roles_text(decl.map_key_roles)
    flags = {
        "computed_reverse_set": decl.computed,
        "stored_ref_set": decl.stored_ref_set,
        "setter_has_side_effect": decl.side_effect_setter,
    }
    return found | {key: True for key, value in flags.items() if value}


def param_facts(decl: ParamDecl) -> dict[str, Any]:
    found: dict[str, Any] = {"name": decl.name, "type": wire_type_text(decl.wire_type)}
    if decl.has_default:
        found["default"] = as_json(decl.wire_type, decl.default)
    return found


def message_facts(decl: MessageDecl) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": decl.name,
        "kind": decl.kind,
        "params": [param_facts(param) for param in decl.params],
        "result": wire_type_text(decl.result),
        "errors": list(decl.errors),
        "min_role": role_text(decl.min_role),
        "client_cert_allowed": decl.client_cert_allowed,
        "session_arg": decl.session_arg,
        "async": decl.is_async,
        "flags": sorted(decl.flags),
        **life(decl),
    }
    if decl.map_key_roles:
        found["map_key_min_role"] = roles_text(decl.map_key_roles)
    return found


def expected_field(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {**facts, "path": facts["path"].replace("/", "__")}


def expected_message(facts: Mapping[str, Any]) -> dict[str, Any]:
    found = {**facts, "flags": sorted(facts.get("flags", []))}
    found.pop("networking_related", None)  # a note for readers of the facts, not a property of the API
    return found


def of_the_reference(decl: ClassDecl) -> list[MessageDecl]:
    """The messages of a class but those that poolnet adds (docs/deviations.md)."""
    return [each for each in decl.messages.values() if POOLNETS_OWN not in each.flags]


def test_the_same_classes_in_the_same_order() -> None:
    """The facts leave out auth, which has no objects; those of the command line name its first message."""
    assert list(registry.CLASSES) == [*SPEC["classes"], "auth"]


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_class_has_the_attributes_of_the_facts(name: str) -> None:
    decl: ClassDecl = registry.CLASSES[name]
    facts = SPEC["classes"][name]
    found = {
        "name": decl.name,
        "in_database": decl.in_database,
        "gen_constructor_destructor": decl.constructor,
        "generates_events": decl.events,
        "persisted": decl.persisted,
        "state": decl.state,
        "default_min_role": role_text(decl.default_role),
        "implicit_min_role": role_text(decl.implicit_role),
        "field_count": len(decl.fields),
        "message_count": len(of_the_reference(decl)),
    }
    apart = {"fields", "messages", "internal_fields", "note"}
    assert found == {key: value for key, value in facts.items() if key not in apart}


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_class_has_the_fields_of_the_facts_in_the_order_of_the_wire(name: str) -> None:
    decl, facts = registry.CLASSES[name], SPEC["classes"][name]
    assert [field_facts(field) for field in decl.fields] == [expected_field(each) for each in facts["fields"]]
    internal = [expected_field(each) for each in facts.get("internal_fields", [])]
    assert [field_facts(field) for field in decl.internal_fields] == internal


@pytest.mark.parametrize("name", CLASS_NAMES)
def test_a_class_has_the_messages_of_the_facts(name: str) -> None:
    decl, facts = registry.CLASSES[name], SPEC["classes"][name]
    expected = {each["name"]: expected_message(each) for each in facts["messages"]}
    assert {each.name: message_facts(each) for each in of_the_reference(decl)} == expected


def test_messages_of_our_own_are_few_and_say_so() -> None:
    own = {name for name, each in registry.MESSAGES.items() if POOLNETS_OWN in each.flags}
    assert own == {
        "VIF.verify_locks",
        "VIF.explain_lock",
        "VIF.count_dropped",
        "VM.explain_placement",
        "host.explain_missing",
        "pool.create_bond",
        "pool.audit_undo",
        "pool.explain_admission",
        "pool.explain_join",
        "pool.join_fixing",
        "pool.cluster_enable",
        "pool.cluster_disable",
        "pool.cluster_status",
        "pool.cluster_add",
        "pool.cluster_remove",
        "host.explain_network_drift",
    }


def test_every_enum_has_the_texts_of_the_facts_in_their_order() -> None:
    found = {name: [member.value for member in python_type] for name, python_type in registry.ENUMS.items()}
    assert found == SPEC["enums"]


def test_every_documented_error_has_the_parameters_of_the_facts() -> None:
    expected = {each["name"]: tuple(each["params"]) for each in SPEC["errors"]}
    assert {code: decl.params for code, decl in errors.ERRORS.items()} == expected
    assert all(decl.code == code and decl.description for code, decl in errors.ERRORS.items())


def test_the_errors_without_documentation_are_those_of_the_facts() -> None:
    assert set(SPEC["errors_without_datamodel_doc"]) == errors.UNDOCUMENTED_ERRORS


def test_the_lists_of_calls_are_those_of_the_facts() -> None:
    assert set(SPEC["emergency_calls"]) == registry.EMERGENCY_CALLS
    assert set(SPEC["slave_local_whitelist"]) == registry.SLAVE_LOCAL_WHITELIST
    assert set(SPEC["classes_without_task_records"]) == registry.CLASSES_WITHOUT_TASK_RECORDS
    assert SPEC["alert_message_types"] == list(ALERT_TYPES)


def test_the_relations_are_those_of_the_facts_that_have_a_reference_at_one_end() -> None:
    expected = set()
    for relation in SPEC["relations"]:
        (one, one_field), (many, many_field) = relation["a"].split("."), relation["b"].split(".")
        if one in registry.CLASSES and many in registry.CLASSES:
            one_type = wire_type_text(registry.CLASSES[one].field(one_field).wire_type)
            if one_type.startswith("ref:"):
                expected.add((one, one_field, many, many_field))
    found = [
        (each.one_class, each.one_field, each.many_class, each.many_field) for each in registry.RELATIONS
    ]
    assert sorted(found) == sorted(expected)


def test_roles_and_the_null_reference_are_those_of_the_facts() -> None:
    assert [role.value for role in Role] == SPEC["meta"]["roles_decreasing_privilege"]
    assert SPEC["meta"]["internal_role"] == CLIENT_CERT_ROLE
    assert SPEC["meta"]["null_ref"] == NULL
