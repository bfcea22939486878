"""How long do 100 VLANs take, created by 100 calls at once, beside one ovs-vsctl transaction for the same bridges?

It needs a lab with a real switch, so it needs root. The calls go to a lab host's Unix socket, each on an open connection of
its own; the floor runs on the same host's switch, with the same bridges, when the VLANs are gone again.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from bench.figure import Figure, Skipped, duration
from bench.server import call_body
from poolnet.lab import console, life, machine
from poolnet.lab.state import Lab

LAB = "bench"
VLANS = 100
ROUNDS = 10
_NAME = f"{VLANS} VLANs by {VLANS} concurrent VLAN.create"
_VALUE = re.compile(r"<value>Success</value></member><member><name>Value</name><value>([^<]*)</value>")


async def figures() -> list[Figure | Skipped]:
    """The figure, or why there is none."""
    if os.geteuid() != 0:
        return [Skipped(name=_NAME, reason="needs root, for a lab with a real switch")]
    lab = await life.up(LAB, hosts=1, nics=2, backend="openvswitch", pool=False)
    try:
        created, floor = await _measure(lab)
    finally:
        await life.down(LAB)
    return [duration(_NAME, created, floor, floor_name="one ovs-vsctl transaction", wanted=2)]


async def _measure(lab: Lab) -> tuple[list[float], list[float]]:
    api = _Api(Path(console.info(lab)["hosts"][0]["xe_socket"]))
    api.session = await api.call("session.login_with_password", "root", "", "1.0", "bench")
    pif = await _eth1(lab)
    trunk = (
        await _run(lab, "xe", "network-list", "PIF-uuids:contains=" + pif, "params=bridge", "--minimal")
    ).strip()
    pif_ref = await api.call("PIF.get_by_uuid", api.session, pif)
    names = [f"bench{number}" for number in range(VLANS)]
    uuids = [(await _run(lab, "xe", "network-create", f"name-label={name}")).strip() for name in names]
    networks = [await api.call("network.get_by_uuid", api.session, uuid) for uuid in uuids]
    bridges = [await api.call("network.get_bridge", api.session, network) for network in networks]
    await api.connect(VLANS)
    created, floor = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        vlans = await asyncio.gather(
            *(
                api.call("VLAN.create", api.session, pif_ref, str(tag), network)
                for tag, network in enumerate(networks, 1)
            )
        )
        created.append(time.perf_counter() - began)
        await asyncio.gather(*(api.call("VLAN.destroy", api.session, vlan) for vlan in vlans))
        began = time.perf_counter()
        await _run(lab, "ovs-vsctl", *_add_words(bridges, trunk))
        floor.append(time.perf_counter() - began)
        await _run(lab, "ovs-vsctl", *_delete_words(bridges))
    await api.close()
    return created, floor


class _Api:
    """Calls over a Unix socket. Connections are kept, as clients keep them; calls at once have one each."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.session = ""

    async def connect(self, count: int) -> None:
        """Opens that many connections."""
        for _ in range(count):
            self._idle.append(await asyncio.open_unix_connection(self._socket))

    async def call(self, method: str, *params: str) -> str:
        """The answer's value. Raises RuntimeError for a failure."""
        if not self._idle:
            await self.connect(1)
        reader, writer = self._idle.pop()
        body = call_body(method, *params).encode()
        writer.write(f"POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        answer = (await reader.readexactly(length)).decode()
        self._idle.append((reader, writer))
        found = _VALUE.search(answer)
        if found is None:
            raise RuntimeError(f"{method}: {answer}")
        return found[1]

    async def close(self) -> None:
        """Closes all connections."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


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
