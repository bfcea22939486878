"""Who is in the external directory? The users and groups that this system knows, through its name service switch.

Where `nsswitch.conf` names LDAP (sssd, nslcd, winbind), they come from there; poolnet speaks to no directory itself. A
user is `u` and the number, a group is `g` and the number, as in the reference's type of authentication PAM. Logins and the
messages of class auth ask.
"""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import structlog

log = structlog.get_logger("poolnet.api.directory")

T = TypeVar("T")

LOOKUP_S: Final = 15.0  # a directory that is silent for longer is gone
THREADS: Final = 4
NAME_CHARS_MAX: Final = 256


class DirectoryGone(Exception):
    """The directory does not answer."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A user or group: its identifier, and what the directory says of it, by the reference's keys."""

    identifier: str
    name: str
    facts: Mapping[str, str]


class Directory(Protocol):
    """A directory of users and groups. Every method raises DirectoryGone."""

    async def named(self, name: str) -> Entry | None:
        """The user of that name, or else the group."""

    async def identified(self, identifier: str) -> Entry | None:
        """The user or group with that identifier."""

    async def memberships(self, identifier: str) -> frozenset[str]:
        """The identifiers of the groups that a user is in; a group is in none."""


class SystemDirectory:
    """The directory of this system. Look-ups are made in threads, because a server elsewhere may be slow."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="directory")

    def close(self) -> None:
        """Asks nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def named(self, name: str) -> Entry | None:
        """See `Directory`."""
        return await self._ask(lambda: _named(name))

    async def identified(self, identifier: str) -> Entry | None:
        """See `Directory`."""
        return await self._ask(lambda: _identified(identifier))

    async def memberships(self, identifier: str) -> frozenset[str]:
        """See `Directory`."""
        return await self._ask(lambda: _memberships(identifier))

    async def _ask(self, look: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(LOOKUP_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, look)
        except (TimeoutError, OSError) as error:
            log.warning("directory-gone", reason=str(error) or "no answer")
            raise DirectoryGone("the directory does not answer") from error


def _named(name: str) -> Entry | None:
    if not _is_name(name):
        return None
    try:
        return _user(pwd.getpwnam(name))
    except KeyError:
        pass
    try:
        return _group(grp.getgrnam(name))
    except KeyError:
        return None


def _is_name(name: str) -> bool:
    """Whether it could be a name at all: the C library takes no NUL, and files have no newline or colon in names."""
    return 0 < len(name) <= NAME_CHARS_MAX and name.isprintable() and ":" not in name


def _identified(identifier: str) -> Entry | None:
    number = _number(identifier)
    if number is None:
        return None
    try:
        return _user(pwd.getpwuid(number)) if identifier.startswith("u") else _group(grp.getgrgid(number))
    except (KeyError, OverflowError):
        return None


def _number(identifier: str) -> int | None:
    kind, digits = identifier[:1], identifier[1:]
    if kind not in ("u", "g") or not digits.isascii() or not digits.isdecimal() or len(digits) > 10:
        return None
    return int(digits)


def _memberships(identifier: str) -> frozenset[str]:
    entry = _identified(identifier)
    if entry is None or not identifier.startswith("u"):
        return frozenset()
    group = int(entry.facts["subject-gid"])
    return frozenset(f"g{number}" for number in os.getgrouplist(entry.name, group))


def _user(row: pwd.struct_passwd) -> Entry:
    return Entry(
        f"u{row.pw_uid}",
        row.pw_name,
        {
            "subject-name": row.pw_name,
            "subject-displayname": row.pw_gecos.partition(",")[0] or row.pw_name,
            "subject-uid": str(row.pw_uid),
            "subject-gid": str(row.pw_gid),
            "subject-is-group": "false",
        },
    )


def _group(row: grp.struct_group) -> Entry:
    return Entry(
        f"g{row.gr_gid}",
        row.gr_name,
        {
            "subject-name": row.gr_name,
            "subject-displayname": row.gr_name,
            "subject-gid": str(row.gr_gid),
            "subject-is-group": "true",
        },
    )
