"""What do this host's bonds do just now? `poolnet bonds` on a host's console.

The host daemon is asked directly. The XenAPI counts a bond's links and no more; this also tells which members carry traffic,
and what LACP has agreed on with the switch.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence

import msgspec

from poolnet.hostd.config import Paths
from poolnet.hostnet.facts import BondFacts, LacpFacts
from poolnet.hostnet.protocol import Observation, Observe
from poolnet.pool.hostlink import HostGone, HostLink, HostRefused


def main(*, as_json: bool) -> int:
    """Print the bonds; 0 unless the daemon does not answer."""
    try:
        facts = asyncio.run(_ask())
    except (HostGone, HostRefused) as error:
        sys.stderr.write(f"poolnet: poolnet-hostd does not answer ({error}).\n")
        return 1
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(facts)).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines(facts)))
    return 0


async def _ask() -> tuple[BondFacts, ...]:
    link = HostLink(Paths().socket)
    try:
        return (await link.request(Observe(), Observation)).facts.bonds
    finally:
        await link.close()


def lines(bonds: Sequence[BondFacts]) -> Iterator[str]:
    """The bonds for people: a line for each, and one for each member."""
    if not bonds:
        yield "This host has no bond of more than one NIC."
    for bond in bonds:
        up = f"{len(bond.members_up)}/{len(bond.members)} up"
        yield f"{bond.device}: {up}{_partner(bond.lacp)}"
        for name in bond.members:
            yield f"  {name:<15} {_state(bond, name):<8}{_agreed(bond.lacp, name)}"


def _partner(lacp: LacpFacts | None) -> str:
    if lacp is None:
        return ""
    return f", LACP partner {lacp.partner_system}" if lacp.partner_system else ", no LACP partner"


def _state(bond: BondFacts, name: str) -> str:
    if name not in bond.members_up:
        return "no link"
    if name not in bond.enabled:
        return "waiting"
    return "active" if name in bond.active else "standby"


def _agreed(lacp: LacpFacts | None, name: str) -> str:
    member = next((one for one in lacp.members if one.name == name), None) if lacp else None
    if member is None:
        return ""
    if not member.partner_system:
        return "  heard nothing of a partner"
    words = "in the aggregate" if member.attached else "not in the aggregate"
    late = "" if member.current else ", partner is silent"
    return f"  {words}, partner {member.partner_system} key {member.partner_key} port {member.partner_port}{late}"
