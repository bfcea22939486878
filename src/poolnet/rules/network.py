"""Which networks are there, and what may be done to them? See spec §7."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from poolnet.hostnet.derive_bridge import himn
from poolnet.hostnet.mtu import MTU_BYTES_DEFAULT
from poolnet.model import errors
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vif import VIF
from poolnet.model.classes.vm import VM
from poolnet.model.enums import NetworkDefaultLockingMode, NetworkPurpose
from poolnet.model.types import Ref
from poolnet.rules.attach import attach_network
from poolnet.rules.context import CallContext
from poolnet.rules.defaults import BRIDGE_NAME_MAX, free_bridge

RESERVED_BRIDGES: Final = ("xen", "xapi", "vif", "tap", "eth")
_OPPOSITES: Final = {
    NetworkPurpose.NBD: NetworkPurpose.INSECURE_NBD,
    NetworkPurpose.INSECURE_NBD: NetworkPurpose.NBD,
}


def create(ctx: CallContext, *, record: Mapping[str, Any]) -> Ref[Network]:
    """Makes a network (spec §7.2). Its bridge appears on a host when it is first needed there.

    Raises:
        INVALID_VALUE: The bridge's name is too long or reserved, and the session is not the pool's own.
        BRIDGE_NAME_EXISTS: Another network has that bridge.
    """
    taken = {network.bridge for network in ctx.txn.all(Network)}
    bridge = str(record["bridge"])
    if not bridge:
        bridge = free_bridge(ctx, taken)
    elif not ctx.session.is_pool_session and (
        len(bridge) > BRIDGE_NAME_MAX or bridge.startswith(RESERVED_BRIDGES)
    ):
        raise errors.invalid_value("bridge", bridge)
    if bridge in taken:
        raise errors.bridge_name_exists(bridge)
    mtu = int(record["MTU"])
    return ctx.txn.create(
        Network(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            name_label=record["name_label"],
            name_description=record["name_description"],
            MTU=mtu if mtu > 0 else MTU_BYTES_DEFAULT,
            other_config=record["other_config"],
            bridge=bridge,
            managed=record["managed"],
            tags=record["tags"],
        )
    )


def pool_introduce(
    ctx: CallContext,
    *,
    name_label: str,
    name_description: str,
    MTU: int,
    other_config: Mapping[str, str],
    bridge: str,
    managed: bool,
    purpose: tuple[NetworkPurpose, ...],
) -> Ref[Network]:
    """Makes a network record with exactly these values, without checks (spec §7.3)."""
    return ctx.txn.create(
        Network(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            name_label=name_label,
            name_description=name_description,
            MTU=MTU,
            other_config=other_config,
            bridge=bridge,
            managed=managed,
            purpose=purpose,
        )
    )


def destroy(ctx: CallContext, *, self: Ref[Network]) -> None:
    """Removes a network and the unattached VIFs on it, whose metrics stay (spec §7.4).

    Raises:
        NETWORK_CONTAINS_VIF: VIFs on it are attached or reserved; with all of them.
        NETWORK_CONTAINS_PIF: PIFs are on it; with all of them.
        CANNOT_DESTROY_SYSTEM_NETWORK: It is the host internal management network.
    """
    txn = ctx.txn
    network = txn.get(Network, self)
    vifs = txn.where(VIF, network=self)
    if active := [vif.ref for vif in vifs if vif.currently_attached or vif.reserved]:
        raise errors.network_contains_vif(active)
    if pifs := [pif.ref for pif in txn.where(PIF, network=self)]:
        raise errors.network_contains_pif(pifs)
    if himn(network):
        raise errors.cannot_destroy_system_network(self)
    for vif in vifs:
        txn.destroy(VIF, vif.ref)
    txn.destroy(Network, self)


def set_default_locking_mode(
    ctx: CallContext, *, network: Ref[Network], value: NetworkDefaultLockingMode
) -> None:
    """Says what VIFs without a mode of their own may do (spec §7.5).

    Raises:
        VIF_IN_USE: A VIF on the network is attached.
    """
    ctx.txn.get(Network, network)
    for vif in ctx.txn.where(VIF, network=network):
        if vif.currently_attached:
            raise errors.vif_in_use(network, vif.ref)
    ctx.txn.update(Network, network, default_locking_mode=value)


def add_purpose(ctx: CallContext, *, self: Ref[Network], value: NetworkPurpose) -> None:
    """Gives a network a purpose (spec §7.6). Present already: nothing happens.

    Raises:
        NETWORK_UNMANAGED: Its bridges are not poolnet's.
        NETWORK_INCOMPATIBLE_PURPOSES: Some network of the pool has the opposite purpose.
    """
    network = ctx.txn.get(Network, self)
    if not network.managed:
        raise errors.network_unmanaged(self)
    if value in network.purpose:
        return
    opposite = _OPPOSITES[value]
    if any(opposite in other.purpose for other in ctx.txn.all(Network)):
        raise errors.network_incompatible_purposes(value.value, opposite.value)
    ctx.txn.update(Network, self, purpose=(value, *network.purpose))


def remove_purpose(ctx: CallContext, *, self: Ref[Network], value: NetworkPurpose) -> None:
    """Takes a purpose away (spec §7.6). Absent: nothing happens."""
    network = ctx.txn.get(Network, self)
    ctx.txn.update(Network, self, purpose=tuple(p for p in network.purpose if p is not value))


def attach(ctx: CallContext, *, network: Ref[Network], host: Ref[Host]) -> None:
    """Makes a network usable on a host (spec §7.7); an internal one appears there when a VIF first needs it.

    Raises:
        BRIDGE_NOT_AVAILABLE, CANNOT_PLUG_BOND_SLAVE: as `attach_network`.
    """
    ctx.txn.get(Network, network)
    ctx.require_live(host)
    attach_network(ctx, network, host, force=True)


def attach_for_vm(ctx: CallContext, *, host: Ref[Host], vm: Ref[VM]) -> None:
    """Makes the networks of a VM's VIFs usable on a host (spec §7.7).

    Raises:
        BRIDGE_NOT_AVAILABLE, CANNOT_PLUG_BOND_SLAVE: as `attach_network`.
    """
    ctx.txn.get(VM, vm)
    ctx.require_live(host)
    for vif in ctx.txn.where(VIF, VM=vm):
        attach_network(ctx, vif.network, host, force=False)


def detach_for_vm(ctx: CallContext, *, host: Ref[Host], vm: Ref[VM]) -> None:
    """Forgets that a VM uses networks on a host; internal bridges go with the last VIF by themselves."""
    ctx.txn.get(VM, vm)
    ctx.require_live(host)
