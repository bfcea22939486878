"""What could somebody send? Strategies for calls, command lines and frames: mostly right, and then spoilt.

Names in the place of values stand for what only the server knows: `@session` is a session of the superuser, `@read-only` one
of that role, `@PIF:3` the third PIF of the database (or nobody, if there are fewer); `world.resolve` puts them in.
"""

from __future__ import annotations

import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final, TypeAlias
from xml.sax.saxutils import escape

import msgspec
from hypothesis import strategies as st

from poolnet.api.thincli import HELLO
from poolnet.hostnet import protocol
from poolnet.model.declare import MessageDecl
from poolnet.model.enums import ENUMS
from poolnet.model.registry import CLASSES, MESSAGES
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
    WireType,
)
from poolnet.xe.commands.catalog import COMMANDS

Json: TypeAlias = Any

NASTY: Final = (
    "",
    "OpaqueRef:NULL",
    "*",
    "true",
    "-1",
    "0",
    "99999999999999999999999",
    "1e400",
    "nan",
    "\x00",
    "\ud800",
    "\ufffe",
    "<![CDATA[",
    "]]>",
    "&amp;&lt;&#0;",
    "a=b,c=d;e:f",
    "../../etc/passwd",
    "eth0",
    "eth1",
    "xenbr0",
    "xapi1",
    "192.0.2.1",
    "255.255.255.255/33",
    "fe80::1%eth0",
    "::ffff:192.0.2.1/129",
    "02:00:00:00:00:01",
    "ff:ff:ff:ff:ff:ff",
    "20240131T12:34:56Z",
    "99999999T99:99:99Z",
    'field "name__label" = "x" and (true)',
    "%s%n{0}$(id)`id`",
    "x" * 5000,
    "é" * 300,
)
SESSIONS: Final = ("@session",) * 12 + ("@read-only", "@vm-admin", "@pool-operator", "OpaqueRef:none", "")
NOT_CALLED: Final = frozenset(
    (
        "session.change_password",  # a hash of half a second each
        "session.login_with_password",
        "session.slave_local_login_with_password",
    )
)
CALLED: Final = tuple(sorted(set(MESSAGES) - NOT_CALLED))

texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=40))
rarely = st.integers(0, 1023).map(lambda n: n % 8 == 5)
"""True once in eight times; a plain integer would be 0 or the largest one much more often than others."""
small_integers = st.integers(-1, 70)
integers = st.one_of(
    *[small_integers] * 8, st.sampled_from((4094, 4095, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30))
)
floats = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.just(0.0))
anything = st.recursive(
    st.one_of(texts, integers, floats, st.booleans(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def references(cls: str) -> st.SearchStrategy[str]:
    """Objects of a class, of another one, and of none."""
    return st.one_of(
        st.integers(0, 3).map(lambda at: f"@{cls}:{at}"),
        st.integers(0, 3).map(lambda at: f"@{cls}:{at}"),
        st.sampled_from(("OpaqueRef:NULL", "@VM:0", "@network:1", "@host:0", "OpaqueRef:none")),
    )


@st.composite
def mostly(draw: st.DrawFn, proper: st.SearchStrategy[Json]) -> Json:
    """What is proper, and now and then anything."""
    return draw(anything if draw(rarely) and draw(rarely) else proper)


@cache
def values(wire_type: WireType) -> st.SearchStrategy[Json]:
    """Values of a type, as JSON has them; now and then something else."""
    return mostly(_proper(wire_type))


def _proper(wire_type: WireType) -> st.SearchStrategy[Json]:
    match wire_type:
        case IntT() | Int32T():
            return integers
        case FloatT():
            return st.one_of(floats, integers)
        case BoolT():
            return st.booleans()
        case DateTimeT():
            return st.sampled_from(("20240131T12:34:56Z", "19700101T00:00:00Z", "00010101T00:00:00Z", "x"))
        case EnumT(name):
            return st.one_of(st.sampled_from([member.value for member in ENUMS[name]]), texts)
        case RefT(cls):
            return references(cls)
        case SetT(item):
            return st.lists(values(item), max_size=3)
        case MapT(_, value):
            keys = st.one_of(
                texts, st.sampled_from(("ethtool-gso", "folder", "mtu", "vlan", "other", "lacp-time"))
            )
            return st.dictionaries(keys, values(value), max_size=3)
        case OptionT(item):
            return st.one_of(st.none(), values(item))
        case RecordT(cls) if cls in CLASSES:
            return _records(cls)
        case _:
            return texts


def _records(cls: str) -> st.SearchStrategy[Json]:
    fields = {field.name: values(field.wire_type) for field in CLASSES[cls].fields if field.in_constructor}
    required = {name: fields[name] for name in list(fields)[:6]}
    return st.fixed_dictionaries(required, optional={name: fields[name] for name in list(fields)[6:]})


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, list[Json]]:
    """A call: a method and parameters, mostly as declared."""
    message = MESSAGES[draw(st.sampled_from(CALLED))]
    params = [draw(values(param.wire_type)) for param in message.params]
    if message.full_name == "event.from":
        params[-1] = draw(st.sampled_from((0, 0.0, 0.01)))
    if message.session_arg:
        params.insert(0, draw(st.sampled_from(SESSIONS)))
    if draw(rarely) and draw(rarely):
        params = params[: draw(st.integers(0, len(params)))] + draw(st.lists(anything, max_size=2))
    return _called(draw, message), params


def _called(draw: st.DrawFn, message: MessageDecl) -> str:
    form = draw(st.integers(0, 1023)) % 25
    if form == 7:
        return message.full_name.replace(".", "_", 1)
    if form == 8:
        return f"Async.{message.full_name}"
    if form == 9:
        return draw(st.one_of(texts, st.just("system.listMethods"), st.just("system.isAlive:x")))
    return message.full_name


_NO_XML: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""No parser lets these through; `spoilt` puts in some that it must refuse."""


def xml_of(value: Json) -> str:
    """A value of XML-RPC."""
    match value:
        case bool():
            return f"<value><boolean>{int(value)}</boolean></value>"
        case int():
            return f"<value><int>{value}</int></value>"
        case float():
            return f"<value><double>{value}</double></value>"
        case None:
            return "<value><nil/></value>"
        case list():
            return f"<value><array><data>{''.join(map(xml_of, value))}</data></array></value>"
        case dict():
            members = (
                f"<member><name>{escape(_NO_XML.sub('', str(name)))}</name>{xml_of(each)}</member>"
                for name, each in value.items()
            )
            return f"<value><struct>{''.join(members)}</struct></value>"
        case _:
            return f"<value>{escape(_NO_XML.sub('', str(value)))}</value>"


def xml_body(method: str, params: Sequence[Json]) -> bytes:
    """The body of a call in XML-RPC."""
    inner = "".join(f"<param>{xml_of(param)}</param>" for param in params)
    text = f"<methodCall><methodName>{escape(_NO_XML.sub('', method))}</methodName><params>{inner}</params></methodCall>"
    return text.encode(errors="surrogatepass")


def json_body(method: str, params: Sequence[Json], version: str | None, request_id: Json) -> bytes:
    """The body of a call in JSON-RPC."""
    request: dict[str, Json] = {"method": method, "params": params, "id": request_id}
    if version is not None:
        request["jsonrpc"] = version
    return json.dumps(request).encode()


SPLICES: Final = (
    b"<",
    b">",
    b"</value>",
    b"<value>" * 80,
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"&b;",
    b"\x00",
    b"\xff\xfe",
    b"[" * 90,
    b"{" * 90,
    b'"',
    b"\\u0000",
    b"1e999",
    b"\r\n",
    b"\r\n\r\n",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff",
)


@st.composite
def spoilt(draw: st.DrawFn, good: st.SearchStrategy[bytes]) -> bytes:
    """Bytes of a strategy, as they mostly are, else cut, overwritten, doubled or spliced."""
    data = bytearray(draw(good))
    if not draw(rarely):
        return bytes(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(min(1, len(data)), len(data)))
        match draw(st.integers(0, 4)):
            case 0:
                del data[at:]
            case 1:
                data[at : at + 1] = bytes((draw(st.integers(0, 255)),))
            case 2:
                data[at:at] = draw(st.sampled_from(SPLICES))
            case 3:
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case _:
                del data[at : at + draw(st.integers(1, 20))]
    return bytes(data)


@st.composite
def command_lines(draw: st.DrawFn) -> bytes:
    """The body of a POST to /cli: a command of `xe`, with parameters of its own and of others."""
    command = COMMANDS[draw(st.sampled_from(sorted(COMMANDS)))]
    words = [draw(st.one_of(*[st.just(command.name)] * 15, texts))]
    given = [name for name in command.required if not draw(rarely)]
    given += [name for name in command.optional if draw(st.booleans())]
    words += [f"{name}={draw(cli_values(name))}" for name in given]
    words += draw(st.lists(st.one_of(texts, st.sampled_from(CLI_WORDS)), max_size=2))
    if not draw(rarely):
        words += ["username=root", "password="]
    return "\n".join(words).encode(errors="surrogatepass")


CLI_WORDS: Final = (
    "--minimal",
    "--multiple",
    "--all",
    "--dry-run",
    "--force",
    "params=all",
    "uuid=",
    "database:vdi=x",
    "other-config:a=b",
    "-",
    "=",
)


def cli_values(name: str) -> st.SearchStrategy[str]:
    """Values of one parameter of the command line."""
    cls = name.removesuffix("-uuid").removesuffix("-uuids")
    known = {
        "pif": "PIF",
        "vm": "VM",
        "host": "host",
        "network": "network",
        "vif": "VIF",
        "sr": "SR",
        "uuid": "PIF",
    }
    if cls in known:
        found = st.integers(0, 2).map(lambda at: f"@uuid:{known[cls]}:{at}")
        return st.one_of(found, found, texts)
    return st.one_of(texts, integers.map(str))


@st.composite
def cli_frames(draw: st.DrawFn) -> bytes:
    """What a thin client sends after its command line: the greeting, and answers to what it was asked."""
    number = st.one_of(
        st.sampled_from((0, 1, 2, 5, 6, 7, 8, 9, 10, 11, -1, 2**31 - 1, 64 * 1024 + 1)), st.integers(0, 40)
    )
    sent = bytearray(draw(st.binary(max_size=40)) if draw(rarely) and draw(rarely) else HELLO)
    for _ in range(draw(st.integers(0, 4))):
        payload = b"".join(
            draw(number).to_bytes(4, "little", signed=True) for _ in range(draw(st.integers(0, 3)))
        ) + draw(st.binary(max_size=20))
        size = draw(number) if draw(rarely) else len(payload)
        sent += size.to_bytes(4, "little", signed=True) + payload
    return bytes(sent)


@cache
def of_struct(annotation: Any) -> st.SearchStrategy[Json]:
    """Values of a type of the host daemon's protocol, as JSON has them; now and then of another one."""
    return mostly(_of_type(annotation))


def _later(annotation: Any) -> st.SearchStrategy[Json]:
    return st.deferred(lambda: of_struct(annotation))


def _of_type(annotation: Any) -> st.SearchStrategy[Json]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    plain: Mapping[Any, Callable[[], st.SearchStrategy[Json]]] = {
        bool: st.booleans,
        int: lambda: integers,
        float: lambda: st.one_of(floats, integers),
        str: lambda: texts,
        type(None): st.none,
    }
    if annotation in plain:
        return plain[annotation]()
    if origin in (typing.Union, types.UnionType):
        return st.one_of([_later(each) for each in arguments])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (tuple, list, frozenset, set) and arguments:
        return st.lists(_later(arguments[0]), max_size=3)
    if origin is not None and issubclass(origin, Mapping):
        return st.dictionaries(texts, _later(arguments[1]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _structs(annotation)
    if isinstance(annotation, type) and hasattr(annotation, "__members__"):
        return st.one_of(st.sampled_from([member.value for member in annotation]), texts)  # type: ignore[attr-defined]
    return anything


def _structs(cls: type[msgspec.Struct]) -> st.SearchStrategy[Json]:
    hints = typing.get_type_hints(cls)
    required: dict[str, st.SearchStrategy[Json]] = {}
    optional: dict[str, st.SearchStrategy[Json]] = {}
    if cls.__struct_config__.tag is not None:
        required["type"] = st.just(cls.__struct_config__.tag)
    for field in msgspec.structs.fields(cls):
        into = required if field.required else optional
        into[field.encode_name] = _later(hints[field.name])
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def daemon_frames(draw: st.DrawFn) -> bytes:
    """One frame for the host daemon: the length, and a request."""
    command = draw(st.sampled_from(typing.get_args(protocol.Command)))
    body = json.dumps({"id": draw(mostly(small_integers)), "command": draw(of_struct(command))}).encode()
    body = draw(spoilt(st.just(body)))
    length = len(body)
    if draw(rarely) and draw(rarely):
        length = draw(st.sampled_from((0, 1, 2**31, 2**32 - 1, len(body) + 9)))
    return length.to_bytes(4) + body
