"""A full house: a hundred VLANs in one plan, hundreds of locked guests. What it costs is measured by `make bench`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import VLAN50, XENBR0, full_house, network, unlocked

pytestmark = pytest.mark.lab

VLANS = 100
PORTS = 300


def test_a_hundred_vlans_are_one_plan(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        vlans = [replace(VLAN50, name=f"xapi{tag}", vlan_tag=tag) for tag in range(100, 100 + VLANS)]
        full = network(XENBR0, *vlans)
        await rig.roll_out(full, "on")
        assert mismatches(await rig.observe(), full) == ()
        assert (await rig.plan_to(full)).steps == ()
        await rig.roll_out(network(XENBR0), "off")

    with_rig(tmp_path, body)


def test_hundreds_of_locked_guests_have_their_flows_and_a_restart_changes_nothing(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        commands = tmp_path / "links"
        commands.write_text(
            "".join(
                f"link add vif{n}.0 type veth peer name g{n}\nlink set vif{n}.0 up\n" for n in range(PORTS)
            )
        )
        rig.sh("ip", "-batch", str(commands))
        full = full_house(VLANS, PORTS)
        await rig.roll_out(full, "full")
        assert mismatches(await rig.observe(), full) == ()
        assert len({line.split(",")[0] for line in rig.flows("xenbr0v").splitlines()}) == PORTS + 1  # cookies
        before = seen_by_the_switch(rig)
        await rig.kill("hostd")
        await rig.start_daemon()
        assert (await rig.plan_to(full)).steps == ()
        assert seen_by_the_switch(rig) == before
        first, *others = full.ports
        one = replace(full, ports=(replace(first, lock=unlocked(0)), *others))
        await rig.roll_out(one, "one")
        assert mismatches(await rig.observe(), one) == ()
        await rig.roll_out(network(XENBR0), "empty")

    with_rig(tmp_path, body)


def seen_by_the_switch(rig: Rig) -> tuple[str, list[str]]:
    """How often the switch was configured, and its flows."""
    return rig.sh("ovs-vsctl", "get", "Open_vSwitch", ".", "next_cfg"), sorted(
        rig.flows("xenbr0v").splitlines()
    )
