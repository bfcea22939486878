"""How does a host connect to storage? NFS exports and directories of its own, mounted below /run/sr-mount.

Independent of rollouts: nothing here changes the network, and a server that is silent must not hold up anybody else.
So every step has a time limit, programs that touch a mounted directory are killed when they are late, and only one action
on the same SR runs at a time. What is mounted is what the kernel says; nothing is remembered.

The daemon may run in a mount namespace of its own (systemd's protections make one): what it mounts must be seen by the
whole host, so it is done in the namespace of process 1.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from poolnet.hostd.run import CommandFailed, run
from poolnet.hostnet.protocol import StorageSpace
from poolnet.hostnet.storage import (
    AttachStorage,
    CreateStorage,
    DeleteStorage,
    DetachStorage,
    LocalDirectory,
    MeasureStorage,
    NfsExport,
    StorageAction,
    StorageFault,
)

LOG = structlog.stdlib.get_logger("poolnet.hostd.storage")
NFS_PORT: Final = 2049
ANSWER_WITHIN_S: Final = 10.0  # a name server, or the port of an NFS server
MOUNT_WITHIN_S: Final = 60.0  # the kernel may first have to give a connection up from an address that is gone
UNMOUNT_WITHIN_S: Final = 10.0
GONE_LOOK_S: Final = 0.02
LOOK_WITHIN_S: Final = 10.0  # at a directory that may be a server's
_SOFT: Final = (
    "soft",
    "timeo=100",
    "retrans=3",
)  # a server that is gone is an error after half a minute, not a wait
_NO_RETRY: Final = "retry=0"  # of mount.nfs: the pool tries again, if anybody does
_MOUNTS: Final = Path("/proc/self/mounts")
_OWN_NAMESPACE, _HOSTS_NAMESPACE = Path("/proc/self/ns/mnt"), Path("/proc/1/ns/mnt")
_MOUNT_POINT_MODE: Final = 0o755


class StorageFailed(Exception):
    """An action on storage failed, and is taken back as far as it came; `fault` says how."""

    def __init__(self, fault: StorageFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Storage:
    """Mounts and unmounts the storage of this host."""

    def __init__(self, mounts: Path, directories: Sequence[str]) -> None:
        """`mounts` is where SRs appear, by uuid; `directories` are those of the host that may be used, with all below."""
        self._mounts = mounts
        self._directories = [Path(directory) for directory in directories]
        self._turns: dict[str, asyncio.Lock] = {}
        self._unmounting: set[asyncio.Task[str]] = set()

    def attached(self) -> tuple[str, ...]:
        """The uuids of the SRs that are mounted."""
        below = f"{self._mounts}/"
        lines = (line.split(" ") for line in _MOUNTS.read_text().splitlines())
        points = {words[1] for words in lines if len(words) > 1}
        return tuple(sorted(point.removeprefix(below) for point in points if point.startswith(below)))

    async def carry_out(self, action: StorageAction) -> StorageSpace:
        """Does it, and measures what is mounted then. Raises StorageFailed."""
        turn = self._turns.setdefault(action.sr, asyncio.Lock())
        try:
            async with turn:
                changed = await self._change(action)
                return await self._measure(action.sr, changed)
        finally:
            if not turn.locked():
                self._turns.pop(action.sr, None)

    async def _change(self, action: StorageAction) -> bool:
        """Does it; whether there was anything to do."""
        match action:
            case AttachStorage(sr=sr, source=source):
                if sr in self.attached():
                    return False
                await self._attach(sr, source)
            case DetachStorage(sr=sr):
                if sr not in self.attached():
                    return False
                await self._detach(sr)
            case CreateStorage(sr=sr, source=source):
                await self._create(sr, source)
            case DeleteStorage(sr=sr, source=source):
                await self._delete(sr, source)
            case MeasureStorage(sr=sr):
                if sr not in self.attached():
                    raise StorageFailed(StorageFault.NOT_ATTACHED, "it is not mounted")
                return False
        return True

    async def _attach(self, sr: str, source: NfsExport | LocalDirectory) -> None:
        if isinstance(source, LocalDirectory):
            path = self._allowed(source.path)
            if not path.is_dir():
                raise StorageFailed(StorageFault.PATH, f"{path} is no directory of this host")
            await self._mount(sr, ("--bind", "--", str(path)))
        else:
            exported = source.path.rstrip("/")
            await self._mount_nfs(sr, source, f"{exported}/{sr}" if source.own_directory else exported or "/")

    async def _create(self, sr: str, source: NfsExport | LocalDirectory) -> None:
        if sr in self.attached():
            raise StorageFailed(StorageFault.EXISTS, "it is mounted already")
        if isinstance(source, LocalDirectory):
            await self._make_empty(self._allowed(source.path))
        elif source.own_directory:
            await self._mount_nfs(sr, source, source.path)
            try:
                await self._make_empty(self._mounts / sr / sr)
            finally:
                await self._detach(sr)

    async def _delete(self, sr: str, source: NfsExport | LocalDirectory) -> None:
        await self._detach(sr)
        if isinstance(source, LocalDirectory):
            await self._remove(self._allowed(source.path))
        elif source.own_directory:
            await self._mount_nfs(sr, source, source.path)
            try:
                await self._remove(self._mounts / sr / sr)
            finally:
                await self._detach(sr)

    async def _detach(self, sr: str) -> None:
        """Unmounts without waiting for the server: a mount is gone before the kernel has said good-bye to it."""
        point = self._mounts / sr
        if sr in self.attached():
            reason = await self._unmount(sr)
            if sr in self.attached() and reason:
                raise StorageFailed(StorageFault.UNMOUNT, reason)
            if sr in self.attached():
                LOG.warning("storage whose server is silent is unmounted without it", sr=sr)
                reason = await self._unmount(sr, "--force", "--lazy")
            if sr in self.attached():
                raise StorageFailed(StorageFault.UNMOUNT, reason or "the server does not answer")
        with suppress(OSError):
            point.rmdir()

    async def _unmount(self, sr: str, *how: str) -> str:
        """Runs umount until the mount is gone; what it complains of, "" if it is only late."""
        words = ("umount", "--internal-only", "--no-canonicalize", *how, "--", str(self._mounts / sr))
        running = asyncio.create_task(self._run(*words, within_s=MOUNT_WITHIN_S))
        self._unmounting.add(running)
        running.add_done_callback(self._unmounted)
        with suppress(TimeoutError):
            async with asyncio.timeout(UNMOUNT_WITHIN_S):
                while sr in self.attached() and not running.done():  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(GONE_LOOK_S)
        failed = running.exception() if running.done() else None
        return failed.reason if isinstance(failed, CommandFailed) else ""

    def _unmounted(self, ended: asyncio.Task[str]) -> None:
        self._unmounting.discard(ended)
        if not ended.cancelled() and (error := ended.exception()) is not None:
            LOG.info("umount ended otherwise than well", error=str(error))

    async def _mount_nfs(self, sr: str, source: NfsExport, path: str) -> None:
        await _require_service(source)
        options = [*_SOFT, *source.options, _NO_RETRY]
        if source.version:
            options.append(f"vers={source.version}")
        server = f"[{source.server}]" if ":" in source.server else source.server
        await self._mount(sr, ("--types", "nfs", "--options", ",".join(options), "--", f"{server}:{path}"))

    async def _mount(self, sr: str, words: Sequence[str]) -> None:
        point = self._mounts / sr
        point.mkdir(mode=_MOUNT_POINT_MODE, parents=True, exist_ok=True)
        try:
            await self._run("mount", *words, str(point), within_s=MOUNT_WITHIN_S)
        except CommandFailed as error:
            if sr in self.attached():  # it was late, and done all the same
                await self._unmount(sr, "--force", "--lazy")
            with suppress(OSError):
                point.rmdir()
            raise StorageFailed(StorageFault.MOUNT, error.reason) from error

    async def _make_empty(self, path: Path) -> None:
        try:
            await self._run("mkdir", "--parents", "--", str(path))
            found = await self._run("find", str(path), "-mindepth", "1", "-maxdepth", "1", "-print", "-quit")
        except CommandFailed as error:
            raise StorageFailed(StorageFault.CREATE, error.reason) from error
        if found:
            raise StorageFailed(StorageFault.EXISTS, f"{path} is not empty")

    async def _remove(self, path: Path) -> None:
        try:
            if await self._run("find", str(path), "-maxdepth", "0", expect=(0, 1)):
                await self._run("rmdir", "--", str(path))
        except CommandFailed as error:
            raise StorageFailed(StorageFault.DELETE, error.reason) from error

    async def _measure(self, sr: str, changed: bool) -> StorageSpace:
        if sr not in self.attached():
            return StorageSpace(changed=changed)
        try:
            words = ("stat", "--file-system", "--format=%S %b %f", "--", str(self._mounts / sr))
            block, blocks, free = (int(word) for word in (await self._run(*words)).split())
        except (CommandFailed, ValueError) as error:
            LOG.warning("storage cannot be measured", sr=sr, error=str(error))
            return StorageSpace(changed=changed)
        return StorageSpace(changed=changed, size_bytes=block * blocks, used_bytes=block * (blocks - free))

    def _allowed(self, text: str) -> Path:
        """The directory of this host that is meant, if it may be used. Raises StorageFailed."""
        path = Path(os.path.realpath(text))
        if ".." in Path(text).parts or not any(
            path.is_relative_to(directory) and path != directory for directory in self._directories
        ):
            allowed = ", ".join(map(str, self._directories)) or "none"
            raise StorageFailed(StorageFault.PATH, f"{text} is not below a directory for storage ({allowed})")
        return path

    async def _run(self, *words: str, within_s: float = LOOK_WITHIN_S, expect: tuple[int, ...] = (0,)) -> str:
        return (await run((*_entering(), *words), timeout_s=within_s, expect=expect)).stdout


def _entering() -> tuple[str, ...]:
    """The words before a command that is to be carried out in the whole host's mount namespace."""
    if _OWN_NAMESPACE.readlink() == _HOSTS_NAMESPACE.readlink():
        return ()
    return ("nsenter", "--target", "1", "--mount", "--")


async def _require_service(source: NfsExport) -> None:
    """Lets an NFS server be mounted that answers. Raises StorageFailed."""
    port = next((int(o.removeprefix("port=")) for o in source.options if o.startswith("port=")), NFS_PORT)
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            await asyncio.get_running_loop().getaddrinfo(source.server, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise StorageFailed(StorageFault.NO_SUCH_NAME, f"{source.server}: {error}") from error
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            _, writer = await asyncio.open_connection(source.server, port)
    except OSError as error:  # TimeoutError is one
        reason = error.strerror or "no answer"
        raise StorageFailed(StorageFault.NO_SERVICE, f"{source.server} port {port}: {reason}") from error
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
