"""Does anybody answer on this interface? ARP for IPv4, neighbour discovery and echo for IPv6, in frames of our own.

`reach` asks, `announce` tells. The frames are written here and not left to the kernel, whose table of neighbours also
knows who answered a minute ago. What this host itself says never counts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any, Final, TypeVar

from poolnet.hostd.nics import mac_addresses

T = TypeVar("T")

_ARP: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_REQUEST: Final = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)  # of Ethernet for IPv4
_ETHERNET_BYTES: Final = 14
_ARP_BYTES: Final = 28
_ECHO, _ECHO_REPLY, _SOLICITATION, _ADVERTISEMENT = 128, 129, 135, 136  # ICMPv6 types: RFC 4443, 4861
_TARGET: Final = slice(8, 24)  # of a solicitation and of an advertisement
_OWN_LINK_LAYER: Final = b"\x01\x01"
_TARGET_LINK_LAYER: Final = b"\x02\x01"
_OVERRIDE: Final = 0x20000000  # RFC 4861 §4.4: in place of what was known
_SOLICITED: Final = IPv6Address("ff02::1:ff00:0").packed[:13]
ALL_NODES: Final = "ff02::1"
_HOPS: Final = 255  # neighbour discovery takes no other
_AT_ONCE: Final = 32
_BETWEEN_S: Final = 0.01  # a switch loses what comes in longer bursts
_IF_INET6: Final = Path("/proc/net/if_inet6")


async def who_has(
    device: str, sender: str, targets: Sequence[str], within_s: float, *, but: Collection[bytes] = ()
) -> str:
    """The first of these IPv4 addresses that somebody else answers ARP for; "" when nobody does in time.

    `sender` is an address that this host has there; "" asks without one (RFC 5227), so that nobody takes note of us.
    What comes from a MAC address in `but` does not count.

    Raises:
        OSError: There is no such interface, or it is down.
    """
    found = await holder_of(device, sender, targets, within_s, but=but)
    return found[0] if found is not None else ""


async def holder_of(
    device: str, sender: str, targets: Sequence[str], within_s: float, *, but: Collection[bytes] = ()
) -> tuple[str, bytes] | None:
    """As `who_has`, with the MAC address of who answers; None when nobody does in time. Raises OSError."""
    wanted = {IPv4Address(text).packed: text for text in targets}
    with _arp_socket(device) as link:
        own = {*mac_addresses().values(), *but}
        mac, source = link.getsockname()[4], IPv4Address(sender or "0.0.0.0").packed  # noqa: S104 - no socket: what stands in the packet

        async def answer() -> tuple[str, bytes]:
            while True:
                frame = await asyncio.get_running_loop().sock_recv(link, 2048)
                body = frame[_ETHERNET_BYTES : _ETHERNET_BYTES + _ARP_BYTES]
                who, address = body[8:14], body[14:18]  # who sent it, be it a request or a reply
                if len(body) == _ARP_BYTES and who not in own and address in wanted:
                    return wanted[address], who

        async def ask() -> None:
            for count, target in enumerate(wanted):
                if count % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(_BETWEEN_S)
                await asyncio.get_running_loop().sock_sendall(link, _arp_request(mac, source, target))

        return await _answered(ask, answer, within_s)


async def is_neighbour(device: str, target: str, within_s: float) -> bool:
    """Whether an IPv6 address answers neighbour discovery on this interface. Raises OSError."""
    address = IPv6Address(target.partition("%")[0]).packed
    mac = mac_addresses().get(device, bytes(6))
    question = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address + _OWN_LINK_LAYER + mac
    group = str(IPv6Address(_SOLICITED + address[13:]))
    return await _icmp(
        device,
        group,
        question,
        lambda said, _: said[0] == _ADVERTISEMENT and said[_TARGET] == address,
        within_s,
    )


async def anybody_on_link(device: str, within_s: float) -> bool:
    """Whether any other node of this interface's link answers an IPv6 echo to all of them. Raises OSError."""
    own = _own_ipv6()
    question = struct.pack("!BBHHH", _ECHO, 0, 0, os.getpid() & 0xFFFF, 1)
    return await _icmp(
        device, ALL_NODES, question, lambda said, who: said[0] == _ECHO_REPLY and who not in own, within_s
    )


async def announce(device: str, addresses: Iterable[str]) -> None:
    """Tells the link that we have these addresses here now: switches learn where, and neighbours forget where we were.

    Raises:
        OSError: There is no such interface, or it is down.
    """
    loop = asyncio.get_running_loop()
    for address in map(ip_address, addresses):
        if address.version == 4:
            with _arp_socket(device) as link:
                mac = link.getsockname()[4]
                await loop.sock_sendall(link, _arp_request(mac, address.packed, address.packed))
        else:
            mac = mac_addresses().get(device, bytes(6))
            said = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed
            with _icmp_socket(device) as link:
                to = (ALL_NODES, 0, 0, socket.if_nametoindex(device))
                await loop.sock_sendto(link, said + _TARGET_LINK_LAYER + mac, to)


def _arp_request(mac: bytes, sender: bytes, target: bytes) -> bytes:
    return _BROADCAST + mac + struct.pack("!H", _ARP) + _REQUEST + mac + sender + bytes(6) + target


async def _icmp(
    device: str, to: str, question: bytes, counts: Callable[[bytes, IPv6Address], bool], within_s: float
) -> bool:
    """Sends a question and waits for an answer that counts: what it says, and who says it."""
    with _icmp_socket(device) as link:
        loop, index = asyncio.get_running_loop(), socket.if_nametoindex(device)

        async def answer() -> str:
            while True:
                said, who = await loop.sock_recvfrom(link, 2048)
                if len(said) >= 4 and counts(said, IPv6Address(who[0].partition("%")[0])):
                    return str(who[0])

        async def ask() -> None:
            await loop.sock_sendto(link, question, (to, 0, 0, index))

        return bool(await _answered(ask, answer, within_s))


async def _answered(
    ask: Callable[[], Awaitable[None]], answer: Callable[[], Awaitable[T]], within_s: float
) -> T | None:
    """The answer, or None when none comes in time. Raises OSError if it cannot be asked."""

    async def both() -> T:
        asking: asyncio.Future[Any] = asyncio.ensure_future(ask())
        listening: asyncio.Future[T] = asyncio.ensure_future(answer())
        try:
            done, _ = await asyncio.wait((asking, listening), return_when=asyncio.FIRST_COMPLETED)
            if listening not in done:
                await asking
            return await listening
        finally:
            for task in (asking, listening):
                task.cancel()
            await asyncio.gather(asking, listening, return_exceptions=True)

    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            return await both()
    return None


@contextmanager
def _arp_socket(device: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ARP)) as link:
        link.setblocking(False)
        link.bind((device, _ARP))
        yield link


@contextmanager
def _icmp_socket(device: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_ICMPV6) as link:
        link.setblocking(False)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode() + b"\0")
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOPS)
        link.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        yield link


def _own_ipv6() -> frozenset[IPv6Address]:
    with suppress(OSError):
        lines = _IF_INET6.read_text(encoding="ascii").splitlines()
        return frozenset(IPv6Address(bytes.fromhex(line.split()[0])) for line in lines)
    return frozenset()
