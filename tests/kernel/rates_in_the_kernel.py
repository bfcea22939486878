"""The datapath of Open vSwitch that is in the kernel keeps a rate limit, and changes it without a lost frame."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.guest_pair import GuestPair
from tests.lab.hostd_rig import Rig
from tests.lab.hostd_states import ipv4
from tests.lab.test_rates import KILOBYTE, arrives, assert_rate, links, state, with_guests
from tests.lab.trains import Train
from tests.waiting import until

pytestmark = pytest.mark.lab


def test_a_limit_is_kept_changed_and_lifted(tmp_path: Path) -> None:
    async def body(rig: Rig, pair: GuestPair) -> None:
        await rig.roll_out(state(0))
        assert "system@" in rig.sh("ovs-appctl", "dpif/show")
        await until(lambda: pair.hears(ipv4(2)))
        pinging = Train(("ip", "netns", "exec", pair.name(1)), ipv4(2))
        with pinging:
            for kbytes in (800, 0, 200):
                await rig.roll_out(state(kbytes))
                assert (await rig.plan_to(state(kbytes))).steps == ()
                await asyncio.sleep(0.5)
        assert (pinging.lost, pinging.duplicates) == (0, 0)
        await assert_rate(pair, 200)
        await rig.roll_out(state(0))
        assert links(rig) == ""
        assert (await arrives(pair, "udp", 600 * KILOBYTE)).frames_per_s > 400 * KILOBYTE

    with_guests(tmp_path, "openvswitch", body, "system")
