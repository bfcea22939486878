"""When may a VLAN be made or removed, and what is it made of? See spec §12."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.db.txn import View
from poolnet.hostnet.state import VLAN_TAG_MAX
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.types import NULL, Ref
from poolnet.rules.context import CallContext
from poolnet.rules.features import require_unprotected, the_pool
from poolnet.rules.kinds import Kind, first_pif, is_bond_slave, is_vlan_on_sriov, kind_of, local_pif, pci_ids
from poolnet.rules.pif_plug import plug, require_not_bonded, unplug

UNTAGGED_MAC: Final = "fe:ff:ff:ff:ff:ff"  # spec §8.2


def require_tag(tag: int) -> None:
    """Lets a tag from 0 to 4094 pass.

    Raises:
        VLAN_TAG_INVALID: It is another number.
    """
    if not 0 <= tag <= VLAN_TAG_MAX:
        raise errors.vlan_tag_invalid(tag)


def require_no_trunks(ctx: CallContext, network: Ref[Network]) -> None:
    """Lets a VLAN be put on a network.

    Raises:
        NETWORK_INCOMPATIBLE_WITH_TRUNKS: A VIF on it passes VLANs through.
    """
    if has_trunks(ctx.txn, network):
        raise errors.network_incompatible_with_trunks(network)


def has_trunks(view: View, network: Ref[Network]) -> bool:
    """Whether a VIF on a network passes VLANs through."""
    return any(vif.trunks for vif in view.where(VIF, network=network))


def require_connectable(ctx: CallContext, network: Ref[Network], host: Ref[Host]) -> None:
    """Lets a host be connected to a network.

    Raises:
        NETWORK_UNMANAGED: The network's bridges are not poolnet's.
        NETWORK_ALREADY_CONNECTED: The host has a PIF on it; with the host and that PIF.
    """
    if not ctx.txn.get(Network, network).managed:
        raise errors.network_unmanaged(network)
    connected = local_pif(ctx.txn, network, host)
    if connected is not None:
        raise errors.network_already_connected(host, connected.ref)


def create(ctx: CallContext, *, tagged_PIF: Ref[PIF], tag: int, network: Ref[Network]) -> Ref[VLAN]:
    """Connects a network to a PIF by a VLAN, and attaches it (spec §12.2). The tagged PIF need not be attached.

    Raises:
        NETWORK_UNMANAGED, NETWORK_ALREADY_CONNECTED, PIF_UNMANAGED, CANNOT_ADD_VLAN_TO_BOND_SLAVE, PIF_IS_VLAN,
        IS_TUNNEL_ACCESS_PIF, NETWORK_INCOMPATIBLE_WITH_VLAN_ON_SRIOV, NETWORK_HAS_INCOMPATIBLE_VLAN_ON_SRIOV_PIFS,
        NETWORK_INCOMPATIBLE_WITH_VLAN_ON_BRIDGE, VLAN_TAG_INVALID, PIF_VLAN_EXISTS, NETWORK_INCOMPATIBLE_WITH_TRUNKS:
        in this order. VLAN_IN_USE is the host's to raise.
    """
    txn = ctx.txn
    tagged = txn.get(PIF, tagged_PIF)
    ctx.require_live(tagged.host)
    require_connectable(ctx, network, tagged.host)
    if not tagged.managed:
        raise errors.pif_unmanaged(tagged_PIF)
    _require_taggable(ctx, tagged)
    _require_same_sort(ctx, tagged, network)
    require_tag(tag)
    if txn.where(VLAN, tagged_PIF=tagged_PIF, tag=tag):
        raise errors.pif_vlan_exists(tagged.device)
    require_no_trunks(ctx, network)
    ref = make(ctx, tagged, tag, network)
    plug(ctx, self=untagged_pif(ctx, ref))
    return ref


def _require_taggable(ctx: CallContext, tagged: PIF) -> None:
    if is_bond_slave(ctx.txn, tagged):
        raise errors.cannot_add_vlan_to_bond_slave(tagged.ref)
    match kind_of(tagged):
        case Kind.VLAN:
            raise errors.pif_is_vlan(tagged.ref)
        case Kind.TUNNEL_ACCESS:
            raise errors.is_tunnel_access_pif(tagged.ref)


def _require_same_sort(ctx: CallContext, tagged: PIF, network: Ref[Network]) -> None:
    """Keeps networks of virtual functions apart from networks of bridges (spec §12.2 rule 5)."""
    txn = ctx.txn
    first = first_pif(txn, network)
    if first is None:
        return
    if kind_of(tagged) is Kind.SRIOV_LOGICAL:
        if not is_vlan_on_sriov(txn, first):
            raise errors.network_incompatible_with_vlan_on_sriov(network)
        if pci_ids(txn, first) != pci_ids(txn, tagged):
            raise errors.network_has_incompatible_vlan_on_sriov_pifs(tagged.ref, network)
    elif kind_of(first) is Kind.SRIOV_LOGICAL or is_vlan_on_sriov(txn, first):
        raise errors.network_incompatible_with_vlan_on_bridge(network)


def make(ctx: CallContext, tagged: PIF, tag: int, network: Ref[Network]) -> Ref[VLAN]:
    """Makes the VLAN and its untagged PIF, unattached, without checks."""
    ref: Ref[VLAN] = ctx.new_ref()
    untagged = ctx.txn.create(
        PIF(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            device=tagged.device,
            network=network,
            host=tagged.host,
            MAC=UNTAGGED_MAC,
            MTU=tagged.MTU,
            VLAN=tag,
            metrics=tagged.metrics,
            physical=False,
            currently_attached=False,
            VLAN_master_of=ref,
            IPv6=("",),
            primary_address_type=tagged.primary_address_type,
            managed=True,
        )
    )
    return ctx.txn.create(
        VLAN(ref=ref, uuid=ctx.new_uuid(), tagged_PIF=tagged.ref, untagged_PIF=untagged, tag=tag)
    )


def untagged_pif(ctx: CallContext, ref: Ref[VLAN]) -> Ref[PIF]:
    """The PIF of a VLAN's own network."""
    return ctx.txn.get(VLAN, ref).untagged_PIF


def destroy(ctx: CallContext, *, self: Ref[VLAN]) -> None:
    """Takes a VLAN down and removes it with its untagged PIF; the network stays (spec §12.3).

    Raises:
        PIF_ALREADY_BONDED, PIF_IS_MANAGEMENT_INTERFACE (of a member), HA_IS_ENABLED, REDO_LOG_IS_ENABLED,
        PIF_IS_PHYSICAL, then those of PIF.unplug: in this order.
    """
    txn = ctx.txn
    vlan = txn.get(VLAN, self)
    untagged = txn.find(PIF, vlan.untagged_PIF)
    if untagged is None:
        txn.destroy(VLAN, self)
        return
    ctx.require_live(untagged.host)
    require_not_bonded(ctx, untagged)
    on_member = untagged.host != the_pool(txn).master
    if on_member and untagged.currently_attached and untagged.management:
        raise errors.pif_is_management_interface(untagged.ref)
    require_unprotected(txn, untagged)
    if untagged.VLAN < 0:
        raise errors.pif_is_physical()
    unplug(ctx, self=untagged.ref)
    txn.destroy(VLAN, self)
    txn.destroy(PIF, untagged.ref)


def pool_introduce(
    ctx: CallContext,
    *,
    tagged_PIF: Ref[PIF],
    untagged_PIF: Ref[PIF],
    tag: int,
    other_config: Mapping[str, str],
) -> Ref[VLAN]:
    """Makes a VLAN record of two PIFs, without checks; the PIFs share their metrics (spec §12.4)."""
    txn = ctx.txn
    tagged, untagged = txn.get(PIF, tagged_PIF), txn.get(PIF, untagged_PIF)
    ref = txn.create(
        VLAN(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            tagged_PIF=tagged_PIF,
            untagged_PIF=untagged_PIF,
            tag=tag,
            other_config=other_config,
        )
    )
    txn.update(PIF, untagged_PIF, VLAN_master_of=ref, metrics=tagged.metrics)
    if untagged.metrics not in (tagged.metrics, NULL) and txn.exists(PIFMetrics, untagged.metrics):
        txn.destroy(PIFMetrics, untagged.metrics)
    return ref
