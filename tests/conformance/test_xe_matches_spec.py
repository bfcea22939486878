"""Holds the field tables and commands of `xe` against the specification's machine-readable companion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from poolnet.model.registry import MESSAGES
from poolnet.model.types import DateTimeT, EnumT, MapT, RefT, SetT
from poolnet.xe.commands.catalog import COMMANDS
from poolnet.xe.fields.catalog import TABLES
from poolnet.xe.fields.declare import Field, Table

SPEC: Mapping[str, Any] = json.loads(Path(__file__).with_name("xe-cli.json").read_text())
CLASSES = {each["cli"]: each for each in SPEC["classes"]}
SPEC_COMMANDS = {each["name"]: each for each in SPEC["commands"]}
# docs/deviations.md: the columns that the reference means to show.
ADDED_FIELDS = {("network-sriov", "configuration-mode"), ("host", "missing")}
ADDED_COMMANDS = {
    "vif-lock-verify",
    "vif-lock-explain",
    "vif-lock-counters",
    "vm-explain-placement",
    "pool-bond-create",
    "audit-undo",
    "host-network-drift",
    "pool-cluster-enable",
    "pool-cluster-disable",
    "pool-cluster-status",
    "pool-cluster-add",
    "pool-cluster-remove",
}
SHOWN_BESIDES = {
    "network-sriov": {"physical-PIF", "logical-PIF", "configuration-mode"},
    "snapshot": {"snapshot-of", "snapshot-time"},
}


def fields(table: Table) -> list[tuple[Field, Mapping[str, Any]]]:
    spec = {each["name"]: each for each in CLASSES[table.name]["fields"]}
    return [(each, spec[each.name]) for each in table.fields if (table.name, each.name) not in ADDED_FIELDS]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_the_fields_of_the_reference_in_its_order(name: str) -> None:
    ours = [each.name for each in TABLES[name].fields if (name, each.name) not in ADDED_FIELDS]
    assert ours == [each["name"] for each in CLASSES[name]["fields"]]
    assert TABLES[name].api == CLASSES[name]["api_class"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_prints_the_qualifiers_of_the_reference(name: str) -> None:
    for field, spec in fields(TABLES[name]):
        qualifier = spec["qualifier"] if len(spec["qualifier"]) == 3 else f" {spec['qualifier']}"
        deprecated = " [DEPRECATED]" if spec.get("deprecated") else ""
        assert field.label == f"{field.name} ({qualifier}){deprecated}"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_hides_and_withholds_what_the_reference_does(name: str) -> None:
    for field, spec in fields(TABLES[name]):
        assert field.column.hidden == bool(spec.get("hidden")), field.name
        assert field.column.expensive == bool(spec.get("expensive")), field.name
        assert field.column.any_case == bool(spec.get("case_insensitive")), field.name
        if spec["get"].get("sep"):
            assert field.separator == spec["get"]["sep"], field.name
        if spec["get"].get("when_no_metrics"):
            assert field.column.missing == spec["get"]["when_no_metrics"], field.name


@pytest.mark.parametrize("name", TABLES)
def test_a_table_shows_in_lists_what_the_reference_does(name: str) -> None:
    spec = CLASSES[name]
    assert set(TABLES[name].shown) == set(spec["default_fields_shown"]) | SHOWN_BESIDES.get(name, set())
    assert [list(each) for each in TABLES[name].filters] == spec["default_filters"]
    assert TABLES[name].expression == spec["list_expr"]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_writes_with_the_messages_of_the_reference(name: str) -> None:
    for field, spec in fields(TABLES[name]):
        api = CLASSES[name]["api_class"]
        assert field.setter == spec.get("set", {}).get("call", ""), field.name
        assert field.adder == (spec.get("add_to_map") or spec.get("add_to_set") or ""), field.name
        assert field.remover == (spec.get("remove_from_map") or spec.get("remove_from_set") or ""), field.name
        assert field.key_setter == (spec.get("set_in_map") or ""), field.name
        assert field.map_setter == (spec.get("set_map") or ""), field.name
        assert field.clearer == (spec.get("clear_map") or ""), field.name
        assert all(message.startswith(f"{api}.") for message in (field.setter, field.adder) if message)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_converts_as_the_reference_does(name: str) -> None:
    for field, spec in fields(TABLES[name]):
        parse = spec.get("set", {}).get("parse", "")
        assert field.column.size == ("byte size" in parse), field.name
        assert field.column.trimmed == ("trimmed" in parse), field.name
        assert field.column.old == ("must be a boolean" in parse or "no validation" in parse), field.name
        if isinstance(field.setter_type, RefT):
            assert field.column.strict == (parse == "uuid"), field.name


@pytest.mark.parametrize("name", TABLES)
def test_a_table_renders_as_the_reference_does(name: str) -> None:
    for field, spec in fields(TABLES[name]):
        render = spec["get"]["render"]
        assert (field.column.compute is not None) == (render == "custom"), field.name
        kinds = {
            "uuid": RefT,
            "name_label": RefT,
            "uuids": SetT,
            "set": SetT,
            "set_int": SetT,
            "enum_set": SetT,
            "map": MapT,
            "map_of_uuid": MapT,
            "enum_values_of_map": MapT,
            "enum": EnumT,
            "datetime": DateTimeT,
        }
        if render in kinds:
            assert isinstance(field.wire_type, kinds[render]), field.name
            assert field.column.by_name == (render == "name_label"), field.name


@pytest.mark.parametrize("name", TABLES)
def test_a_class_has_the_generic_commands_of_the_reference(name: str) -> None:
    ours = {command for command in COMMANDS if SPEC_COMMANDS.get(command, {}).get("class") == name}
    assert ours == set(CLASSES[name]["commands"])


def test_every_command_of_the_networks_side_is_known() -> None:
    """Those with an `api` are the ones that the specification describes (xe-cli §7); the others are about disks etc."""
    assert [name for name, spec in SPEC_COMMANDS.items() if spec.get("api") and name not in COMMANDS] == []


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - ADDED_COMMANDS))
def test_a_command_takes_what_the_reference_takes(name: str) -> None:
    command, spec = COMMANDS[name], SPEC_COMMANDS[name]
    assert list(command.required) == spec["required"]
    added = ("configuration-mode", "missing", "fix", "allow-missing-hosts")
    optional = [each for each in command.optional if not each.startswith(added)]
    assert optional == spec["optional"]
    assert command.selects.value == (spec["selectors"] or "")
    assert command.hidden == spec["hidden"]
    assert command.common == spec["in_common_help"]
    assert command.local == (spec["session"] == "local")
    assert command.never_forward == spec["neverforward"]
    assert command.deprecated == spec["deprecated"]


def test_every_command_says_what_it_does_in_one_sentence_or_more() -> None:
    assert [name for name, command in COMMANDS.items() if not command.summary.endswith(".")] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_of_one_call_gives_the_message_its_arguments(name: str) -> None:
    action = COMMANDS[name].action
    if not isinstance(action, partial) or action.func.__name__ != "_call":
        return
    method, arguments, _ = action.args
    if method not in MESSAGES:
        return
    params = MESSAGES[method].params
    least = sum(not each.has_default for each in params)
    assert least <= len(arguments) <= len(params)
