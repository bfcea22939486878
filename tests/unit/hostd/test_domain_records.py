"""What is kept of guests that are domains: over a start of the daemon, and a suspended one over a boot."""

from __future__ import annotations

from pathlib import Path

from poolnet.hostd.guests.domain_records import DomainRecord, DomainRecords, record_of
from poolnet.hostnet.protocol import GuestNic, GuestSpec

NIC = GuestNic(device=0, mac="52:54:00:00:00:01")
GUEST = GuestSpec(vm_uuid="vm", name="web", domid=3, nics=(NIC,))


def records(directory: Path) -> DomainRecords:
    read = DomainRecords(directory / "run", directory / "state")
    read.open()
    return read


def test_a_guest_is_known_after_a_start_of_the_daemon(tmp_path: Path) -> None:
    first = records(tmp_path)
    first.keep(record_of(GUEST, "domain"), state="running")
    (found,) = records(tmp_path)
    assert found == DomainRecord(
        vm_uuid="vm", name="web", domid=3, state="running", domain="domain", nics=(NIC,)
    )
    first.keep(found, nics=())
    assert [record.nics for record in records(tmp_path)] == [()]


def test_only_a_suspended_guest_outlives_a_boot(tmp_path: Path) -> None:
    first = records(tmp_path)
    for uuid, state in (("a", "running"), ("b", "suspended")):
        first.keep(DomainRecord(vm_uuid=uuid, name=uuid, domid=1, state=state, domain=uuid))  # type: ignore[arg-type]
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    assert [record.vm_uuid for record in records(tmp_path)] == ["b"]


def test_a_guest_that_goes_on_is_no_longer_kept_as_suspended(tmp_path: Path) -> None:
    first = records(tmp_path)
    first.keep(record_of(GUEST, "domain"), state="suspended")
    first.memory("vm").write_bytes(b"its memory")
    first.keep(record_of(GUEST, "domain"))
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["vm.memory"]
    first.forget("vm")
    assert list((tmp_path / "state").iterdir()) == list((tmp_path / "run").iterdir()) == []
    assert list(first) == []


def test_what_somebody_else_has_left_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name, text in (("other", '{"vm_uuid": "a", "pid": 7}'), ("damaged", "{")):
        (tmp_path / "run" / f"{name}.json").write_text(text)
    assert list(records(tmp_path)) == []
