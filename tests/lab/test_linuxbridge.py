"""The Linux bridge makes states real, changes them in place, and removes them without a trace.

What this kernel cannot do, 802.1Q devices and bonds, is tested in the User Mode Linux lane.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import (
    Counters,
    Fault,
    Greeting,
    Hello,
    ReadCounters,
    Traced,
    TracePacket,
)
from poolnet.hostnet.show import network_hash
from poolnet.hostnet.state import EMPTY, HostNetwork, IpConfig, Ipv4Mode, LockMode
from poolnet.lock.craft import arp, ethernet
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import (
    INTERNAL,
    STATIC,
    XENBR0,
    ipv4,
    locked,
    mac,
    network,
    nic,
    port,
    unlocked,
)
from tests.lab.scratch_switch import raw_socket
from tests.waiting import until

pytestmark = pytest.mark.lab

EVERYTHING = network(
    replace(XENBR0, ip=STATIC),
    INTERNAL,
    port(1, "xenbr0", locked(1)),
    port(2, "xapi1"),
    replace(port(3, "xapi1", replace(unlocked(3), mode=LockMode.DISABLED)), mtu_bytes=1400),
    replace(port(4, "xenbr0", replace(unlocked(4), trunks=(7, 9))), rate_kbytes_per_s=1000),
    management="xenbr0",
)


def add_guests(rig: Rig, *numbers: int) -> None:
    for number in numbers:
        rig.cable(f"vif{number}.0", f"guest{number}")


def links(rig: Rig) -> set[str]:
    return {line.split()[0].split("@")[0] for line in rig.sh("ip", "-br", "link").splitlines()}


def test_everything_is_made_observed_and_removed_without_a_trace(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2, 3, 4)
        before = links(rig)
        await rig.roll_out(EVERYTHING)
        assert mismatches(await rig.observe(), EVERYTHING) == ()
        assert (await rig.plan_to(EVERYTHING)).steps == ()  # twice changes nothing
        greeting = await rig.link.request(Hello(), Greeting)
        assert (greeting.backend, greeting.confirmed) == ("bridge", network_hash(EVERYTHING))
        await rig.roll_out(EMPTY, "r2")
        assert await rig.observe() == EMPTY
        assert links(rig) == before

    with_rig(tmp_path, body, backend="linuxbridge")


CHAIN: tuple[HostNetwork, ...] = (
    network(XENBR0, port(1, "xenbr0")),
    network(XENBR0, INTERNAL, port(1, "xenbr0", locked(1))),
    network(XENBR0, INTERNAL, port(1, "xapi1", locked(1))),  # moved
    network(XENBR0, INTERNAL, replace(port(1, "xapi1", locked(1, "10.0.0.9")), mtu_bytes=1400)),
    network(replace(XENBR0, uplink=nic("eth1"), mtu_bytes=9000, igmp_snooping=True), management="xenbr0"),
    network(replace(XENBR0, uplink=None, ip=IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="10.8.0.1/24"))),
    network(replace(XENBR0, fail_mode_secure=True), replace(INTERNAL, uplink=nic("eth1")), port(1, "xapi1")),
    network(replace(XENBR0, uplink=nic("eth1")), replace(INTERNAL, uplink=nic("eth0"))),  # exchanged
    network(INTERNAL, port(1, "xapi1", replace(unlocked(1), mode=LockMode.DISABLED))),
)


def test_from_every_state_to_the_next_and_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        add_guests(rig, 1)
        states = [*CHAIN, *reversed(CHAIN[:-1]), EMPTY]
        for number, state in enumerate(states):
            await rig.roll_out(state, f"r{number}")
            assert mismatches(await rig.observe(), state) == (), number
            assert (await rig.plan_to(state)).steps == (), number

    with_rig(tmp_path, body, backend="linuxbridge")


def arp_frame(sender: int) -> bytes:
    """An ARP request of guest 1 with the address of that guest."""
    own = bytes.fromhex(mac(1).replace(":", ""))
    asked = (bytes(6), IPv4Address(ipv4(3)))
    return ethernet(b"\xff" * 6, own, 0x0806, arp(1, (own, IPv4Address(ipv4(sender))), asked))


def test_the_trace_and_the_counters_tell_what_a_lock_does(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1)
        await rig.roll_out(network(INTERNAL, port(1, "xapi1", locked(1))))
        own, spoofed = (arp_frame(sender).hex() for sender in (1, 2))
        assert (await rig.link.request(TracePacket(device="vif1.0", frame_hex=own), Traced)).forwarded
        traced = await rig.link.request(TracePacket(device="vif1.0", frame_hex=spoofed), Traced)
        assert not traced.forwarded
        assert traced.text.endswith("arp_packet > arp_sender > stop_arp: is dropped: arp\n")
        with ExitStack() as stack:
            guest = stack.enter_context(raw_socket("guest1"))
            rig.sh("ip", "link", "set", "guest1", "up")
            guest.send(arp_frame(2))
        counters = await rig.link.request(ReadCounters(devices=("vif1.0",)), Counters)
        assert dict(counters.ports[0].dropped)["arp"] == 1
        with pytest.raises(HostRefused) as refused:
            await rig.link.request(TracePacket(device="vif9.0", frame_hex=own), Traced)
        assert refused.value.refused.fault is Fault.NO_DEVICE

    with_rig(tmp_path, body, backend="linuxbridge")


def test_locks_that_somebody_altered_are_put_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1)
        rig.sh("ip", "link", "set", "guest1", "down")  # or what it sends is counted in the table
        await rig.roll_out(network(INTERNAL, port(1, "xapi1", locked(1))))
        words = ("nft", "-s", "list", "table", "bridge", "poolnet")
        table = rig.sh(*words)
        harms = (
            "flush ruleset",
            "flush chain bridge poolnet arp_packet",
            "insert rule bridge poolnet from_port accept",
            'add element bridge poolnet own4 { "vif1.0" . 0xa000002 }',
            'delete element bridge poolnet macs { "vif1.0" . 0xaa0000000001 }',
        )
        for harm in harms:
            rig.sh("nft", harm)
            await until(lambda: rig.sh(*words, check=False) == table)
        assert rig.log("hostd").count("somebody else changed") == len(harms)

    with_rig(tmp_path, body, backend="linuxbridge")
