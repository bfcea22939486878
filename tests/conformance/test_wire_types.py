"""Every field of every class has the wire type that the facts say, in XML-RPC and in JSON (issue 2, show 3).

The encoded records are read back by the standard library's parsers, which know nothing of our encoders, and held against
the types in the copied facts, not against our declarations.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from poolnet.api.answer import Codec
from poolnet.api.fragments import encode_record
from poolnet.model.enums import ENUMS
from poolnet.model.registry import CLASSES
from poolnet.model.types import (
    BoolT,
    DateTimeT,
    EnumT,
    FloatT,
    Int32T,
    IntT,
    MapT,
    OptionT,
    RecordT,
    Ref,
    RefT,
    SetT,
    Value,
    WireType,
)

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "xenapi-network.json").read_text())["classes"]
DATE = re.compile(r"\d{8}T\d{2}:\d{2}:\d{2}Z")
STORED = sorted(name for name, facts in FACTS.items() if facts["in_database"])


def sample(wire_type: WireType) -> Value:
    """A value of the type that is not its zero, so that nothing is encoded as empty by luck."""
    match wire_type:
        case IntT() | Int32T():
            return 2**40 + 7
        case FloatT():
            return 0.25
        case BoolT():
            return True
        case DateTimeT():
            return datetime(2024, 1, 31, 12, 34, 56, tzinfo=UTC)
        case EnumT(name):
            return list(ENUMS[name])[-1]
        case RefT():
            return "OpaqueRef:00000000-0000-4000-8000-00000000abcd"
        case SetT(item):
            return (sample(item),)
        case MapT(key, item):
            return {sample(key): sample(item)}
        case OptionT(item):
            return sample(item)
        case RecordT():
            raise AssertionError("no class has a record as a field")
        case _:
            return 'a <b> & "c"'


def encoded(codec: Codec, name: str) -> str:
    decl = CLASSES[name]
    values = {field.attribute: sample(field.wire_type) for field in decl.fields}
    row = decl.python_type(ref=Ref("OpaqueRef:row"), **values)
    return encode_record(codec, decl, row).decode()


@pytest.mark.parametrize("name", STORED)
def test_xml_has_every_field_with_its_type(name: str) -> None:
    struct = ET.fromstring(encoded(Codec.XML, name)).find("struct")
    assert struct is not None
    members = {m.findtext("name"): m.find("value") for m in struct.findall("member")}
    assert list(members) == [field["name"] for field in FACTS[name]["fields"]]
    for field in FACTS[name]["fields"]:
        assert_xml(members[field["name"]], field["type"].split(":"), field["name"])


def assert_xml(value: ET.Element | None, grammar: list[str], where: str) -> None:
    assert value is not None, where
    children = list(value)
    match grammar[0]:
        case "string" | "enum" | "ref":
            assert not children, where
            assert value.text, where
        case "int":
            assert not children, where
            assert int(value.text or "") == 2**40 + 7, where
        case "float":
            assert [child.tag for child in children] == ["double"], where
            assert children[0].text == "0.25", where
        case "bool":
            assert [(child.tag, child.text) for child in children] == [("boolean", "1")], where
        case "datetime":
            assert [child.tag for child in children] == ["dateTime.iso8601"], where
            assert DATE.fullmatch(children[0].text or ""), where
        case "set":
            assert [child.tag for child in children] == ["array"], where
            items = value.findall("array/data/value")
            assert len(items) == 1, where
            assert_xml(items[0], grammar[1:], where)
        case "map":
            assert [child.tag for child in children] == ["struct"], where
            (member,) = value.findall("struct/member")
            assert member.findtext("name"), where
            assert_xml(member.find("value"), value_grammar(grammar), where)
        case other:
            raise AssertionError(f"{where}: {other}")


@pytest.mark.parametrize("name", STORED)
def test_json_has_every_field_with_its_type(name: str) -> None:
    record = json.loads(encoded(Codec.JSON, name))
    assert list(record) == [field["name"] for field in FACTS[name]["fields"]]
    for field in FACTS[name]["fields"]:
        assert_json(record[field["name"]], field["type"].split(":"), field["name"])


def assert_json(value: object, grammar: list[str], where: str) -> None:
    match grammar[0]:
        case "string" | "enum" | "ref":
            assert isinstance(value, str), where
            assert value, where
        case "int":
            assert value == 2**40 + 7, where
            assert type(value) is int, where
        case "float":
            assert value == 0.25, where
        case "bool":
            assert value is True, where
        case "datetime":
            assert isinstance(value, str), where
            assert DATE.fullmatch(value), where
        case "set":
            assert isinstance(value, list), where
            assert len(value) == 1, where
            assert_json(value[0], grammar[1:], where)
        case "map":
            assert isinstance(value, dict), where
            ((key, item),) = value.items()
            assert isinstance(key, str), where
            assert_json(item, value_grammar(grammar), where)
        case other:
            raise AssertionError(f"{where}: {other}")


def value_grammar(grammar: list[str]) -> list[str]:
    """What follows a map's key: keys are plain, or an enum or reference with its name."""
    return grammar[3:] if grammar[1] in ("enum", "ref") else grammar[2:]
