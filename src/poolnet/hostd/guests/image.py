"""What goes with a namespace guest that migrates? Its addresses and routes, read at one host and set at the other.

A namespace has no memory that could be sent: what ran in it by itself does not go with it. A hypervisor's runtime would send
the memory through the same two commands.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from poolnet.hostnet.protocol import GuestImage, GuestRoute

Inside = Callable[..., Awaitable[str]]
"""Runs `ip` with these words inside the guest; gives what it writes."""


async def read(vm_uuid: str, inside: Inside) -> GuestImage:
    """What a guest's interfaces have. Addresses and routes that the kernel makes by itself are left out."""
    listed = json.loads(await inside("-json", "address", "show") or "[]")
    routes: list[GuestRoute] = []
    for family in ("-4", "-6"):
        for route in json.loads(await inside(family, "-json", "route", "show", "table", "main") or "[]"):
            routes += _route(route, family)
    return GuestImage(vm_uuid=vm_uuid, addresses=tuple(_addresses(listed)), routes=tuple(routes))


def _addresses(interfaces: Sequence[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    for interface in interfaces:
        device = _number(interface.get("ifname", ""))
        if device is None:
            continue
        for address in interface.get("addr_info", ()):
            if address.get("scope") != "link" and "dynamic" not in address:
                yield device, f"{address['local']}/{address['prefixlen']}"


def _route(route: dict[str, Any], family: str) -> Iterator[GuestRoute]:
    device = _number(route.get("dev", ""))
    if device is not None and route.get("protocol") not in ("kernel", "ra"):
        destination = str(route.get("dst", "default"))
        everything = "0.0.0.0/0" if family == "-4" else "::/0"
        yield GuestRoute(
            device=device,
            destination=everything if destination == "default" else destination,
            gateway=str(route.get("gateway", "")),
            metric=int(route.get("metric", 0)),
        )


def _number(name: str) -> int | None:
    digits = name.removeprefix("eth")
    return int(digits) if name.startswith("eth") and digits.isdecimal() else None


async def load(image: GuestImage, inside: Inside) -> None:
    """Gives a guest the addresses and routes of another. Raises ValueError for what is no address."""
    links = sorted({device for device, _ in image.addresses} | {route.device for route in image.routes})
    for device in links:  # inside; the host's end is down, so that nothing is sent yet
        await inside("link", "set", f"eth{device}", "up")
    for device, text in image.addresses:
        address = ip_interface(text)
        quiet = ("nodad",) if address.version == 6 else ()
        await inside("address", "replace", str(address), "dev", f"eth{device}", *quiet)
    for route in image.routes:
        network = ip_network(route.destination, strict=False)
        via = ("via", str(ip_address(route.gateway))) if route.gateway else ()
        metric = ("metric", str(route.metric)) if route.metric else ()
        # The host's end is down, so the guest's link has no carrier: onlink, and nothing is looked up.
        onlink = ("onlink",) if via else ()
        words = ("route", "replace", str(network), *via, "dev", f"eth{route.device}", *onlink, *metric)
        await inside(f"-{network.version}", *words)
