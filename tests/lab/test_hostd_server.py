"""The daemon's socket: who may speak, and what happens to those who speak nonsense."""

from __future__ import annotations

import asyncio
import random
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir

import msgspec
import pytest

from poolnet.hostnet.protocol import (
    FRAME_BYTES_MAX,
    Authenticate,
    Authenticated,
    Done,
    Fault,
    Greeting,
    Hello,
    Observe,
    Refused,
    Reply,
    Request,
    SetHostname,
    Stage,
    TracePacket,
    Watch,
)
from poolnet.hostnet.state import EMPTY
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, exists, with_rig
from tests.lab.hostd_states import EVERYTHING

pytestmark = pytest.mark.lab

FRAMES = 4000
GROWTH_MAX_KB = 20_000


class Client:
    """A connection that sends whatever it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, rig: Rig) -> Client:
        return cls(*await asyncio.open_unix_connection(str(rig.socket)))

    def send(self, frame: bytes) -> None:
        self.writer.write(len(frame).to_bytes(4, "big") + frame)

    async def reply(self) -> Reply:
        async with asyncio.timeout(10):
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            return msgspec.json.decode(await self.reader.readexactly(length), type=Reply)

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


def resident_kb(rig: Rig) -> int:
    pid = rig.pid("hostd")
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def malformed(count: int) -> Iterator[bytes]:
    """Frames that break the schema, made of good ones."""
    chosen = random.Random(7)
    good = [
        msgspec.json.encode(Request(id=5, command=command))
        for command in (
            Hello(),
            Stage(rollout="r", desired=EVERYTHING),
            TracePacket(device="x", frame_hex="00"),
        )
    ]
    nonsense = (
        b"",
        b"{",
        b"null",
        b"[]",
        b'"\xff\xfe"',
        b"1e999",
        b"[" * 100_000,
        b'{"id":' + b"9" * 5000 + b"}",
        b'{"id":1}',
        b'{"id":1,"command":{"type":"Nothing"}}',
        b'{"id":"1","command":{"type":"Hello"}}',
        b'{"id":1,"command":{"type":"Stage","rollout":3,"desired":{}}}',
        b'{"id":1,"command":{"type":"Switch","rollout":"r","confirm_within_s":"soon"}}',
        b"\0" * 1000,
    )
    for _ in range(count):
        kind = chosen.randrange(4)
        frame = bytearray(chosen.choice(good))
        if kind == 0:
            yield chosen.choice(nonsense)
        elif kind == 1:
            yield bytes(frame[: chosen.randrange(len(frame))])
        elif kind == 2:
            frame[chosen.randrange(len(frame))] = chosen.choice(b'{}[]",:\0\xff')
            yield bytes(frame)
        else:
            del frame[chosen.randrange(len(frame))]
            yield bytes(frame)


def test_thousands_of_malformed_frames_are_refused_one_by_one(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        client = await Client.open(rig)
        refused = 0
        for frame in malformed(FRAMES // 10):  # until everything is loaded that ever will be
            client.send(frame)
            await client.reply()
        before = resident_kb(rig)
        for frame in malformed(FRAMES):
            client.send(frame)
            answer = (await client.reply()).answer
            if isinstance(answer, Refused) and answer.fault is Fault.MALFORMED:
                refused += 1
        assert refused > FRAMES * 0.8  # a few are well-formed by chance
        client.send(msgspec.json.encode(Request(id=77, command=Hello())))
        last = await client.reply()
        assert last.id == 77
        assert isinstance(last.answer, Greeting)
        assert resident_kb(rig) - before < GROWTH_MAX_KB
        assert await rig.observe() == EMPTY
        await client.close()

    with_rig(tmp_path, body)


def test_the_number_of_a_malformed_request_is_in_its_answer_when_it_can_be_read(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        client = await Client.open(rig)
        for frame, number in ((b'{"id": 41, "command": {"type": "Nothing"}}', 41), (b"nonsense", 0)):
            client.send(frame)
            assert (await client.reply()).id == number
        await client.close()

    with_rig(tmp_path, body)


def test_a_frame_that_is_too_long_ends_the_connection_and_no_other(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        bad, good = await Client.open(rig), await Client.open(rig)
        bad.writer.write((FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
        answer = (await bad.reply()).answer
        assert isinstance(answer, Refused)
        assert answer.fault is Fault.MALFORMED
        assert await bad.reader.read() == b""
        half = await Client.open(rig)
        half.writer.write(b"\0\0\1\0half a fra")
        await half.writer.drain()
        await half.close()
        good.send(msgspec.json.encode(Request(id=1, command=Hello())))
        assert isinstance((await good.reply()).answer, Greeting)
        for client in (bad, good):
            await client.close()

    with_rig(tmp_path, body)


def test_answers_come_as_they_are_ready_and_under_their_own_number(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        client = await Client.open(rig)
        client.send(msgspec.json.encode(Request(id=1, command=Watch())))
        for number in range(2, 302):
            command = Hello() if number % 3 else Observe()
            client.send(msgspec.json.encode(Request(id=number, command=command)))
        numbers = {(await client.reply()).id for _ in range(301)}
        assert numbers == set(range(1, 302))
        await client.close()

    with_rig(tmp_path, body)


def test_another_user_gets_no_answer(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        assert stat.S_IMODE(rig.socket.stat().st_mode) == 0o660
        rig.socket.chmod(0o666)  # even if somebody opened the door
        depth = len(rig.root.relative_to(gettempdir()).parts)
        for parent in (rig.root, *rig.root.parents)[:depth]:
            parent.chmod(parent.stat().st_mode | 0o055)
        script = (
            "import os,socket,sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "s=socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])\n"
            'frame=b\'{"id":1,"command":{"type":"Hello"}}\'\n'
            "try:\n  s.sendall(len(frame).to_bytes(4,'big')+frame); got=s.recv(1)\n"
            "except ConnectionError: got=b''\n"
            "print(len(got))"
        )
        assert rig.sh("/usr/bin/python3", "-c", script, str(rig.socket)).strip() == "0"
        assert "a connection is refused" in rig.log("hostd")
        await rig.link.request(Hello(), Greeting)

    with_rig(tmp_path, body)


def test_pam_refuses_without_a_word_in_the_log(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        answer = await rig.link.request(Authenticate(user="nobody", password="s3cr3t-word"), Authenticated)
        assert not answer.accepted
        assert answer.reason
        assert "s3cr3t-word" not in rig.log("hostd")

    with_rig(tmp_path, body)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\nb", "x" * 65])
def test_an_impossible_host_name_is_refused(tmp_path: Path, name: str) -> None:
    async def body(rig: Rig) -> None:
        with pytest.raises(HostRefused) as refused:
            await rig.link.request(SetHostname(hostname=name), Done)
        assert refused.value.refused.fault is Fault.MALFORMED
        assert not exists(rig.root / "etc/hostname")

    with_rig(tmp_path, body)


def test_a_request_is_carried_out_though_its_client_leaves(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        client = await Client.open(rig)
        client.send(msgspec.json.encode(Request(id=1, command=Stage(rollout="r", desired=EMPTY))))
        await client.reply()
        client.send(b'{"id":2,"command":{"type":"Switch","rollout":"r"}}')
        await client.writer.drain()
        await client.close()
        await rig.roll_out(EMPTY, "r2")

    with_rig(tmp_path, body)
