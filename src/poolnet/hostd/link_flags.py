"""How is an interface set up or down without waiting for netlink? One request to the kernel; `netlink` alone asks."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

_SIOCGIFFLAGS: Final = 0x8913  # <linux/sockios.h>
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1  # <linux/if.h>
_REQUEST: Final = struct.Struct("16sH22x")


def set_up(name: str, *, up: bool) -> None:
    """Sets an interface up or down; nothing to do if it is so already. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, _REQUEST.pack(name.encode(), 0))
        flags = _REQUEST.unpack(answer)[1]
        wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
        if wanted != flags:
            fcntl.ioctl(asked, _SIOCSIFFLAGS, _REQUEST.pack(name.encode(), wanted))
