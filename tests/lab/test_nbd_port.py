"""The NBD port is open on the bridges of networks with that purpose and closed on others, shown with segments."""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from struct import pack

import pytest

from poolnet.hostnet.state import EVERYWHERE, Bridge, HostNetwork, IpConfig, Ipv4Mode
from poolnet.lab import datapath
from poolnet.lock.craft import ethernet, ipv4, with_checksum
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import network, nic
from tests.lab.running import RunningLab
from tests.lab.scratch_switch import raw_socket
from tests.waiting import until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]

NBD, TCP, ICMP = 10809, 6, 1
SYN_ACK, RST_ACK = 0x12, 0x14
PEER_MAC = bytes.fromhex("020000000099")
PUT_BACK = "the host is not as it was confirmed, and is put back"  # what the daemon logs
USERS_TABLE = (
    "add table inet users_own; add chain inet users_own input { type filter hook input priority 0; }"
)


def with_address(number: int) -> Bridge:
    ip = IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address=f"10.9.{number}.1/24")
    return Bridge(
        name=f"xenbr{number}", uplink=nic(f"eth{number}"), mac=f"02:00:00:00:00:0{number + 1}", ip=ip
    )


BOTH = network(with_address(0), with_address(1))


def tcp_segment(source: IPv4Address, destination: IPv4Address, ports: tuple[int, int]) -> bytes:
    """A SYN with a right checksum."""
    head = pack("!HHIIHHHH", *ports, 1, 0, 0x5002, 64240, 0, 0)
    pseudo = source.packed + destination.packed + pack("!HH", TCP, len(head))
    return with_checksum(pseudo + head, at=len(pseudo) + 16)[len(pseudo) :]


class Cabinet:
    """The far ends of the host's cables, where somebody knocks at its ports."""

    def __init__(self, rig: Rig, stack: ExitStack) -> None:
        self._rig = rig
        self._sources = count(40000)
        self._links = [stack.enter_context(raw_socket(f"sw{number}")) for number in (0, 1)]
        server = stack.enter_context(socket.socket())
        server.bind(("0.0.0.0", NBD))
        server.listen()

    def answers(self, number: int, port: int = NBD) -> list[int]:
        """The TCP flags of what the host answers to a SYN on this bridge; an echo tells that there is no more."""
        self._rig.sh(
            "ip", "neigh", "replace", f"10.9.{number}.2", "lladdr", PEER_MAC.hex(":"), "dev", f"xenbr{number}"
        )
        here, host = IPv4Address(f"10.9.{number}.2"), IPv4Address(f"10.9.{number}.1")
        mac = bytes.fromhex(with_address(number).mac.replace(":", ""))
        source = next(self._sources)
        echo = with_checksum(pack("!BBHHH", 8, 0, 0, source, 1), at=2)
        link = self._links[number]
        for packet in (
            ipv4(here, host, TCP, tcp_segment(here, host, (source, port))),
            ipv4(here, host, ICMP, echo),
        ):
            link.send(ethernet(mac, PEER_MAC, 0x0800, packet))
        flags: list[int] = []
        while True:
            frame = link.recv(2000)
            if frame[12:14] != b"\x08\x00" or frame[26:30] != host.packed:
                continue
            if frame[23] == ICMP and frame[34] == 0 and int.from_bytes(frame[38:40]) == source:
                return flags
            if frame[23] == TCP and int.from_bytes(frame[36:38]) == source:
                flags.append(frame[47])


def in_a_cabinet(
    directory: Path, body: Callable[[Rig, Cabinet], Awaitable[None]], backend: str = "openvswitch"
) -> None:
    async def run(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        rig.sh("nft", USERS_TABLE)
        with ExitStack() as stack:
            await body(rig, Cabinet(rig, stack))
        assert "users_own" in rig.sh("nft", "list", "tables")

    with_rig(directory, run, backend=backend, datapath_type=datapath.possible())


def with_nbd(*bridges: str) -> HostNetwork:
    return replace(BOTH, nbd_bridges=bridges)


@pytest.mark.parametrize("backend", ["openvswitch", "linuxbridge"])
def test_the_port_is_open_exactly_where_it_should_be(tmp_path: Path, backend: str) -> None:
    async def body(rig: Rig, cabinet: Cabinet) -> None:
        for bridges, answers in (
            ((), ([], [])),
            (("xenbr0",), ([SYN_ACK], [])),
            (("xenbr1",), ([], [SYN_ACK])),
            (("xenbr0", "xenbr1"), ([SYN_ACK], [SYN_ACK])),
            ((), ([], [])),
        ):
            await rig.roll_out(with_nbd(*bridges))
            assert (await rig.observe()).nbd_bridges == bridges
            assert (cabinet.answers(0), cabinet.answers(1)) == answers
            assert cabinet.answers(0, port=NBD + 1) == [RST_ACK]  # other ports are not our business
        with socket.create_connection(("127.0.0.1", NBD)):
            pass  # always open for the host itself

    in_a_cabinet(tmp_path, body, backend)


def test_a_filter_that_somebody_flushed_or_changed_is_put_back(tmp_path: Path) -> None:
    async def body(rig: Rig, cabinet: Cabinet) -> None:
        await rig.roll_out(with_nbd("xenbr0"))
        table = rig.sh("nft", "-s", "list", "table", "inet", "poolnet")
        for harm in (
            "flush chain inet poolnet services",
            "delete table inet poolnet",
            "add element inet poolnet nbd_bridges { xenbr1 }",
            "flush set inet poolnet nbd_bridges",
            "insert rule inet poolnet services accept",
        ):
            noticed = rig.log("hostd").count(PUT_BACK)
            rig.sh("nft", harm)
            await until(lambda before=noticed: rig.log("hostd").count(PUT_BACK) > before)  # type: ignore[misc]
            await until(lambda: rig.sh("nft", "-s", "list", "table", "inet", "poolnet", check=False) == table)
            assert (cabinet.answers(0), cabinet.answers(1)) == ([SYN_ACK], [])

    in_a_cabinet(tmp_path, body)


def test_the_port_stays_as_it_is_while_the_daemon_is_away_and_is_restored_at_boot(tmp_path: Path) -> None:
    async def body(rig: Rig, cabinet: Cabinet) -> None:
        await rig.roll_out(with_nbd("xenbr1"))
        await rig.kill("hostd")
        assert (cabinet.answers(0), cabinet.answers(1)) == ([], [SYN_ACK])
        rig.sh("nft", "delete table inet poolnet")  # as after a boot
        await rig.start_daemon()
        assert (await rig.observe()).nbd_bridges == ("xenbr1",)
        assert (cabinet.answers(0), cabinet.answers(1)) == ([], [SYN_ACK])
        assert EVERYWHERE not in rig.log("hostd")

    in_a_cabinet(tmp_path, body)


def test_the_purpose_of_a_network_opens_the_port_on_its_bridge(lab: RunningLab) -> None:
    """From the command line to a connection of the neighbour's, and what the plan says of it."""
    nic1 = [lab.xe(host, "pif-list", "device=eth1", "VLAN=-1", "--minimal") for host in ("host1", "host2")]
    for number, (host, pif) in enumerate(zip(("host1", "host2"), nic1, strict=True), 1):
        lab.xe(
            host,
            "pif-reconfigure-ip",
            f"uuid={pif}",
            "mode=static",
            f"IP=10.77.0.{number}",
            "netmask=255.255.255.0",
        )
    network = lab.xe("host1", "pif-param-get", f"uuid={nic1[0]}", "param-name=network-uuid")
    lab.run("host1", "bash", "-c", f"{sys.executable} -m http.server {NBD} >/dev/null 2>&1 &")
    lab.run("host1", "bash", "-c", f"until (</dev/tcp/127.0.0.1/{NBD}) 2>/dev/null; do sleep 0.05; done")

    def reached(seconds: int) -> bool:
        words = ("timeout", str(seconds), "bash", "-c", f"</dev/tcp/10.77.0.1/{NBD} && echo reached")
        return "reached" in lab.run("host2", *words, check=False)

    purpose = ("param-name=purpose", "param-key=nbd")
    assert not reached(1)
    plan = lab.xe("host1", "network-param-add", f"uuid={network}", *purpose, "--dry-run")
    assert "open the NBD port on bridges: none -> xenbr1\n  disturbs: none" in plan
    lab.xe("host1", "network-param-add", f"uuid={network}", *purpose)
    assert lab.xe("host1", "network-param-get", f"uuid={network}", "param-name=purpose") == "nbd"
    assert reached(20)
    lab.xe("host1", "network-param-remove", f"uuid={network}", *purpose)
    assert not reached(1)
    for host, pif in zip(("host1", "host2"), nic1, strict=True):
        lab.xe(host, "pif-reconfigure-ip", f"uuid={pif}", "mode=none")
