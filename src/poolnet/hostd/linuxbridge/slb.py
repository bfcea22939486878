"""What makes a bond of the mode balance-xor a balance-slb bond, to switches that know nothing of it?

Each member is a plain port of the switch in the cabinet, so what the host floods out of one comes back by the others,
and what the switch floods comes in by all of them. So only one member takes broadcasts and multicasts in (the others are
deaf), and what has a source address that the bond itself has sent lately is dropped (dataplane.md §F7). Pure; `backend`
loads the rules and makes members deaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from poolnet.hostd.linuxbridge import bonds
from poolnet.hostd.linuxbridge.names import BOND, is_ours, vlan_device
from poolnet.hostd.netlink_codec import Link
from poolnet.hostnet.state import BondMode, HostNetwork

TABLE = "bridge poolnet_slb"
_REMEMBERED_S = 5
_ADDRESSES_MAX = 65536
_PRIORITY = -310  # before the locks


@dataclass(frozen=True, slots=True, kw_only=True)
class Slb:
    """The balance-slb bonds of a host, and their members that take no floods in."""

    bonds: tuple[str, ...] = ()
    deaf: frozenset[str] = frozenset()


def slb_of(links: Mapping[str, Link], asked: HostNetwork) -> Slb:
    """What there should be. The first member of each bond that carries traffic takes floods in."""
    names, deaf = [], set()
    for bridge in asked.bridges:
        uplink = bridge.uplink
        if uplink is None or uplink.bond is None or uplink.bond.mode is not BondMode.BALANCE_SLB:
            continue
        bond = links.get(uplink.device)
        if bond is None or not is_ours(bond, BOND):
            continue
        members = sorted((m for m in links.values() if m.master == bond.index), key=lambda link: link.name)
        works = [m.name for m in members if m.has_carrier and m.port_number(bonds.MEMBER_LINK) == 0]
        names.append(bond.name)
        deaf |= {m.name for m in members} - set(works[:1])
    return Slb(bonds=tuple(sorted(names)), deaf=frozenset(deaf))


def ruleset(names: Iterable[str]) -> str:
    """The whole table for these bonds, for one `nft -f -`. What was in it is gone, what was learnt too."""
    lines = [f"table {TABLE}", f"delete table {TABLE}"]
    devices = [device for name in names for device in (name, f"{vlan_device(name, 0)[:-1]}*")]
    if devices:
        lines += [f"table {TABLE} {{", *_body(devices), "}"]
    return "\n".join((*lines, ""))


def _body(devices: Iterable[str]) -> Iterator[str]:
    options = f"size {_ADDRESSES_MAX}; flags dynamic,timeout; timeout {_REMEMBERED_S}s;"
    yield f"  set sent {{ type ifname . ether_addr; {options} }}"
    yield "  chain out {"
    yield f"    type filter hook postrouting priority {_PRIORITY}; policy accept;"
    for device in devices:
        yield f'    oifname "{device}" update @sent {{ oifname . ether saddr }}'
    yield "  }"
    yield "  chain in {"
    yield f"    type filter hook prerouting priority {_PRIORITY}; policy accept;"
    for device in devices:
        yield f'    iifname "{device}" iifname . ether saddr @sent drop'
    yield "  }"
