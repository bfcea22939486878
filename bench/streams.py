"""One end of a stream that a rate limit is measured with: run as a program, in the network namespace of a guest.

    streams.py receive udp|tcp SECONDS      prints `ready`, then the bytes and the seconds of what has come
    streams.py send udp|tcp ADDRESS BYTES_PER_S     until it is ended; TCP sends as fast as it can

It imports only the standard library. What counts is when frames arrive: from the first to the last that came in time. Of a
datagram the kernel says when that was: a receiver that has to wait for the processor would find what came meanwhile all at once.
"""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PORT = 5001
DATAGRAM = 1472
UDP_FRAME, TCP_FRAME, TCP_SEGMENT = 1514, 1514, 1448  # Ethernet frames of an MTU of 1500; TCP has timestamps
_IDLE_S = 10.0
_RECEIVE_BUFFER = 8 << 20
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35  # asm-generic/socket.h
_TIMESPEC = struct.Struct("@qq")
_WARM_UP_S = 0.5  # TCP finds its rate, UDP fills the queue
_UDP_SEGMENT = 103  # linux/udp.h: the kernel cuts what is sent at once into datagrams
_AT_ONCE_MAX, _AT_ONCE_S = 40, 0.001


@dataclass(frozen=True, slots=True)
class Arrived:
    """What a receiver has counted."""

    protocol: str
    payload_bytes: int
    seconds: float

    @property
    def payload_per_s(self) -> float:
        """What the receiving program got."""
        return self.payload_bytes / self.seconds

    @property
    def frames_per_s(self) -> float:
        """The same in bytes of Ethernet frames, without preamble and checksum: what a limit counts."""
        frame, payload = (UDP_FRAME, DATAGRAM) if self.protocol == "udp" else (TCP_FRAME, TCP_SEGMENT)
        return self.payload_per_s * frame / payload


def measure(
    protocol: str, sender: Sequence[str], receiver: Sequence[str], address: str, offered: int, seconds: float
) -> Arrived:
    """What arrives of a stream of that many bytes per second.

    `sender` and `receiver` are the words before a command that is to run there, `address` is the receiver's.
    """
    program = (sys.executable, str(Path(__file__).resolve()))
    receive = (*receiver, *program, "receive", protocol, str(seconds))
    with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiving:  # noqa: S603 - no shell, and words of our own
        assert receiving.stdout is not None  # noqa: S101 - for the type checker; nothing from outside is asserted
        assert receiving.stdout.readline() == "ready\n", "the receiver did not start"  # noqa: S101 - for the type checker; nothing from outside is asserted
        sending = subprocess.Popen((*sender, *program, "send", protocol, address, str(offered)))  # noqa: S603 - no shell, and words of our own
        try:
            count, took = receiving.stdout.readline().split()
        finally:
            sending.kill()
            sending.wait()
    return Arrived(protocol, int(count), float(took))


def _receive_udp(seconds: float) -> tuple[int, float]:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    link.bind(("", PORT))
    link.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    link.settimeout(_IDLE_S)
    print("ready", flush=True)
    _, began = _datagram(link)
    warm = began + _WARM_UP_S
    while began < warm:
        _, began = _datagram(link)
    count, now = 0, began
    while now < began + seconds:
        size, now = _datagram(link)
        count += size
    return count, now - began


def _datagram(link: socket.socket) -> tuple[int, float]:
    """The size of the next one, and when it arrived."""
    data, [(_, _, stamp)], _, _ = link.recvmsg(DATAGRAM, socket.CMSG_SPACE(_TIMESPEC.size))
    seconds, nanoseconds = _TIMESPEC.unpack(stamp)
    return len(data), seconds + nanoseconds / 1e9


def _receive_tcp(seconds: float) -> tuple[int, float]:
    server = socket.create_server(("", PORT))
    server.settimeout(_IDLE_S)
    print("ready", flush=True)
    link, _ = server.accept()
    link.settimeout(_IDLE_S)
    link.recv(1)
    warm = time.monotonic() + _WARM_UP_S
    while (began := time.monotonic()) < warm:
        link.recv(1 << 18)
    count, now = 0, began
    while now < began + seconds:
        count += len(link.recv(1 << 18))
        now = time.monotonic()
    return count, now - began


def _send_udp(address: str, offered: int) -> None:
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.connect((address, PORT))
    at_once = min(_AT_ONCE_MAX, max(1, int(offered * _AT_ONCE_S) // UDP_FRAME))
    if at_once > 1:  # one by one, the sender needs more of the processor than the switch
        link.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, DATAGRAM)
    datagrams, began, sent = bytes(DATAGRAM * at_once), time.monotonic(), 0
    while True:
        ahead = sent / offered - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(min(ahead, 0.002))
            continue
        try:
            link.send(datagrams)
        except OSError as error:
            if at_once == 1 or error.errno == errno.ECONNREFUSED:  # the receiver has gone
                return
            link.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, 0)  # the kernel cannot, for this interface
            at_once, datagrams = 1, bytes(DATAGRAM)
            continue
        sent += UDP_FRAME * at_once


def _send_tcp(address: str) -> None:
    link = socket.create_connection((address, PORT), _IDLE_S)
    block = bytes(1 << 16)
    try:
        while True:
            link.sendall(block)
    except OSError:  # the receiver has gone
        return


def _main(direction: str, protocol: str, *rest: str) -> None:
    if direction == "receive":
        print(*(_receive_udp if protocol == "udp" else _receive_tcp)(float(rest[0])), flush=True)
    elif protocol == "udp":
        _send_udp(rest[0], int(rest[1]))
    else:
        _send_tcp(rest[0])


if __name__ == "__main__":
    _main(*sys.argv[1:])
