"""When may a tunnel be made or removed? See spec §13."""

from __future__ import annotations

from typing import Final

from poolnet.model import errors
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.enums import TunnelProtocol
from poolnet.model.types import Ref
from poolnet.rules import tunnel_status
from poolnet.rules.context import CallContext
from poolnet.rules.defaults import generated_mac, lowest_free
from poolnet.rules.kinds import (
    Kind,
    first_pif,
    is_bond_slave,
    is_sriov_network,
    is_vlan_on_sriov,
    kind_of,
)
from poolnet.rules.pif_plug import plug, unplug
from poolnet.rules.vlan import require_connectable

MTU_UNKNOWN: Final = -1  # spec §8.2: until it is first brought up


def create(
    ctx: CallContext,
    *,
    transport_PIF: Ref[PIF],
    network: Ref[Network],
    protocol: TunnelProtocol = TunnelProtocol.GRE,
) -> Ref[Tunnel]:
    """Connects a network to a host by a tunnel over a PIF, and attaches it (spec §13.2).

    Raises:
        NETWORK_UNMANAGED, NETWORK_ALREADY_CONNECTED, PIF_UNMANAGED, CANNOT_ADD_TUNNEL_TO_BOND_SLAVE,
        IS_TUNNEL_ACCESS_PIF, CANNOT_ADD_TUNNEL_TO_SRIOV_LOGICAL, CANNOT_ADD_TUNNEL_TO_VLAN_ON_SRIOV_LOGICAL,
        NETWORK_INCOMPATIBLE_WITH_TUNNEL, TRANSPORT_PIF_NOT_CONFIGURED: in this order; nothing stays after the last
        either. Both backends make tunnels, so there is no OPENVSWITCH_NOT_ACTIVE.
    """
    txn = ctx.txn
    transport = txn.get(PIF, transport_PIF)
    ctx.require_live(transport.host)
    require_connectable(ctx, network, transport.host)
    if not transport.managed:
        raise errors.pif_unmanaged(transport_PIF)
    _require_carrier(ctx, transport)
    if first_pif(txn, network) is not None and is_sriov_network(txn, network):
        raise errors.network_incompatible_with_tunnel(network)
    ref = make(ctx, transport, network, protocol)
    plug(ctx, self=txn.get(Tunnel, ref).access_PIF)
    return ref


def make(ctx: CallContext, transport: PIF, network: Ref[Network], protocol: TunnelProtocol) -> Ref[Tunnel]:
    """Makes the tunnel and its access PIF, unattached, without checks."""
    return ctx.txn.create(
        Tunnel(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            access_PIF=_make_access_pif(ctx, transport, network),
            transport_PIF=transport.ref,
            protocol=protocol,
            status={"active": "false"},
        )
    )


def _require_carrier(ctx: CallContext, transport: PIF) -> None:
    """Lets a tunnel run over a PIF: a NIC, a bond or a VLAN."""
    if is_bond_slave(ctx.txn, transport):
        raise errors.cannot_add_tunnel_to_bond_slave(transport.ref)
    match kind_of(transport):
        case Kind.TUNNEL_ACCESS:
            raise errors.is_tunnel_access_pif(transport.ref)
        case Kind.SRIOV_LOGICAL:
            raise errors.cannot_add_tunnel_to_sriov_logical(transport.ref)
    if is_vlan_on_sriov(ctx.txn, transport):
        raise errors.cannot_add_tunnel_to_vlan_on_sriov_logical(transport.ref)


def _make_access_pif(ctx: CallContext, transport: PIF, network: Ref[Network]) -> Ref[PIF]:
    taken = {pif.device for pif in ctx.txn.where(PIF, host=transport.host)}
    return ctx.txn.create(
        PIF(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            device=lowest_free("tunnel", taken),
            network=network,
            host=transport.host,
            MAC=generated_mac(0, ctx.new_uuid()),
            MTU=MTU_UNKNOWN,
            VLAN=-1,
            metrics=transport.metrics,
            physical=False,
            currently_attached=False,
            IPv6=("",),
            primary_address_type=transport.primary_address_type,
            managed=True,
        )
    )


def destroy(ctx: CallContext, *, self: Ref[Tunnel]) -> None:
    """Takes a tunnel down and removes it with its access PIF (spec §13.3).

    Raises:
        (any of PIF.unplug)
    """
    tunnel = ctx.txn.get(Tunnel, self)
    if ctx.txn.exists(PIF, tunnel.access_PIF):
        unplug(ctx, self=tunnel.access_PIF)
        network = ctx.txn.get(PIF, tunnel.access_PIF).network
        ctx.txn.destroy(PIF, tunnel.access_PIF)
        tunnel_status.refresh_network(ctx.txn, network)
    ctx.txn.destroy(Tunnel, self)
