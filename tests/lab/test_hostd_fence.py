"""A host's guests stop when its lease ends, on each backend, whatever has become of the daemon; frames prove it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from poolnet.hostd.fence_guard import LOCK_FILE, LOOK_S, now_ns
from poolnet.hostd.process_stat import started_at
from poolnet.hostnet.protocol import (
    CreateGuest,
    DestroyGuest,
    DropLease,
    Fault,
    FenceState,
    GuestNic,
    GuestSpec,
    HoldLease,
    Observation,
    Observe,
    ReadFence,
    RunGuest,
)
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import XENBR0, mac, network, port
from tests.waiting import until

pytestmark = pytest.mark.lab

ALL_FRAMES = 0x0003  # ETH_P_ALL
PORT = port(7, "xenbr0")
GUEST = GuestSpec(vm_uuid=PORT.vm_uuid, name="guest", domid=7, nics=(GuestNic(device=0, mac=mac(7)),))
LEASE_S = 1.0
SLACK_S = 0.5  # of a busy machine


async def hold(rig: Rig, seconds: float = LEASE_S) -> float:
    """Gives the host a lease; when that ends, as CLOCK_BOOTTIME has it, in seconds."""
    ends_at = now_ns() + int(seconds * 1e9)
    await rig.link.request(HoldLease(generation="g", seconds=seconds, until_ns=ends_at), FenceState)
    return ends_at / 1e9


class Guests:
    """Starts the guest, again and again; what sends in it belongs to the test, and ends with that."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._senders: list[asyncio.subprocess.Process] = []

    async def start(self, rollout: str) -> int:
        """A guest that sends all the time; its process."""
        await self._rig.roll_out(
            network(XENBR0, PORT),
            rollout,
            guests_before=(CreateGuest(guest=GUEST),),
            guests_after=(RunGuest(vm_uuid=GUEST.vm_uuid),),
        )
        record = self._rig.root / "run/poolnet/guests" / f"{GUEST.vm_uuid}.json"
        pid = int(json.loads(record.read_text())["pid"])
        words = ("nsenter", "-t", str(pid), "-n", "ping", "-6", "-n", "-i", "0.05", "ff02::1%eth0")
        quiet = asyncio.subprocess.DEVNULL
        self._senders.append(await asyncio.create_subprocess_exec(*words, stdout=quiet, stderr=quiet))
        return pid

    async def refused(self, rollout: str) -> str:
        """Why it is not started."""
        with pytest.raises(HostRefused) as caught:
            await self.start(rollout)
        assert caught.value.refused.fault is Fault.GUEST_FAILED
        return caught.value.refused.message

    async def end(self) -> None:
        """Ends what sends."""
        for sender in self._senders:
            with suppress(ProcessLookupError):
                sender.kill()
            await sender.wait()


class Heard:
    """When the guest's frames came out of the host's cable."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.last = ""


@contextmanager
def listening() -> Iterator[Heard]:
    heard, ended = Heard(), threading.Event()
    own = bytes.fromhex(mac(7).replace(":", ""))
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
    end.bind(("sw0", 0))
    end.settimeout(0.1)

    def listen() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                frame = end.recv(2048)
                if frame[6:12] == own:
                    heard.times.append(time.clock_gettime(time.CLOCK_BOOTTIME))
                    heard.last = frame.hex()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        ended.set()
        thread.join()
        end.close()


def is_there(pid: int) -> bool:
    return started_at(pid) != 0


@pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])
def test_guests_stop_when_the_lease_ends_and_go_on_while_it_is_renewed(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        guests = Guests(rig)
        try:
            await story(rig, guests)
        finally:
            await guests.end()
            with suppress(OSError, ValueError):  # of a test that failed
                os.kill(int((rig.root / "run/poolnet" / LOCK_FILE).read_text()), signal.SIGKILL)

    async def story(rig: Rig, guests: Guests) -> None:
        await rig.roll_out(network(XENBR0), "empty")
        assert await rig.link.request(ReadFence(), FenceState) == FenceState()
        await hold(rig, 60.0)
        pid = await guests.start("r1")
        with listening() as heard:
            await until(lambda: bool(heard.times))
            first = await hold(rig)
            while now_ns() / 1e9 < first + LOOK_S + SLACK_S:
                await hold(rig)
                await asyncio.sleep(LEASE_S / 4)
            await hold(rig, 60.0)
            await rig.kill("hostd")
            await rig.start_daemon()
            assert not (await rig.link.request(ReadFence(), FenceState)).fenced
            assert is_there(pid)
            ends_at = await hold(rig)
            hung = rig.pid("hostd")
            os.kill(hung, signal.SIGSTOP)
            await until(lambda: not is_there(pid))
            await asyncio.sleep(LOOK_S)
            os.kill(hung, signal.SIGCONT)
        assert first < max(heard.times) < ends_at + LOOK_S + SLACK_S, (
            f"it was silenced too early, or too late: {heard.last}"
        )
        assert "vif7.0" not in rig.sh("ip", "-br", "link", "show", "up")
        assert (await rig.link.request(Observe(), Observation)).facts.fenced
        assert "lease" in await guests.refused("r2")
        await hold(rig, 60.0)
        await rig.roll_out(network(XENBR0), "r3", guests_before=(DestroyGuest(vm_uuid=GUEST.vm_uuid),))
        pid = await guests.start("r4")
        assert not (await rig.link.request(Observe(), Observation)).facts.fenced
        await rig.kill("hostd")
        (rig.root / "run/poolnet/lease.json").unlink()  # as by a boot
        await rig.start_daemon()
        await until(lambda: not is_there(pid))
        await rig.link.request(DropLease(), FenceState)
        await rig.roll_out(network(XENBR0), "r5", guests_before=(DestroyGuest(vm_uuid=GUEST.vm_uuid),))
        await guests.start("r6")
        await rig.roll_out(network(XENBR0), "r7", guests_before=(DestroyGuest(vm_uuid=GUEST.vm_uuid),))
        await until(lambda: not rig.sh("pgrep", "-f", f"fence_guard {rig.root}", check=False))

    with_rig(tmp_path, body, guest_runtime="netns", backend=backend)
