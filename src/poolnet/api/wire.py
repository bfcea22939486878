"""What does a request look like once it is parsed, whichever codec it came in? The codecs make it, `decode` reads it.

A wire tree is made of plain Python values: str (untagged or tagged text), int, float (never NaN or infinite), bool,
None (`<nil/>`, null), list and dict. `Marked` stands for the two kinds of text that must not be taken for a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias


class Mark(Enum):
    """Why a text is not just a text."""

    DATE_TIME = auto()  # came in a <dateTime.iso8601>
    NOT_UTF8 = auto()  # had bytes that are no UTF-8; they are replaced by U+FFFD


@dataclass(frozen=True, slots=True)
class Marked:
    """A text with a mark."""

    mark: Mark
    text: str


Wire: TypeAlias = "str | int | float | bool | Marked | list[Wire] | dict[str, Wire] | None"


@dataclass(frozen=True, slots=True)
class WireCall:
    """One request: the method's name as sent, and its parameters, the session included."""

    method: str
    params: tuple[Wire, ...]


class Malformed(Exception):
    """The body is no request of its codec, or breaks a limit of `limits`: answered by HTTP 500 (spec §1.1)."""
