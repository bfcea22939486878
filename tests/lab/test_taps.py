"""What is heard at a guest's port once a counter has moved: the frame that was stopped, and none that was let through."""

from __future__ import annotations

import subprocess
from ipaddress import IPv4Address

import pytest

from poolnet.hostd.taps import Taps
from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.craft import ethernet, ipv4, udp
from poolnet.lock.reasons import DropReason
from tests.lab.own_network import run_in_own_network
from tests.lab.scratch_switch import raw_socket
from tests.waiting import until

pytestmark = pytest.mark.lab

LOCK = PortLock(mode=LockMode.LOCKED, mac="02:00:00:00:00:01", ipv4_allowed=("10.0.0.1",))
LARGE = bytes(9000)  # as of a jumbo frame, or of a segment that the guest has left to be cut


def frame(source: str) -> bytes:
    packet = ipv4(IPv4Address(source), IPv4Address("10.0.0.2"), 17, udp(1, 2, LARGE))
    return ethernet(b"\xff" * 6, bytes.fromhex("020000000001"), 0x0800, packet)


def lay_a_cable() -> None:
    link = ("ip", "link")
    ends = ("vif1.0", "mtu", "9500", "type", "veth", "peer", "name", "guest", "mtu", "9500")
    for words in (("add", *ends), ("set", "vif1.0", "up"), ("set", "guest", "up")):
        subprocess.run((*link, *words), check=True)


def test_a_large_frame_is_read_to_its_end_and_only_the_foreign_one_named() -> None:
    async def body() -> None:
        lay_a_cable()
        taps = Taps()
        taps.listen("vif1.0", LOCK, (DropReason.IPV4_SOURCE,))

        def is_heard() -> bool:
            guest.send(frame("10.0.0.1"))
            guest.send(frame("10.0.0.9"))
            return DropReason.IPV4_SOURCE in taps.seen("vif1.0")

        with raw_socket("guest") as guest:
            await until(is_heard)
        assert taps.seen("vif1.0")[DropReason.IPV4_SOURCE] == frame("10.0.0.9")
        taps.close_all()

    run_in_own_network(body)
