"""Bonds under traffic: every mode made by xe, cables pulled and restored, all that a NIC carries moved and moved back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from poolnet.lab import life
from tests.lab import switches
from tests.lab.running import RunningLab, lab_to_share
from tests.lab.trains import Capture, Train, in_guest, on_machine
from tests.waiting import PATIENCE, eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

HOST = "host1"
MODES = ("balance-slb", "active-backup", "lacp")
GATEWAY, BOND_IP = "10.66.0.254", "10.66.0.1"
TAG, VLAN_GATEWAY = "20", "10.67.0.254"
# At 10 ms: 200 ms of waiting for the link to come back, and a machine that is busy. `make bench` says what is lost exactly.
FAILOVER_LOST_MAX = int(150 * PATIENCE)
SWITCHED_LOST_MAX = int(150 * PATIENCE)
NO_PARTNER_LOST_MAX = int(800 * PATIENCE)  # LACP gives up after three seconds
UNTOUCHED_LOST_MAX = 5


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """One host with four NICs, and two more networks on the switch, one of them in a VLAN."""
    with lab_to_share(hosts=1, nics=4) as one:
        one.run("switch", "ip", "address", "add", f"{GATEWAY}/24", "dev", "switch0")
        words = ("add-port", "switch0", "vlan20", f"tag={TAG}")
        one.run("switch", "ovs-vsctl", *words, "--", "set", "Interface", "vlan20", "type=internal")
        one.run("switch", "ip", "address", "add", f"{VLAN_GATEWAY}/24", "dev", "vlan20")
        one.run("switch", "ip", "link", "set", "vlan20", "up")
        yield one


def pif(lab: RunningLab, device: str) -> str:
    """The uuid of a physical PIF or a bond's."""
    return lab.xe(HOST, "pif-list", f"device={device}", "VLAN=-1", "params=uuid", "--minimal")


def param(lab: RunningLab, cls: str, uuid: str, name: str) -> str:
    """What xe shows of an object."""
    return lab.xe(HOST, f"{cls}-param-get", f"uuid={uuid}", f"param-name={name}")


def links_up(lab: RunningLab, bond: str) -> int:
    """As xe shows them."""
    return int(param(lab, "bond", bond, "links-up"))


def enabled(lab: RunningLab) -> set[str]:
    """The members that the host's switch uses."""
    return switches.enabled(lab, HOST, "bond0")


def answers(lab: RunningLab, where: str, address: str) -> bool:
    """Whether a few pings in a row are answered: the switches have learnt what has changed."""
    words = ("ping", "-n", "-c", "3", "-i", "0.2", "-W", "1", address)
    return " 0% packet loss" in lab.run(where, *words, check=False)


def cable(lab: RunningLab, nic: str, *, plugged: bool) -> None:
    """Plugs or pulls a cable."""
    asyncio.run(life.set_link(lab.name, HOST, nic, plugged=plugged))


@contextmanager
def bonded(lab: RunningLab, devices: str = "eth1 eth2", *options: str) -> Iterator[str]:
    """A bond over these NICs with an address of its own; for LACP, a LAG on the switch. Its uuid."""
    network = lab.xe(HOST, "network-create", "name-label=bonded")
    members = ",".join(pif(lab, device) for device in devices.split())
    is_lag = "mode=lacp" in options and " " in devices
    if is_lag:
        asyncio.run(life.bundle(lab.name, HOST, devices.split()))
    bond = lab.xe(HOST, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", *options)
    try:
        words = ("mode=static", f"IP={BOND_IP}", "netmask=255.255.255.0")
        lab.xe(HOST, "pif-reconfigure-ip", f"uuid={pif(lab, 'bond0')}", *words)
        yield bond
    finally:
        for device in devices.split():
            cable(lab, device, plugged=True)
        primary = param(lab, "bond", bond, "primary-slave")
        lab.xe(HOST, "bond-destroy", f"uuid={bond}")
        lab.xe(HOST, "network-destroy", f"uuid={network}")
        lab.xe(HOST, "pif-reconfigure-ip", f"uuid={primary}", "mode=none")
        if is_lag:
            asyncio.run(life.separate(lab.name, HOST, devices.split()[0]))


def alerts(lab: RunningLab) -> list[str]:
    """What the alerts say, in no order."""
    words = ("name=BOND_STATUS_CHANGED", "params=body", "--minimal")
    return [text for text in lab.xe(HOST, "message-list", *words).split(",") if text]


def forget_alerts(lab: RunningLab) -> None:
    """Removes all alerts."""
    lab.xe(HOST, "message-destroy-all", "after=20000101T00:00:00Z")


@pytest.mark.parametrize("mode", MODES)
def test_a_pulled_cable_is_survived_and_restoring_it_disturbs_nobody(lab: RunningLab, mode: str) -> None:
    with bonded(lab, "eth1 eth2", f"mode={mode}") as bond:
        master = pif(lab, "bond0")
        lab.xe(HOST, "pif-param-set", f"uuid={master}", "other-config:bond-updelay=500")
        lab.xe(HOST, "pif-plug", f"uuid={master}")
        assert param(lab, "bond", bond, "mode") == mode
        eventually(lambda: enabled(lab) == {"eth1", "eth2"} and links_up(lab, bond) == 2)
        forget_alerts(lab)
        pulled = switches.active(lab, HOST, "bond0")
        other = ({"eth1", "eth2"} - {pulled}).pop()
        there, back = on_machine(lab.lab, "switch"), on_machine(lab.lab, HOST)
        with Train(there, BOND_IP) as inwards, Train(back, GATEWAY) as outwards:
            cable(lab, pulled, plugged=False)
            eventually(lambda: enabled(lab) == {other} and links_up(lab, bond) == 1)
            eventually(lambda: answers(lab, "switch", BOND_IP) and answers(lab, HOST, GATEWAY))
        assert max(inwards.lost, outwards.lost) <= FAILOVER_LOST_MAX
        eventually(lambda: param(lab, "pif", pif(lab, pulled), "carrier") == "false")
        eventually(lambda: param(lab, "pif", master, "speed") == "10000 Mbit/s")
        with Train(there, BOND_IP) as inwards_again, Train(back, GATEWAY) as outwards_again:
            cable(lab, pulled, plugged=True)
            eventually(lambda: enabled(lab) == {"eth1", "eth2"} and links_up(lab, bond) == 2)
        most = SWITCHED_LOST_MAX if mode == "lacp" else UNTOUCHED_LOST_MAX
        assert max(inwards_again.lost, outwards_again.lost) <= most
        trains = (inwards, outwards, inwards_again, outwards_again)
        assert [train.duplicates for train in trains] == [0, 0, 0, 0]
        assert sorted(alerts(lab)) == [
            "The status of the eth1+eth2 bond changed: 1/2 up (was 2/2)",
            "The status of the eth1+eth2 bond changed: 2/2 up (was 1/2)",
        ]
        speed = "10000 Mbit/s" if mode == "active-backup" else "20000 Mbit/s"
        eventually(lambda: param(lab, "pif", master, "speed") == speed)


@pytest.fixture(scope="module")
def guests(lab: RunningLab) -> tuple[str, str]:
    """Two running VMs: one on the management network, one in a VLAN on top of it."""
    network = lab.xe(HOST, "network-list", "bridge=xenbr0", "params=uuid", "--minimal")
    vlan = lab.xe(HOST, "network-create", "name-label=vlan20")
    words = (f"network-uuid={vlan}", f"pif-uuid={pif(lab, 'eth0')}", f"vlan={TAG}")
    lab.xe(HOST, "vlan-create", *words)
    prefix = lab.lab.gateway.rpartition(".")[0]
    return (
        lab.start_vm(HOST, "plain", network, f"{prefix}.200/24"),
        lab.start_vm(HOST, "tagged", vlan, "10.67.0.2/24"),
    )


@pytest.mark.parametrize("mode", MODES)
def test_management_vlans_and_vms_move_onto_a_bond_and_back_under_traffic(
    lab: RunningLab, guests: tuple[str, str], mode: str
) -> None:
    address = lab.lab.host(HOST).address
    running = [(vm, param(lab, "vm", vm, "dom-id")) for vm in guests]
    network = lab.xe(HOST, "network-create", "name-label=all")
    members = f"{pif(lab, 'eth0')},{pif(lab, 'eth1')}"
    before = param(lab, "pif", pif(lab, "eth0"), "MAC")
    plain = in_guest(lab.lab, "plain")
    tagged = in_guest(lab.lab, "tagged")
    with (
        Train(on_machine(lab.lab, "switch"), address) as host,
        Train(plain, lab.lab.gateway) as vm,
        Train(tagged, VLAN_GATEWAY) as vlan,
    ):
        bond = lab.xe(HOST, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", f"mode={mode}")
        master = pif(lab, "bond0")
        moved = {name: param(lab, "pif", master, name) for name in ("management", "IP", "MAC")}
        on_bond = lab.xe(HOST, "vif-list", f"network-uuid={network}", "params=vm-uuid", "--minimal")
        of_vlan = lab.xe(HOST, "pif-list", f"VLAN={TAG}", "params=device", "--minimal")
        eventually(lambda: links_up(lab, bond) == 2)
        lab.xe(HOST, "bond-destroy", f"uuid={bond}")
    assert moved == {"management": "true", "IP": address, "MAC": before}
    assert (on_bond, of_vlan) == (guests[0], "bond0")
    assert param(lab, "pif", pif(lab, "eth0"), "management") == "true"
    assert lab.xe(HOST, "pif-list", f"VLAN={TAG}", "params=device", "--minimal") == "eth0"
    assert [(vm, param(lab, "vm", vm, "dom-id")) for vm in guests] == running
    assert [train.duplicates for train in (host, vm, vlan)] == [0, 0, 0]
    most = NO_PARTNER_LOST_MAX if mode == "lacp" else 2 * SWITCHED_LOST_MAX
    assert max(train.lost for train in (host, vm, vlan)) <= most
    assert lab.xe(HOST, "vif-list", f"network-uuid={network}", "params=uuid", "--minimal") == ""
    lab.xe(HOST, "network-destroy", f"uuid={network}")


def test_no_broadcast_is_doubled_while_a_bond_forms_and_dissolves(
    lab: RunningLab, guests: tuple[str, str]
) -> None:
    network = lab.xe(HOST, "network-create", "name-label=quiet")
    members = f"{pif(lab, 'eth0')},{pif(lab, 'eth1')}"
    broadcast = lab.lab.gateway.rpartition(".")[0] + ".255"
    seen_by = (
        Capture(on_machine(lab.lab, "switch"), "switch0", "icmp"),
        Capture(in_guest(lab.lab, "plain"), "eth0", "-Q", "in", "icmp"),
    )
    with seen_by[0] as outside, seen_by[1] as own:
        plain = Train(in_guest(lab.lab, "plain"), broadcast, broadcast=True)
        with Train(on_machine(lab.lab, "switch"), broadcast, broadcast=True), plain:
            for mode in MODES:
                bond = lab.xe(
                    HOST, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", f"mode={mode}"
                )
                eventually(lambda made=bond: links_up(lab, made) == 2)  # type: ignore[misc]
                lab.xe(HOST, "bond-destroy", f"uuid={bond}")
    lab.xe(HOST, "network-destroy", f"uuid={network}")
    for captured in (outside, own):
        times = captured.times("request")
        assert len(times) > 20
        assert {number: count for number, count in times.items() if count > 1} == {}


def properties(lab: RunningLab, bond: str) -> set[str]:
    """As xe shows them."""
    return set(param(lab, "bond", bond, "properties").split("; "))


def shown_bonds(lab: RunningLab) -> list[dict[str, Any]]:
    """What the host's console shows of its bonds."""
    found: list[dict[str, Any]] = json.loads(lab.run(HOST, "poolnet", "bonds", "--json"))
    return found


def is_agreed(lab: RunningLab) -> bool:
    """Whether all members of the one bond are in use together with the partner; they join one after the other."""
    lacp = shown_bonds(lab)[0]["lacp"]
    members = [member["current"] and member["attached"] for member in lacp["members"]]
    return lacp["negotiated"] is True and len(members) == 3 and all(members)


def test_mode_and_properties_change_while_traffic_flows(lab: RunningLab) -> None:
    with bonded(lab, "eth1 eth2 eth3", "mode=lacp", "properties:lacp-time=fast") as bond:
        assert properties(lab, bond) == {
            "lacp-time: fast",
            "hashing_algorithm: tcpudp_ports",
            "lacp-fallback-ab: true",
        }
        eventually(lambda: switches.partner(lab, HOST, "bond0") != "" and links_up(lab, bond) == 3)
        eventually(lambda: is_agreed(lab))
        (shown,) = shown_bonds(lab)
        assert (shown["device"], shown["lacp"]["fast"]) == ("bond0", True)
        partner = switches.partner(lab, HOST, "bond0")
        assert {member["partner_system"] for member in shown["lacp"]["members"]} == {partner}
        assert partner in lab.run(HOST, "poolnet", "bonds")
        with Train(on_machine(lab.lab, "switch"), BOND_IP) as train:
            words = ("properties:hashing_algorithm=src_mac", "properties:lacp-aggregation-key=42")
            lab.xe(HOST, "bond-param-set", f"uuid={bond}", *words)
            assert (hashing(lab), aggregation_key(lab)) == ("src_mac", 42)
        assert train.duplicates == 0
        asyncio.run(life.separate(lab.name, HOST, "eth1"))
        try:
            for mode in ("active-backup", "balance-slb", "active-backup"):
                lab.xe(HOST, "bond-set-mode", f"uuid={bond}", f"mode={mode}")
                assert switches.bond_mode(lab, HOST, "bond0") == mode
                assert (param(lab, "bond", bond, "mode"), properties(lab, bond)) == (mode, {""})
                eventually(lambda: answers(lab, "switch", BOND_IP))
            said = lab.run(
                HOST, "xe", "bond-param-set", f"uuid={bond}", "properties:lacp-time=slow", check=False
            )
            assert said == ""
            assert switches.bond_mode(lab, HOST, "bond0") == "active-backup"
        finally:
            asyncio.run(life.bundle(lab.name, HOST, ["eth1", "eth2", "eth3"]))


def hashing(lab: RunningLab) -> str:
    """By what the switch spreads the traffic of a bond that speaks LACP."""
    if switches.ON_OPEN_VSWITCH:
        mode = lab.run(HOST, "ovs-vsctl", "get", "Port", "bond0", "bond_mode").strip()
        return {"balance-slb": "src_mac", "balance-tcp": "tcpudp_ports"}[mode]
    text = lab.run(HOST, "cat", "/proc/net/bonding/bond0")
    return "src_mac" if "Transmit Hash Policy: vlan+srcmac" in text else "tcpudp_ports"


def aggregation_key(lab: RunningLab) -> int:
    """What the host tells its partner."""
    if switches.ON_OPEN_VSWITCH:
        words = ("ovs-vsctl", "get", "Interface", "eth3", "other_config:lacp-aggregation-key")
        return int(lab.run(HOST, *words).strip().strip('"'))
    (bond,) = (link for link in switches.links(lab, HOST) if link["ifname"] == "bond0")
    return int(bond["linkinfo"]["info_data"]["ad_user_port_key"])


def test_a_nic_that_vanishes_from_a_bond_comes_back_into_it(lab: RunningLab) -> None:
    with bonded(lab, "eth1 eth2", "mode=active-backup") as bond:
        eventually(lambda: links_up(lab, bond) == 2)
        forget_alerts(lab)
        asyncio.run(life.remove_nic(lab.name, HOST, "eth1"))
        eventually(lambda: links_up(lab, bond) == 1)
        eventually(lambda: answers(lab, "switch", BOND_IP))
        assert alerts(lab) == ["The status of the eth1+eth2 bond changed: 1/2 up (was 2/2)"]
        asyncio.run(life.add_nic(lab.name, HOST, "eth1"))
        eventually(lambda: links_up(lab, bond) == 2)
        eventually(lambda: answers(lab, "switch", BOND_IP))


def everything(lab: RunningLab) -> tuple[str, ...]:
    """What the database and the switch have of bonds, PIFs and bridges."""
    lists = ("bond-list", "pif-list", "vlan-list", "network-list")
    shown = tuple("\n".join(sorted(lab.xe(HOST, name, "params=all").splitlines())) for name in lists)
    switch = ("ovs-vsctl", "show") if switches.ON_OPEN_VSWITCH else ("ip", "-o", "link")
    return (*shown, "\n".join(sorted(lab.run(HOST, *switch).splitlines())))


@contextmanager
def foreign_bond(lab: RunningLab) -> Iterator[None]:
    """The switch has something of that name, which is not ours."""
    if switches.ON_OPEN_VSWITCH:
        kind = f"datapath_type={lab.lab.datapath_type}"
        lab.run(HOST, "ovs-vsctl", "add-br", "foreign", "--", "set", "Bridge", "foreign", kind)
        words = ("add-port", "foreign", "bond0", "--", "set", "Interface", "bond0", "type=internal")
        lab.run(HOST, "ovs-vsctl", *words)
        yield
        lab.run(HOST, "ovs-vsctl", "del-br", "foreign")
    else:
        lab.run(HOST, "ip", "link", "add", "bond0", "type", "bridge")
        yield
        lab.run(HOST, "ip", "link", "del", "bond0")


def test_a_bond_that_cannot_be_made_leaves_nothing(lab: RunningLab) -> None:
    network = lab.xe(HOST, "network-create", "name-label=never")
    members = f"{pif(lab, 'eth1')},{pif(lab, 'eth2')}"
    words = ("bond-create", f"network-uuid={network}", f"pif-uuids={members}")
    with foreign_bond(lab):
        before = everything(lab)
        assert "bond0" in refusal(lab, *words)
        assert everything(lab) == before
    asyncio.run(life.remove_nic(lab.name, HOST, "eth2"))
    try:
        before = everything(lab)
        assert "eth2" in refusal(lab, *words)
        assert everything(lab) == before
    finally:
        asyncio.run(life.add_nic(lab.name, HOST, "eth2"))
    lab.xe(HOST, "network-destroy", f"uuid={network}")


def refusal(lab: RunningLab, *words: str) -> str:
    """What xe says when it fails."""
    script = f"! xe {' '.join(words)} 2>&1"
    return lab.run(HOST, "sh", "-c", script)


def test_a_bond_of_one_carries_traffic(lab: RunningLab) -> None:
    with bonded(lab, "eth1", "mode=active-backup") as bond:
        eventually(lambda: answers(lab, "switch", BOND_IP))
        assert param(lab, "bond", bond, "links-up") == "0"  # only counted for more than one
        assert switches.bonds(lab, HOST) == set()  # its NIC is the uplink


def test_a_bond_of_four_carries_management_up_to_its_last_cable(lab: RunningLab) -> None:
    names = ["eth0", "eth1", "eth2", "eth3"]
    address = lab.lab.host(HOST).address
    network = lab.xe(HOST, "network-create", "name-label=four")
    members = ",".join(pif(lab, name) for name in names)
    asyncio.run(life.bundle(lab.name, HOST, names))
    bond = lab.xe(HOST, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", "mode=lacp")
    try:
        lab.xe(HOST, "pif-param-set", f"uuid={pif(lab, 'bond0')}", "other-config:bond-updelay=0")
        lab.xe(HOST, "pif-plug", f"uuid={pif(lab, 'bond0')}")
        eventually(lambda: enabled(lab) == set(names) and links_up(lab, bond) == 4)
        eventually(lambda: switches.partner(lab, HOST, "bond0") != "")
        for count, name in enumerate(names[:3], 1):
            cable(lab, name, plugged=False)
            eventually(lambda gone=count: enabled(lab) == set(names[gone:]))  # type: ignore[misc]
            eventually(lambda: answers(lab, "switch", address))
        for name in names[:3]:
            cable(lab, name, plugged=True)
        eventually(lambda: enabled(lab) == set(names) and links_up(lab, bond) == 4)
        eventually(lambda: answers(lab, "switch", address))
    finally:
        for name in names[:3]:
            cable(lab, name, plugged=True)
        asyncio.run(life.separate(lab.name, HOST, "eth0"))
        eventually(lambda: answers(lab, "switch", address))
        lab.xe(HOST, "bond-destroy", f"uuid={bond}")
        lab.xe(HOST, "network-destroy", f"uuid={network}")
        eventually(lambda: answers(lab, "switch", address))


def test_a_given_mac_is_the_bonds(lab: RunningLab) -> None:
    mac = "02:00:00:00:0b:0d"
    with bonded(lab, "eth1 eth2", "mode=balance-slb", f"mac={mac}"):
        assert param(lab, "pif", pif(lab, "bond0"), "MAC") == mac
        bridge = lab.xe(HOST, "network-list", "name-label=bonded", "params=bridge", "--minimal")
        assert mac in lab.run(HOST, "ip", "-br", "link", "show", bridge)
        eventually(lambda: answers(lab, "switch", BOND_IP))


def test_a_management_bond_comes_back_after_a_power_cut_on_a_switch_that_wants_lacp(lab: RunningLab) -> None:
    network = lab.xe(HOST, "network-create", "name-label=strict")
    members = f"{pif(lab, 'eth0')},{pif(lab, 'eth1')}"
    asyncio.run(life.bundle(lab.name, HOST, ["eth0", "eth1"]))
    bond = lab.xe(HOST, "bond-create", f"network-uuid={network}", f"pif-uuids={members}", "mode=lacp")
    asyncio.run(life.separate(lab.name, HOST, "eth0"))
    asyncio.run(life.bundle(lab.name, HOST, ["eth0", "eth1"], fallback=False))
    address = lab.lab.host(HOST).address
    eventually(lambda: answers(lab, "switch", address))
    asyncio.run(life.reboot(lab.name, HOST, hard=True))  # waits until its API answers
    assert answers(lab, "switch", address)
    eventually(lambda: links_up(lab, bond) == 2)
    asyncio.run(life.separate(lab.name, HOST, "eth0"))
    lab.xe(HOST, "bond-destroy", f"uuid={bond}")
    lab.xe(HOST, "network-destroy", f"uuid={network}")
    eventually(lambda: answers(lab, "switch", address))
