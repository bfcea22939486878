"""When may a PIF be plugged or unplugged, and what goes with it? See spec §8.8, §8.9. The VLAN and tunnel rules ask too."""

from __future__ import annotations

from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode
from poolnet.model.types import Ref
from poolnet.rules.attach import bring_down, bring_up, require_unused
from poolnet.rules.context import CallContext
from poolnet.rules.features import require_unprotected
from poolnet.rules.kinds import Kind, below, is_bond_slave, kind_of


def require_not_bonded(ctx: CallContext, pif: PIF) -> None:
    """Lets the call go on unless the PIF belongs to a bond.

    Raises:
        PIF_ALREADY_BONDED: It is a member of a bond that exists, or a bond's master.
    """
    if is_bond_slave(ctx.txn, pif) or pif.bond_master_of:
        raise errors.pif_already_bonded(pif.ref)


def plug(ctx: CallContext, *, self: Ref[PIF]) -> None:
    """Attaches a PIF, and what it stands on where that is needed (spec §8.8). Attached already: brought up to date.

    Raises:
        PIF_UNMANAGED: It is not poolnet's to attach.
        HANDLE_INVALID: A tunnel whose transport is gone.
        TRANSPORT_PIF_NOT_CONFIGURED: A tunnel whose transport has no IPv4 configuration.
        CANNOT_PLUG_BOND_SLAVE: It is a bond's member.
    """
    txn = ctx.txn
    pif = txn.get(PIF, self)
    ctx.require_live(pif.host)
    if not pif.managed:
        raise errors.pif_unmanaged(self)
    lower = below(txn, pif)
    match kind_of(pif):
        case Kind.TUNNEL_ACCESS:
            if lower is None:
                raise errors.handle_invalid("PIF", txn.get(Tunnel, pif.tunnel_access_PIF_of[0]).transport_PIF)
            if lower.ip_configuration_mode is IpConfigurationMode.NONE:
                raise errors.transport_pif_not_configured(lower.ref)
            plug(ctx, self=lower.ref)
        case Kind.VLAN if lower is not None and kind_of(lower) is Kind.SRIOV_LOGICAL:
            plug(ctx, self=lower.ref)
        case Kind.SRIOV_LOGICAL if lower is not None:
            plug(ctx, self=lower.ref)
        case Kind.PHYSICAL if is_bond_slave(txn, pif):
            if not pif.sriov_physical_PIF_of:
                raise errors.cannot_plug_bond_slave(self)
            plug(ctx, self=txn.get(Bond, pif.bond_slave_of).master)
            return
    bring_up(ctx, self)


def unplug(ctx: CallContext, *, self: Ref[PIF]) -> None:
    """Takes a PIF down, and what stands on it where that cannot stay (spec §8.9). VLANs on it stay up.

    Raises:
        PIF_UNMANAGED, HA_IS_ENABLED, REDO_LOG_IS_ENABLED, PIF_IS_MANAGEMENT_INTERFACE, VIF_IN_USE,
        PIF_DOES_NOT_ALLOW_UNPLUG: in this order; of the PIF itself, then of each PIF that goes with it.
    """
    txn = ctx.txn
    pif = txn.get(PIF, self)
    ctx.require_live(pif.host)
    if not pif.managed:
        raise errors.pif_unmanaged(self)
    require_unprotected(txn, pif)
    if pif.management:
        raise errors.pif_is_management_interface(self)
    require_unused(ctx, pif)
    if pif.disallow_unplug:
        raise errors.pif_does_not_allow_unplug(self)
    for upper in _goes_with(ctx, pif):
        unplug(ctx, self=upper)
    if not is_bond_slave(txn, pif):
        bring_down(ctx, self)


def _goes_with(ctx: CallContext, pif: PIF) -> list[Ref[PIF]]:
    """The PIFs that cannot stay up when this one goes down."""
    txn = ctx.txn
    refs = [t.access_PIF for ref in pif.tunnel_transport_PIF_of if (t := txn.find(Tunnel, ref))]
    match kind_of(pif):
        case Kind.BOND_MASTER:
            members = txn.where(PIF, bond_slave_of=pif.bond_master_of[0])
            refs += [member.ref for member in members if member.sriov_physical_PIF_of]
        case Kind.SRIOV_LOGICAL:
            refs += [v.untagged_PIF for ref in pif.VLAN_slave_of if (v := txn.find(VLAN, ref))]
        case Kind.PHYSICAL:
            refs += [s.logical_PIF for ref in pif.sriov_physical_PIF_of if (s := txn.find(NetworkSriov, ref))]
    return [ref for ref in refs if txn.exists(PIF, ref)]
