"""Which uplinks does the switch hold on to although their NIC was taken out and another is there under its name?

The userspace datapath goes on reading the interface that is gone: it opens a NIC once, when its port is added. Every
interface that it reads is promiscuous, so one that is not is a new one. The kernel's datapath notices by itself.
"""

from __future__ import annotations

from collections.abc import Callable

from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.tables import Tables
from poolnet.ovsdb import operations
from poolnet.ovsdb.operations import Operation
from poolnet.ovsdb.values import one_of

_ELSEWHERE = (
    1000  # a port under another number is a new port; uplinks have small numbers, and no flow names them
)


def reopenings(tables: Tables, is_read: Callable[[str], bool | None]) -> dict[str, Operation]:
    """Per NIC, the operation that has the switch open it anew.

    `is_read(name)` says whether an interface is promiscuous; None when there is none.
    """
    found: dict[str, Operation] = {}
    for port in tables.ports.values():
        bridge = tables.bridges[port.bridge]
        if port.role is not Role.UPLINK or one_of(bridge.row.get("datapath_type"), str, "") != "netdev":
            continue
        for interface in port.interfaces:
            ofport = interface.number("ofport")
            if ofport is not None and ofport > 0 and is_read(interface.name) is False:
                number = ofport + _ELSEWHERE if ofport < _ELSEWHERE else ofport - _ELSEWHERE
                found[interface.name] = operations.update(
                    "Interface", interface.id, {"ofport_request": number}
                )
    return found
