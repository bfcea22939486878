"""How do a limited guest's frames get into its limiter and out of it again? Rows and flows; the queue is in `limits`.

Frames that may leave (their lock has decided) go to the limiter's port instead of being switched. When they come back
they get the guest's port number again, and are switched as if they had just come from there: addresses are learnt at the
guest's port, and its VLAN holds. Nothing else ever goes to the limiter's port: it is a trunk of no VLAN.
"""

from __future__ import annotations

from collections.abc import Iterator

from poolnet.hostd.limits import TAGS_BYTES, limiter_of
from poolnet.hostd.openvswitch import marks
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.tables import Port, SwitchBridge
from poolnet.hostnet.state import GuestPort
from poolnet.lock.openflow import Table, port_cookie
from poolnet.ovsdb.values import Value

_DEAD_VLAN = 4095
_PRIORITY = 100


def port_columns() -> dict[str, Value]:
    """The columns of a limiter's port, besides its mark."""
    return {"tag": (), "trunks": (_DEAD_VLAN,), "vlan_mode": "trunk"}


def interface_columns(port: GuestPort, ofport: int) -> dict[str, Value]:
    """The columns of its interface, besides the mark of the guest's device."""
    return {"ofport_request": ofport, "mtu_request": port.mtu_bytes + TAGS_BYTES}


def flows(guest: int, limiter: int) -> tuple[str, str]:
    """The flows into the limiter and out of it; `guest` and `limiter` are port numbers."""
    cookie = f"cookie={port_cookie(limiter):#x}"
    return (
        f"{cookie},table={Table.OUTPUT:d},priority={_PRIORITY},in_port={guest},actions=output:{limiter}",
        f"{cookie},table={Table.START:d},priority={_PRIORITY},in_port={limiter},"
        f"actions=load:{guest}->NXM_OF_IN_PORT[],NORMAL",
    )


def deletion(limiter: int) -> str:
    """The change that removes both flows."""
    return f"delete cookie={port_cookie(limiter):#x}/-1"


def way_in_deletion(limiter: int) -> str:
    """The change that removes the flow into the limiter; what is on its way comes out of it still."""
    return f"{deletion(limiter)},table={Table.OUTPUT:d}"


def flows_on(bridge: SwitchBridge) -> Iterator[str]:
    """The flows of all limiters on a bridge of the switch."""
    numbers = {port.name: number for port in bridge.ports if (number := ofport_of(port, Role.GUEST))}
    for port in bridge.ports:
        limiter = ofport_of(port, Role.LIMITER)
        if limiter and (guest := numbers.get(device_of(port))):
            yield from flows(guest, limiter)


def is_connected(bridge: SwitchBridge, device: str) -> bool:
    """Has the guest's port its limiter on this bridge?"""
    return any(
        port.name == limiter_of(device)
        and device_of(port) == device
        and port.interfaces[0].number("ofport") in (None, ofport_of(port, Role.LIMITER))  # none yet
        for port in bridge.ports
        if port.role is Role.LIMITER and port.interfaces
    )


def device_of(port: Port) -> str:
    """The guest's device that a limiter's port is for."""
    return port.interfaces[0].map("external_ids").get(marks.LIMITED, "") if port.interfaces else ""


def ofport_of(port: Port, role: Role) -> int | None:
    """The number that was asked for, of a port in that role."""
    return port.interfaces[0].number("ofport_request") if port.role is role and port.interfaces else None
