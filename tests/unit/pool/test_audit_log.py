"""The chain of the audit log: what tampering it finds, what a crash leaves, how the oldest go."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from poolnet.db.changes import Changes
from poolnet.db.database import Database
from poolnet.db.engine_memory import MemoryEngine
from poolnet.pool.audit_chain import Head, findings, line, parse
from poolnet.pool.audit_log import AuditLog, files_in, lines_of, records_of


def entry(number: int) -> bytes:
    return msgspec.json.encode({"id": f"id-{number}", "method": "network.create", "number": number})


def log_of(count: int) -> tuple[list[bytes], list[Head]]:
    head, lines, heads = Head(), [], []
    for number in range(count):
        text, head = line(head, entry(number))
        lines.append(text.removesuffix(b"\n"))
        heads.append(head)
    return lines, heads


def forged_from(lines: list[bytes], start: int, end: int) -> list[bytes]:
    """What somebody writes who changes a record and makes the hashes of all later ones anew."""
    record = parse(lines[start - 1]) if start else None
    head = Head(record.seq, record.hash) if record is not None else Head()
    forged = list(lines[:start])
    for number in range(start, end):
        text, head = line(head, entry(1000 + number))
        forged.append(text.removesuffix(b"\n"))
    return forged


def test_a_whole_log_has_no_findings() -> None:
    lines, heads = log_of(50)
    assert list(findings(lines, [heads[-1], heads[20]])) == []
    assert list(findings([], [])) == []


def tampered(lines: list[bytes], chance: random.Random) -> list[bytes]:
    """One thing of all that somebody could do to the files."""
    at = chance.randrange(len(lines))
    changed = list(lines)
    match chance.randrange(8):
        case 0:  # a byte, anywhere
            where = chance.randrange(len(lines[at]))
            other = chance.choice([b for b in range(32, 127) if b != lines[at][where]])
            changed[at] = lines[at][:where] + bytes([other]) + lines[at][where + 1 :]
        case 1:  # a record is taken out
            del changed[at]
        case 2:  # the end is cut off
            changed = changed[:at]
        case 3:  # two change places
            there = chance.choice([n for n in range(len(lines)) if n != at])
            changed[at], changed[there] = changed[there], changed[at]
        case 4:  # one is there twice
            changed.insert(at, changed[at])
        case 5:  # the beginning is gone
            changed = changed[at + 1 :]
        case 6:  # everything from one on is made anew, with right hashes
            changed = forged_from(lines, at, len(lines))
        case 7:  # or with some records less
            changed = forged_from(lines, at, chance.randrange(at, len(lines)))
    return changed


@pytest.mark.parametrize("seed", range(100))
def test_each_of_a_hundred_tamperings_is_found(seed: int) -> None:
    lines, heads = log_of(40)
    changed = tampered(lines, random.Random(seed))
    assert changed != lines
    assert list(findings(changed, [heads[-1]]))


def test_what_was_noted_earlier_shows_that_the_log_was_made_anew_with_the_database() -> None:
    lines, heads = log_of(40)
    forged = forged_from(lines, 10, 60)
    last = parse(forged[-1])
    assert last is not None
    assert list(findings(forged, [Head(last.seq, last.hash)])) == []
    assert list(findings(forged, [Head(last.seq, last.hash), heads[30]])) == [
        "record 31 is another one than was noted elsewhere"
    ]


async def written(directory: Path, engine: MemoryEngine, numbers: range, **limits: int) -> Head:
    """A server's life: it logs and ends."""
    database = Database.open(engine)
    log = AuditLog(directory, database, **limits)
    log.open()
    for number in numbers:
        log.add(entry(number))
        await log.flush()
    await log.close()
    database.close()
    return log.head


def test_the_log_goes_on_after_a_restart_in_files_that_only_their_owner_reads(tmp_path: Path) -> None:
    engine = MemoryEngine()
    directory = tmp_path / "audit"
    asyncio.run(written(directory, engine, range(5)))
    head = asyncio.run(written(directory, engine, range(5, 8)))
    assert head.records == 8
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in files_in(directory)] == [0o600]
    known = engine.load().log_head
    assert (known.records, known.hash) == (head.records, head.hash)
    assert list(findings(lines_of(files_in(directory)), [Head(known.records, known.hash)])) == []


def test_old_files_go_and_the_log_says_so(tmp_path: Path) -> None:
    engine, directory = MemoryEngine(), tmp_path / "audit"
    head = asyncio.run(written(directory, engine, range(60), file_bytes_max=500, files_max=4))
    files = files_in(directory)
    assert len(files) == 4
    assert list(findings(lines_of(files), [head])) == []
    files[0].unlink()
    assert list(findings(lines_of(files_in(directory)), [head]))


def test_a_record_that_a_crash_kept_out_of_the_log_is_written_at_the_next_start(tmp_path: Path) -> None:
    engine, directory = MemoryEngine(), tmp_path / "audit"

    async def crash() -> None:
        database = Database.open(engine)
        log = AuditLog(directory, database)
        log.open()
        await database.commit(Changes(), [entry(1), entry(2)])
        await log.flush()
        await database.commit(Changes(), [entry(3)])
        database.close()  # and the log is never told to end; of the file's end the database has not heard

    asyncio.run(crash())
    assert [note.body for note in engine.load().notes][-1] == entry(3)
    engine.close()
    head = asyncio.run(written(directory, engine, range(0)))
    entries = [msgspec.json.decode(record.entry) for record in records_of(files_in(directory))]
    assert [(each["number"], each.get("late", False)) for each in entries] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    stored = engine.load()
    assert (stored.notes, stored.log_head.records) == ((), head.records)


def test_a_torn_line_is_cut_away_and_its_record_written_again(tmp_path: Path) -> None:
    engine, directory = MemoryEngine(), tmp_path / "audit"

    async def crash() -> None:
        database = Database.open(engine)
        log = AuditLog(directory, database)
        log.open()
        await database.commit(Changes(), [entry(1), entry(2)])
        await log.flush()
        engine.close()

    asyncio.run(crash())
    (path,) = files_in(directory)
    path.write_bytes(path.read_bytes()[:-10])
    head = asyncio.run(written(directory, engine, range(0)))
    entries = [msgspec.json.decode(record.entry) for record in records_of([path])]
    assert [each["number"] for each in entries] == [1, 2]
    assert list(findings(lines_of([path]), [head])) == []


def test_a_write_that_is_cancelled_leaves_the_chain_whole(tmp_path: Path) -> None:
    async def body() -> None:
        database = Database.open(MemoryEngine())
        log = AuditLog(tmp_path / "audit", database)
        log.open()
        for number in range(20):
            log.add(entry(number))
            writing = asyncio.create_task(log.flush())
            await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
        await log.close()
        assert log.head.records == 20
        assert list(findings(lines_of(log.files()), [log.head])) == []
        database.close()

    asyncio.run(body())


def test_an_end_that_was_cut_off_stays_to_be_seen(tmp_path: Path) -> None:
    engine, directory = MemoryEngine(), tmp_path / "audit"
    asyncio.run(written(directory, engine, range(5)))
    (path,) = files_in(directory)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:3]))
    head = asyncio.run(written(directory, engine, range(5, 7)))
    found = list(findings(lines_of(files_in(directory)), [head]))
    assert found == ["record 6 follows record 3"]
