"""Is this host's audit log whole, and what does it say? `poolnet audit verify` and `poolnet audit show` on its console.

They read the files and the database's file; the API server may run meanwhile, or not.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

from poolnet.api.config import ConfigError, load_config, rooted
from poolnet.db.engine_sqlite import log_head_in, notes_in
from poolnet.pool.audit_chain import GENESIS, Head, findings, parse
from poolnet.pool.audit_log import DIRECTORY, files_in, lines_of
from poolnet.pool.membership import DATABASE

_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


def verify(heads: Sequence[str], state_dir: Path | None = None) -> int:
    """Prints what is wrong with the log; 0 if nothing is, 1 if something is or it cannot be read.

    `heads` are ends of the log that somebody has noted, NUMBER:HASH as this command prints them.
    """
    noted = []
    for text in heads:
        found = _HEAD.fullmatch(text)
        if found is None:
            return _fail(f"{text} is no NUMBER:HASH")
        noted.append(Head(int(found[1]), found[2]))
    try:
        directory = state_dir or rooted(load_config(None).state_dir)
        known, waiting = _known(
            directory / DATABASE
        )  # first: the log may only have more by the time it is read
        lines = list(lines_of(files_in(directory / DIRECTORY), complete=True))
    except (ConfigError, OSError, sqlite3.Error) as error:
        return _fail(str(error))
    wrong = list(findings(lines, [known, *noted]))
    for finding in wrong:
        sys.stdout.write(f"{finding}\n")
    last = parse(lines[-1]) if lines else None
    end = f"{last.seq}:{last.hash}" if last is not None else f"0:{GENESIS}"
    late = f", {waiting} on their way" if waiting else ""
    verdict = "NOT whole" if wrong else "whole"
    sys.stdout.write(f"The audit log is {verdict}: {len(lines)} records{late}. Its end: {end}\n")
    return 1 if wrong else 0


def show() -> int:
    """Prints the log, a record a line; 1 if it cannot be read."""
    try:
        for line in lines_of(files_in(rooted(load_config(None).state_dir) / DIRECTORY), complete=True):
            sys.stdout.write(line.decode(errors="replace") + "\n")
    except (ConfigError, OSError) as error:
        return _fail(str(error))
    return 0


def _known(path: Path) -> tuple[Head, int]:
    """The end of the log as the database knows it, and how many records are not in it yet."""
    if not path.exists():
        return Head(), 0
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        connection.execute("BEGIN")
        head = log_head_in(connection)
        return Head(head.records, head.hash), len(notes_in(connection))
    finally:
        connection.close()


def _fail(why: str) -> int:
    sys.stderr.write(f"poolnet: {why}\n")
    return 1
