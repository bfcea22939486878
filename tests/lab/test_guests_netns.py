"""The namespace runtime of guests, against the real kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from poolnet.hostd.guests.netns import GuestRecord, NetnsRuntime
from poolnet.hostd.guests.runtime import GuestError
from poolnet.hostd.process_stat import started_at, stat_of
from poolnet.hostnet.facts import GuestFacts
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
from tests.lab.own_network import run_in_own_network

pytestmark = pytest.mark.lab

UUID = "11111111-2222-3333-4444-555555555555"
MAC = "02:00:00:00:00:01"
NIC = GuestNic(device=0, mac=MAC, mtu_bytes=1400)
SPEC = GuestSpec(vm_uuid=UUID, name="web 1", domid=7, nics=(NIC,))


class News:
    """Counts the runtime's changes and waits for what they should lead to."""

    def __init__(self) -> None:
        self.happened = asyncio.Event()

    def __call__(self) -> None:
        self.happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.happened.clear()
                await self.happened.wait()


def command(*words: str) -> str:
    """Run it in the calling thread's network namespace, which children inherit."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def record(run_dir: Path) -> GuestRecord:
    return msgspec.json.decode((run_dir / f"{UUID}.json").read_bytes(), type=GuestRecord)


def inside(run_dir: Path, *words: str) -> str:
    return command("nsenter", "-t", str(record(run_dir).pid), "-n", "-u", "-p", "-m", *words)


def kernel_state(pid: int) -> str:
    stat = stat_of(pid)
    return stat.state if stat is not None else ""


def children(pid: int) -> list[int]:
    return [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    ]


async def soon(holds: Callable[[], bool]) -> None:
    """Waits for what no event tells of."""
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def files(run_dir: Path) -> list[str]:
    return [path.name for path in run_dir.iterdir()]


def run_with_runtime(run_dir: Path, body: Callable[[NetnsRuntime, News], object]) -> None:
    """Run the body with an open runtime; whatever happens, no guest stays."""

    async def whole() -> None:
        runtime, news = NetnsRuntime(run_dir), News()
        await runtime.open(news)
        try:
            result = body(runtime, news)
            assert asyncio.iscoroutine(result)
            await result
        finally:
            for name in files(run_dir):
                survivor = NetnsRuntime(run_dir)
                await survivor.open(lambda: None)
                await survivor.carry_out(DestroyGuest(vm_uuid=name.removesuffix(".json")))
                await survivor.close()
            await runtime.close()

    run_in_own_network(whole)


def test_a_created_guest_does_not_run_and_its_host_end_is_down_without_arp_and_ipv6(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        assert runtime.guests() == (GuestFacts(vm_uuid=UUID, domid=7, state="paused"),)
        vif = command("ip", "link", "show", "vif7.0")
        assert "NOARP" in vif
        assert "state DOWN" in vif
        assert ",UP" not in vif
        assert "mtu 1400" in vif
        assert "inet6" not in command("ip", "addr", "show", "vif7.0")
        assert kernel_state(record(tmp_path).pid) == "T"

    run_with_runtime(tmp_path, body)


def test_a_running_guest_has_its_name_its_mac_and_links_up(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        assert runtime.guests()[0].state == "running"
        assert inside(tmp_path, "hostname").strip() == "web-1"
        eth = inside(tmp_path, "ip", "link", "show", "eth0")
        assert MAC in eth
        assert "mtu 1400" in eth
        assert "LOWER_UP" in eth
        assert "tx-checksumming: off" in inside(tmp_path, "ethtool", "-k", "eth0")
        assert "LOWER_UP" in command("ip", "link", "show", "vif7.0")
        assert sorted(inside(tmp_path, "ls", "/sys/class/net").split()) == ["eth0", "lo"]

    run_with_runtime(tmp_path, body)


def test_a_guest_may_leave_checksums_to_the_switch_or_not_whether_it_is_there_or_comes(
    tmp_path: Path,
) -> None:
    def is_left(nic: str) -> bool:
        return "tx-checksumming: on" in inside(tmp_path, "ethtool", "-k", nic)

    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.set_offloads(allowed=True)
        assert is_left("eth0")
        assert "tcp-segmentation-offload: on" in inside(tmp_path, "ethtool", "-k", "eth0")
        more = GuestNic(device=1, mac="02:00:00:00:07:01", mtu_bytes=1500)
        await runtime.carry_out(PlugNic(vm_uuid=UUID, nic=more))
        assert is_left("eth1")
        await runtime.carry_out(SuspendGuest(vm_uuid=UUID))
        await runtime.set_offloads(allowed=False)
        assert not is_left("eth0")
        assert not is_left("eth1")
        again = NetnsRuntime(tmp_path)
        await again.open(lambda: None)
        await again.set_offloads(allowed=True)
        assert is_left("eth1")
        await again.close()

    run_with_runtime(tmp_path, body)


def test_an_address_set_inside_is_reported_and_its_removal_too(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        inside(tmp_path, "ip", "addr", "add", "10.1.2.3/24", "dev", "eth0")
        inside(tmp_path, "ip", "addr", "add", "fd00::5/64", "dev", "eth0", "nodad")
        await news.until(lambda: {(0, "10.1.2.3"), (0, "fd00::5")} <= set(runtime.guests()[0].addresses))
        assert runtime.guests()[0].addresses[0] == (0, "10.1.2.3")
        inside(tmp_path, "ip", "addr", "del", "10.1.2.3/24", "dev", "eth0")
        await news.until(lambda: (0, "10.1.2.3") not in runtime.guests()[0].addresses)

    run_with_runtime(tmp_path, body)


def test_a_paused_guest_stands_still_with_every_process_and_goes_on(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        pid = record(tmp_path).pid
        await runtime.carry_out(PauseGuest(vm_uuid=UUID))
        assert runtime.guests()[0].state == "paused"
        assert {kernel_state(member) for member in (pid, *children(pid))} == {"T"}
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        assert kernel_state(pid) in {"S", "R"}

    run_with_runtime(tmp_path, body)


@pytest.mark.parametrize("end", [DestroyGuest(vm_uuid=UUID), ShutDownGuest(vm_uuid=UUID)])
def test_a_guest_in_which_somebody_works_stands_still_and_ends_all_the_same(
    tmp_path: Path, end: DestroyGuest | ShutDownGuest
) -> None:
    """`nsenter` stops itself with what it runs in the guest, which cannot end before `nsenter` has noticed."""

    async def body(runtime: NetnsRuntime, news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        pid = record(tmp_path).pid
        words = ("nsenter", "-t", str(pid), "-n", "-p", "-m", "sleep", "600")
        working = await asyncio.create_subprocess_exec(*words)
        try:
            await soon(lambda: bool(children(working.pid)))
            await runtime.carry_out(PauseGuest(vm_uuid=UUID))
            await soon(lambda: kernel_state(working.pid) == "T")
            async with asyncio.timeout(5):
                await runtime.carry_out(end)
            assert started_at(pid) == 0
        finally:
            with suppress(ProcessLookupError):  # it may have ended with the guest
                working.kill()
            await working.wait()

    run_with_runtime(tmp_path, body)


def test_a_shut_down_guest_is_stopped_and_its_links_are_gone(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        old = record(tmp_path)
        await runtime.carry_out(ShutDownGuest(vm_uuid=UUID, timeout_s=5.0))
        assert runtime.guests() == (GuestFacts(vm_uuid=UUID, domid=7, state="stopped"),)
        assert started_at(old.pid) != old.started
        assert "vif7" not in command("ip", "link")
        await runtime.carry_out(DestroyGuest(vm_uuid=UUID))
        assert runtime.guests() == ()
        assert files(tmp_path) == []

    run_with_runtime(tmp_path, body)


def test_a_guest_that_ends_by_itself_is_reported_stopped(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        os.kill(record(tmp_path).pid, signal.SIGTERM)
        await news.until(lambda: runtime.guests()[0].state == "stopped")

    run_with_runtime(tmp_path, body)


def test_guests_and_their_addresses_survive_the_daemon(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        inside(tmp_path, "ip", "addr", "add", "10.1.2.3/24", "dev", "eth0")
        await runtime.close()
        again, news = NetnsRuntime(tmp_path), News()
        await again.open(news)
        assert again.guests()[0].state == "running"
        assert (0, "10.1.2.3") in again.guests()[0].addresses
        os.kill(record(tmp_path).pid, signal.SIGKILL)
        await news.until(lambda: again.guests()[0].state == "stopped")
        await again.close()

    run_with_runtime(tmp_path, body)


def test_a_guest_that_ended_while_the_daemon_was_away_is_found_stopped(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.close()
        old = record(tmp_path)
        pidfd = os.pidfd_open(old.pid)
        os.kill(old.pid, signal.SIGKILL)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        await asyncio.wait_for(ended.wait(), 5)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)
        again = NetnsRuntime(tmp_path)
        await again.open(lambda: None)
        assert again.guests()[0].state == "stopped"
        await again.close()

    run_with_runtime(tmp_path, body)


def test_a_suspended_guest_has_no_nic_and_comes_back_with_its_address_under_a_new_domid(
    tmp_path: Path,
) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        inside(tmp_path, "ip", "addr", "add", "10.1.2.3/24", "dev", "eth0")
        await runtime.carry_out(SuspendGuest(vm_uuid=UUID))
        assert runtime.guests() == ()
        assert "vif" not in command("ip", "link")
        with pytest.raises(GuestError):
            await runtime.carry_out(RunGuest(vm_uuid=UUID))
        await runtime.carry_out(ResumeGuest(guest=msgspec.structs.replace(SPEC, domid=8)))
        assert runtime.guests()[0].state == "paused"
        assert ",UP" not in command("ip", "link", "show", "vif8.0")
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        assert "10.1.2.3/24" in inside(tmp_path, "ip", "addr", "show", "eth0")
        assert sorted(inside(tmp_path, "ls", "/sys/class/net").split()) == ["eth0", "lo"]
        assert (0, "10.1.2.3") in runtime.guests()[0].addresses

    run_with_runtime(tmp_path, body)


def test_a_nic_is_plugged_raised_and_unplugged(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        await runtime.carry_out(CreateGuest(guest=SPEC))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        second = GuestNic(device=1, mac="02:00:00:00:00:02")
        await runtime.carry_out(PlugNic(vm_uuid=UUID, nic=second))
        assert ",UP" not in command("ip", "link", "show", "vif7.1")
        await runtime.carry_out(RaiseNic(vm_uuid=UUID, device=1))
        assert "LOWER_UP" in inside(tmp_path, "ip", "link", "show", "eth1")
        with pytest.raises(GuestError, match="NIC 1 already"):
            await runtime.carry_out(PlugNic(vm_uuid=UUID, nic=second))
        await runtime.carry_out(UnplugNic(vm_uuid=UUID, device=1))
        assert "eth1" not in inside(tmp_path, "ip", "link")
        assert "vif7.1" not in command("ip", "link")
        await runtime.carry_out(UnplugNic(vm_uuid=UUID, device=1))
        assert record(tmp_path).nics == (NIC,)

    run_with_runtime(tmp_path, body)


def test_a_guest_that_cannot_get_its_nic_is_not_made(tmp_path: Path) -> None:
    async def body(runtime: NetnsRuntime, _news: News) -> None:
        bad = GuestNic(device=1, mac="not a mac")
        with pytest.raises(GuestError, match="lladdr"):
            await runtime.carry_out(CreateGuest(guest=msgspec.structs.replace(SPEC, nics=(NIC, bad))))
        assert runtime.guests() == ()
        assert "vif" not in command("ip", "link")
        assert files(tmp_path) == []

    run_with_runtime(tmp_path, body)


def test_a_guest_gets_its_virtual_function_when_it_runs_and_gives_it_back(tmp_path: Path) -> None:
    """The function is one end of a veth pair here: what counts is whose it is, and when."""
    address = "0000:01:10.1"
    nic = GuestNic(device=0, mac=MAC, mtu_bytes=1400, function=address)
    spec = GuestSpec(vm_uuid=UUID, name="web-1", domid=7, nics=(nic,))

    def net_device(asked: str) -> str:
        names = [name for _, name in socket.if_nameindex() if name.startswith("vf")]
        return names[0] if names and asked == address else ""

    async def body(_runtime: NetnsRuntime, _news: News) -> None:
        command("ip", "link", "add", "vf0", "type", "veth", "peer", "nic0")
        runtime = NetnsRuntime(tmp_path, net_device)
        await runtime.open(lambda: None)
        await runtime.carry_out(CreateGuest(guest=spec))
        assert net_device(address) == "vf0"
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        assert net_device(address) == ""
        eth = inside(tmp_path, "ip", "link", "show", "eth0")
        assert MAC in eth
        assert "mtu 1400" in eth
        assert ",UP" in eth
        await runtime.carry_out(PauseGuest(vm_uuid=UUID))
        await runtime.carry_out(RunGuest(vm_uuid=UUID))
        await runtime.carry_out(DestroyGuest(vm_uuid=UUID))
        assert net_device(address) != ""
        assert "state DOWN" in command("ip", "link", "show", net_device(address))
        await runtime.close()

    run_with_runtime(tmp_path, body)


def test_a_virtual_function_that_another_guest_has_is_given_to_nobody(tmp_path: Path) -> None:
    nic = GuestNic(device=0, mac=MAC, function="0000:01:10.1")

    async def body(runtime: NetnsRuntime, _news: News) -> None:
        with pytest.raises(GuestError, match=r"0000:01:10\.1 is not free"):
            await runtime.carry_out(
                CreateGuest(guest=GuestSpec(vm_uuid=UUID, name="web-1", domid=7, nics=(nic,)))
            )
        assert files(tmp_path) == []

    run_with_runtime(tmp_path, body)
