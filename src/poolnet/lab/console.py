"""How does a user work inside a lab: on a host's console, in a guest, at a wire? Each ends by becoming that command."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from poolnet.lab import machine
from poolnet.lab.state import SWITCH, Lab, LabError, LabHost

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def info(lab: Lab) -> dict[str, Any]:
    """What `poolnet lab info` prints, see design §6."""
    return {
        "name": lab.name,
        "backend": lab.backend,
        "hosts": [
            {
                "name": host.name,
                "address": host.address,
                "api_url": f"https://127.0.0.1:{host.https_port}",
                "plain_url": f"http://127.0.0.1:{host.http_port}",
                "xe_socket": str(lab.directory / host.name / "run/poolnet/xapi.sock"),
                "username": "root",
                "password": lab.password,
                "nics": [
                    {"name": nic.name, "mac": nic.mac, "switch_port": f"{host.name}-{nic.name}"}
                    for nic in host.nics
                ],
            }
            for host in lab.hosts
        ],
    }


def execute(lab: Lab, host_name: str, command: Sequence[str]) -> NoReturn:
    """Run a command as on that host's (or the switch's) console; without one, a shell."""
    pid = lab.switch_pid if host_name == SWITCH else lab.host(host_name).pid
    machine.replace_by(*machine.entering(pid), *(command or ("bash",)))


def execute_in_guest(lab: Lab, vm: str, command: Sequence[str]) -> NoReturn:
    """Run a command in a running VM's guest; without one, a shell. Raises LabError, see `entering_guest`."""
    machine.replace_by(*entering_guest(lab, vm), *(command or ("bash",)))


def entering_guest(lab: Lab, vm: str) -> tuple[str, ...]:
    """The words before a command that is to run in a running VM's guest, by the VM's name-label or uuid.

    Raises LabError when no host of the lab runs such a VM, or several do.
    """
    host, guest_pid = _guest(lab, vm)
    names = ("--mount", "--uts", "--ipc", "--net", "--pid")
    inner = ("nsenter", "--target", str(guest_pid), *names, "--wdns=/")
    return (*machine.entering(host.pid), *inner, "--")


def capture(lab: Lab, host_name: str, where: str, words: Sequence[str]) -> NoReturn:
    """Run tcpdump at a NIC or VIF of a host, line by line; `where` is a device's name or a VIF's uuid."""
    host = lab.host(host_name)
    device = _vif_device(lab, host, where) if _UUID.fullmatch(where) else where
    machine.replace_by(*machine.entering(host.pid), "tcpdump", "-l", "-nn", "-e", "-i", device, *words)


class _Guest(msgspec.Struct, frozen=True):
    """What is needed here of the records that the namespace runtime keeps."""

    vm_uuid: str
    name: str
    domid: int
    state: str
    pid: int


def _guests(lab: Lab, host: LabHost) -> list[_Guest]:
    """The guests that live on a host: of one that has just been killed its daemon may not know yet, or never if it hangs."""
    records = sorted((lab.directory / host.name / "run/poolnet/guests").glob("*.json"))
    guests = (msgspec.json.decode(path.read_bytes(), type=_Guest) for path in records)
    processes = Path(f"/proc/{host.pid}/root/proc")
    return [
        guest
        for guest in guests
        if guest.state in {"running", "paused"} and (processes / str(guest.pid)).exists()
    ]


def _guest(lab: Lab, vm: str) -> tuple[LabHost, int]:
    running = [(host, guest) for host in lab.hosts for guest in _guests(lab, host)]
    found = [(host, guest.pid) for host, guest in running if vm in {guest.vm_uuid, guest.name}]
    if not found:  # renamed since it started
        uuids = {
            uuid for host in lab.hosts for uuid in _xe(host, "vm-list", f"name-label={vm}", "params=uuid")
        }
        found = [(host, guest.pid) for host, guest in running if guest.vm_uuid in uuids]
    if not found:
        names = ", ".join(sorted(guest.name for _host, guest in running)) or "none"
        raise LabError(f"no host of lab {lab.name} runs a VM {vm}; running: {names}")
    if len(found) > 1:
        places = ", ".join(host.name for host, _pid in found)
        raise LabError(f"more than one VM is called {vm} (on {places}): give its uuid")
    return found[0]


def _vif_device(lab: Lab, host: LabHost, uuid: str) -> str:
    vms = _xe(host, "vif-list", f"uuid={uuid}", "params=vm-uuid")
    devices = _xe(host, "vif-list", f"uuid={uuid}", "params=device")
    for guest in _guests(lab, host):
        if vms == [guest.vm_uuid]:
            return f"vif{guest.domid}.{devices[0]}"
    raise LabError(f"VIF {uuid} is not connected on {host.name}")


def _xe(host: LabHost, *words: str) -> list[str]:
    """What a minimal `xe` list on that host prints, as a list; none when the host does not answer."""
    command = (*machine.entering(host.pid), "xe", *words, "--minimal")
    done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - no shell, and words of our own
    return [word for word in done.stdout.strip().split(",") if word] if done.returncode == 0 else []
