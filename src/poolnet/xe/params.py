"""What do the words of a command mean? They become a name and an ordered list of key/value pairs (spec xe-cli §2.2).

`commands.run` parses; the commands read. Duplicates are kept; whoever wants one value gets the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from poolnet.xe.refusals import BadSyntax, MissingParameter, Refused

STANDARD: Final = frozenset(
    (
        "server",
        "password",
        "port",
        "username",
        "minimal",
        "force",
        "multiple",
        "all",
        "message-priority",
        "trace",
    )
)
"""Parameters that every command takes, and that never filter or set anything."""

_OPTIONS: Final = frozenset(("confirm-within",))  # of ours: they take `--NAME=VALUE` as well
_SWITCHES: Final = {"-u": "username", "-pw": "password", "-s": "server", "-h": "server", "-p": "port"}
_TRUE: Final = ("true", "t", "yes", "y", "1")
_FALSE: Final = ("false", "f", "no", "n", "0")
_UNITS: Final[Mapping[str, int]] = {
    unit: 1 << (10 * power)
    for power, units in enumerate(
        (("", "b"), ("k", "kb", "kib"), ("m", "mb", "mib"), ("g", "gb", "gib"), ("t", "tb", "tib"))
    )
    for unit in units
}


class Params:
    """The parameters of one command, in the order of the words."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self.pairs = tuple(pairs)

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def find(self, name: str) -> str | None:
        """Give the first value under this name, if there is one."""
        return next((value for key, value in self.pairs if key == name), None)

    def get(self, name: str, default: str = "") -> str:
        """Give the first value under this name, or the default."""
        value = self.find(name)
        return default if value is None else value

    def find_any_case(self, name: str) -> str | None:
        """Give the first value under this name in any spelling of upper and lower case."""
        return next((value for key, value in self.pairs if key.lower() == name.lower()), None)

    def required(self, name: str) -> str:
        """Give the first value under this name.

        Raises:
            MissingParameter: there is none.
        """
        value = self.find(name)
        if value is None:
            raise MissingParameter(name)
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Read a boolean in the loose spelling of commands.

        Raises:
            Refused: it is none.
        """
        value = self.find(name)
        return default if value is None else loose_boolean(name, value)

    def mapping(self, name: str) -> dict[str, str]:
        """Collect `NAME:KEY=VALUE`; any character does for the colon, and an empty key is ignored."""
        start = len(name) + 1
        return {key[start:]: value for key, value in self.pairs if key.startswith(name) and len(key) > start}

    def without(self, names: frozenset[str]) -> Params:
        """Leave out the parameters with these names."""
        return Params([(key, value) for key, value in self.pairs if key not in names])


def parse(words: Sequence[str]) -> tuple[str, Params]:
    """Turn the words into the command's name and its parameters.

    Raises:
        BadSyntax: no words, a first word with `=`, or a switch that does not exist or has no value.
    """
    if not words or "=" in words[0]:
        raise BadSyntax
    pairs: list[tuple[str, str]] = []
    left = iter(words[1:])
    for word in left:
        if word.startswith("--"):
            key, _, text = word[2:].partition("=")
            pairs.append((key, text) if key in _OPTIONS else (word[2:], "true"))
        elif word.startswith("-"):
            value = next(left, None)
            if word not in _SWITCHES or value is None:
                raise BadSyntax
            pairs.append((_SWITCHES[word], value))
        else:
            key, _, value = word.partition("=")
            pairs.append((key, value))
    return words[0], Params(pairs)


def loose_boolean(name: str, text: str) -> bool:
    """Read a boolean as commands do: true t yes y 1, false f no n 0, in any case.

    Raises:
        Refused: it is none of them.
    """
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    expected = ",".join(f"'{choice}'" for choice in (*_TRUE, *_FALSE))
    raise Refused(f"Failed to parse parameter '{name}': Expected {expected} got {word}")


def integer(name: str, text: str) -> int:
    """Read an integer of at most 64 bits.

    Raises:
        Refused: it is none.
    """
    value = whole_number(text)
    if value is None:
        raise Refused(f"Failed to parse parameter '{name}': expecting an integer")
    return value


def whole_number(text: str) -> int | None:
    """Read a decimal integer of at most 64 bits; None if it is none."""
    if re.fullmatch(r"[-+]?[0-9]{1,20}", text) is None:
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


def byte_size(name: str, text: str) -> int:
    """Read a number of bytes, possibly with a suffix such as KiB or g.

    Raises:
        Refused: it is none.
    """
    match = re.fullmatch(r"([0-9]+) *([A-Za-z]*)", text)
    if match is None or match[2].lower() not in _UNITS:
        raise Refused(
            f"Failed to parse field '{name}': expecting an integer (possibly with suffix KiB, MiB, GiB, TiB), got '{text}'"
        )
    return int(match[1]) * _UNITS[match[2].lower()]


def items(text: str) -> tuple[str, ...]:
    """Split a comma list; an empty text is an empty list."""
    return tuple(text.split(",")) if text else ()
