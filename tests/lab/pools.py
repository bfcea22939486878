"""What tests of pools share: questions to a lab whose hosts are in one pool, and waiting for the answers."""

from __future__ import annotations

import subprocess

from poolnet.lab import machine
from tests.lab.running import RunningLab
from tests.waiting import PATIENCE


def xe(lab: RunningLab, host: str, *words: str) -> tuple[int, str]:
    """The exit code of an `xe` command on a host's console, and all that it said."""
    words = (*machine.entering(lab.lab.host(host).pid), "xe", *words)
    done = subprocess.run(
        words,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90 * PATIENCE,
    )
    return done.returncode, done.stdout.strip()


def answer(lab: RunningLab, host: str, *words: str) -> str:
    """What an `xe` command printed; "" if it failed."""
    code, text = xe(lab, host, *words)
    return text if code == 0 else ""


def host_uuid(lab: RunningLab, name: str, ask: str = "host1") -> str:
    """The uuid of a host of the pool."""
    return lab.xe(ask, "host-list", f"name-label={name}", "--minimal")


def pif(lab: RunningLab, host: str, device: str, ask: str = "host1", **more: str) -> str:
    """The uuid of a host's PIF of that device that is no VLAN's."""
    words = [f"{key.replace('_', '-')}={value}" for key, value in {"VLAN": "-1", **more}.items()]
    return lab.xe(ask, "pif-list", f"host-name-label={host}", f"device={device}", *words, "--minimal")


def hosts_with(lab: RunningLab, ask: str, *filters: str) -> set[str]:
    """The names of the hosts that match."""
    listed = answer(lab, ask, "host-list", *filters, "params=name-label", "--minimal")
    return set(filter(None, listed.split(",")))


def live(lab: RunningLab, ask: str = "host1") -> set[str]:
    """The hosts that the coordinator hears."""
    return hosts_with(lab, ask, "host-metrics-live=true")


def in_emergency(lab: RunningLab, host: str) -> bool:
    """As its console says."""
    return answer(lab, host, "host-is-in-emergency-mode") == "true"


def bridges(lab: RunningLab, host: str) -> set[str]:
    """The bridges of its switch."""
    return set(lab.run(host, "ovs-vsctl", "list-br").split())


def with_address(lab: RunningLab, host: str, name: str, network: str, address: str) -> str:
    """A VM that runs on that host with one VIF on a network; its uuid."""
    vm = lab.xe("host1", "vm-create", f"name-label={name}")
    lab.xe("host1", "vif-create", f"vm-uuid={vm}", f"network-uuid={network}", "device=0")
    lab.xe("host1", "vm-start", f"uuid={vm}", f"on={host}")
    lab.guest(name, "ip", "address", "add", address, "dev", "eth0")
    return vm
