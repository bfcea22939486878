"""One decoder for what both codecs parse: the table of spec §1.3."""

from __future__ import annotations

import datetime as dt

import pytest

from poolnet.api.decode import decode_value
from poolnet.api.wire import Mark, Marked, Wire
from poolnet.model.enums import BondMode, VifLockingMode
from poolnet.model.errors import Failure
from poolnet.model.types import Value, parse_wire_type

NOON = dt.datetime(2024, 1, 31, 12, 34, 56, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("wire_type", "wire", "value"),
    [
        ("string", "a\tb\r\n日", "a\tb\r\n日"),
        ("ref:PIF", "whatever", "whatever"),
        ("int", "12", 12),
        ("int", "-9223372036854775808", -(2**63)),
        ("int", 12, 12),
        ("int32", 12, 12),
        ("float", 1, 1.0),
        ("float", 1.5, 1.5),
        ("float", "1.5e1", 15.0),
        ("bool", True, True),
        ("datetime", Marked(Mark.DATE_TIME, "20240131T12:34:56Z"), NOON),
        ("datetime", "2024-01-31T12:34:56", NOON),
        ("datetime", "20240131T123456Z", NOON),
        ("datetime", "20240131T13:34:56+01:00", NOON),
        ("datetime", "20240131T11:04:56.5-0130", NOON),
        ("enum:vif_locking_mode", "Locked", VifLockingMode.LOCKED),
        ("enum:bond_mode", "balance-slb", BondMode.BALANCE_SLB),
        ("set:int", ["1", 2], (1, 2)),
        ("set:string", [], ()),
        ("map:string:string", {"k": "v"}, {"k": "v"}),
        ("map:int:set:string", {"1": ["a"]}, {1: ("a",)}),
        ("option:int", None, None),
        ("option:int", "1", 1),
        ("void", "", None),
        ("void", None, None),
        ("record:VLAN", {"tag": "5", "unknown": [], "other_config": {}}, {"tag": 5, "other_config": {}}),
    ],
)
def test_what_a_client_may_send_is_understood(wire_type: str, wire: Wire, value: Value) -> None:
    decoded = decode_value(parse_wire_type(wire_type), wire)
    assert decoded == value
    assert type(decoded) is type(value)


@pytest.mark.parametrize(
    ("wire_type", "wire"),
    [
        ("string", 1),
        ("string", None),
        ("string", []),
        ("string", Marked(Mark.DATE_TIME, "20240131T12:34:56Z")),
        ("ref:PIF", 1),
        ("int", "one"),
        ("int", ""),
        ("int", " 1"),
        ("int", "٣"),
        ("int", "9223372036854775808"),
        ("int", 2**63),
        ("int", 10**400),
        ("int", True),
        ("int", 1.0),
        ("int32", 2**31),
        ("float", "nan"),
        ("float", "inf"),
        ("float", "1e999"),
        ("float", "1e99999999"),
        ("float", 10**400),
        ("float", False),
        ("float", "1" * 1000),
        ("bool", 1),
        ("bool", "1"),
        ("datetime", "yesterday"),
        ("datetime", "20241331T12:34:56Z"),
        ("datetime", "20240131T25:34:56Z"),
        ("datetime", "00000101T00:00:00Z"),
        ("datetime", "00010101T00:00:00+23:00"),
        ("datetime", "99991231T23:59:59-99:99"),
        ("datetime", 20240131),
        ("enum:bond_mode", "Balance-SLB"),
        ("enum:vif_locking_mode", "bolted"),
        ("enum:vif_locking_mode", 1),
        ("set:string", "a"),
        ("set:string", {}),
        ("set:int", ["x"]),
        ("map:string:string", []),
        ("map:int:int", {"k": 1}),
        ("map:string:string", {"k": 1}),
        ("void", 0),
        ("record:VLAN", []),
        ("record:VLAN", {"tag": "five"}),
    ],
)
def test_another_type_is_an_internal_error_that_repeats_nothing(wire_type: str, wire: Wire) -> None:
    with pytest.raises(Failure) as caught:
        decode_value(parse_wire_type(wire_type), wire)
    assert caught.value.code == "INTERNAL_ERROR"
    (text,) = caught.value.params
    assert text.startswith('Failure("Expected ')
    assert "yesterday" not in text


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        (Marked(Mark.NOT_UTF8, "b\ufffdd"), "b\ufffdd"),
        ("a\x00b", "a\ufffdb"),
        ("\x1b[31m", "\ufffd[31m"),
        ("\uffff", "\ufffd"),
    ],
)
def test_text_that_cannot_travel_is_an_invalid_value(wire: Wire, shown: str) -> None:
    with pytest.raises(Failure) as caught:
        decode_value(parse_wire_type("map:string:string"), {"k": wire})
    assert caught.value.code == "INVALID_VALUE"
    assert caught.value.params == ("Invalid UTF-8 string in parameter", shown)
