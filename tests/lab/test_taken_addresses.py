"""An address that another machine has is not set, nor spoken for; one that is ours is, whoever else has it."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from poolnet.hostnet.protocol import Fault
from poolnet.hostnet.state import Bridge
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import STATIC, XENBR0, network, nic
from tests.waiting import until

pytestmark = pytest.mark.lab

TAKEN, FREE = "10.9.0.2", "10.9.0.7"
ALL_FRAMES, ARP = 0x0003, b"\x08\x06"
XENBR1 = Bridge(name="xenbr1", uplink=nic("eth1"), mac="02:00:00:00:00:02")


def having(bridge: Bridge, address: str) -> Bridge:
    return replace(bridge, ip=replace(STATIC, ipv4_address=f"{address}/24", ipv4_gateway=""))


class Ear:
    """Hears in whose name ARP is sent out of a NIC."""

    def __init__(self, nic: str) -> None:
        self._link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
        self._link.bind((nic, ALL_FRAMES))
        self._link.setblocking(False)
        self._heard: set[str] = set()

    def heard(self) -> set[str]:
        try:
            while True:
                frame, (_, _, kind, *_) = self._link.recvfrom(2048)
                if kind == socket.PACKET_OUTGOING and frame[12:14] == ARP:
                    self._heard.add(str(IPv4Address(frame[28:32])))
        except BlockingIOError:
            return self._heard

    def close(self) -> None:
        self._link.close()


@asynccontextmanager
async def cabinet(rig: Rig) -> AsyncIterator[str]:
    """A machine that eth0 and eth1 are connected to; its name."""
    name = f"cabinet{time.monotonic_ns()}"
    rig.cable("eth1", "sw1")
    rig.sh("ip", "netns", "add", name)
    try:
        rig.sh("ip", "link", "add", "br0", "netns", name, "type", "bridge")
        for end in ("sw0", "sw1"):
            rig.sh("ip", "link", "set", end, "netns", name)
            rig.sh("ip", "-n", name, "link", "set", end, "up", "master", "br0")
        rig.sh("ip", "-n", name, "link", "set", "br0", "up")
        states = ("ip", "-n", name, "-br", "link", "show")
        await until(lambda: rig.sh(*states, "br0").split()[1] == "UP")
        await until(lambda: rig.sh(*states, "master", "br0").count("UP ") == 2)
        yield name
    finally:
        rig.sh("ip", "netns", "del", name)


@pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])
def test_an_address_that_somebody_has_is_refused_and_never_spoken_for(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        async with cabinet(rig) as machine:
            rig.sh("ip", "-n", machine, "addr", "add", f"{TAKEN}/24", "dev", "br0")
            mac = rig.sh("ip", "netns", "exec", machine, "cat", "/sys/class/net/br0/address").strip()
            with closing(Ear("eth0")) as ear:
                for number, before in enumerate(((), (XENBR0,), (having(XENBR0, FREE),))):
                    if before:
                        await rig.roll_out(network(*before), f"before{number}")
                    with pytest.raises(HostRefused) as refused:
                        await rig.roll_out(network(having(XENBR0, TAKEN)), f"r{number}")
                    said = refused.value.refused
                    assert (said.fault, said.subject) == (Fault.ADDRESS_TAKEN, "xenbr0")
                    assert said.message == f"cannot have the address {TAKEN}: another machine has it ({mac})"
                    assert (await rig.observe()).bridges == before
                await until(lambda: FREE in ear.heard())
                assert TAKEN not in ear.heard()

    with_rig(tmp_path, body, backend=backend)


@pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])
def test_an_address_of_ours_moves_and_is_there_after_a_boot_whoever_has_it(
    tmp_path: Path, backend: str
) -> None:
    async def body(rig: Rig) -> None:
        async with cabinet(rig) as machine:
            await rig.roll_out(network(having(XENBR0, FREE), XENBR1), "ours")
            rig.sh("ip", "-n", machine, "addr", "add", f"{FREE}/24", "dev", "br0")
            await rig.roll_out(network(XENBR0, having(XENBR1, FREE)), "moved")
            await rig.kill("hostd")
            rig.sh("ip", "addr", "flush", "dev", "xenbr1")  # as after a boot
            with closing(Ear("eth1")) as ear:
                await rig.start_daemon()
                assert network(XENBR0, having(XENBR1, FREE)).bridges == (await rig.observe()).bridges
                await until(lambda: "another machine has an address of this host" in rig.log("hostd"))
                assert FREE not in ear.heard()

    with_rig(tmp_path, body, backend=backend)
