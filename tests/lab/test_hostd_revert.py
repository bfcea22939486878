"""Whatever goes wrong at whatever moment, the host is as it was confirmed, and says what was wrong."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from poolnet.hostd import keeper
from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import (
    Confirm,
    CreateGuest,
    Done,
    Fault,
    Greeting,
    GuestAction,
    GuestNic,
    GuestSpec,
    Hello,
    Observation,
    Observe,
    Revert,
    RunGuest,
    Stage,
    Staged,
    Switch,
)
from poolnet.hostnet.show import network_hash
from poolnet.hostnet.state import EMPTY, HostNetwork
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, STATIC, VLAN50, XENBR0, locked, mac, network, port
from tests.waiting import until

pytestmark = pytest.mark.lab

BEFORE = network(replace(XENBR0, ip=STATIC), management="xenbr0")
AFTER = network(replace(XENBR0, ip=replace(STATIC, ipv4_address="10.9.0.77/24")), VLAN50, management="xenbr0")
GUEST = GuestSpec(
    vm_uuid="00000000-0000-0000-0002-000000000007",
    name="seven",
    domid=7,
    nics=(GuestNic(device=0, mac=mac(7)),),
)
NOBODY = "99999999-9999-9999-9999-999999999999"


async def stage(rig: Rig, desired: HostNetwork, rollout: str, **actions: Sequence[GuestAction]) -> None:
    command = Stage(
        rollout=rollout,
        desired=desired,
        guests_before=tuple(actions.get("before", ())),
        guests_after=tuple(actions.get("after", ())),
    )
    await rig.link.request(command, Staged)


async def refusal(rig: Rig, command: Switch | Confirm | Revert | Stage) -> tuple[Fault, str]:
    with pytest.raises(HostRefused) as refused:
        await rig.link.request(command, Staged if isinstance(command, Stage) else Done)
    return refused.value.refused.fault, refused.value.refused.subject


async def is_as(rig: Rig, state: HostNetwork) -> bool:
    return mismatches(await rig.observe(), state) == ()


async def becomes(rig: Rig, state: HostNetwork) -> None:
    for _ in range(100):
        if await is_as(rig, state):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(mismatches(await rig.observe(), state))


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A rollout that fails at one phase, from `BEFORE`, with a guest made on the way."""

    name: str
    desired: HostNetwork
    fault: Fault
    subject: str
    before: tuple[GuestAction, ...] = (CreateGuest(guest=GUEST),)
    after: tuple[GuestAction, ...] = ()


WITH_GUEST = network(*AFTER.bridges, port(7, "xapi0"), management="xenbr0")
FAILURES = (
    Failure(
        name="a guest cannot be made",
        desired=AFTER,
        fault=Fault.GUEST_FAILED,
        subject=GUEST.vm_uuid,
        before=(CreateGuest(guest=GUEST), CreateGuest(guest=GUEST)),
    ),
    Failure(
        name="a lock that no flow can express",
        desired=network(
            *AFTER.bridges, INTERNAL, port(7, "xapi1", replace(locked(7), ipv4_allowed=("fd00::/64",)))
        ),
        fault=Fault.SWITCH_FAILED,
        subject="vif7.0",
    ),
    Failure(
        name="a bridge of somebody else's in the way",
        desired=network(*WITH_GUEST.bridges, replace(INTERNAL, name="theirs"), port(7, "xapi0")),
        fault=Fault.SWITCH_FAILED,
        subject="theirs",
    ),
    Failure(
        name="a guest port without its device",
        desired=network(*WITH_GUEST.bridges, port(7, "xapi0"), port(8, "xapi0")),
        fault=Fault.NO_DEVICE,
        subject="vif8.0",
    ),
    Failure(
        name="a gateway that cannot be reached",
        desired=network(
            replace(XENBR0, ip=replace(STATIC, ipv4_gateway="10.200.0.1")), VLAN50, port(7, "xapi0")
        ),
        fault=Fault.SWITCH_FAILED,
        subject="",
    ),
    Failure(
        name="an MTU that the device does not take",
        desired=network(*BEFORE.bridges, replace(INTERNAL, mtu_bytes=65535), port(7, "xenbr0")),
        fault=Fault.NOT_VERIFIED,
        subject="",
    ),
    Failure(
        name="a guest that cannot run",
        desired=WITH_GUEST,
        fault=Fault.GUEST_FAILED,
        subject=NOBODY,
        after=(RunGuest(vm_uuid=GUEST.vm_uuid), RunGuest(vm_uuid=NOBODY)),
    ),
)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
def test_a_failure_at_any_phase_is_taken_back(tmp_path: Path, failure: Failure) -> None:
    async def body(rig: Rig) -> None:
        rig.sh("ovs-vsctl", "add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
        await rig.roll_out(BEFORE, "before")
        await stage(rig, failure.desired, "r", before=failure.before, after=failure.after)
        assert await refusal(rig, Switch(rollout="r")) == (failure.fault, failure.subject)
        observation = await rig.link.request(Observe(), Observation)
        assert mismatches(observation.network, BEFORE) == ()
        assert observation.facts.guests == ()
        assert "vif7.0" not in rig.sh("ip", "-br", "link")
        assert "default via 10.9.0.1 dev xenbr0" in rig.sh("ip", "route")
        assert (await rig.link.request(Hello(), Greeting)).confirmed == network_hash(BEFORE)
        await rig.roll_out(AFTER, "r2")  # the daemon goes on
        assert await is_as(rig, AFTER)

    with_rig(tmp_path, body, guest_runtime="netns")


def test_nobody_confirms_and_the_host_goes_back_by_itself(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await stage(rig, AFTER, "r")
        await rig.link.request(Switch(rollout="r", confirm_within_s=2.5), Done)
        assert "10.9.0.77" in rig.sh("ip", "addr")
        await rig.link.close()  # the caller has died
        await until(lambda: "10.9.0.2/24" in rig.sh("ip", "addr", "show", "xenbr0"))
        await until(lambda: "taken back" in rig.log("hostd"))
        assert await is_as(rig, BEFORE)
        assert await refusal(rig, Confirm(rollout="r")) == (Fault.UNKNOWN_ROLLOUT, "r")

    with_rig(tmp_path, body)


def test_a_confirmed_state_stays_after_its_time(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await stage(rig, AFTER, "r")
        await rig.link.request(Switch(rollout="r", confirm_within_s=2), Done)
        await rig.link.request(Confirm(rollout="r"), Done)
        await rig.link.request(Confirm(rollout="r"), Done)  # an answer that was lost may be asked for again
        await asyncio.sleep(2.0)  # longer than it would have had
        assert await is_as(rig, AFTER)
        assert await refusal(rig, Revert(rollout="r")) == (Fault.UNKNOWN_ROLLOUT, "r")

    with_rig(tmp_path, body)


def test_what_is_taken_away_before_the_confirmation_is_put_back_after_it(tmp_path: Path) -> None:
    """All that is heard of it is heard before the confirmation."""

    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE)
        await stage(rig, AFTER, "switched")
        await rig.link.request(Switch(rollout="switched", confirm_within_s=100.0), Done)
        await asyncio.sleep(
            4 * keeper.TOGETHER_S
        )  # nothing tells that nothing more is heard of the change itself
        heard = len(rig.log("hostd"))
        rig.sh("ip", "address", "flush", "dev", "xenbr0")
        await until(lambda: "is not looked at" in rig.log("hostd")[heard:])
        await asyncio.sleep(4 * keeper.TOGETHER_S)
        assert not await is_as(rig, AFTER)
        await rig.link.request(Confirm(rollout="switched"), Done)
        await until(lambda: "is put back" in rig.log("hostd")[heard:])
        await becomes(rig, AFTER)

    with_rig(tmp_path, body)


def test_a_revert_goes_back_at_once_and_others_must_wait_until_then(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await stage(rig, AFTER, "r")
        await stage(rig, BEFORE, "other")
        await rig.link.request(Switch(rollout="r", confirm_within_s=60), Done)
        assert await refusal(rig, Switch(rollout="other")) == (Fault.BUSY, "r")
        assert await refusal(rig, Stage(rollout="more", desired=BEFORE)) == (Fault.BUSY, "r")
        await rig.plan_to(BEFORE)  # a dry run disturbs nobody
        await rig.link.request(Revert(rollout="r"), Done)
        assert await is_as(rig, BEFORE)
        await rig.link.request(Revert(rollout="r"), Done)  # it is there already
        assert await refusal(rig, Switch(rollout="r")) == (Fault.UNKNOWN_ROLLOUT, "r")

    with_rig(tmp_path, body)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_dies_before_the_confirmation_takes_it_back_when_it_returns(
    tmp_path: Path, number: signal.Signals
) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await stage(
            rig, WITH_GUEST, "r", before=[CreateGuest(guest=GUEST)], after=[RunGuest(vm_uuid=GUEST.vm_uuid)]
        )
        await rig.link.request(Switch(rollout="r", confirm_within_s=60), Done)
        await rig.kill("hostd", number)
        assert "10.9.0.77" in rig.sh("ip", "addr")  # a network stays as it is without its daemon
        await rig.start_daemon()
        observation = await rig.link.request(Observe(), Observation)
        assert mismatches(observation.network, BEFORE) == ()
        assert observation.facts.guests == ()
        assert (await rig.link.request(Hello(), Greeting)).confirmed == network_hash(BEFORE)

    with_rig(tmp_path, body, guest_runtime="netns")


def test_a_daemon_killed_at_any_instant_of_a_switch_comes_back_with_one_state_or_the_other(
    tmp_path: Path,
) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        confirmed = BEFORE
        for number in range(12):
            desired = AFTER if confirmed == BEFORE else BEFORE
            await stage(rig, desired, f"r{number}")
            switching = asyncio.create_task(rig.link.request(Switch(rollout=f"r{number}"), Done))
            await asyncio.sleep(0.012 * number)
            await rig.kill("hostd")
            done = (await asyncio.gather(switching, return_exceptions=True))[0]
            await rig.start_daemon()
            kept = (await rig.link.request(Hello(), Greeting)).confirmed
            if isinstance(done, Done):
                assert kept == network_hash(desired)  # it was acknowledged
            confirmed = desired if kept == network_hash(desired) else confirmed
            assert kept == network_hash(confirmed)
            assert mismatches(await rig.observe(), confirmed) == (), number

    with_rig(tmp_path, body)


def test_a_host_that_boots_gets_its_confirmed_state_without_the_guests_that_are_gone(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("vif1.0", "guest1")
        rig.sh("ip", "link", "set", "vif1.0", "up")
        state = network(*AFTER.bridges, port(1, "xapi0"), management="xenbr0")
        await rig.roll_out(state)
        for name in ("hostd", "ovs-vswitchd", "ovsdb-server"):
            await rig.kill(name)
        for link in ("vif1.0", "xenbr0", "xapi0"):
            rig.sh("ip", "link", "del", link, check=False)
        (rig.run_dir / "conf.db").unlink()  # not even the switch's database survived
        await rig.start_database()
        await rig.start_switch()
        await rig.start_daemon()
        assert await is_as(rig, AFTER)
        assert "10.9.0.77/24" in rig.sh("ip", "addr", "show", "xenbr0")
        assert (await rig.plan_to(AFTER)).steps == ()

    with_rig(tmp_path, body)


def test_a_damaged_state_file_is_put_aside_and_the_daemon_starts(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE)
        await rig.kill("hostd", signal.SIGTERM)
        confirmed = rig.root / "var/lib/poolnet/hostd/confirmed.json"
        confirmed.write_bytes(confirmed.read_bytes()[:100])
        await rig.start_daemon()
        assert await is_as(rig, BEFORE)  # what is there counts
        assert confirmed.with_name("confirmed.json.damaged").exists()
        await rig.roll_out(EMPTY, "r2")

    with_rig(tmp_path, body)
