"""What survival tests do to a lab host: kill its programs, watch its guests, compare its database with its switch."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import time
import xmlrpc.client
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from poolnet.hostd.process_stat import stat_of
from poolnet.lab import cli, console, life, machine
from tests.lab import switches
from tests.lab.running import MADE, RunningLab
from tests.waiting import PATIENCE, eventually

CALL_TIMEOUT_S = 30.0 * PATIENCE


class Refused(Exception):
    """A call that the server refused, with the words of its error description."""


class _Transport(xmlrpc.client.Transport):
    """Gives up on a server that never answers."""

    def make_connection(self, host: Any) -> HTTPConnection:
        """See the base class."""
        connection = super().make_connection(host)
        connection.timeout = CALL_TIMEOUT_S
        return connection


class Api:
    """A session of one client; every call is a request of its own. Raises Refused or OSError."""

    def __init__(self, lab: RunningLab, host: str) -> None:
        port = lab.lab.host(host).http_port
        self.url = f"http://127.0.0.1:{port}"
        self.session = ""
        self.session = self.call("session.login_with_password", "root", lab.lab.password, "1.0", "survival")

    def call(self, method: str, *parameters: Any) -> Any:
        """The value of the answer."""
        with xmlrpc.client.ServerProxy(self.url, transport=_Transport()) as proxy:
            words = (self.session, *parameters) if self.session else parameters
            answer: Any = getattr(proxy, method)(*words)
        if answer["Status"] != "Success":
            raise Refused(*answer["ErrorDescription"])
        return answer["Value"]

    def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """All records of a class."""
        found: dict[str, dict[str, Any]] = self.call(f"{kind}.get_all_records")
        return found

    def ref(self, kind: str, **fields: Any) -> str:
        """The one object with these values."""
        (found,) = (
            ref
            for ref, record in self.records(kind).items()
            if all(record[name] == value for name, value in fields.items())
        )
        return found

    def network(self, name: str, mtu: int = 1500, bridge: str = "") -> str:
        """A new network."""
        record = {
            "name_label": name,
            "name_description": "",
            "other_config": {},
            "MTU": str(mtu),
            "tags": [],
            "bridge": bridge,
        }
        return str(self.call("network.create", record))

    def vif(self, vm: str, network: str, device: int = 0, **fields: Any) -> str:
        """A new VIF."""
        record = {
            "device": str(device),
            "network": network,
            "VM": vm,
            "MAC": "",
            "MTU": "1500",
            "other_config": {},
            "qos_algorithm_type": "",
            "qos_algorithm_params": {},
        }
        return str(self.call("VIF.create", record | fields))

    def vm(self, name: str) -> str:
        """A new halted VM, as `xe vm-create` makes it."""
        record = {"name_label": name, "name_description": "", "user_version": "1", "is_a_template": False}
        record |= {"affinity": "OpaqueRef:NULL", "VCPUs_params": {}, "VCPUs_max": "1"}
        record |= {"VCPUs_at_startup": "1", "memory_static_min": str(2**27), "PCI_bus": ""}
        record |= {f"memory_{which}": str(2**28) for which in ("static_max", "dynamic_max", "dynamic_min")}
        record |= {"actions_after_shutdown": "destroy", "actions_after_reboot": "restart"}
        record |= {"actions_after_crash": "destroy", "HVM_boot_policy": "", "HVM_boot_params": {}}
        record |= {f"PV_{which}": "" for which in ("bootloader", "kernel", "ramdisk", "args")}
        record |= {"PV_bootloader_args": "", "PV_legacy_args": "", "platform": {}, "other_config": {}}
        return str(self.call("VM.create", record | {"recommendations": ""}))

    def all_done(self, tasks: Sequence[str], timeout_s: float = 60.0) -> list[str]:
        """Waits for tasks by events, and returns the ends that are no success."""
        token, open_tasks, bad = "", set(tasks), []
        deadline = time.monotonic() + timeout_s
        while open_tasks:
            assert time.monotonic() < deadline, f"{len(open_tasks)} tasks are still pending"
            batch = self.call("event.from", [f"task/{task}" for task in open_tasks], token, 5.0)
            token = batch["token"]
            for event in batch["events"]:
                snapshot = event.get("snapshot", {})
                if snapshot.get("status", "pending") != "pending" and event["ref"] in open_tasks:
                    open_tasks.discard(event["ref"])
                    if snapshot["status"] != "success":
                        bad.append(" ".join(snapshot["error_info"]))
        return bad


def at_once(calls: Sequence[Callable[[], Any]], threads: int = 32) -> list[Any]:
    """The results of calls made at the same time; an exception stands for a call that was not answered or refused."""

    def attempt(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (OSError, Refused, xmlrpc.client.Error, Exception) as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(attempt, calls))


def at_once_later(call: Callable[[], Any]) -> Future[Any]:
    """A call that is under way; its result is that of `at_once`."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(lambda: at_once([call])[0])
    pool.shutdown(wait=False)
    return future


def pid_of(lab: RunningLab, host: str, program: str) -> int:
    """The process of one of a host's services, as this machine numbers it; 0 when it does not run."""
    init = lab.lab.host(host).pid
    for text in Path(f"/proc/{init}/task/{init}/children").read_text().split():
        with suppress(OSError):
            words = Path(f"/proc/{text}/cmdline").read_bytes().split(b"\0")
            if any(Path(word.decode()).name == program for word in words[:2]):
                return int(text)
    return 0


def service_pid(lab: RunningLab, host: str, program: str) -> int:
    """The same of a service that runs. Signals to process 0 would go to the tests themselves."""
    pid = pid_of(lab, host, program)
    assert pid, f"{program} does not run"
    return pid


def kill(lab: RunningLab, host: str, program: str) -> None:
    """Kills a service as a bug would: without a last word. The host's init starts it again."""
    os.kill(service_pid(lab, host, program), signal.SIGKILL)


def stop(lab: RunningLab, host: str, program: str) -> None:
    """Has a service stand still, as a machine that is too busy would."""
    os.kill(service_pid(lab, host, program), signal.SIGSTOP)


def resume(lab: RunningLab, host: str, program: str) -> None:
    """Undoes `stop`."""
    os.kill(service_pid(lab, host, program), signal.SIGCONT)


def serves(lab: RunningLab, host: str) -> bool:
    """Whether the API answers."""
    with suppress(Exception):
        Api(lab, host)
        return True
    return False


def wait_until_served(lab: RunningLab, host: str) -> Api:
    """A session, as soon as the API answers."""
    eventually(lambda: serves(lab, host), "the API serves")
    return Api(lab, host)


def is_stopped(pid: int) -> bool:
    """Whether a process stands still."""
    stat = stat_of(pid)
    return stat is not None and stat.state == "T"


def poolnet(lab: RunningLab, action: str, *words: str) -> None:
    """A lab command on this lab, as a user gives it."""
    assert cli.main(("lab", action, "--name", lab.name, *words)) == 0


def log_of(lab: RunningLab, host: str, program: str) -> str:
    """What a service has logged."""
    return (lab.lab.directory / host / "var-log" / f"{program}.log").read_text(errors="replace")


@dataclass
class Pinged:
    """What a ping reports at its end."""

    sent: int = 0
    received: int = 0


@contextmanager
def pinging(lab: RunningLab, vm: str, address: str, interval_s: float = 0.01) -> Iterator[Pinged]:
    """A guest pings all the time; the numbers are there afterwards."""
    words = ("ping", "-n", "-i", str(interval_s), "-W", "1", address)
    counted = Pinged()
    with running((*console.entering_guest(lab.lab, vm), *words)) as process:
        assert process.stdout is not None
        for _ in range(2):
            process.stdout.readline()  # the heading, and the first answer
        yield counted
        _signal_group(process, signal.SIGINT)
        text = process.stdout.read()
    found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
    assert found, text
    counted.sent, counted.received = int(found[1]), int(found[2])


@contextmanager
def sniffing(words: Sequence[str], device: str, matching: str) -> Iterator[list[str]]:
    """tcpdump somewhere (`words` enter the place); the lines are there afterwards."""
    lines: list[str] = []
    command = (*words, "tcpdump", "-l", "-nn", "-e", "-i", device, "--immediate-mode", matching)
    with running(command, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while "listening on" not in process.stdout.readline():
            assert process.poll() is None, f"{command} ended"
        yield lines
        _signal_group(process, signal.SIGINT)
        lines += [
            line for line in process.stdout.read().splitlines() if " ethertype " in line or " > " in line
        ]


def reboot(lab: RunningLab, host: str, *, hard: bool, wait: bool = True) -> None:
    """Reboots a host, and waits until it serves at its first address."""
    asyncio.run(life.reboot(lab.name, host, hard=hard, wait=wait))
    MADE.note(lab.lab)


def in_guest(lab: RunningLab, vm: str) -> tuple[str, ...]:
    """The words that enter a guest."""
    return console.entering_guest(lab.lab, vm)


def on_host(lab: RunningLab, host: str) -> tuple[str, ...]:
    """The words that enter a host."""
    return machine.entering(lab.lab.host(host).pid)


def on_switch(lab: RunningLab) -> tuple[str, ...]:
    """The words that enter the physical switch."""
    return machine.entering(lab.lab.switch_pid)


def _signal_group(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def running(words: Sequence[str], stderr: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
    """A program in a process group of its own, because nsenter into a PID namespace forks."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )

    try:
        yield process
    finally:
        _signal_group(process, signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def tags_in_database(api: Api) -> set[int]:
    """The VLANs that are attached, as the API says."""
    pifs = api.records("PIF").values()
    return {int(pif["VLAN"]) for pif in pifs if pif["VLAN"] != "-1" and pif["currently_attached"]}


def vifs_in_database(api: Api, *, disabled: bool = True) -> set[str]:
    """The NICs that guests should have, as the API says; without the disabled ones those that should be connected."""
    vms, networks = api.records("VM"), api.records("network")

    def mode(vif: dict[str, Any]) -> str:
        own = str(vif["locking_mode"])
        return networks[vif["network"]]["default_locking_mode"] if own == "network_default" else own

    return {
        f"vif{vms[vif['VM']]['domid']}.{vif['device']}"
        for vif in api.records("VIF").values()
        if vif["currently_attached"] and (disabled or mode(vif) != "disabled")
    }


def vifs_on_host(lab: RunningLab, host: str) -> set[str]:
    """The guest links that the kernel has."""
    lines = lab.run(host, "ip", "-o", "link").splitlines()
    names = {line.split(":")[1].strip().split("@")[0] for line in lines}
    return {name for name in names if name.startswith("vif")}


def assert_agreed(lab: RunningLab, host: str, api: Api) -> None:
    """Database, switch and kernel say the same of VLANs and guests."""
    eventually(
        lambda: switches.tags(lab, host) == tags_in_database(api),
        "the VLANs of switch and database agree",
    )
    eventually(
        lambda: switches.guest_ports(lab, host) == vifs_in_database(api, disabled=False),
        "the guest ports of switch and database agree",
    )
    eventually(
        lambda: vifs_on_host(lab, host) == vifs_in_database(api),
        "the guests' NICs in kernel and database agree",
    )
    running = {vm["uuid"] for vm in api.records("VM").values() if vm["power_state"] == "Running"}
    records = (lab.lab.directory / host / "run/poolnet/guests").glob("*.json")
    domain_zero = {vm["uuid"] for vm in api.records("VM").values() if vm["is_control_domain"]}
    assert {path.stem for path in records} == running - domain_zero
