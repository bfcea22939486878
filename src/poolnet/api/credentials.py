"""Whose password is right? Local users with their own hashes first, then the system's accounts.

Local users stand in `users.toml`, readable by the server alone: `[users.NAME]` with `password_hash` (argon2id) and
`role`. A user without a role is a superuser. System accounts are asked through the host daemon, for only root may
ask PAM about other users. Sessions call it.
"""

from __future__ import annotations

import asyncio
import os
import threading
import tomllib
from base64 import b64encode
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec
import structlog
from argon2 import Parameters, PasswordHasher, extract_parameters, profiles
from argon2.exceptions import InvalidHashError

from poolnet.api import hashing
from poolnet.model import errors
from poolnet.model.classes.subject import Subject
from poolnet.model.roles import Role
from poolnet.model.types import NULL, Ref

log = structlog.get_logger("poolnet.api.credentials")

ROOT = "root"
COSTS: Final = profiles.RFC_9106_LOW_MEMORY  # of new hashes
PASSWORD_BYTES_MAX = 1024  # a longer one is no password but a way to keep the hash busy


class LocalUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of users.toml."""

    password_hash: str
    role: str = ""


class _UsersFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    users: dict[str, LocalUser] = {}


class UsersFileBroken(Exception):
    """The file of local users cannot be read; the text says why, and has nothing secret."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who logged in; `role` is None for a superuser.

    A user of the directory has its identifier in `sid`, itself and its groups in `groups`, and the subject that admits it.
    A local user with a role has its name for an identifier.
    """

    user: str
    role: Role | None
    sid: str = ""
    groups: frozenset[str] = frozenset()
    subject: Ref[Subject] = NULL

    @property
    def identifier(self) -> str:
        """The user's identifier; empty for superusers."""
        return "" if self.role is None else self.sid or self.user


class SystemAccounts(Protocol):
    """Asks the system about a user and a password."""

    async def accepts(self, user: str, password: str, *, directory: bool = False) -> bool:
        """Whether the system's own authentication accepts them: as administrators, or as users of the directory."""


class Credentials:
    """Checks user names and passwords.

    Args:
        users_file: Path of users.toml; need not exist.
        system: The system's accounts, or None to know local users alone.
    """

    def __init__(self, users_file: Path, system: SystemAccounts | None) -> None:
        self._users_file = users_file
        self._system = system
        self._hasher = PasswordHasher.from_parameters(COSTS)
        self._writing = threading.Lock()

    async def verify(self, user: str, password: str, *, only_root: bool = False) -> Identity | None:
        """The identity that user name and password give, or None.

        The system's accounts are superusers, if its administrators let them in; with `only_root` none but root is asked.

        Raises:
            INTERNAL_ERROR: No password can be compared now.
        """
        if len(password.encode()) > PASSWORD_BYTES_MAX:
            return None
        broken = False
        users: dict[str, LocalUser] = {}
        try:
            users = self._local_users()
        except UsersFileBroken as error:
            log.warning("users-file-broken", reason=str(error))
            broken = True  # the system's accounts are not asked: the file may give one of them a role
        local = users.get(user)
        stored = local.password_hash if local is not None else hash_of_nobody(_costs(users.values()))
        try:
            matches = await asyncio.wrap_future(hashing.matching(stored, password))
        except (hashing.HashingFailed, OSError) as error:
            raise errors.internal_error(f"passwords cannot be compared: {error}") from error
        if local is not None:
            return Identity(user, _role(local.role)) if matches else None
        if broken or self._system is None or (only_root and user != ROOT):
            return None
        return Identity(user, None) if await self._system.accepts(user, password) else None

    async def in_directory(self, user: str, password: str) -> bool:
        """Whether user name and password are those of a user of the directory."""
        if self._system is None or len(password.encode()) > PASSWORD_BYTES_MAX:
            return False
        return await self._system.accepts(user, password, directory=True)

    def set_password(self, user: str, password: str) -> None:
        """Writes a local user's new password hash; the file's other users stay as they are. Any thread may call it.

        Raises:
            UsersFileBroken: The file there cannot be read, so writing it would lose its users.
            OSError: It cannot be written.
        """
        stored = self._hasher.hash(password)
        with self._writing:
            users = dict(self._local_users())
            role = users[user].role if user in users else ""
            users[user] = LocalUser(password_hash=stored, role=role)
            self._write(msgspec.toml.encode(_UsersFile(users=users)))

    def is_local(self, user: str) -> bool:
        """Whether users.toml names this user.

        Raises:
            UsersFileBroken: It cannot be read.
        """
        return user in self._local_users()

    def _write(self, text: bytes) -> None:
        """Puts a new file in the old one's place: whole, durable, and at no moment readable by others."""
        temporary = self._users_file.with_suffix(".new")
        temporary.unlink(missing_ok=True)  # of a server that died here; its mode could be anything
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._users_file)

    def _local_users(self) -> dict[str, LocalUser]:
        try:
            text = self._users_file.read_text()
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise UsersFileBroken(f"{self._users_file}: {error}") from error
        try:
            users = msgspec.convert(tomllib.loads(text), _UsersFile).users
            for user in users.values():
                _role(user.role)
        except ValueError as error:
            raise UsersFileBroken(f"{self._users_file}: {error}") from error
        return users


def hash_of_nobody(costs: Parameters) -> str:
    """What is verified when the user is unknown, so that an answer takes as long as for a known one.

    It is made up, and no password has it: working one out would take a start or a login 64 MiB and a sixth of a second.
    """
    salt, digest = (
        b64encode(os.urandom(size)).rstrip(b"=").decode() for size in (costs.salt_len, costs.hash_len)
    )
    numbers = f"m={costs.memory_cost},t={costs.time_cost},p={costs.parallelism}"
    return f"$argon2{costs.type.name.lower()}$v={costs.version}${numbers}${salt}${digest}"


def _costs(users: Iterable[LocalUser]) -> Parameters:
    """The costs of the known users' hashes, of the first of them; those of a new hash when there is none."""
    for user in users:
        with suppress(InvalidHashError):
            return extract_parameters(user.password_hash)
    return COSTS


def _role(name: str) -> Role | None:
    return Role(name) if name else None
