"""How is a command run on another kernel? User Mode Linux: Debian's `linux.uml`, a Linux kernel that is a process.

Or, where that lacks a module (`debian_kernel`), another `Kernel`.

The machine sees this one's files, read-only, and has memory where programs write. It has no network but its own. It ends
when its maker ends, however that comes about: it is killed with its maker, and with it its whole PID namespace.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.kernel import inside

KERNEL = "/usr/bin/linux.uml"
MODULES = "/usr/lib/uml/modules"
_REPOSITORY = Path(__file__).resolve().parents[2]
_BYTECODE = _REPOSITORY / ".venv/bytecode"
# The lint has it, no host; structlog imports it where it is there, for colours, and daemons start a fifth slower.
_NOT_ON_A_HOST = (Path(sysconfig.get_path("purelib")) / "rich",)
_MEMORY_MIB = 1536
_MODULES_WANTED = ("ipv6", "tun", "veth", "openvswitch", "bonding max_bonds=0")
_HUNG_AFTER_PANIC = "Kernel panic"
_LOOK_EVERY_S = 0.2

# In namespaces of its own: every file read-only but those in the job's directory ($1), where the machine's memory is too.
_START = """
set -e
mount --bind "$1" "$1"
mount -t tmpfs -o size={size}m,mode=0700 tmpfs "$1/memory"
mount -o remount,bind,ro /
export TMPDIR="$1/memory"
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A kernel that runs the first process of `inside`, by a command that ends when the machine is off.

    `command` says which, for a job's directory; `tags` are the names under which it shows directories of this machine.
    `pinned` keeps it on one processor.
    """

    command: Callable[[Path], tuple[str, ...]]
    modules: tuple[str, ...]
    modules_from: str
    filesystem: str = "hostfs"
    tags: Callable[[Path], dict[str, str]] = lambda _: {}
    switch: bool = True
    pinned: bool = False


class MachineFailed(Exception):
    """The machine did not come to the end of its job; with the last lines of its console."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that has ended by itself, and all that was written to the console."""

    code: int
    console: str


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    limit_s: float,
    kernel: Kernel | None = None,
) -> Done:
    """Boot a machine, run the command in it, in the repository, and turn it off.

    The command may write into `directory`, which must be empty. Raises MachineFailed when the machine has not turned
    itself off within the limit, or did so without having run the command.
    """
    kernel = kernel or USER_MODE
    (directory / "memory").mkdir()
    job = inside.Job(
        command=list(command),
        environment={
            "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "TERM": "dumb",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPYCACHEPREFIX": str(_bytecode()),
            **environment,
        },
        cwd=str(_REPOSITORY),
        visible=[str(_REPOSITORY)],
        empty=[str(path) for path in _NOT_ON_A_HOST if path.is_dir()],
        modules=list(kernel.modules),
        modules_from=kernel.modules_from,
        filesystem=kernel.filesystem,
        tags=kernel.tags(directory),
        switch=kernel.switch,
    )
    (directory / "job.json").write_text(json.dumps(job), encoding="utf-8")
    console = directory / "console.log"
    with console.open("wb") as out:
        process = subprocess.Popen(
            _words(directory, kernel),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            cwd="/",
            env={"PATH": os.defpath},
        )
        try:
            reason = _watch(process, console, limit_s)
        finally:
            _end(process)
    text = console.read_text(encoding="utf-8", errors="replace").replace("\r", "")
    if reason or not (directory / "exit").exists():
        last = "\n".join(text.splitlines()[-60:])
        raise MachineFailed(
            f"{reason or 'the machine ended before its job'}; its console's last lines:\n{last}"
        )
    return Done(code=int((directory / "exit").read_text(encoding="ascii")), console=text)


@cache
def _bytecode() -> Path:
    """Where Python's bytecode of all programs of the tests is: a machine would compile for most of its time.

    What is there and as new as its source is left; what is imported by name alone may be missing.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    prefix = ("-X", f"pycache_prefix={_BYTECODE}")
    imported = "import pytest, _pytest.junitxml, pytest_timeout, poolnet.api.main, poolnet.hostd.main, poolnet.lab.cli"
    for words in (("-m", "compileall", "-q", "src/poolnet", "tests"), ("-c", imported)):
        subprocess.run((sys.executable, *prefix, *words), cwd=_REPOSITORY, env=environment, check=True)
    return _BYTECODE


def _user_mode(directory: Path) -> tuple[str, ...]:
    return (
        *(KERNEL, f"mem={_MEMORY_MIB}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"),
        *("con=null", "con0=null,fd:1", "loglevel=4", f"uml_dir={directory}/memory", "umid=machine"),
        *(f"init={Path(sys.executable).resolve()}", "--", inside.__file__, str(directory)),
    )


# Kernel and process hand over to each other thousands of times a second. Where each handing over wakes another processor,
# programs take twice as long to start.
USER_MODE = Kernel(command=_user_mode, modules=_MODULES_WANTED, modules_from=MODULES, pinned=True)


def _words(directory: Path, kernel: Kernel) -> tuple[str, ...]:
    own = ("unshare", "--pid", "--mount", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")
    start = _START.format(size=_MEMORY_MIB + 64)
    return (
        "setpriv",
        "--pdeathsig",
        "KILL",
        *(("taskset", "--cpu-list", str(_processor())) if kernel.pinned else ()),
        *own,
        "sh",
        "-c",
        start,
        "sh",
        str(directory),
        *kernel.command(directory),
    )


def _processor() -> int:
    """The one for this test's worker: machines beside each other have one each, as long as there are enough."""
    allowed = sorted(os.sched_getaffinity(0))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    return allowed[int(worker or 0) % len(allowed)]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill the first process of the machine's PID namespace: its parent, which waits for it, ends when all are gone."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        with suppress(OSError):
            for child in children.read_text(encoding="ascii").split():
                os.kill(int(child), signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_EVERY_S)


def _watch(process: subprocess.Popen[bytes], console: Path, limit_s: float) -> str:
    """Wait until the machine is off; why it will never be, or nothing."""
    deadline = time.monotonic() + limit_s
    with console.open("rb") as lines:
        while process.poll() is None:
            if time.monotonic() > deadline:
                return f"not done after {limit_s:g} s"
            if _HUNG_AFTER_PANIC.encode() in lines.read():
                return "the kernel panicked"
            time.sleep(_LOOK_EVERY_S)
    code = process.returncode
    return "" if code == 0 else f"the machine ended with {signal.Signals(-code).name if code < 0 else code}"
