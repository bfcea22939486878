"""What storage does a host connect to, and how? The part of the frames between pool and host daemon that is about it.

The daemon carries these out as root, so the types say all that may be said: no field can become an option of another
program, a path outside the root's names, or a word of a shell.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

SR_PATTERN: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"
SERVER_PATTERN: Final = (
    r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?\Z"  # a name or an address, no brackets
)
PATH_PATTERN: Final = r"^/([^\x00-\x1f\x7f]*[^\x00-\x1f\x7f ])?\Z"
OPTION_PATTERN: Final = (
    r"^(ro|rw|soft|hard|noatime|nodiratime|nolock|noac|nosharecache|nconnect=[0-9]{1,2}|port=[0-9]{1,5}"
    r"|(timeo|retrans|rsize|wsize|actimeo|acregmin|acregmax|acdirmin|acdirmax)=[0-9]{1,7}|proto=(tcp|tcp6))\Z"
)

SrUuid: TypeAlias = Annotated[str, Meta(pattern=SR_PATTERN)]
Server: TypeAlias = Annotated[str, Meta(pattern=SERVER_PATTERN)]
StoragePath: TypeAlias = Annotated[str, Meta(pattern=PATH_PATTERN, max_length=1024)]
MountOption: TypeAlias = Annotated[str, Meta(pattern=OPTION_PATTERN)]
NfsVersion: TypeAlias = Literal["", "3", "4", "4.0", "4.1", "4.2"]


class NfsExport(Struct, frozen=True, kw_only=True, tag=True):
    """A directory that an NFS server exports. `version` "" lets client and server agree.

    With `own_directory` what is used is not the export itself but a directory in it with the SR's uuid as its name.
    """

    server: Server
    path: StoragePath
    version: NfsVersion = ""
    options: Annotated[tuple[MountOption, ...], Meta(max_length=32)] = ()
    own_directory: bool = False


class LocalDirectory(Struct, frozen=True, kw_only=True, tag=True):
    """A directory of the host, below one of those that its configuration allows."""

    path: StoragePath


Source: TypeAlias = NfsExport | LocalDirectory


class AttachStorage(Struct, frozen=True, kw_only=True, tag=True):
    """Mount the SR's storage. Nothing to do if it is mounted."""

    sr: SrUuid
    source: Source


class DetachStorage(Struct, frozen=True, kw_only=True, tag=True):
    """Unmount it. Nothing to do if it is not mounted."""

    sr: SrUuid


class CreateStorage(Struct, frozen=True, kw_only=True, tag=True):
    """Make the SR's own directory: it may be there already, if it is empty."""

    sr: SrUuid
    source: Source


class DeleteStorage(Struct, frozen=True, kw_only=True, tag=True):
    """Remove the SR's own directory, which must be empty. Nothing to do if it is gone."""

    sr: SrUuid
    source: Source


class MeasureStorage(Struct, frozen=True, kw_only=True, tag=True):
    """How large is the storage that is mounted, and how full?"""

    sr: SrUuid


StorageAction: TypeAlias = AttachStorage | DetachStorage | CreateStorage | DeleteStorage | MeasureStorage


class StorageFault(StrEnum):
    """Why the daemon could not do it."""

    PATH = "path"  # no directory of this host that may be used
    NO_SUCH_NAME = "no-such-name"  # the server's name leads to no address
    NO_SERVICE = "no-service"  # nothing answers at the server's NFS port
    MOUNT = "mount"
    UNMOUNT = "unmount"  # it is in use, most likely
    EXISTS = "exists"  # there is something already where a new SR should be
    CREATE = "create"
    DELETE = "delete"
    NOT_ATTACHED = "not-attached"


def undoing(action: StorageAction) -> StorageAction | None:
    """What takes an action back that was carried out; None where there is nothing to take back, or no way."""
    match action:
        case AttachStorage(sr=sr):
            return DetachStorage(sr=sr)
        case CreateStorage(sr=sr, source=source):
            return DeleteStorage(sr=sr, source=source)
        case _:
            return None
