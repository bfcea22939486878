"""What is this host in its pool, and where is that written down? Read at start, changed when the role changes.

`role.json` says whether the host is the coordinator or a member, and of whom. `pool/` beside it has what the hosts of a
pool prove themselves with: the CA of the pool, this host's certificate, and the pool secret. Neither is there on a host
that has never been in a pool of several.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import msgspec

from poolnet.hostnet.protocol import Management
from poolnet.pool import database_server

ROLE_FILE = "role.json"
POOL_DIRECTORY: Final = database_server.POOL_DIRECTORY
DATABASE = "pool.db"
RAFT_PORT: Final = 9444


class Role(StrEnum):
    """The two kinds of host in a pool."""

    COORDINATOR = "coordinator"
    MEMBER = "member"


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is in its pool.

    Attributes:
        role: Coordinator or member.
        coordinator_uuid: The member's coordinator; "" accepts any host of the pool that answers at the address.
        coordinator_address: Where the member's coordinator is, an IP address.
        pool_uuid: The pool whose database a member has; another one on its disk is not this pool's.
        term: Counts the coordinators of the pool: the one that this host is, or follows. The higher one is right.
        epoch: Names the line of commits that a member's copy of the database follows; "" for none yet.
        fresh: Start as a new pool of this host alone: whatever is kept of the old one goes.
        management: The management interface of a fresh start, as it was in the pool that the host has left.
    """

    role: Role = Role.COORDINATOR
    coordinator_uuid: str = ""
    coordinator_address: str = ""
    pool_uuid: str = ""
    term: int = 0
    epoch: str = ""
    fresh: bool = False
    management: Management | None = None


def bracketed(address: str) -> str:
    """An address as it stands before a port."""
    return f"[{address}]" if ":" in address else address


class ClusterServer(msgspec.Struct, frozen=True, kw_only=True):
    """A host with a server: its uuid, and the address that its server has for good."""

    uuid: str
    address: str

    @property
    def raft(self) -> str:
        """Where the other servers find it."""
        return f"ssl:{bracketed(self.address)}:{RAFT_PORT}"


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster that has the pool's database.

    Attributes:
        line: Names its line of commits; another cluster has another one.
        servers: The hosts with a server.
        step: What this host has still to do when it starts: write its own database to the cluster, take it back from there,
            or go on without the cluster with what its own server has.
    """

    line: str
    servers: tuple[ClusterServer, ...]
    step: Literal["", "seed", "take back", "salvage"] = ""

    def server(self, uuid: str) -> ClusterServer | None:
        """That host's server."""
        return next((each for each in self.servers if each.uuid == uuid), None)


STANDALONE = Membership()

DESIGNATED_TERMS: Final = 1
EMERGENCY_TERMS: Final = 2
"""How many terms later a host is coordinator: handed the role, or taking it over without one.

More for the latter, so that it is later than a hand-over that it did not hear of, too.
"""


class MembershipBroken(Exception):
    """The file that says what this host is cannot be read; the text says why."""


def load(state_dir: Path) -> Membership:
    """What this host is; a host without the file decides for itself.

    Raises:
        MembershipBroken: The file is damaged: to guess would make two coordinators.
    """
    path = state_dir / ROLE_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Membership)
    except FileNotFoundError:
        return STANDALONE
    except (OSError, msgspec.MsgspecError) as error:
        raise MembershipBroken(f"{path}: {error}") from error


def save(state_dir: Path, membership: Membership) -> None:
    """Writes what this host is, durably. Raises OSError."""
    write_durably(state_dir / ROLE_FILE, msgspec.json.encode(membership))


def start_fresh(state_dir: Path) -> None:
    """Removes what is kept of a pool that this host has left. Raises OSError."""
    shutil.rmtree(state_dir / POOL_DIRECTORY, ignore_errors=True)
    shutil.rmtree(state_dir / database_server.DIRECTORY, ignore_errors=True)
    remove_database(state_dir)


def remove_database(state_dir: Path) -> None:
    """Removes the database's files; the one that is the database goes last. Raises OSError."""
    for suffix in ("-wal", "-shm", ""):
        with suppress(FileNotFoundError):
            (state_dir / f"{DATABASE}{suffix}").unlink()


def write_durably(path: Path, content: bytes) -> None:
    """Replaces a file whole, readable by its owner alone: after a crash it is the old or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
