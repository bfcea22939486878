"""The XML-RPC dialect, read and written exactly as spec §1.2 and §1.3 have it."""

from __future__ import annotations

import pytest

from poolnet.api import xmlrpc
from poolnet.api.limits import WIRE_DEPTH_MAX
from poolnet.api.wire import Malformed, Mark, Marked, Wire


def call(value: str) -> bytes:
    return f"<methodCall><methodName>m.n</methodName><params><param>{value}</param></params></methodCall>".encode()


def read(value: str) -> Wire:
    (wire,) = xmlrpc.decode_call(call(value)).params
    return wire


@pytest.mark.parametrize(
    ("xml", "wire"),
    [
        ("<value>text</value>", "text"),
        ("<value></value>", ""),
        ("<value/>", ""),
        ("<value> spaced\n</value>", " spaced\n"),
        ("<value>a&amp;b&lt;&#65;<![CDATA[<c>]]></value>", "a&b<A<c>"),
        ("<value><string>text</string></value>", "text"),
        ("<value>\n  <string/>\n</value>", ""),
        ("<value><int>12</int></value>", 12),
        ("<value><i4> -3 </i4></value>", -3),
        ("<value><i8>9223372036854775807</i8></value>", 2**63 - 1),
        ("<value><boolean>1</boolean></value>", True),
        ("<value><boolean>0</boolean></value>", False),
        ("<value><double>1.5e3</double></value>", 1500.0),
        ("<value><double>-.5</double></value>", -0.5),
        (
            "<value><dateTime.iso8601>20240131T12:34:56Z</dateTime.iso8601></value>",
            Marked(Mark.DATE_TIME, "20240131T12:34:56Z"),
        ),
        ("<value><nil/></value>", None),
        ("<value><array/></value>", []),
        ("<value><array><data/></array></value>", []),
        ("<value><array><data><value>a</value><value><int>1</int></value></data></array></value>", ["a", 1]),
        ("<value><struct/></value>", {}),
        ("<value><struct><member><name>k</name><value>v</value></member>\n</struct></value>", {"k": "v"}),
        ("<value><struct><member><value>v</value><name/></member></struct></value>", {"": "v"}),
        ("<value>日本語</value>", "日本語"),
    ],
)
def test_each_form_of_a_value_is_read(xml: str, wire: Wire) -> None:
    assert read(xml) == wire
    assert type(read(xml)) is type(wire)


def test_a_call_may_have_no_params_and_a_declared_encoding() -> None:
    assert (
        xmlrpc.decode_call(
            b'<?xml version="1.0" encoding="utf-8"?>\n<methodCall>\n<methodName> a.b </methodName>'
            b"</methodCall>\n"
        ).method
        == "a.b"
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"<methodCall>",
        b"<methodCall></methodCall>",
        b"<methodCall><methodName/></methodCall>",
        b"<methodCall><methodName>a</methodName><methodName>b</methodName></methodCall>",
        b"<methodCall><methodName>a</methodName><params/><params/></methodCall>",
        b"<methodCall><methodName>a</methodName><params><param/></params></methodCall>",
        b"<methodResponse><params/></methodResponse>",
        b"<methodCall><methodName>" + b"m" * 300 + b"</methodName></methodCall>",
        b"<!DOCTYPE methodCall><methodCall><methodName>a</methodName></methodCall>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><methodCall><methodName>&a;</methodName></methodCall>',
        b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><methodCall><methodName>a</methodName></methodCall>',
        call("<value>&undeclared;</value>"),
        call("<value>\x01</value>"),
        call("<value>&#1;</value>"),
        call("<value>a<int>1</int></value>"),
        call("<value><int>1</int><int>2</int></value>"),
        call("<value>1</value><value>2</value>"),
        call("<value><int>one</int></value>"),
        call("<value><int></int></value>"),
        call("<value><i8>9223372036854775808</i8></value>"),
        call(f"<value><i8>{'9' * 100_000}</i8></value>"),
        call("<value><boolean>true</boolean></value>"),
        call("<value><boolean>2</boolean></value>"),
        call("<value><double>nan</double></value>"),
        call("<value><double>inf</double></value>"),
        call("<value><double>1e999</double></value>"),
        call("<value><base64>AAAA</base64></value>"),
        call("<value><bogus/></value>"),
        call("<value><struct><member><name>k</name></member></struct></value>"),
        call("<value><struct><member><value/></member></struct></value>"),
        call("<value><array><value/></array></value>"),
        call("<value><array><data/><data/></array></value>"),
        call("<value>" + "<array><data><value>" * (WIRE_DEPTH_MAX + 2)),
        call(
            "<value><array><data><value>" * (WIRE_DEPTH_MAX + 5)
            + "</value></data></array></value>" * (WIRE_DEPTH_MAX + 5)
        ),
        "<methodCall><methodName>é</methodName></methodCall>".encode("utf-16"),
    ],
)
def test_what_is_no_call_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        xmlrpc.decode_call(body)


def test_values_may_be_nested_as_deeply_as_the_limit_says() -> None:
    depth = WIRE_DEPTH_MAX - 1
    wire = read("<value><array><data>" * depth + "<value>x</value>" + "</data></array></value>" * depth)
    for _ in range(depth):
        assert isinstance(wire, list)
        (wire,) = wire
    assert wire == "x"


def test_texts_that_are_no_utf8_are_marked_and_the_rest_is_read() -> None:
    body = call("<value><array><data><value>good</value><value>b@d</value></data></array></value>")
    (wire,) = xmlrpc.decode_call(body.replace(b"@", b"\xff")).params
    assert wire == ["good", Marked(Mark.NOT_UTF8, "b\ufffdd")]


def test_a_call_in_a_declared_western_encoding_is_read_in_it() -> None:
    body = b"<?xml version='1.0' encoding='ISO-8859-1'?>" + call(
        "<value>caf\u00e9 \u00c3\u00a9</value>"
    ).decode().encode("iso-8859-1")
    assert xmlrpc.decode_call(body).params == ("caf\u00e9 \u00c3\u00a9",)


def test_a_failure_is_an_array_of_strings_in_a_struct() -> None:
    assert xmlrpc.encode_failure("HANDLE_INVALID", ("VM", 'a<"&>\x00')) == (
        b'<?xml version="1.0"?><methodResponse><params><param><value><struct>'
        b"<member><name>Status</name><value>Failure</value></member>"
        b"<member><name>ErrorDescription</name><value><array><data><value>HANDLE_INVALID</value><value>VM</value>"
        b"<value>a&lt;&quot;&amp;&gt;</value></data></array></value></member>"
        b"</struct></value></param></params></methodResponse>"
    )


def test_a_success_is_a_struct_of_status_and_value() -> None:
    assert b"".join(xmlrpc.success_pieces([b"<value>1</value>"])) == (
        b'<?xml version="1.0"?><methodResponse><params><param><value><struct>'
        b"<member><name>Status</name><value>Success</value></member>"
        b"<member><name>Value</name><value>1</value></member>"
        b"</struct></value></param></params></methodResponse>"
    )


def test_the_list_of_methods_has_no_status() -> None:
    assert b"".join(xmlrpc.success_pieces([b"<value/>"], bare=True)) == (
        b'<?xml version="1.0"?><methodResponse><params><param><value/></param></params></methodResponse>'
    )
