"""Values on the wire, character for character as spec §1.3 and §1.4 have them."""

from __future__ import annotations

import datetime as dt
import json
import xmlrpc.client

import pytest

from poolnet.api.answer import Codec
from poolnet.api.fragments import encode_record, encode_value, items, member, struct
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import BondMode, VifLockingMode
from poolnet.model.registry import CLASSES
from poolnet.model.types import Ref, StringT, Value, parse_wire_type

NOON = dt.datetime(2024, 1, 31, 12, 34, 56, 999_999, tzinfo=dt.UTC)
JAPAN = dt.timezone(dt.timedelta(hours=9))


@pytest.mark.parametrize(
    ("wire_type", "value", "xml", "json_text"),
    [
        ("string", "text", "text", '"text"'),
        ("string", "", "", '""'),
        ("string", "a<b>&\"c\"'d'", "a&lt;b&gt;&amp;&quot;c&quot;'d'", '"a<b>&\\"c\\"\'d\'"'),
        ("string", "\x00\x01\t\n\r\x1f日\uffff", "\t\n\r日", '"\\u0000\\u0001\\t\\n\\r\\u001f日\uffff"'),
        ("ref:PIF", "OpaqueRef:NULL", "OpaqueRef:NULL", '"OpaqueRef:NULL"'),
        ("enum:bond_mode", BondMode.BALANCE_SLB, "balance-slb", '"balance-slb"'),
        ("enum:vif_locking_mode", VifLockingMode.NETWORK_DEFAULT, "network_default", '"network_default"'),
        ("int", 123, "123", "123"),
        ("int", -(2**63), "-9223372036854775808", "-9223372036854775808"),
        ("int32", 5, "<i4>5</i4>", "5"),
        ("float", 1.0, "<double>1</double>", "1.0"),
        ("float", 0.1, "<double>0.1</double>", "0.1"),
        ("float", 1 / 3, "<double>0.3333333333333333</double>", "0.3333333333333333"),
        ("float", 1e20, "<double>1e+20</double>", "1e+20"),
        ("bool", True, "<boolean>1</boolean>", "true"),
        ("bool", False, "<boolean>0</boolean>", "false"),
        ("datetime", NOON, "<dateTime.iso8601>20240131T12:34:56Z</dateTime.iso8601>", '"20240131T12:34:56Z"'),
        ("datetime", dt.datetime(990, 1, 1, 9, tzinfo=JAPAN),
         "<dateTime.iso8601>09900101T00:00:00Z</dateTime.iso8601>", '"09900101T00:00:00Z"'),
        ("void", None, "", '""'),
        ("option:int", None, "<nil/>", "null"),
        ("option:int", 1, "1", "1"),
        ("set:string", (), "<array><data></data></array>", "[]"),
        ("set:string", ("a", "b"), "<array><data><value>a</value><value>b</value></data></array>", '["a","b"]'),
        ("map:string:int", {}, "<struct></struct>", "{}"),
        ("map:string:int", {"a&": 1, "b": 2},
         "<struct><member><name>a&amp;</name><value>1</value></member>"
         "<member><name>b</name><value>2</value></member></struct>", '{"a&":1,"b":2}'),
        ("map:int:float", {1: 0.5}, "<struct><member><name>1</name><value><double>0.5</double></value></member></struct>",
         '{"1":0.5}'),
        ("map:enum:vif_locking_mode:string", {VifLockingMode.LOCKED: "x"},
         "<struct><member><name>locked</name><value>x</value></member></struct>", '{"locked":"x"}'),
    ],
)  # fmt: skip
def test_each_type_has_its_form(wire_type: str, value: Value, xml: str, json_text: str) -> None:
    parsed = parse_wire_type(wire_type)
    assert encode_value(Codec.XML, parsed, value).decode() == f"<value>{xml}</value>"
    assert encode_value(Codec.JSON, parsed, value).decode() == json_text


def test_a_lone_surrogate_does_not_break_an_answer() -> None:
    assert encode_value(Codec.XML, StringT(), "a\ud800b") == b"<value>a?b</value>"
    assert encode_value(Codec.JSON, StringT(), "a\ud800b") == b'"a?b"'


ROW = VLAN(ref=Ref("OpaqueRef:1"), uuid="u", tag=7, other_config={"a": "b"})


def test_a_record_has_every_public_field_in_the_order_of_the_wire() -> None:
    fields = [field.name for field in CLASSES["VLAN"].fields]
    xml = encode_record(Codec.XML, CLASSES["VLAN"], ROW)
    (decoded,), _ = xmlrpc.client.loads(b"<params><param>" + xml + b"</param></params>")
    assert isinstance(decoded, dict)
    assert list(decoded) == fields
    assert decoded["tag"] == "7"
    assert list(json.loads(encode_record(Codec.JSON, CLASSES["VLAN"], ROW))) == fields


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("cls", [name for name, decl in CLASSES.items() if decl.fields])
def test_records_of_every_class_encode_from_rows_and_from_mappings_alike(codec: Codec, cls: str) -> None:
    decl = CLASSES[cls]
    row = decl.python_type(ref=Ref("OpaqueRef:1"))
    mapping = {field.name: getattr(row, field.attribute) for field in decl.fields}
    assert encode_value(codec, parse_wire_type(f"record:{cls}"), mapping) == encode_record(codec, decl, row)


@pytest.mark.parametrize("codec", Codec)
def test_fragments_put_together_are_what_encoding_at_once_gives(codec: Codec) -> None:
    texts = ("a", "b<", "")
    fragments = [encode_value(codec, StringT(), text) for text in texts]
    assert b"".join(items(codec, fragments)) == encode_value(codec, parse_wire_type("set:string"), texts)
    assert b"".join(items(codec, [])) == encode_value(codec, parse_wire_type("set:string"), ())
    members = [member(codec, f"k&{n}", fragment) for n, fragment in enumerate(fragments)]
    at_once = {f"k&{n}": text for n, text in enumerate(texts)}
    assert b"".join(struct(codec, members)) == encode_value(
        codec, parse_wire_type("map:string:string"), at_once
    )
    assert b"".join(struct(codec, [])) == encode_value(codec, parse_wire_type("map:string:string"), {})
