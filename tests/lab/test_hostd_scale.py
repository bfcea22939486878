"""What a plan costs beside the switch's own tool, and whether a full house still works."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Done, Stage, Staged, Switch
from poolnet.hostnet.state import HostNetwork
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import VLAN50, XENBR0, locked, network, port, unlocked

pytestmark = pytest.mark.lab

VLANS = 100
TIMES_MAX = 2.0
PORTS = 300
PORTS_S_MAX = 10.0  # three times what it takes on two busy cores


async def seconds_to(rig: Rig, desired: HostNetwork, rollout: str) -> float:
    began = time.perf_counter()
    await rig.link.request(Stage(rollout=rollout, desired=desired), Staged)
    await rig.link.request(Switch(rollout=rollout), Done)
    return time.perf_counter() - began


def test_a_hundred_vlans_take_at_most_twice_the_time_of_ovs_vsctl(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        base = network(XENBR0)
        await rig.roll_out(base, "base")
        vlans = [replace(VLAN50, name=f"xapi{tag}", vlan_tag=tag) for tag in range(100, 100 + VLANS)]
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(3):
            ours.append(await seconds_to(rig, network(XENBR0, *vlans), f"on{turn}"))
            assert (await rig.plan_to(network(XENBR0, *vlans))).steps == ()
            await rig.roll_out(base, f"off{turn}")
            adding = [
                word for tag in range(VLANS) for word in ("--", "add-br", f"b{tag}", "xenbr0", str(tag + 100))
            ]
            began = time.perf_counter()
            rig.sh("ovs-vsctl", *adding)
            theirs.append(time.perf_counter() - began)
            rig.sh("ovs-vsctl", *(word for tag in range(VLANS) for word in ("--", "del-br", f"b{tag}")))
        assert min(ours) <= TIMES_MAX * min(theirs), (ours, theirs)

    with_rig(tmp_path, body)


def test_hundreds_of_locked_guests_are_connected_in_seconds_and_one_lock_in_a_moment(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        commands = tmp_path / "links"
        commands.write_text(
            "".join(
                f"link add vif{n}.0 type veth peer name g{n}\nlink set vif{n}.0 up\n" for n in range(PORTS)
            )
        )
        rig.sh("ip", "-batch", str(commands))
        guests = [port(number, "xenbr0", locked(number)) for number in range(PORTS)]
        full = network(XENBR0, *guests)
        assert await seconds_to(rig, full, "full") < PORTS_S_MAX
        assert mismatches(await rig.observe(), full) == ()
        assert len({line.split(",")[0] for line in rig.flows("xenbr0v").splitlines()}) == PORTS + 1  # cookies
        one = network(XENBR0, *(replace(guests[0], lock=unlocked(0)), *guests[1:]))
        assert await seconds_to(rig, one, "one") < 1.0
        await rig.roll_out(network(XENBR0), "empty")

    with_rig(tmp_path, body)
