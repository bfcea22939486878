"""A server of the database whose disk was full: it ends in time, or another server takes its place."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from poolnet.pool.cluster import ClusterFiles
from poolnet.pool.database_file import DatabaseFile
from poolnet.pool.database_server import LOST
from tests.unit.pool.database_programs import Program
from tests.waiting import eventually


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Program]]:
    made: list[Program] = []
    try:
        for name in "abc":
            made.append(Program(tmp_path / name))
            made[-1].tell(f"first {name}", join=[each.raft for each in made[:-1]])
            made[-1].wait_joined()
        yield made
    finally:
        for each in made:
            each.end()


def gap(program: Program) -> bool:
    """Whether the server could not start with the file that it writes to."""
    words = ("ovsdb-tool", "check-cluster", str(program.file.path))
    return subprocess.run(words, check=False, capture_output=True).returncode != 0


def damage(three: list[Program]) -> None:
    """Leaves a gap in what the last one has written; its program stands still then."""
    first, last = three[0], three[-1]
    last.stand()
    first.write("before")
    eventually(lambda: last.has("before"), "it does not follow")
    last.let_write(full=True)
    first.write("meanwhile")
    eventually(lambda: last.has("meanwhile"), "it does not follow")
    last.let_write(full=False)
    first.write("later")
    eventually(lambda: gap(last), "there is no gap")


@pytest.mark.parametrize("leads", [False, True], ids=["a follower", "the leader"])
def test_a_server_that_cannot_write_ends_until_it_can_and_its_file_has_no_gap(
    three: list[Program], leads: bool
) -> None:
    eventually(lambda: any(each.leads() for each in three), "none leads")
    full = next(each for each in three if each.leads() is leads)
    running, sid = full.server(), full.sid()
    full.let_write(full=True)
    other = next(each for each in three if each is not full)
    eventually(lambda: other.writes("meanwhile"), "nothing can be written any more")
    eventually(lambda: full.server() not in (0, running), "it does not end, or does not come back")
    eventually(lambda: full.has("meanwhile"), "it does not follow")
    assert full.sid() == sid
    full.process.send_signal(signal.SIGSTOP)
    os.kill(full.server(), signal.SIGKILL)
    eventually(lambda: not full.file.damage(), "its file has a gap")
    full.go_on()
    eventually(lambda: full.has("meanwhile"), "it does not come back")


def test_a_server_that_cannot_read_its_file_stays_away_until_another_takes_its_place(
    three: list[Program],
) -> None:
    first, last = three[0], three[-1]
    damage(three)
    sid = last.sid()
    os.kill(last.server(), signal.SIGKILL)
    last.go_on()
    eventually((last.run / LOST).exists, "nobody says that it is lost")
    assert not last.server()
    assert last.file.damage(), "it is kept as it is: it may be the last"
    last.tell("first c", join=[each.raft for each in three[:-1]])
    first.write("without it")
    assert not last.server()
    assert f"{sid[:4]} at {last.raft}" in first.status()

    asyncio.run(ClusterFiles(first.state, first.run).kick(last.raft))
    assert last.raft not in first.status()
    last.tell("second c", join=[each.raft for each in three[:-1]])
    last.wait_joined()
    eventually(
        lambda: all(last.has(text) for text in ("meanwhile", "later", "without it")), "it lacks something"
    )
    assert last.sid() not in ("", sid)
    assert not (last.run / LOST).exists()
    os.kill(three[1].server(), signal.SIGKILL)
    eventually(lambda: first.status().count(f" at {last.raft}") == 1, "it is not one of them")


def test_a_server_whose_file_is_gone_is_lost_too(three: list[Program]) -> None:
    last = three[-1]
    os.kill(last.process.pid, signal.SIGSTOP)
    last.file.path.unlink()
    os.kill(last.server(), signal.SIGKILL)
    last.go_on()
    eventually((last.run / LOST).exists, "nobody says that it is lost")
    assert not last.file.path.exists()
    last.tell(None)
    eventually(lambda: not (last.run / LOST).exists(), "it is still wanted")


def test_nobody_takes_a_file_for_damaged_that_a_server_is_at_work_with(three: list[Program]) -> None:
    damage(three)
    assert gap(three[-1])
    assert not three[-1].file.damage()


def test_another_file_takes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DatabaseFile(tmp_path)
    file.path.write_bytes(bytes(4096))
    free = SimpleNamespace(free=(1 << 20) + 8191)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert file.has_room_for(0)
    assert not file.has_room_for(2)
    free.free += 1
    assert file.has_room_for(2)
