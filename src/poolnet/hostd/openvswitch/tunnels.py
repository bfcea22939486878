"""How are the other ends of a tunnel written in the switch's database, and read back? See spec §13.

`layout` and `observe` call it. Each other end is a port of its own; which tunnel was asked for is remembered on the
bridge, because one that leads nowhere yet has no port.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from poolnet.hostd.openvswitch import marks
from poolnet.hostd.openvswitch.tables import Port
from poolnet.hostd.tunnel_names import port_to
from poolnet.hostnet.state import Uplink


def port_names(uplink: Uplink) -> Iterator[str]:
    """The names of a tunnel's ports, in the order of its other ends."""
    return (name for name, _, _ in interfaces(uplink))


def interfaces(uplink: Uplink) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, type and options of the Interface for each other end."""
    if uplink.tunnel is None:
        return
    for remote in uplink.tunnel.remotes:
        options = {"remote_ip": remote, "key": str(uplink.tunnel.key)}
        yield port_to(uplink.device, remote), uplink.tunnel.kind.value, options


def observed(external_ids: Mapping[str, str], ports: Iterable[Port]) -> Uplink | None:
    """The tunnel that a bridge has: what is remembered, with the other ends that its ports lead to as they should."""
    text = external_ids.get(marks.TUNNEL)
    asked = marks.recall(text, Uplink) if text else None
    if asked is None or asked.tunnel is None:
        return None
    there = {port.name: port for port in ports}
    right = [
        options["remote_ip"]
        for name, interface_type, options in interfaces(asked)
        if (port := there.pop(name, None)) is not None and _is(port, interface_type, options)
    ]
    strays = (
        port.interfaces[0].map("options").get("remote_ip", "") for port in there.values() if port.interfaces
    )
    return replace(asked, tunnel=replace(asked.tunnel, remotes=tuple(sorted({*right, *strays} - {""}))))


def _is(port: Port, interface_type: str, options: Mapping[str, str]) -> bool:
    if len(port.interfaces) != 1 or port.row.get("protected") is not True:
        return False
    interface = port.interfaces[0]
    return interface.text("type") == interface_type and interface.map("options") == options
