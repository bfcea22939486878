"""How is a lab machine, a host or the physical switch, made, entered, and ended? Called by `lab/life.py` and the console.

A machine is one init process (`lab/init.py`) in its own namespaces. It is found by its command line, so `down` works even
when nothing was written down before a crash.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from poolnet.hostd.guests import namespaces
from poolnet.hostd.process_stat import started_at
from poolnet.lab.init import Machine, Service
from poolnet.lab.state import LabError

_INIT = "poolnet.lab.init"
_PRIVATE = ("etc", "var-lib", "var-log", "var-tmp", "run")
_OWN_DIRECTORIES = (
    "etc/poolnet",
    "etc/openvswitch",
    "var-lib/poolnet",
    "var-lib/dhcpcd",
    "var-lib/openvswitch",
    "var-lib/xcp",
    "run/poolnet",
    "run/openvswitch",
    "run/lock",
    "run/systemd",
)
PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HIDDEN = ("/etc", "/run", "/var/run", "/var/lib", "/var/log", "/var/tmp", "/media", "/proc", "/sys")  # noqa: S108 - a directory that is covered, not written to
_ENDS_WITHIN_S = 30.0


def service(name: str, *argv: str, ready: str = "", unless: str = "", fds: Sequence[int] = ()) -> Service:
    """A service of a machine; see `init.Service`."""
    return Service(name=name, argv=list(argv), ready=ready, once=False, unless=unless, fds=list(fds))


def once(name: str, *argv: str, unless: str = "") -> Service:
    """A command that is run to its end before the next service; not at all when the path `unless` exists."""
    return Service(name=name, argv=list(argv), ready="", once=True, unless=unless, fds=[])


def own_open_vswitch(*configure: str, bridge: str = "") -> tuple[Service, ...]:
    """The services of the machine's own Open vSwitch.

    `configure` are ovs-vsctl's words before the switch starts; with `bridge`, one of them, it is waited for.
    """
    database, remote = "/var/lib/openvswitch/conf.db", "/run/openvswitch/db.sock"
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    return (
        once("ovsdb-tool", "ovsdb-tool", "create", database, schema, unless=database),
        service(
            "ovsdb-server",
            *(
                "ovsdb-server",
                database,
                f"--remote=punix:{remote}",
                "--pidfile",
                "-vconsole:warn",
                "-vsyslog:off",
            ),
            ready=remote,
        ),
        once("ovs-vsctl", "ovs-vsctl", "--retry", "--timeout=20", "--no-wait", "init", *configure),
        service(
            "ovs-vswitchd",
            *("ovs-vswitchd", f"unix:{remote}", "--pidfile", "-vconsole:info", "-vsyslog:off"),
            ready=f"/sys/class/net/{bridge}" if bridge else "/run/openvswitch/ovs-vswitchd.pid",
        ),
    )


def prepare(directory: Path, hostname: str, services: Sequence[Service], files: Mapping[str, str]) -> None:
    """Make the machine's directories, and write its description and its first files (paths below the directory).

    At a reboot the directories are kept, but for /run, which is emptied, and `files` that exist are left alone.
    """
    shutil.rmtree(directory / "run", ignore_errors=True)
    for name in (*_PRIVATE, *_OWN_DIRECTORIES):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "var-tmp").chmod(0o1777)
    for name, text in {"etc/hostname": f"{hostname}\n", **files}.items():
        path = directory / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    machine = Machine(path=PATH, services=list(services))
    (directory / "machine.json").write_text(json.dumps(machine), encoding="utf-8")


async def launch(directory: Path, *, pass_fds: Sequence[int] = ()) -> tuple[int, int]:
    """Start the machine's init; its PID, and when it started. It waits for `go`. Raises LabError."""
    command = (sys.executable, "-m", _INIT, str(directory))
    try:
        pid = await namespaces.launch(command, pass_fds=pass_fds)
    except namespaces.LaunchError as error:
        raise LabError(f"machine {directory.name} did not start: {error}") from error
    return pid, started_at(pid)


def go(pid: int) -> None:
    """Let the machine start its services."""
    os.kill(pid, signal.SIGUSR1)


def entering(pid: int) -> tuple[str, ...]:
    """The words before a command that is to run in this machine's namespaces, in the same directory if it is there."""
    here = str(Path.cwd())
    hidden = any(here == name or here.startswith(f"{name}/") for name in _HIDDEN)
    where = "/root" if hidden else here
    names = ("--net", "--mount", "--uts", "--ipc", "--pid")
    return ("nsenter", "--target", str(pid), *names, f"--wdns={where}", "env", f"PATH={PATH}")


async def run_in(pid: int, *words: str) -> str:
    """Run a command in the machine and return its output. Raises LabError with what it wrote."""
    return await run(*entering(pid), *words)


async def run(*words: str, text: str = "") -> str:
    """Run a command with this standard input and return its output. Raises LabError with what it wrote."""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(text.encode())
    if process.returncode != 0:
        raise LabError(f"{' '.join(words)}: {err.decode().strip() or out.decode().strip()}")
    return out.decode()


def replace_by(*words: str) -> NoReturn:
    """Become that command: its terminal, signals and exit code are the user's."""
    sys.stdout.flush()
    os.execvp(words[0], words)  # noqa: S606 - no shell


async def end(directory: Path, *, ask: bool) -> None:
    """End the machine and everything in it; `ask` lets it stop its services first. Raises LabError if it cannot.

    Nothing to do when it does not run.
    """
    for pid in _processes(directory):
        started = started_at(pid)
        with suppress(ProcessLookupError):
            if ask:
                os.kill(pid, signal.SIGTERM)
                await namespaces.wait_gone(pid, started, _ENDS_WITHIN_S)
            os.kill(pid, signal.SIGKILL)
        if not await namespaces.wait_gone(pid, started, _ENDS_WITHIN_S):
            raise LabError(f"process {pid} of machine {directory.name} cannot be ended")


def _processes(directory: Path) -> list[int]:
    """The processes that are, or are about to become, this machine's init."""
    wanted = ("-m", _INIT, str(directory))
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with suppress(OSError):
                words = Path(f"/proc/{entry.name}/cmdline").read_bytes().decode(errors="replace").split("\0")
                if tuple(words[-4:-1]) == wanted:
                    found.append(int(entry.name))
    return found
