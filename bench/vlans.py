"""How long do 100 and 800 VLANs take, created by as many calls at once, and 200 by one call after the other?

It needs a lab with a real switch, so it needs root. The calls go to a lab host's Unix socket, those at once each on an open
connection of its own. The floor runs on the same host's switch, with the same bridges, when the VLANs are gone again: one
`ovs-vsctl` transaction for calls at once, and one `ovs-vsctl` for each bridge, in turn, for calls in turn.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.connections import CONNECTIONS_MAX, Connections
from bench.figure import Figure, Skipped, duration
from poolnet.lab import console, life, machine
from poolnet.lab.state import Lab

LAB = "bench"
FEW, FEW_ROUNDS = 100, 10
MANY, MANY_ROUNDS = 800, 2
IN_TURN = 200
WANTED = 2  # what issues 2 and 3 promise for calls at once


@dataclass(frozen=True, slots=True)
class _Times:
    """Seconds for all VLANs together: by the API, and by ovs-vsctl."""

    created: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)


async def figures(vlans: int = FEW, rounds: int = FEW_ROUNDS) -> list[Figure | Skipped]:
    """VLANs by calls at once, or why there is no figure."""
    name = f"{vlans} VLANs by {vlans} concurrent VLAN.create"
    times = await _in_a_lab(_at_once, vlans, rounds)
    if times is None:
        return [_skipped(name)]
    floor = "one ovs-vsctl transaction"
    return [duration(name, times.created, times.floor, floor_name=floor, wanted=WANTED)]


async def figures_in_turn(vlans: int = IN_TURN) -> list[Figure | Skipped]:
    """VLANs by one call after the other, or why there is no figure."""
    name = f"{vlans} VLANs by one VLAN.create after the other"
    times = await _in_a_lab(_in_turn, vlans, 1)
    if times is None:
        return [_skipped(name)]
    return [duration(name, times.created, times.floor, floor_name=f"{vlans} ovs-vsctl in turn")]


def _skipped(name: str) -> Skipped:
    return Skipped(name=name, reason="needs root, for a lab with a real switch")


async def _in_a_lab(
    measure: Callable[[_Bench, _Times], Awaitable[None]], vlans: int, rounds: int
) -> _Times | None:
    if os.geteuid() != 0:
        return None
    lab = await life.up(LAB, hosts=1, nics=2, backend="openvswitch", pool=False)
    try:
        bench = await _prepare(lab, vlans)
        times = _Times()
        for _ in range(rounds):
            await measure(bench, times)
        await bench.api.close()
    finally:
        await life.down(LAB)
    return times


@dataclass(frozen=True, slots=True)
class _Bench:
    """A lab host with as many networks as there are to be VLANs."""

    lab: Lab
    api: Connections
    pif: str
    networks: list[str]
    bridges: list[str]
    trunk: str

    async def create(self, tag: int) -> str:
        """Creates the VLAN of that tag on its network."""
        return await self.api.call(
            "VLAN.create", self.api.session, self.pif, str(tag), self.networks[tag - 1]
        )

    async def destroy(self, vlans: Sequence[str]) -> None:
        """Destroys VLANs by calls at once."""
        await asyncio.gather(*(self.api.call("VLAN.destroy", self.api.session, vlan) for vlan in vlans))


async def _prepare(lab: Lab, vlans: int) -> _Bench:
    api = Connections(Path(console.info(lab)["hosts"][0]["xe_socket"]))
    await api.connect(min(vlans, CONNECTIONS_MAX))
    api.session = await api.call("session.login_with_password", "root", "", "1.0", "bench")
    pif = await _eth1(lab)
    words = ("xe", "network-list", "PIF-uuids:contains=" + pif, "params=bridge", "--minimal")
    trunk = (await _run(lab, *words)).strip()
    networks = list(await asyncio.gather(*(api.new_network(f"bench{number}") for number in range(vlans))))
    bridges = list(
        await asyncio.gather(*(api.call("network.get_bridge", api.session, network) for network in networks))
    )
    pif_ref = await api.call("PIF.get_by_uuid", api.session, pif)
    return _Bench(lab, api, pif_ref, networks, bridges, trunk)


async def _at_once(bench: _Bench, times: _Times) -> None:
    began = time.perf_counter()
    vlans = await asyncio.gather(*(bench.create(tag) for tag in range(1, len(bench.networks) + 1)))
    times.created.append(time.perf_counter() - began)

    await bench.destroy(vlans)
    began = time.perf_counter()
    await _run(bench.lab, "ovs-vsctl", *_add_words(bench.bridges, bench.trunk))
    times.floor.append(time.perf_counter() - began)
    await _run(bench.lab, "ovs-vsctl", *_delete_words(bench.bridges))


async def _in_turn(bench: _Bench, times: _Times) -> None:
    began = time.perf_counter()
    vlans = [await bench.create(tag) for tag in range(1, len(bench.networks) + 1)]
    times.created.append(time.perf_counter() - began)
    await bench.destroy(vlans)
    commands = (
        f"ovs-vsctl add-br {bridge} {bench.trunk} {tag}\n" for tag, bridge in enumerate(bench.bridges, 1)
    )
    began = time.perf_counter()
    await machine.run(*machine.entering(bench.lab.hosts[0].pid), "sh", "-e", text="".join(commands))
    times.floor.append(time.perf_counter() - began)
    await _run(bench.lab, "ovs-vsctl", *_delete_words(bench.bridges))


async def _eth1(lab: Lab) -> str:
    words = ("xe", "pif-list", "device=eth1", "VLAN=-1", "params=uuid", "--minimal")
    return (await _run(lab, *words)).strip()


async def _run(lab: Lab, *words: str) -> str:
    return await machine.run_in(lab.hosts[0].pid, *words)


def _add_words(bridges: Sequence[str], trunk: str) -> list[str]:
    words: list[str] = []
    for tag, bridge in enumerate(bridges, 1):
        words += ["--", "add-br", bridge, trunk, str(tag)]
    return words


def _delete_words(bridges: Sequence[str]) -> list[str]:
    return [word for bridge in bridges for word in ("--", "del-br", bridge)]
