"""The daemon makes states real on a real switch, changes them in place, and removes them without a trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from poolnet.hostnet.match import mismatches
from poolnet.hostnet.protocol import (
    Counters,
    Fault,
    Greeting,
    Hello,
    ReadCounters,
    Stage,
    Staged,
    Traced,
    TracePacket,
)
from poolnet.hostnet.show import network_hash
from poolnet.hostnet.state import (
    EMPTY,
    BondMode,
    BondOptions,
    HostNetwork,
    IpConfig,
    Ipv4Mode,
    Ipv6Mode,
    LinkSettings,
    LockMode,
)
from poolnet.hostnet.steps import ReplaceLock, ReplaceUplink
from poolnet.pool.hostlink import HostRefused
from tests.lab.hostd_rig import Rig, with_rig
from tests.lab.hostd_states import (
    BOND0,
    EVERYTHING,
    INTERNAL,
    NETWORK_UUID,
    VLAN50,
    VLAN_UUID,
    XENBR0,
    ipv4,
    locked,
    mac,
    network,
    nic,
    port,
    unlocked,
)
from tests.waiting import until

pytestmark = pytest.mark.lab


def add_guests(rig: Rig, *numbers: int) -> None:
    """The host ends of guests' NICs, as the guest runtime makes them; the other ends are in namespaces of theirs."""
    for number in numbers:
        rig.cable(f"vif{number}.0", f"guest{number}")
        rig.sh("ip", "link", "set", f"vif{number}.0", "up")


def links(rig: Rig) -> set[str]:
    return {line.split()[0].split("@")[0] for line in rig.sh("ip", "-br", "link").splitlines()}


def test_everything_is_made_observed_and_removed_without_a_trace(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2, 3, 4)
        before = links(rig)
        await rig.roll_out(EVERYTHING)
        assert mismatches(await rig.observe(), EVERYTHING) == ()
        assert (await rig.plan_to(EVERYTHING)).steps == ()  # twice changes nothing
        greeting = await rig.link.request(Hello(), Greeting)
        assert greeting.confirmed == network_hash(EVERYTHING)
        await rig.roll_out(EMPTY, "r2")
        assert await rig.observe() == EMPTY
        assert links(rig) - {"ovs-netdev"} == before
        assert rig.sh("ovs-vsctl", "list-br") == ""

    with_rig(tmp_path, body)


def test_the_switch_has_what_the_reference_has(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2, 3, 4)
        await rig.roll_out(EVERYTHING)

        def get(table: str, name: str, column: str) -> str:
            return rig.sh("ovs-vsctl", "get", table, name, column).strip().strip('"')

        assert rig.sh("ovs-vsctl", "br-to-parent", "xapi0").strip() == "xenbr0"
        assert rig.sh("ovs-vsctl", "br-to-vlan", "xapi0").strip() == "50"
        assert rig.sh("ovs-vsctl", "br-get-external-id", "xapi0", "xs-network-uuids").strip() == (
            f"{VLAN_UUID};{NETWORK_UUID}"
        )
        assert get("Bridge", "xenbr0", "external_ids:xs-network-uuids") == NETWORK_UUID
        assert get("Bridge", "xenbr0", "fail_mode") == "standalone"
        assert get("Bridge", "xenbr0", "other_config:mac-table-size") == "10000"
        assert get("Bridge", "xenbr0v", "fail_mode") == get("Bridge", "xapi1", "fail_mode") == "secure"
        assert get("Interface", "vif1.0", "external_ids:attached-mac") == mac(1)
        assert get("Interface", "vif1.0", "external_ids:xs-network-uuid") == NETWORK_UUID
        assert int(get("Interface", "vif1.0", "ofport")) >= 32768
        assert get("Port", "vif2.0", "tag") == "50"
        assert get("Port", "vif3.0", "trunks") == "[4095]"  # disabled: dead
        assert get("Port", "vif4.0", "trunks") == "[7, 9]"
        assert "10.9.0.2/24" in rig.sh("ip", "-br", "addr", "show", "xenbr0")
        assert "default via 10.9.0.1 dev xenbr0" in rig.sh("ip", "route")
        names = ("xenbr0", "xapi0", "xapi1")
        await until(lambda: all("UP" in rig.sh("ip", "link", "show", name).split(">")[0] for name in names))
        assert " mtu 1400 " in rig.sh("ip", "link", "show", "xapi1")

    with_rig(tmp_path, body)


CHAIN: tuple[HostNetwork, ...] = (
    network(XENBR0, port(1, "xenbr0")),
    network(XENBR0, VLAN50, port(1, "xenbr0", locked(1))),
    network(XENBR0, VLAN50, port(1, "xapi0", locked(1))),  # moved
    network(XENBR0, VLAN50, INTERNAL, replace(port(1, "xapi1", locked(1, "10.0.0.9")), mtu_bytes=1400)),
    network(replace(XENBR0, uplink=BOND0), VLAN50, INTERNAL, port(1, "xapi1"), management="xenbr0"),
    network(replace(XENBR0, uplink=nic("eth1"), mtu_bytes=9000, igmp_snooping=True), management="xenbr0"),
    network(replace(XENBR0, uplink=None, ip=IpConfig(ipv4_mode=Ipv4Mode.STATIC, ipv4_address="10.8.0.1/24"))),
    network(replace(XENBR0, fail_mode_secure=True), replace(VLAN50, vlan_tag=51), port(1, "xapi0")),
    network(
        replace(VLAN50, name="xenbr0", parent="xapi0"), replace(XENBR0, name="xapi0")
    ),  # names change places
    network(INTERNAL, port(1, "xapi1", replace(unlocked(1), mode=LockMode.DISABLED))),
)


def test_from_every_state_to_the_next_and_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        add_guests(rig, 1)
        states = [*CHAIN, *reversed(CHAIN[:-1]), EMPTY]
        for number, state in enumerate(states):
            await rig.roll_out(state, f"r{number}")
            assert mismatches(await rig.observe(), state) == (), number
            assert (await rig.plan_to(state)).steps == (), number

    with_rig(tmp_path, body)


def test_a_lock_that_changes_leaves_the_port_alone(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1)
        await rig.roll_out(network(INTERNAL, port(1, "xapi1")))
        row = rig.sh("ovs-vsctl", "get", "Interface", "vif1.0", "_uuid", "ofport")
        state = network(INTERNAL, port(1, "xapi1", locked(1)))
        assert [type(step) for step in (await rig.plan_to(state)).steps] == [ReplaceLock]
        await rig.roll_out(state, "r2")
        assert rig.sh("ovs-vsctl", "get", "Interface", "vif1.0", "_uuid", "ofport") == row
        assert f"arp_spa={ipv4(1)}" in rig.flows("xapi1")

    with_rig(tmp_path, body)


def test_a_port_number_is_not_used_again_at_once(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1, 2)
        used: set[str] = set()
        for number in range(6):
            guests = [port(1 + number % 2, "xapi1")]
            await rig.roll_out(network(INTERNAL, *guests), f"r{number}")
            used.add(rig.sh("ovs-vsctl", "get", "Interface", guests[0].device, "ofport").strip())
        assert len(used) == 6
        assert rig.flows("xapi1").count("cookie=0x7e01") == 1  # those of ports that went are gone, too

    with_rig(tmp_path, body)


@pytest.mark.parametrize("mode", list(BondMode))
def test_a_bond_takes_the_place_of_a_nic_while_the_bridge_stays(tmp_path: Path, mode: BondMode) -> None:
    async def body(rig: Rig) -> None:
        rig.cable("eth1", "sw1")
        await rig.roll_out(network(XENBR0, VLAN50))
        row = rig.sh("ovs-vsctl", "get", "Bridge", "xenbr0", "_uuid")
        options = BondOptions(mode=mode, updelay_ms=0, properties=(("lacp-aggregation-key", "17"),))
        bond = replace(BOND0, bond=options)
        state = network(replace(XENBR0, uplink=bond), VLAN50)
        assert [type(step) for step in (await rig.plan_to(state)).steps] == [ReplaceUplink]
        done = await rig.roll_out(state, "r2")
        assert rig.sh("ovs-vsctl", "get", "Bridge", "xenbr0", "_uuid") == row
        expected = {"lacp": ("balance-tcp", "active")}.get(mode.value, (mode.value, "off"))
        assert rig.sh("ovs-vsctl", "get", "Port", "bond0", "bond_mode", "lacp").split() == list(expected)
        assert done.facts.bonds[0].members == ("eth0", "eth1")
        assert (await rig.observe()).bridges[1].uplink == bond

    with_rig(tmp_path, body)


def test_what_is_not_ours_is_listed_and_never_touched(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1)
        rig.cable("other0", "other1")
        rig.sh("ovs-vsctl", "add-br", "theirs", "--", "set", "Bridge", "theirs", "datapath_type=netdev")
        await rig.roll_out(network(XENBR0, VLAN50, port(1, "xapi0")))
        rig.sh("ovs-vsctl", "add-port", "xenbr0", "other0")
        rig.sh("ovs-vsctl", "set", "Bridge", "xenbr0", "other_config:theirs=1", "external_ids:theirs=2")
        observed = await rig.observe()
        assert observed.foreign == ("theirs", "xenbr0/other0")
        await rig.roll_out(network(replace(XENBR0, mac="02:00:00:00:00:77", igmp_snooping=True)), "r2")
        assert "other0" in rig.sh("ovs-vsctl", "list-ports", "xenbr0")
        assert "theirs=" in rig.sh("ovs-vsctl", "get", "Bridge", "xenbr0", "other_config")
        assert "theirs=" in rig.sh("ovs-vsctl", "get", "Bridge", "xenbr0", "external_ids")
        await rig.roll_out(EMPTY, "r3")
        assert rig.sh("ovs-vsctl", "list-br").split() == ["theirs"]

    with_rig(tmp_path, body)


def test_a_nic_gives_its_addresses_up_and_gets_them_back(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        rig.sh("ip", "link", "set", "eth0", "up")
        rig.sh("ip", "addr", "add", "10.7.0.5/24", "dev", "eth0")
        rig.sh("ip", "route", "add", "default", "via", "10.7.0.1")
        await rig.roll_out(network(XENBR0))
        assert "10.7.0.5" not in rig.sh("ip", "addr")
        await rig.roll_out(EMPTY, "r2")
        assert "10.7.0.5/24" in rig.sh("ip", "-br", "addr", "show", "eth0")
        assert "default via 10.7.0.1 dev eth0" in rig.sh("ip", "route")

    with_rig(tmp_path, body)


def test_addresses_routes_and_dns_change_one_by_one(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        resolv_conf = rig.root / "etc/resolv.conf"
        one = IpConfig(
            ipv4_mode=Ipv4Mode.STATIC,
            ipv4_address="10.9.0.2/24",
            ipv4_gateway="10.9.0.1",
            dns_servers=("10.9.0.53",),
            dns_search=("example.org",),
            routes=("10.50.0.0/16 via 10.9.0.9", "10.60.0.0/16 via 10.9.0.9"),
        )
        await rig.roll_out(network(replace(XENBR0, ip=one)))
        assert resolv_conf.read_text() == "search example.org\nnameserver 10.9.0.53\n"
        assert "10.60.0.0/16 via 10.9.0.9" in rig.sh("ip", "route")
        two = replace(one, ipv4_address="10.9.0.3/24", routes=one.routes[:1], dns_servers=("10.9.0.54",))
        await rig.roll_out(network(replace(XENBR0, ip=two)), "r2")
        routes = rig.sh("ip", "route")
        assert "10.50.0.0/16 via 10.9.0.9" in routes
        assert "10.60.0.0/16" not in routes  # the reference never removes them
        assert "default via 10.9.0.1" in routes
        assert rig.sh("ip", "-4", "-br", "addr", "show", "xenbr0").split()[2:] == ["10.9.0.3/24"]
        assert "nameserver 10.9.0.54" in resolv_conf.read_text()
        await rig.roll_out(network(XENBR0), "r3")
        assert "10.9.0." not in rig.sh("ip", "addr")

    with_rig(tmp_path, body)


def test_a_bridge_with_another_mac_keeps_its_addresses_and_routes(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        ip = IpConfig(
            ipv4_mode=Ipv4Mode.STATIC,
            ipv4_address="10.9.0.2/24",
            ipv4_gateway="10.9.0.1",
            ipv6_mode=Ipv6Mode.STATIC,
            ipv6_addresses=("fd00:9::2/64",),
            ipv6_gateway="fd00:9::1",
            routes=("10.50.0.0/16 via 10.9.0.9",),
        )
        await rig.roll_out(network(replace(XENBR0, ip=ip)))
        await rig.roll_out(network(replace(XENBR0, ip=ip, mac="02:00:00:00:00:77")), "r2")
        assert "02:00:00:00:00:77" in rig.sh("ip", "link", "show", "xenbr0")
        routes = rig.sh("ip", "route") + rig.sh("ip", "-6", "route")
        for wanted in ("default via 10.9.0.1", "10.50.0.0/16 via 10.9.0.9", "default via fd00:9::1"):
            assert wanted in routes

    with_rig(tmp_path, body)


def test_a_dry_run_changes_nothing_and_remembers_nothing(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        plan = await rig.plan_to(network(XENBR0))
        assert plan.steps
        assert await rig.observe() == EMPTY
        assert rig.sh("ovs-vsctl", "list-br") == ""

    with_rig(tmp_path, body)


@pytest.mark.parametrize(
    ("state", "fault", "subject"),
    [
        (network(replace(XENBR0, uplink=nic("eth7"))), Fault.NO_DEVICE, "eth7"),
        (network(replace(XENBR0, uplink=nic("sw0"))), Fault.NO_DEVICE, "sw0"),  # not one we were given
        (network(VLAN50), Fault.MALFORMED, ""),  # its parent is missing
        (
            network(replace(XENBR0, ip=IpConfig(ipv6_mode=Ipv6Mode.STATIC, ipv6_addresses=("nonsense",)))),
            Fault.MALFORMED,
            "",
        ),
        (
            replace(network(XENBR0), links=(LinkSettings(name="lo", values=(("gso", "off"),)),)),
            Fault.NO_DEVICE,
            "lo",
        ),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_staged(
    tmp_path: Path, state: HostNetwork, fault: Fault, subject: str
) -> None:
    async def body(rig: Rig) -> None:
        with pytest.raises(HostRefused) as refused:
            await rig.link.request(Stage(rollout="r", desired=state), Staged)
        assert (refused.value.refused.fault, refused.value.refused.subject) == (fault, subject)

    with_rig(tmp_path, body)


def test_the_trace_and_the_counters_tell_what_a_lock_does(tmp_path: Path) -> None:
    async def body(rig: Rig) -> None:
        add_guests(rig, 1)
        await rig.roll_out(network(INTERNAL, port(1, "xapi1", locked(1))))
        own, spoofed = ("ff" * 6 + mac(1).replace(":", "") + "0806" + arp(1, sender) for sender in (1, 2))
        assert (await rig.link.request(TracePacket(device="vif1.0", frame_hex=own), Traced)).forwarded
        traced = await rig.link.request(TracePacket(device="vif1.0", frame_hex=spoofed), Traced)
        assert not traced.forwarded
        assert "priority" in traced.text
        with pytest.raises(HostRefused) as refused:
            await rig.link.request(TracePacket(device="vif9.0", frame_hex=own), Traced)
        assert refused.value.refused.fault is Fault.NO_DEVICE
        counters = await rig.link.request(ReadCounters(devices=("vif1.0",)), Counters)
        assert dict(counters.ports[0].dropped)["arp"] == 0

    with_rig(tmp_path, body)


def arp(number: int, sender: int) -> str:
    """An ARP request by the guest of that number for another one's address."""
    addresses = (bytes(int(part) for part in ipv4(who).split(".")).hex() for who in (sender, 200))
    own, target = addresses
    return "0001080006040001" + mac(number).replace(":", "") + own + "00" * 6 + target
