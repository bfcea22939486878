"""A disk that is full, read-only or damaged stops changes, and says so; the host keeps its last confirmed network."""

from __future__ import annotations

import json
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import Confirm, Done, Fault, Greeting, Hello, Stage, Staged, Switch
from poolnet.hostnet.show import network_hash
from poolnet.hostnet.state import HostNetwork, LinkSettings
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, STATIC, XENBR0, network
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])]

BEFORE = network(replace(XENBR0, ip=STATIC), management="xenbr0")
# All that is written down on the way: what a NIC gives up, options of NICs, the journal.
AFTER = replace(
    network(
        replace(XENBR0, uplink=None, ip=replace(STATIC, ipv4_address="10.9.0.77/24")),
        replace(INTERNAL, uplink=replace(XENBR0.uplink, device="eth1", members=("eth1",))),  # type: ignore[type-var]
        management="xenbr0",
    ),
    links=(LinkSettings(name="eth1", values=(("gro", "off"),)),),
)
PAGE = 4096
NO_SPACE, READ_ONLY = "No space left on device", "Read-only file system"


def with_small_disk(directory: Path, backend: str, body: Callable[[Rig, Path], Awaitable[None]]) -> None:
    """The daemon's state is on a file system of 64 kilobytes; BEFORE is confirmed, and eth1 has an address to give up."""

    async def run(rig: Rig) -> None:
        await rig.kill("hostd", signal.SIGTERM)
        state = rig.root / "var/lib/poolnet/hostd"
        rig.sh("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state))
        rig.cable("eth1", "sw1")
        rig.sh("ip", "addr", "add", "10.77.0.1/24", "dev", "eth1")
        await rig.start_daemon()
        await rig.roll_out(BEFORE, "before")
        await body(rig, state)

    with_rig(directory, run, backend=backend, mounts=True)


def fill(state: Path, *, pages_left: int = 0) -> Path:
    """Uses all the room there is, but for some pages."""
    filler = state / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            pass
        file.truncate(max(file.tell() - pages_left * PAGE, 0))
    return filler


async def refused(rig: Rig, command: Switch | Confirm) -> str:
    with pytest.raises(HostRefused) as error:
        await rig.link.request(command, Done)
    assert error.value.refused.fault is Fault.SWITCH_FAILED
    return error.value.refused.message


async def outcome(rig: Rig, command: Switch) -> str:
    """Why it was refused; "" when it was carried out."""
    try:
        await rig.link.request(command, Done)
    except HostRefused as error:
        return error.refused.message
    return ""


async def arm(rig: Rig, within_s: float = 60.0, rollout: str = "r") -> None:
    await rig.link.request(Stage(rollout=rollout, desired=AFTER), Staged)
    await rig.link.request(Switch(rollout=rollout, confirm_within_s=within_s), Done)
    assert mismatches(await rig.observe(), AFTER) == ()


async def require(rig: Rig, state: HostNetwork) -> None:
    assert mismatches(await rig.observe(), state) == ()
    assert (await rig.link.request(Hello(), Greeting)).confirmed == network_hash(state)


async def reverted(rig: Rig) -> None:
    """Nobody confirms: what was armed is taken back by the daemon itself."""
    await until(lambda: "nobody confirmed" in rig.log("hostd"))
    await rig.link.request(Stage(rollout="next", desired=BEFORE), Staged)  # in its turn, after the way back
    await require(rig, BEFORE)
    assert "10.77.0.1/24" in rig.sh("ip", "addr", "show", "eth1")


async def works(rig: Rig) -> None:
    """A change goes through again, and is written down."""
    await rig.roll_out(AFTER, "at last")
    await rig.kill("hostd", signal.SIGTERM)
    await rig.start_daemon()
    await require(rig, AFTER)


def test_a_full_disk_stops_a_change_before_anything_is_changed(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await rig.link.request(Stage(rollout="r", desired=AFTER), Staged)
        filler = fill(state)
        said = await refused(rig, Switch(rollout="r"))
        assert said.startswith("nothing is changed: ")
        assert NO_SPACE in said
        await require(rig, BEFORE)
        await rig.kill("hostd")
        await rig.start_daemon()
        await require(rig, BEFORE)
        filler.unlink()
        await works(rig)

    with_small_disk(tmp_path, backend, body)


@pytest.mark.parametrize("pages_left", [1, 2])
def test_a_disk_that_is_full_in_the_middle_of_a_change_takes_it_back(
    tmp_path: Path, backend: str, pages_left: int
) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await rig.link.request(Stage(rollout="r", desired=AFTER), Staged)
        filler = fill(state, pages_left=pages_left)
        said = await outcome(rig, Switch(rollout="r"))
        await require(rig, BEFORE if said else AFTER)
        if said:
            assert NO_SPACE in said
            assert "10.77.0.1/24" in rig.sh("ip", "addr", "show", "eth1")
        else:
            await rig.roll_out(BEFORE, "back")
        filler.unlink()
        await works(rig)

    with_small_disk(tmp_path, backend, body)


@pytest.mark.parametrize("words", [(), ("remount,ro",)], ids=["full", "read-only"])
def test_what_nobody_confirms_is_taken_back_whatever_the_disk_does(
    tmp_path: Path, backend: str, words: tuple[str, ...]
) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await arm(rig, within_s=3.0)
        fill(state)
        if words:
            rig.sh("mount", "-o", *words, str(state))
        await reverted(rig)

    with_small_disk(tmp_path, backend, body)


def test_a_disk_that_has_filled_up_since_is_not_in_the_way_of_a_confirmation(
    tmp_path: Path, backend: str
) -> None:
    """It may be that of a change which all hosts have been told of."""

    async def body(rig: Rig, state: Path) -> None:
        await arm(rig)
        filler = fill(state)
        await rig.link.request(Confirm(rollout="r"), Done)
        await require(rig, AFTER)
        await rig.kill("hostd")
        await rig.start_daemon()
        await require(rig, AFTER)
        filler.unlink()
        await rig.roll_out(BEFORE, "back")
        await works(rig)

    with_small_disk(tmp_path, backend, body)


def test_what_cannot_be_confirmed_is_taken_back_at_once(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await arm(rig)
        rig.sh("mount", "-o", "remount,ro", str(state))
        said = await refused(rig, Confirm(rollout="r"))
        assert said.startswith("the change cannot be confirmed, and is taken back: ")
        assert READ_ONLY in said
        await require(rig, BEFORE)
        rig.sh("mount", "-o", "remount,rw", str(state))
        await works(rig)

    with_small_disk(tmp_path, backend, body)


@pytest.mark.parametrize("armed", [False, True], ids=["idle", "armed"])
def test_a_daemon_on_a_read_only_disk_restores_the_host_and_refuses_changes(
    tmp_path: Path, backend: str, *, armed: bool
) -> None:
    async def body(rig: Rig, state: Path) -> None:
        if armed:
            await arm(rig)
        rig.sh("mount", "-o", "remount,ro", str(state))
        await rig.kill("hostd")
        rig.sh("ip", "addr", "flush", "dev", "xenbr0")
        await rig.start_daemon()
        await require(rig, BEFORE)
        await rig.link.request(Stage(rollout="r", desired=AFTER), Staged)
        said = await refused(rig, Switch(rollout="r"))
        assert said.startswith("nothing is changed: ")
        assert READ_ONLY in said
        await require(rig, BEFORE)
        rig.sh("mount", "-o", "remount,rw", str(state))
        await works(rig)

    with_small_disk(tmp_path, backend, body)


def test_a_host_that_never_had_a_state_starts_on_a_read_only_disk(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await rig.kill("hostd")
        rig.sh("find", str(state), "-type", "f", "-delete")
        rig.sh("mount", "-o", "remount,ro", str(state))
        await rig.start_daemon()
        await require(rig, BEFORE)  # what is there counts
        assert "cannot be written down" in rig.log("hostd")

    with_small_disk(tmp_path, backend, body)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def altered(path: Path) -> None:
    """One address becomes another; it is still JSON."""
    content = path.read_bytes()
    assert b"10.9.0.2/24" in content
    path.write_bytes(content.replace(b"10.9.0.2/24", b"10.9.0.9/24"))


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [truncated, emptied, altered, replaced])
def test_a_damaged_state_file_is_put_aside_and_its_copy_used(
    tmp_path: Path, backend: str, damage: Callable[[Path], None]
) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await rig.kill("hostd")
        damage(state / "confirmed.json")
        rig.sh("ip", "addr", "flush", "dev", "xenbr0")
        rig.sh("ip", "link", "set", "eth0", "down")
        await rig.start_daemon()
        await require(rig, BEFORE)
        assert (state / "confirmed.json.damaged").exists()
        assert "a state file is damaged" in rig.log("hostd")
        await works(rig)

    with_small_disk(tmp_path, backend, body)


@pytest.mark.parametrize("damage", [truncated, emptied])
def test_a_damaged_journal_does_not_keep_a_change_from_being_taken_back(
    tmp_path: Path, backend: str, damage: Callable[[Path], None]
) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await arm(rig)
        await rig.kill("hostd")
        damage(state / "journal.json")
        await rig.start_daemon()
        await require(rig, BEFORE)
        assert not (state / "journal.json").exists()
        await works(rig)

    with_small_disk(tmp_path, backend, body)


def test_damaged_notes_about_nics_are_said_and_hold_nothing_up(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig, state: Path) -> None:
        await rig.roll_out(AFTER, "after")
        await rig.kill("hostd")
        for name in ("nics.json", "links.json", "nic-order.json"):
            assert json.loads((state / name).read_bytes())
            emptied(state / name)
        await rig.start_daemon()
        await require(rig, AFTER)
        assert rig.log("hostd").count("a state file is damaged") == 3
        await rig.roll_out(BEFORE, "back")
        await require(rig, BEFORE)

    with_small_disk(tmp_path, backend, body)
