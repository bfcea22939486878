"""What is on the disk says what was confirmed, whenever the daemon died."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from poolnet.hostd.checkpoint import (
    UNKNOWN,
    Checkpoint,
    Confirmed,
    Journal,
    NotWritten,
    read_confirmed,
    remove_durably,
    write_durably,
)
from poolnet.hostnet.protocol import CreateGuest, DestroyGuest, GuestSpec, RunGuest, Stage
from poolnet.hostnet.state import EMPTY, Bridge, HostNetwork

STATE = HostNetwork(bridges=(Bridge(name="xenbr0"),))
JOURNAL = Journal(rollout="r", undo_guests=(DestroyGuest(vm_uuid="v"),))


def test_a_new_host_has_no_confirmed_state_and_nothing_was_interrupted(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    assert (checkpoint.confirmed, checkpoint.journal) == (None, None)


def test_what_was_confirmed_is_there_again(tmp_path: Path) -> None:
    Checkpoint(tmp_path).confirm("r", STATE)
    again = Checkpoint(tmp_path)
    assert again.confirmed is not None
    assert (again.confirmed.rollout, again.confirmed.network, again.journal) == ("r", STATE, None)


def test_a_change_under_way_is_known_with_what_it_did_to_guests(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.confirm("before", EMPTY)
    checkpoint.begin(JOURNAL)
    again = Checkpoint(tmp_path)
    assert again.journal == JOURNAL
    again.end()
    assert Checkpoint(tmp_path).journal is None


def test_a_journal_that_outlived_its_confirmation_is_a_leftover(tmp_path: Path) -> None:
    Checkpoint(tmp_path).confirm("r", STATE)
    Checkpoint(tmp_path).begin(JOURNAL)  # as if the daemon had died between the two files
    assert Checkpoint(tmp_path).journal is None


def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "confirmed.json").write_bytes(b'{"rollout": "r", "network": {"bri')
    assert read_confirmed(tmp_path) is None
    assert Checkpoint(tmp_path).confirmed is None
    assert (tmp_path / "confirmed.json.damaged").exists()


def test_the_copy_is_used_for_a_file_that_was_altered(tmp_path: Path) -> None:
    Checkpoint(tmp_path).confirm("r", STATE)
    path = tmp_path / "confirmed.json"
    path.write_bytes(path.read_bytes().replace(b"xenbr0", b"xenbr1"))
    assert read_confirmed(tmp_path) == Confirmed(rollout="r", network=STATE)
    assert Checkpoint(tmp_path).confirmed == Confirmed(rollout="r", network=STATE)
    assert path.with_name("confirmed.json.damaged").exists()


def test_what_an_older_daemon_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "confirmed.json").write_bytes(msgspec.json.encode(Confirmed(rollout="r", network=STATE)))
    assert Checkpoint(tmp_path).confirmed == Confirmed(rollout="r", network=STATE)


def test_a_damaged_journal_is_a_change_of_which_nothing_is_known(tmp_path: Path) -> None:
    Checkpoint(tmp_path).confirm("r", STATE)
    (tmp_path / "journal.json").write_bytes(b"")
    assert Checkpoint(tmp_path).journal == Journal(rollout="", backend=UNKNOWN)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What the next calls of fsync on a directory do: fail (True) or work; those after them work."""
    plan: list[bool] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) and plan and plan.pop(0):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return plan


def test_what_may_not_be_durable_is_not_confirmed_and_not_found_later(
    tmp_path: Path, failing: list[bool]
) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.confirm("before", EMPTY)
    checkpoint.begin(JOURNAL)
    failing.append(True)
    with pytest.raises(NotWritten, match=r"confirmed.json cannot be written: Input/output error"):
        checkpoint.confirm("r", STATE)
    for one in (checkpoint, Checkpoint(tmp_path)):
        assert one.confirmed == Confirmed(rollout="before", network=EMPTY)
        assert one.journal == JOURNAL


def test_what_was_prepared_is_confirmed_though_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All hosts may have been told of the change by then."""
    checkpoint = Checkpoint(tmp_path)
    checkpoint.confirm("before", EMPTY)
    checkpoint.begin(JOURNAL, STATE)
    assert read_confirmed(tmp_path) == Confirmed(rollout="before", network=EMPTY)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full_for_writing())
        checkpoint.confirm("r", STATE)
    assert Checkpoint(tmp_path).confirmed == Confirmed(rollout="r", network=STATE)
    assert not (tmp_path / "prepared.json").exists()
    assert not (tmp_path / "journal.json").exists()


@pytest.mark.parametrize("rollout", ["r", "other"])
def test_what_was_prepared_is_not_confirmed_when_something_else_is(tmp_path: Path, rollout: str) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.begin(JOURNAL, STATE)
    checkpoint.confirm(rollout, EMPTY)
    assert Checkpoint(tmp_path).confirmed == Confirmed(rollout=rollout, network=EMPTY)
    assert not (tmp_path / "prepared.json").exists()


STAGED = Stage(
    rollout="r",
    desired=STATE,
    guests_before=(CreateGuest(guest=GuestSpec(vm_uuid="v", name="v", domid=1)),),
    guests_after=(RunGuest(vm_uuid="v"),),
)
WITH_ACTIONS = Journal(
    rollout="r",
    undo_guests=(DestroyGuest(vm_uuid="v"),),
    guests_before=STAGED.guests_before,
    guests_after=STAGED.guests_after,
)


def test_what_waited_for_its_confirmation_when_the_daemon_died_is_known_as_it_was_staged(
    tmp_path: Path,
) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.confirm("before", EMPTY)
    checkpoint.begin(WITH_ACTIONS)
    assert Checkpoint(tmp_path).interrupted is None, "nobody had it wait"
    checkpoint.begin(WITH_ACTIONS, STATE)
    assert Checkpoint(tmp_path).interrupted == STAGED
    checkpoint.begin(replace(WITH_ACTIONS, rollout="next"))
    assert Checkpoint(tmp_path).interrupted is None, "what is prepared is of another one"


def test_what_was_taken_back_is_known_until_another_change_begins(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.begin(WITH_ACTIONS)
    checkpoint.end(STAGED)
    for one in (checkpoint, Checkpoint(tmp_path)):
        assert (one.taken_back, one.journal) == (STAGED, None)
    checkpoint.end()
    assert Checkpoint(tmp_path).taken_back == STAGED, "that nothing is under way says nothing of it"
    checkpoint.begin(JOURNAL)
    for one in (checkpoint, Checkpoint(tmp_path)):
        assert one.taken_back is None


@pytest.mark.parametrize("last", [0, 1], ids=["journal", "what is to be confirmed"])
def test_what_was_taken_back_stays_known_when_no_other_change_can_begin(
    tmp_path: Path, failing: list[bool], last: int
) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.end(STAGED)
    failing.extend([False] * last + [True])
    with pytest.raises(NotWritten):
        checkpoint.begin(WITH_ACTIONS, STATE)
    for one in (checkpoint, Checkpoint(tmp_path)):
        assert (one.taken_back, one.journal) == (STAGED, None)
    assert [path.name for path in tmp_path.iterdir()] == ["taken-back.json"]


def test_what_was_taken_back_on_a_disk_that_is_full_is_known_as_long_as_the_daemon_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", full_for_writing())
        checkpoint.end(STAGED)
    assert checkpoint.taken_back == STAGED
    assert Checkpoint(tmp_path).taken_back is None


def full_for_writing() -> Callable[..., int]:
    real = os.open

    def opened(path: str, flags: int, *more: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *more)

    return opened


def test_a_change_that_cannot_be_noted_is_not_under_way(tmp_path: Path, failing: list[bool]) -> None:
    checkpoint = Checkpoint(tmp_path)
    failing.append(True)
    with pytest.raises(NotWritten, match=r"journal.json cannot be written: Input/output error"):
        checkpoint.begin(JOURNAL)
    assert checkpoint.journal is None
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_cannot_be_removed_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.begin(JOURNAL)

    def unlink(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        checkpoint.end()
    assert Checkpoint(tmp_path).journal == checkpoint.journal == JOURNAL
    checkpoint.end()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_and_belongs_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_a_removal_is_on_the_disk_and_may_come_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_durably(path, b"one")
    synced: list[tuple[Path, bool]] = []

    def fsync(number: int) -> None:
        synced.append((Path(f"/proc/self/fd/{number}").readlink(), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    remove_durably(path)
    remove_durably(path)
    assert synced == [(tmp_path, False)] * 2
