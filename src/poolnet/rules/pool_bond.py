"""How are NICs of all hosts bonded in one call? By their positions: what one host's NICs are, the others' are at the same places.

Not in the reference, whose clients make one bond after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from poolnet.model.classes.bond import Bond
from poolnet.model.classes.host import Host
from poolnet.model.classes.network import Network
from poolnet.model.classes.pif import PIF
from poolnet.model.enums import BondMode
from poolnet.model.types import Ref
from poolnet.rules import bond as bond_rules
from poolnet.rules.context import CallContext
from poolnet.rules.kinds import local_pif
from poolnet.rules.member import matching_members
from poolnet.rules.pool import note_hosts, note_missing

WITHOUT_NICS: Final = "hosts_without_nics"
"""The key of a task's other_config with the uuids of hosts that have none of the NICs, and so no bond."""


def create_bond(
    ctx: CallContext,
    *,
    network: Ref[Network],
    members: tuple[Ref[PIF], ...],
    mode: BondMode = BondMode.BALANCE_SLB,
    properties: Mapping[str, str] = bond_rules.NO_PROPERTIES,
) -> tuple[Ref[Bond], ...]:
    """Bonds NICs of one host, and those at the same positions of every other live host; gives the bonds.

    A host that has some of the NICs gets a bond of these, as it would by joining (spec §20.5). One that has such a bond on
    the network keeps it. Hosts that are down get theirs when they come back, if the coordinator has one.

    Raises:
        (any of Bond.create, of whichever host; nothing changes on any then)
    """
    txn = ctx.txn
    first = bond_rules.create(ctx, network=network, members=members, MAC="", mode=mode, properties=properties)
    made = [first]
    pattern = txn.get(Bond, first)
    its_host = txn.get(PIF, pattern.master).host
    down: list[Host] = []
    without: list[Host] = []
    for host in tuple(txn.all(Host)):
        if host.ref == its_host:
            continue
        theirs = matching_members(txn, pattern, host.ref)
        if not theirs:
            without.append(host)
        elif not ctx.is_live(host.ref):
            down.append(host)
        elif (known := _known(ctx, network, host.ref, theirs)) is not None:
            made.append(known)
        else:
            made.append(
                bond_rules.create(
                    ctx, network=network, members=theirs, MAC="", mode=mode, properties=properties
                )
            )
    note_missing(ctx, down, "its bond")
    note_hosts(ctx, WITHOUT_NICS, without)
    return tuple(made)


def _known(
    ctx: CallContext, network: Ref[Network], host: Ref[Host], members: tuple[Ref[PIF], ...]
) -> Ref[Bond] | None:
    """The bond of exactly these NICs that a host has on the network already."""
    master = local_pif(ctx.txn, network, host)
    if master is None or not master.bond_master_of:
        return None
    bond = master.bond_master_of[0]
    same = {pif.ref for pif in ctx.txn.where(PIF, bond_slave_of=bond)} == set(members)
    return bond if same else None
