"""VLANs and bonds of the Linux bridge's backend, with packets, on a kernel that has 802.1Q and bonding (see `suite`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Counters, ReadCounters
from poolnet.hostnet.state import EMPTY, BondMode, BondOptions, GuestPort, HostNetwork, LockMode, Uplink
from poolnet.hostnet.steps import ReplaceUplink
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import BOND0, INTERNAL, VLAN50, XENBR0, locked, mac, network, nic, port
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

BONDS = {
    mode: Uplink(
        device="bond0",
        members=("eth0", "eth1"),
        bond=BondOptions(
            mode=mode,
            updelay_ms=0,
            properties=(("hashing_algorithm", "src_mac"), ("lacp-time", "fast"))
            if mode is BondMode.LACP
            else (),
        ),
    )
    for mode in BondMode
}

KERNEL_MODES = {
    BondMode.ACTIVE_BACKUP: "fault-tolerance (active-backup)",
    BondMode.BALANCE_SLB: "load balancing (xor)",
    BondMode.LACP: "IEEE 802.3ad Dynamic link aggregation",
}

CHAIN: tuple[HostNetwork, ...] = (
    network(XENBR0, VLAN50, port(1, "xenbr0", locked(1))),
    network(XENBR0, VLAN50, port(1, "xapi0", locked(1))),  # moved
    network(replace(XENBR0, uplink=BOND0), VLAN50, INTERNAL, port(1, "xapi1"), management="xenbr0"),
    network(replace(XENBR0, uplink=BONDS[BondMode.ACTIVE_BACKUP]), replace(VLAN50, vlan_tag=51)),
    network(
        replace(XENBR0, uplink=BONDS[BondMode.BALANCE_SLB], mtu_bytes=4000), replace(VLAN50, mtu_bytes=4000)
    ),
    network(replace(XENBR0, uplink=nic("eth1"), mtu_bytes=9000), VLAN50, management="xenbr0"),
    network(
        replace(VLAN50, name="xenbr0", parent="xapi0"), replace(XENBR0, name="xapi0")
    ),  # names change places
    network(replace(XENBR0, uplink=None), VLAN50, port(1, "xapi0")),
    network(
        replace(XENBR0, uplink=replace(BOND0, members=("eth1", "eth2"))),
        replace(INTERNAL, uplink=nic("eth0")),
    ),
    network(replace(XENBR0, uplink=replace(BOND0, members=("eth0", "eth1", "eth2"))), VLAN50),
)


def index(rig: Rig, name: str) -> str:
    return rig.sh("ip", "-o", "link", "show", name).split(":")[0]


def test_from_every_state_to_the_next_and_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        rig.cable("eth2", "sw2")
        rig.cable("vif1.0", "guest1")
        states = [*CHAIN, *reversed(CHAIN[:-1]), EMPTY]
        for number, state in enumerate(states):
            await rig.roll_out(state, f"r{number}")
            assert mismatches(await rig.observe(), state) == (), number
            assert (await rig.plan_to(state)).steps == (), number

    with_rig(tmp_path, body, backend="linuxbridge")


@pytest.mark.parametrize("mode", list(BondMode))
def test_a_bond_takes_the_place_of_a_nic_while_the_bridge_stays(tmp_path: Path, mode: BondMode) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        await rig.roll_out(network(XENBR0, VLAN50))
        before = index(rig, "xenbr0")
        state = network(replace(XENBR0, uplink=BONDS[mode]), VLAN50)
        assert [type(step) for step in (await rig.plan_to(state)).steps] == [ReplaceUplink]
        done = await rig.roll_out(state, "r2")
        assert index(rig, "xenbr0") == before
        told = rig.sh("cat", "/proc/net/bonding/bond0")
        assert f"Bonding Mode: {KERNEL_MODES[mode]}" in told
        if mode is BondMode.LACP:
            assert "LACP rate: fast" in told
            assert "Transmit Hash Policy: vlan+srcmac (5)" in told
        assert done.facts.bonds[0].members == ("eth0", "eth1")
        assert (await rig.observe()).bridges[1].uplink == BONDS[mode]

    with_rig(tmp_path, body, backend="linuxbridge")


@contextmanager
def machine(rig: Rig, name: str) -> Iterator[None]:
    """A network namespace for what the cables end at."""
    rig.sh("ip", "netns", "add", name)
    try:
        yield
    finally:
        rig.sh("ip", "netns", "del", name)


def switch_with(rig: Rig, *ports: str) -> None:
    """A learning switch in the cabinet, whose own address is 10.9.0.1, and 10.50.0.1 on VLAN 50."""
    inside = ("ip", "-n", "cabinet", "link")
    rig.sh(*inside, "add", "sw", "type", "bridge", "forward_delay", "0")
    for port_name in ports:
        rig.sh("ip", "link", "set", port_name, "netns", "cabinet")
        rig.sh(*inside, "set", port_name, "master", "sw", "up")
    rig.sh(*inside, "set", "sw", "up")
    rig.sh("ip", "-n", "cabinet", "addr", "add", "10.9.0.1/24", "dev", "sw")
    rig.sh(*inside, "add", "link", "sw", "name", "sw.50", "type", "vlan", "id", "50")
    rig.sh(*inside, "set", "sw.50", "up")
    rig.sh("ip", "-n", "cabinet", "addr", "add", "10.50.0.1/24", "dev", "sw.50")


def guest_in(rig: Rig, number: int, address: str) -> None:
    """The VM behind `vifN.0`, in a namespace of its own."""
    rig.sh("ip", "link", "set", f"guest{number}", "netns", "vm")
    inside = ("ip", "-n", "vm", "link", "set", f"guest{number}")
    rig.sh(*inside, "address", mac(number))
    rig.sh(*inside, "up")
    rig.sh("ip", "-n", "vm", "addr", "add", address, "dev", f"guest{number}")


def pings(rig: Rig, *, source: str, target: str) -> bool:
    """Do ten pings of a namespace get exactly one answer each?"""
    words = ("ip", "netns", "exec", source, "ping", "-n", "-c", "10", "-i", "0.05", "-W", "5", target)
    told = rig.sh(*words, check=False)
    return "10 received" in told and "DUP" not in told and "duplicates" not in told


def reaches(rig: Rig, *, source: str, target: str) -> bool:
    """Is one ping of a namespace answered?"""
    words = ("ip", "netns", "exec", source, "ping", "-n", "-c", "1", "-W", "1", target)
    return "1 received" in rig.sh(*words, check=False)


@pytest.mark.parametrize("mode", [BondMode.ACTIVE_BACKUP, BondMode.BALANCE_SLB])
def test_a_guest_speaks_through_a_bond_and_a_vlan_and_hears_each_answer_once(
    tmp_path: Path, mode: BondMode
) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        for number in (1, 2):
            rig.cable(f"vif{number}.0", f"guest{number}")
        with machine(rig, "cabinet"), machine(rig, "vm"):
            switch_with(rig, "sw0", "sw1")
            state = network(
                replace(XENBR0, uplink=BONDS[mode]),
                VLAN50,
                port(1, "xenbr0", locked(1, "10.9.0.11")),
                port(2, "xapi0", locked(2, "10.50.0.12")),
            )
            await rig.roll_out(state)
            guest_in(rig, 1, "10.9.0.11/24")
            guest_in(rig, 2, "10.50.0.12/24")
            assert pings(rig, source="vm", target="10.9.0.1")
            assert pings(rig, source="vm", target="10.50.0.1")
            for cable in ("sw0", "sw1"):
                rig.sh("ip", "-n", "cabinet", "link", "set", cable, "down")
                await until(lambda: pings(rig, source="vm", target="10.9.0.1"))
                assert pings(rig, source="vm", target="10.50.0.1")
                rig.sh("ip", "-n", "cabinet", "link", "set", cable, "up")
                await until(lambda: pings(rig, source="vm", target="10.9.0.1"))
            assert (await rig.plan_to(state)).steps == ()

    with_rig(tmp_path, body, backend="linuxbridge")


def tagged(rig: Rig, number: int, address: str) -> None:
    """The VM behind `vifN.0` has an address on VLAN 50 of its trunk, in the namespace `vm`."""
    guest_in(rig, number, f"192.0.2.{number}/24")
    inside = ("ip", "-n", "vm", "link")
    rig.sh(*inside, "add", "link", f"guest{number}", "name", "tagged", "type", "vlan", "id", "50")
    rig.sh(*inside, "set", "tagged", "up")
    rig.sh("ip", "-n", "vm", "addr", "add", address, "dev", "tagged")


def trunk(number: int, tags: tuple[int, ...], mode: LockMode = LockMode.LOCKED) -> GuestPort:
    """The port of a guest with a trunk on the untagged network."""
    lock = replace(locked(number, "10.50.0.11"), mode=mode, trunks=tags)
    return port(number, "xenbr0", lock)


def test_a_trunk_and_a_guest_of_the_vlan_on_the_same_host_hear_each_other(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        for number in (1, 2):
            rig.cable(f"vif{number}.0", f"guest{number}")
        with machine(rig, "cabinet"), machine(rig, "vm"), machine(rig, "other"):
            switch_with(rig, "sw0")
            tagged(rig, 1, "10.50.0.11/24")
            rig.sh("ip", "link", "set", "guest2", "netns", "other")
            rig.sh("ip", "-n", "other", "link", "set", "guest2", "address", mac(2), "up")
            rig.sh("ip", "-n", "other", "addr", "add", "10.50.0.12/24", "dev", "guest2")
            plain = port(2, "xapi0", locked(2, "10.50.0.12"))

            async def hears(wanted: HostNetwork, *, guest: bool, rollout: str) -> None:
                await rig.roll_out(wanted, rollout)
                assert mismatches(await rig.observe(), wanted) == (), rollout
                assert (await rig.plan_to(wanted)).steps == (), rollout
                assert pings(rig, source="other", target="10.50.0.1")
                for target in ("10.50.0.12", "10.50.0.1"):
                    heard = pings if guest else reaches
                    assert heard(rig, source="vm", target=target) is guest, rollout

            await rig.roll_out(network(XENBR0, trunk(1, (50,))))
            assert pings(rig, source="vm", target="10.50.0.1")  # as long as the host has no such VLAN itself
            both = network(XENBR0, VLAN50, trunk(1, (49, 50)), plain)
            await hears(both, guest=True, rollout="both")
            await hears(network(XENBR0, VLAN50, trunk(1, (49,)), plain), guest=False, rollout="other tag")
            unlocked_trunk = trunk(1, (50,), LockMode.UNLOCKED)
            await hears(network(XENBR0, VLAN50, unlocked_trunk, plain), guest=True, rollout="unlocked")
            off = trunk(1, (50,), LockMode.DISABLED)
            await hears(network(XENBR0, VLAN50, off, plain), guest=False, rollout="off")
            await hears(both, guest=True, rollout="again")
            rig.sh("ip", "-n", "vm", "addr", "add", "10.50.0.66/24", "dev", "tagged")
            words = ("ip", "netns", "exec", "vm", "ping", "-c", "1", "-W", "1", "-I", "10.50.0.66")
            assert "1 received" not in rig.sh(*words, "10.50.0.12", check=False)  # it is locked there too
            counters = await rig.link.request(ReadCounters(devices=("vif1.0",)), Counters)
            assert sum(count for _, count in counters.ports[0].dropped) > 0
            assert [ports.device for ports in counters.ports] == ["vif1.0"]
            rig.sh("ip", "link", "del", "vif1.0.50")
            assert mismatches(await rig.observe(), both) != ()
            await hears(both, guest=True, rollout="repaired")

    with_rig(tmp_path, body, backend="linuxbridge")
