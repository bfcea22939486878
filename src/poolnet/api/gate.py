"""What do clients hear while the server starts? HOST_STILL_BOOTING, on every door, until the pool is open (spec §6.4).

The composition root puts it between the listeners and the dispatcher, so that the doors are there before the host
daemon is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from poolnet.api.answer import Answer, Dispatch, Download, DownloadRefused, Origin, Refusal
from poolnet.api.http import PassOn, RelayCli, RunCli
from poolnet.api.wire import Wire
from poolnet.model.errors import ERRORS
from poolnet.xe.client import Client

STILL_BOOTING = "HOST_STILL_BOOTING"


class Gate:
    """Answers until it is opened; then passes everything on."""

    def __init__(self) -> None:
        self._inside: tuple[Dispatch, RunCli] | None = None
        self._relay: RelayCli | None = None
        self._audit_log: Download | None = None

    def open(
        self,
        dispatch: Dispatch,
        run_cli: RunCli,
        relay: RelayCli | None = None,
        *,
        audit_log: Download | None = None,
    ) -> None:
        """Lets calls and command lines through to those who carry them out, or pass them on."""
        self._audit_log = audit_log
        self._inside = (dispatch, run_cli)
        self._relay = relay

    def relay_cli(self, words: Sequence[str], origin: Origin) -> PassOn | None:
        """Who carries out a command line on another host; None for nobody."""
        return self._relay(words, origin) if self._relay is not None else None

    async def audit_log(self, query: Mapping[str, str], origin: Origin) -> AsyncIterator[bytes]:
        """Gives the audit log. Raises DownloadRefused."""
        if self._audit_log is None:
            raise DownloadRefused(503, "Service Unavailable")
        return await self._audit_log(query, origin)

    async def dispatch(self, method: str, params: Sequence[Wire], origin: Origin) -> Answer:
        """Answers a call, or passes it on."""
        if self._inside is None:
            return Refusal(STILL_BOOTING, before_dispatch=True)
        return await self._inside[0].dispatch(method, params, origin)

    async def run_cli(self, words: Sequence[str], client: Client, origin: Origin) -> None:
        """Answers a command line, or passes it on."""
        if self._inside is not None:
            await self._inside[1](words, client, origin)
            return
        await client.print_error(f"{ERRORS[STILL_BOOTING].description}\n")
        await client.exit(1)
