"""What would become of a host that joins? Its NICs on the pool's networks, and what it gets from the coordinator, in words.

The pool's coordinator says so, on a transaction that is thrown away: it is the same code that admits hosts and gives members
their networks, so that what is said is what would happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from msgspec import Struct

from poolnet.db.txn import View
from poolnet.hostnet.facts import HostFacts
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.host_metrics import HostMetrics
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode
from poolnet.model.failure import Failure
from poolnet.model.types import Row, Value
from poolnet.rules.admit import admit
from poolnet.rules.context import CallContext
from poolnet.rules.facts import record_network
from poolnet.rules.kinds import Kind, kind_of
from poolnet.rules.member import to_copy


class NicPlan(Struct, frozen=True, kw_only=True):
    """One NIC of the joining host, or what is made on its NICs.

    Attributes:
        interface: `eth1`, or a bond, VLAN, tunnel or SR-IOV network by what it stands on.
        mac: Of a NIC or a bond.
        network: The name of the network that it is on.
        is_new: Whether that network comes with the host.
        besides: What else there is to say: management, addresses, membership of a bond.
    """

    interface: str
    mac: str
    network: str
    is_new: bool
    besides: tuple[str, ...] = ()


class Admitted(Struct, frozen=True, kw_only=True):
    """What joining would make of a host: its interfaces, and what it could not be given."""

    interfaces: tuple[NicPlan, ...]
    failures: tuple[str, ...]


def explain_admission(ctx: CallContext, *, uuid: str, rows: Sequence[Row], facts: HostFacts) -> Admitted:
    """Says what would become of a joining host that reports these facts. Nothing of it lasts.

    Raises:
        HA_IS_ENABLED, OPERATION_NOT_ALLOWED: See `admit`.
    """
    trial = replace(ctx.on(ctx.txn.nested()), counters=ctx.counters.copy(), guest_actions=[])
    txn = trial.txn
    known = {network.ref for network in txn.all(Network)}
    host = admit(trial, uuid=uuid, rows=rows)
    trial.facts = {**ctx.facts, host: facts}
    record_network(txn, host, facts, ctx.now, ctx.new_uuid)
    txn.update(HostMetrics, txn.get(Host, host).metrics, live=True)
    failures = []
    for method, rule, arguments in to_copy(txn, host, ctx.local_host):
        try:
            _carry_out(trial, rule, arguments)
        except Failure as failure:
            failures.append(f"{method}: {failure}")
    order = {Kind.PHYSICAL: 0, Kind.BOND_MASTER: 1, Kind.SRIOV_LOGICAL: 2, Kind.VLAN: 3}
    pifs = sorted(
        txn.where(PIF, host=host), key=lambda pif: (order.get(kind_of(pif), 9), pif.device, pif.VLAN)
    )
    return Admitted(
        interfaces=tuple(_planned(txn, pif, is_new=pif.network not in known) for pif in pifs),
        failures=tuple(failures),
    )


def _carry_out(ctx: CallContext, rule: Callable[..., Any], arguments: Mapping[str, Value]) -> None:
    """One call, which leaves nothing if it fails."""
    overlay = ctx.txn.nested()
    rule(ctx.on(overlay), **arguments)
    overlay.merge()


def _planned(view: View, pif: PIF, *, is_new: bool) -> NicPlan:
    network = view.find(Network, pif.network)
    physical_or_bond = kind_of(pif) in (Kind.PHYSICAL, Kind.BOND_MASTER)
    return NicPlan(
        interface=_interface(view, pif),
        mac=pif.MAC if physical_or_bond else "",
        network=network.name_label if network is not None else "",
        is_new=is_new,
        besides=tuple(_besides(view, pif)),
    )


def _interface(view: View, pif: PIF) -> str:
    match kind_of(pif):
        case Kind.VLAN:
            return f"VLAN {pif.VLAN} on {pif.device}"
        case Kind.BOND_MASTER:
            members = view.where(PIF, bond_slave_of=pif.bond_master_of[0])
            return f"{pif.device} of {', '.join(sorted(each.device for each in members))}"
        case Kind.TUNNEL_ACCESS:
            tunnel = view.find(Tunnel, pif.tunnel_access_PIF_of[0])
            transport = view.find(PIF, tunnel.transport_PIF) if tunnel is not None else None
            return f"tunnel over {transport.device}" if transport is not None else "tunnel"
        case Kind.SRIOV_LOGICAL:
            sriov = view.find(NetworkSriov, pif.sriov_logical_PIF_of[0])
            physical = view.find(PIF, sriov.physical_PIF) if sriov is not None else None
            return f"SR-IOV on {physical.device}" if physical is not None else "SR-IOV"
        case _:
            return pif.device


def _besides(view: View, pif: PIF) -> Iterator[str]:
    bond = view.find(Bond, pif.bond_slave_of)
    master = view.find(PIF, bond.master) if bond is not None else None
    if master is not None:
        yield f"member of {master.device}"
    if pif.bond_master_of:
        yield str(view.get(Bond, pif.bond_master_of[0]).mode.value)
    if pif.management:
        yield "management"
    if pif.ip_configuration_mode is not IpConfigurationMode.NONE:
        yield f"IPv4 {pif.ip_configuration_mode.value.lower()} {pif.IP}".rstrip()
    if pif.ipv6_configuration_mode is not Ipv6ConfigurationMode.NONE:
        yield f"IPv6 {pif.ipv6_configuration_mode.value.lower()}"
