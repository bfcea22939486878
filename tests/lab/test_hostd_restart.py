"""Locks outlive the switch, its database, the daemon and people with ovs-ofctl; frames prove it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from poolnet.hostnet.protocol import Counters, Done, ReadCounters, Revert, Stage, Staged, Switch
from poolnet.hostnet.state import Bridge, HostNetwork
from poolnet.pool.hostlink import HostGone
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import INTERNAL, STATIC, VLAN50, XENBR0, ipv4, locked, mac, network, nic, port
from tests.waiting import until

pytestmark = pytest.mark.lab

ALL_FRAMES = 0x0003  # ETH_P_ALL
WAIT_S = 0.25  # for frames that must not come; those that come take less than a hundredth of it


@contextmanager
def wire(interface: str) -> Iterator[socket.socket]:
    """The end of a cable, to send and receive frames."""
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
    try:
        end.bind((interface, 0))
        end.settimeout(WAIT_S)
        yield end
    finally:
        end.close()


def arp(sender_mac: int, sender: int) -> bytes:
    """A broadcast ARP request from one guest's MAC that claims another's address."""
    hardware = bytes.fromhex(mac(sender_mac).replace(":", ""))
    own, target = (bytes(int(part) for part in ipv4(who).split(".")) for who in (sender, 200))
    head = b"\xff" * 6 + hardware + bytes.fromhex("0806 0001 0800 06 04 0001")
    return head + hardware + own + bytes(6) + target


def arrives(frame: bytes, sent_on: str, seen_on: str) -> bool:
    """Does a frame that a guest sends reach the other end?"""
    with wire(sent_on) as out, wire(seen_on) as into:
        out.send(frame)
        try:
            while True:
                if into.recv(2048)[: len(frame)] == frame:
                    return True
        except TimeoutError:
            return False


def add_guests(rig: Rig, *numbers: int) -> None:
    for number in numbers:
        rig.cable(f"vif{number}.0", f"guest{number}")
        rig.sh("ip", "link", "set", f"vif{number}.0", "up")


LOCKED: HostNetwork = network(XENBR0, INTERNAL, port(1, "xenbr0", locked(1)), port(2, "xapi1", locked(2)))


def test_a_locked_guest_speaks_for_itself_only_and_the_counter_tells(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        await rig.roll_out(LOCKED)
        assert arrives(arp(1, 1), "guest1", "sw0")
        assert not arrives(arp(1, 9), "guest1", "sw0")
        counters = await rig.link.request(ReadCounters(devices=("vif1.0",)), Counters)
        assert dict(counters.ports[0].dropped)["arp"] == 1

    with_rig(tmp_path, body)


def test_a_switch_that_is_killed_forwards_nothing_unlocked_and_gets_its_flows_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        await rig.roll_out(LOCKED)
        before = {bridge: sorted(rig.flows(bridge).splitlines()) for bridge in ("xenbr0v", "xapi1")}
        for _ in range(3):
            await rig.kill("ovs-vswitchd")
            with wire("guest1") as out, wire("sw0") as into:
                spoofed, own = arp(1, 9), arp(1, 1)
                await rig.start_switch()
                seen: list[bytes] = []

                def both_sent_and_own_arrived(
                    out: socket.socket = out,
                    into: socket.socket = into,
                    frames: tuple[bytes, bytes] = (spoofed, own),
                    seen: list[bytes] = seen,
                ) -> bool:
                    for frame in frames:
                        out.send(frame)
                    into.settimeout(0.01)
                    try:
                        while True:
                            seen.append(into.recv(2048)[: len(frames[1])])
                    except TimeoutError:
                        return frames[1] in seen

                await until(both_sent_and_own_arrived)
                assert spoofed not in seen  # from the first moment to the last
            after = {bridge: sorted(rig.flows(bridge).splitlines()) for bridge in before}
            assert after == before
        assert rig.sh("ovs-ofctl", "get-frags", "xenbr0v").strip() == "nx-match"
        assert "its flows are installed again" in rig.log("hostd")

    with_rig(tmp_path, body)


def test_without_the_daemon_a_restarted_switch_stays_closed_for_guests_and_open_for_the_host(
    tmp_path: Path,
) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        await rig.roll_out(LOCKED)
        await rig.kill("hostd")
        await rig.kill("ovs-vswitchd")
        await rig.start_switch()
        await until(lambda: os.path.lexists(rig.run_dir / "xenbr0v.mgmt"))
        rig.sh("ip", "link", "set", "xenbr0", "up")
        assert not arrives(arp(1, 1), "guest1", "sw0")
        assert not arrives(arp(1, 9), "guest1", "sw0")
        assert arrives(arp(5, 5), "xenbr0", "sw0")  # management does not depend on flows
        await rig.start_daemon()
        await until(lambda: arrives(arp(1, 1), "guest1", "sw0"))
        assert not arrives(arp(1, 9), "guest1", "sw0")

    with_rig(tmp_path, body)


@pytest.mark.parametrize(
    "tampering",
    [
        ("del-flows", "xenbr0v"),
        ("del-flows", "xenbr0v", "table=11"),
        ("add-flow", "xenbr0v", "table=0,priority=65535,actions=normal"),
        ("mod-flows", "xenbr0v", "table=53,actions=resubmit(,40)"),
    ],
)
def test_flows_that_somebody_alters_are_put_back_within_five_seconds(
    tmp_path: Path, tampering: tuple[str, ...]
) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        await rig.roll_out(LOCKED)
        before = sorted(rig.flows("xenbr0v").splitlines())
        rig.sh("ovs-ofctl", "-O", "OpenFlow14", *tampering)
        assert sorted(rig.flows("xenbr0v").splitlines()) != before
        await until(lambda: sorted(rig.flows("xenbr0v").splitlines()) == before)
        await until(lambda: "put back" in rig.log("hostd"))
        assert not arrives(arp(1, 9), "guest1", "sw0")

    with_rig(tmp_path, body)


def test_our_own_changes_are_nobody_elses(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        for number in range(6):
            await rig.roll_out(LOCKED if number % 2 else network(XENBR0, port(1, "xenbr0")), f"r{number}")
        await until(lambda: rig.log("hostd").count("diff-flows") >= 1)
        assert "somebody else" not in rig.log("hostd")

    with_rig(tmp_path, body)


def test_a_bridge_that_goes_while_the_switch_is_down_leaves_no_interface(tmp_path: Path) -> None:
    """A switch in user space that was killed does not look for it any more, and what is for the hosts behind would go there."""

    async def body(rig: Rig) -> None:
        moved = replace(XENBR0, name="xapi9", ip=STATIC)
        await rig.roll_out(network(moved, management="xapi9"))
        rig.sh("ip", "tuntap", "add", "dev", "theirs", "mode", "tap")
        rig.sh("ip", "address", "add", "10.77.0.1/24", "dev", "theirs")
        await rig.kill("ovs-vswitchd")
        back = asyncio.create_task(
            rig.roll_out(network(replace(XENBR0, ip=STATIC), management="xenbr0"), "r2")
        )
        await until(lambda: "xapi9" not in rig.sh("ovs-vsctl", "list-br").split())
        assert "xapi9" in rig.sh("ip", "-br", "link")
        await rig.start_switch()
        await back
        assert "xapi9" not in rig.sh("ip", "-br", "link")
        assert "xapi9" not in rig.sh("ip", "route")
        assert STATIC.ipv4_address in rig.sh("ip", "-br", "address", "show", "dev", "xenbr0")
        assert "10.77.0.1" in rig.sh("ip", "-br", "address", "show", "dev", "theirs"), "it is somebody else's"

    with_rig(tmp_path, body)


def test_what_a_switch_left_behind_while_the_daemon_was_dead_too_goes_when_that_starts(
    tmp_path: Path,
) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(network(replace(XENBR0, ip=STATIC), management="xenbr0"))
        moved = network(replace(XENBR0, name="xapi9", ip=STATIC), management="xapi9")
        await rig.link.request(Stage(rollout="r2", desired=moved), Staged)
        await rig.link.request(Switch(rollout="r2", confirm_within_s=100.0), Done)
        await rig.kill("ovs-vswitchd")
        back = asyncio.create_task(rig.link.request(Revert(rollout="r2"), Done))
        await until(lambda: "xapi9" not in rig.sh("ovs-vsctl", "list-br").split())
        await rig.kill("hostd")
        with pytest.raises(HostGone):
            await back
        await rig.start_switch()
        assert "xapi9" in rig.sh("ip", "route")
        await rig.start_daemon()
        await until(lambda: "xapi9" not in rig.sh("ip", "-br", "link"))
        await until(lambda: "xenbr0" in rig.sh("ip", "route"))

    with_rig(tmp_path, body)


def test_the_database_server_comes_back_and_work_goes_on(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        await rig.roll_out(LOCKED)
        await rig.kill("ovsdb-server")
        # The userspace datapath forwards nothing at all meanwhile: Open vSwitch polls it in the loop that waits.
        assert not arrives(arp(1, 9), "guest1", "sw0")
        await rig.start_database()
        state = network(*LOCKED.bridges, VLAN50, *LOCKED.ports)
        await until(lambda: "connection to the switch's database is lost" in rig.log("hostd"))
        await rig.roll_out(state, "r2")
        assert (await rig.plan_to(state)).steps == ()
        await until(lambda: arrives(arp(1, 1), "guest1", "sw0"))
        assert not arrives(arp(1, 9), "guest1", "sw0")

    with_rig(tmp_path, body)


def test_the_daemon_comes_back_and_changes_nothing(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        await rig.roll_out(LOCKED)
        before = rig.flows("xenbr0v"), rig.sh("ovs-vsctl", "get", "Interface", "vif1.0", "_uuid", "ofport")
        await rig.kill("hostd")
        assert arrives(arp(1, 1), "guest1", "sw0")
        await rig.start_daemon()
        assert (await rig.plan_to(LOCKED)).steps == ()
        assert (
            rig.flows("xenbr0v"),
            rig.sh("ovs-vsctl", "get", "Interface", "vif1.0", "_uuid", "ofport"),
        ) == before

    with_rig(tmp_path, body)


def test_a_cable_that_is_pulled_is_told_to_those_who_watch(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        await rig.roll_out(network(XENBR0))
        watching = rig.link.watch()
        first = await anext(watching)
        assert [(seen.name, seen.carrier) for seen in first.nics] == [("eth0", True)]
        rig.sh("ip", "link", "set", "sw0", "down")
        changed = await anext(watching)
        assert [(seen.carrier, seen.speed_mbps) for seen in changed.nics] == [(False, 0)]
        rig.sh("ip", "link", "set", "sw0", "up")
        assert (await anext(watching)).nics[0].carrier
        rig.cable("eth1", "sw1")
        while len((await anext(watching)).nics) < 2:
            pass

    with_rig(tmp_path, body)


def test_two_guests_on_one_vlan_ping_each_other_through_the_cabinet_and_others_do_not(tmp_path: Path) -> None:
    """Two namespaces as guests of two bridges, whose uplinks are joined by one cable: as on two hosts."""

    async def body(rig: Rig) -> None:
        rig.sh("ip", "link", "del", "eth0")
        rig.cable("eth0", "eth1")
        bridges = (
            XENBR0,
            VLAN50,
            Bridge(name="xenbr1", uplink=nic("eth1")),
            Bridge(name="xapi9", parent="xenbr1", vlan_tag=50),
        )
        guests: list[asyncio.subprocess.Process] = []
        try:
            for number in (1, 2, 3):
                guests.append(await asyncio.create_subprocess_exec("unshare", "-n", "sleep", "infinity"))
                rig.sh(
                    "ip", "link", "add", f"vif{number}.0", "type", "veth", "peer", "name", f"guest{number}"
                )
                rig.sh("ip", "link", "set", f"vif{number}.0", "up")
                await until(partial(in_own_network, guests[-1].pid))
                rig.sh(
                    "ip",
                    "link",
                    "set",
                    f"guest{number}",
                    "address",
                    mac(number),
                    "netns",
                    str(guests[-1].pid),
                )
                inside(rig, guests[-1], "ip", "link", "set", f"guest{number}", "up")
                inside(rig, guests[-1], "ip", "addr", "add", f"{ipv4(number)}/24", "dev", f"guest{number}")
            state = network(
                *bridges, port(1, "xapi0", locked(1)), port(2, "xapi9", locked(2)), port(3, "xenbr1")
            )
            await rig.roll_out(state)
            assert pings(rig, guests[0], 2)
            assert not pings(rig, guests[2], 1)  # no tag, no way
            await rig.roll_out(network(*bridges, port(1, "xapi0"), port(2, "xenbr1"), port(3, "xapi9")), "r2")
            assert not pings(rig, guests[0], 2)
            assert pings(rig, guests[0], 3)
        finally:
            for guest in guests:
                guest.kill()
                await guest.wait()

    with_rig(tmp_path, body)


def in_own_network(pid: int) -> bool:
    return Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/thread-self/ns/net").readlink()


def inside(rig: Rig, guest: asyncio.subprocess.Process, *argv: str) -> str:
    return rig.sh("nsenter", "--target", str(guest.pid), "--net", *argv)


def pings(rig: Rig, guest: asyncio.subprocess.Process, number: int) -> bool:
    argv = ("nsenter", "--target", str(guest.pid), "--net", "ping", "-c", "1", "-W", "1", ipv4(number))
    return "1 received" in rig.sh(*argv, check=False)


def test_facts_name_what_changed(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        done = await rig.roll_out(network(XENBR0))
        eth0 = done.facts.nics[0]
        assert (eth0.name, eth0.driver, eth0.carrier, eth0.full_duplex) == ("eth0", "veth", True, True)
        assert done.facts.bridges_up == ("xenbr0",)
        assert dict(done.facts.software)["openvswitch"] == "3.1.0"

    with_rig(tmp_path, body)
