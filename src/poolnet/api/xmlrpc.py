"""How is the XenAPI's dialect of XML-RPC read, and how are its answers put together (spec §1.2, §1.3)? `http` asks.

Values are encoded by `fragments`; here are the call's parser and the two envelopes. The parser is expat underneath: it
refuses every DOCTYPE before any entity could be declared, and holds no recursion.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NoReturn
from xml.parsers import expat

from poolnet.api.fragments import xml_string
from poolnet.api.limits import METHOD_NAME_CHARS_MAX, WIRE_DEPTH_MAX, WIRE_VALUES_MAX
from poolnet.api.wire import Malformed, Mark, Marked, Wire, WireCall

_PROLOG: Final = b'<?xml version="1.0"?><methodResponse><params><param>'
_EPILOG: Final = b"</param></params></methodResponse>"
_SUCCESS_HEAD: Final = (
    _PROLOG + b"<value><struct><member><name>Status</name><value>Success</value></member>"
    b"<member><name>Value</name>"
)
_SUCCESS_TAIL: Final = b"</member></struct></value>" + _EPILOG
_FAILURE_HEAD: Final = (
    _PROLOG + b"<value><struct><member><name>Status</name><value>Failure</value></member>"
    b"<member><name>ErrorDescription</name><value><array><data>"
)
_FAILURE_TAIL: Final = b"</data></array></value></member></struct></value>" + _EPILOG

_SCALARS: Final = frozenset(("string", "int", "i4", "i8", "boolean", "double", "dateTime.iso8601", "nil"))
_CHILDREN: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset(("methodCall",)),
    "methodCall": frozenset(("methodName", "params")),
    "params": frozenset(("param",)),
    "param": frozenset(("value",)),
    "value": _SCALARS | {"struct", "array"},
    "struct": frozenset(("member",)),
    "member": frozenset(("name", "value")),
    "array": frozenset(("data",)),
    "data": frozenset(("value",)),
}
_NO_CHILDREN: Final[frozenset[str]] = frozenset()
_TEXTUAL: Final = _SCALARS - {"nil"} | {"methodName", "name", "value"}
_ELEMENT_DEPTH_MAX: Final = 3 * WIRE_DEPTH_MAX + 5  # one level of values takes three elements
_ELEMENTS_MAX: Final = 4 * WIRE_VALUES_MAX

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_DOUBLE: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_BOOLEANS: Final[Mapping[str, bool]] = {"0": False, "1": True}
_DECLARED: Final = re.compile(rb"""<\?xml\s[^>]{0,80}?\bencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")
_ENCODINGS: Final[Mapping[bytes, str]] = {b"iso-8859-1": "iso-8859-1", b"latin1": "iso-8859-1"}
_REPLACEMENT: Final = "\ufffd"


def decode_call(body: bytes) -> WireCall:
    """Reads a <methodCall> in UTF-8, or in ISO-8859-1 where it says so, as old clients do.

    Bytes that are no UTF-8 do not spoil the call: the texts that have them come out as `Marked`, so that the decoder
    can refuse the parameter by name (spec §1.3).

    Raises:
        Malformed: it is not well-formed, has a DOCTYPE, elements in the wrong place, a number that is none, or is
            nested too deeply.
    """
    declared = _DECLARED.match(body)
    encoding = _ENCODINGS.get(declared[1].lower(), "utf-8") if declared else "utf-8"
    try:
        text, suspicious = body.decode(encoding), False
    except UnicodeDecodeError:
        text, suspicious = body.decode(errors="replace"), True
    reader = _Reader(suspicious=suspicious)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    try:
        parser.Parse(text.encode() if suspicious or encoding != "utf-8" else body, True)
    except expat.ExpatError as error:
        raise Malformed(str(error)) from None
    finally:
        # The handlers are bound methods of the reader: without this, each call leaves a cycle to the collector.
        parser.StartElementHandler = parser.EndElementHandler = parser.CharacterDataHandler = None
    return reader.call()


def success_pieces(value: Iterable[bytes], *, bare: bool = False) -> list[bytes]:
    """Puts an encoded value in the envelope of a success; `bare` without Status and Value (system.listMethods)."""
    if bare:
        return [_PROLOG, *value, _EPILOG]
    return [_SUCCESS_HEAD, *value, _SUCCESS_TAIL]


def encode_failure(code: str, params: Sequence[str]) -> bytes:
    """Writes the envelope of a failure."""
    texts = "".join(xml_string(text) for text in (code, *params))
    return b"".join((_FAILURE_HEAD, texts.encode(errors="replace"), _FAILURE_TAIL))


def _refuse_doctype(*_declaration: object) -> NoReturn:
    raise Malformed("a document type is not allowed")


class _Element:
    """An open element: its tag, the characters in it, and what its children gave."""

    __slots__ = ("items", "members", "name", "tag", "text", "value", "valued")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.text = ""
        self.value: Wire = None
        self.valued = False  # a typed child or a <value> has arrived
        self.name: str | None = None
        self.items: list[Wire] = []
        self.members: dict[str, Wire] = {}


class _Reader:
    """Builds the wire tree from expat's events."""

    def __init__(self, *, suspicious: bool) -> None:
        self._suspicious = suspicious
        self._open = [_Element("")]
        self._elements = 0
        self._method: str | None = None
        self._params: list[Wire] = []
        self._params_seen = False

    def call(self) -> WireCall:
        """Gives the finished call."""
        if not self._method:
            raise Malformed("no method name")
        return WireCall(self._method, tuple(self._params))

    def start(self, tag: str, _attributes: object) -> None:
        parent = self._open[-1]
        if tag not in _CHILDREN.get(parent.tag, _NO_CHILDREN):
            raise Malformed(f"<{tag[:40]}> in <{parent.tag}>")
        self._elements += 1
        if len(self._open) > _ELEMENT_DEPTH_MAX or self._elements > _ELEMENTS_MAX:
            raise Malformed("nested too deeply, or too many values")
        self._open.append(_Element(tag))

    def characters(self, text: str) -> None:
        element = self._open[-1]
        if element.tag in _TEXTUAL:
            element.text += text
        elif text.strip(" \t\r\n"):
            raise Malformed(f"text in <{element.tag}>")

    def end(self, tag: str) -> None:
        element = self._open.pop()
        parent = self._open[-1]
        if tag == "value":
            self._end_value(element, parent)
        elif tag == "member":
            if element.name is None or not element.valued:
                raise Malformed("a member needs a name and a value")
            parent.members[element.name] = element.value
        elif tag == "name":
            parent.name = element.text
        elif tag == "data":
            if parent.valued:
                raise Malformed("data twice in an array")
            parent.items, parent.valued = element.items, True
        elif parent.tag == "value":
            self._end_typed(element, parent)
        else:
            self._end_outer(element)

    def _end_outer(self, element: _Element) -> None:
        """An element around the values has closed."""
        if element.tag == "param":
            if not element.valued:
                raise Malformed("a param without a value")
            self._params.append(element.value)
        elif element.tag == "methodName":
            self._end_method_name(element)
        elif element.tag == "params":
            if self._params_seen:
                raise Malformed("params twice")
            self._params_seen = True

    def _end_method_name(self, element: _Element) -> None:
        name = element.text.strip(" \t\r\n")
        if self._method is not None or not name or len(name) > METHOD_NAME_CHARS_MAX:
            raise Malformed("a method name is missing, repeated or too long")
        self._method = name

    def _end_typed(self, element: _Element, value: _Element) -> None:
        """An element inside <value> has closed."""
        if value.valued:
            raise Malformed("two types in one value")
        value.valued = True
        if element.tag == "struct":
            value.value = element.members
        elif element.tag == "array":
            value.value = element.items
        elif element.tag == "string":
            value.value = self._text(element.text)
        elif element.tag != "nil":
            value.value = _TYPED[element.tag](element.text.strip(" \t\r\n"))

    def _end_value(self, element: _Element, parent: _Element) -> None:
        """A <value> has closed: hand it to the array, member or param around it."""
        if not element.valued:
            element.value = self._text(element.text)
        elif element.text.strip(" \t\r\n"):
            raise Malformed("text beside a type in a value")
        if parent.tag == "data":
            parent.items.append(element.value)
            return
        if parent.valued:
            raise Malformed(f"two values in <{parent.tag}>")
        parent.value, parent.valued = element.value, True

    def _text(self, text: str) -> Wire:
        if self._suspicious and _REPLACEMENT in text:
            return Marked(Mark.NOT_UTF8, text)
        return text


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise Malformed("not an integer")
    number = int(text)
    if not -(2**63) <= number < 2**63:
        raise Malformed("an integer of more than 64 bits")
    return number


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise Malformed("not a boolean")
    return _BOOLEANS[text]


def _double(text: str) -> float:
    if not _DOUBLE.fullmatch(text):
        raise Malformed("not a double")
    number = float(text)
    if not math.isfinite(number):
        raise Malformed("a double too large")
    return number


_TYPED: Final[Mapping[str, Callable[[str], Wire]]] = {
    "int": _integer,
    "i4": _integer,
    "i8": _integer,
    "boolean": _boolean,
    "double": _double,
    "dateTime.iso8601": lambda text: Marked(Mark.DATE_TIME, text),
}
