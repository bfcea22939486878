"""Which NICs give their virtual functions to a network? See spec §14."""

from __future__ import annotations

from poolnet.model import errors
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.types import Ref
from poolnet.rules.context import CallContext
from poolnet.rules.features import Feature, require_feature
from poolnet.rules.functions import CAPABLE, free_functions
from poolnet.rules.kinds import Kind, first_pif, kind_of, local_pif, pci_ids
from poolnet.rules.pif_plug import plug, unplug
from poolnet.rules.vlan import UNTAGGED_MAC


def create(ctx: CallContext, *, pif: Ref[PIF], network: Ref[Network]) -> Ref[NetworkSriov]:
    """Gives a NIC's virtual functions to a network, and switches them on (spec §14.2).

    A member of a bond may have them. All NICs of one network are of one kind, by vendor and device.

    Raises:
        LICENCE_RESTRICTION, NETWORK_UNMANAGED, PIF_UNMANAGED, PIF_IS_NOT_PHYSICAL, NETWORK_SRIOV_ALREADY_ENABLED,
        PIF_IS_NOT_SRIOV_CAPABLE, NETWORK_ALREADY_CONNECTED, NETWORK_INCOMPATIBLE_WITH_SRIOV,
        NETWORK_HAS_INCOMPATIBLE_SRIOV_PIFS, NETWORK_SRIOV_ENABLE_FAILED: in this order.
    """
    txn = ctx.txn
    require_feature(txn, Feature.NETWORK_SRIOV)
    physical, target = txn.get(PIF, pif), txn.get(Network, network)
    ctx.require_live(physical.host)
    if not target.managed:
        raise errors.network_unmanaged(network)
    if not physical.managed:
        raise errors.pif_unmanaged(pif)
    if kind_of(physical) is not Kind.PHYSICAL:
        raise errors.pif_is_not_physical(pif)
    if physical.sriov_physical_PIF_of:
        raise errors.network_sriov_already_enabled(pif)
    if CAPABLE not in physical.capabilities:
        raise errors.pif_is_not_sriov_capable(pif)
    connected = local_pif(txn, network, physical.host)
    if connected is not None:
        raise errors.network_already_connected(physical.host, connected.ref)
    _require_same_kind(ctx, physical, network)
    ref = _make(ctx, physical, network)
    plug(ctx, self=txn.get(NetworkSriov, ref).logical_PIF)
    return ref


def _require_same_kind(ctx: CallContext, physical: PIF, network: Ref[Network]) -> None:
    """Lets a NIC join the others of a network."""
    first = first_pif(ctx.txn, network)
    if first is None:
        return
    if kind_of(first) is not Kind.SRIOV_LOGICAL:
        raise errors.network_incompatible_with_sriov(network)
    if pci_ids(ctx.txn, first) != pci_ids(ctx.txn, physical):
        raise errors.network_has_incompatible_sriov_pifs(physical.ref, network)


def _make(ctx: CallContext, physical: PIF, network: Ref[Network]) -> Ref[NetworkSriov]:
    """Makes the logical PIF and the SR-IOV object, switched off."""
    logical = ctx.txn.create(
        PIF(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            device=physical.device,
            network=network,
            host=physical.host,
            MAC=UNTAGGED_MAC,
            MTU=physical.MTU,
            VLAN=-1,
            metrics=physical.metrics,
            physical=False,
            currently_attached=False,
            primary_address_type=physical.primary_address_type,
            managed=True,
        )
    )
    return ctx.txn.create(
        NetworkSriov(ref=ctx.new_ref(), uuid=ctx.new_uuid(), physical_PIF=physical.ref, logical_PIF=logical)
    )


def destroy(ctx: CallContext, *, self: Ref[NetworkSriov]) -> None:
    """Takes a NIC's virtual functions from their network and switches them off; the network stays (spec §14.3).

    Raises:
        PIF_VLAN_STILL_EXISTS: A VLAN is on the functions; with the logical PIF.
        PIF_UNMANAGED, HA_IS_ENABLED, REDO_LOG_IS_ENABLED, PIF_IS_MANAGEMENT_INTERFACE, VIF_IN_USE,
        PIF_DOES_NOT_ALLOW_UNPLUG: as of PIF.unplug of the logical PIF.
        NETWORK_SRIOV_DISABLE_FAILED: The host could not.
    """
    txn = ctx.txn
    sriov = txn.get(NetworkSriov, self)
    logical = txn.find(PIF, sriov.logical_PIF)
    if logical is None:
        txn.destroy(NetworkSriov, self)
        return
    ctx.require_live(logical.host)
    if logical.VLAN_slave_of:
        raise errors.pif_vlan_still_exists(logical.ref)
    unplug(ctx, self=logical.ref)
    txn.destroy(NetworkSriov, self)
    txn.destroy(PIF, logical.ref)


def get_remaining_capacity(ctx: CallContext, *, self: Ref[NetworkSriov]) -> int:
    """How many of the NIC's virtual functions are free (spec §14.6)."""
    return len(free_functions(ctx.txn, ctx.txn.get(NetworkSriov, self)))
