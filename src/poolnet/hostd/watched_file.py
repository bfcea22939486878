"""When does somebody write a file that is the daemon's own? The kernel tells (inotify).

Watched is its directory: whoever replaces a file leaves another one under the name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from inotify_simple import INotify, flags

_MASK: Final = flags.CLOSE_WRITE | flags.MOVED_TO | flags.MOVED_FROM | flags.DELETE | flags.CREATE


class FileWatch:
    """Calls `changed` when a file was written, replaced or removed."""

    def __init__(self, path: Path, changed: Callable[[], None]) -> None:
        """Must be made in a running event loop, which then calls `changed`. Raises OSError (no watches are left, say)."""
        self._name = path.name
        self._changed = changed
        path.parent.mkdir(parents=True, exist_ok=True)
        self._inotify = INotify(nonblocking=True)
        try:
            self._inotify.add_watch(path.parent, _MASK)
        except OSError:
            self._inotify.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._inotify.fileno(), self._drain)

    def close(self) -> None:
        """Stops watching."""
        self._loop.remove_reader(self._inotify.fileno())
        self._inotify.close()

    def _drain(self) -> None:
        events = self._inotify.read(timeout=0)
        if any(event.name == self._name or event.mask & flags.Q_OVERFLOW for event in events):
            self._changed()
