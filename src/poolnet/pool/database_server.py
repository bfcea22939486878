"""What runs this host's server of the pool database? The program `poolnet-db`, of the standard library alone.

The API server writes `cluster/server.json` below its state directory and sends SIGHUP. While that file is there, an
ovsdb-server runs as it says, and is started again when it ends; without it none runs. It is a program of its own so that the
database lives on when the API server does not.

An ovsdb-server that runs learns of CAs that are trusted besides, and forgets none. So it reads a file of its own, to which
SIGHUP adds what the pool trusts by now; SIGUSR1 starts it anew with these alone, if it trusts others.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

DIRECTORY: Final = "cluster"
SERVER_FILE: Final = "server.json"
DATABASE_FILE: Final = "pool.ovsdb"
MADE_FOR: Final = "made-for"
SOCKET: Final = "db.sock"
CONTROL: Final = "db.ctl"
AUTHORITIES: Final = "ca.crt"
POOL_DIRECTORY: Final = "pool"
PID_FILE: Final = "db.pid"
STATE_DIR: Final = "/var/lib/poolnet/api"
RUN_DIR: Final = "/run/poolnet"
AGAIN_S: Final = (0.1, 0.5, 1.0, 2.0)
STEADY_S: Final = 10.0
ENDS_S: Final = 10.0
_SIGNALS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
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
        self._certificates = state_dir / POOL_DIRECTORY
        self._run_dir = run_dir
        self._wanted: dict[str, Any] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._failures = 0
        self._start_at: float | None = None

    def run(self) -> None:
        """Keeps it until SIGTERM or SIGINT."""
        os.umask(0o077)  # secrets are in the database
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
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
                self._trust(anew=False)
                self._look()
            if number == signal.SIGUSR1:
                self._forget_former()
            self._check()

    def _next_signal(self) -> int | None:
        if self._start_at is None:
            return signal.sigwait(_SIGNALS)
        told = signal.sigtimedwait(_SIGNALS, max(0.01, self._start_at - time.monotonic()))
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
        same = _identity(wanted) == _identity(self._wanted)
        self._wanted = wanted
        if same and (self._server is not None or wanted is None):
            return
        self._stop()
        self._forget_other(wanted)
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
        """
        known = ""
        with suppress(OSError):
            known = (self._directory / MADE_FOR).read_text()
        if wanted is None or known != _identity(wanted):
            for path in self._directory.glob(f".{DATABASE_FILE}*"):
                path.unlink(missing_ok=True)
            (self._directory / DATABASE_FILE).unlink(missing_ok=True)
            (self._directory / MADE_FOR).unlink(missing_ok=True)
        if wanted is None:
            with suppress(OSError):  # what the cluster is may be kept there, also without a server
                self._directory.rmdir()

    def _check(self) -> None:
        if self._server is not None and self._server.poll() is not None:
            say(f"ovsdb-server ended ({self._server.returncode})")
            self._server = None
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
        try:
            self._make_database(wanted)
            self._trust(anew=True)
            self._server = subprocess.Popen(self._words(wanted), preexec_fn=_unblock)  # noqa: S603 - no shell, and words of our own
        except (OSError, subprocess.SubprocessError, KeyError) as error:
            say(f"ovsdb-server cannot be started: {error}")
            self._start_at = time.monotonic() + AGAIN_S[-1]

    def _make_database(self, wanted: dict[str, Any]) -> None:
        path = self._directory / DATABASE_FILE
        if path.exists():
            return
        words = ["ovsdb-tool"]
        if wanted["join"]:
            words += ["join-cluster", str(path), wanted["database"], wanted["raft"], *wanted["join"]]
        else:
            words += ["create-cluster", str(path), str(self._directory / wanted["schema"]), wanted["raft"]]
        subprocess.run(words, check=True, preexec_fn=_unblock)  # noqa: S603 - no shell, and words of our own
        self._note(_identity(wanted))

    def _note(self, identity: str) -> None:
        """Writes down what the database is for, durably: before that no server has used it."""
        with (self._directory / MADE_FOR).open("w") as file:
            file.write(identity)
            file.flush()
            os.fsync(file.fileno())
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _words(self, wanted: dict[str, Any]) -> list[str]:
        certificates, run = self._certificates, self._run_dir
        return [
            "ovsdb-server",
            str(self._directory / DATABASE_FILE),
            f"--remote=punix:{run / SOCKET}",
            f"--remote={wanted['listen']}",
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


def _identity(wanted: dict[str, Any] | None) -> str:
    return str(wanted.get("identity", "")) if wanted is not None else ""


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


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
