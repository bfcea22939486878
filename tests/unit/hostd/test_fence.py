"""A host without a lease stops its guests and starts none; what is on the disk, and what has been killed, changes nothing of that."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from poolnet.hostd import fence, fence_guard
from poolnet.hostd.fence import Fence
from poolnet.hostd.fence_guard import ARMED_FILE, FENCED_FILE, LEASE_FILE, now_ns
from poolnet.hostd.guests.fenced import FencedRuntime
from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostd.nohypervisor import NoHypervisor
from poolnet.hostd.process_stat import started_at
from poolnet.hostd.run import CommandFailed
from poolnet.hostnet import protocol
from tests.waiting import eventually, until

HOUR_NS = 3600 * 10**9


class Place:
    """The directories of a host, and what the guard does to it."""

    def __init__(self, root: Path) -> None:
        self.state, self.run = root / "state", root / "run"
        self.state.mkdir()
        (self.run / "guests").mkdir(parents=True)
        self.silenced = 0

    def arm(self, until_ns: int) -> None:
        (self.state / ARMED_FILE).write_text('{"generation": "g"}')
        (self.run / LEASE_FILE).write_text(json.dumps({"until_ns": until_ns}))

    def look(self) -> float | None:
        return fence_guard.look(self.state, self.run)

    @property
    def fenced(self) -> bool:
        return (self.run / FENCED_FILE).exists()

    def fence(self) -> Fence:
        return Fence(self.state, self.run, lambda: None)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """No guard runs by itself, and no interface of this machine is touched."""
    made = Place(tmp_path)

    def silence() -> None:
        made.silenced += 1

    def spawn(words: Sequence[str]) -> int:
        raise CommandFailed(words, "not in this test")

    monkeypatch.setattr(fence_guard, "silence", silence)
    monkeypatch.setattr(fence, "spawn", spawn)
    return made


@pytest.fixture
def guest(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is a guest, as the runtime has written it down."""
    with subprocess.Popen(("sleep", "600")) as process:
        record = {"state": "running", "pid": process.pid, "started": started_at(process.pid)}
        (place.run / "guests/vm.json").write_text(json.dumps(record))
        yield process
        process.kill()


def hold(place: Fence, until_ns: int, generation: str = "g", seconds: float = 30.0) -> None:
    place.hold(protocol.HoldLease(generation=generation, seconds=seconds, until_ns=until_ns))


def test_a_host_that_is_not_armed_needs_no_guard(place: Place) -> None:
    assert place.look() is None
    assert not place.silenced


def test_a_lease_is_waited_for_and_looked_at_again(place: Place) -> None:
    place.arm(now_ns() + HOUR_NS)
    assert place.look() == fence_guard.LOOK_S
    place.arm(now_ns() + 10**8)
    assert 0 < (place.look() or 0) <= 0.1
    assert (place.silenced, place.fenced) == (0, False)


@pytest.mark.parametrize(
    "lease", ['{"until_ns": 1}', "", "{", "[]", '{"until_ns": "9"}', '{"until_ns": null}', None]
)
def test_without_a_lease_guests_are_silent_and_then_killed(
    place: Place, guest: subprocess.Popen[bytes], lease: str | None
) -> None:
    place.arm(1)
    if lease is None:
        (place.run / LEASE_FILE).unlink()
    else:
        (place.run / LEASE_FILE).write_text(lease)
    assert place.look() == fence_guard.AGAIN_S
    assert (place.silenced > 0, place.fenced) == (True, True)
    assert guest.wait(10) == -signal.SIGKILL


def test_it_goes_on_until_the_daemon_says_so_and_not_after(
    place: Place, guest: subprocess.Popen[bytes]
) -> None:
    place.arm(now_ns() + HOUR_NS)
    (place.run / FENCED_FILE).touch()
    place.look()
    assert guest.wait(10) == -signal.SIGKILL
    (place.run / FENCED_FILE).unlink()
    assert place.look() == fence_guard.LOOK_S
    assert not place.fenced


def test_what_is_no_guest_or_sleeps_is_left_alone(place: Place, guest: subprocess.Popen[bytes]) -> None:
    for number, record in enumerate(
        (
            {"state": "suspended", "pid": guest.pid, "started": started_at(guest.pid)},
            {"state": "running", "pid": guest.pid, "started": started_at(guest.pid) + 1},  # used again
            {"state": "running", "pid": 1, "started": started_at(1)},
            {"state": "running"},
        )
    ):
        (place.run / f"guests/vm{number or ''}.json").write_text(json.dumps(record))
    (place.run / "guests/broken.json").write_text("{")
    assert not list(fence_guard.running(place.run))


def test_a_hypervisor_is_found_by_its_domain(place: Place) -> None:
    domain = str(uuid4())
    words = ("sh", "-c", "read line", "qemu", "-uuid", domain)
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        (place.run / "guests/vm.json").write_text(json.dumps({"state": "running", "domain": domain}))
        # A program that begins has no command line yet for a moment, though whoever started it is told that it has begun.
        eventually(lambda: list(fence_guard.running(place.run)) == [process.pid], "it is not found")
        process.kill()


def test_what_is_kept_over_a_restart(place: Place) -> None:
    async def body() -> None:
        one = place.fence()
        one.start()
        assert not one.fenced
        assert one.state() == protocol.FenceState()
        hold(one, now_ns() + HOUR_NS)
        until = fence_guard.lease_in(place.run).until_ns
        assert until <= now_ns() + 30 * 10**9, "a lease lasts no longer than it may"
        await one.close()
        again = place.fence()
        again.start()
        assert again.state() == protocol.FenceState(generation="g")
        again.require("vm")
        await again.close()
        (place.run / LEASE_FILE).unlink()  # a boot
        booted = place.fence()
        booted.start()
        assert booted.state().fenced
        with pytest.raises(GuestError):
            booted.require("vm")
        booted.drop()
        assert booted.state() == protocol.FenceState()
        assert not fence_guard.is_armed(place.state)
        await booted.close()

    asyncio.run(body())


@pytest.mark.parametrize("content", ["", "{", '{"generation": 7}'])
def test_a_damaged_file_arms_all_the_same(place: Place, content: str) -> None:
    async def body() -> None:
        (place.state / ARMED_FILE).write_text(content)
        one = place.fence()
        one.start()
        assert one.fenced
        assert fence_guard.is_armed(place.state)
        await one.close()

    asyncio.run(body())


def test_the_guard_is_told_of_the_watchdog_with_each_lease(place: Place) -> None:
    async def body() -> None:
        one = Fence(place.state, place.run, lambda: None, "/dev/watchdog7")
        hold(one, now_ns() + HOUR_NS, seconds=40.0)
        lease = fence_guard.lease_in(place.run)
        assert (lease.seconds, lease.watchdog) == (40.0, "/dev/watchdog7")
        await one.close()
        again = place.fence()
        again.start()
        hold(again, now_ns() + HOUR_NS)
        assert fence_guard.lease_in(place.run).watchdog == ""
        await again.close()

    asyncio.run(body())


def test_a_fenced_host_takes_no_lease_before_its_guests_have_gone(
    place: Place, guest: subprocess.Popen[bytes]
) -> None:
    async def body() -> None:
        one = place.fence()
        hold(one, 1)
        assert one.state() == protocol.FenceState(generation="g", fenced=True, clean=False)
        with pytest.raises(GuestError):
            hold(one, now_ns() + HOUR_NS)
        place.look()
        guest.wait(10)
        assert place.fenced
        hold(one, now_ns() + HOUR_NS)
        assert one.state() == protocol.FenceState(generation="g")
        assert not (place.run / FENCED_FILE).exists()
        await one.close()

    asyncio.run(body())


def test_a_guest_is_started_with_a_lease_only_and_stopped_always(place: Place) -> None:
    class Noting(NoHypervisor):
        async def carry_out(self, action: protocol.GuestAction) -> None:
            done.append(action)

    done: list[protocol.GuestAction] = []
    spec = protocol.GuestSpec(vm_uuid="vm", name="vm", domid=1)
    nic = protocol.GuestNic(device=0, mac="52:54:00:00:00:01")
    starting = (
        protocol.CreateGuest(guest=spec),
        protocol.ResumeGuest(guest=spec),
        protocol.ReceiveGuest(guest=spec),
        protocol.RunGuest(vm_uuid="vm"),
        protocol.PlugNic(vm_uuid="vm", nic=nic),
        protocol.RaiseNic(vm_uuid="vm", device=0),
    )
    stopping = (
        protocol.PauseGuest(vm_uuid="vm"),
        protocol.ShutDownGuest(vm_uuid="vm"),
        protocol.DestroyGuest(vm_uuid="vm"),
        protocol.SuspendGuest(vm_uuid="vm"),
        protocol.UnplugNic(vm_uuid="vm", device=0),
        protocol.DepartGuest(vm_uuid="vm"),
    )

    async def body() -> None:
        one = place.fence()
        runtime = FencedRuntime(Noting(), one.require)
        for action in (*starting, *stopping):
            await runtime.carry_out(action)
        hold(one, 1)
        for action in starting:
            with pytest.raises(GuestError, match="lease"):
                await runtime.carry_out(action)
        for action in stopping:
            await runtime.carry_out(action)
        assert done == [*starting, *stopping, *stopping]
        await one.close()

    asyncio.run(body())


def test_a_guard_that_is_killed_is_there_again_and_goes_when_it_is_not_needed(tmp_path: Path) -> None:
    """A real one: it is given no reason to stop anything."""
    there = Place(tmp_path)

    def guard() -> int:
        return one._guard_there()

    async def body() -> None:
        hold(one, now_ns() + HOUR_NS, seconds=3600.0)
        await until(lambda: guard() > 0, "no guard")
        first = guard()
        os.kill(first, signal.SIGTERM)  # what ends the daemon does not end it
        os.kill(first, signal.SIGKILL)
        await until(lambda: guard() not in (0, -1, first), "no other guard")
        second = guard()
        await one.close()
        again = there.fence()
        again.start()
        await asyncio.sleep(0.5)
        assert again._guard_there() == second, "one guard is enough"
        again.drop()
        await until(lambda: again._guard_there() == 0, "the guard stays")
        await again.close()

    one = there.fence()
    asyncio.run(body())
