"""What takes guest actions back, and what the switch's counters say."""

from __future__ import annotations

import asyncio
import sys

import pytest

from poolnet.hostd.apply import undo_of
from poolnet.hostd.openvswitch.counters import read
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


def test_what_ends_a_guest_cannot_be_taken_back() -> None:
    assert undo_of((ShutDownGuest(vm_uuid="a"), DestroyGuest(vm_uuid="b"))) == ()


def test_counters_are_summed_by_reason_and_others_are_left_out() -> None:
    def line(ofport: int, table: int, packets: int) -> str:
        return (
            f" cookie={port_cookie(ofport):#x}, duration=1.2s, table={table}, n_packets={packets}, n_bytes=60, "
            f"priority=100,in_port={ofport} actions=drop"
        )

    dump = "\n".join(
        [
            "OFPST_FLOW reply (OF1.4) (xid=0x2):",
            line(32768, 50, 3),
            line(32768, 53, 4),
            line(32768, 10, 99),  # no reason's table
            line(32769, 50, 5),
            " cookie=0x1, duration=1.2s, table=50, n_packets=7, n_bytes=0, priority=0 actions=drop",
        ]
    )
    facts = read(dump, {32768: "vif1.0"})
    assert [(one.device, dict(one.dropped)) for one in facts] == [("vif1.0", {"vlan": 3, "arp": 4})]


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
