"""On which addresses does the server listen? On all while the host has a management interface, else on its own only.

The composition root opens the doors at start and lets them follow the database (spec §18.3, §18.4). Local clients come
over the Unix socket and are never shut out.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from poolnet.api.config import ApiConfig
from poolnet.api.http import HttpServer
from poolnet.db.database import Database
from poolnet.db.feed import Published
from poolnet.db.txn import View
from poolnet.hostnet.derive_bridge import himn
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.types import Ref

log = structlog.get_logger("poolnet.api")

LOOPBACK: Final = ("127.0.0.1", "::1")
RETRY_S: Final = 1.0
HANG_UP_AFTER_S: Final = 2.0  # for whoever has closed the doors to hear that it is done


class Doors:
    """The TCP listeners of a server."""

    def __init__(self, server: HttpServer, config: ApiConfig, tls: ssl.SSLContext) -> None:
        self._server = server
        self._config = config
        self._tls = tls
        self._open: tuple[str, ...] = ()
        self._others: list[Callable[[bool], Awaitable[None]]] = []

    @property
    def remote(self) -> bool:
        """Whether machines elsewhere may come in."""
        return self._config.listen in self._open

    def add(self, allow: Callable[[bool], Awaitable[None]]) -> None:
        """Has another door follow: `allow` is told whether machines elsewhere may come in. It may raise OSError."""
        self._others.append(allow)

    def open(self, view: View) -> None:
        """Listens as the database says; an empty one is that of a host at its first start. Raises OSError."""
        self._listen(_addresses(view, next(iter(view.refs(Host)), None), self._config.listen))

    async def follow(self, database: Database, host: Ref[Host]) -> None:
        """Opens and closes doors as management is switched on and off, for ever."""
        changed = asyncio.Event()
        changed.set()

        def note(published: Published) -> None:
            rows = (*published.created, *published.modified, *published.deleted)
            if any(isinstance(row, PIF) for row in rows):
                changed.set()

        unsubscribe = database.feed.subscribe(note)
        try:
            while True:
                await changed.wait()
                changed.clear()
                wanted = _addresses(database.view, host, self._config.listen)
                if wanted == self._open:
                    continue
                await self._server.close_tcp()
                try:
                    self._listen(wanted)
                    for allow in self._others:
                        await allow(self.remote)
                except OSError as error:
                    log.warning("cannot-listen", addresses=wanted, reason=str(error))
                    self._open = ()
                    await asyncio.sleep(RETRY_S)
                    changed.set()
                    continue
                log.info("listening", addresses=wanted)
                self._server.hang_up(wanted, after_s=HANG_UP_AFTER_S)
        finally:
            unsubscribe()

    def _listen(self, addresses: Sequence[str]) -> None:
        """Raises OSError when none of an address's ports can be listened on."""
        for address in addresses:
            try:
                if self._config.http_port:
                    self._server.listen_tcp(address, self._config.http_port)
                self._server.listen_tcp(address, self._config.https_port, tls=self._tls)
            except OSError:
                if address != LOOPBACK[1]:  # the kernel may have no IPv6
                    raise
        self._open = tuple(addresses)


def _addresses(view: View, host: Ref[Host] | None, configured: str) -> tuple[str, ...]:
    """Where to listen; "" are all addresses of the host."""
    if host is None or any(pif.management for pif in view.where(PIF, host=host)):
        return (configured,)
    internal = (row.other_config.get("ip_begin", "") for row in view.all(Network) if himn(row))
    return (*LOOPBACK, *filter(None, internal))
