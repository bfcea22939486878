"""From which host's console does a call come? Of a member's the coordinator's own server is told by the name of the socket.

Consoles of members come through the door between hosts and go on to the API server's socket in this very process. The
client's end gets an abstract name with the member's uuid; only this process can be believed, which the kernel tells.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import struct
from pathlib import Path
from typing import Final

_PREFIX: Final = b"\0poolnet-member/"
_PEER: Final = struct.Struct("3i")
_NUMBERS: Final = itertools.count()


async def connect(api_socket: Path, member: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to this process's own API server, in the name of a member. Raises OSError."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        one.setblocking(False)
        one.bind(_PREFIX + f"{member}/{os.getpid()}/{next(_NUMBERS)}".encode())
        await asyncio.get_running_loop().sock_connect(one, str(api_socket))
    except BaseException:
        one.close()
        raise
    return await asyncio.open_unix_connection(sock=one)  # which closes it, whatever becomes of it


def member_of(peer: socket.socket) -> str:
    """The uuid of the member whose console is at the other end of a Unix socket; "" for this host's own."""
    name = peer.getpeername()
    if not isinstance(name, bytes) or not name.startswith(_PREFIX):
        return ""
    pid, _, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return name[len(_PREFIX) :].split(b"/")[0].decode(errors="replace") if pid == os.getpid() else ""
