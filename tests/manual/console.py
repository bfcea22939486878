"""A host's console on which the manual's commands are typed as they are printed, and what the tests look at afterwards."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from poolnet.lab import console as lab_console
from poolnet.lab import machine
from tests.lab import survival
from tests.lab.running import RunningLab
from tests.lab.survival import sniffing
from tests.waiting import eventually

HOST = "host1"
TARGET = "10.88.0.1"  # what answers in the switch's networks of the tests


@dataclass(frozen=True)
class Typed:
    """How a command ended."""

    code: int
    out: str
    err: str


class Console:
    """The text console of the lab's host."""

    def __init__(self, lab: RunningLab, host: str = HOST) -> None:
        self.lab = lab
        self.name = host

    def type(self, command: str, **values: str) -> str:
        """Types a command of the manual with real values in place of what stands for them; what it prints.

        Keys of `values` are the manual's words with everything that is no letter or digit as `_`. A slash at the end
        of a line is the manual's way to write that the command goes on.
        """
        done = self.attempt(command, **values)
        assert done.code == 0, f"{command}: {done.out}{done.err}"
        return done.out.rstrip("\n")

    def refused(self, command: str, **values: str) -> str:
        """Types a command that must be refused; what it says."""
        done = self.attempt(command, **values)
        assert done.code != 0, f"{command}: {done.out}"
        return done.err

    def attempt(self, command: str, **values: str) -> Typed:
        """Types a command; how it ended."""
        line = written_out(command, values)
        words = (*machine.entering(self.lab.lab.host(self.name).pid), "sh", "-c", line)
        done = subprocess.run(
            words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
        )
        return Typed(done.returncode, done.stdout, done.stderr)

    def xe(self, *words: str) -> str:
        """What a command that is not the manual's prints."""
        return self.lab.xe(self.name, *words)

    def pif(self, device: str, vlan: int = -1) -> str:
        """The uuid of a PIF, as `xe pif-list` shows it."""
        return self.xe("pif-list", f"device={device}", f"VLAN={vlan}", "params=uuid", "--minimal")

    def param(self, kind: str, uuid: str, name: str, key: str = "") -> str:
        """A field of an object."""
        words = (f"param-key={key}",) if key else ()
        return self.xe(f"{kind}-param-get", f"uuid={uuid}", f"param-name={name}", *words)

    def network_of(self, device: str) -> str:
        """The uuid of a NIC's network."""
        return self.param("pif", self.pif(device), "network-uuid")

    def bridge_of(self, device: str) -> str:
        """The bridge of a NIC's network."""
        return self.param("network", self.network_of(device), "bridge")

    @property
    def host(self) -> str:
        """The host's uuid."""
        return self.xe("host-list", "params=uuid", "--minimal")

    def run(self, *words: str, check: bool = True) -> str:
        """What a command on the host prints."""
        return self.lab.run(self.name, *words, check=check)

    def switch(self, *words: str, check: bool = True) -> str:
        """What a command on the physical switch prints."""
        return self.lab.run("switch", *words, check=check)

    def addresses(self, interface: str) -> list[str]:
        """The IPv4 addresses of an interface of the host."""
        words = self.run("ip", "-4", "-oneline", "address", "show", "dev", interface).split()
        return [word for before, word in pairwise(words) if before == "inet"]

    def reaches(self, address: str) -> bool:
        """Whether an address answers the host."""
        return _answered(self.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address, check=False))

    def is_reached(self, address: str) -> bool:
        """Whether the host answers somebody outside at that address."""
        return _answered(self.switch("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address, check=False))

    @contextmanager
    def vm(self, name: str, network: str, address: str) -> Iterator[str]:
        """A running VM with one VIF on a network and an address; gives the VIF's uuid."""
        vm = self.lab.start_vm(self.name, name, network, address)
        try:
            yield self.xe("vif-list", f"vm-uuid={vm}", "params=uuid", "--minimal")
        finally:
            self.xe("vm-uninstall", f"uuid={vm}", "force=true")

    def guest(self, name: str, *words: str, check: bool = True) -> str:
        """What a command inside a guest prints."""
        return self.lab.guest(name, *words, check=check)

    @contextmanager
    def answering_outside(self, tag: int = 0, address: str = f"{TARGET}/24") -> Iterator[None]:
        """A machine on the physical switch, untagged or in a VLAN, that answers at an address."""
        port = f"out{tag}"
        # It and the switch's own port are in one kernel, which else answers for all addresses on each of them.
        self.switch("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore")
        words = ("ovs-vsctl", "add-port", "switch0", port, *((f"tag={tag}",) if tag else ()))
        self.switch(*words, "--", "set", "Interface", port, "type=internal")
        try:
            nodad = ("nodad",) if ":" in address else ()
            self.switch("ip", "address", "add", address, "dev", port, *nodad)
            self.switch("ip", "link", "set", port, "up")
            yield
        finally:
            self.switch("ovs-vsctl", "del-port", "switch0", port)

    @contextmanager
    def leasing_outside(self, first: str, last: str, tag: int = 0) -> Iterator[None]:
        """A DHCP server on the machine that `answering_outside` stands for."""
        words = (
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"),
            *("--pid-file=", f"--interface=out{tag}", "--bind-interfaces", "--dhcp-authoritative"),
            *(f"--dhcp-range={first},{last},255.255.255.0,120", "--no-ping", "--log-facility=-"),
            "--dhcp-leasefile=/dev/null",
        )
        network = ("nsenter", "--target", str(self.lab.lab.switch_pid), "--net", "--")
        with subprocess.Popen(
            (*network, *words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as server:
            try:
                sockets = Path(f"/proc/{server.pid}/net/udp")  # those of its network
                eventually(lambda: ":0043 " in sockets.read_text(), "the DHCP server listens")
                yield
            finally:
                server.terminate()

    @contextmanager
    def heard_outside(self, device: str, matching: str) -> Iterator[list[str]]:
        """The frames that come out of a NIC of the host; they are there afterwards."""
        with sniffing(survival.on_switch(self.lab), f"{self.name}-{device}", matching) as lines:
            yield lines

    def in_guest(self, name: str) -> tuple[str, ...]:
        """The words that enter a guest."""
        return lab_console.entering_guest(self.lab.lab, name)

    def talks(self, name: str, address: str) -> None:
        """Waits until an address answers a guest."""
        eventually(lambda: self.lab.pings(name, address), f"{address} answers {name}")


def written_out(command: str, values: dict[str, str]) -> str:
    """The command with the values in their places. Every value must have one."""
    line = re.sub(r"\s+/\s+", " ", command)
    line = line.replace(", pif_uuid", ",pif_uuid")  # the list of NICs goes on after such a slash
    for key, value in values.items():
        word = "".join("[^A-Za-z0-9]+" if letter == "_" else letter for letter in key)
        places = list(re.finditer(rf"(?<==)[<\[]?{word}[>\]]?(?=\s|$)", line))
        assert places, f"{key} is not in: {command}"
        line = line[: places[-1].start()] + value + line[places[-1].end() :]
    return line


def _answered(said: str) -> bool:
    return " 0% packet loss" in said
