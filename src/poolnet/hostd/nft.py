"""How does the host daemon read and change nftables, and learn that somebody else did?

Whole transactions by the `nft` program, and the kernel's own announcements of changes; only tables named `poolnet` are
ever changed.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from poolnet.hostd.run import CommandFailed, run

NETLINK_NETFILTER: Final = 12
NFTABLES_GROUP: Final = 7  # linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES
_BUFFER_BYTES: Final = 1 << 16


async def transact(text: str) -> None:
    """Carries out one transaction, whole or not at all. Raises CommandFailed."""
    await run(("nft", "-f", "-"), stdin=text.encode())


async def table(family: str, name: str) -> Mapping[str, Any] | None:
    """A table with all that is in it, as `nft -j` lists it; None if there is none. Raises CommandFailed."""
    try:
        done = await run(("nft", "-j", "list", "table", family, name))
    except CommandFailed as error:
        if "No such file or directory" in error.reason and "list table" in error.reason:
            return None
        raise
    return _as_listing(done.stdout)


async def listing_of(text: str, family: str, name: str) -> Mapping[str, Any]:
    """A table as `nft -j` lists it once `text` is loaded where nothing else is: in a network namespace of its own.

    Raises CommandFailed.
    """
    script = f"nft -f - && nft -j list table {family} {name}"
    return _as_listing((await run(("unshare", "--net", "sh", "-c", script), stdin=text.encode())).stdout)


def _as_listing(text: str) -> Mapping[str, Any]:
    listing = json.loads(text)
    if not isinstance(listing, dict) or not isinstance(listing.get("nftables"), list):
        raise CommandFailed(("nft", "-j", "list", "table"), "it said something else than a list")
    return listing


class NftWatch:
    """Hears of every change of the kernel's nftables, ours too."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called in the event loop. Raises OSError."""
        self._changed = changed
        self._dirty = True
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        try:
            self._socket.bind((0, 1 << (NFTABLES_GROUP - 1)))
            asyncio.get_running_loop().add_reader(self._socket, self._on_readable)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Hears no more."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def take_changed(self) -> bool:
        """Whether anything changed since the last call, up to this very moment; True at first."""
        self._drain()
        dirty, self._dirty = self._dirty, False
        return dirty

    def _on_readable(self) -> None:
        self._drain()
        if self._dirty:
            self._changed()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while True:
                try:
                    self._socket.recv(_BUFFER_BYTES)
                except BlockingIOError:
                    raise
                except OSError:
                    pass  # the kernel had more to tell than there was room for
                self._dirty = True
