"""How many pings does a pulled cable cost, in each mode, beside the same bond made by hand with ovs-vsctl?

It needs a lab with a real switch, so it needs root. A lab host pings the switch every 10 ms over a bond of two NICs; the
cable that carries the pings is pulled, and put back. Both bonds are given the same options and wait the same time
(`bond_downdelay`) before they give a link up: that time is not poolnet's, so it is short here. How long the far switch takes
to learn is in both figures.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress

from tests.lab.trains import Train, on_machine

from bench.figure import Figure, Skipped
from poolnet.lab import life, machine
from poolnet.lab.state import Lab, LabError, load

LAB = "bench-bonds"
MODES = ("balance-slb", "active-backup", "lacp")
ROUNDS = 3
LOST_MORE_MAX = 3  # what issue 3 promises beyond the time that the carrier's loss takes to be seen
_HOST, _BRIDGE = "host1", "byhand"
_ADDRESS, _GATEWAY = "10.66.0.1/24", "10.66.0.254"
_DOWNDELAY_MS, _UPDELAY_MS = 10, 500
_WITHIN_S = 60.0


async def figures() -> list[Figure | Skipped]:
    """Two figures for each mode: pings lost when the cable is pulled, and when it is put back."""
    if os.geteuid() != 0:
        return [Skipped(name="failover of bonds", reason="needs root, for a lab with a real switch")]
    lab = await life.up(LAB, hosts=1, nics=3, backend="openvswitch", pool=False)
    try:
        await machine.run_in(lab.switch_pid, "ip", "address", "add", f"{_GATEWAY}/24", "dev", "switch0")
        found: list[Figure | Skipped] = []
        for mode in MODES:
            found += await _of_mode(lab, mode)
        return found
    finally:
        await life.down(LAB)


async def _of_mode(lab: Lab, mode: str) -> list[Figure]:
    if mode == "lacp":
        await life.bundle(LAB, _HOST, ("eth1", "eth2"))
    bond = await _make(lab, mode)
    ours = [await _pull_and_restore(load(LAB)) for _ in range(ROUNDS)]
    await _xe(lab, "bond-destroy", f"uuid={bond}")
    await _make_by_hand(lab, mode)
    raw = [await _pull_and_restore(load(LAB)) for _ in range(ROUNDS)]
    await _run(lab, "ovs-vsctl", "del-br", _BRIDGE)
    for nic in ("eth1", "eth2"):
        await _xe(lab, "pif-plug", f"uuid={await _pif(lab, nic)}")
    if mode == "lacp":
        await life.separate(LAB, _HOST, "eth1")
    return [
        _figure(f"{mode}: pings lost when a cable is {word}", [o[i] for o in ours], [r[i] for r in raw])
        for i, word in enumerate(("pulled", "put back"))
    ]


def _figure(name: str, ours: Sequence[int], raw: Sequence[int]) -> Figure:
    """Losses as they are; the ratio is kept from dividing by none lost."""
    value, floor = statistics.median(ours), statistics.median(raw)
    return Figure(
        name=name,
        value=value,
        unit="pings",
        floor=floor,
        floor_name="the same bond by ovs-vsctl",
        ratio=(value + 1) / (floor + 1),
        samples=len(ours),
        wanted=(floor + LOST_MORE_MAX + 1) / (floor + 1),
    )


async def _make(lab: Lab, mode: str) -> str:
    network = await _xe(lab, "network-create", f"name-label={mode}")
    members = f"{await _pif(lab, 'eth1')},{await _pif(lab, 'eth2')}"
    bond = await _xe(lab, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", f"mode={mode}")
    master = await _pif(lab, "bond0")
    delays = (
        f"other-config:bond-downdelay={_DOWNDELAY_MS}",
        f"other-config:bond-updelay={_UPDELAY_MS}",
    )
    await _xe(lab, "pif-param-set", f"uuid={master}", *delays)
    address = (f"IP={_ADDRESS.partition('/')[0]}", "netmask=255.255.255.0")
    await _xe(lab, "pif-reconfigure-ip", f"uuid={master}", "mode=static", *address)
    await _xe(lab, "pif-plug", f"uuid={master}")
    return bond


async def _make_by_hand(lab: Lab, mode: str) -> None:
    for nic in ("eth1", "eth2"):
        pif = await _pif(lab, nic)
        await _xe(lab, "pif-reconfigure-ip", f"uuid={pif}", "mode=none")
        await _xe(lab, "pif-unplug", f"uuid={pif}")
        await _run(lab, "ip", "link", "set", nic, "up")
    lacp = ("lacp=active", "bond_mode=balance-tcp", "other_config:lacp-time=slow")
    fallback = "other_config:lacp-fallback-ab=true"
    options = (*lacp, fallback) if mode == "lacp" else ("lacp=off", f"bond_mode={mode}")
    await _run(
        lab,
        *("ovs-vsctl", "add-br", _BRIDGE, "--", "set", "Bridge", _BRIDGE, "datapath_type=netdev"),
        *("--", "add-bond", _BRIDGE, "bond0", "eth1", "eth2", *options),
        *(f"bond_downdelay={_DOWNDELAY_MS}", f"bond_updelay={_UPDELAY_MS}"),
    )
    await _run(lab, "ip", "link", "set", _BRIDGE, "up")
    await _run(lab, "ip", "address", "add", _ADDRESS, "dev", _BRIDGE)


async def _pull_and_restore(lab: Lab) -> tuple[int, int]:
    """How many pings are lost when the cable that carries them is pulled, and when it is put back."""
    await _until_enabled(lab, 2)
    await _until_answered(lab)
    nic = await _active(lab)
    lost = []
    for plugged, members in ((False, 1), (True, 2)):
        with Train(on_machine(lab, _HOST), _GATEWAY) as train:
            await asyncio.sleep(0.3)
            await life.set_link(LAB, _HOST, nic, plugged=plugged)
            await _until_enabled(lab, members)
            await asyncio.sleep(1.0)  # the far switch learns by what it hears
        lost.append(train.lost)
    return lost[0], lost[1]


async def _shown(lab: Lab) -> list[str]:
    return (await _run(lab, "ovs-appctl", "bond/show", "bond0")).splitlines()


async def _active(lab: Lab) -> str:
    return next(
        line.partition("(")[2].rstrip(")") for line in await _shown(lab) if "active member mac" in line
    )


async def _until_enabled(lab: Lab, members: int) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while (  # noqa: ASYNC110 - the switch does not tell
            sum(line.endswith(": enabled") for line in await _shown(lab)) != members
        ):
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
