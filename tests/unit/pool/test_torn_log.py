"""A log of a cluster's server whose last record was not written whole, of a real server, cut off anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolnet.pool.database_file import DatabaseFile
from poolnet.pool.torn_log import torn_from
from tests.unit.pool.database_programs import Program
from tests.waiting import eventually

HEADER = b"OVSDB CLUSTER "


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bytes]:
    """What a server has written that was killed."""
    one = Program(tmp_path_factory.mktemp("server"))
    try:
        one.tell("first")
        one.wait_joined()
        for text in ("one", "two " * 500, "three"):
            one.write(text)
        one.stand()
        os.kill(one.server(), signal.SIGKILL)
        eventually(lambda: not one.file.damage(), "it is in use")
        yield one.file.path.read_bytes()
    finally:
        one.end()


def begins(log: bytes) -> list[int]:
    """Where its records begin, and where the last one ends."""
    found, at = [], 0
    while at < len(log):
        found.append(at)
        line = log[at:].partition(b"\n")[0]
        at += len(line) + 1 + int(line.split()[2])
    return [*found, at]


def kept(directory: Path, content: bytes) -> DatabaseFile:
    file = DatabaseFile(directory)
    file.path.write_bytes(content)
    return file


def test_wherever_it_is_cut_off_whole_records_stay(log: bytes, tmp_path: Path) -> None:
    records = begins(log)
    assert records[-1] == len(log)
    assert len(records) > 4
    file = kept(tmp_path, log)
    for begin, end in pairwise(records):
        for cut in {begin, begin + 1, begin + len(HEADER) + 1, end - 1, (begin + end) // 2} - {0}:
            file.path.write_bytes(log[:cut])
            assert torn_from(file.path) == (begin if begin not in (0, cut) else None), cut


def test_a_torn_record_is_cut_off_and_the_file_is_sound(log: bytes, tmp_path: Path) -> None:
    *_, last, end = begins(log)
    for cut in (last + 5, last + 60, end - 1):
        file = kept(tmp_path, log[:cut])
        words = ("ovsdb-tool", "check-cluster", str(file.path))
        assert subprocess.run(words, check=False, capture_output=True).returncode == 1
        assert file.damage() == ""
        assert file.path.read_bytes() == log[:last]


def test_a_torn_record_with_others_behind_it_is_damage_and_stays(log: bytes, tmp_path: Path) -> None:
    *_, before, last, _ = begins(log)
    content = log[: before + (last - before) // 2] + log[last:]
    file = kept(tmp_path, content)
    assert file.damage()
    assert file.path.read_bytes() == content


def test_a_file_without_one_whole_record_is_damage(log: bytes, tmp_path: Path) -> None:
    file = kept(tmp_path, log[:100])
    assert file.damage()
    assert file.path.read_bytes() == log[:100]


@given(st.binary(max_size=300), st.integers(0, 300))
def test_nothing_in_a_file_is_too_strange(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "strange"
    whole = HEADER + b"3 " + b"0" * 40 + b"\n{}\n"
    path.write_bytes(whole + HEADER[:at] + tail)
    assert torn_from(path) in (None, len(whole))
