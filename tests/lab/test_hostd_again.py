"""What was decided, and a host went back from by itself before it heard of that, is carried out again when it hears of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import (
    Confirm,
    CreateGuest,
    DepartGuest,
    Done,
    Fault,
    GuestAction,
    GuestNic,
    GuestSpec,
    Observation,
    Observe,
    PlugNic,
    RaiseNic,
    Revert,
    RunGuest,
    ShutDownGuest,
    Stage,
    Staged,
    Switch,
)
from poolnet.hostnet.state import HostNetwork
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, STATIC, VLAN50, XENBR0, mac, network, port
from tests.waiting import until

pytestmark = pytest.mark.lab

UPLINK = replace(XENBR0, ip=STATIC)
BEFORE = network(UPLINK, management="xenbr0")
AFTER = network(UPLINK, VLAN50, port(7, "xapi0"), management="xenbr0")
WITHOUT_GUEST = network(UPLINK, VLAN50, management="xenbr0")
VM = "00000000-0000-0000-0002-000000000007"
NIC = GuestNic(device=0, mac=mac(7))
CREATE = CreateGuest(guest=GuestSpec(vm_uuid=VM, name="seven", domid=7, nics=(NIC,)))
RUN = RunGuest(vm_uuid=VM)

GoesBack = Callable[[Rig], Awaitable[None]]


async def dies(rig: Rig) -> None:
    await rig.kill("hostd")
    await rig.start_daemon()


async def dies_twice(rig: Rig) -> None:
    await dies(rig)
    assert await guests(rig) == []
    await dies(rig)


async def waits_in_vain(rig: Rig) -> None:
    await until(lambda: "taken back" in rig.log("hostd"))


async def guests(rig: Rig) -> list[tuple[str, str]]:
    observation = await rig.link.request(Observe(), Observation)
    return [(guest.vm_uuid, guest.state) for guest in observation.facts.guests]


async def switched(
    rig: Rig,
    desired: HostNetwork,
    before: tuple[GuestAction, ...] = (CREATE,),
    after: tuple[GuestAction, ...] = (RUN,),
    *,
    rollout: str = "r",
    within_s: float = 60,
) -> None:
    """A rollout that is carried out, and that nobody has confirmed."""
    command = Stage(rollout=rollout, desired=desired, guests_before=before, guests_after=after)
    await rig.link.request(command, Staged)
    await rig.link.request(Switch(rollout=rollout, confirm_within_s=within_s), Done)


async def confirmed(rig: Rig, alive: tuple[str, ...] | None, rollout: str = "r") -> Fault | None:
    try:
        await rig.link.request(Confirm(rollout=rollout, alive=alive), Done)
    except HostRefused as refused:
        return refused.refused.fault
    return None


@pytest.mark.parametrize(
    ("goes_back", "within_s"),
    [(dies, 60.0), (dies_twice, 60.0), (waits_in_vain, 1.5)],
    ids=["dies", "dies twice", "waits in vain"],
)
def test_network_and_guest_are_made_again(tmp_path: Path, goes_back: GoesBack, within_s: float) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await switched(rig, AFTER, within_s=within_s)
        assert await guests(rig) == [(VM, "running")]
        await goes_back(rig)
        assert await confirmed(rig, None) is Fault.UNKNOWN_ROLLOUT, "nobody says that it is decided"
        assert mismatches(await rig.observe(), BEFORE) == ()
        assert await guests(rig) == []
        assert await confirmed(rig, (VM,)) is None
        assert mismatches(await rig.observe(), AFTER) == ()
        assert await guests(rig) == [(VM, "running")]
        assert await confirmed(rig, (VM,)) is None, "an answer that was lost may be asked for again"
        await dies(rig)
        assert mismatches(await rig.observe(), AFTER) == (), "it is confirmed"
        assert await guests(rig) == [(VM, "running")]

    with_rig(tmp_path, body, guest_runtime="netns")


def test_a_guest_that_the_database_has_not_here_any_more_is_not_made_again(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await switched(rig, WITHOUT_GUEST)
        await dies(rig)
        assert await confirmed(rig, ()) is None
        assert mismatches(await rig.observe(), WITHOUT_GUEST) == ()
        assert await guests(rig) == []

    with_rig(tmp_path, body, guest_runtime="netns")


def test_a_nic_is_plugged_again_and_a_guest_that_has_ended_is_not_asked_to_end(tmp_path: Path) -> None:
    more = GuestNic(device=1, mac=mac(8))

    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await switched(rig, AFTER)
        await rig.link.request(Confirm(rollout="r"), Done)
        await switched(
            rig, AFTER, (PlugNic(vm_uuid=VM, nic=more),), (RaiseNic(vm_uuid=VM, device=1),), rollout="plug"
        )
        await dies(rig)
        assert "vif7.1" not in rig.sh("ip", "-br", "link")
        assert await confirmed(rig, (VM,), "plug") is None
        assert "vif7.1" in rig.sh("ip", "-br", "link")
        reboot = (ShutDownGuest(vm_uuid=VM, timeout_s=5.0), CREATE)
        await switched(rig, AFTER, reboot, rollout="reboot")
        await dies(rig)
        assert await guests(rig) == []
        assert await confirmed(rig, (VM,), "reboot") is None
        assert await guests(rig) == [(VM, "running")]

    with_rig(tmp_path, body, guest_runtime="netns")


def test_what_needs_somebody_else_is_not_done_again(tmp_path: Path) -> None:
    """A change of the management needs a way back, a migration the other host; what was reverted was not decided."""
    moved = network(replace(UPLINK, ip=replace(STATIC, ipv4_address="10.9.0.77/24")), management="xenbr0")

    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await switched(rig, moved, (), ())
        await dies(rig)
        assert await confirmed(rig, ()) is Fault.UNKNOWN_ROLLOUT
        assert mismatches(await rig.observe(), BEFORE) == ()
        await switched(rig, AFTER)
        await rig.link.request(Confirm(rollout="r"), Done)
        await switched(rig, WITHOUT_GUEST, (DepartGuest(vm_uuid=VM),), (), rollout="departs")
        await dies(rig)
        assert await confirmed(rig, (VM,), "departs") is Fault.UNKNOWN_ROLLOUT

    with_rig(tmp_path, body, guest_runtime="netns")


def test_another_change_or_a_word_ends_the_wait_for_the_decision(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await switched(rig, AFTER)
        await dies(rig)
        await rig.roll_out(network(UPLINK, INTERNAL, management="xenbr0"), "other")
        assert await confirmed(rig, (VM,)) is Fault.UNKNOWN_ROLLOUT
        for revert_first in (True, False):  # a word that comes before the daemon dies, or after it
            rollout = f"r{revert_first}"
            await switched(rig, AFTER, rollout=rollout)
            if revert_first:
                await rig.link.request(Revert(rollout=rollout), Done)
            await dies(rig)
            await rig.link.request(Revert(rollout=rollout), Done)
            assert await confirmed(rig, (VM,), rollout) is Fault.UNKNOWN_ROLLOUT
        assert await guests(rig) == []

    with_rig(tmp_path, body, guest_runtime="netns")


def test_what_cannot_be_made_again_leaves_nothing_behind(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(BEFORE, "before")
        await switched(rig, AFTER)
        await dies(rig)
        rig.sh("ovs-vsctl", "add-br", "xapi0", "--", "set", "Bridge", "xapi0", "datapath_type=netdev")
        assert await confirmed(rig, (VM,)) is Fault.SWITCH_FAILED, "somebody else's bridge is in the way"
        assert await guests(rig) == []
        assert mismatches(await rig.observe(), BEFORE) == ()
        assert await confirmed(rig, (VM,)) is Fault.UNKNOWN_ROLLOUT, "it is tried once"

    with_rig(tmp_path, body, guest_runtime="netns")
