"""What does a driver's file in /etc/modprobe.d say of virtual functions, and what becomes of it? Pure.

Drivers of earlier times take the number of functions as an option when their module is loaded. The administrator's file
has, in comments, which option that is and how many functions there may be:

    # VFs-param: max_vfs
    # VFs-maxvfs-by-default: 7
    # VFs-maxvfs-by-user: 4
    options igb max_vfs=0

A comment begins with `#`, or `##` as the manual prints it, and a blank; the first of each key counts. Only the value of
that one option is ever written; everything else, down to the blanks, stays as it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

PARAM, BY_DEFAULT, BY_USER = "VFs-param", "VFs-maxvfs-by-default", "VFs-maxvfs-by-user"
_COMMENT = re.compile(r"#{1,2}[ \t]+(.*)")
_PARAM_NAME = re.compile(r"[A-Za-z0-9_-]+")
_COUNT_MAX = 65535  # PCI Express: a 16 bit register


class Damaged(Exception):
    """The file names an option, but what it says besides cannot be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOption:
    """The option of a driver that decides how many virtual functions each of its NICs has, and the most there may be."""

    param: str
    count_max: int


def option_in(text: str) -> ModuleOption | None:
    """What the comments of a driver's file say; None for a file that is about something else.

    The most is the default's, or the user's where that is less. A user's value that is no number counts as none.

    Raises:
        Damaged: The name of the option is none, or no default can be read.
    """
    comments = dict(_comments(text))
    param = comments.get(PARAM)
    if param is None:
        return None
    if not _PARAM_NAME.fullmatch(param):
        raise Damaged(f"{PARAM} is {param!r}, which is no option")
    default = _number(comments.get(BY_DEFAULT, ""))
    if default is None:
        raise Damaged(f"{BY_DEFAULT} is missing or no number")
    user = _number(comments.get(BY_USER, ""))
    return ModuleOption(param=param, count_max=default if user is None else min(default, user))


def value_of(text: str, driver: str, param: str) -> str:
    """The value that a driver's option has in the file; "" without one. Of several the last counts, as for modprobe."""
    value = ""
    for line in text.splitlines():
        options = _options(line, driver)
        if options is not None:
            for found in _assignment(param).finditer(options[1]):
                value = found[2]
    return value


def with_value(text: str, driver: str, param: str, value: str) -> str:
    """The file with that value for the option, in the lines that have it, else in one of the driver's, else in a new one."""
    if value_of(text, driver, param) == value:
        return text
    lines = text.splitlines(keepends=True)
    assigned = [i for i, line in enumerate(lines) if _assigns(line, driver, param)]
    about = [i for i, line in enumerate(lines) if _options(line, driver) is not None]
    if assigned:
        for i in assigned:
            lines[i] = _with_assignment(lines[i], driver, param, value)
    elif about:
        line = lines[about[-1]]
        body = line.rstrip()
        lines[about[-1]] = f"{body} {param}={value}{line[len(body) :]}"
    else:
        end = "" if not text or text.endswith("\n") else "\n"
        lines.append(f"{end}options {driver} {param}={value}\n")
    return "".join(lines)


def _comments(text: str) -> Iterator[tuple[str, str]]:
    """Keys and values of the comments, last first, so that in a dict the first of each key wins."""
    for line in reversed(text.splitlines()):
        found = _COMMENT.fullmatch(line.strip())
        if found is None:
            continue
        key, colon, value = found[1].partition(":")
        if colon and key.strip() and value.strip():
            yield key.strip(), value.strip()


def _number(text: str) -> int | None:
    digits = text.isascii() and text.isdecimal() and len(text) <= 5
    return int(text) if digits and int(text) <= _COUNT_MAX else None


def _options(line: str, driver: str) -> tuple[str, str] | None:
    """A line about the driver's options: up to the driver's name, and from there on. None for other lines."""
    found = re.match(rf"(\s*options\s+{re.escape(driver)})(?=\s|$)", line)
    return (found[1], line[found.end() :]) if found is not None else None


def _assignment(param: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=\s)({re.escape(param)}=)(\S*)")


def _assigns(line: str, driver: str, param: str) -> bool:
    options = _options(line, driver)
    return options is not None and _assignment(param).search(options[1]) is not None


def _with_assignment(line: str, driver: str, param: str, value: str) -> str:
    options = _options(line, driver)
    if options is None:
        return line
    return options[0] + _assignment(param).sub(lambda found: f"{found[1]}{value}", options[1])
