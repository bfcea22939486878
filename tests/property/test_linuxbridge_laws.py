"""Whatever was there, the Linux bridge becomes what is desired: A and then B is B from scratch, and again is nothing."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from poolnet.hostd.linuxbridge.changes import Changes, plan
from poolnet.hostd.linuxbridge.marks import both, with_touched
from poolnet.hostd.linuxbridge.observe import observe
from poolnet.hostd.netlink import Addresses
from poolnet.hostnet.advance import advance, touched_by, with_vlans
from poolnet.hostnet.diff import diff
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.state import (
    EMPTY,
    BondMode,
    BondOptions,
    Bridge,
    HostNetwork,
    TunnelKind,
    TunnelOptions,
)
from tests.property.bridge_kernel import Kernel, all_of
from tests.property.host_networks import DEVICES, NICS, networks

NEW_MAC = "0a:00:00:00:00:0a"


class Host:
    """The backend without its sockets: the kernel's model, and what was asked for."""

    def __init__(self) -> None:
        self.kernel = Kernel(NICS, DEVICES)
        self.asked = EMPTY

    def observe(self) -> HostNetwork:
        addresses = {
            b.name: Addresses(ipv4=(b.ip.ipv4_address,)) for b in self.asked.bridges if b.ip.ipv4_address
        }
        locks = {port.device: port.lock for port in self.asked.ports}
        rates = {port.device: port.rate_kbytes_per_s for port in self.asked.ports}
        return observe(self.kernel.links(), self.asked, locks, addresses, NICS, rates)

    def apply(self, desired: HostNetwork, *, stop_after: int | None = None) -> Changes:
        before = self.observe()
        steps = diff(before, desired).steps
        after = advance(before, steps)
        touched = with_vlans(touched_by(steps), before, after)
        changes = plan(self.kernel.links(), after, touched, NICS, lambda: NEW_MAC, strict=True)
        asked = with_touched(self.asked, after, touched)
        self.asked = both(self.asked, asked)
        if stop_after is not None:
            part = Changes(join=list(all_of(changes))[:stop_after])
            self.kernel.carry_out(part)
            return part
        self.kernel.carry_out(changes)
        self.asked = asked
        return changes

    def shape(self) -> object:
        """Everything that is there, but for the numbers of the links."""
        return {name: replace_index(device.__dict__) for name, device in self.kernel.devices.items()}


def replace_index(values: dict[str, object]) -> dict[str, object]:
    return {
        key: value
        for key, value in values.items()
        if key not in ("index", "up", "mtu_is_set", "mac", "mtu", "own_mtu")
    }


def variety(
    network: HostNetwork, modes: tuple[BondMode, ...], kind: TunnelKind, remotes: tuple[str, ...]
) -> HostNetwork:
    """What is the backend's of it, with bonds of several modes, and tunnels without VLANs that lead to `remotes`."""
    tunnel = TunnelOptions(kind=kind, key=len(remotes), remotes=remotes)
    bridges = tuple(_varied(b, modes[n % len(modes)], tunnel) for n, b in enumerate(network.bridges))
    tunneled = {b.name for b in bridges if b.uplink is not None and b.uplink.tunnel is not None}
    bridges = tuple(replace(b, parent="", vlan_tag=-1) if b.parent in tunneled else b for b in bridges)
    return HostNetwork(bridges=bridges, ports=network.ports, management_bridge=network.management_bridge)


def _varied(bridge: Bridge, mode: BondMode, tunnel: TunnelOptions) -> Bridge:
    uplink = bridge.uplink
    if uplink is None:
        return bridge
    if uplink.tunnel is not None:
        return replace(bridge, uplink=replace(uplink, tunnel=tunnel))
    if uplink.bond is None:
        return bridge
    return replace(bridge, uplink=replace(uplink, bond=BondOptions(mode=mode)))


REMOTES = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "fd00::1", "fd00::2")
STATES = st.builds(
    variety,
    networks(),
    st.lists(st.sampled_from(BondMode), min_size=1, max_size=3).map(tuple),
    st.sampled_from(TunnelKind),
    st.sets(st.sampled_from(REMOTES), max_size=4).map(lambda found: tuple(sorted(found))),
)


def bond_twice(network: HostNetwork) -> bool:
    return sum(b.uplink is not None and b.uplink.bond is not None for b in network.bridges) > 1


ONE_BOND = STATES.filter(lambda network: not bond_twice(network))


@given(ONE_BOND, ONE_BOND)
@settings(max_examples=100, deadline=None)
def test_one_state_after_another_is_the_other_from_scratch(a: HostNetwork, b: HostNetwork) -> None:
    host, fresh = Host(), Host()
    host.apply(a)
    assert mismatches(host.observe(), a) == ()
    host.apply(b)
    fresh.apply(b)
    assert mismatches(host.observe(), b) == ()
    assert diff(host.observe(), b).steps == ()
    assert host.shape() == fresh.shape()
    touched = with_vlans(touched_by(diff(EMPTY, b).steps), EMPTY, b)
    again = plan(host.kernel.links(), b, touched, NICS, lambda: NEW_MAC, strict=True)
    assert list(all_of(again)) == []


@given(ONE_BOND, ONE_BOND, ONE_BOND, st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_what_stopped_half_way_goes_back_or_elsewhere(
    a: HostNetwork, b: HostNetwork, c: HostNetwork, stop_after: int
) -> None:
    host = Host()
    host.apply(a)
    host.apply(b, stop_after=stop_after)
    host.apply(c)
    fresh = Host()
    fresh.apply(c)
    assert mismatches(host.observe(), c) == ()
    assert host.shape() == fresh.shape()
