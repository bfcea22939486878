"""Which flows should a secure bridge have, as the switch's database says?

Pure but for a memory of texts: a bridge with a thousand locked ports has some thirty thousand flows, and most of them
are the same the next time.
"""

from __future__ import annotations

from collections.abc import Iterator

from poolnet.hostd.openvswitch import limiters, marks
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.ofports import OFPORT_MIN, PATCH_OFPORT
from poolnet.hostd.openvswitch.tables import Port, SwitchBridge, Tables
from poolnet.hostnet.state import PortLock
from poolnet.lock.openflow import SHARED_COOKIE, port_cookie, port_flows, shared_flows

_PLAIN_SWITCH = f"cookie={SHARED_COOKIE:#x},table=0,priority=0,actions=normal\n"


class FlowTexts:
    """The flows as `ovs-ofctl` reads them, one a line."""

    def __init__(self) -> None:
        self._by_port: dict[tuple[str, int], str] = {}

    def of_bridge(self, bridge: SwitchBridge) -> str:
        """All flows of a secure bridge."""
        if bridge.role is Role.BRIDGE and bridge.has_uplink:
            return _PLAIN_SWITCH  # secure by the user's wish, and without guests
        limits = (f"{flow}\n" for flow in limiters.flows_on(bridge))
        return "".join((_shared_text(bridge), *self._of_ports(bridge), *limits))

    def of_port(self, lock: PortLock, ofport: int) -> str:
        """The flows of one guest port. Raises ValueError when the lock has a bad MAC or address."""
        return self._text(marks.remember(lock), lock, ofport)

    def forget_others(self, tables: Tables) -> None:
        """Forget the texts of ports that are gone."""
        if len(self._by_port) > 2 * len(tables.ports) + 64:
            self._by_port.clear()

    def _of_ports(self, bridge: SwitchBridge) -> Iterator[str]:
        for port in bridge.ports:
            remembered = _remembered(port)
            if remembered is None:
                continue
            text, ofport = remembered
            known = self._by_port.get((text, ofport))
            if known is not None:
                yield known
            elif (lock := marks.recall(text, PortLock)) is not None:
                try:
                    yield self._text(text, lock, ofport)
                except ValueError:
                    continue  # somebody spoilt the mark: without flows the port is dead, and observed as altered

    def _text(self, remembered: str, lock: PortLock, ofport: int) -> str:
        key = (remembered, ofport)
        text = self._by_port.get(key)
        if text is None:
            text = "".join(f"{flow.text()}\n" for flow in port_flows(lock, ofport, port_cookie(ofport)))
            self._by_port[key] = text
        return text


def secure_bridges(tables: Tables) -> tuple[str, ...]:
    """The names of our bridges that drop everything without flows."""
    return tuple(
        bridge.name for bridge in tables.bridges.values() if bridge.role is not None and bridge.is_secure
    )


def _shared_text(bridge: SwitchBridge) -> str:
    if bridge.role is Role.GUESTS:
        return "".join(f"{flow.text()}\n" for flow in shared_flows((PATCH_OFPORT,)))
    return "".join(f"{flow.text()}\n" for flow in shared_flows(("LOCAL",)))


def _remembered(port: Port) -> tuple[str, int] | None:
    """The text of a guest port's lock and its port number."""
    if port.role is not Role.GUEST or not port.interfaces:
        return None
    interface = port.interfaces[0]
    ofport = interface.number("ofport_request")
    text = interface.map("external_ids").get(marks.LOCK)
    return (text, ofport) if text and ofport is not None and ofport >= OFPORT_MIN else None
