"""What runs as process 1 in a machine of the tests? `inside.py DIRECTORY`, started by its kernel (see `machine.py`).

It covers what programs write to with memory, so that nothing of the real machine can change but DIRECTORY, loads modules,
runs the command of `DIRECTORY/job.json`, writes its exit code to `DIRECTORY/exit`, and turns the machine off. It imports
only the standard library: the kernel starts it by its path.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TypedDict

_MS_RDONLY = 1
_POWER_OFF = 0x4321FEDC
_COVERED = ("/run", "/tmp", "/var/tmp", "/var/log", "/root", "/dev/shm", "/mnt")
_MODULES_BELOW = Path("/mnt/kernel")  # modprobe looks for lib/modules there
_MODPROBE = _MODULES_BELOW / "modprobe"
_PROCESSORS_COUNTED_S = 11.0


class Job(TypedDict):
    """What is to be done: `visible` directories can be read even below what is covered with memory, `empty` ones are that.

    The real machine's files come by `hostfs`, or by `9p` under the names in `tags`. With `switch` Open vSwitch is to run.
    """

    filesystem: str
    tags: dict[str, str]
    switch: bool
    command: list[str]
    environment: dict[str, str]
    cwd: str
    visible: list[str]
    empty: list[str]
    modules: list[str]
    modules_from: str


def _mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode() or None) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"mount {source} ({kind}): {os.strerror(code)}", target)


def _set_up_files(directory: Path, job: Job) -> None:
    _mount("proc", "/proc", "proc")
    _mount("sysfs", "/sys", "sysfs")
    (Path("/dev") / "shm").mkdir(exist_ok=True)
    for covered in _COVERED:
        _mount("tmpfs", covered, "tmpfs")
    for visible in job["visible"]:
        Path(visible).mkdir(parents=True, exist_ok=True)
        _share(job, visible, _MS_RDONLY)
    for empty in job["empty"]:
        _mount("tmpfs", empty, "tmpfs", _MS_RDONLY)
    directory.mkdir(parents=True, exist_ok=True)
    _share(job, str(directory), 0)
    for wanted in ("/run/lock", "/run/openvswitch"):
        Path(wanted).mkdir()


def _share(job: Job, path: str, flags: int) -> None:
    """Let a directory of the real machine be seen here."""
    if job["filesystem"] == "hostfs":
        _mount("none", path, "hostfs", flags, path)
    else:
        _mount(job["tags"][path], path, "9p", flags, "trans=virtio,version=9p2000.L,msize=262144")


def _set_up_kernel(job: Job) -> None:
    """Let the kernel find its modules, and load those that nothing asks for by itself."""
    (_MODULES_BELOW / "lib").mkdir(parents=True)
    (_MODULES_BELOW / "lib/modules").symlink_to(job["modules_from"])
    _MODPROBE.write_text(f'#!/bin/sh\nexec /sbin/modprobe -d {_MODULES_BELOW} "$@"\n', encoding="ascii")
    _MODPROBE.chmod(0o755)
    Path("/proc/sys/kernel/modprobe").write_text(str(_MODPROBE), encoding="ascii")
    for module in job["modules"]:
        subprocess.run((str(_MODPROBE), *module.split()), check=True)
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    if not job["switch"]:
        return
    # Open vSwitch 3.1 that starts earlier finds no processor, and handles no packet (see packaging/systemd).
    up_s = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    time.sleep(max(0.0, _PROCESSORS_COUNTED_S - up_s))


def _run(job: Job) -> int:
    """The command's exit code; orphans are buried meanwhile."""
    environment = job["environment"] | {"MODPROBE_OPTIONS": f"-d {_MODULES_BELOW}"}
    command = job["command"]
    os.chdir(job["cwd"])
    child = os.posix_spawnp(command[0], command, environment, setsid=True)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def main(directory: Path) -> None:
    """Be the machine's init."""
    job: Job = json.loads(
        (directory / "job.json").read_bytes()
    )  # the kernel's init sees it before anything is covered
    os.environ.update(job["environment"])
    _set_up_files(directory, job)
    _set_up_kernel(job)
    code = _run(job)
    (directory / "exit").write_text(f"{code}\n", encoding="ascii")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main(Path(sys.argv[1]))
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os.sync()
    ctypes.CDLL(None).reboot(_POWER_OFF)
