"""How is an interface set up or down without waiting for netlink? One request to the kernel; `netlink` alone asks."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

_SIOCGIFFLAGS: Final = 0x8913  # <linux/sockios.h>
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1  # <linux/if.h>
_IFF_PROMISC: Final = 0x100
_REQUEST: Final = struct.Struct("16sH22x")


def is_up(name: str) -> bool:
    """Whether an interface is set up. Raises OSError when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return bool(_flags(asked, name) & _IFF_UP)


def is_promiscuous(name: str) -> bool:
    """Whether a program reads all that an interface receives. Raises OSError when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return bool(_flags(asked, name) & _IFF_PROMISC)


def set_up(name: str, *, up: bool) -> None:
    """Sets an interface up or down; nothing to do if it is so already. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        flags = _flags(asked, name)
        wanted = flags | _IFF_UP if up else flags & ~_IFF_UP
        if wanted != flags:
            fcntl.ioctl(asked, _SIOCSIFFLAGS, _REQUEST.pack(name.encode(), wanted))


def _flags(asked: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(asked, _SIOCGIFFLAGS, _REQUEST.pack(name.encode(), 0))
    flags: int = _REQUEST.unpack(answer)[1]
    return flags
