"""What does a PBD's device_config say about where its storage is? As the reference's drivers of these types read it.

| type | keys |
|---|---|
| nfs | `server`, `serverpath`, `nfsversion`, `options`; in the SR's sm_config `nosubdir` |
| iso | `location` (`SERVER:PATH`), `type` (`nfs_iso`), `nfsversion`, `options`; with `legacy_mode` a directory of the host |
| file | `location`, a directory of the host |

What is wrong is refused with the numbers of those drivers, before a host is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast, get_args

from poolnet.hostnet.storage import (
    OPTION_PATTERN,
    PATH_PATTERN,
    SERVER_PATTERN,
    LocalDirectory,
    NfsExport,
    NfsVersion,
    Source,
    StorageFault,
)
from poolnet.model import errors

TYPES: Final = ("file", "iso", "nfs")
PATH_LENGTH_MAX: Final = 1024
OPTIONS_MAX: Final = 32
_DESCRIPTIONS: Final[Mapping[int, str]] = {
    1: "Invalid argument",
    42: "The SR already exists",
    47: "The SR is not available",
    61: "File SR creation error",
    62: "File SR failed to remove directory",
    72: "Required NFS server version unsupported",
    73: "NFS mount error",
    74: "NFS unmount error",
    76: "Failed to remove NFS mount point",
    88: "NFS SR creation error",
    94: "The request is missing the location parameter",
    101: "The request is missing the serverpath parameter",
    102: "The request is missing the server parameter",
    103: "The serverpath argument is not valid",
    108: "Unable to detect an NFS service on this target.",
    140: "Incorrect DNS name, unable to resolve.",
    200: "General IO error",
    222: "Could not mount the directory specified in Device Configuration",
    223: "Could not unmount the directory specified in Device Configuration",
    225: "Incorrect Location string format. String must be in the format SERVER:PATH for NFS targets",
    226: "Invalid local path",
}
_NUMBERS: Final[Mapping[StorageFault, Mapping[str, int]]] = {
    StorageFault.PATH: {"iso": 226, "file": 61},
    StorageFault.NO_SUCH_NAME: {"iso": 140, "nfs": 140},
    StorageFault.NO_SERVICE: {"iso": 108, "nfs": 108},
    StorageFault.MOUNT: {"iso": 222, "nfs": 73, "file": 200},
    StorageFault.UNMOUNT: {"iso": 223, "nfs": 74, "file": 200},
    StorageFault.EXISTS: {"nfs": 42, "file": 42},
    StorageFault.CREATE: {"nfs": 88, "file": 61},
    StorageFault.DELETE: {"nfs": 76, "file": 62},
    StorageFault.NOT_ATTACHED: {},
}


def backend_failure(kind: str, fault: str, detail: str) -> errors.Failure:
    """What a host's report that it could not do something with storage means to a client."""
    known = next((each for each in StorageFault if each == fault), None)
    number = _NUMBERS[known].get(kind, 47) if known is not None else 47
    return _failure(number, detail)


def source_of(kind: str, config: Mapping[str, str], sm_config: Mapping[str, str]) -> Source:
    """Where the storage is, of a type that there is.

    Raises:
        SR_UNKNOWN_DRIVER: There is no such type.
        SR_BACKEND_FAILURE_n: Something is missing in the configuration, or cannot be.
    """
    match kind:
        case "nfs":
            return _nfs(config, own_directory=sm_config.get("nosubdir") != "true")
        case "iso":
            return _iso(config)
        case "file":
            return LocalDirectory(path=_local(config.get("location", ""), 61))
        case _:
            raise errors.sr_unknown_driver(kind)


def _nfs(config: Mapping[str, str], *, own_directory: bool) -> NfsExport:
    if not config.get("server"):
        raise _failure(102)
    if not config.get("serverpath"):
        raise _failure(101)
    return _export(config["server"], config["serverpath"], config, own_directory=own_directory)


def _iso(config: Mapping[str, str]) -> Source:
    location = config.get("location", "")
    if not location:
        raise _failure(94)
    if "legacy_mode" in config:
        return LocalDirectory(path=_local(location, 226))
    kind = config.get("type", "nfs_iso" if ":/" in location else "cifs")
    if kind != "nfs_iso":
        raise _failure(222, f"the type {kind} is not supported")
    server, colon, path = location.rpartition(":/")
    if not colon:
        raise _failure(225)
    return _export(server, f"/{path}", config, own_directory=False)


def _export(server: str, path: str, config: Mapping[str, str], *, own_directory: bool) -> NfsExport:
    name = server.removeprefix("[").removesuffix("]")
    if not re.fullmatch(SERVER_PATTERN, name):
        raise _failure(140, server)
    if not _is_path(path):
        raise _failure(103, path)
    version = config.get("nfsversion", "")
    if version not in get_args(NfsVersion):
        raise _failure(72, version)
    return NfsExport(
        server=name,
        path=path,
        version=cast("NfsVersion", version),
        options=_options(config.get("options", "")),
        own_directory=own_directory,
    )


def _options(text: str) -> tuple[str, ...]:
    """The options of mount that a user may give, as `-o OPTION,OPTION` or without the -o."""
    words = [word for word in re.split(r"[\s,]+", text) if word and word != "-o"]
    wrong = next((word for word in words if not re.fullmatch(OPTION_PATTERN, word)), None)
    if wrong is not None or len(words) > OPTIONS_MAX:
        raise _failure(1, f"the mount option {wrong} is not allowed" if wrong else "too many mount options")
    return tuple(words)


def _local(location: str, number: int) -> str:
    if not location:
        raise _failure(94)
    if not _is_path(location):
        raise _failure(number, location)
    return location


def _is_path(path: str) -> bool:
    return (
        re.fullmatch(PATH_PATTERN, path) is not None
        and len(path) <= PATH_LENGTH_MAX
        and ".." not in path.split("/")
    )


def _failure(number: int, detail: str = "") -> errors.Failure:
    return errors.sr_backend_failure(number, _DESCRIPTIONS[number], detail)
