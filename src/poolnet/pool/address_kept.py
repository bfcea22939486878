"""Does this host still have the address that a connection was made from? Without it no answer can arrive any more.

A member has its connection to the coordinator ended as soon as that is so. Its address has changed then, and it need not
first be silent for as long as a host that has lost its power.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, Final

import structlog

log = structlog.get_logger("poolnet.pool.address_kept")

LOOK_S: Final = 0.5
GONE_LOOKS: Final = 2
"""An address that moves from one bridge to another is gone for a moment, and the connection survives that."""


async def abort_without_address(writer: asyncio.StreamWriter) -> None:
    """Waits until this host does not have the connection's own address any more, and ends the connection then."""
    own: tuple[Any, ...] = writer.get_extra_info("sockname")
    gone = 0
    while gone < GONE_LOOKS:
        await asyncio.sleep(LOOK_S)
        gone = 0 if has(own) else gone + 1
    log.info("own-address-gone", address=own[0])
    writer.transport.abort()


def has(sockname: tuple[Any, ...]) -> bool:
    """Whether the kernel lets a socket have this address, which is that of an interface. True if that cannot be found out."""
    family = socket.AF_INET6 if ":" in sockname[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((sockname[0], 0, *sockname[2:]))
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True
