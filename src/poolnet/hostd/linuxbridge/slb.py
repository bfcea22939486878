"""Which rules make a bond of the mode balance-xor a balance-slb bond, to switches that know nothing of it?

Each member is a plain port of the switch in the cabinet, so what the host floods out of one comes back by the others,
and what the switch floods comes in by all of them. So only one member takes broadcasts and multicasts in, and what has
a source address that the bond itself has sent lately is dropped (dataplane.md §F7). Pure; `backend` loads the text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from poolnet.hostd.linuxbridge import bonds
from poolnet.hostd.linuxbridge.names import BOND, is_ours
from poolnet.hostd.netlink_codec import Link
from poolnet.hostnet.state import BondMode, HostNetwork

TABLE = "netdev poolnet_slb"
_REMEMBERED_S = 5
_ADDRESSES_MAX = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class SlbBond:
    """A bond with its members that do not take floods in."""

    name: str
    deaf: tuple[str, ...]


def slb_bonds(links: Mapping[str, Link], asked: HostNetwork) -> tuple[SlbBond, ...]:
    """The balance-slb bonds that are there. The first member that carries traffic takes floods in."""
    found = []
    for bridge in asked.bridges:
        uplink = bridge.uplink
        if uplink is None or uplink.bond is None or uplink.bond.mode is not BondMode.BALANCE_SLB:
            continue
        bond = links.get(uplink.device)
        if bond is None or not is_ours(bond, BOND):
            continue
        members = sorted((m for m in links.values() if m.master == bond.index), key=lambda link: link.name)
        works = [m.name for m in members if m.has_carrier and m.port_number(bonds.MEMBER_LINK) == 0]
        hears = works[0] if works else ""
        found.append(SlbBond(name=bond.name, deaf=tuple(m.name for m in members if m.name != hears)))
    return tuple(found)


def ruleset(found: Iterable[SlbBond]) -> str:
    """The whole table for these bonds, for one `nft -f -`. What was in it is gone, what was learnt too."""
    lines = [f"table {TABLE}", f"delete table {TABLE}"]
    bodies = [line for place, bond in enumerate(found) for line in _of_bond(place, bond)]
    if bodies:
        lines += [f"table {TABLE} {{", *bodies, "}"]
    return "\n".join((*lines, ""))


def _of_bond(place: int, bond: SlbBond) -> Iterable[str]:
    """The rules for one bond; sets and chains are numbered, for a link's name may hold any character."""
    options = f"size {_ADDRESSES_MAX}; flags dynamic,timeout; timeout {_REMEMBERED_S}s;"
    tagged, untagged = f"tagged{place}", f"untagged{place}"
    yield f"  set {tagged} {{ typeof ether saddr . vlan id; {options} }}"
    yield f"  set {untagged} {{ typeof ether saddr; {options} }}"
    yield f"  chain out{place} {{"
    yield f'    type filter hook egress device "{bond.name}" priority 0; policy accept;'
    yield f"    ether type 8021q update @{tagged} {{ ether saddr . vlan id }} accept"
    yield f"    update @{untagged} {{ ether saddr }}"
    yield "  }"
    yield f"  chain in{place} {{"
    yield f'    type filter hook ingress device "{bond.name}" priority 0; policy accept;'
    yield f"    ether type 8021q ether saddr . vlan id @{tagged} drop"
    yield "    ether type 8021q accept"
    yield f"    ether saddr @{untagged} drop"
    yield "  }"
    for number, member in enumerate(bond.deaf):
        yield f"  chain deaf{place}_{number} {{"
        yield f'    type filter hook ingress device "{member}" priority 0; policy accept;'
        yield "    meta pkttype { broadcast, multicast } drop"
        yield "  }"
