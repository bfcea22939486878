"""The program `poolnet-db` for tests: real processes, with servers that can be kept from writing."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from poolnet.db.ovsdb_schema import DATABASE
from poolnet.pool.database_file import DatabaseFile
from poolnet.pool.database_server import PID_FILE, SERVER_FILE
from tests.waiting import eventually

WITHIN_S = 20.0


class Program:
    """The program `poolnet-db`, with a server that listens on this machine alone."""

    def __init__(self, root: Path) -> None:
        bin_dir = root / "bin"
        bin_dir.mkdir(parents=True)
        wrapper = bin_dir / "ovsdb-server"
        wrapper.write_text(f"#!/bin/sh\ntrap '' XFSZ\nexec {shutil.which('ovsdb-server')} \"$@\"\n")
        wrapper.chmod(0o755)
        self.state, self.run = root / "var/lib/poolnet/api", root / "run/poolnet"
        self.directory = self.state / "cluster"
        self.directory.mkdir(parents=True)
        words = (sys.executable, "-m", "poolnet.pool.database_server")
        self.process = subprocess.Popen(
            words,
            env={
                **os.environ,
                "POOLNET_ROOT": str(root),
                "PATH": f"{bin_dir}:{os.environ['PATH']}",
            },
            stderr=subprocess.DEVNULL,
        )
        eventually((self.run / PID_FILE).exists, "the program does not start")

    @property
    def raft(self) -> str:
        """Where the other servers find its server."""
        return f"unix:{self.directory}/raft"

    def tell(self, identity: str | None, listen: str = "", join: Sequence[str] = ()) -> None:
        """Has it keep a server of that identity, or none; `listen` as ovsdb-server has it, `join` where others are."""
        path = self.directory / SERVER_FILE
        if identity is None:
            path.unlink()
        else:
            (self.directory / "schema").write_text(
                '{"name": "poolnet", "version": "1.0.0", "tables": {"t": {"columns": {"c": {"type": "string"}}}}}'
            )
            words = {
                "identity": identity,
                "database": DATABASE,
                "raft": self.raft,
                "join": list(join),
            }
            path.write_text(
                json.dumps({**words, "listen": listen or f"punix:{self.directory}/more", "schema": "schema"})
            )
        self.process.send_signal(signal.SIGHUP)

    def cid(self) -> str:
        """The cluster that is served; "" if none is."""
        words = ("ovs-appctl", "--timeout=5", "-t", str(self.run / "db.ctl"), "cluster/cid", DATABASE)
        return subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip()

    def server(self) -> int:
        """The server's process; 0 if there is none."""
        words = ("pgrep", "-P", str(self.process.pid), "-x", "ovsdb-server")
        return int(subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip() or 0)

    def status(self) -> str:
        """What its server says of the cluster; "" if none runs."""
        words = ("ovs-appctl", "--timeout=5", "-t", str(self.run / "db.ctl"), "cluster/status", DATABASE)
        return subprocess.run(words, check=False, capture_output=True, text=True).stdout

    def sid(self) -> str:
        """The id of its server among the others; "" if none runs."""
        words = ("ovs-appctl", "--timeout=5", "-t", str(self.run / "db.ctl"), "cluster/sid", DATABASE)
        return subprocess.run(words, check=False, capture_output=True, text=True).stdout.strip()

    def wait_joined(self) -> None:
        """Returns when its server is one of the cluster's."""
        words = ("ovsdb-client", "--timeout=5", "wait", f"unix:{self.run}/db.sock", DATABASE, "connected")
        eventually(
            lambda: subprocess.run(words, check=False, capture_output=True).returncode == 0,
            "it does not join",
        )

    def write(self, text: str) -> None:
        """Commits a row, by whichever server leads."""
        assert self.writes(text)

    def writes(self, text: str) -> bool:
        """Whether a row can be committed, by whichever server leads."""
        insert = {"op": "insert", "table": "t", "row": {"c": text}}
        words = ("ovsdb-client", "--timeout=10", "transact", f"unix:{self.run}/db.sock")
        done = subprocess.run(
            (*words, json.dumps([DATABASE, insert])), check=False, capture_output=True, text=True
        )
        return '"error"' not in done.stdout and "uuid" in done.stdout

    def leads(self) -> bool:
        """Whether its server leads."""
        return "\nRole: leader\n" in self.status()

    def has(self, text: str) -> bool:
        """Whether its server has a row with that text."""
        words = ("ovsdb-client", "--timeout=5", "dump", f"unix:{self.run}/db.sock", DATABASE, "t")
        return text in subprocess.run(words, check=False, capture_output=True, text=True).stdout

    def let_write(self, *, full: bool) -> None:
        """Has every write of its server fail that makes a file longer, as on a full disk, or lets it write again."""
        size = self.file.path.stat().st_size if full else resource.RLIM_INFINITY
        resource.prlimit(self.server(), resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    @property
    def file(self) -> DatabaseFile:
        """What its server keeps."""
        return DatabaseFile(self.directory)

    def stand(self) -> None:
        """The program stands still, its server does not."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It goes on."""
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Ends it, and its server."""
        self.go_on()
        self.process.terminate()
        assert self.process.wait(WITHIN_S) == 0
        assert not self.cid()
