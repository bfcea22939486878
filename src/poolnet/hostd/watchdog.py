"""What ends a host whose kernel hangs, or whose guard is gone for good, before its VMs run elsewhere? A hardware watchdog.

A watchdog that is open and is not told anything in time resets the machine. The guard (`fence_guard`) of a host with a lease tells it
only as long as that lets it go off early enough, whatever becomes of the guard then; docs/decisions/0025 says when that is. The
standard library alone, as the guard.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

FIRES_S: Final = 1.5
"""How long after the end of a lease a watchdog goes off at the latest. The others wait half a second longer, for one that is late.

The guard has that long to end the guests, and to see that they are gone: then it tells the watchdog again.
"""

KEEPS: Final = 0.7
"""The part of a lease that a watchdog's timeout may be at most. Four fifths of a lease are left, at least, while it is renewed."""

_INT: Final = struct.Struct("i")
_SETOPTIONS, _SETTIMEOUT, _DISABLECARD = 0x80045704, 0xC0045706, 1  # <linux/watchdog.h>


def timeout_for(lease_s: float) -> int:
    """The timeout of a watchdog, in seconds: half a lease."""
    return max(1, int(lease_s / 2))


def may_be_told(now_ns: int, until_ns: int, timeout_s: int) -> bool:
    """Whether a watchdog that is told now, and never again, goes off early enough after a lease that ends then."""
    return now_ns + timeout_s * 10**9 <= until_ns + int(FIRES_S * 1e9)


class Watchdog:
    """The watchdog that the guard tells; opened when it is told first.

    Args:
        say: Says something in the log.
        clock: CLOCK_BOOTTIME, in nanoseconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], int]) -> None:
        self._say = say
        self._clock = clock
        self._descriptor = -1
        self._path = ""
        self._wanted_s = 0
        self._timeout_s = 0
        self._unfit = ("", 0.0)
        self._said = ""

    def tell(self, path: str, lease_s: float, until_ns: int | None) -> None:
        """Tells it that all is well, if it may be told: until when there is a lease, None for that nothing runs here.

        One that cannot be opened, or cannot go off in time, is told of in the log, and left alone.
        """
        if path != self._path:
            self.close()
            self._path = path
        if not path or (path, lease_s) == self._unfit:
            return
        wanted_s = timeout_for(lease_s)
        now = self._clock()
        if until_ns is not None and not may_be_told(now, until_ns, max(wanted_s, self._timeout_s)):
            return
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            if self._wanted_s != wanted_s:
                answer = fcntl.ioctl(self._descriptor, _SETTIMEOUT, _INT.pack(wanted_s))
                self._wanted_s, self._timeout_s = wanted_s, _INT.unpack(answer)[0]
                self._tell_once(f"the watchdog {path} goes off after {self._timeout_s} s")
            os.write(self._descriptor, b"\0")
        except OSError as error:
            self._tell_once(f"the watchdog {path}: {error.strerror}")
            return
        if self._timeout_s > KEEPS * lease_s:
            self._tell_once(f"the watchdog {path} cannot go off within {wanted_s} s, and is not used")
            self._unfit = (path, lease_s)
            self.close()
        elif until_ns is not None and not may_be_told(now, until_ns, self._timeout_s):
            self.close()  # just opened, and it takes longer than it was asked for

    def close(self) -> bool:
        """Stops it. False: it cannot be stopped (`nowayout`), and has to be told on, by `keep`."""
        if self._descriptor < 0:
            return True
        try:
            fcntl.ioctl(self._descriptor, _SETOPTIONS, _INT.pack(_DISABLECARD))
        except OSError as error:
            if error.errno == errno.EBUSY:
                self._tell_once(f"the watchdog {self._path} cannot be stopped: the guard stays")
                return False
        with suppress(OSError):
            os.write(self._descriptor, b"V")
        os.close(self._descriptor)
        self._descriptor, self._wanted_s, self._timeout_s = -1, 0, 0
        return True

    def keep(self) -> None:
        """Tells one that cannot be stopped, on a host that may run guests without a lease."""
        with suppress(OSError):
            os.write(self._descriptor, b"\0")

    def _tell_once(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
