"""An attacker in a guest, a victim and a bystander in others, and whoever else could hear: the host, and the outside."""

from __future__ import annotations

import json
import os
import re
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from poolnet.lock import nft_counters
from poolnet.lock.openflow import port_cookie, reason_at
from tests.lab import survival
from tests.lab.attacks import BROADCAST, Party, Sent
from tests.lab.running import BACKEND, RunningLab, running_lab
from tests.lab.survival import Api
from tests.lab.wires import Wire
from tests.waiting import PATIENCE, eventually

# On another kernel its own backend alone.
BACKENDS = (BACKEND,) if "POOLNET_LAB_BACKEND" in os.environ else ("openvswitch", "linuxbridge")
# Linux bridges need the kernel's 802.1Q devices for VLANs, which may be on that kernel alone.
WITH_VLANS = tuple(one for one in BACKENDS if one == "openvswitch" or "POOLNET_LAB_BACKEND" in os.environ)
HOST, ATTACKER, VICTIM, BYSTANDER, OUTSIDE = "host1", "attacker", "victim", "bystander", "outside"
# So long nobody may hear anything before we take it that nothing more comes: a slow machine is not slow to forward.
QUIET_S = 0.5 * min(PATIENCE, 2.0)
_COUNTED = re.compile(r" table=(\d+), n_packets=(\d+),")
BATCH, PACE_S = 20, 0.02
RAW, RAW_PORTS = "raw0", ("raw1", "raw2", "raw3")  # a switch without rules, made by hand
SHORTLY_S = 0.03  # so long a frame's arrival is waited for before the next one is sent


@dataclass
class Stage:
    """A lab with the three guests on one network, whose VIFs are disabled by default, and all ears."""

    backend: str
    lab: RunningLab
    api: Api
    wires: dict[str, Wire]
    vif: str
    me: Party
    victim: Party
    bystander: Party
    device: str
    tag: int

    def lock(self, mode: str, ipv4: tuple[str, ...] = (), ipv6: tuple[str, ...] = ()) -> None:
        """Set the attacker's lock through the API, and let Open vSwitch decide anew on what it has cached."""
        self.api.call("VIF.set_ipv4_allowed", self.vif, list(ipv4))
        self.api.call("VIF.set_ipv6_allowed", self.vif, list(ipv6))
        self.api.call("VIF.set_locking_mode", self.vif, mode)
        if self.backend == "openvswitch":
            self.lab.run(HOST, "ovs-appctl", "revalidator/wait")
        self.heard()

    def heard(self) -> dict[str, list[bytes]]:
        """What everybody has heard since the last time."""
        heard = {place: list(wire.heard()) for place, wire in self.wires.items()}
        if self.tag:  # which is the network's own there
            tag = struct.pack("!HH", 0x8100, self.tag)
            heard[OUTSIDE] = [
                frame[:12] + frame[16:] if frame[12:16] == tag else frame for frame in heard[OUTSIDE]
            ]
        return heard

    def attack(self, frames: tuple[Sent, ...], awaited: Callable[[Sent], bool]) -> dict[str, dict[str, int]]:
        """Send these frames, some at a time; who heard which, and how often. Waits until what is awaited was heard."""
        found: dict[str, dict[str, int]] = {place: {} for place in self.wires}
        names = {sent.frame: sent.name for sent in frames}

        def listen() -> int:
            count = 0
            for place, arrived in self.heard().items():
                for frame in arrived:
                    if frame in names:
                        count += 1
                        found[place][names[frame]] = found[place].get(names[frame], 0) + 1
            return count

        def has_come(sent: Sent) -> bool:
            listen()
            return any(sent.name in heard for heard in found.values())

        for start in range(0, len(frames), BATCH):
            batch = frames[start : start + BATCH]
            for sent in batch:
                self.wires[ATTACKER].send(sent.frame)
            if not any(map(awaited, batch)):
                time.sleep(PACE_S * PATIENCE)  # there is nothing to wait for, and a switch's queues are short
            for sent in filter(awaited, batch):
                eventually(lambda sent=sent: has_come(sent), f"{sent.name} arrives")  # type: ignore[misc]
        silence = time.monotonic()
        while time.monotonic() - silence < QUIET_S:
            if listen():
                silence = time.monotonic()
            time.sleep(0.02)
        return found

    def kept_by_a_raw_switch(self, frames: tuple[Sent, ...]) -> set[str]:
        """Which of these frames does nobody hear behind a switch of the same kind without any rules, on the same host?

        One after the other, from a port like the attacker's to one that the switch has learnt the victim's address at, and
        to one that it has not.
        """
        with ExitStack() as stack:
            self._make_raw_switch(stack)
            attacker, *others = (
                stack.enter_context(closing(Wire(survival.on_host(self.lab, HOST), f"far-{port}")))
                for port in RAW_PORTS
            )
            for wire, party in zip(others, (self.victim, self.bystander), strict=True):
                wire.send(datagram(party, BROADCAST, b"here"))
            late = {sent.frame for sent in frames if not _arrives(sent.frame, attacker, others)}
            time.sleep(QUIET_S)
            for wire in others:
                late.difference_update(wire.heard())
            return {sent.name for sent in frames if sent.frame in late}

    def _make_raw_switch(self, stack: ExitStack) -> None:
        def run(*words: str) -> None:
            self.lab.run(HOST, *words)

        on_open_vswitch = self.backend == "openvswitch"
        if on_open_vswitch:
            kind = f"datapath_type={self.datapath_type}"
            run("ovs-vsctl", "add-br", RAW, "--", "set", "bridge", RAW, kind)
            stack.callback(run, "ovs-vsctl", "del-br", RAW)
        else:
            run("ip", "link", "add", RAW, "type", "bridge", "mcast_snooping", "0")
            stack.callback(run, "ip", "link", "del", RAW)
        for port in RAW_PORTS:
            run("ip", "link", "add", port, "type", "veth", "peer", "name", f"far-{port}")
            stack.callback(run, "ip", "link", "del", port)
            if on_open_vswitch:
                run("ovs-vsctl", "add-port", RAW, port)
            else:
                run("ip", "link", "set", port, "master", RAW)
        for device in (RAW, *RAW_PORTS, *(f"far-{port}" for port in RAW_PORTS)):
            run("sh", "-c", f"echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6")
            run("ip", "link", "set", device, "arp", "off", "up")
        if not on_open_vswitch:  # its ports forward a little later
            eventually(lambda: self._forwarding() == len(RAW_PORTS), "the ports of the raw switch forward")

    def _forwarding(self) -> int:
        links = json.loads(self.lab.run(HOST, "bridge", "-j", "link", "show"))
        return sum(link["ifname"] in RAW_PORTS and link["state"] == "forwarding" for link in links)

    def dropped(self) -> Counter[str]:
        """How many of the attacker's frames its lock has stopped, by reason, as the switch counts them."""
        if self.backend == "linuxbridge":
            text = self.lab.run(HOST, "nft", "-j", "list", "table", "bridge", "poolnet")
            stopped = nft_counters.stopped(json.loads(text), [self.device])[self.device]
            return +Counter({reason.value: count for reason, count in stopped.items()})
        words = ("ovs-ofctl", "-O", "OpenFlow14", "--no-names", "dump-flows", self.switch_bridge)
        dump = self.lab.run(HOST, *words, f"cookie={port_cookie(self.ofport):#x}/-1")
        found: Counter[str] = Counter()
        for table, packets in _COUNTED.findall(dump):
            if (reason := reason_at(int(table))) is not None:
                found[reason.value] += int(packets)
        return +found

    @property
    def switch_bridge(self) -> str:
        """The bridge of Open vSwitch that the attacker is on."""
        return self.lab.run(HOST, "ovs-vsctl", "port-to-br", self.device).strip()

    @property
    def datapath_type(self) -> str:
        """That of Open vSwitch, and "" with another backend."""
        if self.backend != "openvswitch":
            return ""
        return self.lab.run(HOST, "ovs-vsctl", "get", "Bridge", self.switch_bridge, "datapath_type").strip()

    @property
    def ofport(self) -> int:
        """The number of the attacker's port there."""
        return int(self.lab.run(HOST, "ovs-vsctl", "get", "Interface", self.device, "ofport"))

    def learns_who_is_where(self) -> None:
        """Let the switch hear everybody, and the network know where the victim is."""
        for place, party in ((VICTIM, self.victim), (BYSTANDER, self.bystander)):
            self.wires[place].send(datagram(party, BROADCAST, b"here"))


def _arrives(frame: bytes, source: Wire, ears: list[Wire]) -> bool:
    """Whether anybody hears it soon; what else they hear is forgotten."""
    source.send(frame)
    deadline = time.monotonic() + SHORTLY_S * PATIENCE
    while time.monotonic() < deadline:
        if any(frame in tuple(wire.heard()) for wire in ears):
            return True
        time.sleep(0.001)
    return False


def datagram(party: Party, to: str, words: bytes) -> bytes:
    return bytes(
        Ether(src=party.mac, dst=to) / IP(src=party.ip, dst="10.9.0.255") / UDP(sport=9, dport=9) / words
    ).ljust(60, b".")


def _party(api: Api, vif: str, number: int) -> Party:
    return Party(api.call("VIF.get_MAC", vif), f"10.9.0.{number}", f"fd09::{number}")


@contextmanager
def staged(backend: str, tag: int = 0) -> Iterator[Stage]:
    """A running stage, gone afterwards; on the network of a NIC, or of a VLAN on it."""
    with running_lab(hosts=1, backend=backend) as lab, ExitStack() as stack:
        api = Api(lab, HOST)
        pif = api.ref("PIF", device="eth1", VLAN="-1")
        network = api.call("PIF.get_network", pif)
        if tag:
            network = api.network(f"VLAN {tag}")
            api.call("VLAN.create", pif, str(tag), network)
        api.call("network.set_default_locking_mode", network, "disabled")
        vifs = {}
        for name in (ATTACKER, VICTIM, BYSTANDER):
            vm = api.vm(name)
            vifs[name] = api.vif(vm, network)
            api.call("VIF.set_locking_mode", vifs[name], "unlocked")
            api.call("VM.start", vm, False, False)
            # The guest's own kernel keeps silent.
            silence = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set eth0 arp off"
            lab.guest(name, "sh", "-c", silence)
        # Or the host's own IP filters look at bridged frames too: they cut off padding, and drop what is malformed.
        for path in lab.run(HOST, "sh", "-c", "ls -d /proc/sys/net/bridge/bridge-nf-call-* || true").split():
            lab.run(HOST, "sh", "-c", f"echo 0 >{path}")
        bridge = api.call("network.get_bridge", network)
        ends = [(name, survival.in_guest(lab, name), "eth0") for name in vifs]
        ends += [
            (HOST, survival.on_host(lab, HOST), bridge),
            (OUTSIDE, survival.on_switch(lab), f"{HOST}-eth1"),
        ]
        wires = {}
        for place, entering, interface in ends:
            wires[place] = Wire(entering, interface)
            stack.callback(wires[place].close)
        me, victim, bystander = (_party(api, vif, number) for number, vif in enumerate(vifs.values(), 1))
        domid = api.call("VM.get_domid", api.ref("VM", name_label=ATTACKER))
        device = f"vif{domid}.0"
        yield Stage(backend, lab, api, wires, vifs[ATTACKER], me, victim, bystander, device, tag)
