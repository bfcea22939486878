"""How is a value of a wire type encoded, in XML-RPC and in JSON (spec §1.3, §1.4)? Codecs, dispatcher and caches ask.

A fragment is one encoded value: `<value>…</value>` in XML-RPC, a JSON value in JSON. Fragments are put together without
looking inside: `member` gives one a name, `struct` and `array` join them. So the database keeps each row's fragment, and
get_all_records of 10,000 rows copies bytes and encodes nothing.

For every wire type, and for every class's record, one function is made once and kept; it takes the Python value that
`model.types` says the type has, and gives text.
"""

from __future__ import annotations

import datetime as dt
import functools
import json.encoder
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from poolnet.api.answer import Codec
from poolnet.model.declare import ClassDecl
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
    Row,
    SetT,
    StringT,
    Value,
    VoidT,
    WireType,
)

TextEncoder: TypeAlias = Callable[[Any], str]

_TO_ESCAPE: Final = re.compile('[&<>"\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]')
_ESCAPES: Final[Mapping[str, str]] = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

json_string: Final[Callable[[str], str]] = json.encoder.encode_basestring


def encode_value(codec: Codec, wire_type: WireType, value: Value | Row) -> bytes:
    """Encodes one value as a fragment. Records may be rows or mappings of wire field names."""
    encoder = xml_encoder(wire_type) if codec is Codec.XML else json_encoder(wire_type)
    return encoder(value).encode(errors="replace")


def encode_record(codec: Codec, decl: ClassDecl, row: Row) -> bytes:
    """Encodes a row's public fields, in the order of the wire, as a fragment."""
    return encode_value(codec, RecordT(decl.name), row)


def member(codec: Codec, name: str, fragment: bytes) -> bytes:
    """Gives a fragment a name, as a member for `struct`."""
    if codec is Codec.XML:
        head = f"<member><name>{xml_escape(name)}</name>".encode(errors="replace")
        return b"".join((head, fragment, b"</member>"))
    return b"".join((json_string(name).encode(errors="replace"), b":", fragment))


def struct(codec: Codec, members: Iterable[bytes]) -> list[bytes]:
    """Makes a map or record of members, in pieces that are to be joined."""
    if codec is Codec.XML:
        return [b"<value><struct>", *members, b"</struct></value>"]
    return [b"{", b",".join(members), b"}"]


def items(codec: Codec, fragments: Iterable[bytes]) -> Iterator[bytes]:
    """Makes a set of fragments, in pieces that are to be joined; each fragment is taken when its piece is."""
    if codec is Codec.XML:
        yield b"<value><array><data>"
        yield from fragments
        yield b"</data></array></value>"
        return
    yield b"["
    separator = b""
    for fragment in fragments:
        yield separator + fragment
        separator = b","
    yield b"]"


def date_time_text(moment: dt.datetime) -> str:
    """Writes a moment as the wire has it: 20240131T12:34:56Z. It must be aware; other zones become UTC."""
    moment = moment.astimezone(dt.UTC)
    return f"{moment.year:04d}{moment:%m%dT%H:%M:%SZ}"


def xml_escape(text: str) -> str:
    """Escapes markup and drops what XML has no characters for."""
    if _TO_ESCAPE.search(text):
        return _TO_ESCAPE.sub(lambda found: _ESCAPES.get(found[0], ""), text)
    return text


def xml_string(text: str) -> str:
    """Writes an untagged text."""
    return f"<value>{xml_escape(text)}</value>"


def _xml_date_time(moment: dt.datetime) -> str:
    return f"<value><dateTime.iso8601>{date_time_text(moment)}</dateTime.iso8601></value>"


def _xml_bool(value: bool) -> str:
    return f"<value><boolean>{1 if value else 0}</boolean></value>"


_XML_PLAIN: Final[Mapping[WireType, TextEncoder]] = {
    StringT(): xml_string,
    IntT(): "<value>{:d}</value>".format,
    Int32T(): "<value><i4>{:d}</i4></value>".format,
    FloatT(): "<value><double>{:.16g}</double></value>".format,
    BoolT(): _xml_bool,
    DateTimeT(): _xml_date_time,
    VoidT(): lambda _: "<value></value>",
}


@functools.cache
def xml_encoder(wire_type: WireType) -> TextEncoder:
    """Gives the function that writes values of a type as <value> elements."""
    match wire_type:
        case EnumT() | RefT():
            return xml_string
        case SetT(item):
            return _xml_set(xml_encoder(item))
        case MapT(_, value):
            return _xml_map(xml_encoder(value))
        case OptionT(item):
            encode = xml_encoder(item)
            return lambda value: "<value><nil/></value>" if value is None else encode(value)
        case RecordT(name):
            return _xml_record(CLASSES[name])
        case _:
            return _XML_PLAIN[wire_type]


def _xml_set(encode: TextEncoder) -> TextEncoder:
    def encode_set(values: Iterable[Value]) -> str:
        return f"<value><array><data>{''.join([encode(value) for value in values])}</data></array></value>"

    return encode_set


def _xml_map(encode: TextEncoder) -> TextEncoder:
    def encode_map(values: Mapping[Any, Value]) -> str:
        members = [
            f"<member><name>{xml_escape(str(key))}</name>{encode(value)}</member>"
            for key, value in values.items()
        ]
        return f"<value><struct>{''.join(members)}</struct></value>"

    return encode_map


def _attributes(decl: ClassDecl) -> Callable[[Row], Sequence[Value]]:
    """Makes what reads a row's fields. Some classes have none: all their messages are the class's own."""
    names = tuple(field.attribute for field in decl.fields)
    if len(names) > 1:
        return operator.attrgetter(*names)
    return lambda row: tuple(getattr(row, name) for name in names)


def _xml_record(decl: ClassDecl) -> TextEncoder:
    """Makes the encoder of a class's records. What is absent, as an option may be, is no member (spec §1.3)."""
    heads = tuple(f"<member><name>{xml_escape(field.name)}</name>" for field in decl.fields)
    encoders = tuple(xml_encoder(field.wire_type) for field in decl.fields)
    names = tuple(field.name for field in decl.fields)
    attributes = _attributes(decl)

    def encode_record(record: Row | Mapping[str, Value]) -> str:
        values = attributes(record) if isinstance(record, Row) else map(record.get, names)
        members = [
            f"{head}{encode(value)}</member>"
            for head, encode, value in zip(heads, encoders, values, strict=True)
            if value is not None
        ]
        return f"<value><struct>{''.join(members)}</struct></value>"

    return encode_record


def _json_float(value: float) -> str:
    """JSON has no word for what is not finite; no field should hold such a value."""
    return repr(float(value)) if math.isfinite(value) else "null"


_JSON_PLAIN: Final[Mapping[WireType, TextEncoder]] = {
    StringT(): json_string,
    IntT(): "{:d}".format,
    Int32T(): "{:d}".format,
    FloatT(): _json_float,
    BoolT(): lambda value: "true" if value else "false",
    DateTimeT(): lambda value: f'"{date_time_text(value)}"',
    VoidT(): lambda _: '""',
}


@functools.cache
def json_encoder(wire_type: WireType) -> TextEncoder:
    """Gives the function that writes values of a type as JSON."""
    match wire_type:
        case EnumT() | RefT():
            return json_string
        case SetT(item):
            encode_item = json_encoder(item)
            return lambda values: f"[{','.join([encode_item(value) for value in values])}]"
        case MapT(_, value):
            encode_map_value = json_encoder(value)
            return lambda values: (
                "{"
                + ",".join(
                    [f"{json_string(str(key))}:{encode_map_value(value)}" for key, value in values.items()]
                )
                + "}"
            )
        case OptionT(item):
            encode = json_encoder(item)
            return lambda value: "null" if value is None else encode(value)
        case RecordT(name):
            return _json_record(CLASSES[name])
        case _:
            return _JSON_PLAIN[wire_type]


def _json_record(decl: ClassDecl) -> TextEncoder:
    heads = tuple(f"{json_string(field.name)}:" for field in decl.fields)
    encoders = tuple(json_encoder(field.wire_type) for field in decl.fields)
    names = tuple(field.name for field in decl.fields)
    attributes = _attributes(decl)

    def encode_record(record: Row | Mapping[str, Value]) -> str:
        if isinstance(record, Row):
            values = attributes(record)
            members = [
                f"{head}{encode(value)}" for head, encode, value in zip(heads, encoders, values, strict=True)
            ]
        else:
            members = [
                f"{head}{encode(record[name])}"
                for head, encode, name in zip(heads, encoders, names, strict=True)
                if name in record
            ]
        return f"{{{','.join(members)}}}"

    return encode_record
