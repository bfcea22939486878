"""What exactly did a guest send that its lock stops? A look at its port for some seconds, frame by frame.

The switch counts what it stops, and keeps no frame. When a counter has moved, the port is listened to until a frame shows
what the guest is doing, within bounds in time, frames and ports; a guest that has stopped by then is only counted.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Collection, Mapping
from typing import Final

import structlog

from poolnet.hostnet.state import PortLock
from poolnet.lock.craft import vlan_tag
from poolnet.lock.policy import allows
from poolnet.lock.reasons import DropReason
from poolnet.lock.words import is_ordinary

LOG = structlog.stdlib.get_logger("poolnet.hostd.taps")
TAPS_MAX: Final = 16
LISTEN_S: Final = 10.0
FRAMES_MAX: Final = 2000  # of one port
_AT_ONCE: Final = 32
# Also of a segment that is yet to be cut: what lacks its end reads as broken.
_FRAME_BYTES: Final = (1 << 16) + 64
_ETH_P_ALL: Final = 3
_SOL_PACKET, _PACKET_AUXDATA, _OUTGOING = 263, 8, 4
_AUXDATA: Final = struct.Struct("=I12xHH")
_TAG_VALID, _TPID_VALID = 1 << 4, 1 << 6


class Taps:
    """The ports that are listened to."""

    def __init__(self) -> None:
        self._open: dict[str, _Tap] = {}

    def listen(self, device: str, lock: PortLock, reasons: Collection[DropReason]) -> None:
        """Looks for frames from this port that the lock stops for these reasons, if there is room for one more."""
        tap = self._open.get(device)
        if tap is not None and tap.lock == lock:
            tap.reasons |= set(reasons)
            return
        if tap is not None:
            self.close(device)
        if len(self._open) < TAPS_MAX:
            try:
                self._open[device] = _Tap(device, lock, reasons, lambda: self.close(device))
            except OSError as error:
                LOG.info("a port cannot be listened to", device=device, error=str(error))

    def seen(self, device: str) -> Mapping[DropReason, bytes]:
        """The first frame of each reason that was seen from this port while it was listened to."""
        tap = self._open.get(device)
        return dict(tap.seen) if tap is not None else {}

    def close(self, device: str) -> None:
        """Listens to a port no more."""
        tap = self._open.pop(device, None)
        if tap is not None:
            tap.close()

    def close_all(self) -> None:
        """Listens to no port any more."""
        for device in tuple(self._open):
            self.close(device)


class _Tap:
    """One port."""

    def __init__(self, device: str, lock: PortLock, reasons: Collection[DropReason], over: object) -> None:
        self.lock = lock
        self.reasons = set(reasons)
        self.seen: dict[DropReason, bytes] = {}
        self._left = FRAMES_MAX
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.bind((device, _ETH_P_ALL))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket, self._read)
        self._timer = self._loop.call_later(LISTEN_S, over)  # type: ignore[arg-type]

    def close(self) -> None:
        """Stops listening; what was seen stays with whoever has asked."""
        self._timer.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _, address = self._socket.recvmsg(_FRAME_BYTES, 256)
            except OSError:
                return  # nothing more for now, or the port is gone: the timer ends it
            if address[2] == _OUTGOING:  # to the guest
                continue
            self._note(_with_tag(data, ancillary))
            self._left -= 1
            if self._left <= 0 or self.reasons <= self.seen.keys():
                self._loop.remove_reader(self._socket)
                return

    def _note(self, frame: bytes) -> None:
        reason = allows(self.lock, frame).reason
        if reason is not None and not is_ordinary(self.lock, frame, reason):
            self.seen.setdefault(reason, frame)


def _with_tag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """The frame with its VLAN tag, which the kernel has taken out of it."""
    for level, kind, content in ancillary:
        if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(content) >= _AUXDATA.size:
            status, tag, tpid = _AUXDATA.unpack_from(content)
            if status & _TAG_VALID:
                return vlan_tag(frame, tag, tpid if status & _TPID_VALID else 0x8100)
    return frame
