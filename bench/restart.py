"""How long does a full host's daemon take to start: after a restart of its own, and after a boot that lost the switch?

The host has 800 VLANs, and 500 locked guest ports. A restart finds everything there and must change nothing: it is compared
with reading the switch's database and flows by the switch's own tools. A boot finds a new switch with an empty database and
no guests: it is compared with one `ovs-vsctl` transaction that makes the same bridges. Needs root; no API server takes part.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.hostd_rig import Rig, running_rig
from tests.lab.hostd_states import full_house
from tests.lab.own_network import run_in_own_network

from bench.figure import Figure, Skipped, duration
from poolnet.hostnet.state import HostNetwork

VLANS, PORTS = 800, 500
RESTARTS, BOOTS = 5, 2
WANTED = 2  # what issue 3 promises of both
_RESTART = f"restart of the host daemon, {VLANS} VLANs and {PORTS} VIFs"
_BOOT = f"boot with an empty switch, {VLANS} VLANs"


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds, by what was done."""

    restart: list[float] = field(default_factory=list)
    dump: list[float] = field(default_factory=list)
    boot: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)


def figures() -> list[Figure | Skipped]:
    """The two figures, or why there are none. Raises AssertionError when a restart has changed something."""
    if os.geteuid() != 0:
        return [
            Skipped(name=name, reason="needs root, for a switch of its own") for name in (_RESTART, _BOOT)
        ]
    times = _Times()

    async def measure() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with running_rig(Path(directory)) as rig:
                rig.sh("ip", "link", "set", "lo", "up")
                rig.cable("eth0", "sw0")
                await _restarts(rig, times)
                await _boots(rig, times)

    run_in_own_network(measure)
    return [
        duration(
            _RESTART,
            times.restart,
            times.dump,
            floor_name="ovsdb-client dump, ovs-ofctl dump-flows",
            wanted=WANTED,
        ),
        duration(_BOOT, times.boot, times.commands, floor_name="one ovs-vsctl transaction", wanted=WANTED),
    ]


async def _restarts(rig: Rig, times: _Times) -> None:
    full = full_house(VLANS, PORTS)
    links = "".join(f"link add {p.device} type veth peer name g{n}\n" for n, p in enumerate(full.ports))
    batch = rig.directory / "links"
    batch.write_text(links)
    rig.sh("ip", "-batch", str(batch))
    await rig.roll_out(full)
    for _ in range(RESTARTS):
        before = _dump(rig, times)
        await rig.kill("hostd")
        times.restart.append(await _start(rig, full))
        if _dump(rig, times) != before:
            raise AssertionError("a restart has changed the switch")
    batch.write_text("".join(f"link del {p.device}\n" for p in full.ports))
    await rig.kill("hostd")
    rig.sh("ip", "-batch", str(batch))


async def _boots(rig: Rig, times: _Times) -> None:
    wanted = full_house(VLANS, 0)
    for _ in range(BOOTS):
        await _new_switch(rig)
        began = time.perf_counter()
        rig.sh("ovs-vsctl", *_words(wanted))
        times.commands.append(time.perf_counter() - began)
        await _new_switch(rig)
        times.boot.append(await _start(rig, wanted))
        await rig.kill("hostd")


async def _start(rig: Rig, wanted: HostNetwork) -> float:
    """Starts the daemon; the seconds until it has said that the host is as it should be."""
    began = time.perf_counter()
    await rig.start_daemon()
    plan = await rig.plan_to(wanted)
    took = time.perf_counter() - began
    if plan.steps:
        raise AssertionError(f"after the start the host is not as it should be: {plan.steps[:3]}")
    return took


async def _new_switch(rig: Rig) -> None:
    """Ends the switch with all that it has, and starts another one with nothing."""
    for program in ("ovs-vswitchd", "ovsdb-server"):
        await rig.kill(program)
    (rig.run_dir / "conf.db").unlink()
    await rig.start_database()
    await rig.start_switch()


def _dump(rig: Rig, times: _Times) -> Sequence[str]:
    """What the switch's own tools read, without counters."""
    began = time.perf_counter()
    rows = rig.sh("ovsdb-client", "dump", f"unix:{rig.run_dir}/db.sock", "Open_vSwitch")
    flows = rig.sh("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "--no-stats", "dump-flows", "xenbr0v")
    times.dump.append(time.perf_counter() - began)
    changed = rig.sh("ovs-vsctl", "get", "Open_vSwitch", ".", "next_cfg")
    return (changed, str(len(rows.splitlines())), *sorted(flows.splitlines()))


def _words(wanted: HostNetwork) -> list[str]:
    words: list[str] = []
    for bridge in sorted(wanted.bridges, key=lambda bridge: bool(bridge.parent)):
        words += ["--", "add-br", bridge.name]
        if bridge.parent:
            words += [bridge.parent, str(bridge.vlan_tag)]
        else:
            words += ["--", "set", "Bridge", bridge.name, "datapath_type=netdev"]
            words += ["--", "add-port", bridge.name, "eth0"]
    return words
