"""A host that was armed, and whose pool has no high availability any more: when is it disarmed, and what does it say until then?

Its daemon is a stand-in that speaks the real protocol: what a real one answers is shown in tests/lab/test_ha.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from poolnet.api import place
from poolnet.api.place import Place
from poolnet.db.database import Database
from poolnet.db.txn import Txn
from poolnet.hostnet import protocol
from poolnet.hostnet.protocol import FenceState
from poolnet.model.classes.pool import Pool
from tests.in_process import InProcess, with_server

LIVE = FenceState(generation="g", fenced=False, clean=True)
STOPPING = FenceState(generation="g", fenced=True, clean=False)
STOPPED = FenceState(generation="g", fenced=True, clean=True)
DISARMED = FenceState(generation="", fenced=False, clean=True)


class Daemon:
    """Answers what its fence is; an order to disarm is obeyed, unless it fails."""

    def __init__(self, fence: FenceState) -> None:
        self.fence = fence
        self.failures = 0
        self.asked = 0

    def answer(self, command: protocol.Command) -> protocol.Answer:
        self.asked += 1
        if isinstance(command, protocol.DropLease):
            assert self.fence == STOPPED, "it was told to go on too early"
            if self.failures:
                self.failures -= 1
                return protocol.Refused(fault=protocol.Fault.GUEST_FAILED, message="No space left on device")
            self.fence = DISARMED
        return self.fence

    @asynccontextmanager
    async def listening(self, socket: Path) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, socket)
        async with server:
            yield

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(4), "big")
                request = msgspec.json.decode(await reader.readexactly(length), type=protocol.Request)
                frame = msgspec.json.encode(
                    protocol.Reply(id=request.id, answer=self.answer(request.command))
                )
                writer.write(len(frame).to_bytes(4, "big") + frame)
        except asyncio.IncompleteReadError:
            writer.close()

    async def asked_again(self) -> None:
        """Returns when two more questions were asked: the second one knows what was so before."""
        wanted = self.asked + 2
        async with asyncio.timeout(10):
            while self.asked < wanted:  # noqa: ASYNC110 - nothing announces it
                await asyncio.sleep(0.005)


async def write_stack(database: Database, stack: str) -> None:
    txn: Txn = database.begin()
    pool = next(iter(database.view.all(Pool)))
    txn.update(Pool, pool.ref, ha_cluster_stack=stack)
    await database.commit(txn.changes())


def test_it_waits_for_the_pool_for_the_lease_and_for_its_vms_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "DISARM_AGAIN_S", 0.01)
    daemon = Daemon(LIVE)
    daemon.failures = 2

    async def body(server: InProcess) -> None:
        await write_stack(server.database, "poolnet")
        here = Place(tmp_path, tmp_path, tmp_path / "daemon")
        following = asyncio.create_task(here.follow_leases(server.database))
        await asyncio.sleep(0.02)  # without a daemon first
        async with daemon.listening(tmp_path / "daemon"):
            await daemon.asked_again()
            await write_stack(server.database, "")
            await daemon.asked_again()
            daemon.fence = STOPPING
            await daemon.asked_again()
            daemon.fence = STOPPED
            async with asyncio.timeout(10):
                while daemon.fence != DISARMED:  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0.005)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    with capture_logs() as logs:
        with_server(tmp_path, body)
    said = [str(line["reason"]) for line in logs if line["event"] == "host-stays-armed"]
    assert "the host daemon" in said.pop(0)
    assert said[:3] == [
        "the pool has high availability, as far as is known",
        "its lease goes on",
        "VMs have yet to stop",
    ]
    assert "No space left on device" in said[3]
    assert [line["event"] for line in logs if line["event"].startswith("host-")][-1] == "host-disarmed"


def test_a_host_that_was_never_armed_is_left_alone(tmp_path: Path) -> None:
    daemon = Daemon(DISARMED)

    async def body(server: InProcess) -> None:
        here = Place(tmp_path, tmp_path, tmp_path / "daemon")
        async with daemon.listening(tmp_path / "daemon"):
            following = asyncio.create_task(here.follow_leases(server.database))
            async with asyncio.timeout(10):
                while not daemon.asked:  # noqa: ASYNC110 - nothing announces it
                    await asyncio.sleep(0.005)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    with_server(tmp_path, body)
    assert daemon.asked == 1
