"""Ends of cables that a test holds: it sends whole frames there, and hears whole frames, with the tags that they had."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence

from tests.lab.own_network import inside_network_of
from tests.lab.scratch_switch import (
    PACKET_AUXDATA,
    PACKET_OUTGOING,
    SOL_PACKET,
    TP_STATUS_VLAN_TPID_VALID,
    TP_STATUS_VLAN_VALID,
    raw_socket,
)

_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER_BYTES = 64 << 20
_AUXDATA = struct.Struct("=IIIHHHH")
_TPID = 0x8100


class Wire:
    """An interface in somebody's network. Nothing that is sent there is heard there."""

    def __init__(self, entering: Sequence[str], interface: str) -> None:
        """`entering` are the words before a command that enter the network."""
        self._link = inside_network_of(entering, lambda: raw_socket(interface))
        self._link.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._link.setblocking(False)

    def send(self, frame: bytes) -> None:
        """Send a frame as it is."""
        self._link.send(frame)

    def heard(self) -> Iterator[bytes]:
        """The frames that have come since the last time.

        That the interface was down meanwhile, which the kernel says once, is nothing that was heard: Open vSwitch takes its own
        interfaces down for a moment to give them another MAC.
        """
        while True:
            try:
                data, ancillary, _, address = self._link.recvmsg(1 << 16, 256)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                continue
            if address[2] != PACKET_OUTGOING:
                yield data[:12] + _tag(ancillary) + data[12:]

    def close(self) -> None:
        """Let the cable go."""
        self._link.close()


def _tag(ancillary: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The tag that the kernel has taken out of a frame."""
    for level, kind, content in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, control, protocol = _AUXDATA.unpack_from(content)
            if status & TP_STATUS_VLAN_VALID:
                return struct.pack("!HH", protocol if status & TP_STATUS_VLAN_TPID_VALID else _TPID, control)
    return b""
