"""In which order do links become what they should be, so that the least traffic is disturbed?

Pure: links as they are and goals in, changes of the kernel out. New things are made before old ones are touched; what
moves between masters moves in one step; what is deleted goes last. A NIC leaves its bridge only when the bond that it
goes into is ready, and the bond is a port of the bridge only when the NIC is none any more: there is no loop at any
time (dataplane.md §H5).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from poolnet.hostd.linuxbridge import bonds, tunnels
from poolnet.hostd.linuxbridge.layout import Goal, Layer, goals_of
from poolnet.hostd.linuxbridge.names import BOND, BRIDGE, TUNNELS, VLAN, is_our_tunnel, is_ours
from poolnet.hostd.netlink_codec import Attribute, Link, u8, u16, u32
from poolnet.hostd.netlink_links import OUR_GROUP, Change, DeleteLinks, NewLink, SetFarEnd, SetLink
from poolnet.hostnet.advance import Touched
from poolnet.hostnet.state import HostNetwork

_KINDS = {Layer.BOND: BOND, Layer.VLAN: VLAN, Layer.BRANCH: VLAN, Layer.BRIDGE: BRIDGE}
_TAGGED = (Layer.VLAN, Layer.BRANCH)
_MADE = TUNNELS | {BOND, VLAN, BRIDGE}
FORWARD_DELAY, STP_STATE, SNOOPING, VLAN_ID = 1, 5, 23, 1  # IFLA_BR_*, IFLA_VLAN_ID
MTU_NOT_SET = 65535  # no network wants it: a bridge that has it is not ready yet


class NotOurs(Exception):
    """A link that somebody else made has a name that we need."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is a link {name} already, which is not ours")
        self.name = name


@dataclass(slots=True, kw_only=True)
class Changes:
    """Changes in the order in which they are made. Each list needs what those before it have made.

    `new_bridges` and `new_bonds` are made by `make`, `joining` become ports by `join`: the names of links that must not
    speak by themselves before they are up.
    """

    clear: list[Change] = field(default_factory=list)  # what is in the way of a name
    make: list[Change] = field(default_factory=list)
    prepare: list[Change] = field(default_factory=list)
    join: list[Change] = field(default_factory=list)
    delete: list[Change] = field(default_factory=list)
    new_bridges: list[str] = field(default_factory=list)
    new_bonds: list[str] = field(default_factory=list)
    joining: list[str] = field(default_factory=list)


class Absent(Exception):
    """Interfaces that should be connected do not exist."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"there is no interface {', '.join(names)}")
        self.names = names


def plan(
    links: Mapping[str, Link],
    network: HostNetwork,
    touched: Touched,
    nics: Collection[str],
    new_mac: Callable[[], str],
    *,
    strict: bool,
) -> Changes:
    """What makes the links of the touched bridges and devices what they are in `network`.

    `nics` are those that we may touch; `new_mac` gives addresses to bridges that nothing else gives one. Raises NotOurs,
    and with `strict` Absent; otherwise what needs an interface that does not exist is left out.
    """
    everything = goals_of(network)
    owners = touched.bridges | touched.devices
    goals = {name: goal for name, goal in everything.items() if not owners.isdisjoint(goal.owners)}
    absent = tuple(name for name, goal in goals.items() if not goal.is_made and name not in links)
    if absent and strict:
        raise Absent(absent)
    goals = {
        name: goal
        for name, goal in goals.items()
        if name not in absent
        and (not goal.lower or goal.lower in links or (goal.lower in goals and goal.lower not in absent))
    }
    by_index = {link.index: link for link in links.values()}
    gone = [
        link
        for link in links.values()
        if link.name not in everything and _leaves(link, by_index, everything, goals, touched, nics)
    ]
    return _Plan(links, goals, gone, new_mac).changes()


def _leaves(
    link: Link,
    by_index: Mapping[int, Link],
    kept: Collection[str],
    goals: Collection[str],
    touched: Touched,
    nics: Collection[str],
) -> bool:
    """Must this link go, which is in no goal? `kept` are those that are, `goals` those of what is touched.

    Ours are deleted, also those that are nobody's port, left over by a crash. Guests' interfaces are released, and NICs
    that are in a bridge or a bond of ours.
    """
    master = by_index.get(link.master)
    if is_ours(link, BRIDGE):
        return link.name in touched.bridges
    if is_ours(link, BOND) or is_ours(link, VLAN) or is_our_tunnel(link):
        lower = by_index.get(link.lower)
        of_guest = lower is not None and lower.name in touched.devices
        return master is None or master.name in touched.bridges or of_guest
    if master is None:
        return False
    if is_ours(master, BOND):
        return link.name in nics and (master.name in goals or master.name not in kept)
    if not is_ours(master, BRIDGE):
        return False
    return link.name in touched.devices or (link.name in nics and master.name in touched.bridges)


class _Plan:
    def __init__(
        self,
        links: Mapping[str, Link],
        goals: Mapping[str, Goal],
        gone: list[Link],
        new_mac: Callable[[], str],
    ) -> None:
        self._links = links
        self._names = {link.index: link.name for link in links.values()}
        self._under_vlans = {link.lower for link in links.values() if link.kind == VLAN and link.master}
        self._goals = sorted(goals.values(), key=lambda goal: (goal.layer, goal.name))
        self._gone = gone
        self._new_mac = new_mac
        self._wrong = {goal.name for goal in self._goals if self._must_be_made_again(goal)}
        self._out = Changes()
        self._refilled = {goal.name for goal in self._goals if self._changes_mode(goal)}

    def changes(self) -> Changes:
        out = self._out
        # Two tunnels of one kind, key and other end cannot be at once.
        in_the_way = self._wrong | {link.name for link in self._gone if link.kind in TUNNELS}
        if in_the_way:
            out.clear.append(DeleteLinks(names=tuple(sorted(in_the_way))))
        for goal in self._goals:
            if goal.is_made and self._there(goal.name) is None:
                (out.prepare if goal.layer in _TAGGED else out.make).append(self._new(goal))
                names = {Layer.BRIDGE: out.new_bridges, Layer.BOND: out.new_bonds}.get(
                    goal.layer, out.joining
                )
                names.append(goal.name)
            elif goal.layer is not Layer.BRIDGE and self._master(goal.name) != goal.master:
                out.joining.append(goal.name)
        # A VLAN's device is made when what it is on is as large as it needs.
        out.prepare[:0] = [*self._free_members(), *self._raised(), *self._new_made_ready()]
        out.join += [
            *self._releases(),
            *self._bond_changes(),
            *self._joins(),
            *self._settings(),
            *self._ups(),
            *self._lowered(),
        ]
        deleted = [link.name for link in self._gone if link.group == OUR_GROUP and link.kind not in TUNNELS]
        if deleted:
            out.delete.append(DeleteLinks(names=tuple(deleted)))
        return out

    def _there(self, name: str) -> Link | None:
        return None if name in self._wrong else self._links.get(name)

    def _master(self, name: str) -> str:
        link = self._there(name)
        return "" if link is None else self._names.get(link.master, "")

    def _must_be_made_again(self, goal: Goal) -> bool:
        link = self._links.get(goal.name)
        if link is None or not goal.is_made:
            return False
        if not is_ours(link, _kind_of(goal)):
            if link.group == OUR_GROUP and link.kind in _MADE:
                return True
            raise NotOurs(goal.name)
        if goal.tunnel is not None:
            return not tunnels.is_right(link, goal.tunnel)
        if goal.layer not in _TAGGED:
            return False
        lower = self._links.get(goal.lower)
        return lower is None or link.lower != lower.index or link.number(VLAN_ID) != goal.tag

    def _changes_mode(self, goal: Goal) -> bool:
        link = self._there(goal.name)
        return (
            goal.bond is not None
            and link is not None
            and bonds.needs_empty(bonds.differences(link, goal.bond))
        )

    def _new(self, goal: Goal) -> NewLink:
        data: tuple[Attribute, ...] = ()
        mtu = goal.mtu_bytes
        match goal.layer:
            case Layer.BRIDGE:
                data = (
                    (FORWARD_DELAY, u32(0)),
                    (STP_STATE, u32(0)),
                    (SNOOPING, u8(goal.igmp_snooping)),
                )
                # Only one that is changed later is kept when ports with smaller ones come (see `_new_made_ready`).
                mtu = MTU_NOT_SET
            case Layer.BOND if goal.bond is not None:
                data = bonds.forming(goal.bond)
            case Layer.VLAN | Layer.BRANCH:
                data = ((VLAN_ID, u16(goal.tag)),)
            case Layer.TUNNEL if goal.tunnel is not None:
                data = goal.tunnel.told
            case _:
                pass
        return NewLink(
            name=goal.name,
            kind=_kind_of(goal),
            group=OUR_GROUP,
            mac=self._mac_of(goal) if goal.layer in (Layer.BOND, Layer.BRIDGE) else "",
            mtu_bytes=mtu,
            lower=goal.lower,
            data=data,
        )

    def _mac_of(self, goal: Goal) -> str:
        """A bridge that is given no address would change its own with its ports."""
        if goal.mac:
            return goal.mac
        for port in self._goals:
            link = self._links.get(port.lower or port.name)
            if port.master == goal.name and port.layer < Layer.GUEST and link is not None:
                return link.mac
        return self._new_mac()

    def _free_members(self) -> Iterator[Change]:
        """Members of bonds that no other link uses: the bond works before the others come."""
        for goal in self._members():
            if self._is_free(goal.name) and goal.master not in self._refilled:
                yield from self._enslaved(goal)

    def _is_free(self, name: str) -> bool:
        return not self._master(name) and self._links[name].index not in self._under_vlans

    def _members(self) -> Iterator[Goal]:
        bond_names = {goal.name for goal in self._goals if goal.layer is Layer.BOND}
        for goal in self._goals:
            if goal.layer is Layer.NIC and goal.master in bond_names:
                yield goal

    def _enslaved(self, goal: Goal) -> Iterator[Change]:
        """The driver takes an interface only while it is down, and sets it up itself."""
        yield SetLink(name=goal.name, up=False)
        yield SetLink(name=goal.name, master=goal.master)
        yield SetLink(name=goal.name, up=True)

    def _new_made_ready(self) -> Iterator[Change]:
        for goal in self._goals:
            link = self._there(goal.name)
            if goal.layer is Layer.BRIDGE and (link is None or link.mtu_bytes == MTU_NOT_SET):
                yield SetLink(name=goal.name, mtu_bytes=goal.mtu_bytes)
            elif goal.layer is Layer.BOND and link is None:
                yield SetLink(name=goal.name, up=True)

    def _raised(self) -> Iterator[Change]:
        for goal in self._goals:
            link = self._there(goal.name)
            if link is not None and goal.mtu_bytes > link.mtu_bytes:
                yield SetLink(name=goal.name, mtu_bytes=goal.mtu_bytes)

    def _lowered(self) -> Iterator[Change]:
        for goal in reversed(self._goals):
            link = self._there(goal.name)
            if link is not None and 0 < goal.mtu_bytes < link.mtu_bytes:
                yield SetLink(name=goal.name, mtu_bytes=goal.mtu_bytes)

    def _releases(self) -> Iterator[Change]:
        for link in self._gone:
            if link.master and link.kind not in TUNNELS:
                yield SetLink(name=link.name, master="")
                was_member = is_ours(self._links.get(self._names.get(link.master, "")), BOND)
                if was_member:  # the driver sets it down
                    yield SetLink(name=link.name, up=True)

    def _bond_changes(self) -> Iterator[Change]:
        for goal in self._goals:
            link = self._there(goal.name)
            if goal.bond is None or link is None:
                continue
            differences = bonds.differences(link, goal.bond)
            if not differences:
                continue
            if goal.name in self._refilled:
                yield from (
                    SetLink(name=member.name, master="")
                    for member in self._links.values()
                    if member.master == link.index and member not in self._gone
                )
            down = bonds.needs_down(differences)
            if down:
                yield SetLink(name=goal.name, up=False)
            # All of them: what a mode does not know is forgotten with it.
            told = bonds.forming(goal.bond) if goal.name in self._refilled else differences
            yield SetLink(name=goal.name, kind=BOND, data=told)
            if down:
                yield SetLink(name=goal.name, up=True)

    def _joins(self) -> Iterator[Change]:
        changed: set[str] = set()
        for goal in self._members():
            now = self._master(goal.name)
            refilled = goal.master in self._refilled
            if refilled or (now != goal.master and not self._is_free(goal.name)):
                yield from self._enslaved(goal)
            if refilled or now != goal.master:
                changed.add(goal.master)
        member_names = {goal.name for goal in self._members()}
        for goal in self._goals:
            if goal.name in changed:  # a bond that lost its last member has an address of its own
                yield SetLink(name=goal.name, mac=self._mac_of(goal))
            if goal.master and goal.name not in member_names and self._master(goal.name) != goal.master:
                if self._tunnel_moves(goal):  # it is isolated when it is up again
                    yield SetLink(name=goal.name, up=False)
                yield SetLink(name=goal.name, master=goal.master)
        yield from self._tunnel_ports()

    def _tunnel_ports(self) -> Iterator[Change]:
        """Isolated before they are up, so that there is no loop; then they lead to the other ends."""
        for goal in self._goals:
            if goal.tunnel is None:
                continue
            link = self._there(goal.name)
            joins = self._master(goal.name) != goal.master
            if link is None or joins or link.port_number(tunnels.ISOLATED) != 1:
                isolated = ((tunnels.ISOLATED, u8(1)),)
                yield SetLink(name=goal.name, port_kind=BRIDGE, port_data=isolated)
            there = frozenset() if link is None else link.far_ends
            for address in sorted(there ^ goal.tunnel.far_ends):
                yield SetFarEnd(name=goal.name, address=address, there=address in goal.tunnel.far_ends)

    def _settings(self) -> Iterator[Change]:
        for goal in self._goals:
            link = self._there(goal.name)
            if goal.bond is not None and (link is None or goal.name in self._refilled):
                later = bonds.since_formed(goal.bond)
                if later:
                    yield SetLink(name=goal.name, kind=BOND, data=later)
            if link is None:
                continue
            if self._left_bond(goal) and goal.mtu_bytes:  # the driver gives back the one it had before
                yield SetLink(name=goal.name, mtu_bytes=goal.mtu_bytes)
            if goal.mac and goal.mac.lower() != link.mac:
                yield SetLink(name=goal.name, mac=goal.mac)
            if goal.layer is Layer.BRIDGE and link.number(SNOOPING) != goal.igmp_snooping:
                snooping = ((SNOOPING, u8(goal.igmp_snooping)),)
                yield SetLink(name=goal.name, kind=BRIDGE, data=snooping)

    def _ups(self) -> Iterator[Change]:
        for goal in self._goals:
            link = self._there(goal.name)
            lowered = self._left_bond(goal) or self._tunnel_moves(goal)
            if link is None or not link.is_up or lowered:
                yield SetLink(name=goal.name, up=True)

    def _tunnel_moves(self, goal: Goal) -> bool:
        there = self._there(goal.name) is not None
        return goal.tunnel is not None and there and self._master(goal.name) != goal.master

    def _left_bond(self, goal: Goal) -> bool:
        master = self._master(goal.name)
        in_bond = goal.layer is Layer.NIC and is_ours(self._links.get(master), BOND)
        return in_bond and master != goal.master


def _kind_of(goal: Goal) -> str:
    return goal.tunnel.kind if goal.tunnel is not None else _KINDS[goal.layer]
