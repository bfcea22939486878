"""When may NICs be bonded, and what becomes of what they carry? See spec §11. What is moved is in `bond_move`.

Bonding moves IPv6 as well as IPv4, and keeps the other_config of what it makes anew, unlike the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from poolnet.model import errors
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.pif_metrics import PIFMetrics
from poolnet.model.enums import BondMode
from poolnet.model.types import NULL, Ref, is_null
from poolnet.rules.addresses import is_mac, setify
from poolnet.rules.attach import bring_up, refresh_address
from poolnet.rules.bond_move import (
    move_addresses,
    move_local_vifs,
    move_management,
    move_tunnels,
    move_vlans,
)
from poolnet.rules.context import CallContext
from poolnet.rules.defaults import lowest_free
from poolnet.rules.features import the_pool
from poolnet.rules.kinds import (
    Kind,
    has_ip_configuration,
    is_bond_slave,
    is_sriov_network,
    kind_of,
)
from poolnet.rules.vlan import require_connectable

NO_PROPERTIES: Final[Mapping[str, str]] = {}
MTU_UNKNOWN: Final = -1  # spec §8.2: until it is first brought up


def _is_int(text: str) -> bool:
    try:
        int(text, 0)
    except ValueError:
        return False
    return True


_LACP: Final[Mapping[str, Callable[[str], bool]]] = {
    "hashing_algorithm": lambda text: text in ("src_mac", "tcpudp_ports"),
    "lacp-time": lambda text: text in ("slow", "fast"),
    "lacp-aggregation-key": _is_int,
    "lacp-fallback-ab": lambda text: text in ("true", "false"),
}
_LACP_DEFAULTS: Final = {
    "hashing_algorithm": "tcpudp_ports",
    "lacp-time": "slow",
    "lacp-fallback-ab": "true",
}


def _is_valid(mode: BondMode, key: str, value: str) -> bool:
    return mode is BondMode.LACP and key in _LACP and _LACP[key](value)


def require_property(mode: BondMode, key: str, value: str) -> None:
    """Lets a property of a bond pass (spec §11.2).

    Raises:
        INVALID_VALUE: Bonds of this mode have no such property, or no such value of it.
    """
    if not _is_valid(mode, key, value):
        raise errors.invalid_value("properties", f"{key} = {value}")


def completed(mode: BondMode, properties: Mapping[str, str]) -> dict[str, str]:
    """The properties with the defaults of those that are missing."""
    if mode is not BondMode.LACP:
        return dict(properties)
    return {**properties, **{k: v for k, v in _LACP_DEFAULTS.items() if k not in properties}}


def create(
    ctx: CallContext,
    *,
    network: Ref[Network],
    members: tuple[Ref[PIF], ...],
    MAC: str,
    mode: BondMode = BondMode.BALANCE_SLB,
    properties: Mapping[str, str] = NO_PROPERTIES,
) -> Ref[Bond]:
    """Bonds NICs of a host, and moves what they carry to the bond (spec §11.3).

    Raises:
        PIF_BOND_NEEDS_MORE_MEMBERS, HANDLE_INVALID, HOST_OFFLINE, NETWORK_UNMANAGED, NETWORK_ALREADY_CONNECTED,
        NETWORK_INCOMPATIBLE_WITH_BOND, MAC_INVALID, INVALID_VALUE, PIF_INCOMPATIBLE_PRIMARY_ADDRESS_TYPE, PIF_UNMANAGED,
        PIF_ALREADY_BONDED, PIF_VLAN_EXISTS, IS_TUNNEL_ACCESS_PIF, PIF_IS_SRIOV_LOGICAL,
        HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE, PIF_CANNOT_BOND_CROSS_HOST, INCOMPATIBLE_PIF_PROPERTIES,
        PIF_BOND_MORE_THAN_ONE_IP: in this order.
    """
    txn = ctx.txn
    if not members:
        raise errors.pif_bond_needs_more_members()
    rows = [txn.get(PIF, ref) for ref in _without_repetitions(members)]
    host = txn.get(PIF, members[0]).host
    ctx.require_live(host)
    require_connectable(ctx, network, host)
    if is_sriov_network(txn, network):
        raise errors.network_incompatible_with_bond(network)
    if MAC and not is_mac(MAC):
        raise errors.mac_invalid(MAC)
    for key, value in properties.items():
        require_property(mode, key, value)
    primary = _primary(rows)
    _require_bondable(ctx, rows, primary)
    bond = _make(ctx, rows, primary, network, MAC, mode, completed(mode, properties))
    _take_over(ctx, bond, rows, primary)
    return bond.ref


def _without_repetitions(refs: Sequence[Ref[PIF]]) -> tuple[Ref[PIF], ...]:
    return tuple(Ref(text) for text in setify(refs))


def _primary(members: Sequence[PIF]) -> PIF:
    """The member whose addresses and MAC the bond gets."""
    management = (pif for pif in members if pif.management)
    configured = (pif for pif in members if has_ip_configuration(pif))
    return next(management, None) or next(configured, None) or members[0]


def _require_bondable(ctx: CallContext, members: Sequence[PIF], primary: PIF) -> None:
    for pif in members:
        if pif.primary_address_type is not primary.primary_address_type:
            raise errors.pif_incompatible_primary_address_type(pif.ref)
    ha_enabled = the_pool(ctx.txn).ha_enabled
    for pif in members:
        _require_member(ctx, pif)
        if ha_enabled and pif.management:
            raise errors.ha_cannot_change_bond_status_of_mgmt_iface()
    if len({pif.host for pif in members}) > 1:
        raise errors.pif_cannot_bond_cross_host()
    if any(pif.properties != primary.properties for pif in members):
        raise errors.incompatible_pif_properties()
    if sum(has_ip_configuration(pif) for pif in members) > 1:
        raise errors.pif_bond_more_than_one_ip()


def _require_member(ctx: CallContext, pif: PIF) -> None:
    if not pif.managed:
        raise errors.pif_unmanaged(pif.ref)
    kind = kind_of(pif)
    if is_bond_slave(ctx.txn, pif) or kind is Kind.BOND_MASTER:
        raise errors.pif_already_bonded(pif.ref)
    match kind:
        case Kind.VLAN:
            raise errors.pif_vlan_exists(pif.device)
        case Kind.TUNNEL_ACCESS:
            raise errors.is_tunnel_access_pif(pif.ref)
        case Kind.SRIOV_LOGICAL:
            raise errors.pif_is_sriov_logical(pif.ref)


def _make(
    ctx: CallContext,
    members: Sequence[PIF],
    primary: PIF,
    network: Ref[Network],
    mac: str,
    mode: BondMode,
    properties: Mapping[str, str],
) -> Bond:
    """Makes the bond and its master PIF, unattached, and marks the members."""
    txn = ctx.txn
    taken = {pif.device for pif in txn.where(PIF, host=primary.host)}
    metrics = txn.create(PIFMetrics(ref=ctx.new_ref(), uuid=ctx.new_uuid()))
    master = txn.create(
        PIF(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            device=lowest_free("bond", taken),
            network=network,
            host=primary.host,
            MAC=mac or primary.MAC,
            MTU=MTU_UNKNOWN,
            VLAN=-1,
            metrics=metrics,
            physical=False,
            currently_attached=False,
            IPv6=("",),
            properties=primary.properties,
            primary_address_type=primary.primary_address_type,
            managed=True,
        )
    )
    ref = txn.create(
        Bond(
            ref=ctx.new_ref(),
            uuid=ctx.new_uuid(),
            master=master,
            primary_slave=primary.ref,
            mode=mode,
            properties=properties,
            auto_update_mac=not mac,
        )
    )
    for pif in members:
        txn.update(PIF, pif.ref, bond_slave_of=ref)
    return txn.get(Bond, ref)


def _take_over(ctx: CallContext, bond: Bond, members: Sequence[PIF], primary: PIF) -> None:
    """Moves to the master what the members carried."""
    txn = ctx.txn
    master = txn.get(PIF, bond.master)
    move_addresses(ctx, primary.ref, master.ref)
    for pif in members:
        if pif.management:
            move_management(ctx, pif.ref, master.ref)
    bring_up(ctx, master.ref)
    for pif in members:
        move_vlans(ctx, pif.ref, master.ref)
    for pif in members:
        move_tunnels(ctx, pif.ref, master.ref)
    move_local_vifs(ctx, master.host, [pif.network for pif in members], master.network)
    if any(pif.disallow_unplug for pif in members):
        txn.update(PIF, master.ref, disallow_unplug=True)
        for pif in members:
            txn.update(PIF, pif.ref, disallow_unplug=False)
    refresh_address(ctx, master.host)


def destroy(ctx: CallContext, *, self: Ref[Bond]) -> None:
    """Dissolves a bond, and moves what it carried to its primary member; its network stays (spec §11.4).

    Raises:
        HA_CANNOT_CHANGE_BOND_STATUS_OF_MGMT_IFACE: It is the management interface, and high availability is on.
    """
    txn = ctx.txn
    bond = txn.get(Bond, self)
    master = txn.get(PIF, bond.master)
    ctx.require_live(master.host)
    if the_pool(txn).ha_enabled and master.management:
        raise errors.ha_cannot_change_bond_status_of_mgmt_iface()
    members = txn.where(PIF, bond_slave_of=self)
    primary = txn.find(PIF, bond.primary_slave) or (_primary(members) if members else None)
    if primary is not None:
        _give_back(ctx, master, primary, [pif.ref for pif in members])
    for pif in members:
        txn.update(PIF, pif.ref, bond_slave_of=NULL)
    txn.destroy(Bond, self)
    txn.destroy(PIF, master.ref)
    refresh_address(ctx, master.host)


def _give_back(ctx: CallContext, master: PIF, primary: PIF, members: Sequence[Ref[PIF]]) -> None:
    """Moves to the primary member what the master carried, and brings the members up if the master was."""
    txn = ctx.txn
    move_addresses(ctx, master.ref, primary.ref)
    if master.management:
        move_management(ctx, master.ref, primary.ref)
    if master.currently_attached:
        for ref in members:
            bring_up(ctx, ref)
    move_vlans(ctx, master.ref, primary.ref)
    move_local_vifs(ctx, master.host, [master.network], primary.network)
    move_tunnels(ctx, master.ref, primary.ref)
    if master.disallow_unplug:
        txn.update(PIF, primary.ref, disallow_unplug=True)


def set_mode(ctx: CallContext, *, self: Ref[Bond], value: BondMode) -> None:
    """Changes how a bond uses its members; properties that the mode does not have are dropped (spec §11.7)."""
    bond = ctx.txn.get(Bond, self)
    ctx.require_live(ctx.txn.get(PIF, bond.master).host)
    kept = {k: v for k, v in bond.properties.items() if _is_valid(value, k, v)}
    ctx.txn.update(Bond, self, mode=value, properties=completed(value, kept))
    bring_up(ctx, bond.master)


def set_property(ctx: CallContext, *, self: Ref[Bond], name: str, value: str) -> None:
    """Changes a property of a bond (spec §11.8).

    Raises:
        INVALID_VALUE: Bonds of its mode have no such property, or no such value of it.
    """
    bond = ctx.txn.get(Bond, self)
    ctx.require_live(ctx.txn.get(PIF, bond.master).host)
    require_property(bond.mode, name, value)
    rest = {k: v for k, v in bond.properties.items() if k != name}
    ctx.txn.update(Bond, self, properties={name: value, **rest})
    bring_up(ctx, bond.master)


def repair(ctx: CallContext, host: Ref[Host]) -> None:
    """Brings a host's bonds in order at its start: what is found on members belongs to their master (spec §11.9)."""
    txn = ctx.txn
    for pif in txn.where(PIF, host=host):
        if not is_null(pif.bond_slave_of) and not txn.exists(Bond, pif.bond_slave_of):
            txn.update(PIF, pif.ref, bond_slave_of=NULL)
    masters = [pif for pif in txn.where(PIF, host=host) if pif.bond_master_of]
    for master in masters:
        bond = txn.get(Bond, master.bond_master_of[0])
        members = txn.where(PIF, bond_slave_of=bond.ref)
        if members and not txn.exists(PIF, bond.primary_slave):
            txn.update(Bond, bond.ref, primary_slave=_primary(members).ref)
        for pif in members:
            if pif.management:
                move_addresses(ctx, pif.ref, master.ref)
                move_management(ctx, pif.ref, master.ref)
            move_vlans(ctx, pif.ref, master.ref)
            move_tunnels(ctx, pif.ref, master.ref)
        move_local_vifs(ctx, host, [pif.network for pif in members], master.network)
