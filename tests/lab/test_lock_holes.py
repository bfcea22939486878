"""Thirty holes, planted by hand in the locks of a live switch: `vif-lock-verify` finds each, and nothing where none is.

The host daemon would put them back within seconds: it is not running here, and the backend that proves in its place has
its repairs taken away. What hostd itself notices and repairs is in `test_hostd_apply` and `test_linuxbridge_repairs`.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from poolnet.hostd.backend import Backend
from poolnet.hostd.linuxbridge.backend import LinuxBridgeBackend
from poolnet.hostd.linuxbridge.filters import Filters
from poolnet.hostd.netlink import Netlink
from poolnet.hostd.openvswitch.backend import OpenvswitchBackend
from poolnet.hostd.openvswitch.flows import FlowKeeper
from poolnet.hostnet.diff import diff
from poolnet.hostnet.protocol import LocksVerified
from poolnet.hostnet.state import GuestPort, HostNetwork, LockMode
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import VLAN50, XENBR0, locked, mac, network, port, unlocked

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

HOLED = port(1, "xenbr0", replace(locked(1), ipv6_allowed=("fd00::1", "fd00:1::/64")))
ON_VLAN = port(2, "xapi0", locked(2))
SHUT = port(3, "xenbr0", replace(unlocked(3), mode=LockMode.DISABLED))
GUESTS: Sequence[GuestPort] = (HOLED, ON_VLAN)
PLAIN = port(2, "xenbr0", locked(2))  # for kernels without 802.1Q
WANTED, WANTED_PLAIN = network(XENBR0, VLAN50, *GUESTS), network(XENBR0, HOLED, PLAIN)
FIRST = "in_port=PORT"  # of HOLED
MAC = mac(1)


@dataclass(frozen=True)
class Hole:
    """What somebody does by hand: `ovs-ofctl` words with a flow, `ovs-vsctl` words, or a text for `nft -f`.

    `shown_by` is a class of packets that has to show it; "" for what only the comparison of rules can.
    """

    name: str
    shown_by: str
    ofctl: tuple[str, ...] = ()
    vsctl: tuple[str, ...] = ()
    nft: str = ""
    ip: tuple[str, ...] = ()
    guest: GuestPort = HOLED


def deleted(name: str, shown_by: str, match: str) -> Hole:
    return Hole(name, shown_by, ofctl=("--strict", "del-flows", match))


def added(name: str, shown_by: str, flow: str, guest: GuestPort = HOLED) -> Hole:
    return Hole(name, shown_by, ofctl=("add-flow", flow), guest=guest)


SWITCH_HOLES = (
    # the VM's own traffic is stopped
    deleted("its untagged frames", "L01", f"table=0,priority=100,{FIRST},vlan_tci=0/0x1fff"),
    deleted("its ARP", "L02", f"table=10,priority=100,arp,{FIRST},dl_src={MAC}"),
    deleted("its IPv4 source", "L01", f"table=20,priority=100,ip,{FIRST},nw_src=10.0.0.1"),
    deleted("one IPv6 source", "L11", f"table=20,priority=100,ipv6,{FIRST},ipv6_src=fd00::1"),
    deleted("the way to the switch", "L01", "table=30,priority=0"),
    deleted("DHCP requests", "L07", "table=12,priority=100,udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,tp_src=68,tp_dst=67"),
    # checks that are gone
    deleted("the check of DHCP servers", "A53", "table=12,priority=200,udp,tp_src=67"),
    deleted("the check of router advertisements", "A14", "table=13,priority=310,icmp6,icmp_type=134"),
    deleted("the check of redirects", "A29", "table=13,priority=310,icmp6,icmp_type=137"),
    deleted("the check of DHCPv6 servers", "A54", "table=13,priority=300,udp6,tp_src=547"),
    deleted("the check of fragments", "", "table=13,priority=320,icmp6,nw_frag=yes"),
    added("the tag's check", "A32", f"table=0,priority=100,{FIRST},vlan_tci=0x1000/0x1000,actions=resubmit(,10)"),
    # prefixes that are wider than they were
    added("an IPv4 prefix one bit wider", "A02", f"table=20,priority=100,ip,{FIRST},nw_src=10.0.0.0/31,actions=resubmit(,30)"),
    added("all IPv4 sources", "A02", f"table=20,priority=100,ip,{FIRST},actions=resubmit(,30)"),
    added("an IPv6 prefix one bit wider", "A30", f"table=20,priority=100,ipv6,{FIRST},ipv6_src=fd00:1::/63,actions=resubmit(,30)"),
    added("all link-local sources", "A30", f"table=20,priority=100,ipv6,{FIRST},ipv6_src=fe80::/10,actions=resubmit(,30)"),
    added("ARP for a neighbour", "A05", f"table=11,priority=130,arp,{FIRST},arp_spa=10.0.0.0/31,arp_op=1,actions=resubmit(,30)"),
    added("ARP probes for all", "A09", f"table=11,priority=130,arp,{FIRST},arp_spa=0.0.0.0,actions=resubmit(,30)"),
    added("advertisements for all", "A19", f"table=14,priority=130,icmp6,{FIRST},icmp_type=136,actions=resubmit(,20)"),
    added("detection of all addresses", "A26", f"table=15,priority=130,icmp6,{FIRST},icmp_type=135,actions=resubmit(,30)"),
    # rules on top
    added("any source MAC", "A01", f"table=10,priority=200,ip,{FIRST},actions=resubmit(,12)"),
    added("a rule before all others", "A01", f"table=0,priority=65000,{FIRST},actions=NORMAL"),
    added("a way around the switch", "A04", f"table=0,priority=65000,arp,{FIRST},actions=output:1"),
    added("other protocols", "A37", f"table=10,priority=70,{FIRST},dl_src={MAC},actions=resubmit(,40)"),
    added("a rule for one destination only", "", f"table=0,priority=65000,ip,{FIRST},nw_dst=192.0.2.77,actions=NORMAL"),
    added("a rule for all ports", "", "table=0,priority=60000,udp,tp_dst=4789,actions=NORMAL"),
    deleted("a counter", "", f"table=53,priority=100,{FIRST}"),
    # what is no flow
    Hole("ports of fragments are hidden", "L25", ofctl=("set-frags", "normal")),
    Hole("the fail mode", "A01", vsctl=("set", "Bridge", "xenbr0v", "fail_mode=standalone")),
    Hole("the secure bridge is left", "A01", vsctl=("--", "del-port", "vif1.0", "--", "add-port", "xenbr0", "vif1.0")),
    Hole("the secure bridge is left with all marks", "A01", vsctl=("remove", "Bridge", "xenbr0v", "ports", "ROW", "--", "add", "Bridge", "xenbr0", "ports", "ROW")),
    Hole("the VLAN is left", "", vsctl=("remove", "Port", "vif2.0", "tag", "50"), guest=ON_VLAN),
    Hole("the port is taken out", "L01", vsctl=("del-port", "vif1.0")),
    Hole("a disabled VIF is connected", "", vsctl=("add-port", "xenbr0v", "vif3.0"), guest=SHUT),
)  # fmt: skip
PORTS, HELD = '"vif1.0"', "bridge poolnet"
TABLE_HOLES = (
    Hole("all is open", "A01", nft=f"delete element {HELD} ports {{ {PORTS} }}\nadd element {HELD} ports {{ {PORTS} : goto unlocked }}"),
    Hole("it may send nothing", "L01", nft=f"delete element {HELD} ports {{ {PORTS} }}"),
    Hole("it receives nothing", "", nft=f"delete element {HELD} receivers {{ {PORTS} }}"),
    Hole("only counted", "A05", nft=f"add element {HELD} shadow {{ {PORTS} }}"),
    Hole("another MAC", "A01", nft=f"add element {HELD} macs {{ {PORTS} . 0xaa00000000ee }}"),
    Hole("its own MAC", "L02", nft=f"delete element {HELD} macs {{ {PORTS} . 0x{MAC.replace(':', '')} }}"),
    Hole("one IPv4 address more", "A02", nft=f"add element {HELD} own4 {{ {PORTS} . 0x0a000000 }}"),
    Hole("an IPv4 prefix one bit wider", "A04", nft=f"add element {HELD} own4_ranges {{ {PORTS} . 0x0a000000-0x0a000001 }}"),
    Hole("its IPv4 address", "L02", nft=f"delete element {HELD} own4 {{ {PORTS} . 0x0a000001 }}"),
    Hole("an IPv4 address far away", "", nft=f"add element {HELD} own4 {{ {PORTS} . 0xc000024d }}"),
    Hole("TCP from a neighbour", "A02", nft=f"add element {HELD} plain4 {{ {PORTS} . 0x{MAC.replace(':', '')}0800 . 0x0a000000 }}"),
    Hole("all of IPv4", "L08", nft=f"delete element {HELD} ipv4_ports {{ {PORTS} }}"),
    Hole("all of IPv6", "L12", nft=f"delete element {HELD} ipv6_ports {{ {PORTS} }}"),
    Hole("an IPv6 address of a neighbour", "A30", nft=f"add element {HELD} own6 {{ {PORTS} . 0xfd000000000000000000000000000000 }}"),
    Hole("its IPv6 address", "L12", nft=f"delete element {HELD} own6 {{ {PORTS} . 0xfd000000000000000000000000000001 }}"),
    Hole("an accept for one destination", "", nft=f"insert rule {HELD} ethernet ether daddr 02:00:00:00:00:99 accept"),
    Hole("an accept for all ports", "A01", nft=f"insert rule {HELD} from_port accept"),
    Hole("an accept of router advertisements", "A14", nft=f"insert rule {HELD} icmpv6_0 @nh,320,8 134 accept"),
    Hole("an accept of tags", "A32", nft=f"insert rule {HELD} locked @ll,96,16 0x8100 accept"),
    Hole("no more stop for its ARP", "A04", nft=f"flush chain {HELD} stop_arp"),
    Hole("no more stop for a redirect", "A29", nft=f"flush chain {HELD} stop_redirect"),
    Hole("an accept before a counter", "A36", nft=f"insert rule {HELD} stop_ethertype accept"),
    Hole("a chain without rules", "A26", nft=f"flush chain {HELD} duplicate"),
    Hole("a chain that nobody knows", "", nft=f"add chain {HELD} theirs\nadd rule {HELD} theirs accept"),
    Hole("DHCP servers", "A11", nft=f"flush chain {HELD} stop_dhcp_server"),
    Hole("a set of counters", "", nft=f"add set {HELD} mine {{ type ifname; }}"),
    Hole("an empty table", "A01", nft=f"flush table {HELD}"),
    Hole("no table", "A01", nft=f"delete table {HELD}"),
    Hole("another bridge", "", ip=("link", "set", "vif1.0", "master", "theirs")),
    Hole("no bridge", "", ip=("link", "set", "vif1.0", "nomaster")),
    Hole("a disabled VIF is connected", "", ip=("link", "set", "vif3.0", "master", "xenbr0"), guest=SHUT),
)  # fmt: skip


def found(verified: LocksVerified, guest: GuestPort, shown_by: str) -> list[str]:
    """What was found about one guest, or about all; the class that has to show it must be among it."""
    proof = next(proof for proof in verified.proofs if proof.device == guest.device)
    classes = [wrong.name for wrong in proof.wrong]
    if shown_by and shown_by not in classes and not (shown_by.startswith(("A", "L")) and proof.frames == 0):
        return []
    rules = [rule.text for rule in verified.rules if rule.device in ("", guest.device)]
    return [*classes, *proof.faults, *rules]


def sound(verified: LocksVerified) -> bool:
    """Whether nothing at all was found."""
    return not verified.rules and not any(proof.wrong or proof.faults for proof in verified.proofs)


async def try_holes(
    backend: Backend,
    guests: Sequence[GuestPort],
    holes: Sequence[Hole],
    plant: Callable[[Hole], None],
    repair: Callable[[], Awaitable[None]],
    others: Callable[[Hole], bool],
) -> list[str]:
    """Plants and repairs one hole after the other; the names of those that were not found, and of false alarms."""
    asked = (*guests, SHUT)
    wrong: list[str] = []
    assert sound(await backend.verify(asked, rules=True))
    for hole in holes:
        plant(hole)
        for _ in range(20):  # news of the switch's database and of the kernel's links take some milliseconds
            verified = await backend.verify(asked, rules=True)
            if found(verified, hole.guest, hole.shown_by):
                break
            await asyncio.sleep(0.02)
        else:
            wrong.append(f"not found: {hole.name}: {verified}")
        innocent = [proof for proof in verified.proofs if proof.device != hole.guest.device]
        if others(hole) and any(proof.wrong or proof.faults for proof in innocent):
            wrong.append(f"false alarm: {hole.name}: {innocent}")
        await repair()
        again = await backend.verify(asked, rules=True)
        if not sound(again):
            wrong.append(f"not repaired: {hole.name}: {again}")
    return wrong


async def put_back(backend: Backend, wanted: HostNetwork) -> None:
    """What hostd would do: plan from what is there to what should be."""
    await backend.apply(diff(await backend.observe(), wanted).steps)


def test_thirty_holes_in_a_live_open_vswitch_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def let_be(*_: object) -> None:
        pass

    async def body(rig: Rig) -> None:
        for number in (1, 2, 3):
            rig.cable(f"vif{number}.0", f"guest{number}")
        await rig.roll_out(WANTED)
        await rig.kill("hostd")
        monkeypatch.setattr(FlowKeeper, "mend", let_be)
        work = rig.directory / "work"
        work.mkdir()
        async with Netlink() as netlink:
            backend = OpenvswitchBackend(
                run_dir=rig.run_dir, work_dir=work, datapath_type="netdev", netlink=netlink
            )
            await backend.open(lambda: None)
            flows = backend._keeper
            await flows.ready("xenbr0v")

            def plant(hole: Hole) -> None:
                ofport = rig.sh("ovs-vsctl", "get", "Interface", "vif1.0", "ofport").strip()
                if hole.ofctl:
                    *words, last = hole.ofctl
                    match = last.replace("PORT", ofport)
                    rig.sh("ovs-ofctl", "-O", "OpenFlow14", "--no-names", *words, "xenbr0v", match)
                else:
                    row = rig.sh("ovs-vsctl", "get", "Port", "vif1.0", "_uuid").strip()
                    rig.sh("ovs-vsctl", *(row if word == "ROW" else word for word in hole.vsctl))

            async def repair() -> None:
                rig.sh("ovs-vsctl", "--if-exists", "del-port", "vif3.0")
                await put_back(backend, WANTED)
                rig.sh("ovs-ofctl", "set-frags", "xenbr0v", "nx-match")
                await flows.ready("xenbr0v")
                await flows.install("xenbr0v")

            wrong = await try_holes(
                backend, GUESTS, SWITCH_HOLES, plant, repair, lambda hole: FIRST in str(hole.ofctl)
            )
            await backend.close()
        assert not wrong, "\n".join(wrong)

    with_rig(tmp_path, body)


def test_thirty_holes_in_the_rules_of_linux_bridges_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body(rig: Rig) -> None:
        for number in (1, 2, 3):
            rig.cable(f"vif{number}.0", f"guest{number}")
        rig.sh("ip", "link", "add", "theirs", "type", "bridge")
        await rig.roll_out(WANTED_PLAIN)
        await rig.kill("hostd")
        monkeypatch.setattr(Filters, "_note_foreign_change", lambda _: None)
        async with Netlink() as netlink:
            backend = LinuxBridgeBackend(work_dir=rig.root / "run/poolnet", nics=("eth*",), netlink=netlink)
            await backend.open(lambda: None)

            def plant(hole: Hole) -> None:
                if hole.nft:
                    done = subprocess.run(
                        ("nft", "-f", "-"), input=hole.nft, text=True, capture_output=True, check=False
                    )
                    assert done.returncode == 0, (hole.name, done.stderr)
                else:
                    rig.sh("ip", *hole.ip)

            async def repair() -> None:
                rig.sh("ip", "link", "set", "vif3.0", "nomaster")
                await put_back(backend, WANTED_PLAIN)
                filters = backend._filters
                filters._are_loaded = False
                await filters.load(dict(filters._wanted))

            wrong = await try_holes(
                backend, (HOLED, PLAIN), TABLE_HOLES, plant, repair, lambda hole: PORTS in hole.nft
            )
            await backend.close()
        assert not wrong, "\n".join(wrong)

    with_rig(tmp_path, body, backend="linuxbridge")
