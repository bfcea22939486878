"""How do the locks get into the kernel, and what brings them back when somebody takes them out?

One table of nftables has the locks of all guest ports, and drops what comes from or goes to one that has none. It is
replaced as a whole when the daemon starts, and when somebody else changed it (a firewall that flushes all tables, say);
otherwise each change is one transaction. Docs: dataplane.md §B10.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from poolnet.hostd import nft
from poolnet.hostd.netlink_codec import attributes_in, messages_in
from poolnet.hostd.run import CommandFailed
from poolnet.hostnet.state import PortLock
from poolnet.lock import nft_counters, nftables, nftmodel
from poolnet.lock.reasons import DropReason

LOG = structlog.stdlib.get_logger("poolnet.hostd.linuxbridge")
_SUBSYSTEM_NFTABLES = 10
_FAMILY_BRIDGE = 7  # NFPROTO_BRIDGE
_NEW_GENERATION_KIND = _SUBSYSTEM_NFTABLES << 8 | 15  # NFT_MSG_NEWGEN: a transaction has ended
_TABLE_NAME = 1  # NFTA_*_TABLE, NFTA_TABLE_NAME
_FAMILY = struct.Struct("=B")
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER_BYTES = 16 << 20  # a table of a thousand locks, replaced, is some thousand messages
_SHOWN_MAX = 500
_HEADER_BYTES = 4  # struct nfgenmsg


class FiltersFailed(Exception):
    """The kernel or `nft` refused the locks."""


class Filters:
    """The locks of this host's guest ports."""

    def __init__(self, changed: Callable[[], None], repaired: Callable[[str], None]) -> None:
        """`changed` is called when somebody else has changed the table, and `repaired` told so once it is as it was."""
        self._changed = changed
        self._repaired = repaired
        self._wanted: dict[str, PortLock] = {}
        self._are_loaded = False
        self._turn = asyncio.Lock()
        self._is_told = False  # a transaction about our table has begun to be told of
        self._watch: socket.socket | None = None
        self._repair: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> Mapping[str, PortLock]:
        """The locks that are in the kernel, by device."""
        return self._wanted if self._are_loaded else {}

    async def open(self, locks: Mapping[str, PortLock]) -> None:
        """Loads these locks and no others, and begins to watch. Raises FiltersFailed or OSError."""
        self._watch = _watching_socket()
        async with self._turn:
            self._wanted = dict(locks)
            await self._load_all()
        asyncio.get_running_loop().add_reader(self._watch, self._on_message)

    async def close(self) -> None:
        """Stops watching. The locks stay."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch)
            self._watch.close()
            self._watch = None
        if self._repair is not None:
            self._repair.cancel()
            await asyncio.gather(self._repair, return_exceptions=True)

    async def load(self, locks: Mapping[str, PortLock]) -> None:
        """Leaves exactly these locks. Raises FiltersFailed; then none counts as loaded.

        Raises ValueError for a lock that cannot be; then the old ones hold.
        """
        async with self._turn:
            whole = not self._are_loaded
            texts = (nftables.ruleset(locks),) if whole else nftables.change(self._wanted, locks)
            self._are_loaded = False
            self._wanted = dict(locks)
            await self._transact(texts)

    async def stopped(self, devices: Iterable[str]) -> dict[str, dict[DropReason, int]]:
        """The frames that the locks of these ports have dropped, by reason. Raises FiltersFailed."""
        listing = await self._listing()
        try:
            return nft_counters.stopped(listing, devices)
        except (ValueError, KeyError, TypeError) as error:
            raise FiltersFailed(f"nft's list of the locks cannot be read: {error}") from error

    async def model(self) -> nftmodel.BridgeModel:
        """The rules that are in the kernel, to be evaluated. Raises FiltersFailed."""
        listing = await self._listing()
        try:
            return nftmodel.BridgeModel(listing)
        except (ValueError, KeyError, TypeError) as error:
            raise FiltersFailed(f"nft's list of the locks cannot be read: {error}") from error

    async def as_they_should_be(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The table as `nft` lists it where nothing else is, and as it lists that of the kernel. Raises FiltersFailed."""
        async with self._turn:
            try:
                expected = await nft.listing_of(nftables.ruleset(self._wanted), *nftables.TABLE.split())
                found = await nft.table(*nftables.TABLE.split())
            except (CommandFailed, ValueError) as error:
                raise FiltersFailed(str(error)[:_SHOWN_MAX]) from error
        return expected, found or {"nftables": []}

    async def remove(self) -> None:
        """Takes the table away: nothing is locked, and nothing unknown is dropped any more. Raises FiltersFailed."""
        async with self._turn:
            self._wanted = {}
            self._are_loaded = False
            await transact(f"table {nftables.TABLE}\ndelete table {nftables.TABLE}\n")
            self._changes()

    async def _listing(self) -> Mapping[str, Any]:
        family, name = nftables.TABLE.split()
        async with self._turn:
            try:
                return await nft.table(family, name) or {"nftables": []}
            except (CommandFailed, ValueError) as error:
                raise FiltersFailed(str(error)[:_SHOWN_MAX]) from error

    async def _load_all(self) -> None:
        await self._transact((nftables.ruleset(self._wanted),))

    async def _transact(self, texts: Sequence[str]) -> None:
        """Loads, and notices if somebody else changed the table at the same time."""
        for text in texts:
            await transact(text)
        self._are_loaded = True
        if self._changes() > len(texts):
            self._note_foreign_change()

    def _on_message(self) -> None:
        if not self._turn.locked() and self._changes():
            self._note_foreign_change()

    def _note_foreign_change(self) -> None:
        LOG.warning("somebody else changed the table of the locks, and it is loaded anew")
        self._are_loaded = False
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._load_again(), name="filters")

    async def _load_again(self) -> None:
        async with self._turn:
            try:
                while not self._are_loaded:  # it may be changed once more meanwhile
                    await self._load_all()
                self._repaired(
                    "the table of the locks (nftables, bridge poolnet) was changed by somebody else and is put back"
                )
            except FiltersFailed as error:
                LOG.exception("the locks cannot be loaded", error=str(error))
        self._changed()

    def _changes(self) -> int:
        """How many transactions about our table the kernel has told of since the last time.

        It tells what a transaction has changed, and then its number.
        """
        count = 0
        while self._watch is not None:
            try:
                data = self._watch.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:  # some were lost: they may have been about it
                self._is_told = True
                continue
            for kind, _, _, body in messages_in(data):
                if kind == _NEW_GENERATION_KIND:
                    count, self._is_told = count + self._is_told, False
                elif not self._is_told:
                    self._is_told = _is_about_us(kind, body)
        return count


async def transact(text: str) -> None:
    """Carries out one transaction of nftables. Raises FiltersFailed."""
    try:
        await nft.transact(text)
    except CommandFailed as error:
        raise FiltersFailed(str(error)[:_SHOWN_MAX]) from error


def _is_about_us(kind: int, body: bytes) -> bool:
    if kind >> 8 != _SUBSYSTEM_NFTABLES or not body:
        return False
    if _FAMILY.unpack_from(body)[0] != _FAMILY_BRIDGE:
        return False
    name = nftables.TABLE.rpartition(" ")[2].encode()
    return any(
        attribute == _TABLE_NAME and content.rstrip(b"\0") == name
        for attribute, content in attributes_in(body, _HEADER_BYTES)
    )


def _watching_socket() -> socket.socket:
    watch = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, nft.NETLINK_NETFILTER)
    try:
        watch.setblocking(False)
        watch.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        watch.bind((0, 1 << (nft.NFTABLES_GROUP - 1)))
    except OSError:
        watch.close()
        raise
    return watch
