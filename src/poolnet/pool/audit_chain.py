"""Is an audit log whole? The lines of the log, the chain of their hashes, and what is wrong with them. Pure.

Each line is `{"seq":N,"hash":H,"entry":{…}}`. H is the SHA-256 of the hash before, the number and the bytes of the entry, so
that no line can be changed, left out, put in or moved without breaking all hashes after it. What ends the log is kept
elsewhere too (the database), so that an end that is cut off, or made anew with new hashes, is missed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

GENESIS: Final = "0" * 64
"""What stands for the hash before the first record."""

_LINE: Final = re.compile(rb'\{"seq":([1-9][0-9]*),"hash":"([0-9a-f]{64})","entry":(\{.*\})\}', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log: the number of its last record, and that record's hash."""

    records: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Record:
    """One line, taken apart; `entry` is JSON."""

    seq: int
    hash: str
    entry: bytes


class Forgotten(msgspec.Struct, frozen=True):
    """What a log says of the oldest records when they are removed."""

    through: int
    hash: str


class _MayForget(msgspec.Struct, frozen=True):
    """The part of an entry that says so."""

    forgotten: Forgotten | None = None


def digest(before: str, seq: int, entry: bytes) -> str:
    """The hash of a record."""
    hashed = hashlib.sha256(b"%s %d " % (before.encode(), seq))
    hashed.update(entry)
    return hashed.hexdigest()


def line(head: Head, entry: bytes) -> tuple[bytes, Head]:
    """The next line of a log, newline included, and the log's end then."""
    return lines(head, (entry,))


def lines(head: Head, entries: Iterable[bytes]) -> tuple[bytes, Head]:
    """The next lines of a log, newlines included, and the log's end then."""
    made = []
    seq, last = head.records, head.hash
    for entry in entries:
        seq += 1
        last = digest(last, seq, entry)
        made.append(b'{"seq":%d,"hash":"%s","entry":%s}\n' % (seq, last.encode(), entry))
    return b"".join(made), Head(seq, last)


def parse(text: bytes) -> Record | None:
    """A line without its newline; None if it is none."""
    found = _LINE.fullmatch(text)
    if found is None or len(found[1]) > 18:
        return None
    return Record(int(found[1]), found[2].decode(), found[3])


def findings(lines: Iterable[bytes], known: Sequence[Head] = ()) -> Iterator[str]:
    """What is wrong with a log, in words; nothing if it is whole.

    Args:
        lines: All lines of the log, without newlines.
        known: Ends that it had at some time, noted elsewhere.
    """
    ends = {head.records: head.hash for head in known if head.records}
    before: Record | None = None
    first: Record | None = None
    forgotten = Forgotten(0, GENESIS)
    for number, text in enumerate(lines, 1):
        record = parse(text)
        if record is None:
            yield f"line {number} is no record"
            continue
        if before is None:
            first = record
        else:
            yield from _misfit(before, record)
        if ends.pop(record.seq, record.hash) != record.hash:
            yield f"record {record.seq} is another one than was noted elsewhere"
        forgotten = _forgotten(record) or forgotten
        before = record
    if first is not None:
        yield from _misfit(Record(forgotten.through, forgotten.hash, b""), first)
    last = before.seq if before is not None else 0
    for records in sorted(ends):
        if records > last:
            yield f"the records from {last + 1} to {records} are missing at the end"
        elif records > forgotten.through:
            yield f"record {records}, which was noted elsewhere, is missing"


def _misfit(before: Record, record: Record) -> Iterator[str]:
    """What is wrong with a record after another one."""
    if record.seq != before.seq + 1:
        yield f"record {record.seq} follows record {before.seq}"
    elif record.hash != digest(before.hash, record.seq, record.entry):
        yield f"record {record.seq} is not what was written"


def _forgotten(record: Record) -> Forgotten | None:
    if b'"forgotten"' not in record.entry:
        return None
    try:
        return msgspec.json.decode(record.entry, type=_MayForget).forgotten
    except msgspec.MsgspecError:
        return None
