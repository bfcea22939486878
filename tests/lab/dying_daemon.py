"""poolnet-hostd, but for one of its effects on the outer world: there it dies, or that effect fails.

Effects are what another process, the kernel or the disk would see: files, netlink, transactions of the switch, programs.
A test says in a file (`POOLNET_EFFECTS`) at which one, counted from the beginning of which method of a rollout.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from poolnet.hostd import link_requests, main, netlink, netlink_links, rollout
from poolnet.hostd.openvswitch import session

METHODS = ("switch", "revert", "start")


class Accident(msgspec.Struct, frozen=True, kw_only=True):
    """What is to happen at the effect of that number, counted from 1 at the beginning of the method."""

    method: str
    number: int
    dies: bool


class Effects:
    """Counts effects, and is the accident."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._accident: Accident | None = None
        self._number = 0

    def begin(self, method: str) -> None:
        """That method begins: if it is to have an accident, effects are counted."""
        accident = msgspec.json.decode(self._path.read_bytes(), type=Accident)
        if accident.method == method:
            self._accident, self._number = accident, 0

    def end(self, method: str) -> None:
        """That method has ended: what comes now is no part of it."""
        if self._accident is not None and self._accident.method == method:
            self._accident = None

    def comes(self, error: Callable[[], Exception]) -> None:
        """One more is about to happen. Raises the error if it is to fail."""
        self._number += 1
        if self._accident is None or self._number != self._accident.number:
            return
        if self._accident.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        self._accident = None
        self._path.with_name("happened").touch()
        raise error()


def wrap(effects: Effects) -> None:
    """Puts accidents before everything that has an effect."""
    for method in METHODS:
        _on_call(effects, method)
    for name in ("open", "fsync", "replace", "unlink"):
        _before(effects, os, name, _io_error)
    _before(effects, link_requests, "set_up", _io_error)
    _before(effects, netlink.Netlink, "_ask", lambda: netlink.LinkError("it fails on purpose"))
    _before(effects, netlink_links.Links, "change", _io_error)
    _before(effects, session.Session, "transact", lambda: session.SwitchGone("it fails on purpose"))
    _before(effects, asyncio, "create_subprocess_exec", _io_error)


def _io_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def _before(effects: Effects, owner: Any, name: str, error: Callable[[], Exception]) -> None:
    real = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        effects.comes(error)
        return real(*args, **kwargs)

    setattr(owner, name, wrapped)


def _on_call(effects: Effects, method: str) -> None:
    real: Callable[..., Awaitable[object]] = getattr(rollout.Rollouts, method)

    async def wrapped(*args: Any, **kwargs: Any) -> object:
        effects.begin(method)
        try:
            return await real(*args, **kwargs)
        finally:
            effects.end(method)

    setattr(rollout.Rollouts, method, wrapped)


if __name__ == "__main__":
    wrap(Effects(Path(os.environ["POOLNET_EFFECTS"])))
    sys.exit(main.main())
