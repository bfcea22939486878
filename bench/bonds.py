"""How many pings does a pulled cable cost a host, in each mode and on each backend, beside the same bond made by hand?

It needs a lab with a real switch, so it needs root. A lab host pings the switch every 10 ms over a bond of two NICs; the
cable that carries the pings is pulled, and put back. What counts is how many echo requests never come out of a cable: the
answers depend on the far switch too, which sends to the old cable until it has learnt better, up to half a second where its
flows are in the kernel. Both bonds are given the same options and wait the same time before they give a link up: that time
is not poolnet's, so it is short here.

Linux bridges need the kernel's bonding driver. Where this kernel has none, they are measured on the other kernel of the tests,
User Mode Linux, by this same module: `python -m bench.bonds linuxbridge FILE`. The figures' names say on which kernel. There
are no loops between the bond by hand and the switch to suppress: the driver's mode for balance-slb, balance-xor, is alone.
"""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from tests.kernel import machine as other_kernel
from tests.lab.trains import Capture, Train, on_machine

from bench.figure import Figure, Skipped
from poolnet.lab import life, machine
from poolnet.lab.state import SWITCH, Lab, LabError, load

LAB = "bench-bonds"
BACKENDS = ("openvswitch", "linuxbridge")
MODES = ("balance-slb", "active-backup", "lacp")
ROUNDS = 3
LOST_MORE_MAX = 3  # what issue 3 promises beyond the time that the carrier's loss takes to be seen
_HOST, _BRIDGE, _BOND = "host1", "byhand", "bond0"
_MEMBERS = ("eth1", "eth2")
_ADDRESS, _GATEWAY = "10.66.0.1/24", "10.66.0.254"
_MIIMON_MS, _DOWNDELAY_MS, _UPDELAY_MS = 10, 10, 500
_WITHIN_S = 120.0
_OTHER_KERNEL_LIMIT_S = 560.0
_KERNEL_MODES: Mapping[str, tuple[str, ...]] = {
    "balance-slb": ("balance-xor", "xmit_hash_policy", "vlan+srcmac"),
    "active-backup": ("active-backup", "num_grat_arp", "3"),
    "lacp": ("802.3ad", "xmit_hash_policy", "layer3+4", "lacp_rate", "slow"),
}


async def figures() -> list[Figure | Skipped]:
    """Two figures for each mode and backend: pings lost when the cable is pulled, and when it is put back."""
    if os.geteuid() != 0:
        return [Skipped(name="failover of bonds", reason="needs root, for a lab with a real switch")]
    found: list[Figure | Skipped] = [*await _measured("openvswitch")]
    if _has_bonding():
        return [*found, *await _measured("linuxbridge")]
    if not _has_other_kernel():
        return [*found, Skipped(name="failover of bonds on Linux bridges", reason="no kernel has bonding")]
    return [*found, *await asyncio.to_thread(_on_the_other_kernel)]


def _has_bonding() -> bool:
    words = ("unshare", "--net", "ip", "link", "add", "probe", "type", "bond")
    return subprocess.run(words, check=False, capture_output=True).returncode == 0  # noqa: S603 - no shell, and words of our own


def _has_other_kernel() -> bool:
    return Path(other_kernel.KERNEL).exists()


def _on_the_other_kernel() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="poolnet-bench-") as directory:
        result = Path(directory) / "figures.json"
        words = (sys.executable, "-m", "bench.bonds", "linuxbridge", str(result))
        done = other_kernel.run(words, {}, Path(directory), limit_s=_OTHER_KERNEL_LIMIT_S)
        if done.code != 0:
            raise RuntimeError(done.console)
        return msgspec.json.decode(result.read_bytes(), type=list[Figure])


async def _measured(backend: str) -> list[Figure]:
    lab = await life.up(LAB, hosts=1, nics=3, backend=backend, pool=False)
    try:
        await machine.run_in(lab.switch_pid, "ip", "address", "add", f"{_GATEWAY}/24", "dev", "switch0")
        return [figure for mode in MODES for figure in await _of_mode(lab, mode)]
    finally:
        await life.down(LAB)


async def _of_mode(lab: Lab, mode: str) -> list[Figure]:
    if mode == "lacp":
        await life.bundle(LAB, _HOST, _MEMBERS)
    bond = await _make(lab, mode)
    ours = [await _pull_and_restore(load(LAB)) for _ in range(ROUNDS)]
    await _xe(lab, "bond-destroy", f"uuid={bond}")
    await _make_by_hand(lab, mode)
    raw = [await _pull_and_restore(load(LAB)) for _ in range(ROUNDS)]
    await _remove_by_hand(lab)
    for nic in _MEMBERS:
        await _xe(lab, "pif-plug", f"uuid={await _pif(lab, nic)}")
    if mode == "lacp":
        await life.separate(LAB, _HOST, "eth1")
    where = f"{lab.backend}, Linux {platform.release()}"
    return [
        _figure(
            f"{mode} ({where}): most requests lost, cable {word}",
            [o[i] for o in ours],
            [r[i] for r in raw],
            lab,
        )
        for i, word in enumerate(("pulled", "put back"))
    ]


def _figure(name: str, ours: Sequence[int], raw: Sequence[int], lab: Lab) -> Figure:
    """The worst of ours beside the worst of theirs; the ratio is kept from dividing by none lost."""
    value, floor = max(ours), max(raw)
    return Figure(
        name=name,
        value=value,
        unit="requests",
        floor=floor,
        floor_name="the same bond by " + ("ovs-vsctl" if _is_open_vswitch(lab) else "ip"),
        ratio=(value + 1) / (floor + 1),
        samples=len(ours),
        wanted=(floor + LOST_MORE_MAX + 1) / (floor + 1),
    )


def _is_open_vswitch(lab: Lab) -> bool:
    return lab.backend == "openvswitch"


async def _make(lab: Lab, mode: str) -> str:
    network = await _xe(lab, "network-create", f"name-label={mode}")
    members = ",".join([await _pif(lab, nic) for nic in _MEMBERS])
    bond = await _xe(lab, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", f"mode={mode}")
    master = await _pif(lab, _BOND)
    delays = (("miimon", _MIIMON_MS), ("downdelay", _DOWNDELAY_MS), ("updelay", _UPDELAY_MS))
    words = (f"other-config:bond-{name}={number}" for name, number in delays)
    await _xe(lab, "pif-param-set", f"uuid={master}", *words)
    address = (f"IP={_ADDRESS.partition('/')[0]}", "netmask=255.255.255.0")
    await _xe(lab, "pif-reconfigure-ip", f"uuid={master}", "mode=static", *address)
    await _xe(lab, "pif-plug", f"uuid={master}")
    return bond


async def _make_by_hand(lab: Lab, mode: str) -> None:
    for nic in _MEMBERS:
        pif = await _pif(lab, nic)
        await _xe(lab, "pif-reconfigure-ip", f"uuid={pif}", "mode=none")
        await _xe(lab, "pif-unplug", f"uuid={pif}")
    if _is_open_vswitch(lab):
        lacp = ("lacp=active", "bond_mode=balance-tcp", "other_config:lacp-time=slow")
        fallback = "other_config:lacp-fallback-ab=true"
        options = (*lacp, fallback) if mode == "lacp" else ("lacp=off", f"bond_mode={mode}")
        for nic in _MEMBERS:
            await _run(lab, "ip", "link", "set", nic, "up")
        await _run(
            lab,
            *("ovs-vsctl", "add-br", _BRIDGE, "--", "set", "Bridge", _BRIDGE),
            f"datapath_type={lab.datapath_type}",
            *("--", "add-bond", _BRIDGE, _BOND, *_MEMBERS, *options),
            *(f"bond_downdelay={_DOWNDELAY_MS}", f"bond_updelay={_UPDELAY_MS}"),
        )
    else:
        times = ("miimon", _MIIMON_MS, "downdelay", _DOWNDELAY_MS, "updelay", _UPDELAY_MS)
        await _run(
            lab, *("ip", "link", "add", _BOND, "type", "bond", "mode"), *_KERNEL_MODES[mode], *map(str, times)
        )
        for nic in _MEMBERS:
            await _run(lab, "ip", "link", "set", nic, "down")
            await _run(lab, "ip", "link", "set", nic, "master", _BOND)
        await _run(lab, "ip", "link", "set", _BOND, "up")
        await _run(lab, "ip", "link", "add", _BRIDGE, "type", "bridge", "forward_delay", "0")
        await _run(lab, "ip", "link", "set", _BOND, "master", _BRIDGE)
    await _run(lab, "ip", "link", "set", _BRIDGE, "up")
    await _run(lab, "ip", "address", "add", _ADDRESS, "dev", _BRIDGE)


async def _remove_by_hand(lab: Lab) -> None:
    if _is_open_vswitch(lab):
        await _run(lab, "ovs-vsctl", "del-br", _BRIDGE)
    else:
        await _run(lab, "ip", "link", "del", _BRIDGE)
        await _run(lab, "ip", "link", "del", _BOND)


async def _pull_and_restore(lab: Lab) -> tuple[int, int]:
    """How many echo requests are lost when the cable that carries them is pulled, and when it is put back."""
    await _until_enabled(lab, len(_MEMBERS))
    await _until_answered(lab)
    nic = await _carrier(lab)
    lost = []
    for plugged, members in ((False, 1), (True, 2)):
        capture = Capture(on_machine(lab, SWITCH), "any", "--immediate-mode", "icmp")
        with capture, Train(on_machine(lab, _HOST), _GATEWAY) as train:
            await asyncio.sleep(0.3)
            await life.set_link(LAB, _HOST, nic, plugged=plugged)
            await _until_enabled(lab, members)
            await asyncio.sleep(1.0)
        numbers = [int(number) for _, number in capture.times("request")]  # perhaps without the last ones
        unseen = max(numbers) - min(numbers) + 1 - len(numbers)
        lost.append(
            min(unseen, train.lost)
        )  # what was answered came out, whatever a busy machine has not seen
    return lost[0], lost[1]


async def _carrier(lab: Lab) -> str:
    """The member that carries the pings of this host."""
    before = await _sent(lab)
    await _run(lab, "ping", "-n", "-c", "20", "-i", "0.01", "-W", "1", _GATEWAY)
    after = await _sent(lab)
    return max(_MEMBERS, key=lambda nic: after[nic] - before[nic])


async def _sent(lab: Lab) -> dict[str, int]:
    """How many frames each NIC has sent."""
    links = msgspec.json.decode(await _run(lab, "ip", "-j", "-s", "link"))
    return {link["ifname"]: link["stats64"]["tx"]["packets"] for link in links if link["ifname"] in _MEMBERS}


async def _enabled(lab: Lab) -> int:
    """How many members carry traffic."""
    if _is_open_vswitch(lab):
        shown = await _run(lab, "ovs-appctl", "bond/show", _BOND)
        return sum(line.endswith(": enabled") for line in shown.splitlines())
    head, *members = (await _run(lab, "cat", f"/proc/net/bonding/{_BOND}")).split("Slave Interface: ")
    aggregate = next((line.strip() for line in head.splitlines() if "Aggregator ID:" in line), "")
    lines = [[line.strip() for line in member.splitlines()] for member in members]
    return sum("MII Status: up" in member and (not aggregate or aggregate in member) for member in lines)


async def _until_enabled(lab: Lab, members: int) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while await _enabled(lab) != members:  # noqa: ASYNC110 - the switch does not tell
            await asyncio.sleep(0.02)


async def _until_answered(lab: Lab) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while True:
            with suppress(LabError):
                await _run(lab, "ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", _GATEWAY)
                return


async def _pif(lab: Lab, device: str) -> str:
    return await _xe(lab, "pif-list", f"device={device}", "VLAN=-1", "params=uuid", "--minimal")


async def _xe(lab: Lab, *words: str) -> str:
    return (await _run(lab, "xe", *words)).strip()


async def _run(lab: Lab, *words: str) -> str:
    return await machine.run_in(lab.hosts[0].pid, *words)


def main(backend: str, result: str) -> None:
    """Measures on this kernel, and writes the figures to a file."""
    Path(result).write_bytes(msgspec.json.encode(asyncio.run(_measured(backend))))


if __name__ == "__main__":
    main(*sys.argv[1:])
