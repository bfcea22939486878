"""Plans lead where they should, and every prefix of a plan is a state that can exist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostnet.diff import diff
from poolnet.hostnet.diff_of_few import diff_of_few
from poolnet.hostnet.laws import ImpossibleStateError, contradictions
from poolnet.hostnet.match import mismatches, settle
from poolnet.hostnet.show import plan_hash, show_plan
from poolnet.hostnet.state import (
    HostNetwork,
    LinkSettings,
    SriovNic,
)
from poolnet.hostnet.steps import (
    AddPort,
    CloseHttp,
    CreateBridge,
    DestroyBridge,
    DisableFunctions,
    Disturbance,
    EnableFunctions,
    MovePort,
    OpenNbdPort,
    Plan,
    RemovePort,
    ReplaceBridge,
    ReplaceLock,
    ReplacePort,
    ReplaceUplink,
    SetAddresses,
    SetFunction,
    SetLink,
    SetManagement,
    Step,
)
from tests.property.host_networks import DEVICES, networks


class Model:
    """The smallest thing that carries steps out; it refuses what a real switch would refuse."""

    def __init__(self, start: HostNetwork) -> None:
        self.bridges = {bridge.name: bridge for bridge in start.bridges}
        self.ports = {port.device: port for port in start.ports}
        self.management = start.management_bridge
        self.nbd_bridges = start.nbd_bridges
        self.http_closed = start.http_closed
        self.links = {link.name: link.values for link in start.links}
        self.sriov = {nic.device: nic for nic in start.sriov}

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
            case CloseHttp(old=before, new=after):
                assert self.http_closed == before
                self.http_closed = after
            case SetLink(name=name, old=values, new=wanted):
                assert self.links.pop(name, ()) == values
                self.links |= {name: wanted} if wanted else {}
            case EnableFunctions() | DisableFunctions() | SetFunction():
                self.apply_to_functions(step)
            case _:
                self.apply_to_port(step)

    def apply_to_functions(self, step: EnableFunctions | DisableFunctions | SetFunction) -> None:
        """A NIC's functions are in use only while it has them."""
        match step:
            case EnableFunctions(device=device, mode=mode):
                assert device not in self.sriov
                self.sriov[device] = SriovNic(device=device, mode=mode)
            case DisableFunctions(device=device, mode=mode):
                assert self.sriov.pop(device) == SriovNic(device=device, mode=mode)
            case SetFunction(device=device, old=old, new=new):
                nic = self.sriov[device]
                address = (new or old).address  # type: ignore[union-attr]
                there = next((one for one in nic.functions if one.address == address), None)
                assert there == old
                others = [one for one in nic.functions if one.address != address]
                functions = sorted((*others, *((new,) if new else ())), key=lambda one: one.address)
                self.sriov[device] = replace(nic, functions=tuple(functions))

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
            sriov=tuple(self.sriov[device] for device in sorted(self.sriov)),
            management_bridge=self.management,
            nbd_bridges=self.nbd_bridges,
            http_closed=self.http_closed,
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


@given(networks(sriov=True), networks(sriov=True))
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


@given(networks(sriov=True))
@settings(max_examples=100, deadline=None)
def test_a_state_needs_no_step_to_itself(a: HostNetwork) -> None:
    plan = diff(a, a)
    assert plan.steps == ()
    assert plan.disturbance is Disturbance.NONE


@given(networks(sriov=True), networks(sriov=True))
@settings(max_examples=100, deadline=None)
def test_a_plan_does_not_depend_on_the_order_of_the_desired_state(a: HostNetwork, b: HostNetwork) -> None:
    backwards = replace(b, bridges=b.bridges[::-1], ports=b.ports[::-1], sriov=b.sriov[::-1])
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


@st.composite
def mostly_as(draw: st.DrawFn, sound: HostNetwork) -> HostNetwork:
    """A state, which may contradict itself, that has some bridges of a sound one, and some of another."""
    other = draw(networks())
    kept = [bridge for bridge in sound.bridges if draw(st.integers(0, 3))]
    names = {bridge.name for bridge in kept}
    come = [bridge for bridge in other.bridges if draw(st.booleans())]
    if draw(st.integers(0, 3)):
        come = [bridge for bridge in come if bridge.name not in names]
    desired = replace(
        sound,
        bridges=tuple(sorted((*kept, *come), key=lambda bridge: bridge.name)),
        management_bridge=draw(st.sampled_from((sound, other))).management_bridge,
        http_closed=other.http_closed,
    )
    return draw(st.sampled_from((desired, desired, desired, replace(desired, ports=other.ports))))


@given(data=st.data())
@settings(max_examples=400)
def test_what_stays_need_not_be_looked_at(data: st.DataObject) -> None:
    """The plan is the same, and so are the reasons why there is none."""
    sound = data.draw(networks())
    desired = data.draw(mostly_as(sound))

    def answer(plan: Callable[[HostNetwork, HostNetwork], Plan]) -> object:
        try:
            return plan(sound, desired)
        except ImpossibleStateError as error:
            return sorted(error.reasons)

    assert answer(diff_of_few) == answer(diff)
