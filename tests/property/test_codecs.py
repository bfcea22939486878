"""What is encoded decodes to itself, and decoders end every text in a value or in their own refusal."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.api import jsonrpc, xmlrpc
from poolnet.api.answer import Codec
from poolnet.api.decode import decode_value
from poolnet.api.fragments import encode_value
from poolnet.api.wire import Malformed, Wire
from poolnet.model.enums import ENUMS
from poolnet.model.errors import Failure
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
    RefT,
    SetT,
    StringT,
    Value,
    VoidT,
    WireType,
)

# XML reads a carriage return as a newline, and the reference does not escape it: texts with it cannot come back.
TEXTS = st.text(
    st.characters(
        exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff", include_characters="\t\n"
    )
)
KEYS: st.SearchStrategy[WireType] = st.sampled_from((StringT(), IntT(), RefT("VIF"), EnumT("vm_operations")))
PLAIN: st.SearchStrategy[WireType] = st.one_of(
    st.sampled_from((StringT(), IntT(), Int32T(), FloatT(), BoolT(), DateTimeT(), VoidT(), RefT("PIF"))),
    st.sampled_from([EnumT(name) for name in ENUMS]),
    st.sampled_from([RecordT(name) for name in CLASSES]),
)
# An option in an option, and an option of void, have two values that look alike.
TYPES: st.SearchStrategy[WireType] = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        inner.map(SetT),
        st.builds(MapT, KEYS, inner),
        inner.filter(lambda each: not isinstance(each, OptionT | VoidT)).map(OptionT),
    ),
    max_leaves=4,
)
MOMENTS = st.datetimes(
    min_value=dt.datetime(1, 1, 2),  # noqa: DTZ001 - the strategy adds the zone
    max_value=dt.datetime(9999, 12, 30),  # noqa: DTZ001 - likewise
    timezones=st.just(dt.UTC),
).map(lambda moment: moment.replace(microsecond=0))
FLOATS = (
    st.floats(allow_nan=False, allow_infinity=False)
    .map(lambda number: float(f"{number:.16g}"))
    .filter(lambda number: number not in (float("inf"), float("-inf")))
)
SIMPLE: dict[WireType, st.SearchStrategy[Any]] = {
    StringT(): TEXTS,
    IntT(): st.integers(-(2**63), 2**63 - 1),
    Int32T(): st.integers(-(2**31), 2**31 - 1),
    FloatT(): FLOATS,
    BoolT(): st.booleans(),
    DateTimeT(): MOMENTS,
    VoidT(): st.none(),
}


def values_of(wire_type: WireType) -> st.SearchStrategy[Any]:
    """All values of a type that can come back."""
    match wire_type:
        case EnumT(name):
            return st.sampled_from(list(ENUMS[name]))
        case RefT():
            return TEXTS
        case SetT(item):
            return st.lists(values_of(item), max_size=3).map(tuple)
        case MapT(key, value):
            return st.dictionaries(values_of(key), values_of(value), max_size=3)
        case OptionT(item):
            return st.none() | values_of(item)
        case RecordT(name):
            return st.fixed_dictionaries(
                {field.name: values_of(field.wire_type) for field in CLASSES[name].fields[:6]}
            )
        case _:
            return SIMPLE[wire_type]


TYPED_VALUES = TYPES.flatmap(lambda wire_type: st.tuples(st.just(wire_type), values_of(wire_type)))


def back_from_xml(fragment: bytes) -> Wire:
    body = (
        b"<methodCall><methodName>m</methodName><params><param>"
        + fragment
        + b"</param></params></methodCall>"
    )
    (wire,) = xmlrpc.decode_call(body).params
    return wire


def back_from_json(fragment: bytes) -> Wire:
    (wire,) = jsonrpc.decode_call(b'{"method":"m","id":1,"params":[' + fragment + b"]}").call.params
    return wire


@given(TYPED_VALUES)
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_decodes_to_itself(typed: tuple[WireType, Value]) -> None:
    wire_type, value = typed
    assert decode_value(wire_type, back_from_xml(encode_value(Codec.XML, wire_type, value))) == value
    assert decode_value(wire_type, back_from_json(encode_value(Codec.JSON, wire_type, value))) == value


@given(TYPES, TYPED_VALUES)
@settings(max_examples=150, deadline=None)
def test_a_value_of_another_type_is_refused_or_read(
    wire_type: WireType, typed: tuple[WireType, Value]
) -> None:
    other, value = typed
    for wire in (
        back_from_xml(encode_value(Codec.XML, other, value)),
        back_from_json(encode_value(Codec.JSON, other, value)),
    ):
        with contextlib.suppress(Failure):  # and nothing else
            decode_value(wire_type, wire)


SCRAPS = st.sampled_from(
    [
        b"<methodCall>", b"</methodCall>", b"<methodName>a.b</methodName>", b"<params>", b"</params>", b"<param>",
        b"</param>", b"<value>", b"</value>", b"<value/>", b"<struct>", b"</struct>", b"<member>", b"</member>",
        b"<name>n</name>", b"<array>", b"</array>", b"<data>", b"</data>", b"<int>1</int>", b"<int>", b"<nil/>",
        b"<double>1</double>", b"<!DOCTYPE a>", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"&amp;", b"&#0;", b"<?xml?>",
        b'{"method":"a.b",', b'"params":', b'"id":1}', b"[", b"]", b"{", b"}", b",", b'"k":', b"1e400", b"-", b"null",
        b'"\\ud800"', b"\xff", b"\xc3", b"\x00", b"\xef\xbb\xbf", b"9" * 5000, b"\xf0\x9f\x98\x80",
    ]
)  # fmt: skip


@given(
    st.one_of(st.binary(max_size=400), st.lists(SCRAPS | st.binary(max_size=4), max_size=30).map(b"".join))
)
@settings(max_examples=500, deadline=None)
def test_bytes_become_a_call_or_are_malformed(body: bytes) -> None:
    for decode in (xmlrpc.decode_call, jsonrpc.decode_call):
        with contextlib.suppress(Malformed):
            decode(body)


@given(st.sampled_from(["xml", "json"]), st.integers(0, 300), st.binary(min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_a_spoilt_request_becomes_a_call_or_is_malformed(kind: str, position: int, spoil: bytes) -> None:
    wire_type = RecordT("VLAN")
    value: dict[str, Value] = {"tag": 1, "other_config": {"k": "日"}}
    if kind == "xml":
        fragment = encode_value(Codec.XML, wire_type, value)
        body = (
            b"<methodCall><methodName>m</methodName><params><param>"
            + fragment
            + b"</param></params></methodCall>"
        )
    else:
        fragment = encode_value(Codec.JSON, wire_type, value)
        body = b'{"jsonrpc":"2.0","method":"m","id":1,"params":[' + fragment + b"]}"
    at = position % len(body)
    for spoilt in (body[:at] + spoil + body[at + len(spoil) :], body[:at], body[:at] + spoil + body[at:]):
        with contextlib.suppress(Malformed, Failure):
            params = (
                xmlrpc.decode_call(spoilt).params
                if kind == "xml"
                else jsonrpc.decode_call(spoilt).call.params
            )
            for param in params:
                decode_value(wire_type, param)


@given(TEXTS)
def test_json_texts_are_what_any_reader_of_json_reads(text: str) -> None:
    assert json.loads(encode_value(Codec.JSON, StringT(), text)) == text
