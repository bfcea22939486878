"""What does a host's server of the pool database keep, and can it be read? Of the standard library alone.

A disk that is full can damage the log of an ovsdb-server (3.1): while nothing can be written it goes on in its memory, and when
there is room again it writes what comes next, behind a gap. No server starts with such a file. A torn last record alone is no damage.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from poolnet.pool.torn_log import torn_from

DATABASE_FILE: Final = "pool.ovsdb"
MADE_FOR: Final = "made-for"
TOOL_S: Final = 60.0
ROOM_BYTES: Final = 1 << 20
"""What has to be free before a server that could not write starts again."""

SILENCE_MS: Final = 1500
"""A client that was silent for that long is asked whether it is there, and is gone if it does not answer for as long again."""

SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""Those that the program which runs these tools has blocked, to wait for them."""

REMOTES_DATABASE: Final = "poolnet_remotes"
_REMOTES_SCHEMA: Final = {
    "name": REMOTES_DATABASE,
    "version": "1.0.0",
    "tables": {
        "settings": {
            "isRoot": True,
            "maxRows": 1,
            "columns": {
                "remotes": {
                    "type": {"key": {"type": "uuid", "refTable": "remote"}, "min": 0, "max": "unlimited"}
                }
            },
        },
        "remote": {"columns": {"target": {"type": "string"}, "inactivity_probe": {"type": "integer"}}},
    },
}


def unblock() -> None:
    """Lets a program that is started have the signals that this one waits for."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def run_tool(*words: str) -> None:
    """Runs `ovsdb-tool`. Raises OSError, subprocess.SubprocessError; the latter has what it complained about."""
    command = ["ovsdb-tool", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=TOOL_S, preexec_fn=unblock)  # noqa: S603 - no shell, and words of our own


def identity_of(wanted: Mapping[str, Any] | None) -> str:
    """Which cluster's server is wanted; "" if none is."""
    return str(wanted.get("identity", "")) if wanted is not None else ""


class DatabaseFile:
    """The file that a server keeps, and for which cluster it was made.

    Args:
        directory: Where it is.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / DATABASE_FILE
        self._made_for = directory / MADE_FOR

    def was_made_for(self, wanted: Mapping[str, Any] | None) -> bool:
        """Whether there was a database for that cluster, with which a server may have voted. Raises OSError."""
        known = ""
        with suppress(FileNotFoundError):
            known = self._made_for.read_text()
        return wanted is not None and known == identity_of(wanted)

    def make(self, wanted: Mapping[str, Any]) -> None:
        """Makes the database if none was made for that cluster. Raises OSError, subprocess.SubprocessError, KeyError."""
        if self.was_made_for(wanted):
            return
        self.forget()
        if wanted["join"]:
            run_tool("join-cluster", str(self.path), wanted["database"], str(wanted["raft"]), *wanted["join"])
        else:
            schema = self._directory / wanted["schema"]
            run_tool("create-cluster", str(self.path), str(schema), str(wanted["raft"]))
        self._note(identity_of(wanted))

    def _note(self, identity: str) -> None:
        """Writes down what the database is for, durably: before that no server has used it."""
        new = self._made_for.with_name(f"{MADE_FOR}.new")
        with new.open("w") as file:
            file.write(identity)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._made_for)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def forget(self) -> None:
        """Removes the database."""
        self._made_for.unlink(missing_ok=True)
        for path in self._directory.glob(f".{DATABASE_FILE}*"):
            path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def damage(self) -> str:
        """Why the database cannot be read, or "" if it can, or if nobody can say: another server may be at work with it."""
        if not self.path.exists():
            return "it is gone"
        try:
            if not self._in_use():
                self._cut_off_torn()
                run_tool("check-cluster", str(self.path))
        except subprocess.CalledProcessError as error:
            complaint = error.stderr.decode(errors="replace").strip()
            return complaint if error.returncode == 1 else ""
        except (OSError, subprocess.SubprocessError):
            return ""
        return ""

    def _cut_off_torn(self) -> None:
        """Removes a last record that was never whole, as a server would. Raises OSError."""
        torn = torn_from(self.path)
        if torn is not None:
            with self.path.open("r+b") as file:
                file.truncate(torn)
                os.fsync(file.fileno())

    def _in_use(self) -> bool:
        """Whether a server has the file's lock. Raises OSError."""
        with self.path.with_name(f".{DATABASE_FILE}.~lock~").open("a") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return True
        return False

    def has_room_for(self, files: int) -> bool:
        """Whether there is room for so many more databases of that size, and something besides."""
        try:
            size = self.path.stat().st_size if self.path.exists() else 0
            return shutil.disk_usage(self._directory).free >= ROOM_BYTES + files * size
        except OSError:
            return False


def make_remotes(path: Path, listens: list[str]) -> None:
    """Writes a database that says where a server listens, and how soon it notices that a client is gone.

    Its command line cannot say the latter, and whoever is gone may hold the lock that the others wait for.
    Raises OSError, subprocess.SubprocessError.
    """
    path.unlink(missing_ok=True)
    schema = path.with_name(f"{path.name}.schema")
    schema.write_text(json.dumps(_REMOTES_SCHEMA))
    rows = [
        {
            "op": "insert",
            "table": "remote",
            "row": {"target": target, "inactivity_probe": SILENCE_MS},
            "uuid-name": f"remote{number}",
        }
        for number, target in enumerate(listens)
    ]
    named = [["named-uuid", row["uuid-name"]] for row in rows]
    use = {"op": "insert", "table": "settings", "row": {"remotes": ["set", named]}}
    run_tool("create", str(path), str(schema))
    run_tool("transact", str(path), json.dumps([REMOTES_DATABASE, *rows, use]))
