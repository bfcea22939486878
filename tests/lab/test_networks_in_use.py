"""NICs come and go, cables are pulled, VIFs are moved and changed while guests talk: who hears whom, and who hears nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count

import pytest

from poolnet.lock.craft import ethernet, ipv4, udp, with_checksum
from tests.lab import survival, switches
from tests.lab.running import RunningLab, running_lab
from tests.lab.survival import Api, assert_agreed, pinging, sniffing
from tests.lab.wires import Wire
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host with three NICs."""
    with running_lab(hosts=1, nics=3) as one:
        yield one


@pytest.fixture(scope="module")
def api(lab: RunningLab) -> Api:
    """A session, of all tests: passwords are slow to compare."""
    return Api(lab, "host1")


@dataclass
class Guest:
    """A running VM with one VIF."""

    name: str
    vm: str
    vif: str


@contextmanager
def guests(lab: RunningLab, api: Api, *where: tuple[str, str, str]) -> Iterator[list[Guest]]:
    """Running VMs, each with a name, on a network, with an address (and prefix length)."""
    made = []
    for name, network, address in where:
        vm = api.vm(name)
        made.append(Guest(name, vm, api.vif(vm, network)))
        api.call("VM.start", vm, False, False)
        lab.guest(name, "ip", "address", "add", address, "dev", "eth0")
    assert_agreed(lab, "host1", api)
    yield made
    assert_agreed(lab, "host1", api)
    for guest in made:
        api.call("VM.hard_shutdown", guest.vm)
        for vif in api.call("VM.get_VIFs", guest.vm):
            api.call("VIF.destroy", vif)
        api.call("VM.destroy", guest.vm)
    assert_agreed(lab, "host1", api)


def test_the_host_answers_for_an_address_on_one_nic_only(lab: RunningLab) -> None:
    """All NICs are in one segment, as in many a rack."""
    address = lab.lab.host("host1").address
    said = lab.run("switch", "arping", "-c", "3", "-w", "3", "-I", "switch0", address, check=False)
    answers = {line.split("[")[1].split("]")[0] for line in said.splitlines() if "reply from" in line}
    assert {answer.lower() for answer in answers} == {lab.lab.host("host1").nics[0].mac}


def test_a_nic_that_is_put_in_is_found_by_a_scan(lab: RunningLab, api: Api) -> None:
    host = api.ref("host", hostname="host1")
    survival.poolnet(lab, "nic-add", "host1", "eth3")
    api.call("PIF.scan", host)
    pif = api.ref("PIF", device="eth3")
    api.call("PIF.plug", pif)
    network = api.call("PIF.get_network", pif)
    with guests(lab, api, ("scanned", network, "10.7.0.1/24")):
        lab.run("switch", "ip", "address", "add", "10.7.0.254/24", "dev", "switch0")
        eventually(lambda: lab.pings("scanned", "10.7.0.254"), "the NIC works")
        survival.poolnet(lab, "nic-remove", "host1", "eth3")
        assert not lab.pings("scanned", "10.7.0.254")
        survival.poolnet(lab, "nic-add", "host1", "eth3")
        eventually(lambda: lab.pings("scanned", "10.7.0.254"), "the NIC works again")
        lab.run("switch", "ip", "address", "del", "10.7.0.254/24", "dev", "switch0")
    survival.poolnet(lab, "nic-remove", "host1", "eth3")
    api.call("PIF.forget", pif)
    assert_agreed(lab, "host1", api)


def test_a_nic_is_unplugged_forgotten_and_introduced_again(lab: RunningLab, api: Api) -> None:
    host = api.ref("host", hostname="host1")
    pif = api.ref("PIF", device="eth2", VLAN="-1")
    mac, bridge = (
        api.call("PIF.get_MAC", pif),
        api.call("network.get_bridge", api.call("PIF.get_network", pif)),
    )
    static = ("Static", "10.8.0.1", "255.255.255.0", "", "")
    lab.run("switch", "ip", "address", "add", "10.8.0.254/24", "dev", "switch0")

    def answers() -> bool:
        words = ("ping", "-n", "-c", "2", "-i", "0.2", "-W", "1", "10.8.0.1")
        return " 0% packet loss" in lab.run("switch", *words, check=False)

    api.call("PIF.reconfigure_ip", pif, *static)
    api.call("PIF.plug", pif)
    eventually(answers, "it is plugged")
    api.call("PIF.unplug", pif)
    assert not answers()
    assert bridge not in switches.bridges(lab, "host1")
    api.call("PIF.plug", pif)
    eventually(answers, "it is plugged again")
    api.call("PIF.unplug", pif)
    api.call("PIF.forget", pif)
    assert not [record for record in api.records("PIF").values() if record["device"] == "eth2"]
    pif = api.call("PIF.introduce", host, mac, "eth2", True)
    api.call("PIF.reconfigure_ip", pif, *static)
    api.call("PIF.plug", pif)
    eventually(answers, "it is introduced")
    api.call("PIF.reconfigure_ip", pif, "None", "", "", "", "")
    assert not answers()
    lab.run("switch", "ip", "address", "del", "10.8.0.254/24", "dev", "switch0")


def test_a_pulled_cable_is_an_event(lab: RunningLab, api: Api) -> None:
    metrics = api.call("PIF.get_metrics", api.ref("PIF", device="eth2", VLAN="-1"))
    assert api.call("PIF_metrics.get_carrier", metrics)
    token = api.call("event.from", [f"pif_metrics/{metrics}"], "", 0.0)["token"]
    for state, carrier in (("down", False), ("up", True)):
        survival.poolnet(lab, "link", "host1", "eth2", state)
        while True:
            batch = api.call("event.from", [f"pif_metrics/{metrics}"], token, 2.0 * PATIENCE)
            token = batch["token"]
            assert batch["events"], f"nothing comes when the cable is {state}"
            snapshot = batch["events"][-1]["snapshot"]
            if snapshot["carrier"] is carrier:
                break
        assert (snapshot["speed"] != "0") is carrier


def passes(lab: RunningLab, vm: str, address: str) -> bool:
    """Whether a frame of 9000 bytes is answered."""
    words = ("ping", "-n", "-c", "1", "-W", "2", "-M", "do", "-s", "8972", address)
    return " 0% packet loss" in lab.guest(vm, *words, check=False)


def test_a_network_of_large_frames(lab: RunningLab, api: Api) -> None:
    jumbo = api.network("jumbo", mtu=9000)
    with guests(lab, api, ("jumbo1", jumbo, "10.6.0.1/24"), ("jumbo2", jumbo, "10.6.0.2/24")) as (one, _):
        domid = api.call("VM.get_domid", one.vm)
        assert " mtu 9000 " in lab.run("host1", "ip", "link", "show", f"vif{domid}.0")
        assert " mtu 9000 " in lab.run("host1", "ip", "link", "show", api.call("network.get_bridge", jumbo))
        eventually(lambda: passes(lab, "jumbo1", "10.6.0.2"), "large frames pass")
    outside = api.call("PIF.get_network", api.ref("PIF", device="eth2", VLAN="-1"))
    pif = api.ref("PIF", device="eth2", VLAN="-1")
    api.call("PIF.unplug", pif)
    api.call("network.set_MTU", outside, "9000")
    api.call("PIF.plug", pif)
    assert api.call("PIF.get_MTU", pif) == "9000"
    for device in ("eth2", api.call("network.get_bridge", outside)):
        assert " mtu 9000 " in lab.run("host1", "ip", "link", "show", device)
    with guests(lab, api, ("big1", outside, "10.6.1.1/24"), ("big2", outside, "10.6.1.2/24")):
        eventually(lambda: passes(lab, "big1", "10.6.1.2"), "large frames pass on the NIC's network")
    api.call("PIF.unplug", pif)
    api.call("network.set_MTU", outside, "1500")
    api.call("PIF.plug", pif)
    assert " mtu 1500 " in lab.run("host1", "ip", "link", "show", "eth2")


def test_a_vif_is_unplugged_plugged_and_moved_while_it_is_pinged(lab: RunningLab, api: Api) -> None:
    here, there = api.network("here"), api.network("there")
    where = (("mover", here, "10.5.0.1/24"), ("stays", here, "10.5.0.2/24"), ("waits", there, "10.5.0.3/24"))
    with guests(lab, api, *where) as (mover, _stays, waits):
        with pinging(lab, "stays", "10.5.0.1"):
            api.call("VIF.unplug", mover.vif)
            assert not lab.pings("stays", "10.5.0.1")
            api.call("VIF.plug", mover.vif)
            lab.guest("mover", "ip", "address", "add", "10.5.0.1/24", "dev", "eth0")
            eventually(lambda: lab.pings("stays", "10.5.0.1"), "it is plugged again")
            api.call("VIF.move", mover.vif, there)
            eventually(lambda: lab.pings("waits", "10.5.0.1"), "it is moved")
            assert not lab.pings("stays", "10.5.0.1")
            api.call("VIF.move", mover.vif, here)
            eventually(lambda: lab.pings("stays", "10.5.0.1"), "it is back")
            assert not lab.pings("waits", "10.5.0.1")
        assert api.call("VIF.get_currently_attached", waits.vif)


def test_vlans_of_one_uplink_do_not_see_each_other(lab: RunningLab, api: Api) -> None:
    pif = api.ref("PIF", device="eth1", VLAN="-1")
    plain = api.call("PIF.get_network", pif)
    networks = {tag: api.network(f"vlan {tag}") for tag in (10, 20)}
    vlans = [api.call("VLAN.create", pif, str(tag), network) for tag, network in networks.items()]
    where = (
        ("ten", networks[10], "10.4.0.1/24"),
        ("ten too", networks[10], "10.4.0.2/24"),
        ("twenty", networks[20], "10.4.0.3/24"),
        ("untagged", plain, "10.4.0.4/24"),
    )
    with guests(lab, api, *where):
        with (
            sniffing(survival.in_guest(lab, "twenty"), "eth0", "arp host 10.4.0.1") as other_vlan,
            sniffing(survival.in_guest(lab, "untagged"), "eth0", "arp host 10.4.0.1 and not vlan") as no_vlan,
            sniffing(survival.on_switch(lab), "host1-eth1", "vlan 10 and arp") as outside,
        ):
            eventually(lambda: lab.pings("ten", "10.4.0.2"), "guests of one VLAN hear each other")
            assert not lab.pings("ten", "10.4.0.3")
            assert not lab.pings("ten", "10.4.0.4")
        assert not other_vlan
        assert not no_vlan  # a guest of the untagged network hears all VLANs, but each with its tag
        assert outside
    for vlan in vlans:
        api.call("VLAN.destroy", vlan)
    assert_agreed(lab, "host1", api)


ASK_TAGGED = """
import socket, sys
from poolnet.lock.craft import arp, ethernet
from ipaddress import IPv4Address
mac = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
request = arp(1, (mac, IPv4Address("10.4.1.1")), (bytes(6), IPv4Address(sys.argv[1])))
frame = ethernet(bytes([255] * 6), mac, 0x0806, request)
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
    out.bind(("eth0", 0))
    out.send(frame[:12] + bytes((0x81, 0, 0, 30)) + frame[12:])
"""


def test_a_trunk_and_a_guest_of_the_vlan_on_the_same_host_hear_each_other(lab: RunningLab, api: Api) -> None:
    """This machine's kernel has no 802.1Q for guests: the trunk's frames are made by hand."""
    pif = api.ref("PIF", device="eth1", VLAN="-1")
    network = api.network("vlan 30")
    vlan = api.call("VLAN.create", pif, "30", network)
    plain = api.call("PIF.get_network", pif)
    where = (("trunk", plain, "10.4.2.1/24"), ("plain", network, "10.4.1.2/24"))
    with guests(lab, api, *where) as (trunk, _):

        def replies() -> list[str]:
            """What comes back to the trunk with the VLAN's tag."""
            inside = survival.in_guest(lab, "trunk")
            with sniffing(inside, "eth0", "inbound and vlan 30 and arp") as heard:
                for _ in range(3):
                    lab.guest("trunk", sys.executable, "-c", ASK_TAGGED, "10.4.1.2")
            return [line for line in heard if "Reply 10.4.1.2" in line]

        api.call("VIF.set_trunks", trunk.vif, ["29", "30"])
        eventually(lambda: bool(replies()), "the trunk hears the guest")
        api.call("VIF.set_trunks", trunk.vif, ["29"])
        assert not replies()
        api.call("VIF.set_trunks", trunk.vif, [])
    api.call("VLAN.destroy", vlan)


def test_a_disabled_vif_is_deaf_and_dumb(lab: RunningLab, api: Api) -> None:
    network = api.network("silence")
    where = (("mute", network, "10.3.0.1/24"), ("talker", network, "10.3.0.2/24"))
    with guests(lab, api, *where) as (mute, _talker):
        eventually(lambda: lab.pings("talker", "10.3.0.1"), "they hear each other")
        api.call("VIF.set_locking_mode", mute.vif, "disabled")
        with (
            sniffing(survival.in_guest(lab, "mute"), "eth0", "inbound") as heard,
            sniffing(survival.in_guest(lab, "talker"), "eth0", "inbound") as said,
        ):
            lab.guest("talker", "ip", "neigh", "flush", "all")
            lab.guest("mute", "ip", "neigh", "flush", "all")
            assert not lab.pings("talker", "10.3.0.1")
            assert not lab.pings("mute", "10.3.0.2")
        assert (heard, said) == ([], [])
        api.call("VIF.set_locking_mode", mute.vif, "network_default")
        eventually(lambda: lab.pings("talker", "10.3.0.1"), "it is heard again")


def test_a_network_may_disable_its_vifs_by_default(lab: RunningLab, api: Api) -> None:
    network = api.network("strict")
    api.call("network.set_default_locking_mode", network, "disabled")
    where = (("closed1", network, "10.2.0.1/24"), ("closed2", network, "10.2.0.2/24"))
    with guests(lab, api, *where) as made:
        assert not lab.pings("closed1", "10.2.0.2")
        for guest in made:
            api.call("VIF.set_locking_mode", guest.vif, "unlocked")
        eventually(lambda: lab.pings("closed1", "10.2.0.2"), "both are open")
        api.call("VIF.set_locking_mode", made[1].vif, "network_default")
        assert not lab.pings("closed1", "10.2.0.2")
    api.call("network.set_default_locking_mode", network, "unlocked")


GROUP = IPv4Address("239.1.2.3")
JOIN = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
    membership = socket.inet_aton(sys.argv[1]) + socket.inet_aton(sys.argv[2])
    member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    print("joined", flush=True)
    while True:
        member.recv(1)
"""


def multicast(number: int, to: IPv4Address = GROUP) -> bytes:
    """A datagram from outside to a group."""
    source, mac = IPv4Address("10.12.0.254"), bytes.fromhex("02000000fe01")
    group_mac = b"\x01\x00\x5e" + bytes((to.packed[1] & 0x7F, *to.packed[2:]))
    return ethernet(group_mac, mac, 0x0800, ipv4(source, to, 17, udp(9, 9, f"{number:010}".encode())))


def query() -> bytes:
    """An IGMP query (version 2) of a router outside, which wants the answers within 0.1 s."""
    source, all_hosts = IPv4Address("10.12.0.254"), IPv4Address("224.0.0.1")
    message = with_checksum(bytes((0x11, 1)) + bytes(6), at=2)
    return ethernet(
        bytes.fromhex("01005e000001"),
        bytes.fromhex("02000000fe01"),
        0x0800,
        ipv4(source, all_hosts, 2, message),
    )


def test_with_igmp_snooping_a_multicast_goes_to_its_members_alone(lab: RunningLab, api: Api) -> None:
    pool, pif = api.ref("pool"), api.ref("PIF", device="eth1", VLAN="-1")
    network = api.call("PIF.get_network", pif)
    where = (("member", network, "10.12.0.1/24"), ("stranger", network, "10.12.0.2/24"))
    numbers = count()
    with ExitStack() as stack:
        stack.enter_context(guests(lab, api, *where))
        outside = stack.enter_context(closing(Wire(survival.on_switch(lab), "host1-eth1")))
        ears = {
            name: stack.enter_context(closing(Wire(survival.in_guest(lab, name), "eth0")))
            for name, _, _ in where
        }

        def hear() -> set[str]:
            """Who hears a frame to the group, when all have heard a later one to everybody."""
            letter, last = (
                multicast(next(numbers)),
                multicast(next(numbers), to=IPv4Address("224.0.0.99")),  # which is never snooped
            )
            outside.send(letter)
            heard: dict[str, set[bytes]] = {name: set() for name in ears}

            def all_came() -> bool:
                outside.send(last)
                for name, wire in ears.items():
                    heard[name].update(wire.heard())
                return all(last in frames for frames in heard.values())

            eventually(all_came, "everybody hears what is for everybody")
            return {name for name, frames in heard.items() if letter in frames}

        eventually(lambda: hear() == {"member", "stranger"}, "all hear all")
        api.call("pool.set_igmp_snooping_enabled", pool, True)
        stack.callback(api.call, "pool.set_igmp_snooping_enabled", pool, False)
        assert api.call("PIF.get_igmp_snooping_status", pif) == "enabled"
        inside = (*survival.in_guest(lab, "member"), sys.executable, "-c", JOIN, str(GROUP), "10.12.0.1")
        member = stack.enter_context(survival.running(inside))
        assert member.stdout is not None
        assert member.stdout.readline() == "joined\n"
        eventually(lambda: "member" in hear(), "a member hears it, whether or not anybody asks for members")
        outside.send(query())
        eventually(lambda: hear() == {"member"}, "nobody else hears it")
        lab.guest("member", "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6")
        lab.guest("member", "ip", "address", "add", "fd12::1/64", "dev", "eth0")
        lab.run("switch", "ip", "address", "add", "fd12::fe/64", "dev", "switch0")
        stack.callback(lab.run, "switch", "ip", "address", "del", "fd12::fe/64", "dev", "switch0")
        words = ("ping", "-6", "-n", "-c", "1", "-W", "1", "fd12::1")
        eventually(
            lambda: " 0% packet loss" in lab.run("switch", *words, check=False), "its neighbours find it"
        )
        api.call("pool.set_igmp_snooping_enabled", pool, False)
        eventually(lambda: hear() == {"member", "stranger"}, "all hear all again")
