"""Do the locks of these guest ports hold on the live switch? Every frame of `prove.probes`, traced by the switch itself.

The switch answers thousands of traces a second over its control socket when they do not wait for each other. What no
trace shows is compared with the database: the bridge that a port is on, its VLANs, its number, the bridge's fail mode.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poolnet.hostd.openvswitch import traced, unixctl
from poolnet.hostd.openvswitch.layout import switch_bridge_of, vlan_columns
from poolnet.hostd.openvswitch.marks import Role
from poolnet.hostd.openvswitch.observe import columns_are
from poolnet.hostd.openvswitch.tables import Port, SwitchBridge, Tables
from poolnet.hostd.proofs import proof_of
from poolnet.hostnet.protocol import PortProof, RuleFound
from poolnet.hostnet.state import Bridge, GuestPort, HostNetwork, LockMode
from poolnet.lock.openflow import ofport_of
from poolnet.lock.prove import ROUTER_QUERIES, Probe, probes

_IN_PORT = re.compile(r"\bin_port=(\d+)\b")
_COOKIE = re.compile(r"\bcookie=(0x[0-9a-f]+)\b")


@dataclass(frozen=True, slots=True)
class Case:
    """One port's proof, prepared: what its rows say, and the traces that are to be asked for."""

    wanted: GuestPort
    faults: tuple[str, ...] = ()
    is_changing: bool = False
    tried: tuple[Probe, ...] = ()
    calls: tuple[tuple[str, str, str], ...] = ()


def prepared(tables: Tables, observed: HostNetwork, wanted: GuestPort) -> Case:
    """The proof of one port's lock before anything is traced. Raises ValueError when the lock is impossible."""
    port = tables.ports.get(wanted.device)
    if wanted.lock.mode is LockMode.DISABLED:
        there = f"{wanted.device} is on the bridge {port.bridge}, and should be on none" if port else ""
        return Case(wanted, faults=(there,) if there else ())
    if port is None or not port.interfaces:
        return Case(wanted, faults=(f"{wanted.device} is on no bridge",))
    faults = tuple(_faults(tables, observed, wanted, port))
    known = observed.port(wanted.device)
    is_changing = known is not None and known.lock != wanted.lock
    if wanted.lock.mode is LockMode.UNLOCKED and not wanted.lock.trunks:
        return Case(wanted, faults, is_changing)
    bridge = tables.bridges[port.bridge]
    tried = probes(wanted.lock)
    if bridge.row.get("mcast_snooping_enable") is True:  # a trace teaches the switch what the frame would
        tried = tuple(probe for probe in tried if probe.case.name not in ROUTER_QUERIES)
    ofport = port.interfaces[0].number("ofport")
    calls = tuple((port.bridge, f"in_port={ofport}", probe.frame.hex()) for probe in tried)
    return Case(wanted, faults, is_changing, tried, calls)


async def proved(control: Path, cases: Sequence[Case]) -> list[PortProof]:
    """Traces for several ports, all at the same time. Raises ControlError."""
    texts = iter(
        await unixctl.ask_all(control, "ofproto/trace", [call for case in cases for call in case.calls])
    )
    proofs: list[PortProof] = []
    for case in cases:
        found = [traced.read(next(texts)) for _ in case.calls]
        sent = [(one.passes, one.reason) for one in found]
        proofs.append(proof_of(case.wanted.device, case.tried, sent, case.faults, case.is_changing))
        await asyncio.sleep(0)  # others have their turn between two ports
    return proofs


def _faults(tables: Tables, observed: HostNetwork, wanted: GuestPort, port: Port) -> Iterator[str]:
    """What is wrong with a port's rows in the database."""
    bridges = {bridge.name: bridge for bridge in observed.bridges}
    device = wanted.device
    if port.role is not Role.GUEST:
        yield f"{device} is not marked as a guest's port"
    should_be = _switch_bridge(wanted, bridges)
    if should_be != port.bridge:
        yield f"{device} is on the bridge {port.bridge} of the switch, and should be on {should_be or wanted.bridge}"
    if not tables.bridges[port.bridge].is_secure:
        yield f"the bridge {port.bridge} is not in fail mode secure, and forwards everything while it has no rules"
    tag = bridges[wanted.bridge].vlan_tag if wanted.bridge in bridges else -1
    if not columns_are(port, vlan_columns(wanted.lock, tag)):
        yield f"the VLANs of {device} in the switch are not those of {wanted.bridge}"
    interface = port.interfaces[0]
    number, asked = interface.number("ofport"), interface.number("ofport_request")
    if number is None or number < 0 or number != asked:
        yield f"{device} is port {number}, and its rules are for port {asked}"


def _switch_bridge(wanted: GuestPort, bridges: Mapping[str, Bridge]) -> str:
    try:
        return switch_bridge_of(wanted, bridges)
    except KeyError:
        return ""


def rules_found(bridge: SwitchBridge, differences: Sequence[str]) -> Iterator[RuleFound]:
    """The differences of a bridge's flows (`-FLOW` is missing, `+FLOW` is there), each with the port it is about."""
    devices = {
        number: port.name
        for port in bridge.ports
        if port.role is Role.GUEST and port.interfaces
        if (number := port.interfaces[0].number("ofport_request")) is not None
    }
    for line in differences:
        in_port = _IN_PORT.search(line)
        cookie = _COOKIE.search(line)
        number = int(in_port[1]) if in_port else ofport_of(int(cookie[1], 16)) if cookie else None
        word = "is missing" if line.startswith("-") else "should not be there"
        yield RuleFound(
            bridge=bridge.name,
            device=devices.get(number, "") if number is not None else "",
            text=f"a flow of {bridge.name} {word}: {line[1:].strip()}",
        )
