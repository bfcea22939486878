"""What will a host get when it comes back? What the coordinator has and a host that is down lacks, in words."""

from __future__ import annotations

from collections.abc import Iterator

from poolnet.db.txn import View
from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.types import Ref
from poolnet.rules import member
from poolnet.rules.context import CallContext
from poolnet.rules.features import the_pool


def explain_missing(ctx: CallContext, *, self: Ref[Host]) -> tuple[str, ...]:
    """What a host that is down gets when it comes back; nothing of one that is there, which has it or is being given it."""
    ctx.txn.get(Host, self)
    return () if ctx.is_live(self) else missing(ctx.txn, self)


def missing(view: View, host: Ref[Host]) -> tuple[str, ...]:
    """What the coordinator has that a host lacks, in the order in which the host gets it."""
    return tuple(_missing(view, host, the_pool(view).master))


def _missing(view: View, host: Ref[Host], coordinator: Ref[Host]) -> Iterator[str]:
    for bond, members in member.bonds_to_copy(view, host, coordinator):
        devices = sorted(pif.device for ref in members if (pif := view.find(PIF, ref)) is not None)
        yield f"bond of {', '.join(devices)} for {_network_of(view, bond)}"
    for logical, physical in member.sriovs_to_copy(view, host, coordinator):
        yield f"SR-IOV on {physical.device} for {_name(view, logical.network)}"
    for vlan, theirs, base in member.vlans_to_copy(view, host, coordinator):
        yield f"VLAN {vlan.tag} on {base.device} for {_name(view, theirs.network)}"
    for theirs, _ in member.tunnels_to_copy(view, host, coordinator):
        yield f"tunnel for {_name(view, theirs.network)}"


def _network_of(view: View, bond: Bond) -> str:
    master = view.find(PIF, bond.master)
    return _name(view, master.network) if master is not None else "no network"


def _name(view: View, network: Ref[Network]) -> str:
    row = view.find(Network, network)
    return f"network {row.name_label!r}" if row is not None else "a network that is gone"
