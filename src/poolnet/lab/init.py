"""What runs as process 1 of a lab machine? `python -m poolnet.lab.init DIRECTORY`, started by `lab/machine.py`.

It sets up the machine's mounts, waits for SIGUSR1 (the cables are in), starts the machine's services in order, restarts
one that fails, buries orphans, and on SIGTERM stops them in the opposite order. When it dies, the kernel kills everything in
the machine's PID namespace, so nothing of a machine can be left behind. Only light modules are imported: every machine
waits for this.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import NoReturn, TypedDict

from poolnet.hostd.link_requests import set_up

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096
_MNT_FORCE, _MNT_DETACH = 1, 2
_STORAGE = "/run/sr-mount/"
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGUSR1)

_RESTART_AFTER_S = (0.2, 0.5, 1.0)  # at most what the units of a real host say (RestartSec)
_STEADY_AFTER_S = 10.0  # a service that ran for so long starts again with the shortest wait
_READY_WITHIN_S = 60.0
_STOP_WITHIN_S = 10.0

# Files of /etc that programs on the machine write; all others of /etc and /var/lib are links to the real machine's.
_OWN_COPIES = ("hosts", "resolv.conf", "nsswitch.conf")
_REAL = "/media"  # the real machine's directories appear below here, read-only


class Service(TypedDict):
    """One line of the machine's `machine.json`.

    A service is ready when the path `ready` exists. One with `once` is run to its end instead, and must succeed. None is
    started while the path `unless` exists.
    """

    name: str
    argv: list[str]
    ready: str
    once: bool
    unless: str
    fds: list[int]


class Machine(TypedDict):
    """The machine's description, `machine.json` in its directory."""

    path: str
    services: list[Service]


class _Running:
    """A service that should run: its process, and when it may be started again."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.pid = 0
        self.started = 0.0
        self.failures = 0
        self.start_at: float | None = None


def _mount(source: str, target: str, kind: str = "", flags: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source}: {os.strerror(code)}", target)


def _link_to_real(real: Path, own: Path, original: Path) -> None:
    """Let every entry of the original directory that the machine has not made its own appear in its directory."""
    for entry in original.iterdir():
        link = own / entry.name
        if link.is_symlink() or link.exists():
            continue
        link.symlink_to(entry.readlink() if entry.is_symlink() else real / entry.name)


def _set_up_mounts(directory: Path) -> None:
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _mount("sysfs", "/sys", "sysfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _mount("tmpfs", _REAL, "tmpfs")
    for original, own in ((Path("/etc"), directory / "etc"), (Path("/var/lib"), directory / "var-lib")):
        real = Path(_REAL) / original.name
        real.mkdir()
        _mount(str(original), str(real), flags=_MS_BIND)
        _mount("none", str(real), flags=_MS_REMOUNT | _MS_BIND | _MS_RDONLY)
        for name in _OWN_COPIES if original.name == "etc" else ():
            if (original / name).is_file() and not (own / name).exists():
                shutil.copyfile(original / name, own / name)
        _link_to_real(real, own, original)
    own_run = directory / "run"
    (own_run / "boot-id").write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    _mount(str(own_run / "boot-id"), "/proc/sys/kernel/random/boot_id", flags=_MS_BIND)
    for name, target in (
        ("etc", "/etc"),
        ("var-lib", "/var/lib"),
        ("var-log", "/var/log"),
        ("var-tmp", "/var/tmp"),  # noqa: S108 - a directory that is covered, not written to
        ("run", "/run"),
    ):
        _mount(str(directory / name), target, flags=_MS_BIND)


def _unmount_storage() -> None:
    """Unmount what comes over the network while there is one, as systemd does at shutdown."""
    libc = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        point = line.split(" ")[1]
        if point.startswith(_STORAGE):
            libc.umount2(point.encode(), _MNT_FORCE | _MNT_DETACH)


class _Init:
    """The services of this machine."""

    def __init__(self, machine: Machine) -> None:
        self._environment = {"PATH": machine["path"], "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
        self._services = machine["services"]
        self._running: list[_Running] = []
        self._stopping = False
        self._once_pid = 0
        self._once_status: int | None = None

    def run(self) -> None:
        """Start everything, then keep it so until SIGTERM."""
        while not self._stopping and self._next_signal(None) != signal.SIGUSR1:
            pass
        for service in self._services:
            if self._stopping:
                break
            if service["unless"] and Path(service["unless"]).exists():
                continue
            if service["once"]:
                self._run_once(service)
            else:
                running = _Running(service)
                self._running.append(running)
                self._start(running)
                self._wait_ready(service)
        while not self._stopping:
            self._next_signal(self._restart_due())
        self._stop_all()

    def _spawn(self, service: Service) -> int:
        """Start a process in its own session, with a clear signal mask, writing to its log."""
        log = os.open(
            f"/var/log/{service['name']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        for fd in service["fds"]:
            os.set_inheritable(fd, True)
        try:
            return os.posix_spawnp(
                service["argv"][0],
                service["argv"],
                self._environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=(),
            )
        finally:
            os.close(log)
            for fd in service["fds"]:
                os.set_inheritable(fd, False)

    def _start(self, running: _Running) -> None:
        running.start_at = None
        running.started = time.monotonic()
        running.pid = self._spawn(running.service)

    def _run_once(self, service: Service) -> None:
        self._spawn_once(service)
        while self._once_status is None and not self._stopping:
            self._next_signal(self._restart_due())
        if self._once_status:
            _say(f"{service['name']} failed")

    def _spawn_once(self, service: Service) -> None:
        self._once_status = None
        self._once_pid = self._spawn(service)

    def _wait_ready(self, service: Service) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while service["ready"] and not self._stopping and not Path(service["ready"]).exists():
            if time.monotonic() > deadline:
                _say(f"{service['name']} is not ready after {_READY_WITHIN_S:g} s")
                return
            self._restart_due()
            self._next_signal(0.005)

    def _restart_due(self) -> float | None:
        """Start again what has waited long enough; how long until the next one, if one waits."""
        now = time.monotonic()
        for running in self._running:
            if running.start_at is not None and running.start_at <= now:
                self._start(running)
        waits = [running.start_at - now for running in self._running if running.start_at is not None]
        return max(0.001, min(waits)) if waits else None

    def _next_signal(self, timeout_s: float | None) -> int | None:
        """Wait for one signal, at most so long, and deal with dead children and SIGTERM."""
        if timeout_s is None:
            number: int | None = signal.sigwait(_SIGNALS)
        else:
            info = signal.sigtimedwait(_SIGNALS, timeout_s)
            number = None if info is None else info.si_signo
        if number == signal.SIGTERM:
            self._stopping = True
        elif number == signal.SIGCHLD:
            self._bury()
        return number

    def _bury(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._once_pid:
                self._once_status = status
            for running in self._running:
                if running.pid == pid:
                    self._died(running, status)

    def _died(self, running: _Running, status: int) -> None:
        """As with systemd's Restart=on-failure: a service that ends well is not started again."""
        running.pid = 0
        if self._stopping or (os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0):
            return
        now = time.monotonic()
        running.failures = 0 if now - running.started > _STEADY_AFTER_S else running.failures
        wait_s = _RESTART_AFTER_S[min(running.failures, len(_RESTART_AFTER_S) - 1)]
        running.failures += 1
        running.start_at = now + wait_s
        _say(f"{running.service['name']} ended ({os.waitstatus_to_exitcode(status)}); again in {wait_s:g} s")

    def _stop_all(self) -> None:
        _unmount_storage()
        for running in reversed(self._running):
            if running.pid == 0:
                continue
            os.kill(running.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_WITHIN_S
            while running.pid and time.monotonic() < deadline:
                self._next_signal(0.2)


def _say(text: str) -> None:
    os.write(2, f"{time.strftime('%H:%M:%S')} {text}\n".encode())


def main(directory: Path) -> NoReturn:
    """Be the init of the machine in that directory."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    machine: Machine = json.loads((directory / "machine.json").read_bytes())
    for service in machine["services"]:
        for fd in service["fds"]:
            os.set_inheritable(fd, False)
    _set_up_mounts(directory)
    socket.sethostname(Path("/etc/hostname").read_text(encoding="ascii").strip())
    set_up("lo", up=True)
    os.chdir("/")
    log = os.open("/var/log/init.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.write(1, b"ready\n")
    os.dup2(log, 1)
    os.dup2(log, 2)
    _Init(machine).run()
    sys.exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
