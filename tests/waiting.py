"""How does a test wait for what no event tells of? It asks again and again, and fails when it has waited far too long."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = float(os.environ.get("POOLNET_LAB_PATIENCE", "1"))
"""How many times slower than usual this machine may be."""

WITHIN_S = 60.0
_AGAIN_S = 0.02


def eventually(holds: Callable[[], object], what: str = "it never came", within_s: float = WITHIN_S) -> float:
    """Waits in this thread; how long it took, in seconds."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s * PATIENCE, f"not within {within_s:g} s: {what}"
        time.sleep(_AGAIN_S)
    return time.monotonic() - began


async def until(holds: Callable[[], object], what: str = "it never came") -> None:
    """Waits while the event loop goes on."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < WITHIN_S * PATIENCE, f"not within {WITHIN_S:g} s: {what}"
        await asyncio.sleep(_AGAIN_S)


def listens(path: Path) -> bool:
    """Does somebody take connections at a Unix socket? One is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(str(path)) == 0
