"""What is in a lab, and where is it kept? Every lab command reads and writes this.

A lab lives in one directory, `/run/poolnet-lab/<name>`: `lab.json` (this module), and one directory for each machine with
that machine's private /etc, /run, /var/lib, /var/log and /var/tmp.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import msgspec

LABS = Path("/run/poolnet-lab")
SWITCH = "switch"  # the name of the physical switch among the machines
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,14}")
_SUBNETS = range(100, 200)  # the labs' management networks are 192.168.<one of these>.0/24


class LabError(Exception):
    """A lab command cannot be carried out; the text is for the user."""


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """A host's NIC and its cable. `slot` numbers the host's NICs; the cable may be pulled.

    `bundle` is the first NIC of the LAG that its switch port is in, "" for a port of its own.
    """

    name: str
    mac: str
    slot: int
    plugged: bool = True
    bundle: str = ""


class LabHost(msgspec.Struct, frozen=True, kw_only=True):
    """A host. `pid` and `started` identify its init process; ports are on 127.0.0.1."""

    name: str
    number: int
    address: str
    https_port: int
    http_port: int
    nics: tuple[Nic, ...]
    pid: int = 0
    started: int = 0
    partitioned: bool = False


class Lab(msgspec.Struct, frozen=True, kw_only=True):
    """One lab. `switch_pid` and `switch_started` identify the physical switch's init process.

    `datapath_type` is that of every Open vSwitch in it.
    """

    name: str
    backend: str
    datapath_type: str = "netdev"
    subnet: int
    password: str
    hosts: tuple[LabHost, ...]
    switch_pid: int = 0
    switch_started: int = 0

    @property
    def directory(self) -> Path:
        """Where everything of the lab is."""
        return LABS / self.name

    @property
    def gateway(self) -> str:
        """The physical switch's own address in the management network."""
        return f"192.168.{self.subnet}.254"

    @property
    def network(self) -> str:
        """The management network."""
        return str(ipaddress.ip_network(f"192.168.{self.subnet}.0/24"))

    def host(self, name: str) -> LabHost:
        """The host of that name. Raises LabError."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"lab {self.name} has no host {name}; it has {known}")

    def with_host(self, host: LabHost) -> Lab:
        """This lab with that host in place of the one of the same name."""
        hosts = tuple(host if old.name == host.name else old for old in self.hosts)
        return msgspec.structs.replace(self, hosts=hosts)

    def save(self) -> None:
        """Write `lab.json`, renamed into place."""
        path = self.directory / "lab.json"
        fresh = path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        fresh.chmod(0o600)
        fresh.replace(path)


def mac_of(lab: str, host: str, slot: int) -> str:
    """A locally administered MAC that is the same every time this lab is made."""
    digest = hashlib.sha256(f"{lab}/{host}/{slot}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def switch_port(host: str, nic: str) -> str:
    """The switch's end of a NIC's cable."""
    return f"{host}-{nic}"


def check_name(name: str) -> str:
    """The name, if a lab may be called so. Raises LabError."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} is no name for a lab: 1 to 15 lower-case letters, digits and dashes")
    return name


def load(name: str) -> Lab:
    """Read a lab. Raises LabError when there is none of that name."""
    try:
        data = (LABS / check_name(name) / "lab.json").read_bytes()
    except FileNotFoundError as error:
        raise LabError(f"there is no lab {name}; `poolnet lab up --name {name}` makes it") from error
    return msgspec.json.decode(data, type=Lab)


def labs() -> tuple[Lab, ...]:
    """All labs of this machine."""
    found = []
    for path in sorted(LABS.glob("*/lab.json")):
        with suppress(LabError):  # it has just been removed
            found.append(load(path.parent.name))
    return tuple(found)


def free_subnet() -> int:
    """A subnet number that no lab uses. Raises LabError when all are in use."""
    used = {lab.subnet for lab in labs()}
    for subnet in _SUBNETS:
        if subnet not in used:
            return subnet
    raise LabError(f"{len(_SUBNETS)} labs are up already")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One command at a time changes a lab; the others wait."""
    path = LABS / f".{check_name(name)}.lock"
    with _opened(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> TextIO:
    while True:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            return path.open("w", encoding="ascii")
        except FileNotFoundError:
            continue  # the last of the other labs has just gone, and the directory with it


def forget(name: str) -> None:
    """Remove a lab's files, and the directory of all labs when it was the last."""
    shutil.rmtree(LABS / name, ignore_errors=True)
    (LABS / f".{name}.lock").unlink(missing_ok=True)
    with suppress(OSError):  # other labs are there
        LABS.rmdir()
