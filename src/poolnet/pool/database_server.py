"""What runs this host's server of the pool database? The program `poolnet-db`, of the standard library alone.

The API server writes `cluster/server.json` below its state directory and sends SIGHUP. While that file is there, an
ovsdb-server runs as it says, and is started again when it ends; without it none runs. It is a program of its own so that the
database lives on when the API server does not.

An ovsdb-server that runs learns of CAs that are trusted besides, and forgets none. So it reads a file of its own, to which
SIGHUP adds what the pool trusts by now; SIGUSR1 starts it anew with these alone, if it trusts others.

A server that complains that it cannot write is killed until there is room: it would go on in its memory, also as the one that
leads, and leave a gap in its file. One that ended, and cannot read its file, has lost what it voted for: it is not started, and no
other is made in its place. A file among the sockets says so to the API server, as soon as there is room; whoever coordinates has the others kick
it, and then wants a server of another identity here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from poolnet.pool.database_file import (
    REMOTES_DATABASE,
    SIGNALS,
    DatabaseFile,
    identity_of,
    make_remotes,
    unblock,
)

DIRECTORY: Final = "cluster"
SERVER_FILE: Final = "server.json"
SOCKET: Final = "db.sock"
CONTROL: Final = "db.ctl"
AUTHORITIES: Final = "ca.crt"
POOL_DIRECTORY: Final = "pool"
PID_FILE: Final = "db.pid"
REMOTES: Final = "db.remotes"
LOST: Final = "db.lost"
STATE_DIR: Final = "/var/lib/poolnet/api"
RUN_DIR: Final = "/run/poolnet"
AGAIN_S: Final = (0.1, 0.5, 1.0, 2.0)
STEADY_S: Final = 10.0
ENDS_S: Final = 10.0
_CANNOT_WRITE: Final = b"write failed"
_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


def trusts_former(state_dir: Path) -> bool:
    """Whether the server of that state directory trusts a CA that the pool does not trust any more."""
    loaded, wanted = _authorities(state_dir)
    return not set(loaded) <= set(wanted)


def _authorities(state_dir: Path) -> tuple[list[bytes], list[bytes]]:
    """The CAs that the server has read, and those that the pool trusts."""
    return _read(state_dir / DIRECTORY / AUTHORITIES), _read(state_dir / POOL_DIRECTORY / AUTHORITIES)


def _read(path: Path) -> list[bytes]:
    try:
        return _CERTIFICATE.findall(path.read_bytes())
    except OSError:
        return []


class Keeper:
    """Keeps the server as its file says.

    Args:
        state_dir: The API server's.
        run_dir: Where the server's sockets are.
    """

    def __init__(self, state_dir: Path, run_dir: Path) -> None:
        self._state_dir = state_dir
        self._directory = state_dir / DIRECTORY
        self._file = DatabaseFile(self._directory)
        self._certificates = state_dir / POOL_DIRECTORY
        self._run_dir = run_dir
        self._wanted: dict[str, Any] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._start_at: float | None = None
        self._suspect = False
        self._lost = run_dir / LOST
        self._said = False
        self._cannot_write = threading.Event()

    def run(self) -> None:
        """Keeps it until SIGTERM or SIGINT."""
        os.umask(0o077)  # secrets are in the database
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._run_dir.mkdir(parents=True, exist_ok=True)
        pid_file = self._run_dir / PID_FILE
        pid_file.write_text(f"{os.getpid()}\n")
        self._look()
        while True:
            number = self._next_signal()
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop()
                return
            if number == signal.SIGHUP:
                self._look()
                if self._wanted is not None:  # else it would put files where all is being removed
                    self._trust(anew=False)
            if number == signal.SIGUSR1:
                self._forget_former()
            self._check()

    def _next_signal(self) -> int | None:
        if self._start_at is None:
            return signal.sigwait(SIGNALS)
        told = signal.sigtimedwait(SIGNALS, max(0.01, self._start_at - time.monotonic()))
        return None if told is None else told.si_signo

    def _look(self) -> None:
        """Reads the file; a server that runs otherwise ends, and what it has kept goes."""
        wanted = None
        try:
            wanted = json.loads((self._directory / SERVER_FILE).read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            say(f"{SERVER_FILE}: {error}")
            return
        same = identity_of(wanted) == identity_of(self._wanted)
        self._wanted = wanted
        if same and (self._server is not None or wanted is None):
            return
        self._stop()
        self._lost.unlink(missing_ok=True)
        try:
            self._forget_other(wanted)
        except OSError as error:
            say(f"{self._file.path}: {error}")
        self._suspect = False
        self._failures = 0
        self._start_at = time.monotonic() if wanted is not None else None

    def _trust(self, *, anew: bool) -> None:
        """Has the server trust what the pool does, besides what it trusts already unless it starts anew."""
        loaded, wanted = _authorities(self._state_dir)
        trusted = [
            *({} if anew else dict.fromkeys(loaded)),
            *(ca for ca in wanted if anew or ca not in loaded),
        ]
        if not wanted or (trusted == loaded and not anew):
            return
        path = self._directory / AUTHORITIES
        new = path.with_name(f"{AUTHORITIES}.new")
        try:
            new.write_bytes(b"\n".join([*trusted, b""]))
            new.replace(path)
        except OSError as error:
            say(f"{AUTHORITIES}: {error}")

    def _forget_former(self) -> None:
        """Starts the server anew if it trusts a CA that the pool does not trust any more."""
        if self._server is None or not trusts_former(self._state_dir):
            return
        say("ovsdb-server starts anew, to trust former authorities no more")
        self._stop()
        self._failures = 0
        self._start_at = time.monotonic()

    def _forget_other(self, wanted: dict[str, Any] | None) -> None:
        """Removes a database that was kept for another cluster than the one that is wanted, or for one when none is.

        Whoever wanted none any more has removed the directory, but perhaps while the server was still making files in it.
        Raises OSError.
        """
        if not self._file.was_made_for(wanted):
            self._file.forget()
        if wanted is None:
            self._clear()

    def _clear(self) -> None:
        """Removes the directory, unless something is in it besides: what the cluster is may be kept there, also without a server."""
        with suppress(OSError):
            for name in (AUTHORITIES, f"{AUTHORITIES}.new"):
                (self._directory / name).unlink(missing_ok=True)
            self._directory.rmdir()

    def _check(self) -> None:
        if self._server is not None and self._cannot_write.is_set():
            say("ovsdb-server cannot write, and ends until there is room")
            self._server.kill()
            self._server.wait()
        if self._server is not None and self._server.poll() is not None:
            say(f"ovsdb-server ended ({self._server.returncode})")
            self._server = None
            self._suspect = True
            if self._wanted is not None:
                steady = time.monotonic() - self._started > STEADY_S
                self._failures = 0 if steady else self._failures
                self._start_at = time.monotonic() + AGAIN_S[min(self._failures, len(AGAIN_S) - 1)]
                self._failures += 1
        if self._start_at is not None and time.monotonic() >= self._start_at:
            self._start_at = None
            if self._wanted is not None and self._server is None:
                self._start(self._wanted)

    def _start(self, wanted: dict[str, Any]) -> None:
        self._started = time.monotonic()
        self._start_at = time.monotonic() + AGAIN_S[-1]
        try:
            if self._has_lost(wanted) or (self._cannot_write.is_set() and not self._file.has_room_for(0)):
                return
            self._cannot_write.clear()
            self._file.make(wanted)
            self._trust(anew=True)
            make_remotes(self._run_dir / REMOTES, [f"punix:{self._run_dir / SOCKET}", wanted["listen"]])
            server = subprocess.Popen(self._words(), stderr=subprocess.PIPE, preexec_fn=unblock)  # noqa: S603 - no shell, and words of our own
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            complaint = getattr(error, "stderr", None) or b""
            say(f"ovsdb-server cannot be started: {error} {complaint.decode(errors='replace')}".rstrip())
            return
        self._server, self._suspect, self._start_at = server, False, None
        threading.Thread(target=self._relay, args=(server.stderr,), daemon=True).start()

    def _has_lost(self, wanted: dict[str, Any]) -> bool:
        """Whether there was a database for that cluster that cannot be read now; says so. Raises OSError."""
        if not self._file.was_made_for(wanted):
            return False
        gone = not self._file.path.exists()
        damage = self._file.damage() if gone or self._suspect else ""
        if not damage:
            self._lost.unlink(missing_ok=True)
        else:
            room = self._file.has_room_for(2)
            what = "another server has to take this one's place" if room else "there is no room for another"
            if self._lost.exists() != room or not self._said:
                say(f"the database cannot be read, {what}: {damage}")
            if room:
                self._lost.write_text(damage)
            else:
                self._lost.unlink(missing_ok=True)
        self._said = bool(damage)
        return self._said

    def _relay(self, complaints: IO[bytes]) -> None:
        """Writes what the server complains about to the journal, and has it ended when it cannot write."""
        for line in complaints:
            with suppress(OSError):
                os.write(sys.stderr.fileno(), line)
            if _CANNOT_WRITE in line and not self._cannot_write.is_set():
                self._cannot_write.set()
                os.kill(os.getpid(), signal.SIGCHLD)

    def _words(self) -> list[str]:
        certificates, run = self._certificates, self._run_dir
        return [
            "ovsdb-server",
            str(self._file.path),
            str(run / REMOTES),
            f"--remote=db:{REMOTES_DATABASE},settings,remotes",
            f"--private-key={certificates / 'host.pem'}",
            f"--certificate={certificates / 'host.pem'}",
            f"--ca-cert={self._directory / AUTHORITIES}",
            f"--unixctl={run / CONTROL}",
            "-vconsole:warn",
            "-vsyslog:off",
        ]

    def _stop(self) -> None:
        if self._server is None:
            return
        self._server.terminate()
        try:
            self._server.wait(ENDS_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._server = None


def say(text: str) -> None:
    """Writes a line to the journal."""
    sys.stderr.write(f"poolnet-db: {text}\n")
    sys.stderr.flush()


def main() -> NoReturn:
    """Runs the program."""
    root = os.environ.get("POOLNET_ROOT", "/")
    Keeper(Path(root) / STATE_DIR.lstrip("/"), Path(root) / RUN_DIR.lstrip("/")).run()
    sys.exit(0)


if __name__ == "__main__":
    main()
