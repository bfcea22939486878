"""What is known of the guests that are domains of libvirt, and where is it kept? The libvirt runtime asks.

One JSON file for each guest: in the run directory, which is lost at a boot like the guests themselves, or in the state
directory, with its memory beside it, while the guest is suspended.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import structlog

from poolnet.hostd.checkpoint import write_durably
from poolnet.hostd.guests.domain_xml import Mark
from poolnet.hostnet.protocol import GuestNic, GuestSpec

LOG = structlog.stdlib.get_logger("poolnet.hostd.guests")

State: TypeAlias = Literal["paused", "running", "suspended", "stopped"]


class DomainRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one guest. `domain` is the uuid of its domain."""

    vm_uuid: str
    name: str
    domid: int
    state: State
    domain: str
    nics: tuple[GuestNic, ...] = ()

    @property
    def mark(self) -> Mark:
        """What says in the running domain that it is this guest."""
        return Mark(vm_uuid=self.vm_uuid, domid=self.domid)

    @property
    def is_asleep(self) -> bool:
        """Whether nothing of it runs."""
        return self.state in {"suspended", "stopped"}


def record_of(guest: GuestSpec, domain: str) -> DomainRecord:
    """The record of a guest that is made, and does not run yet."""
    return DomainRecord(
        vm_uuid=guest.vm_uuid,
        name=guest.name,
        domid=guest.domid,
        state="paused",
        domain=domain,
        nics=guest.nics,
    )


class DomainRecords:
    """The records of a host's guests, in memory and on the disk."""

    def __init__(self, run_dir: Path, state_dir: Path) -> None:
        self._run_dir = run_dir
        self._state_dir = state_dir
        self._records: dict[str, DomainRecord] = {}

    def open(self) -> None:
        """Reads what is there. A file that is none of ours, or damaged, is passed over and logged. Raises OSError."""
        for directory in (self._state_dir, self._run_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            for path in sorted(directory.glob("*.json")):
                try:
                    record = msgspec.json.decode(path.read_bytes(), type=DomainRecord)
                except msgspec.MsgspecError as error:
                    LOG.warning("a guest's record cannot be read", path=str(path), error=str(error))
                else:
                    self._records[record.vm_uuid] = record

    def __iter__(self) -> Iterator[DomainRecord]:
        return iter(tuple(self._records.values()))

    def find(self, vm_uuid: str) -> DomainRecord | None:
        """The record of a VM's guest, if it has one."""
        return self._records.get(vm_uuid)

    def keep(
        self, record: DomainRecord, *, state: State | None = None, nics: tuple[GuestNic, ...] | None = None
    ) -> None:
        """Remembers the record with these changes. Raises OSError."""
        record = msgspec.structs.replace(
            record,
            state=record.state if state is None else state,
            nics=record.nics if nics is None else nics,
        )
        here, asleep = self._paths(record.vm_uuid)
        path, other = (asleep, here) if record.state == "suspended" else (here, asleep)
        write_durably(path, msgspec.json.encode(record))
        other.unlink(missing_ok=True)
        self._records[record.vm_uuid] = record

    def forget(self, vm_uuid: str) -> None:
        """Forgets a guest, and removes its memory. Raises OSError."""
        self._records.pop(vm_uuid, None)
        for path in (*self._paths(vm_uuid), self.memory(vm_uuid)):
            path.unlink(missing_ok=True)

    def memory(self, vm_uuid: str) -> Path:
        """Where the memory of a suspended guest is."""
        return self._state_dir / f"{vm_uuid}.memory"

    def _paths(self, vm_uuid: str) -> tuple[Path, Path]:
        """Where a guest is kept that is there, and where a suspended one is."""
        return self._run_dir / f"{vm_uuid}.json", self._state_dir / f"{vm_uuid}.json"
