"""What does poolnet do, shown in a minute? `poolnet tour`, called by `make run`: every line it prints really happened."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from poolnet.lab import console, life, machine
from poolnet.lab.state import LABS, Lab, LabError, LabHost, load

_VLAN = 100
_COMMAND_WITHIN_S = 30


class TourFailed(Exception):
    """Something did not happen as it should; the text says what."""


def main(name: str) -> int:
    """Start the lab anew, show everything, and leave it running. 0 when all went as it should, else 1."""
    began = time.monotonic()
    try:
        if (LABS / name).exists():
            _say(f"A lab {name} is there already: it is removed first.")
            asyncio.run(life.down(name))
        _say("Starting three hosts with four NICs each, and the switch between them.")
        lab = asyncio.run(life.up(name, hosts=3, nics=4, backend="openvswitch", pool=False))
        _say(f"All three serve, after {time.monotonic() - began:.1f} s.")
        _Tour(lab).walk()
    except (TourFailed, LabError) as error:
        _say(f"tour FAILED after {time.monotonic() - began:.1f} s: {error}")
        return 1
    option = "" if name == "lab" else f" --name {name}"
    program = "poolnet" if shutil.which("poolnet") else os.path.relpath(sys.argv[0])
    ways = (
        (
            f"{program} lab exec{option} host1 -- bash",
            "a shell on host1; there, `xe help` lists the commands",
        ),
        (f"{program} lab guest-exec{option} web1 -- bash", "a shell in the VM web1"),
        (f"{program} lab capture{option} host1 eth1 -- vlan", "what passes at host1's eth1 with a tag"),
        (f"{program} lab info{option}", "addresses, ports and the password of the hosts"),
        (f"{program} lab down{option}", "remove it all"),
    )
    _say(f"tour passed, in {time.monotonic() - began:.1f} s. The lab is still there:")
    sys.stdout.writelines(f"  {command:<50} {text}\n" for command, text in ways)
    return 0


class _Tour:
    """The three parts, in order; each uses what the one before made."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._host1, self._host2, _host3 = lab.hosts

    def walk(self) -> None:
        """Show everything. Raises TourFailed."""
        network = self._internal_network()
        self._vlan()
        self._lock(network)

    def _internal_network(self) -> str:
        _say("1. An internal network: two VMs on one host, and no wire.")
        network = self._xe(self._host1, "network-create", "name-label=inside")
        for name, address in (("web1", "10.1.0.1"), ("web2", "10.1.0.2")):
            self._start_vm(self._host1, name, network, address)
        self._ping("web1", "10.1.0.2", arrives=True)
        return network

    def _vlan(self) -> None:
        _say(
            f"2. A VLAN on eth1, on two hosts that know nothing of each other; tag {_VLAN} through the switch."
        )
        for host, name, address in ((self._host1, "blue1", "10.2.0.1"), (self._host2, "blue2", "10.2.0.2")):
            network = self._xe(host, "network-create", f"name-label=vlan{_VLAN}")
            pif = self._xe(host, "pif-list", "device=eth1", "VLAN=-1", "params=uuid", "--minimal")
            self._xe(host, "vlan-create", f"pif-uuid={pif}", f"vlan={_VLAN}", f"network-uuid={network}")
            self._start_vm(host, name, network, address)
        capture = self._begin_capture(self._host2, "eth1", "vlan", str(_VLAN), "and", "icmp")
        self._ping("blue1", "10.2.0.2", arrives=True)
        seen = self._end_capture(capture)
        if f"vlan {_VLAN}" not in seen:
            raise TourFailed(f"no frame with tag {_VLAN} passed at host2's eth1")
        _say(
            "   Without the tag there is no way: a VM on eth1's own, untagged network with an address beside them."
        )
        untagged = self._xe(
            self._host2, "pif-list", "device=eth1", "VLAN=-1", "params=network-uuid", "--minimal"
        )
        self._start_vm(self._host2, "plain", untagged, "10.2.0.3")
        self._ping("plain", "10.2.0.1", arrives=False)
        self._ping("blue1", "10.2.0.3", arrives=False)

    def _lock(self, network: str) -> None:
        _say(
            "3. A VM locked to its address. First without a lock: web1 takes an address that is not its own."
        )
        self._guest("web1", "ip", "address", "add", "10.1.0.99/24", "dev", "eth0")
        spoof = ("arping", "-c", "3", "-w", "4", "-I", "eth0", "-s", "10.1.0.99", "10.1.0.2")
        if _received(self._guest("web1", *spoof, may_fail=True)) == 0:
            raise TourFailed("web2 did not answer web1's second address although nothing is locked")
        vif = self._xe(self._host1, "vif-list", "vm-name-label=web1", "params=uuid", "--minimal")
        _say("   Now its VIF is locked to 10.1.0.1, and the same is tried again.")
        self._xe(self._host1, "vif-param-set", f"uuid={vif}", "locking-mode=locked", "ipv4-allowed=10.1.0.1")
        bridge = self._xe(self._host1, "network-param-get", f"uuid={network}", "param-name=bridge")
        before = self._drops(bridge)
        if _received(self._guest("web1", *spoof, may_fail=True)) != 0:
            raise TourFailed("web2 answered an address that web1 is not allowed to use")
        _say("   Nobody answered. The switch's own counters, of the flows that dropped something meanwhile:")
        _show(self._host1.name, ("ovs-ofctl", "dump-flows", bridge))
        gained = {
            flow: packets - before.get(_identity(flow), 0)
            for flow, packets in ((line, _packets(line)) for line in self._drop_lines(bridge))
            if packets > before.get(_identity(flow), 0)
        }
        sys.stdout.writelines(f"{flow}\n" for flow in gained)
        if max(gained.values(), default=0) < 3:
            raise TourFailed("no flow of the switch counted the three ARP frames")
        _say("   With its own address it goes on as before.")
        self._guest("web1", "ip", "address", "del", "10.1.0.99/24", "dev", "eth0")
        self._ping("web1", "10.1.0.2", arrives=True)

    def _start_vm(self, host: LabHost, name: str, network: str, address: str) -> None:
        vm = self._xe(host, "vm-create", f"name-label={name}")
        self._xe(host, "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
        self._xe(host, "vm-start", f"uuid={vm}")
        self._guest(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")

    def _ping(self, vm: str, address: str, *, arrives: bool) -> None:
        said = self._guest(vm, "ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", address, may_fail=True)
        if (" 0% packet loss" in said) != arrives or (" 100% packet loss" in said) == arrives:
            raise TourFailed(f"{vm} should {'' if arrives else 'not '}reach {address}")

    def _drops(self, bridge: str) -> dict[str, int]:
        """How many packets each dropping flow of the bridge has counted."""
        return {_identity(line): _packets(line) for line in self._drop_lines(bridge)}

    def _drop_lines(self, bridge: str) -> list[str]:
        said = _run((*machine.entering(self._host1.pid), "ovs-ofctl", "dump-flows", bridge), may_fail=False)
        return [line.strip() for line in said.splitlines() if line.endswith("actions=drop")]

    def _begin_capture(self, host: LabHost, nic: str, *words: str) -> subprocess.Popen[str]:
        command = ("tcpdump", "-l", "-nn", "-e", "-c", "1", "-i", nic, *words)
        _show(host.name, command)
        entering = machine.entering(host.pid)
        capture = subprocess.Popen(  # noqa: S603 - no shell, and words of our own
            (*entering, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        assert capture.stderr is not None  # noqa: S101 - for the type checker; nothing from outside is asserted
        for line in capture.stderr:
            if "listening on" in line:
                break
        return capture

    def _end_capture(self, capture: subprocess.Popen[str]) -> str:
        try:
            out, _err = capture.communicate(timeout=5)
        except subprocess.TimeoutExpired:
            capture.terminate()
            out, _err = capture.communicate()
        sys.stdout.write(out)
        return out

    def _xe(self, host: LabHost, *words: str) -> str:
        command = ("xe", *words)
        _show(host.name, command)
        said = _run((*machine.entering(host.pid), *command), may_fail=False)
        sys.stdout.write(said)
        return said.strip()

    def _guest(self, vm: str, *words: str, may_fail: bool = False) -> str:
        _show(vm, words)
        said = _run((*console.entering_guest(load(self._lab.name), vm), *words), may_fail=may_fail)
        sys.stdout.write(said)
        return said


def _run(words: Sequence[str], *, may_fail: bool) -> str:
    sys.stdout.flush()
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and words of our own
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_WITHIN_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TourFailed(f"no answer after {_COMMAND_WITHIN_S} s") from error
    if done.returncode != 0 and not may_fail:
        raise TourFailed(f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout + (done.stderr if may_fail else "")


def _received(said: str) -> int:
    """How many replies arping counted."""
    for line in said.splitlines():
        if line.startswith("Received "):
            return int(line.split()[1])
    raise TourFailed(f"arping did not run: {said.strip()}")


def _packets(flow: str) -> int:
    """What a flow has counted, from its line."""
    return int(flow.split("n_packets=")[1].split(",")[0])


def _identity(flow: str) -> str:
    """A flow's table and match, from its line: what does not change as it counts."""
    return f"{flow.split('table=')[1].split(',')[0]} {flow.split('priority=')[-1]}"


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


def _show(where: str, command: Sequence[str]) -> None:
    sys.stdout.write(f"{where}$ {shlex.join(command)}\n")
