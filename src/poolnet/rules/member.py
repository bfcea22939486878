"""What does a member get from the coordinator when it starts? Its bonds, SR-IOV networks, VLANs and tunnels (spec §20.5).

Members are matched by the positions of NICs, which bridges have their names from. Nothing is ever removed, but for bonds
whose members differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from poolnet.db.txn import Txn, View
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.network_sriov import NetworkSriov
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.tunnel import Tunnel
from poolnet.model.classes.vlan import VLAN
from poolnet.model.types import Ref, Value, is_null
from poolnet.rules import bond as bond_rules
from poolnet.rules import network_sriov
from poolnet.rules import tunnel as tunnel_rules
from poolnet.rules import vlan as vlan_rules
from poolnet.rules.context import CallContext
from poolnet.rules.defaults import position_of_bridge
from poolnet.rules.kinds import Kind, kind_of, local_pif

MAINTENANCE: Final = "MAINTENANCE_MODE"
NO_SYNC: Final = "nosync"

Copying = tuple[str, Callable[..., Any], Mapping[str, Value]]
"""A call to make: its message, its rule, its arguments."""


def enable(txn: Txn, host: Ref[Host]) -> None:
    """Lets VMs start on a host that has started, unless it is being maintained."""
    row = txn.find(Host, host)
    if row is not None and MAINTENANCE not in row.other_config:
        txn.update(Host, host, enabled=True)


def to_copy(view: View, host: Ref[Host], coordinator: Ref[Host]) -> Iterator[Copying]:
    """The calls that give a member what the coordinator has, in order.

    To be made one after the other: each is decided on what the ones before have left in the database.
    """
    for bond, members in bonds_to_copy(view, host, coordinator):
        master = view.get(PIF, bond.master)
        there = local_pif(view, master.network, host)
        if there is not None and there.bond_master_of:
            yield "Bond.destroy", bond_rules.destroy, {"self": there.bond_master_of[0]}
        yield (
            "Bond.create",
            bond_rules.create,
            {
                "network": master.network,
                "members": members,
                "MAC": "",
                "mode": bond.mode,
                "properties": bond.properties,
            },
        )
    for logical, physical in sriovs_to_copy(view, host, coordinator):
        arguments: dict[str, Value] = {"pif": physical.ref, "network": logical.network}
        yield "network_sriov.create", network_sriov.create, arguments
    row = view.find(Host, host)
    if row is None:
        return
    if row.other_config.get("sync_vlans") != NO_SYNC:
        yield "host.sync_vlans", sync_vlans, {"host": host}
    yield "host.sync_tunnels", sync_tunnels, {"host": host}


def bonds_to_copy(
    view: View, host: Ref[Host], coordinator: Ref[Host]
) -> Iterator[tuple[Bond, tuple[Ref[PIF], ...]]]:
    """The coordinator's bonds that a member has not, and the NICs of the member for each."""
    for bond in _bonds(view, coordinator):
        members = matching_members(view, bond, host)
        master = view.find(PIF, bond.master)
        if not members or master is None:
            continue
        there = local_pif(view, master.network, host)
        if there is not None and there.bond_master_of:
            known = {pif.ref for pif in view.where(PIF, bond_slave_of=there.bond_master_of[0])}
            if known == set(members):
                continue
        yield bond, members


def sriovs_to_copy(view: View, host: Ref[Host], coordinator: Ref[Host]) -> Iterator[tuple[PIF, PIF]]:
    """The coordinator's SR-IOV networks (their logical PIFs) that a member has not, and its NIC at the same position."""
    for logical in view.where(PIF, host=coordinator):
        sriov = (
            view.find(NetworkSriov, logical.sriov_logical_PIF_of[0]) if logical.sriov_logical_PIF_of else None
        )
        theirs = view.find(PIF, sriov.physical_PIF) if sriov is not None else None
        if theirs is None or local_pif(view, logical.network, host) is not None:
            continue
        place = _position(view, theirs)
        mine = [
            pif for pif in view.where(PIF, host=host) if pif.physical and _position(view, pif) == place >= 0
        ]
        if len(mine) == 1:
            yield logical, mine[0]


def _bonds(view: View, host: Ref[Host]) -> tuple[Bond, ...]:
    masters = [pif for pif in view.where(PIF, host=host) if pif.bond_master_of]
    bonds = (view.find(Bond, pif.bond_master_of[0]) for pif in masters)
    return tuple(bond for bond in bonds if bond is not None)


def matching_members(view: View, bond: Bond, host: Ref[Host]) -> tuple[Ref[PIF], ...]:
    """The NICs of a host at the positions of another host's bond members; the one that gives the bond its MAC is first."""
    master = view.find(PIF, bond.master)
    theirs = {_position(view, pif): pif for pif in view.where(PIF, bond_slave_of=bond.ref)}
    mine = {_position(view, pif): pif for pif in view.where(PIF, host=host) if pif.physical and pif.managed}
    places = sorted(place for place in theirs.keys() & mine.keys() if place >= 0)
    same_mac = [place for place in places if master is not None and theirs[place].MAC == master.MAC]
    if len(same_mac) == 1:
        places.sort(key=lambda place: place != same_mac[0])
    return tuple(mine[place].ref for place in places)


def _position(view: View, pif: PIF) -> int:
    network = view.find(Network, pif.network)
    return position_of_bridge(network.bridge) if network is not None else -1


def sync_vlans(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Makes the VLANs on a member that the coordinator has, unplugged and without the checks of VLAN.create but trunks.

    VIF.plug and VM.start plug them when a VM needs them.
    """
    ctx.txn.get(Host, host)
    for vlan, theirs, base in tuple(vlans_to_copy(ctx.txn, host, ctx.local_host)):
        made = vlan_rules.make(ctx, base, vlan.tag, theirs.network)
        ctx.txn.update(VLAN, made, other_config=vlan.other_config)


def vlans_to_copy(view: View, host: Ref[Host], coordinator: Ref[Host]) -> Iterator[tuple[VLAN, PIF, PIF]]:
    """The coordinator's VLANs that a member has not, with the coordinator's PIFs of them, and the member's PIFs below."""
    for pif in view.where(PIF, host=coordinator):
        vlan = view.find(VLAN, pif.VLAN_master_of) if not is_null(pif.VLAN_master_of) else None
        tagged = view.find(PIF, vlan.tagged_PIF) if vlan is not None else None
        if vlan is None or tagged is None or local_pif(view, pif.network, host) is not None:
            continue
        bases = view.where(PIF, network=tagged.network, host=host)
        if len(bases) != 1 or not is_null(bases[0].bond_slave_of):
            continue
        if view.where(VLAN, tagged_PIF=bases[0].ref, tag=vlan.tag) or not view.exists(Network, pif.network):
            continue
        if not vlan_rules.has_trunks(view, pif.network):
            yield vlan, pif, bases[0]


def sync_tunnels(ctx: CallContext, *, host: Ref[Host]) -> None:
    """Makes the tunnels on a member that the coordinator has, unplugged."""
    ctx.txn.get(Host, host)
    for pif, transport in tuple(tunnels_to_copy(ctx.txn, host, ctx.local_host)):
        tunnel = ctx.txn.get(Tunnel, pif.tunnel_access_PIF_of[0])
        tunnel_rules.make(ctx, transport, pif.network, tunnel.protocol)


def tunnels_to_copy(view: View, host: Ref[Host], coordinator: Ref[Host]) -> Iterator[tuple[PIF, PIF]]:
    """The coordinator's tunnels (their access PIFs) that a member has not, and the member's PIF that would carry each."""
    for pif in view.where(PIF, host=coordinator):
        if kind_of(pif) is not Kind.TUNNEL_ACCESS or local_pif(view, pif.network, host) is not None:
            continue
        tunnel = view.get(Tunnel, pif.tunnel_access_PIF_of[0])
        theirs = view.find(PIF, tunnel.transport_PIF)
        transport = local_pif(view, theirs.network, host) if theirs is not None else None
        if transport is not None and view.exists(Network, pif.network):
            yield pif, transport
