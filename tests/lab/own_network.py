"""Runs a coroutine in namespaces of its own: tests beside each other never see each other's links and mounts.

And lets the test itself reach into the network of a guest or a host.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


def run_in_own_network(body: Callable[[], Awaitable[None]], *, mounts: bool = False) -> None:
    """Run the body in a thread that has entered a new network namespace, and with `mounts` a new mount namespace.

    They go with the thread.
    """
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _leave(_CLONE_NEWNET | (_CLONE_NEWNS if mounts else 0))
            asyncio.run(_awaited(body))
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def inside_network_of(entering: Sequence[str], body: Callable[[], T]) -> T:
    """What the body answers in the network namespace of a machine or guest; `entering` are the words that enter it."""
    words = (*entering, "readlink", "/proc/self/ns/net")
    wanted = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        with suppress(OSError):
            if str(path.readlink()) == wanted:
                network = os.open(path, os.O_RDONLY)
                break
    else:
        raise AssertionError(f"no process is in the network that {entering} enters")

    def enter_and_run() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return body()

    try:
        with ThreadPoolExecutor(1) as pool:  # the thread ends, and with it the stay
            return pool.submit(enter_and_run).result()
    finally:
        os.close(network)


def _leave(namespaces: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.unshare(namespaces) != 0
    if namespaces & _CLONE_NEWNS and not failed:  # what is mounted here is seen nowhere else
        failed = libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None) != 0
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


async def _awaited(body: Callable[[], Awaitable[None]]) -> None:
    await body()
