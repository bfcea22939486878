"""Runs a coroutine in a network namespace of its own, so that tests beside each other never see each other's links."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Awaitable, Callable

_CLONE_NEWNET = 0x40000000


def run_in_own_network(body: Callable[[], Awaitable[None]]) -> None:
    """Run the body in a thread that has entered a new namespace; the namespace goes with the thread."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _leave_network()
            asyncio.run(_awaited(body))
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _leave_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


async def _awaited(body: Callable[[], Awaitable[None]]) -> None:
    await body()
