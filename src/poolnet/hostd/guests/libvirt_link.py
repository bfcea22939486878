"""How does the host daemon speak with libvirt? The only module that does; its library is loaded when it is needed.

libvirt's calls block, so each has a thread, which does not keep the process from ending: nobody knows when a libvirt that
hangs would let it go. Its events come in a thread of its own, and are told in the event loop. The connection is made anew
whenever it is lost: libvirt's daemon may be restarted while guests go on, and at boot it starts after ours.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast
from uuid import UUID

import structlog

from poolnet.hostd.guests.domain_xml import NAMESPACE, Mark, mark_of

LOG = structlog.stdlib.get_logger("poolnet.hostd.libvirt")
T = TypeVar("T")
ANSWERS_WITHIN_S: Final = 60.0
SAVES_WITHIN_S: Final = 270.0  # a guest's memory goes to the disk or comes from it; the pool waits for 300 s
_TRIES_AGAIN_AFTER_S: Final = 1.0
_CONNECTS_WITHIN_S: Final = 2.0
_ALIVE_EVERY_S, _ALIVE_MISSED_MAX = 5, 3
_DEBIAN = "/usr/lib/python3/dist-packages"
_PARTS: Final = ("libvirtmod", "libvirt")
_THREADS_MAX: Final = 8


class LibvirtError(Exception):
    """libvirt cannot be reached, or has refused. The text is libvirt's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A domain that libvirt knows."""

    uuid: str
    name: str
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has become of a domain, and whose guest it is as it runs now."""

    state: Literal["running", "paused", "stopped"]
    mark: Mark | None = None


def library() -> Any:
    """Libvirt's Python binding: one that is installed beside us, else Debian's package, which belongs to the same Python.

    Raises LibvirtError when there is none.
    """
    with suppress(ImportError):
        return importlib.import_module("libvirt")
    for name in _PARTS:  # by themselves: nothing else of the system's packages is to be found
        spec = PathFinder.find_spec(name, [_DEBIAN])
        if spec is None or spec.loader is None:
            raise LibvirtError("libvirt's Python binding is not installed: apt-get install python3-libvirt")
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except ImportError as error:
            for part in _PARTS:
                sys.modules.pop(part, None)
            raise LibvirtError(f"libvirt's Python binding cannot be loaded: {error}") from error
    return sys.modules["libvirt"]


def is_there(root: Path) -> bool:
    """Whether the machine below this directory has a libvirt that could run guests: its daemon has a socket there."""
    return any((root / "run/libvirt" / name).exists() for name in ("libvirt-sock", "virtqemud-sock"))


def has_library() -> bool:
    """Whether its Python binding is installed."""
    return PathFinder.find_spec("libvirt", [*sys.path, _DEBIAN]) is not None


class Link:
    """The connection to one libvirt. Use from one event loop; `open` it first."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._library: Any = None
        self._connection: Any = None
        self._why = "it has not answered yet"
        self._lost = asyncio.Event()
        self._heard: Callable[[str], None] = lambda _: None
        self._connected: Callable[[], None] = lambda: None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tried = asyncio.Event()
        self._threads = asyncio.Semaphore(_THREADS_MAX)
        self._task: asyncio.Task[None] | None = None

    async def open(self, heard: Callable[[str], None], connected: Callable[[], None]) -> None:
        """Connects, and connects again whenever that is needed; waits a moment for the first time.

        It may take long: at boot libvirt's socket is there before its daemon, which systemd starts when we are ready.

        `heard` is told the uuid of a domain whenever something has become of it; `connected` is called when a connection
        was made, before which much may have happened unheard. Raises LibvirtError when there is no library.
        """
        try:
            self._library = library()
        except LibvirtError as error:
            self._why = str(error)
            raise
        self._loop = asyncio.get_running_loop()
        self._heard, self._connected = heard, connected
        _run_events(self._library)
        self._task = asyncio.create_task(self._stay_connected(), name="libvirt")
        with suppress(TimeoutError):
            async with asyncio.timeout(_CONNECTS_WITHIN_S):
                await self._tried.wait()

    async def close(self) -> None:
        """Ends the connection. The guests go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CONNECTS_WITHIN_S):
                    await _in_thread(lambda: _close(connection, self._library))

    # --- what is asked of it -----------------------------------------------------------------------------------

    async def find(self, name: str) -> Found | None:
        """The domain of this name or uuid."""

        def work(connection: Any) -> Found | None:
            domain = self._lookup(connection, name)
            if domain is None:
                return None
            return Found(uuid=domain.UUIDString(), name=domain.name(), active=bool(domain.isActive()))

        return await self._do(work)

    async def seen(self, uuid: str) -> Seen:
        """What has become of a domain."""

        def work(connection: Any) -> Seen:
            domain = self._lookup(connection, uuid)
            if domain is None:
                return Seen(state="stopped")
            try:
                return self._seen(domain)
            except self._library.libvirtError:
                if self._lookup(connection, uuid) is None or not domain.isActive():
                    return Seen(state="stopped")  # just now
                raise

        return await self._do(work)

    async def definition(self, uuid: str) -> str:
        """The XML with which a domain would start, with what is secret in it."""
        flags = self._library.VIR_DOMAIN_XML_INACTIVE | self._library.VIR_DOMAIN_XML_SECURE
        return await self._with(uuid, lambda domain: str(domain.XMLDesc(flags)))

    async def running(self, uuid: str) -> str:
        """The XML of a domain as it runs."""
        return await self._with(uuid, lambda domain: str(domain.XMLDesc()))

    async def create(self, xml: str) -> str:
        """Starts a domain, whose processors stand still; its uuid. A definition with that uuid stays what it is."""
        flags = self._library.VIR_DOMAIN_START_PAUSED | self._library.VIR_DOMAIN_START_VALIDATE
        return await self._do(lambda connection: str(connection.createXML(xml, flags).UUIDString()))

    async def go_on(self, uuid: str) -> None:
        """Lets a domain's processors run."""
        await self._with(uuid, lambda domain: domain.resume())

    async def stand_still(self, uuid: str) -> None:
        """Stops a domain's processors."""
        await self._with(uuid, lambda domain: domain.suspend())

    async def ask_to_end(self, uuid: str) -> None:
        """Presses a domain's power button, or asks its agent."""
        await self._with(uuid, lambda domain: domain.shutdown())

    async def end(self, uuid: str) -> None:
        """Ends a domain at once, if it runs."""

        def work(connection: Any) -> None:
            domain = self._lookup(connection, uuid)
            try:
                if domain is not None and domain.isActive():
                    domain.destroy()
            except self._library.libvirtError:
                if self._lookup(connection, uuid) is not None and domain.isActive():
                    raise

        await self._do(work)

    async def save(self, uuid: str, path: Path) -> None:
        """Writes a domain's memory into a file; it ends."""
        await self._with(uuid, lambda domain: domain.save(str(path)), SAVES_WITHIN_S)

    async def saved(self, path: Path) -> str:
        """The XML of a domain whose memory is in a file."""
        flags = self._library.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE
        return await self._do(lambda connection: str(connection.saveImageGetXMLDesc(str(path), flags)))

    async def restore(self, path: Path, xml: str) -> None:
        """Brings a domain back from a file, as this XML says, its processors standing still."""
        flags = self._library.VIR_DOMAIN_SAVE_PAUSED
        await self._do(lambda connection: connection.restoreFlags(str(path), xml, flags), SAVES_WITHIN_S)

    async def attach(self, uuid: str, xml: str) -> None:
        """Gives a running domain a device."""
        flags = self._library.VIR_DOMAIN_AFFECT_LIVE
        await self._with(uuid, lambda domain: domain.attachDeviceFlags(xml, flags))

    async def detach(self, uuid: str, alias: str) -> None:
        """Asks a running domain's guest to let a device go; when it has, the device is gone from its XML."""
        flags = self._library.VIR_DOMAIN_AFFECT_LIVE
        await self._with(uuid, lambda domain: domain.detachDeviceAlias(alias, flags))

    async def _with(self, uuid: str, work: Callable[[Any], T], within_s: float = ANSWERS_WITHIN_S) -> T:
        return await self._do(lambda connection: work(connection.lookupByUUIDString(uuid)), within_s)

    async def _do(self, work: Callable[[Any], T], within_s: float = ANSWERS_WITHIN_S) -> T:
        connection = self._connection
        if connection is None:
            raise LibvirtError(f"libvirt ({self._uri}) cannot be reached: {self._why}")
        try:
            async with asyncio.timeout(within_s), self._threads:
                return await _in_thread(lambda: work(connection))
        except TimeoutError as error:
            raise LibvirtError(f"libvirt has not answered within {within_s:g} s") from error
        except self._library.libvirtError as error:
            raise LibvirtError(str(error)) from error

    def _lookup(self, connection: Any, name: str) -> Any:
        """The domain of this name or uuid; None if there is none."""
        try:
            return connection.lookupByUUIDString(name) if _is_uuid(name) else connection.lookupByName(name)
        except self._library.libvirtError as error:
            if error.get_error_code() == self._library.VIR_ERR_NO_DOMAIN:
                return None
            raise

    def _seen(self, domain: Any) -> Seen:
        number, _ = domain.state()
        if number in (self._library.VIR_DOMAIN_SHUTOFF, self._library.VIR_DOMAIN_NOSTATE):
            return Seen(state="stopped")
        stands = number in (self._library.VIR_DOMAIN_PAUSED, self._library.VIR_DOMAIN_CRASHED)
        kind, live = self._library.VIR_DOMAIN_METADATA_ELEMENT, self._library.VIR_DOMAIN_AFFECT_LIVE
        try:
            mark = mark_of(domain.metadata(kind, NAMESPACE, live))
        except self._library.libvirtError as error:
            if error.get_error_code() != self._library.VIR_ERR_NO_DOMAIN_METADATA:
                raise
            mark = None
        return Seen(state="paused" if stands else "running", mark=mark)

    # --- the connection ----------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while True:
            self._lost.clear()
            await self._connect()
            self._tried.set()
            if self._connection is not None:
                await self._lost.wait()
                LOG.warning("the connection to libvirt is lost", uri=self._uri)
                lost, self._connection, self._why = self._connection, None, "the connection was lost"
                await _in_thread(partial(_close, lost, self._library))
            await asyncio.sleep(_TRIES_AGAIN_AFTER_S)

    async def _connect(self) -> None:
        try:
            self._connection = await _in_thread(self._connection_made)
        except self._library.libvirtError as error:
            if self._why != str(error):
                LOG.warning("libvirt cannot be reached yet", uri=self._uri, error=str(error))
            self._why = str(error)
            return
        LOG.info("connected to libvirt", uri=self._uri)
        self._connected()

    def _connection_made(self) -> Any:
        connection = self._library.open(self._uri)
        try:
            connection.setKeepAlive(_ALIVE_EVERY_S, _ALIVE_MISSED_MAX)
            connection.registerCloseCallback(lambda *_: self._tell(self._lost.set), None)
            for event in (
                self._library.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                self._library.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            ):
                connection.domainEventRegisterAny(None, event, self._event, None)
        except self._library.libvirtError:
            _close(connection, self._library)
            raise
        return connection

    def _event(self, _: Any, domain: Any, *__: Any) -> None:
        uuid = domain.UUIDString()
        self._tell(lambda: self._heard(uuid))

    def _tell(self, what: Callable[[], None]) -> None:
        """Has something done in the event loop; called by libvirt's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(what)


async def _in_thread(work: Callable[[], T]) -> T:
    """What this gives, or raises, in a thread that may outlive the event loop."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return  # nobody waits any more
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("T", result))

    def run() -> None:
        try:
            done: tuple[T | None, BaseException | None] = (work(), None)
        except Exception as error:
            done = (None, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, *done)

    threading.Thread(target=run, name="libvirt", daemon=True).start()
    return await answer


def _close(connection: Any, library: Any) -> None:
    with suppress(library.libvirtError):
        connection.unregisterCloseCallback()
    with suppress(library.libvirtError):
        connection.close()


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


_EVENTS = threading.Lock()
_events_run = False


def _run_events(library: Any) -> None:
    """Has libvirt's own event loop run, in a thread that ends with the process."""
    global _events_run
    with _EVENTS:
        if _events_run:
            return
        library.registerErrorHandler(
            lambda *_: None, None
        )  # it would write to our log what is raised as well
        library.virEventRegisterDefaultImpl()
        _events_run = True

    def run() -> None:
        while True:
            try:
                library.virEventRunDefaultImpl()
            except library.libvirtError as error:
                LOG.warning("libvirt's events failed", error=str(error))

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()
