"""How does an old database become one of today? The sqlite engine asks whenever it opens a file.

Migrations are numbered; a new file goes through all of them, so that the way is always the same. Each is written once
and never changed afterwards. Fields of the model that come and go need none: see `body`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from poolnet.db.errors import SchemaTooNew


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """The statements that lead from the version before to this one, and why they are there."""

    version: int
    reason: str
    statements: tuple[str, ...]


MIGRATIONS: Final[Sequence[Migration]] = (
    Migration(
        version=1,
        reason="one row per object, in the order of creation",
        statements=(
            "CREATE TABLE object (id INTEGER PRIMARY KEY, class TEXT NOT NULL, ref TEXT NOT NULL UNIQUE,"
            " created INTEGER NOT NULL, body TEXT NOT NULL)",
            "CREATE TABLE ceiling (number INTEGER NOT NULL)",
            "INSERT INTO ceiling VALUES (0)",
        ),
    ),
    Migration(
        version=2,
        reason="event.from answers across a restart: modifications and deletions keep their commit numbers",
        statements=(
            "ALTER TABLE object ADD COLUMN modified INTEGER NOT NULL DEFAULT 0",
            # Nobody knows when the old rows changed: to be told once too often is better than never.
            "UPDATE object SET modified = (SELECT number FROM ceiling)",
            "CREATE TABLE deletion (id INTEGER PRIMARY KEY, class TEXT NOT NULL, ref TEXT NOT NULL,"
            " created INTEGER NOT NULL, number INTEGER NOT NULL)",
            "CREATE INDEX deletion_class ON deletion (class, id)",
        ),
    ),
    Migration(
        version=3,
        reason="no commit without its record in the audit log, and no end of the log that is cut off unseen",
        statements=(
            "CREATE TABLE note (number INTEGER PRIMARY KEY, body BLOB NOT NULL)",
            "CREATE TABLE log_head (records INTEGER NOT NULL, hash TEXT NOT NULL, noted INTEGER NOT NULL)",
            "INSERT INTO log_head VALUES (0, '', 0)",
        ),
    ),
    Migration(
        version=4,
        reason="the notes of one append share a row, a line each: those of version 3 are rows of one line",
        statements=(),
    ),
)

CURRENT: Final = MIGRATIONS[-1].version


def upgrade(connection: sqlite3.Connection) -> None:
    """Brings a file, new or old, to the current version, in one transaction; the connection is in autocommit mode.

    Raises:
        SchemaTooNew: the file is of a later version than this program knows.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
        row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
        version = row[0] or 0
        _require_known(version)
        for migration in MIGRATIONS[version:]:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version VALUES (?)", (migration.version,))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _require_known(version: int) -> None:
    if version > CURRENT:
        raise SchemaTooNew(f"the database is of version {version}; this poolnet knows {CURRENT}")
