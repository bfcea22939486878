"""The Linux bridge makes states real, changes them in place, and removes them without a trace.

What this kernel cannot do, 802.1Q devices and bonds, is tested in the User Mode Linux lane.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Greeting, Hello
from poolnet.hostnet.show import network_hash
from poolnet.hostnet.state import EMPTY, HostNetwork, IpConfig, Ipv4Mode, LockMode
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import (
    INTERNAL,
    STATIC,
    XENBR0,
    locked,
    network,
    nic,
    port,
    unlocked,
)

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
