"""The daemon dies, or something fails, before every single effect that a change has: each time the host is as confirmed.

Whatever is acknowledged is confirmed; whatever is not, is taken back. Nothing is left under way, and the next change works.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Confirm, Done, Greeting, Hello, Revert, Stage, Staged, Switch
from poolnet.hostnet.show import network_hash
from poolnet.hostnet.state import HostNetwork, LinkSettings
from poolnet.pool.hostlink import HostGone, HostRefused
from tests.lab.dying_daemon import Accident
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, STATIC, XENBR0, locked, network, nic, port
from tests.waiting import until

pytestmark = [
    pytest.mark.lab,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"]),
]

BEFORE = network(replace(XENBR0, ip=STATIC), port(1, "xenbr0", locked(1)), management="xenbr0")
# A little of everything: another uplink and address, a new bridge that takes a NIC with its address, a guest that moves.
AFTER = replace(
    network(
        replace(XENBR0, uplink=nic("eth1"), ip=replace(STATIC, ipv4_address="10.9.0.77/24")),
        replace(INTERNAL, uplink=nic("eth2")),
        port(1, "xapi1", locked(1)),
        management="xenbr0",
    ),
    links=(LinkSettings(name="eth1", values=(("gro", "off"),)),),
)
GIVEN_UP = "10.77.0.1/24"
EFFECTS_MAX = 150  # a change that has more has lost its way
DEATHS_APART = int(os.environ.get("POOLNET_EVERY_STEP", "4"))  # each costs a start of the daemon


def with_accidents(directory: Path, backend: str, body: object) -> None:
    """A rig with the daemon of `dying_daemon`, where BEFORE is confirmed."""

    async def run(rig: Rig) -> None:
        for number in (1, 2):
            rig.cable(f"eth{number}", f"sw{number}")
        rig.sh("ip", "addr", "add", GIVEN_UP, "dev", "eth2")
        rig.cable("vif1.0", "guest1")
        rig.sh("ip", "link", "set", "vif1.0", "up")
        await rig.kill("hostd")
        let_happen(rig, "", 0)
        await start(rig)
        await rig.roll_out(BEFORE, "before")
        await body(rig)  # type: ignore[operator]

    with_rig(directory, run, backend=backend)


async def start(rig: Rig) -> None:
    await rig.start_daemon("tests.lab.dying_daemon", POOLNET_EFFECTS=str(rig.directory / "accident.json"))


def let_happen(rig: Rig, method: str, number: int, *, dies: bool = True) -> None:
    accident = Accident(method=method, number=number, dies=dies)
    (rig.directory / "accident.json").write_bytes(msgspec.json.encode(accident))
    (rig.directory / "happened").unlink(missing_ok=True)


def happened(rig: Rig) -> bool:
    return (rig.directory / "happened").exists()


async def every(rig: Rig, method: str, *, dies: bool) -> AsyncIterator[int]:
    """The numbers of the effects, until there are no more; of deaths some, others on each backend."""
    apart = DEATHS_APART if dies else 1
    first = 1 + (len(rig.backend) % 2 if apart > 1 else 0)
    for number in range(first, EFFECTS_MAX, apart):
        let_happen(rig, method, number, dies=dies)
        yield number
    raise AssertionError(f"{method} never ends")


async def stage(rig: Rig, desired: HostNetwork, rollout: str) -> None:
    await rig.link.request(Stage(rollout=rollout, desired=desired), Staged)


def journal(rig: Rig) -> Path:
    return rig.root / "var/lib/poolnet/hostd/journal.json"


async def require(rig: Rig, state: HostNetwork) -> None:
    """The host is so, nothing is under way, and what a NIC gave up it has again if it is free."""
    assert mismatches(await rig.observe(), state) == ()
    assert (await rig.link.request(Hello(), Greeting)).confirmed == network_hash(state)
    await until(lambda: not journal(rig).exists())
    assert (GIVEN_UP in rig.sh("ip", "addr", "show", "eth2")) is (state == BEFORE)


async def come_back(rig: Rig) -> None:
    """The daemon that has died is started again."""
    await rig.kill("hostd")
    let_happen(rig, "", 0)
    await start(rig)


async def back_to_before(rig: Rig) -> None:
    let_happen(rig, "", 0)
    await rig.roll_out(BEFORE, "back")
    await require(rig, BEFORE)


def test_a_daemon_that_dies_anywhere_in_a_change(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        async for number in every(rig, "switch", dies=True):
            await stage(rig, AFTER, f"r{number}")
            try:
                await rig.link.request(Switch(rollout=f"r{number}"), Done)
            except HostGone:
                await come_back(rig)
            else:
                await require(rig, AFTER)
                break
            kept = (await rig.link.request(Hello(), Greeting)).confirmed
            await require(rig, AFTER if kept == network_hash(AFTER) else BEFORE)
            await back_to_before(rig)
        assert number > 10

    with_accidents(tmp_path, backend, body)


def test_a_daemon_that_dies_anywhere_on_its_way_back_and_once_more_when_it_starts(
    tmp_path: Path, backend: str
) -> None:
    async def body(rig: Rig) -> None:
        over = {"revert": False, "start": False}
        async for number in every(rig, "revert", dies=True):
            let_happen(rig, "", 0)
            await stage(rig, AFTER, f"r{number}")
            await rig.link.request(Switch(rollout=f"r{number}", confirm_within_s=120.0), Done)
            let_happen(rig, "revert", number)
            try:
                await rig.link.request(Revert(rollout=f"r{number}"), Done)
                over["revert"] = True
            except HostGone:
                await rig.kill("hostd")
                let_happen(rig, "start", number)
                try:
                    await start(rig)
                    over["start"] = True
                except AssertionError:  # it has died
                    await come_back(rig)
            await require(rig, BEFORE)
            if over["revert"]:
                break
        assert number > 10
        assert over["start"]

    with_accidents(tmp_path, backend, body)


def test_whatever_fails_in_a_change_it_is_taken_back(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        async for number in every(rig, "switch", dies=False):
            await stage(rig, AFTER, f"r{number}")
            try:
                await rig.link.request(Switch(rollout=f"r{number}"), Done)
            except HostRefused:
                await require(rig, BEFORE)
                continue
            await require(rig, AFTER)  # it failed where that does not matter, or not at all
            over = not happened(rig)
            await back_to_before(rig)
            if over:
                break
        assert number > 10

    with_accidents(tmp_path, backend, body)


def test_whatever_fails_on_the_way_back_is_tried_again(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        async for number in every(rig, "revert", dies=False):
            let_happen(rig, "", 0)
            await stage(rig, AFTER, f"r{number}")
            await rig.link.request(Switch(rollout=f"r{number}", confirm_within_s=120.0), Done)
            let_happen(rig, "revert", number, dies=False)
            try:
                await rig.link.request(Revert(rollout=f"r{number}"), Done)
            except HostRefused:
                assert happened(rig)
                await until(lambda: not journal(rig).exists())
            await require(rig, BEFORE)
            if not happened(rig):
                break
        assert number > 5

    with_accidents(tmp_path, backend, body)


def test_a_change_that_is_confirmed_stays_whatever_happens_next(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        await stage(rig, AFTER, "r")
        await rig.link.request(Switch(rollout="r", confirm_within_s=60.0), Done)
        await rig.link.request(Confirm(rollout="r"), Done)
        await come_back(rig)
        await asyncio.sleep(0)
        await require(rig, AFTER)

    with_accidents(tmp_path, backend, body)
