"""An address is announced unless somebody else has it: all neighbours would send to this host what is for them."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.lab.hostd_rig import Rig, eventually, with_rig
from tests.lab.hostd_states import STATIC, XENBR0, network

pytestmark = pytest.mark.lab

TAKEN, FREE = "10.9.0.2", "10.9.0.7"
ALL_FRAMES, ARP = 0x0003, b"\x08\x06"


def senders(link: socket.socket) -> set[str]:
    """The addresses in whose name ARP was sent until now."""
    found = set()
    try:
        while True:
            frame, (_, _, kind, *_) = link.recvfrom(2048)
            if kind == socket.PACKET_OUTGOING and frame[12:14] == ARP:
                found.add(str(IPv4Address(frame[28:32])))
    except BlockingIOError:
        return found


@pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])
def test_a_taken_address_is_not_announced(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig) -> None:
        cabinet = f"cabinet{time.monotonic_ns()}"
        rig.sh("ip", "netns", "add", cabinet)
        try:
            rig.sh("ip", "link", "set", "sw0", "netns", cabinet)
            rig.sh("ip", "-n", cabinet, "addr", "add", f"{TAKEN}/24", "dev", "sw0")
            rig.sh("ip", "-n", cabinet, "link", "set", "sw0", "up")
            rig.sh("ip", "link", "set", "eth0", "up")
            heard: set[str] = set()

            def announced(address: str) -> bool:
                heard.update(senders(link))
                return address in heard

            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES)) as link:
                link.bind(("eth0", ALL_FRAMES))
                link.setblocking(False)
                for number, address in enumerate((TAKEN, FREE)):
                    ip = replace(STATIC, ipv4_address=f"{address}/24", ipv4_gateway="")
                    await rig.roll_out(network(replace(XENBR0, ip=ip)), f"r{number}")
                    await asyncio.sleep(1.2)  # in which it would be announced twice
                await eventually(lambda: announced(FREE))
                assert TAKEN not in heard
        finally:
            rig.sh("ip", "netns", "del", cabinet)

    with_rig(tmp_path, body, backend=backend)
