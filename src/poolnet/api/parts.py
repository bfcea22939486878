"""What do the parts of a running server share? Made by `main`, used by the two roles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from poolnet.api.auditing import Auditor
from poolnet.api.budgets import Budgets
from poolnet.api.config import ApiConfig
from poolnet.api.doors import Doors
from poolnet.api.gate import Gate
from poolnet.api.host_certificates import HostCertificates
from poolnet.api.http import HttpServer
from poolnet.api.office import Office
from poolnet.api.place import Place
from poolnet.db.database import Database
from poolnet.hostnet import protocol
from poolnet.pool.audit_log import AuditLog
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused

log = structlog.get_logger("poolnet.api")

PAM_TIMEOUT_S = 30.0


class PamThroughHostd:
    """The system's accounts, asked through the host daemon: only root may ask PAM about others."""

    def __init__(self, link: HostLink) -> None:
        self._link = link

    async def accepts(self, user: str, password: str, *, directory: bool = False) -> bool:
        """Whether PAM accepts the user; no daemon, no."""
        command = protocol.Authenticate(user=user, password=password, directory=directory)
        with suppress(HostGone, HostRefused):
            return (await self._link.request(command, protocol.Authenticated, PAM_TIMEOUT_S)).accepted
        return False


class Background:
    """What runs beside the calls, as long as the server does. If some of it fails the server ends: it is started anew."""

    def __init__(self, stopped: asyncio.Event) -> None:
        self._stopped = stopped
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begins some work."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            log.error("background-failed", work=task.get_name(), exc_info=self._failure)
            self._stopped.set()

    async def stop(self) -> None:
        """Ends all of it."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def require_sound(self) -> None:
        """Raises BackgroundFailed if some of it has failed."""
        if self._failure is not None:
            raise BackgroundFailed(f"{type(self._failure).__name__} in the background; see above")


class BackgroundFailed(Exception):
    """The server cannot go on; the log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What both roles are built from; what is made of it is ended by `stack`, in reverse."""

    config: ApiConfig
    stack: AsyncExitStack
    background: Background
    office: Office
    database: Database
    gate: Gate
    budgets: Budgets
    server: HttpServer
    doors: Doors
    clock: Callable[[], datetime]
    audit_log: AuditLog
    auditor: Auditor
    certificates: HostCertificates
    place: Place
