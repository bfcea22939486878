"""What can be asked of one interface without waiting for netlink? One request to the kernel each.

`netlink` asks, and the guard of a lease (`fence_guard`), which runs without libraries, and the init of a lab's machine.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import Final

_SIOCGIFFLAGS: Final = 0x8913  # <linux/sockios.h>
_SIOCSIFFLAGS: Final = 0x8914
_SIOCGIFHWADDR: Final = 0x8927
_IFF_UP: Final = 0x1  # <linux/if.h>
_IFF_PROMISC: Final = 0x100
_REQUEST: Final = struct.Struct("16sH22x")
_ADDRESS: Final = slice(18, 24)


def is_up(name: str) -> bool:
    """Whether an interface is set up. Raises OSError when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return bool(_flags(asked, name) & _IFF_UP)


def is_promiscuous(name: str) -> bool:
    """Whether a program reads all that an interface receives. Raises OSError when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        return bool(_flags(asked, name) & _IFF_PROMISC)


def mac(name: str) -> str:
    """The hardware address that an interface uses now. Raises OSError when there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        answer = fcntl.ioctl(asked, _SIOCGIFHWADDR, _REQUEST.pack(name.encode(), 0))
    return answer[_ADDRESS].hex(":")


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
