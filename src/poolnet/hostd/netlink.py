"""What do links, addresses and routes look like in the kernel, and how are they changed?

The only importer of pyroute2. `Netlink` answers and changes; `watch_netlink` tells that something changed, without
parsing what, because a host with a thousand ports has many such messages.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import Any, Self, TypeVar

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from poolnet.hostd import link_requests, proc_net

# Groups of <linux/rtnetlink.h>: RTMGRP_LINK, RTMGRP_TC, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR.
_GROUPS = 0x1 | 0x8 | 0x10 | 0x40 | 0x100
_PROTO_STATIC = 4
_TABLE_MAIN = 254
_BUFFER_BYTES = 8 * 1024 * 1024
ANSWER_TIMEOUT_S = 20.0  # the kernel answers in milliseconds
T = TypeVar("T")


def link_local_addresses(name: str) -> tuple[str, ...]:
    """The IPv6 addresses of an interface that mean something only on its own link, as `ADDRESS/len`."""
    return tuple(proc_net.ipv6_addresses(link_local=True).get(name, ()))


class LinkError(Exception):
    """The kernel refused a change of a link, an address or a route."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The addresses of one interface (`A.B.C.D/len`), without the IPv6 link-local ones, and its default gateways."""

    ipv4: tuple[str, ...] = ()
    ipv6: tuple[str, ...] = ()
    gateway: str = ""
    gateway6: str = ""


NO_ADDRESSES = Addresses()


def index_of(name: str) -> int | None:
    """The number of the interface of that name in this network namespace, or None."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        return None


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except OSError:  # it has just gone
        return None


def link_is_up(name: str) -> bool | None:
    """Whether the interface of that name is set up; None when there is none."""
    try:
        return link_requests.is_up(name)
    except OSError:
        return None


def link_is_promiscuous(name: str) -> bool | None:
    """Whether a program has asked for all that the interface of that name receives; None when there is none."""
    try:
        return link_requests.is_promiscuous(name)
    except OSError:
        return None


def link_mac(name: str) -> str | None:
    """The hardware address that the interface of that name uses now; None when there is none."""
    try:
        return link_requests.mac(name)
    except OSError:
        return None


class Netlink:
    """A connection to the kernel's routing service. Open it with `async with`."""

    def __init__(self) -> None:
        self._route = AsyncIPRoute()
        self._turn = asyncio.Lock()  # the kernel refuses a second dump on a socket while one is under way

    async def __aenter__(self) -> Self:
        await self._route.setup_endpoint()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._route.close()

    async def _ask(self, request: Callable[[], Awaitable[T]]) -> T:
        """The answer to a request. Raises NetlinkError, or LinkError when the kernel does not answer."""
        async with self._turn:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S):
                    return await request()
            except TimeoutError as error:
                await self._connect_again()
                raise LinkError(f"the kernel has not answered for {ANSWER_TIMEOUT_S:g} s") from error

    async def _connect_again(self) -> None:
        """Leaves what may still come on the old connection behind."""
        self._route.close()
        self._route = AsyncIPRoute()
        await self._route.setup_endpoint()

    async def set_link(self, index: int, *, up: bool) -> None:
        """Sets an interface up or down. Raises LinkError."""
        try:
            link_requests.set_up(socket.if_indextoname(index), up=up)
        except OSError as error:
            raise LinkError(f"interface {index}: {error}") from error

    async def _dump(self, what: str, **arguments: int) -> list[Any]:
        async def dump() -> list[Any]:
            request = getattr(self._route, what)
            return [message async for message in await request(**arguments)]

        try:
            return await self._ask(dump)
        except NetlinkError as error:
            raise LinkError(f"the kernel does not list what there is: {error}") from error

    async def states(self, names: Iterable[str]) -> dict[str, str]:
        """The operational states of these interfaces (RFC 2863): `UP`, `DOWN` …; `UNKNOWN` where nobody tells, or not yet.

        Those that do not exist are left out. Raises LinkError.
        """
        found = {}
        for name in names:
            index = index_of(name)
            with suppress(NetlinkError):  # it has just gone
                for link in await self._ask(partial(self._route.link, "get", index=index)) if index else ():
                    found[name] = str(link.get("operstate"))
        return found

    async def addresses(self, *, ipv6_gateways: bool = True) -> dict[str, Addresses]:
        """The addresses of all interfaces that have any, by name. Raises LinkError.

        Without `ipv6_gateways` they stay empty: every interface has IPv6 routes of its own, which all have to be read.
        """
        ipv4: dict[str, list[str]] = {}
        for message in await self._dump("get_addr", family=socket.AF_INET):
            name = _name_of(message["index"])
            local = message.get("local") or message.get("address")
            if name is not None and local is not None:
                ipv4.setdefault(name, []).append(f"{local}/{message['prefixlen']}")
        ipv6 = proc_net.ipv6_addresses()
        if not ipv4 and not ipv6:
            return {}
        gateways = proc_net.ipv4_gateways()
        gateways6 = proc_net.ipv6_gateways() if ipv6_gateways else {}
        return {
            name: Addresses(
                ipv4=tuple(ipv4.get(name, ())),
                ipv6=tuple(ipv6.get(name, ())),
                gateway=gateways.get(name, ""),
                gateway6=gateways6.get(name, ""),
            )
            for name in ipv4.keys() | ipv6.keys()
        }

    async def routes(self, index: int) -> frozenset[str]:
        """The IPv4 routes through a gateway on an interface, as `SUBNET/LEN via GATEWAY`; not the default route.

        Raises LinkError.
        """
        found = set()
        for message in await self._dump("get_routes", family=socket.AF_INET, table=_TABLE_MAIN):
            gateway = message.get("gateway")
            if message.get("oif") == index and gateway and message["dst_len"]:
                found.add(f"{message.get('dst')}/{message['dst_len']} via {gateway}")
        return frozenset(found)

    async def leaves_by(self, address: str) -> str:
        """The interface by which what is sent to an address leaves; "" when there is no way to it."""
        try:
            found = await self._ask(lambda: self._route.route("get", dst=address))
            return socket.if_indextoname(found[0].get("oif"))
        except (NetlinkError, LinkError, OSError):
            return ""

    async def add_address(self, index: int, address: str) -> None:
        """Gives an interface an address (`A.B.C.D/len`); nothing to do if it has it. Raises LinkError."""
        interface = ip_interface(address)
        extra: dict[str, str] = {}
        if isinstance(interface, IPv4Interface) and interface.network.prefixlen < 31:
            extra["broadcast"] = str(interface.network.broadcast_address)
        await self._change_address("add", index, interface, errno.EEXIST, extra)

    async def remove_address(self, index: int, address: str) -> None:
        """Takes an address from an interface; nothing to do if it does not have it. Raises LinkError."""
        await self._change_address("del", index, ip_interface(address), errno.EADDRNOTAVAIL, {})

    async def replace_route(self, index: int, destination: str, gateway: str) -> None:
        """Sends what goes to `destination` (`SUBNET/LEN` or `default`) through a gateway. Raises LinkError."""
        await self._change_route("replace", index, destination, gateway)

    async def remove_route(self, index: int, destination: str, gateway: str) -> None:
        """Removes such a route; nothing to do if there is none. Raises LinkError."""
        await self._change_route("del", index, destination, gateway)

    async def _change_address(
        self,
        command: str,
        index: int,
        interface: IPv4Interface | IPv6Interface,
        harmless: int,
        extra: dict[str, str],
    ) -> None:
        try:
            await self._ask(
                lambda: self._route.addr(
                    command,
                    index=index,
                    address=str(interface.ip),
                    prefixlen=interface.network.prefixlen,
                    **extra,
                )
            )
        except NetlinkError as error:
            if error.code != harmless:
                raise LinkError(f"address {interface}: {error}") from error

    async def _change_route(self, command: str, index: int, destination: str, gateway: str) -> None:
        family = socket.AF_INET6 if ip_address(gateway).version == 6 else socket.AF_INET
        try:
            await self._ask(
                lambda: self._route.route(
                    command,
                    dst=destination,
                    gateway=gateway,
                    oif=index,
                    family=family,
                    table=_TABLE_MAIN,
                    proto=_PROTO_STATIC,
                )
            )
        except NetlinkError as error:
            if not (command == "del" and error.code == errno.ESRCH):
                raise LinkError(f"route to {destination} via {gateway}: {error}") from error


class NetlinkWatch:
    """Calls `changed` when a link, its queues, an address or an IPv4 route changed in this network namespace."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """Must be made in a running event loop, which then calls `changed`."""
        self._changed = changed
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._socket.setblocking(False)
        self._socket.bind((0, _GROUPS))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._drain)

    def close(self) -> None:
        """Stops watching."""
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _drain(self) -> None:
        while True:
            try:
                self._socket.recv(65536)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # lost messages are a change like any other
                    raise
        self._changed()


def same_addresses(one: Iterable[str], other: Collection[str]) -> bool:
    """Are these the same addresses, however they are spelt?"""
    return {ip_interface(text) for text in one} == {ip_interface(text) for text in other}
