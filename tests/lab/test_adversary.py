"""An attacker in a guest, with frames that scapy made, and everybody who must not hear them: 0 leaks, 0 wrong drops.

For each backend and each locking mode, set through the API. The victim, a bystander, the host itself and the cable to the
outside are listened to; what a lock stops is counted by the switch as well, so that nothing can be late.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from poolnet.hostnet.state import LockMode, PortLock
from poolnet.lock.openflow import port_cookie
from poolnet.lock.policy import allows
from tests.lab import survival
from tests.lab.attacks import BROADCAST, Sent, everything, never_forwarded
from tests.lab.stage import (
    ATTACKER,
    BACKENDS,
    BYSTANDER,
    HOST,
    OUTSIDE,
    QUIET_S,
    VICTIM,
    WITH_VLANS,
    Stage,
    datagram,
    staged,
)
from tests.waiting import eventually

pytestmark = pytest.mark.lab

# What a switch without any rules does not deliver as it is, besides what no bridge forwards, by its kind. Open vSwitch keeps
# CDP and PVST+ to itself (`forward-bpdu`), and takes the outer tag from the last one. To vswitchd, the kernel's key of MPLS
# without a bottom of its stack is none ("MPLS LSEs have invalid length 0"), and it drops the frame.
KEPT_BY_OPEN_VSWITCH = {"CDP", "PVST+", "tag 0 and tag 20"}
KEPT_BY = {
    "": set[str](),
    "netdev": KEPT_BY_OPEN_VSWITCH,
    "system": {*KEPT_BY_OPEN_VSWITCH, "EtherType 0x8847", "EtherType 0x8848"},
}
# From the guest's own address, and discarded by every receiver: Open vSwitch's datapath in the kernel takes them for whole
# packets, and does with them what it has kept for those (docs/user/locks.md).
LIKE_WHOLE_ONES_TO_THE_KERNEL = {"longer than it is", "longer than it is 6", "headers cut off in the middle"}


@pytest.fixture(scope="module", params=BACKENDS)
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    with staged(request.param) as one:
        yield one


@pytest.fixture
def frames(stage: Stage) -> tuple[Sent, ...]:
    return everything(stage.me, stage.victim)


def leaks(found: dict[str, dict[str, int]], frames: tuple[Sent, ...]) -> dict[str, set[str]]:
    """Who has heard what nobody should."""
    bad = {sent.name for sent in frames if not sent.passes}
    return {place: bad & heard.keys() for place, heard in found.items() if bad & heard.keys()}


def test_without_a_lock_all_of_it_arrives(stage: Stage, frames: tuple[Sent, ...]) -> None:
    """The positive control: what a lock stops is not stopped by anything else, and we hear it.

    All of it is what a switch of the same kind without rules delivers, which is measured here and now.
    """
    kept = stage.kept_by_a_raw_switch(frames)
    assert kept <= {sent.name for sent in frames if never_forwarded(sent)} | KEPT_BY[stage.datapath_type]
    stage.lock("unlocked")
    stage.learns_who_is_where()
    found = stage.attack(frames, lambda sent: sent.name not in kept)
    everywhere = set().union(*(heard for heard in found.values()))
    assert {sent.name for sent in frames} - everywhere == kept
    assert len(frames) > 400


def against_a_lock(stage: Stage, frames: tuple[Sent, ...]) -> tuple[Sent, ...]:
    """The frames of which it can be said what becomes of them, whatever the switch has been told before."""
    if stage.datapath_type != "system":
        return frames
    return tuple(sent for sent in frames if sent.name not in LIKE_WHOLE_ONES_TO_THE_KERNEL)


def check_a_lock(stage: Stage, frames: tuple[Sent, ...]) -> None:
    """No attack is heard by anybody, every honest frame once by the victim, and all attacks are counted."""
    frames = against_a_lock(stage, frames)
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    before = stage.dropped()
    stage.learns_who_is_where()
    found = stage.attack(frames, lambda sent: sent.passes)
    assert leaks(found, frames) == {}
    assert {name: count for name, count in found[VICTIM].items() if count != 1} == {}
    assert found[VICTIM].keys() == {sent.name for sent in frames if sent.passes}
    attacks = [sent for sent in frames if not sent.passes]
    lock = PortLock(
        mode=LockMode.LOCKED, mac=stage.me.mac, ipv4_allowed=(stage.me.ip,), ipv6_allowed=(stage.me.ip6,)
    )
    surely = Counter(str(allows(lock, sent.frame).reason) for sent in attacks if not never_forwarded(sent))

    def counted() -> Counter[str]:
        found = stage.dropped()
        found.subtract(before)
        return found

    with suppress(AssertionError):  # what it lacks is shown below
        eventually(lambda: counted().total() >= surely.total(), "all attacks are counted")
    assert counted().total() >= surely.total(), surely - counted()
    assert counted().total() <= len(attacks)  # some that no bridge would forward come that far
    if stage.datapath_type == "netdev":  # the others read some not to their end, and count them elsewhere
        assert counted() & surely == surely
    assert leaks(stage.attack((), lambda _: False), frames) == {}
    print(
        f"{stage.backend}: {len(attacks)} attacks, 0 leaks; {len(frames) - len(attacks)} honest frames, 0 lost"
    )


def test_a_lock_stops_every_attack_and_nothing_else(stage: Stage, frames: tuple[Sent, ...]) -> None:
    check_a_lock(stage, frames)


@pytest.mark.parametrize("backend", WITH_VLANS)
def test_a_lock_stops_every_attack_and_nothing_else_in_a_vlan(backend: str) -> None:
    with staged(backend, tag=10) as stage:
        check_a_lock(stage, everything(stage.me, stage.victim))


def test_a_stopped_frame_moves_nobody(stage: Stage, frames: tuple[Sent, ...]) -> None:
    """The attacker has just sent with the victim's MAC address: the victim's frames go to the victim alone."""
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    stage.learns_who_is_where()
    stage.attack(tuple(sent for sent in frames if "victim's source MAC" in sent.name), lambda _: False)
    letter = datagram(stage.bystander, stage.victim.mac, b"for the victim")
    stage.wires[BYSTANDER].send(letter)
    heard: list[bytes] = []

    def has_come() -> bool:
        heard.extend(stage.wires[VICTIM].heard())
        return letter in heard

    eventually(has_come, "the victim gets its frame")
    assert letter not in set(stage.wires[ATTACKER].heard())


@pytest.mark.parametrize("mode", ["disabled", "network_default"])
def test_disabled_is_deaf_and_dumb(stage: Stage, frames: tuple[Sent, ...], mode: str) -> None:
    stage.lock(mode)
    letters = [
        datagram(stage.bystander, to, b"to a disabled one")
        for to in (BROADCAST, stage.me.mac, "01:00:5e:00:00:01")
    ]
    found = stage.attack(frames, lambda _: False)
    assert {place: heard for place, heard in found.items() if heard} == {}
    letters += [sent.frame for sent in everything(stage.bystander, stage.me)]
    for letter in letters:
        stage.wires[BYSTANDER].send(letter)
        stage.wires[OUTSIDE].send(letter)
    last = datagram(stage.bystander, BROADCAST, b"the end")
    heard: set[bytes] = set()

    def has_come() -> bool:
        stage.wires[BYSTANDER].send(last)
        heard.update(stage.wires[VICTIM].heard())
        return last in heard

    eventually(has_come, "others hear the bystander")
    assert list(stage.wires[ATTACKER].heard()) == []


@pytest.mark.parametrize(
    ("families", "passing"), [((), 0), ((4,), 4), ((6,), 6)], ids=["no address", "IPv4 alone", "IPv6 alone"]
)
def test_a_family_without_addresses_is_stopped_whole(
    stage: Stage, frames: tuple[Sent, ...], families: tuple[int, ...], passing: int
) -> None:
    stage.lock("locked", (stage.me.ip,) if 4 in families else (), (stage.me.ip6,) if 6 in families else ())
    stage.learns_who_is_where()
    frames = against_a_lock(stage, frames)

    def may_pass(sent: Sent) -> bool:
        is_ipv6 = sent.frame[12:14] == b"\x86\xdd"
        return sent.passes and passing == (6 if is_ipv6 else 4)

    found = stage.attack(frames, may_pass)
    heard = set().union(*found.values())
    assert heard == {sent.name for sent in frames if may_pass(sent)}


def test_tags_do_not_reach_a_locked_guest(stage: Stage) -> None:
    ip = IP(src=stage.bystander.ip, dst=stage.me.ip) / UDP(sport=9, dport=9)
    tagged = [
        bytes(Ether(src=stage.bystander.mac, dst=to) / tag / ip).ljust(60, b".")
        for to in (BROADCAST, stage.me.mac)
        for tag in (Dot1Q(vlan=10), Dot1Q(vlan=20), Dot1AD(vlan=10), Dot1Q(vlan=10) / Dot1Q(vlan=20))
    ]
    untagged = datagram(stage.bystander, BROADCAST, b"untagged")

    def hears(expected: set[bytes]) -> set[bytes]:
        for source in (BYSTANDER, OUTSIDE):
            for frame in (*tagged, untagged):
                stage.wires[source].send(frame)
        heard: set[bytes] = set()

        def all_came() -> bool:
            heard.update(stage.wires[ATTACKER].heard())
            return heard >= expected

        eventually(all_came, "the guest hears what it may")
        time.sleep(QUIET_S)
        all_came()
        return heard

    stage.lock("unlocked")
    assert hears({*tagged, untagged}) >= {*tagged, untagged}
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    assert hears({untagged}) & {*tagged, untagged} == {untagged}


def test_a_real_kernel_in_a_locked_guest_is_not_hindered(stage: Stage) -> None:
    """Duplicate address detection, MLD, neighbour discovery, ARP, and pings that need fragments."""
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    before = stage.dropped()
    lab, guests = stage.lab, ((ATTACKER, stage.me), (BYSTANDER, stage.bystander))
    for name, party in guests:
        wake = f"""
        ip link set eth0 arp on
        ip address add {party.ip}/24 dev eth0
        echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6
        ip address add {party.ip6}/64 dev eth0
        """
        lab.guest(name, "sh", "-e", "-c", wake)
    try:
        for name, _ in guests:
            settled = lambda name=name: "tentative" not in lab.guest(name, "ip", "-6", "address")  # noqa: E731 - shorter than a function
            eventually(settled, "no address is a duplicate")
        assert "dadfailed" not in lab.guest(ATTACKER, "ip", "-6", "address")
        for target in (stage.bystander.ip, stage.bystander.ip6):
            eventually(lambda target=target: lab.pings(ATTACKER, target), f"{target} answers")  # type: ignore[misc]
            lab.guest(ATTACKER, "ping", "-c", "1", "-W", "5", "-s", "4000", target)
            lab.guest(
                BYSTANDER,
                "ping",
                "-c",
                "1",
                "-W",
                "5",
                "-s",
                "4000",
                stage.me.ip6 if ":" in target else stage.me.ip,
            )
        lab.guest(ATTACKER, "ping", "-c", "1", "-W", "5", f"{stage.bystander.local}%eth0")
        time.sleep(QUIET_S)
        assert stage.dropped() == before
    finally:
        for name, _ in guests:
            lab.guest(
                name,
                "sh",
                "-c",
                "ip address flush dev eth0; echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
            )


def test_a_change_of_one_lock_programs_its_own_flows_only(stage: Stage) -> None:
    if stage.backend != "openvswitch":
        return  # there the transactions themselves are compared: tests/golden/nft
    lab = stage.lab
    stage.lock("locked", (stage.me.ip,), (stage.me.ip6,))
    cookie = f"cookie={port_cookie(stage.ofport):#x}"
    words = ("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "monitor", stage.switch_bridge, "watch:!initial")
    with survival.running((*survival.on_host(lab, HOST), *words), stderr=subprocess.STDOUT) as monitor:
        assert monitor.stdout is not None
        monitored = [monitor.stdout.readline()]  # it has begun
        stage.api.call("VIF.add_ipv4_allowed", stage.vif, "10.9.0.99")
        stage.api.call("VIF.set_ipv6_allowed", stage.vif, ["fd09::99"])
        while not any("fd09::99" in line for line in monitored):
            monitored.append(monitor.stdout.readline())
    events = [line for line in monitored if "event=" in line]
    assert len(events) > 20
    assert [line for line in events if cookie not in line] == []
