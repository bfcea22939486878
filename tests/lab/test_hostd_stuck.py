"""Programs of the switch that hang: a change ends when its time is over, and the host is as it was confirmed afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Done, Fault, Greeting, Hello, Stage, Staged, Switch
from poolnet.hostnet.show import network_hash
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import STATIC, VLAN50, XENBR0, network
from tests.waiting import until

pytestmark = pytest.mark.lab

BEFORE = network(replace(XENBR0, ip=STATIC), management="xenbr0")
AFTER = network(replace(XENBR0, ip=replace(STATIC, ipv4_address="10.9.0.77/24")), VLAN50, management="xenbr0")


@contextmanager
def stuck(rig: Rig, program: str) -> Iterator[None]:
    os.kill(rig.pid(program), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(rig.pid(program), signal.SIGCONT)


@pytest.mark.parametrize("program", ["ovsdb-server", "ovs-vswitchd"])
def test_a_change_of_a_switch_that_hangs_ends_in_time_and_never_comes_later(
    tmp_path: Path, program: str
) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await rig.link.request(Stage(rollout="r", desired=AFTER), Staged)
        with stuck(rig, program):
            switching = asyncio.create_task(rig.link.request(Switch(rollout="r", confirm_within_s=2.0), Done))
            await until(lambda: "a rollout failed and is taken back" in rig.log("hostd"))
            if program == "ovsdb-server":  # there is nothing to take back as far as the daemon can see
                await asyncio.wait((switching,))
        with pytest.raises(HostRefused) as refused:
            await switching
        assert refused.value.refused.fault is Fault.NOT_VERIFIED
        assert "took too long" in refused.value.refused.message
        # What waited in the switch is carried out now, and taken back.
        await until(lambda: "10.9.0.2/24" in rig.sh("ip", "addr", "show", "xenbr0"))
        await until(lambda: "xapi0" not in rig.sh("ip", "link"))
        await rig.roll_out(BEFORE, "again")
        assert mismatches(await rig.observe(), BEFORE) == ()
        assert (await rig.link.request(Hello(), Greeting)).confirmed == network_hash(BEFORE)
        assert not (rig.root / "var/lib/poolnet/hostd/journal.json").exists()

    with_rig(tmp_path, body)
