"""What is on the disk says what was confirmed, whenever the daemon died."""

from __future__ import annotations

from pathlib import Path

from poolnet.hostd.checkpoint import Checkpoint, Journal, write_durably
from poolnet.hostnet.protocol import DestroyGuest
from poolnet.hostnet.state import EMPTY, Bridge, HostNetwork

STATE = HostNetwork(bridges=(Bridge(name="xenbr0"),))
JOURNAL = Journal(rollout="r", undo_guests=(DestroyGuest(vm_uuid="v"),))


def test_a_new_host_has_no_confirmed_state_and_nothing_was_interrupted(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state")
    assert (checkpoint.confirmed, checkpoint.interrupted) == (None, None)


def test_what_was_confirmed_is_there_again(tmp_path: Path) -> None:
    Checkpoint(tmp_path).confirm("r", STATE)
    again = Checkpoint(tmp_path)
    assert again.confirmed is not None
    assert (again.confirmed.rollout, again.confirmed.network, again.interrupted) == ("r", STATE, None)


def test_a_change_under_way_is_known_with_what_it_did_to_guests(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path)
    checkpoint.confirm("before", EMPTY)
    checkpoint.begin(JOURNAL)
    again = Checkpoint(tmp_path)
    assert again.interrupted == JOURNAL
    again.end()
    assert Checkpoint(tmp_path).interrupted is None


def test_a_journal_that_outlived_its_confirmation_is_a_leftover(tmp_path: Path) -> None:
    Checkpoint(tmp_path).confirm("r", STATE)
    Checkpoint(tmp_path).begin(JOURNAL)  # as if the daemon had died between the two files
    assert Checkpoint(tmp_path).interrupted is None


def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "confirmed.json").write_bytes(b'{"rollout": "r", "network": {"bri')
    assert Checkpoint(tmp_path).confirmed is None
    assert (tmp_path / "confirmed.json.damaged").exists()


def test_a_file_is_replaced_whole_and_belongs_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
