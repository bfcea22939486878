"""Which state was confirmed last, and was a change under way when the daemon died?

`confirmed.json` is replaced whole and is on the disk before a rollout is called done. `journal.json` is there from
before the first change of a rollout until it is confirmed or reverted, and names the rollout: if the confirmed state is
of the same rollout, the daemon died in between, and the journal is only a leftover.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from poolnet.hostnet.protocol import GuestAction
from poolnet.hostnet.renaming import renamed
from poolnet.hostnet.state import HostNetwork

LOG = structlog.stdlib.get_logger("poolnet.hostd.checkpoint")
T = TypeVar("T")


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """The last confirmed state and the rollout that led to it."""

    rollout: str
    network: HostNetwork


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """A change under way: its rollout, and the actions that take back what it does to guests.

    `backend` is the name of the backend that is to take over, "" when it stays.
    """

    rollout: str
    undo_guests: tuple[GuestAction, ...] = ()
    backend: str = ""


class Checkpoint:
    """The files of a state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._confirmed_path = state_dir / "confirmed.json"
        self._journal_path = state_dir / "journal.json"
        state_dir.mkdir(parents=True, exist_ok=True)
        self.confirmed = _read(self._confirmed_path, Confirmed)
        journal = _read(self._journal_path, Journal)
        if journal is not None and self.confirmed is not None and journal.rollout == self.confirmed.rollout:
            journal = None
        self.interrupted = journal

    def begin(self, journal: Journal) -> None:
        """Notes durably that a change is under way."""
        write_durably(self._journal_path, msgspec.json.encode(journal))

    def confirm(self, rollout: str, network: HostNetwork) -> None:
        """Makes a state the confirmed one, durably; the change is over."""
        confirmed = Confirmed(rollout=rollout, network=network)
        write_durably(self._confirmed_path, msgspec.json.encode(confirmed))
        self.confirmed = confirmed
        self.end()

    def rename_nics(self, names: Mapping[str, str]) -> None:
        """Lets the confirmed state follow the new names of NICs, durably; a change under way stays under way."""
        if self.confirmed is None:
            return
        network = renamed(self.confirmed.network, names)
        if network != self.confirmed.network:
            self.confirmed = Confirmed(rollout=self.confirmed.rollout, network=network)
            write_durably(self._confirmed_path, msgspec.json.encode(self.confirmed))

    def end(self) -> None:
        """Notes that no change is under way: it was confirmed, or taken back."""
        with suppress(FileNotFoundError):
            self._journal_path.unlink()
        self.interrupted = None


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces a file whole: after a crash it is the old or the new one, and the new one once this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path, kind: type[T]) -> T | None:
    """A file of ours; None when there is none. One that cannot be read is put aside."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        LOG.exception("a state file is damaged and put aside", path=str(path), error=str(error))
        path.replace(path.with_name(f"{path.name}.damaged"))
        return None
