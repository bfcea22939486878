"""What takes guest actions back, and what the switch's counters say."""

from __future__ import annotations

import asyncio
import struct
import sys

import pytest

from poolnet.hostd.apply import undo_of
from poolnet.hostd.openvswitch.counters import flows_in
from poolnet.hostd.run import CommandFailed, run
from poolnet.hostnet.protocol import (
    CreateGuest,
    DestroyGuest,
    GuestNic,
    GuestSpec,
    PauseGuest,
    PlugNic,
    RaiseNic,
    ResumeGuest,
    RunGuest,
    ShutDownGuest,
    SuspendGuest,
    UnplugNic,
)
from poolnet.lock.openflow import port_cookie

NEW = GuestSpec(vm_uuid="new", name="new", domid=1)
OLD = GuestSpec(vm_uuid="old", name="old", domid=2)


def test_actions_are_taken_back_last_first() -> None:
    actions = (
        CreateGuest(guest=NEW),
        ResumeGuest(guest=OLD),
        PlugNic(vm_uuid="third", nic=GuestNic(device=2, mac="aa:00:00:00:00:01")),
        RunGuest(vm_uuid="new"),
        RaiseNic(vm_uuid="third", device=2),
        RunGuest(vm_uuid="fourth"),
    )
    assert undo_of(actions) == (
        PauseGuest(vm_uuid="fourth"),
        UnplugNic(vm_uuid="third", device=2),
        SuspendGuest(vm_uuid="old"),
        DestroyGuest(vm_uuid="new"),
    )


def test_a_guest_that_was_paused_to_be_suspended_goes_on() -> None:
    actions = (PauseGuest(vm_uuid="a"), SuspendGuest(vm_uuid="a"))
    assert undo_of(actions) == (RunGuest(vm_uuid="a"),)


def test_what_ends_a_guest_cannot_be_taken_back() -> None:
    assert undo_of((ShutDownGuest(vm_uuid="a"), DestroyGuest(vm_uuid="b"))) == ()


def flow(table: int, cookie: int, packets: int, more: bytes = b"") -> bytes:
    head = struct.pack(
        "!HBxIIHHHHHHQQQ", 48 + len(more), table, 1, 2, 100, 0, 0, 0, 0, 0, cookie, packets, 60
    )
    return head + more


def test_flows_are_read_one_after_the_other_whatever_they_match() -> None:
    data = (
        flow(50, port_cookie(32768), 3, bytes(16))
        + flow(53, 1, 7)
        + flow(53, port_cookie(32769), 0, bytes(24))
    )
    assert list(flows_in(data)) == [
        (50, port_cookie(32768), 3),
        (53, 1, 7),
        (53, port_cookie(32769), 0),
    ]


@pytest.mark.parametrize("data", [flow(50, 1, 1)[:-1], struct.pack("!HB45x", 0, 50), b"x"])
def test_what_is_no_list_of_flows_is_refused(data: bytes) -> None:
    with pytest.raises(struct.error):
        list(flows_in(data))


def test_a_program_is_given_its_input_and_its_failure_is_its_own_words() -> None:
    echo = "import sys; sys.stdout.write(sys.stdin.read()[::-1])"
    assert asyncio.run(run((sys.executable, "-c", echo), stdin=b"abc")).stdout == "cba"
    with pytest.raises(CommandFailed, match="no such thing"):
        asyncio.run(run((sys.executable, "-c", "raise SystemExit('no such thing')")))
    assert asyncio.run(run((sys.executable, "-c", "raise SystemExit(2)"), expect=(0, 2))).status == 2
    with pytest.raises(CommandFailed, match="No such file"):
        asyncio.run(run(("/nonexistent/program",)))


def test_a_program_that_does_not_end_is_killed() -> None:
    with pytest.raises(CommandFailed, match="not done after"):
        asyncio.run(run((sys.executable, "-c", "import time; time.sleep(60)"), timeout_s=0.2))
