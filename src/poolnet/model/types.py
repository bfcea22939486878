"""Which types travel over the XenAPI, and which Python values stand for them? Whoever handles rows asks.

A wire type is written in the grammar
`string|bool|int|int32|float|datetime|enum:NAME|ref:CLASS|record:CLASS|set:T| map:K:V|option:T|void`
(`parse_wire_type`, `wire_type_text`). Their Python values are str, int, float, bool, aware UTC `datetime`,
members of the enum classes of `poolnet.model.enums`, tuples (sets), dicts that are never changed (maps and
records), and None (void, an absent option). References are plain strings at run time; `Ref[T]` lets the type
checker tell a PIF's from a network's.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from poolnet.model.enums import ENUMS

T = TypeVar("T")

if TYPE_CHECKING:

    class Ref(str, Generic[T]):
        """The opaque reference of an object of class T; a plain str at run time."""

        __slots__ = ()
else:

    class Ref:
        """The opaque reference of an object; calling it makes a plain str, so never test with isinstance."""

        def __new__(cls, text):
            """Gives the text itself."""
            return str(text)

        def __class_getitem__(cls, item):
            """Ref[PIF] is Ref: the class matters to the type checker only."""
            return cls


Value: TypeAlias = "str | int | float | bool | dt.datetime | tuple[Value, ...] | Mapping[Any, Value] | None"

NULL: Final[Ref[Any]] = Ref("OpaqueRef:NULL")
EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def is_null(ref: str) -> bool:
    """Says whether a reference points at nothing: the null one, or the empty text that is an old default."""
    return ref in ("", NULL)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False, repr=False)
class Row:
    """One object of a class, or a marker for a class that poolnet only refers to.

    Rows are values: two are equal when every field is, and they are changed with `dataclasses.replace`.
    """

    wire_name: ClassVar[str] = ""
    values_of: ClassVar[Callable[[Any], tuple[Value, ...]]]
    ref: Ref[Any]

    def __eq__(self, other: object) -> bool:
        """Compares all fields of two rows of one class."""
        if type(self) is not type(other):
            return NotImplemented
        return type(self).values_of(self) == type(self).values_of(other)

    def __hash__(self) -> int:
        """Hashes the reference alone, because maps inside a row cannot be hashed."""
        return hash(self.ref)

    def __repr__(self) -> str:
        """Shows the fields that are not as in a new object."""
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name == "ref" or getattr(self, field.name) not in (field.default, {})
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class StringT:
    """Any text, uuids included."""


@dataclass(frozen=True, slots=True)
class IntT:
    """A 64-bit integer, sent as untagged text in XML-RPC (spec §1.3)."""


@dataclass(frozen=True, slots=True)
class Int32T:
    """A 32-bit integer; only `valid_ref_counts` of event.from has it (spec §1.3)."""


@dataclass(frozen=True, slots=True)
class FloatT:
    """A double."""


@dataclass(frozen=True, slots=True)
class BoolT:
    """True or false."""


@dataclass(frozen=True, slots=True)
class DateTimeT:
    """A moment in UTC, to the second on the wire."""


@dataclass(frozen=True, slots=True)
class VoidT:
    """No value: the result of a message that answers nothing."""


@dataclass(frozen=True, slots=True)
class EnumT:
    """One of the texts of an enum; `name` is its wire name, such as bond_mode."""

    name: str


@dataclass(frozen=True, slots=True)
class RefT:
    """A reference to an object of the class with the wire name `cls`."""

    cls: str


@dataclass(frozen=True, slots=True)
class RecordT:
    """The public fields of an object of the class with the wire name `cls`."""

    cls: str


@dataclass(frozen=True, slots=True)
class SetT:
    """Several values of one type; the order means nothing."""

    item: WireType


@dataclass(frozen=True, slots=True)
class MapT:
    """Values under keys; keys are texts, references, enum members or integers."""

    key: WireType
    value: WireType


@dataclass(frozen=True, slots=True)
class OptionT:
    """A value that may be absent."""

    item: WireType


WireType: TypeAlias = (
    StringT
    | IntT
    | Int32T
    | FloatT
    | BoolT
    | DateTimeT
    | VoidT
    | EnumT
    | RefT
    | RecordT
    | SetT
    | MapT
    | OptionT
)

_PLAIN: Final[Mapping[str, WireType]] = {
    "string": StringT(),
    "int": IntT(),
    "int32": Int32T(),
    "float": FloatT(),
    "bool": BoolT(),
    "datetime": DateTimeT(),
    "void": VoidT(),
}
_PLAIN_TEXT: Final[Mapping[WireType, str]] = {wire_type: text for text, wire_type in _PLAIN.items()}
_ZEROS: Final[Mapping[WireType, Value]] = {
    StringT(): "",
    IntT(): 0,
    Int32T(): 0,
    FloatT(): 0.0,
    BoolT(): False,
    DateTimeT(): EPOCH,
    VoidT(): None,
}


@functools.cache
def parse_wire_type(text: str) -> WireType:
    """Reads a type in the grammar of this module.

    Raises:
        ValueError: the text is not a type, or names an unknown enum.
    """
    wire_type, rest = _parse(text)
    if rest:
        raise ValueError(f"text after the wire type in {text!r}")
    return wire_type


def _parse(text: str) -> tuple[WireType, str]:
    """Reads one type from the start of a text; gives it and what follows its colon."""
    word, _, rest = text.partition(":")
    if word in _PLAIN:
        return _PLAIN[word], rest
    if word == "map":
        key, rest = _parse(rest)
        value, rest = _parse(rest)
        return MapT(key, value), rest
    if word in ("set", "option"):
        item, rest = _parse(rest)
        return (SetT(item) if word == "set" else OptionT(item)), rest
    name, _, rest = rest.partition(":")
    if word == "enum" and name in ENUMS:
        return EnumT(name), rest
    if word == "ref" and name:
        return RefT(name), rest
    if word == "record" and name:
        return RecordT(name), rest
    raise ValueError(f"not a wire type: {text!r}")


def wire_type_text(wire_type: WireType) -> str:
    """Writes a type in the grammar that `parse_wire_type` reads."""
    match wire_type:
        case EnumT(name):
            return f"enum:{name}"
        case RefT(cls):
            return f"ref:{cls}"
        case RecordT(cls):
            return f"record:{cls}"
        case SetT(item):
            return f"set:{wire_type_text(item)}"
        case OptionT(item):
            return f"option:{wire_type_text(item)}"
        case MapT(key, value):
            return f"map:{wire_type_text(key)}:{wire_type_text(value)}"
        case _:
            return _PLAIN_TEXT[wire_type]


def zero(wire_type: WireType) -> Value:
    """Gives the value that a field of this type has when nobody has set it and no default is declared."""
    match wire_type:
        case EnumT(name):
            return next(iter(ENUMS[name]))
        case RefT():
            return NULL
        case SetT():
            return ()
        case MapT() | RecordT():
            return {}
        case OptionT():
            return None
        case _:
            return _ZEROS[wire_type]
