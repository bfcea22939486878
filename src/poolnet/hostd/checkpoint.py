"""Which state was confirmed last, and was a change under way when the daemon died?

`confirmed.json` is replaced whole and is on the disk before a rollout is called done; a copy beside it is read when it
is damaged, which a checksum tells. `journal.json` is there from before the first change of a rollout until it is
confirmed or reverted, and names the rollout: if the confirmed state is of the same rollout, the daemon died in between,
and the journal is only a leftover. It need not outlive a power cut unless it says more than that: the network goes back to
the confirmed state at every start, whatever is found.

A disk that is full or read-only stops changes, and never the way back: what cannot be written is said, and kept in memory. A
change that others wait for is written down before it begins (`prepared.json`): its confirmation, which may be that of a change
that all hosts have been told of, then only gives a file another name.

A change that the daemon took back by itself, because it died or nobody confirmed it in time, may have been decided all the
same. `taken-back.json` says what it was, so that it can be carried out again; until another change begins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from poolnet.hostnet.protocol import GuestAction, Stage
from poolnet.hostnet.renaming import renamed
from poolnet.hostnet.state import HostNetwork

LOG = structlog.stdlib.get_logger("poolnet.hostd.checkpoint")
T = TypeVar("T")
UNKNOWN: Final = "?"
CONFIRMED: Final = "confirmed.json"
COPY: Final = "confirmed.copy.json"
PREPARED: Final = "prepared.json"
TAKEN_BACK: Final = "taken-back.json"


class NotWritten(Exception):
    """What must be on the disk before something happens cannot be written there."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path} cannot be written: {error.strerror or error}")


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """The last confirmed state and the rollout that led to it."""

    rollout: str
    network: HostNetwork


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """A change under way: its rollout, what it does to guests, and the actions that take that back.

    `backend` is the name of the backend that is to take over, "" when it stays, UNKNOWN when the journal is damaged.
    """

    rollout: str
    undo_guests: tuple[GuestAction, ...] = ()
    guests_before: tuple[GuestAction, ...] = ()
    guests_after: tuple[GuestAction, ...] = ()
    backend: str = ""


class Checkpoint:
    """The files of a state directory.

    `journal` is the change that is under way, or was when the daemon died, and `interrupted` the same as whoever decided it
    gave it, if it was one to be confirmed. `taken_back` is what the daemon went back from by itself last.
    """

    def __init__(self, state_dir: Path) -> None:
        self._confirmed_path = state_dir / CONFIRMED
        self._copy_path = state_dir / COPY
        self._prepared_path = state_dir / PREPARED
        self._prepared: Confirmed | None = None
        self._journal_path = state_dir / "journal.json"
        self._taken_back_path = state_dir / TAKEN_BACK
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            LOG.exception("there is no place for the state", path=str(state_dir), error=str(error))
        self.confirmed = _read(self._confirmed_path, _decoded)[0]
        if self.confirmed is None:
            self.confirmed = _read(self._copy_path, _decoded)[0]
            if self.confirmed is not None:
                LOG.warning("the copy of the confirmed state is used", path=str(self._copy_path))
        journal, damaged = _read(
            self._journal_path, lambda content: msgspec.json.decode(content, type=Journal)
        )
        if journal is not None and self.confirmed is not None and journal.rollout == self.confirmed.rollout:
            journal = None
        if damaged:
            journal = Journal(rollout="", backend=UNKNOWN)
        self.journal = journal
        self.interrupted = self._as_staged(journal) if journal is not None else None
        self.taken_back = _read(
            self._taken_back_path, lambda content: msgspec.json.decode(content, type=Stage)
        )[0]

    def _as_staged(self, journal: Journal) -> Stage | None:
        """What was under way when the daemon died; None when nobody had it wait for a confirmation."""
        prepared = _read(self._prepared_path, _decoded)[0]
        if prepared is None or prepared.rollout != journal.rollout:
            return None
        return Stage(
            rollout=journal.rollout,
            desired=prepared.network,
            guests_before=journal.guests_before,
            guests_after=journal.guests_after,
        )

    def begin(self, journal: Journal, to_confirm: HostNetwork | None = None) -> None:
        """Notes that a change is under way, durably if it takes more back than the network.

        What others may have confirmed is written down too, so that a disk which has filled up by then is not in the way.
        Raises NotWritten; then none may be.
        """
        write = write_durably if journal.undo_guests or journal.backend else write_whole
        try:
            write(self._journal_path, msgspec.json.encode(journal))
        except OSError as error:
            self.end()
            raise NotWritten(self._journal_path, error) from error
        self.journal = journal
        if to_confirm is not None:
            try:
                self._prepare(Confirmed(rollout=journal.rollout, network=to_confirm))
            except NotWritten:
                self.end()
                raise
        self.forget_taken_back()

    def forget_taken_back(self) -> None:
        """There is nothing any more that could be carried out again."""
        self.taken_back = None
        with suppress(OSError):  # one that is left is of a rollout that nobody asks for any more
            self._taken_back_path.unlink(missing_ok=True)

    def _prepare(self, confirmed: Confirmed) -> None:
        try:
            write_durably(self._prepared_path, _encoded(confirmed))
        except OSError as error:
            self._forget_prepared()
            raise NotWritten(self._prepared_path, error) from error
        self._prepared = confirmed

    def _forget_prepared(self) -> None:
        self._prepared = None
        with suppress(OSError):  # one that is left is replaced by the next
            self._prepared_path.unlink(missing_ok=True)

    def confirm(self, rollout: str, network: HostNetwork) -> None:
        """Makes a state the confirmed one, durably; the change is over.

        Raises NotWritten; then the state before is still the confirmed one, and the change under way.
        """
        self._replace(Confirmed(rollout=rollout, network=network))
        self.end()

    def rename_nics(self, names: Mapping[str, str]) -> None:
        """Lets the confirmed state follow the new names of NICs, durably; a change under way stays under way.

        Raises NotWritten; in memory it follows them nevertheless, for the NICs have their new names.
        """
        if self.confirmed is None:
            return
        network = renamed(self.confirmed.network, names)
        if network != self.confirmed.network:
            confirmed = Confirmed(rollout=self.confirmed.rollout, network=network)
            try:
                self._replace(confirmed)
            finally:
                self.confirmed = confirmed

    def assume(self, network: HostNetwork) -> None:
        """Takes a state for the confirmed one on a host that has none written down, until one can be."""
        self.confirmed = Confirmed(rollout="", network=network)

    def end(self, taken_back: Stage | None = None) -> None:
        """Notes that no change is under way: it was confirmed, or taken back; by itself if it says what was taken back.

        On a disk that cannot be written `journal` stays, as the file does: at the next start it leads to the confirmed
        state once more. The next call tries again.
        """
        if taken_back is not None:
            self.taken_back = taken_back
            with suppress(OSError):  # it is known as long as the daemon lives
                write_whole(self._taken_back_path, msgspec.json.encode(taken_back))
        self._forget_prepared()
        try:
            self._journal_path.unlink(missing_ok=True)
            self.journal = None
        except OSError as error:
            if self.journal is not None:
                LOG.warning("the journal cannot be removed", path=str(self._journal_path), error=str(error))

    def _replace(self, confirmed: Confirmed) -> None:
        content = _encoded(confirmed)
        before = self.confirmed
        try:
            if confirmed == self._prepared:
                self._prepared_path.replace(self._confirmed_path)
                _sync(self._confirmed_path.parent)
            else:
                write_durably(self._confirmed_path, content)
        except OSError as error:
            # It may have been replaced and not be durable: the daemon must not find one thing and remember another.
            with suppress(OSError):
                if before is None:
                    self._confirmed_path.unlink(missing_ok=True)
                else:
                    write_durably(self._confirmed_path, _encoded(before))
            raise NotWritten(self._confirmed_path, error) from error
        self.confirmed = confirmed
        try:
            write_whole(self._copy_path, content)
        except OSError as error:
            LOG.warning(
                "there is no copy of the confirmed state", path=str(self._copy_path), error=str(error)
            )


def write_durably(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replaces a file whole: after a crash it is the old or the new one, and the new one once this returns.

    Raises OSError; then it is the old one, unless only its directory could not be written to the disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content, mode, durably=True)
    _sync(path.parent)


def remove_durably(path: Path) -> None:
    """Removes a file, if there is one; after a crash it is not there any more once this returns. Raises OSError."""
    path.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_whole(path: Path, content: bytes, mode: int = 0o600, *, durably: bool = False) -> None:
    """Replaces a file whole: nobody ever sees a part of it. Raises OSError, and leaves nothing behind then."""
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()  # on a full disk it would be in the way of others
        raise


def read_state(path: Path, kind: type[T], otherwise: T) -> T:
    """A file of ours without a checksum, or something instead of one that is not there or cannot be understood.

    A damaged one is put aside, and said.
    """
    found = _read(path, lambda content: msgspec.json.decode(content, type=kind))[0]
    return otherwise if found is None else found


def read_confirmed(state_dir: Path) -> Confirmed | None:
    """The last confirmed state of a daemon that may not run; None when there is none that can be read."""
    for name in (CONFIRMED, COPY):
        with suppress(OSError, ValueError):
            return _decoded((state_dir / name).read_bytes())
    return None


class _Written(msgspec.Struct, kw_only=True):
    """How a confirmed state is on the disk. One that an older daemon wrote has no checksum."""

    rollout: str
    network: msgspec.Raw
    sha256: str = ""


def _encoded(confirmed: Confirmed) -> bytes:
    network = msgspec.json.encode(confirmed.network)
    checksum = _checksum(confirmed.rollout, network)
    return msgspec.json.encode(
        _Written(rollout=confirmed.rollout, network=msgspec.Raw(network), sha256=checksum)
    )


def _decoded(content: bytes) -> Confirmed:
    """Raises ValueError for content that is damaged."""
    written = msgspec.json.decode(content, type=_Written)
    network = bytes(written.network)
    if written.sha256 not in ("", _checksum(written.rollout, network)):
        raise ValueError("its checksum is wrong")
    return Confirmed(rollout=written.rollout, network=msgspec.json.decode(network, type=HostNetwork))


def _checksum(rollout: str, network: bytes) -> str:
    return sha256(rollout.encode() + b"\n" + network).hexdigest()


def _read(path: Path, decoded: Callable[[bytes], T]) -> tuple[T | None, bool]:
    """A file of ours, None when there is none; and whether it is damaged, which is put aside then."""
    try:
        return decoded(path.read_bytes()), False
    except FileNotFoundError:
        return None, False
    except (OSError, ValueError) as error:
        LOG.error("a state file is damaged and put aside", path=str(path), error=str(error))  # noqa: TRY400 - the reason says all
        with suppress(OSError):
            path.replace(path.with_name(f"{path.name}.damaged"))
        return None, True
