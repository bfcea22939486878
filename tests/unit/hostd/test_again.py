"""What a host does once more is what is still wanted, and what nobody else is needed for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poolnet.hostd.again import may_be_done_again, with_guests_of
from poolnet.hostnet.diff import diff
from poolnet.hostnet.protocol import (
    CreateGuest,
    DepartGuest,
    DestroyGuest,
    GuestAction,
    GuestNic,
    GuestSpec,
    PlugNic,
    ReceiveGuest,
    ResumeGuest,
    RunGuest,
    ShutDownGuest,
    Stage,
)
from poolnet.hostnet.state import Bridge, HostNetwork, IpConfig, Ipv4Mode

OURS, THEIRS = "vm-1", "vm-2"
BEFORE = HostNetwork(
    bridges=(
        Bridge(name="xenbr0", ip=IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="192.0.2.10/24")),
        Bridge(name="xapi1"),
    ),
    management_bridge="xenbr0",
)


def spec(uuid: str) -> GuestSpec:
    return GuestSpec(vm_uuid=uuid, name=uuid, domid=1)


def staged(*before: GuestAction, after: tuple[GuestAction, ...] = (), desired: HostNetwork = BEFORE) -> Stage:
    return Stage(rollout="r", desired=desired, guests_before=before, guests_after=after)


def test_actions_on_guests_of_others_are_left_out() -> None:
    whole = staged(
        CreateGuest(guest=spec(OURS)),
        ResumeGuest(guest=spec(THEIRS)),
        PlugNic(vm_uuid=OURS, nic=GuestNic(device=1, mac="aa:00:00:00:00:01")),
        after=(RunGuest(vm_uuid=THEIRS), RunGuest(vm_uuid=OURS)),
    )
    assert with_guests_of(whole, {OURS, THEIRS}) == whole
    ours = with_guests_of(whole, {OURS})
    assert (ours.guests_before, ours.guests_after) == (
        (whole.guests_before[0], whole.guests_before[2]),
        (RunGuest(vm_uuid=OURS),),
    )
    assert with_guests_of(whole, ()) == staged()


def test_who_was_asked_to_end_has_ended() -> None:
    """A clean reboot: its guest went when it was asked to, and is to be made."""
    reboot = (ShutDownGuest(vm_uuid=OURS), DestroyGuest(vm_uuid=OURS), CreateGuest(guest=spec(OURS)))
    assert with_guests_of(staged(*reboot), {OURS}).guests_before == reboot[1:]


@pytest.mark.parametrize("action", [DepartGuest(vm_uuid=OURS), ReceiveGuest(guest=spec(OURS))])
def test_a_migration_is_for_two_hosts_to_do(action: GuestAction) -> None:
    assert not may_be_done_again(staged(action), diff(BEFORE, BEFORE))


def test_the_management_is_not_disturbed_without_a_way_back() -> None:
    more = replace(BEFORE, bridges=(*BEFORE.bridges, Bridge(name="xapi2")))
    assert may_be_done_again(staged(desired=more), diff(BEFORE, more))
    moved = replace(BEFORE.bridges[0], ip=replace(BEFORE.bridges[0].ip, ipv4_address="192.0.2.11/24"))
    elsewhere = replace(BEFORE, bridges=(moved, BEFORE.bridges[1]))
    assert not may_be_done_again(staged(desired=elsewhere), diff(BEFORE, elsewhere))
