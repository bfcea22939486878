"""A lab machine: private directories, services that come back, and an end that leaves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poolnet.hostd.process_stat import started_at
from poolnet.lab import machine
from poolnet.lab.init import Service
from poolnet.lab.state import LabError

pytestmark = pytest.mark.lab

SLEEPER = machine.service(
    "sleeper", "sh", "-c", "echo $$ > /run/sleeper.pid; exec sleep 1000", ready="/run/sleeper.pid"
)


@contextmanager
def running(directory: Path, *services: Service) -> Iterator[int]:
    """A machine that has been let go; its init's PID."""

    async def begin() -> int:
        machine.prepare(directory, "box", services, {"etc/own": "mine\n"})
        pid, _started = await machine.launch(directory)
        machine.go(pid)
        return pid

    pid = asyncio.run(begin())
    try:
        yield pid
    finally:
        asyncio.run(machine.end(directory, ask=False))


def inside(pid: int, *words: str) -> str:
    done = subprocess.run((*machine.entering(pid), *words), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def appears(path: Path, other_than: str = "") -> str:
    """The file's text, once it has one that differs."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        text = path.read_text(encoding="ascii").strip() if path.exists() else ""
        if text not in {"", other_than}:
            return text
        time.sleep(0.01)
    raise AssertionError(f"{path} did not change")


def test_its_etc_is_its_own_and_shows_the_real_one_beneath(tmp_path: Path) -> None:
    real_hostname = Path("/etc/hostname").read_text(encoding="ascii")
    with running(tmp_path / "box") as pid:
        assert inside(pid, "hostname") == "box"
        assert inside(pid, "cat", "/etc/own") == "mine"
        assert inside(pid, "cat", "/etc/passwd") == Path("/etc/passwd").read_text(encoding="utf-8").strip()
        inside(
            pid,
            "sh",
            "-c",
            "echo other > /etc/hostname; echo x > /var/lib/poolnet/x; echo y > /etc/poolnet/y",
        )
        with pytest.raises(subprocess.CalledProcessError):
            inside(pid, "sh", "-c", "echo broken >> /etc/debian_version")
    assert Path("/etc/hostname").read_text(encoding="ascii") == real_hostname
    assert not Path("/etc/poolnet/y").exists()
    assert (tmp_path / "box/var-lib/poolnet/x").read_text(encoding="ascii") == "x\n"


def test_it_sees_only_its_own_links_and_processes(tmp_path: Path) -> None:
    with running(tmp_path / "box") as pid:
        assert inside(pid, "ls", "/sys/class/net") == "lo"
        assert "LOWER_UP" in inside(pid, "ip", "link", "show", "lo")
        assert inside(pid, "cat", "/proc/1/cmdline").split("\0")[-2] == str(tmp_path / "box")
        assert (
            inside(pid, "cat", "/proc/sys/kernel/random/boot_id")
            != Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        )


def test_a_service_that_is_killed_comes_back(tmp_path: Path) -> None:
    with running(tmp_path / "box", SLEEPER) as pid:
        pid_file = tmp_path / "box/run/sleeper.pid"
        first = appears(pid_file)
        inside(pid, "kill", "-9", first)
        assert appears(pid_file, other_than=first) != first


def test_a_service_that_ends_well_is_not_started_again(tmp_path: Path) -> None:
    brief = machine.service("brief", "sh", "-c", "echo ran >> /run/brief")
    with running(tmp_path / "box", brief, SLEEPER) as pid:
        first = appears(tmp_path / "box/run/sleeper.pid")
        inside(pid, "kill", "-9", first)
        appears(tmp_path / "box/run/sleeper.pid", other_than=first)
        assert (tmp_path / "box/run/brief").read_text(encoding="ascii") == "ran\n"


def test_a_command_that_runs_once_is_left_out_when_its_result_exists(tmp_path: Path) -> None:
    command = machine.once(
        "make", "sh", "-c", "echo made >> /var/lib/poolnet/made", unless="/var/lib/poolnet/made"
    )
    for _boot in range(2):
        with running(tmp_path / "box", command, SLEEPER):
            appears(tmp_path / "box/run/sleeper.pid")
    assert (tmp_path / "box/var-lib/poolnet/made").read_text(encoding="ascii") == "made\n"


def test_a_reboot_keeps_the_disk_and_empties_run(tmp_path: Path) -> None:
    with running(tmp_path / "box") as pid:
        inside(pid, "sh", "-c", "echo kept > /var/lib/poolnet/kept; echo lost > /run/lost")
    with running(tmp_path / "box") as pid:
        assert inside(pid, "cat", "/var/lib/poolnet/kept") == "kept"
        assert inside(pid, "ls", "/run").split().count("lost") == 0


def test_asked_to_end_it_stops_its_services_in_the_opposite_order(tmp_path: Path) -> None:
    def noting(name: str) -> Service:
        script = (
            f"trap 'echo {name} >> /var/lib/poolnet/order; exit 0' TERM; touch /run/{name}; sleep 1000 & wait"
        )
        return machine.service(name, "sh", "-c", script, ready=f"/run/{name}")

    with running(tmp_path / "box", noting("first"), noting("second"), SLEEPER):
        appears(tmp_path / "box/run/sleeper.pid")
        asyncio.run(machine.end(tmp_path / "box", ask=True))
    assert (tmp_path / "box/var-lib/poolnet/order").read_text(encoding="ascii").split() == ["second", "first"]


def test_with_its_init_everything_in_it_ends(tmp_path: Path) -> None:
    daemon = machine.service(
        "daemon", "sh", "-c", "setsid sh -c 'setsid sleep 1000 &' ; touch /run/there; sleep 1000"
    )
    with running(tmp_path / "box", daemon, SLEEPER) as pid:
        appears(tmp_path / "box/run/sleeper.pid")
        namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
        pidfd = os.pidfd_open(pid)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
        asyncio.run(machine.end(tmp_path / "box", ask=False))
        deadline = time.monotonic() + 5
        while namespace in _pid_namespaces() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert namespace not in _pid_namespaces()
        assert started_at(pid) == 0


def test_a_machine_that_cannot_start_says_why(tmp_path: Path) -> None:
    machine.prepare(tmp_path / "box", "box", (), {})
    (tmp_path / "box/machine.json").write_text("not json", encoding="ascii")
    with pytest.raises(LabError, match="JSONDecodeError"):
        asyncio.run(machine.launch(tmp_path / "box"))


def _pid_namespaces() -> set[int]:
    found = set()
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                found.add(Path(f"/proc/{entry.name}/ns/pid").stat().st_ino)
            except OSError:
                continue
    return found
