"""Have only VLANs come to a host, or gone from it? Then its state is the one before, but for their bridges.

`derive` asks before it looks at a host as a whole. A host has hundreds of VLANs, and a call changes one of them on each host
of the pool: what it takes must not depend on how many others there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

from poolnet.hostnet.derive_bridge import Sources, bridge_of, vlan_sources
from poolnet.hostnet.derive_read import Read
from poolnet.hostnet.derived_before import Changed, Parts, VlanPart
from poolnet.hostnet.state import VLAN_TAG_MAX, Bridge, HostNetwork
from poolnet.model.classes.host import Host
from poolnet.model.classes.pif import PIF
from poolnet.model.classes.vlan import VLAN
from poolnet.model.enums import IpConfigurationMode, Ipv6ConfigurationMode
from poolnet.model.types import Ref, is_null

_BY_NAME: Final = attrgetter("name")


@dataclass(slots=True)
class _Change:
    """What becomes of a host's VLANs. `pifs` are all whose rows have changed; None where a PIF is gone."""

    pifs: dict[Ref[PIF], PIF | None]
    going: list[Ref[PIF]]
    coming: list[tuple[VlanPart, Sources]]


def with_other_vlans(read: Read, host: Ref[Host], parts: Parts, since: Changed) -> HostNetwork | None:
    """The state of a host of which nothing but VLANs without addresses has changed; `parts` are then made those of it.

    None, and nothing happens, where anything else may have changed, or a VLAN may be in the way of something: what such a
    host becomes is for the whole of `derive` to say.
    """
    state = parts.state
    if state is None or not _leave_the_rest(read, parts, since):
        return None
    change = _change(read, host, parts, since)
    if change is None:
        return None
    bridges = list(state.bridges)
    for ref in change.going:
        name = parts.vlans.parts[ref].name
        del bridges[_place(bridges, name)]
        parts.vlans.remove(ref)
    for ref, pif in change.pifs.items():
        parts.bridges.pop(ref, None)
        if pif is None:
            del parts.pifs[ref]
        else:
            parts.pifs[ref] = pif
            parts.networks.add(pif.network)
    for part, sources in change.coming:
        bridge = bridge_of(sources)
        bridges.insert(_place(bridges, bridge.name), bridge)
        parts.vlans.add(sources.pif.ref, part, bridge)
        parts.bridges[sources.pif.ref] = sources, bridge
    parts.state = replace(state, bridges=tuple(bridges))
    return parts.state


def _leave_the_rest(read: Read, parts: Parts, since: Changed) -> bool:
    """Are all VLANs that are attached there, and has no network that counts here changed, nor a tunnel's other end?"""
    return parts.vlans.is_whole and not (
        read.has_sriov or parts.has_tunnels or not since.networks.isdisjoint(parts.networks)
    )


def _change(read: Read, host: Ref[Host], parts: Parts, since: Changed) -> _Change | None:
    """What becomes of the VLANs; None where it is not for here to say."""
    change = _Change({}, [], [])
    for ref in since.pifs_here(host, parts):
        if ref in parts.others:
            if read.view.stored(PIF, ref) != parts.others[ref]:
                return None
            continue  # only the set of its VLANs is another one
        before, now = parts.pifs.get(ref), read.view.find(PIF, ref)
        if not all(pif is None or _is_apart(read, parts, pif) for pif in (before, now)):
            return None
        change.pifs[ref] = now
    known = parts.vlans
    if not {known.of_rows[Ref(ref)] for ref in since.vlans if ref in known.of_rows} <= change.pifs.keys():
        return None
    change.going += [ref for ref in change.pifs if ref in known.parts]
    gone = [known.parts[ref] for ref in change.going]
    if not all(_stays(parts, part.tagged) for part in gone):
        return None
    names, tags = {part.name for part in gone}, {(part.lower, part.tag) for part in gone}
    for pif in change.pifs.values():
        if pif is None or not (pif.currently_attached and pif.managed):
            continue
        come = _come(read, parts, pif)
        if come is None:
            return None
        part, _ = come
        tag = part.lower, part.tag
        if (part.name not in names and _has(parts, part.name)) or (tag not in tags and tag in known.tags):
            return None
        if any(part.name == other.name or tag == (other.lower, other.tag) for other, _ in change.coming):
            return None
        change.coming.append(come)
    return change


def _is_apart(read: Read, parts: Parts, pif: PIF) -> bool:
    """Is it a VLAN, and is nothing here but its bridge made from it?

    Without addresses it gives the host neither a default route nor name servers. Guests may be on its network, which would
    have a bridge without it as well.
    """
    network = read.networks.get(pif.network)
    return not (
        pif.physical
        or is_null(pif.VLAN_master_of)
        or pif.management
        or pif.ip_configuration_mode is not IpConfigurationMode.NONE
        or pif.ipv6_configuration_mode is not Ipv6ConfigurationMode.NONE
        or network is None
        or network.bridge in parts.names_of_others
        or network.ref in read.with_purpose
        or network.ref in read.link_values
    )


def _come(read: Read, parts: Parts, pif: PIF) -> tuple[VlanPart, Sources] | None:
    """A VLAN on a NIC or bond that has had some before; None otherwise."""
    network = read.networks.get(pif.network)
    vlan = read.view.find(VLAN, pif.VLAN_master_of)
    lower = parts.vlans.lowers.get(vlan.tagged_PIF) if vlan is not None else None
    if network is None or not network.bridge or vlan is None or lower is None:
        return None
    if not 0 <= vlan.tag <= VLAN_TAG_MAX or not _has(parts, lower.bridge):
        return None
    part = VlanPart(network.ref, vlan.ref, vlan.tagged_PIF, lower.bridge, vlan.tag, network.bridge)
    return part, vlan_sources(pif, network, read.pool, lower, vlan.tag)


def _stays(parts: Parts, tagged: Ref[PIF]) -> bool:
    """Has a NIC or bond its bridge also without any VLANs?"""
    pif = parts.others.get(tagged)
    return pif is not None and pif.currently_attached and pif.managed


def _has(parts: Parts, name: str) -> bool:
    bridges = parts.state.bridges if parts.state is not None else ()
    place = _place(bridges, name)
    return place < len(bridges) and bridges[place].name == name


def _place(bridges: Sequence[Bridge], name: str) -> int:
    """Where a bridge of that name is, or would be, among bridges sorted by name."""
    return bisect_left(bridges, name, key=_BY_NAME)
