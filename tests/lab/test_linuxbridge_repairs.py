"""What happens to a host's Linux bridges from outside, or within a change, is repaired; what is not ours is let alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Counters, Done, ReadCounters, Stage, Staged, Switch
from poolnet.hostnet.state import EMPTY
from poolnet.pool.hostlink import HostGone, HostRefused
from tests.lab.guest_pair import guest_pair
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, XENBR0, ipv4, locked, network, nic, port
from tests.lab.test_linuxbridge import add_guests, links
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]


def test_locks_hold_and_come_back_when_all_tables_are_flushed(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        with guest_pair(rig) as guests:
            state = network(replace(INTERNAL, mtu_bytes=1500), port(1, "xapi1", locked(1)), port(2, "xapi1"))
            await rig.roll_out(state)
            await until(lambda: guests.hears(ipv4(2)))
            wrong = locked(1, "10.0.0.99")
            await rig.roll_out(network(*state.bridges, port(1, "xapi1", wrong), port(2, "xapi1")), "r2")
            assert not guests.hears(ipv4(2))
            counters = await rig.link.request(ReadCounters(devices=("vif1.0",)), Counters)
            assert sum(count for _, count in counters.ports[0].dropped) > 0
            rig.sh("nft", "flush", "ruleset")
            await until(lambda: "table bridge poolnet" in rig.sh("nft", "list", "tables"))
            assert not guests.hears(ipv4(2))
            rig.sh("nft", "delete", "table", "bridge", "poolnet")
            await rig.roll_out(state, "r3")
            assert guests.hears(ipv4(2))
            await rig.roll_out(network(*state.bridges, port(2, "xapi1")), "r4")
            assert "vif1.0" not in rig.sh("nft", "list", "table", "bridge", "poolnet")

    with_rig(tmp_path, body, backend="linuxbridge")


def test_what_is_not_ours_is_listed_and_never_touched(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("other0", "other1")
        rig.sh("ip", "link", "add", "theirs", "type", "bridge")
        await rig.roll_out(network(XENBR0))
        rig.sh("ip", "link", "set", "other0", "master", "xenbr0")
        assert (await rig.observe()).foreign == ("theirs", "xenbr0/other0")
        await rig.roll_out(network(replace(XENBR0, mac="02:00:00:00:00:77", igmp_snooping=True)), "r2")
        assert "master xenbr0" in rig.sh("ip", "link", "show", "other0")
        with pytest.raises(HostRefused) as refused:
            await rig.roll_out(network(XENBR0, replace(INTERNAL, name="theirs")), "r3")
        assert refused.value.refused.subject == "theirs"
        await rig.roll_out(EMPTY, "r4")
        assert {"theirs", "other0"} <= links(rig)
        assert "xenbr0" not in links(rig)

    with_rig(tmp_path, body, backend="linuxbridge")


def test_a_nic_that_comes_back_is_connected_again_also_at_a_start_without_it(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        state = network(XENBR0)
        await rig.roll_out(state)
        rig.sh("ip", "link", "del", "eth0")
        await rig.kill("hostd")
        rig.sh("ip", "link", "del", "xenbr0")  # as after a reboot
        await rig.start_daemon()
        assert mismatches(await rig.observe(), state) == ()
        rig.cable("eth0", "sw0")
        await until(lambda: "master xenbr0" in rig.sh("ip", "link", "show", "eth0"))
        rig.sh("ip", "link", "set", "eth0", "nomaster")
        await until(lambda: "master xenbr0" in rig.sh("ip", "link", "show", "eth0"))

    with_rig(tmp_path, body, backend="linuxbridge")


def test_a_daemon_that_dies_within_a_change_goes_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        add_guests(rig, 1, 2)
        state = network(XENBR0, port(1, "xenbr0", locked(1)))
        await rig.roll_out(state)
        other = network(
            replace(XENBR0, uplink=nic("eth1")),
            *(replace(INTERNAL, name=f"xapi{number}") for number in range(2, 16)),
            port(2, "xapi2"),
        )
        for pause_s in (0.0, 0.02, 0.06):
            await rig.link.request(Stage(rollout=f"r{pause_s}", desired=other), Staged)
            switching = asyncio.create_task(
                rig.link.request(Switch(rollout=f"r{pause_s}", confirm_within_s=60), Done)
            )
            await asyncio.sleep(pause_s)
            await rig.kill("hostd")
            with suppress(HostGone):
                await switching
            await rig.start_daemon()
            assert mismatches(await rig.observe(), state) == ()

    with_rig(tmp_path, body, backend="linuxbridge")
