"""Which addresses does a guest's network namespace have, and when do they change? Asked by the namespace runtime.

Two netlink sockets are opened inside the guest's namespace and used from outside it: one hears of changes, the other
reads the whole. No process runs inside the guest for this.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import threading
from collections.abc import Iterator

# Numbers of linux/netlink.h, linux/rtnetlink.h, linux/if_addr.h and linux/if_link.h.
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_GROUPS_LINK_AND_ADDRESSES = 0x1 | 0x10 | 0x100
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_TENTATIVE, _IFA_F_DADFAILED = 0x40, 0x08
_IFLA_IFNAME = 3
_CLONE_NEWNET = 0x40000000

_HEADER = struct.Struct("=IHHII")
_IFADDR = struct.Struct("=BBBBI")
_IFINFO = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_REPLY_BYTES_MAX = 1 << 17


def enter_network(namespace: int) -> None:
    """Put the calling thread into the network namespace of that file descriptor. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _netlink_sockets(pid: int) -> tuple[socket.socket, socket.socket]:
    """A listening and an asking socket in that process's network namespace; a thread enters it and ends there."""
    made: list[socket.socket] = []
    failed: list[OSError] = []

    def make() -> None:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                enter_network(namespace)
            finally:
                os.close(namespace)
            for groups in (_GROUPS_LINK_AND_ADDRESSES, 0):
                one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
                made.append(one)
                one.bind((0, groups))
            made[0].setblocking(False)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=make, name="netns")
    thread.start()
    thread.join()
    if failed:
        for one in made:
            one.close()
        raise failed[0]
    return made[0], made[1]


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


class AddressWatch:
    """The addresses inside one network namespace. Close it, or the namespace cannot go away."""

    def __init__(self, pid: int) -> None:
        """Watch the namespace of this process. Raises OSError when it is gone."""
        self._news, self._asking = _netlink_sockets(pid)

    def fileno(self) -> int:
        """Readable when something changed: then call `drain` and `addresses`."""
        return self._news.fileno()

    def drain(self) -> None:
        """Forget the notifications that have come in."""
        try:
            while self._news.recv(_REPLY_BYTES_MAX):
                pass
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: the kernel had more to say than fits; the whole is read anyway
            return

    def addresses(self) -> tuple[tuple[int, str], ...]:
        """(number n of `eth<n>`, address) pairs in use, IPv4 before IPv6, in the kernel's order.

        An IPv6 address that is still being checked for duplicates, or failed the check, is not in use.
        """
        devices = dict(self._devices())
        found: list[tuple[int, str]] = []
        for body in self._dump(_RTM_GETADDR, _RTM_NEWADDR, _IFADDR.pack(0, 0, 0, 0, 0)):
            _family, _prefix, flags, _scope, index = _IFADDR.unpack_from(body)
            attributes = _attributes(body[_IFADDR.size :])
            raw = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
            if raw and index in devices and not flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
                found.append((devices[index], str(ipaddress.ip_address(raw))))
        return tuple(sorted(found, key=lambda pair: (pair[0], ":" in pair[1])))

    def close(self) -> None:
        """Let go of the namespace."""
        self._news.close()
        self._asking.close()

    def _devices(self) -> Iterator[tuple[int, int]]:
        for body in self._dump(_RTM_GETLINK, _RTM_NEWLINK, _IFINFO.pack(0, 0, 0, 0, 0)):
            _family, _kind, index, _flags, _change = _IFINFO.unpack_from(body)
            name = (
                _attributes(body[_IFINFO.size :])
                .get(_IFLA_IFNAME, b"")
                .rstrip(b"\0")
                .decode("ascii", "replace")
            )
            if name.startswith("eth") and name[3:].isdecimal():
                yield index, int(name[3:])

    def _dump(self, request: int, wanted: int, body: bytes) -> Iterator[bytes]:
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        self._asking.send(_HEADER.pack(_HEADER.size + len(body), request, flags, 1, 0) + body)
        while True:
            data = self._asking.recv(_REPLY_BYTES_MAX)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
                if kind in {_NLMSG_DONE, _NLMSG_ERROR} or length < _HEADER.size:
                    return
                if kind == wanted:
                    yield data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
