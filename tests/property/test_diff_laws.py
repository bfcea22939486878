"""Plans lead where they should, and every prefix of a plan is a state that can exist."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostnet.diff import diff
from poolnet.hostnet.laws import contradictions
from poolnet.hostnet.match import mismatches, settle
from poolnet.hostnet.show import plan_hash, show_plan
from poolnet.hostnet.state import (
    NO_IP,
    BondMode,
    BondOptions,
    Bridge,
    GuestPort,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    LinkSettings,
    LockMode,
    PortLock,
    TunnelKind,
    TunnelOptions,
    Uplink,
)
from poolnet.hostnet.steps import (
    AddPort,
    CreateBridge,
    DestroyBridge,
    Disturbance,
    MovePort,
    OpenNbdPort,
    RemovePort,
    ReplaceBridge,
    ReplaceLock,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetLink,
    SetManagement,
    Step,
)

NICS = ("eth0", "eth1", "eth2", "eth3")
TOP = ("xenbr0", "xenbr1", "xapi0", "xapi1")
VLANS = ("xapi2", "xapi3", "xapi4", "xapi1")
DEVICES = ("vif1.0", "vif1.1", "vif2.0", "vif3.0")
ADDRESSES = ("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24")


class Model:
    """The smallest thing that carries steps out; it refuses what a real switch would refuse."""

    def __init__(self, start: HostNetwork) -> None:
        self.bridges = {bridge.name: bridge for bridge in start.bridges}
        self.ports = {port.device: port for port in start.ports}
        self.management = start.management_bridge
        self.nbd_bridges = start.nbd_bridges
        self.links = {link.name: link.values for link in start.links}

    def apply(self, step: Step) -> None:
        match step:
            case CreateBridge(bridge=bridge):
                assert bridge.name not in self.bridges
                self.bridges[bridge.name] = bridge
            case DestroyBridge(bridge=bridge):
                assert self.bridges.pop(bridge.name) == bridge
            case ReplaceUplink(name=name, old=before, new=after):
                assert self.bridges[name].uplink == before
                self.bridges[name] = replace(self.bridges[name], uplink=after)
            case SetAddresses(name=name, old=ip_before, new=ip_after):
                assert self.bridges[name].ip == ip_before
                self.bridges[name] = replace(self.bridges[name], ip=ip_after)
            case ReplaceBridge(old=was, new=becomes):
                assert self.bridges[was.name] == was
                assert (was.uplink, was.parent, was.vlan_tag, was.ip) == (
                    becomes.uplink,
                    becomes.parent,
                    becomes.vlan_tag,
                    becomes.ip,
                )
                self.bridges[was.name] = becomes
            case SetManagement(old=old, new=new):
                assert self.management == old
                self.management = new
            case OpenNbdPort(old=were, new=are):
                assert self.nbd_bridges == were
                self.nbd_bridges = are
            case SetLink(name=name, old=values, new=wanted):
                assert self.links.pop(name, ()) == values
                self.links |= {name: wanted} if wanted else {}
            case _:
                self.apply_to_port(step)

    def apply_to_port(self, step: AddPort | RemovePort | MovePort | ReplaceLock | ReplacePort) -> None:
        match step:
            case AddPort(port=port):
                assert port.device not in self.ports
                self.ports[port.device] = port
            case RemovePort(port=port):
                assert self.ports.pop(port.device) == port
            case MovePort(old=old, new=new):
                assert self.ports[old.device] == old
                assert old.bridge != new.bridge
                self.ports[new.device] = new
            case ReplaceLock(device=device, bridge=bridge, old=before, new=after):
                assert (self.ports[device].bridge, self.ports[device].lock) == (bridge, before)
                self.ports[device] = replace(self.ports[device], lock=after)
            case ReplacePort(old=old, new=new):
                assert self.ports[old.device] == old
                assert (old.bridge, old.lock) == (new.bridge, new.lock)
                self.ports[old.device] = new

    def state(self) -> HostNetwork:
        return HostNetwork(
            bridges=tuple(self.bridges[name] for name in sorted(self.bridges)),
            ports=tuple(self.ports[device] for device in sorted(self.ports)),
            links=tuple(LinkSettings(name=name, values=self.links[name]) for name in sorted(self.links)),
            management_bridge=self.management,
            nbd_bridges=self.nbd_bridges,
        )


@st.composite
def locks(draw: st.DrawFn) -> PortLock:
    return PortLock(
        mode=draw(st.sampled_from(LockMode)),
        mac="aa:00:00:00:00:01",
        ipv4_allowed=draw(
            st.sampled_from([(), ("10.0.0.5",), ("10.0.0.5/32",), ("10.0.0.5", "10.0.1.0/24")])
        ),
        trunks=draw(st.sampled_from([(), (10,), (10, 20)])),
    )


TUNNEL = Uplink(
    device="tunnel0",
    members=(),
    tunnel=TunnelOptions(kind=TunnelKind.GRE, key=1, remotes=("192.0.2.9",)),
)


def uplinks(draw: st.DrawFn, free: list[str]) -> Uplink | None:
    count = draw(st.integers(0, min(2, len(free))))
    members = tuple(free.pop(draw(st.integers(0, len(free) - 1))) for _ in range(count))
    if not members:
        return draw(st.sampled_from([None, TUNNEL]))
    if len(members) == 1:
        return Uplink(device=members[0], members=members)
    return Uplink(device="bond0", members=members, bond=BondOptions(mode=BondMode.LACP))


@st.composite
def networks(
    draw: st.DrawFn, *, macs: tuple[str, ...] = ("02:00:00:00:00:01", "02:00:00:00:00:02")
) -> HostNetwork:
    nics, addresses = list(NICS), list(ADDRESSES)
    tags: set[tuple[str, int]] = set()

    def ip() -> IpConfig:
        if not addresses or draw(st.booleans()):
            return NO_IP
        address = addresses.pop(draw(st.integers(0, len(addresses) - 1)))
        return IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=address)

    def bridge(name: str, **kind: object) -> Bridge:
        made = Bridge(
            name=name, mac=draw(st.sampled_from(macs)), mtu_bytes=draw(st.sampled_from([1500, 9000])), ip=ip()
        )
        return replace(made, **kind)  # type: ignore[arg-type]

    top_names = draw(st.lists(st.sampled_from(TOP), unique=True))
    bridges = [bridge(name, uplink=uplinks(draw, nics)) for name in top_names]
    tops = [made.name for made in bridges]
    for name in draw(st.lists(st.sampled_from(VLANS), unique=True)) if tops else []:
        parent, tag = draw(st.sampled_from(tops)), draw(st.sampled_from([5, 6]))
        if name not in tops and (parent, tag) not in tags:
            tags.add((parent, tag))
            bridges.append(bridge(name, parent=parent, vlan_tag=tag))
    names = [made.name for made in bridges]
    ports = [
        GuestPort(
            device=device,
            bridge=draw(st.sampled_from(names)),
            lock=draw(locks()),
            mtu_bytes=draw(st.sampled_from([1500, 9000])),
            vif_uuid="v",
        )
        for device in (draw(st.lists(st.sampled_from(DEVICES), unique=True)) if names else [])
    ]
    return HostNetwork(
        bridges=tuple(sorted(bridges, key=lambda made: made.name)),
        ports=tuple(sorted(ports, key=lambda port: port.device)),
        links=tuple(
            LinkSettings(name=nic, values=draw(st.sampled_from([(("gro", "off"),), (("speed", "1000"),)])))
            for nic in sorted(draw(st.sets(st.sampled_from(NICS))))
        ),
        management_bridge=draw(st.sampled_from(["", *names])),
        nbd_bridges=tuple(sorted(name for name in names if draw(st.booleans()))),
    )


def broken_laws(state: HostNetwork) -> tuple[str, ...]:
    """What cannot be, on the way; a bridge that is made again is missing for a moment, management or NBD or not."""
    addresses = Counter(bridge.ip.ipv4_address for bridge in state.bridges if bridge.ip.ipv4_address)
    return (
        *(
            reason
            for reason in contradictions(state)
            if not reason.startswith("the management bridge") and "open NBD port" not in reason
        ),
        *(address for address, count in addresses.items() if count > 1),
    )


@given(networks(), networks())
@settings(max_examples=600, deadline=None)
def test_a_plan_leads_to_the_desired_state_through_possible_states(a: HostNetwork, b: HostNetwork) -> None:
    plan = diff(a, b)
    model = Model(a)
    locks_of = {device: {port.lock for state in (a, b) if (port := state.port(device))} for device in DEVICES}
    for step in plan.steps:
        model.apply(step)
        now = model.state()
        assert broken_laws(now) == (), show_plan(plan)
        for port in now.ports:
            assert port.lock in locks_of[port.device]
    assert model.state() == settle(a, b), show_plan(plan)
    assert mismatches(model.state(), b) == ()
    assert (mismatches(a, b) == ()) == (plan.steps == ())


@given(networks(macs=("", "02:00:00:00:00:01")), networks(macs=("", "02:00:00:00:00:01")))
@settings(max_examples=200, deadline=None)
def test_an_unset_mac_is_satisfied_by_any(a: HostNetwork, b: HostNetwork) -> None:
    model = Model(a)
    for step in diff(a, b).steps:
        model.apply(step)
    assert mismatches(model.state(), b) == ()
    assert diff(model.state(), b).steps == ()


@given(networks())
@settings(max_examples=100, deadline=None)
def test_a_state_needs_no_step_to_itself(a: HostNetwork) -> None:
    plan = diff(a, a)
    assert plan.steps == ()
    assert plan.disturbance is Disturbance.NONE


@given(networks(), networks())
@settings(max_examples=100, deadline=None)
def test_a_plan_does_not_depend_on_the_order_of_the_desired_state(a: HostNetwork, b: HostNetwork) -> None:
    backwards = replace(b, bridges=b.bridges[::-1], ports=b.ports[::-1])
    assert plan_hash(diff(a, b)) == plan_hash(diff(a, backwards))


@given(networks(), networks(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_plan_repairs_an_observed_state_that_lost_some_bridges(
    a: HostNetwork, b: HostNetwork, data: st.DataObject
) -> None:
    kept = tuple(bridge for bridge in a.bridges if data.draw(st.booleans()))
    broken = replace(a, bridges=kept)
    model = Model(broken)
    for step in diff(broken, b).steps:
        model.apply(step)
    assert model.state() == settle(broken, b)
